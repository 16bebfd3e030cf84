"""Families: one forward pass and one training step of each, explicit loops beside PyTorch, with its card."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pharos.book.lab import Progress, Setting, lab
from pharos.facts.tables import family_card
from pharos.graph.count import Count, count
from pharos.graph.graph import Builder, Graph, Node
from pharos.graph.op import Tally
from pharos.graph.workload import Workload
from pharos.models.blocks import self_attention
from pharos.models.registry import find
from pharos.ops.attention import Attention
from pharos.passes.depth import depth
from pharos.report.labs import Agreement, Check, Finding, Outcome

NAME = "families"
BATCH, CONTEXT, WIDTH, RATE = 2, 8, 8, 0.05
# In double precision: of outputs, and of the slope along the gradient by differences of this step.
TOLERANCE, SLOPE, NUDGE = 1e-6, 1e-4, 1e-5
PARTS = {"needs": "pattern processing", "structure": "algorithmic structure",
         "mapping": "computational mapping", "implications": "system implications"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """A family's smallest member, and what its card says that can be counted.

    Args:
        graph: batch, context -> graph.
        expects: in words; holds: counts at a context and at twice of it -> whether, and what was found.
    """

    family: str
    graph: Callable[[int, int], Graph]
    expects: str
    holds: Callable[[Count, Count], tuple[bool, str]]


def _model(name: str) -> Callable[[int, int], Graph]:
    return lambda batch, context: find(name).graph(Workload(batch=batch, context=context))


def _attention(batch: int, context: int) -> Graph:
    g = Builder("attention")
    x = g.input("x", (batch, context, WIDTH))
    return g.finish(self_attention(g, x, heads=2, kv_heads=2, head_dim=WIDTH // 2, names=("qkv", "out"),
                                   attention=Attention(), bias="qkvo"))  # fmt: skip


def _reuse(one: Count) -> float:
    """MACs of an example for each weight."""
    return float(one.macs) / BATCH / float(one.parameters)


def _deep(one: Count, two: Count) -> float:
    """How many times more steps in a row twice the sequence takes."""
    return float(depth(two.graph).steps) / float(depth(one.graph).steps)


def _mlp(one: Count, two: Count) -> tuple[bool, str]:
    return _reuse(one) <= 1, f"{_reuse(one):.2f} MACs a weight and example, biases among the weights"


def _cnn(one: Count, two: Count) -> tuple[bool, str]:
    windows = max(
        float(line.work.macs) / BATCH / float(line.parameters)
        for line in one.lines
        if line.kind.startswith("conv")
    )
    return windows > 10, f"{windows:.0f} MACs a weight of its widest convolution and example"


def _patches(one: Count, two: Count) -> tuple[bool, str]:
    return _reuse(one) > 1, f"{_reuse(one):.2f} MACs a weight and example, in 4 patches"


def _rnn(one: Count, two: Count) -> tuple[bool, str]:
    return _deep(one, two) > 1.6, f"twice the steps take {_deep(one, two):.2f} times as many in a row"


def _pairs(one: Count, two: Count) -> tuple[bool, str]:
    grows, deeper = float(two.macs) / float(one.macs), _deep(one, two)
    told = f"twice the sequence takes {grows:.2f} times the MACs, {deeper:.2f} times the steps in a row"
    return grows > 2 and deeper < 1.3, told


def _parallel(one: Count, two: Count) -> tuple[bool, str]:
    return _deep(one, two) < 1.5, f"twice the sequence takes {_deep(one, two):.2f} times the steps in a row"


def _gathers(one: Count, two: Count) -> tuple[bool, str]:
    tables = [line for line in one.lines if line.kind == "embedding_bag"]
    held, read = (
        float(sum(x)) for x in ((t.weight_bytes for t in tables), (t.traffic.weights for t in tables))
    )
    return held > 5 * read, f"tables hold {held:,.0f} B, {BATCH} examples read {read:,.0f} B of them"


CASES = (
    Case("mlp", _model("mlp(widths=(12, 8, 8, 3))"), "a weight is used once an example", _mlp),
    Case("cnn", _model("small_cnn(side=8, channels=(4,), dense=(6,), classes=3)"),
         "a weight serves every position", _cnn),
    Case("cnn-1d", _model("sequence_cnn(features=4, hidden=6, layers=2, kernel=3, classes=3)"),
         "all steps at once", _parallel),
    Case("rnn", _model("sequence_rnn(features=4, hidden=6, layers=1, cell='lstm', classes=3)"),
         "one step after another", _rnn),
    Case("attention", _attention, "all pairs, all at once", _pairs),
    Case("transformer", _model("sequence_transformer(features=4, hidden=8, layers=1, heads=2, classes=3)"),
         "all pairs, all at once", _pairs),
    Case("vit", _model("small_vit(side=8, image_channels=1, patch=4, hidden=8, layers=1, heads=2)"),
         "a weight serves every patch", _patches),
    Case("dlrm", _model("dlrm(rows=(401, 97), dim=4, dense=3, bottom=(6, 4), top=(6, 1))"),
         "tables are held whole and read here and there", _gathers),
    Case("ssm", _model("sequence_ssm(features=4, hidden=6, layers=1, states=4, classes=3)"),
         "a state of fixed size, scanned in trees", _parallel),
)  # fmt: skip


@lab(NAME, "a forward pass and a training step of each family, loops beside PyTorch, with its four-part card")
def families(setting: Setting, progress: Progress) -> Outcome:
    """Loops run the textbook's listings; PyTorch runs the same graph with the same weights, in fp64."""
    rows, findings, cards = [], [], {}
    worst = {"forward": 0.0, "after": 0.0, "slope": 0.0}
    counted = learns = True
    for i, case in enumerate(CASES):
        progress(i, len(CASES), case.family)
        one, two = (count(case.graph(BATCH, n)) for n in (CONTEXT, 2 * CONTEXT))
        found = step_by_both(case.graph(BATCH, CONTEXT), setting.seed)
        for name in worst:
            worst[name] = max(worst[name], found[name])
        counted &= found["macs"] == one.macs
        learns &= found["loss_after"] < found["loss"]
        near = [float(f"{found[name]:.1e}") for name in ("forward", "slope")]
        rows.append((case.family, found["macs"], int(one.macs), int(one.parameters), *near,
                     round(found["loss"], 5), round(found["loss_after"], 5)))  # fmt: skip
        card = family_card(case.family)
        cards[case.family] = {words: card[key] for key, words in PARTS.items()}
        holds, told = case.holds(one, two)
        agreement: Agreement = "agrees" if holds else "contradicts"
        findings.append(Finding(expected=f"{case.family}: {case.expects}. {card['mapping']}", found=told,
                                agreement=agreement, section="1.2-1.6"))  # fmt: skip
    progress(len(CASES), len(CASES), "done")
    return Outcome(
        name=NAME, summary="a forward pass and a training step of each family, by loops and by PyTorch",
        settings={"seed": setting.seed, "batch": BATCH, "context": CONTEXT, "rate": RATE},
        columns=("family", "loop_macs", "counted_macs", "parameters", "forward", "slope", "loss",
                 "loss_after"),
        rows=tuple(rows),
        checks=(
            Check(what="loops and PyTorch give the same outputs", holds=worst["forward"] <= TOLERANCE,
                  found=f"largest difference {worst['forward']:.1e} of the largest value, "
                  f"{TOLERANCE:.0e} allowed"),
            Check(what="so they do after the step", holds=worst["after"] <= TOLERANCE,
                  found=f"largest difference {worst['after']:.1e}"),
            Check(what="the loss that loops give falls along the gradient as its norm says",
                  holds=worst["slope"] <= SLOPE, found=f"largest relative difference {worst['slope']:.1e}"),
            Check(what="loops execute the MACs that are counted", holds=counted,
                  found="exactly" if counted else "not so"),
            Check(what="the step lowers the loss", holds=learns,
                  found="of every family" if learns else "not so"),
        ),
        findings=tuple(findings), figure=_figure(rows), data={"cards": cards},
        note="forward: largest difference of outputs; slope: of the loss by loops along PyTorch's gradient",
    )  # fmt: skip


