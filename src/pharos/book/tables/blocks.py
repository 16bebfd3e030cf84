"""Tables 3 and 4: building blocks found in networks, and normalisations told apart by running them."""

from typing import Any

from pharos.book.building_blocks import (
    GATING,
    GEMM,
    NAMES,
    NORMALISATION,
    SHARING,
    SKIP,
    counted_blocks,
    parts,
)
from pharos.book.claims.norms import normed
from pharos.book.sums import close, counted, draw, graph, run, symbols
from pharos.book.table import COUNTED, DERIVED, RUN, Asked, Cell, Filled, cell, table
from pharos.graph.tensor import Tensor
from pharos.ops.norm import BatchNorm, LayerNorm, RMSNorm
from pharos.passes.asymptotic import pretty

# Column -> the network that stands for it; those where the chapter has the blocks born are among them.
NETWORKS = {
    "MLP": "mlp", "LeNet-5": "lenet5", "ResNet-50": "resnet50", "LSTM": "lstm_tagger",
    "Transformer": "transformer-base", "Llama-2": "llama-2-7b", "Mixtral": "mixtral-8x7b", "DLRM": "dlrm",
}  # fmt: skip
BORN = {GEMM: "MLP", SHARING: "LeNet-5", SKIP: "ResNet-50", NORMALISATION: "ResNet-50", GATING: "LSTM"}
# Tokens of networks of sequences, so that weights serve several places.
TOKENS = 64
NORMS = {"batch_norm": "BatchNorm", "layer_norm": "LayerNorm", "rms_norm": "RMSNorm"}


def _context(name: str) -> int | None:
    return None if name in ("mlp", "lenet5", "resnet50", "dlrm") else TOKENS


@table("3", "building-blocks", "Five building blocks in networks of every family", "1.8")
def building_blocks(asked: Asked) -> Filled:
    """How many operators of each network are each block, as its graph shows."""
    by = {column: asked.model(name) for column, name in NETWORKS.items()}
    found = {column: counted_blocks(graph(name, context=_context(name))) for column, name in by.items()}
    rows = []
    for block in NAMES:
        has = [column for column in by if found[column][block]]
        born = BORN[block]
        cells = [
            cell(
                ("3", block, "born"),
                born in has,
                f"{'in' if born in has else 'not in'} {born}",
                how=COUNTED,
                note="where it was born is history; that the network has it is counted",
            ),
            Cell(
                value=_measure(block, by),
                text=_measure(block, by),
                how=COUNTED,
                printed=cell(("3", block, "solves"), None).printed,
            ),
            cell(
                ("3", block, "used"),
                has,
                f"{len(has)} of {len(by)}: {', '.join(f'{c} {found[c][block]:,}' for c in has)}",
            ),
        ]
        rows.append((block, tuple(cells)))
    return Filled(
        columns=("building block", "in its birthplace", "what is counted of it", "operators that are it"),
        rows=tuple(rows), setting=", ".join(f"{c} {n}" for c, n in by.items() if c != n),
        note=f"read from the graphs at batch 1 and {TOKENS} tokens, repeated layers as often as they run; "
             f"that "
        "attention is a gate is the chapter's reading",
    )  # fmt: skip


def _measure(block: str, by: dict[str, str]) -> str:
    """A figure of a block, over the networks that stand for its families."""
    if block == GEMM:
        told = []
        for column in ("MLP", "Transformer", "DLRM"):
            own = counted(by[column], context=_context(by[column]))
            part = sum(float(p.node.op.work(*p.node.io).macs) * float(p.times)
                       for p in parts(own.graph) if GEMM in p.blocks)  # fmt: skip
            told.append(f"{part / float(own.macs):.0%} of {column}'s MACs")
        return ", ".join(told)
    if block == SHARING:
        most = {c: max((p.uses or 0) for p in parts(graph(by[c], context=_context(by[c])))) for c in
                ("MLP", "LeNet-5", "ResNet-50", "LSTM")}  # fmt: skip
        return "; ".join(f"{c} up to {v:,.0f}" for c, v in most.items()) + " uses of a weight a sample"
    if block == SKIP:
        own = counted(by["ResNet-50"])
        adds = sum(
            float(line.work.vector_flops) * float(line.times) for line in own.lines if line.kind == "add"
        )
        return (
            f"{adds / 1e6:.1f} M additions, {adds / float(own.flops):.2%} of ResNet-50's FLOPs, no parameters"
        )
    if block == NORMALISATION:
        own = counted(by["ResNet-50"])
        held = sum(float(p.times) * sum(t.numel for t in p.node.weights.values())
                   for p in parts(own.graph) if NORMALISATION in p.blocks)  # fmt: skip
        return f"{held / float(own.parameters):.2%} of ResNet-50's parameters"
    cells = counted(by["LSTM"], context=TOKENS)
    gates = next((p.node.op for p in parts(cells.graph) if GATING in p.blocks), None)
    many = getattr(gates, "gates", 1)
    return f"{many - 1} gates of an LSTM, {many} times the weights of a plain cell"


