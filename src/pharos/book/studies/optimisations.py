"""Optimisations that apply: which a network can use, by its operators and blocks, and which transfer."""

from collections.abc import Callable
from typing import Any

from pharos.book.study import study
from pharos.graph.count import Count, Line, count
from pharos.graph.workload import Workload
from pharos.machines.machine import Machine, find_machine
from pharos.models.registry import find
from pharos.passes.algorithms import fitting
from pharos.passes.recognise.recognition import Recognition, recognise
from pharos.quantity.evidence import counted
from pharos.report.studies import Told

# (share of the figure beside it that it acts on, in how many operators, what that figure is).
Found = tuple[float, int, str]
NORMS = ("batch_norm", "layer_norm", "rms_norm", "group_norm", "instance_norm")
PRODUCTS = ("linear", "matmul", "experts", "conv1d", "conv2d", "conv3d")
TABLES = ("embedding", "embedding_bag")


@study("optimisations", "Which optimisations apply to a network, and which of them transfer?", section="1.7")
def optimisations(
    *,
    model: str = "gpt2-small",
    other: str = "resnet50",
    batch: int = 1,
    context: int = 128,
    precision: str = "fp32",
    on: str = "a100-sxm-80gb",
) -> Told:
    """Each by the share of MACs, bytes or weights of the network that it acts on.

    Args:
        other: a second network: what applies to both transfers.
    """
    machine = find_machine(on)
    mine, kin = _applies(model, batch, context, precision, machine)
    theirs, _ = _applies(other, batch, context, precision, machine)
    rows = tuple(
        (name, mine[name] is not None, *(mine[name] or (None, 0, "-")), theirs[name] is not None)
        for name in RULES
    )
    yes = [n for n in RULES if mine[n]]
    blocks = ", ".join(dict.fromkeys(b.block for b in kin.outermost)) or "no known block"
    both = [n for n in yes if theirs[n]]
    return Told(
        answer=f"{len(yes)} of {len(RULES)} apply to {model} ({kin.family}), {len(both)} of them to {other} "
        f"as well: {', '.join(both) or 'none'}",
        numbers={
            "applies": {n: found[0] if found else None for n, found in mine.items()},
            "transfers": both,
            "only_here": [n for n in yes if not theirs[n]],
            "family": kin.family,
        },
        reasons=(
            f"found in {model}: {blocks}",
            "products, additions and norms are everywhere; scores, steps and tables are not",
        ),
        columns=("optimisation", "applies", "share", "operators", "of", f"in_{other}"),
        rows=rows,
        evidence=(counted("operators and blocks recognised in the graph, their MACs, bytes and weights"),),
        note="share: of the figure named beside it that the optimisation acts on, not what it gains",
    )


def _applies(
    model: str, batch: int, context: int, precision: str, machine: Machine
) -> tuple[dict[str, Found | None], Recognition]:
    work = Workload(batch=batch, context=context, precision=precision)  # type: ignore[arg-type]
    graph = find(model).graph(work)
    made = count(graph)
    return {name: rule(made, machine) for name, rule in RULES.items()}, recognise(graph, made)


def _share(made: Count, which: Callable[[Line], bool], of: str) -> Found | None:
    """The share of MACs, bytes or weights in lines; None where there are none."""
    size: dict[str, Callable[[Line], Any]] = {
        "MACs": lambda ln: ln.work.macs * ln.times,
        "bytes": lambda ln: ln.traffic.total * ln.times,
        "weights": lambda ln: ln.weight_bytes,
    }
    lines = [ln for ln in made.lines if which(ln)]
    whole = sum(float(size[of](ln)) for ln in made.lines)
    part = sum(float(size[of](ln)) for ln in lines)
    if not part:
        return None
    return part / whole, sum(int(ln.times) for ln in lines), of


def _tiling(made: Count, _: Machine) -> Found | None:
    return _share(
        made, lambda ln: bool(ln.work.macs) and ln.kind in ("linear", "matmul", "experts", "conv2d"), "MACs"
    )


def _narrow(made: Count, machine: Machine) -> Found | None:
    """Products, on a machine that is faster in 16 bits."""
    half, full = (machine.peak(t).value for t in ("fp16", "fp32"))
    if not half or not full or half <= full:
        return None
    return _share(made, lambda ln: bool(ln.work.macs), "MACs")


def _cell(ln: Line) -> bool:
    return ln.cost_class == "recurrence"


RULES: dict[str, Callable[[Count, Machine], Found | None]] = {
    "tiled products": _tiling,
    "mixed precision": _narrow,
    "fused norms": lambda m, _: _share(m, lambda ln: ln.kind in NORMS, "bytes"),
    "fused elementwise": lambda m, _: _share(
        m, lambda ln: ln.cost_class == "elementwise" and ln.kind not in NORMS, "bytes"
    ),
    "skips freed early": lambda m, _: _share(m, lambda ln: ln.kind == "add", "bytes"),
    "fused attention": lambda m, _: _share(m, lambda ln: ln.kind == "attention", "bytes"),
    "sparse attention": lambda m, _: _share(
        m, lambda ln: ln.kind == "attention" and getattr(ln.node.op, "pattern", "full") == "full", "MACs"
    ),
    "unrolled steps": lambda m, _: _share(m, _cell, "MACs"),
    "gates as one product": lambda m, _: _share(
        m, lambda ln: _cell(ln) and getattr(ln.node.op, "gates", 1) > 1, "MACs"
    ),
    "wavefront over layers": lambda m, _: _share(
        m, lambda ln: _cell(ln) and getattr(ln.node.op, "num_layers", 1) * int(ln.times) > 1, "MACs"
    ),
    "Winograd": lambda m, _: _share(m, lambda ln: "winograd2" in fitting(ln.node), "MACs"),
    "channels last": lambda m, _: _share(m, lambda ln: ln.kind == "conv2d", "bytes"),
    "sharded tables": lambda m, _: _share(m, lambda ln: ln.kind in TABLES, "weights"),
}