def by_loops(network: Any, inputs: list[Any], tally: Tally, moved: dict[str, Any] | None = None) -> Any:
    """The first output of a network's graph, each operator by its loops, with the network's weights.

    Args:
        moved: node -> key -> array, weights instead of the network's.
    """
    graph = network.source_graph.expanded()
    values = dict(zip((v.name for v in graph.inputs), inputs, strict=True))
    for node in graph.nodes:
        assert isinstance(node, Node)
        held = {k: t.detach().numpy() for k, t in network.tensors_of(node).items()}
        if moved is not None:
            held |= moved.get(node.name, {})
        made = node.op.loops(tally, *(values[name] for name in node.inputs), **held)
        results = made if isinstance(made, (tuple, list)) else (made,)
        values.update(zip(node.outputs, results, strict=True))
    return values[graph.outputs[0].name]


def step_by_both(graph: Graph, seed: int = 0) -> dict[str, Any]:
    """One step of gradient descent on mean squares, by PyTorch, with every figure of it by loops too."""
    import torch

    from pharos.convert.to_torch import to_torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = to_torch(graph).double()
    rng = np.random.default_rng([seed, 41])
    inputs = [rng.integers(0, 50, v.shape) if v.tensor.dtype == "int64" else rng.normal(size=v.shape)
              for v in graph.inputs]  # fmt: skip
    given = [torch.from_numpy(a) for a in inputs]
    out = network(*given)
    wanted = rng.uniform(0, 1, tuple(out.shape))
    loss = ((out - torch.from_numpy(wanted)) ** 2).mean()
    loss.backward()

    def loss_of(y: Any) -> float:
        return float(((y - wanted) ** 2).mean())

    tally = Tally()
    looped = by_loops(network, inputs, tally)
    nodes = [n for n in graph.expanded().nodes if isinstance(n, Node)]
    held = {n.name: network.tensors_of(n) for n in nodes}
    slopes = {name: {k: t.grad.numpy().copy() for k, t in own.items() if t.grad is not None}
              for name, own in held.items()}  # fmt: skip
    norm = sum(float((p.grad**2).sum()) for p in network.parameters() if p.grad is not None)

    def nudged(by: float) -> float:
        moved = {name: {k: held[name][k].detach().numpy() + by * s for k, s in own.items()}
                 for name, own in slopes.items()}  # fmt: skip
        return loss_of(by_loops(network, inputs, Tally(), moved))

    small = NUDGE / max(norm**0.5, 1e-12)
    slope = (nudged(small) - nudged(-small)) / (2 * small)
    with torch.no_grad():
        for p in network.parameters():
            if p.grad is not None:
                p -= RATE * p.grad
        after = network(*given).numpy()
    looped_after = by_loops(network, inputs, Tally())
    scale = float(np.abs(looped).max()) or 1.0
    return {
        "macs": tally.macs, "loss": loss_of(looped), "loss_after": loss_of(looped_after),
        "forward": float(np.abs(out.detach().numpy() - looped).max()) / scale,
        "after": float(np.abs(after - looped_after).max()) / scale, "slope": abs(slope / norm - 1),
    }  # fmt: skip


def _figure(rows: list[tuple[Any, ...]]) -> Any:
    """Loss before and after the step, by family."""
    try:
        import altair as alt
    except ImportError:
        return None
    from pharos.report.drawing import Figure

    steps = ((6, "before"), (7, "after"))
    values = [{"family": r[0], "loss": r[i], "step": s} for r in rows for i, s in steps]
    chart = alt.Chart(alt.Data(values=values)).mark_bar().encode(
        y=alt.Y("family:N", sort=[r[0] for r in rows], title=None), x="loss:Q",
        yOffset=alt.YOffset("step:N", sort=["before", "after"]),
        color=alt.Color("step:N", sort=["before", "after"], title=None),
    )  # fmt: skip
    return Figure.of(chart, name=NAME, title="One training step of each family",
                     alt="the loss of every family falls", source="by loops and PyTorch alike")  # fmt: skip