@table("4", "norms", "Normalisations, told apart by running them", "1.8")
def norms(asked: Asked) -> Filled:
    """Statistics over what, whether other samples matter, who uses it, what an element costs, and modes."""
    ops = {"BatchNorm": BatchNorm(4), "LayerNorm": LayerNorm(4), "RMSNorm": RMSNorm(4)}
    cost = {n: _cost(type(op)) for n, op in ops.items()}
    least = min(value for value, _ in cost.values())
    used = _used(asked)
    rows = [
        (
            "axis",
            [cell(("4", "axis", n), (axis := _axis(n)), f"statistics over the {axis}", RUN) for n in ops],
        ),
        (
            "batch matters",
            [
                cell(
                    ("4", "batch", n),
                    (b := _depends(n)),
                    "yes: with other samples another result" if b else "no",
                    RUN,
                )
                for n in ops
            ],
        ),
        (
            "used in",
            [cell(("4", "use", n), used[n], ", ".join(used[n]) or "none here", how=COUNTED) for n in ops],
        ),
        (
            "operations an element",
            [
                cell(
                    ("4", "cost", n),
                    cost[n][0],
                    cost[n][1],
                    DERIVED,
                    compare="lower" if cost[n][0] == least else "higher",
                )
                for n in ops
            ],
        ),
        (
            "training and serving",
            [cell(("4", "modes", n), (same := _same(op)), same, DERIVED) for n, op in ops.items()],
        ),
    ]
    return Filled(
        columns=("", *ops), rows=tuple((name, tuple(cells)) for name, cells in rows),
        setting="six samples of four features, the operators' own loops",
        note="operations: vector operations of a pass that trains, of m samples of H features, over m H; "
             "roots and "
        "divisions apart; lower is the lowest of the three. Bytes moved are alike, so that a kernel bound "
        "by memory gains nothing",
    )  # fmt: skip


def _result(name: str, x: Any) -> Any:
    if name == "BatchNorm":
        return normed(x)
    op = (LayerNorm if name == "LayerNorm" else RMSNorm)(x.shape[1])
    weights = {"weight": [1] * x.shape[1]} | ({"bias": [0] * x.shape[1]} if name == "LayerNorm" else {})
    return run(op, x, **weights)


def _axis(name: str) -> str:
    """Over what its statistics go: what changes when one number does."""
    import numpy as np

    x = draw(6, 4)
    moved = x.copy()
    moved[0, 0] += 1.0
    changed = np.abs(_result(name, moved) - _result(name, x)) > 1e-9
    batch, features = bool(changed[1:, 0].any()), bool(changed[0, 1:].any())
    return "batch" if batch and not features else "features" if features and not batch else "both"


def _depends(name: str) -> bool:
    x = draw(6, 4)
    return not close(_result(name, x)[:3], _result(name, x[:3]))


def _used(asked: Asked) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {n: [] for n in NORMS.values()}
    for column, name in (NETWORKS | {"MobileNetV2": "mobilenet_v2", "GPT-2": "gpt2-xl"}).items():
        kinds = {node.op.kind for node, _, _ in graph(asked.model(name), context=_context(name)
                 if name != "mobilenet_v2" else None).walk()}  # fmt: skip
        for kind, norm in NORMS.items():
            if kind in kinds:
                found[norm].append(column)
    return found


def _cost(kind: Any) -> tuple[float, str]:
    """Vector operations an element: for large batches, and as a formula over m samples of H features."""
    m, h = symbols("m H")
    x = Tensor((m, h))
    import sympy

    each = sympy.expand(kind(h).training_work(x, x).vector_flops / (m * h))
    return float(each.subs({m: 2**20, h: 512})), pretty(each)


def _same(op: Any) -> str:
    x = Tensor((32, 4))
    return "identical" if op.training_work(x, x) == op.work(x, x) and not op.buffers() else "different"
