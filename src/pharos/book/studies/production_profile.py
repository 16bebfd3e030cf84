"""Production profile by family: how latency and memory grow, what is kept between calls, and checkpoints."""

from typing import Any

from pharos.book.study import ByteRate, study
from pharos.graph.count import count
from pharos.graph.workload import Workload
from pharos.models.families import FORMULAS
from pharos.models.registry import find
from pharos.passes.asymptotic import leading
from pharos.passes.depth import depth
from pharos.passes.training import training
from pharos.quantity.errors import unknown
from pharos.quantity.evidence import assumed, counted
from pharos.quantity.sizes import Size
from pharos.quantity.units import fmt
from pharos.report.studies import Told

# A network of the catalogue for each family that checkpoints are counted of.
NETWORKS = {
    "mlp": "mlp",
    "cnn": "resnet50",
    "rnn": "lstm_tagger",
    "transformer": "gpt2-xl",
    "dlrm": "dlrm-mlperf",
    "ssm": "mamba-130m",
}


@study("production-profile", "How do latency, memory and state grow in production?", section="1.9")
def production_profile(
    *,
    families: tuple[str, ...] = tuple(NETWORKS),
    context: int = 1024,
    precision: str = "fp16",
    optimizer: str = "adamw",
    store: ByteRate = 2e9,
) -> Told:
    """Forms derived from a layer of symbols; bytes of a network of the family.

    Args:
        context: tokens at which state is counted. store: bytes a second that a checkpoint is written at.
    """
    rows, numbers = [], {}
    for family in families:
        if family not in NETWORKS:
            raise unknown("family", family, NETWORKS)
        forms = forms_of(family)
        saved = checkpoint(NETWORKS[family], context, precision, optimizer)
        numbers[family] = {**forms, **saved, "write_s": saved["checkpoint_bytes"] / store}
        rows.append(
            (
                family,
                forms["steps"],
                forms["memory"],
                forms["kept"],
                saved["state_bytes"],
                saved["checkpoint_bytes"],
            )
        )
    stateful = [f for f in families if numbers[f]["stateful"]]
    largest = max(families, key=lambda f: numbers[f]["checkpoint_bytes"])
    return Told(
        answer=f"{', '.join(stateful) or 'none'} keep{'' if len(stateful) > 1 else 's'} state between calls; "
        f"the largest checkpoint is of {NETWORKS[largest]}: "
        f"{fmt(numbers[largest]['checkpoint_bytes'], 'B')}, {fmt(numbers[largest]['write_s'], 's')} to write",
        numbers=numbers,
        reasons=(
            "steps: how many wait for each other as the input grows; its weights stay as they are",
            "a replica that fails loses what it keeps between calls: it is rebuilt from the prompt, or saved",
            *(f"{f}: {numbers[f]['detail']}" for f in families if numbers[f]["detail"]),
        ),
        columns=("family", "steps", "activations", "kept", "state_bytes", "checkpoint_bytes"),
        rows=tuple(rows),
        evidence=(
            counted("leading terms in the sizes of an input, of a layer on symbols; bytes of a network"),
            assumed(f"{fmt(store, 'B/s')} of storage"),
        ),
        note=f"state: of one request at {context:,} tokens; checkpoint: weights, {optimizer} and fp32 copies",
    )


def forms_of(family: str) -> dict[str, Any]:
    """Leading terms in the sizes that no weight depends on: what an input alone may change."""
    import sympy

    known = FORMULAS[family]
    symbols = {n: sympy.Symbol(n, integer=True, positive=True) for n in known.symbols}
    graph = known.build(symbols)
    found = count(graph)
    fixed = {s.name for s in getattr(found.parameters, "free_symbols", ())}
    grows = tuple(n for n in symbols if n != "B" and n not in fixed)
    step = count(known.decode(symbols)) if known.decode else None
    state = (step or found).state_bytes

    def form(size: Size) -> str:
        return leading(size, grows) if grows else "O(1)"

    stateful = not (isinstance(state, int) and state == 0)
    return {
        "grows_with": list(grows),
        "steps": form(depth(graph).steps),
        "work": form(found.macs),
        "memory": form(_written(graph)),
        "kept": form(state) if stateful else "nothing",
        "step_work": form(step.macs) if step else None,
        "stateful": stateful,
        "detail": _detail(family, form(found.macs), step and form(step.macs)),
    }


def _detail(family: str, whole: str, step: str | None) -> str:
    if family == "cnn":
        from pharos.book.sums import conv
        from pharos.ops.conv import Conv2d

        direct = conv(64, 64, side=56)
        op = Conv2d(64, 64, 3, 1, 1, bias=False, algorithm="winograd4")
        fewer = float(direct.macs) / float(op.work(*direct.lines[0].node.io).macs)
        return f"by its implementation: Winograd does 1/{fewer:.3g} of the MACs of a 3 x 3 window"
    return f"a prompt takes {whole} MACs, a token more {step}" if step else ""


def _written(graph: Any) -> Size:
    """Elements that a layer writes, scratch included."""
    total: Size = 0
    for node, times, _ in graph.walk():
        if node.op.class_of(*node.io) != "view":
            total = total + times * (sum((t.numel for t in node.outs), start=0) + node.op.workspace(*node.io))
    return total


def checkpoint(name: str, context: int, precision: str, optimizer: str) -> dict[str, Any]:
    """Bytes of weights, of a training checkpoint, and of what one request keeps."""
    forward = Workload(context=min(context, 128), precision=precision)  # type: ignore[arg-type]
    step = training(find(name).graph(forward), optimizer)
    phase = "decode" if FORMULAS.get(find(name).family) and FORMULAS[find(name).family].decode else "forward"
    serve = Workload(phase=phase, context=context, precision=precision)  # type: ignore[arg-type]
    return {
        "weights_bytes": int(step.weights),
        "checkpoint_bytes": int(step.weights + step.master + step.optimizer),
        "state_bytes": int(count(find(name).graph(serve)).state_bytes),
    }
