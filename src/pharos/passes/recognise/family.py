"""Family: which of the known families a graph belongs to, by its blocks and where its work lies."""

from dataclasses import dataclass

from pharos.graph.count import Count
from pharos.graph.graph import Graph
from pharos.passes.recognise.blocks import Block
from pharos.passes.recognise.view import CONVS
from pharos.quantity.sizes import Size, is_int

# Share of the multiply-accumulates from which a second family is named beside the first.
SECOND = 0.2
# Operators that speak for a family where no block does.
OPERATORS = {
    "lstm": "rnn", "gru": "rnn", "rnn": "rnn", "attentive_gru": "rnn", "selective_scan": "ssm", "ssd": "ssm",
    "wkv": "ssm", "attention": "attention", "linear_attention": "attention", "linear": "mlp",
    "conv1d": "cnn-1d", **{kind: "cnn" for kind in CONVS if kind != "conv1d"},
    "conv_transpose2d": "cnn",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kinship:
    """Families of a graph, the first its own, with the reasons."""

    families: tuple[str, ...]
    evidence: tuple[str, ...]


def kinship(graph: Graph, blocks: list[Block], counted: Count) -> Kinship:
    """The families that blocks and work speak for.

    Blocks decide before work does: tables of ids with an interaction make a recommender, whatever its
    layers of products weigh; a scan makes a state-space model. Work decides which of several families of
    layers is the first, and whether a second is named.
    """
    shares = _shares(blocks, counted)
    names = {b.block for b in blocks}
    said = [
        f"{_percent(v)} of MACs in {_IN_WORDS[f]}" for f, v in sorted(shares.items(), key=_heavy) if v >= 0.01
    ]
    ids = [v for v in graph.inputs if v.tensor.dtype.startswith(("int", "uint"))]
    recommends = sorted({b.block for b in blocks if b.family == "dlrm"})
    if recommends and not _has(blocks, "transformer") and not _translates(blocks):
        how = [f"{len(ids)} inputs of ids", *recommends]
        return Kinship(("dlrm",), (", ".join(how), *said))
    families: list[str] = []
    if _has(blocks, "ssm"):
        families.append("ssm")
    if _has(blocks, "transformer"):
        families += _transformers(names, graph)
    elif shares.get("attention", 0) > 0 and not families and _only_attention(shares):
        families.append("attention")
    rest = {f: v for f, v in shares.items() if f in ("cnn", "cnn-1d", "rnn")}
    for family, share in sorted(rest.items(), key=_heavy):
        plain = not families and share >= max(shares.get("mlp", 0) * SECOND, 0)
        if share > 0 and (plain or share >= SECOND):
            families.append(family)
    if "cnn" in families and "cnn-1d" in families:
        families.remove("cnn-1d")
    if not families and (shares.get("mlp", 0) > 0 or any(b.family == "mlp" for b in blocks)):
        families.append("mlp")
    families.sort(key=lambda f: -shares.get(_LAYERS.get(f, f), 0))
    return Kinship(tuple(dict.fromkeys(families)), tuple(said))


# The families of layers that a family's work is counted under.
_LAYERS = {"vit": "transformer"}
_IN_WORDS = {
    "cnn": "convolutions", "cnn-1d": "convolutions over time", "rnn": "recurrences",
    "transformer": "transformer blocks", "attention": "attention", "ssm": "scan layers",
    "mlp": "dense layers", "dlrm": "interactions", "vit": "patch embedding",
}  # fmt: skip


def _transformers(names: set[str], graph: Graph) -> list[str]:
    """vit for transformer blocks over patches of an image, transformer over tokens; both for both."""
    if "patch embedding" not in names:
        return ["transformer"]
    tokens = any(
        n.op.kind == "embedding" and n.inputs[0] in {v.name for v in graph.inputs} for n, _, _ in graph.walk()
    )
    return ["vit", "transformer"] if tokens else ["vit"]


def _only_attention(shares: dict[str, float]) -> bool:
    return not any(shares.get(f, 0) >= SECOND for f in ("cnn", "cnn-1d", "rnn"))


def _translates(blocks: list[Block]) -> bool:
    """A recurrence that attends to another: an encoder and a decoder, whose ids are words."""
    return any(b.block == "GRU layer with additive attention" for b in blocks)


def _has(blocks: list[Block], family: str) -> bool:
    return any(b.family == family for b in blocks)


def _heavy(pair: tuple[str, float]) -> float:
    return -pair[1]


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def _shares(blocks: list[Block], counted: Count) -> dict[str, float]:
    """Share of the multiply-accumulates by family: of the largest block around an operator, or its own."""
    whole = counted.macs
    owner: dict[str, str] = {}
    for block in sorted(blocks, key=lambda b: len(b.nodes)):
        if block.family:
            owner.update(dict.fromkeys(block.nodes, block.family))
    totals: dict[str, Size] = {}
    for line in counted.lines:
        macs = line.work.macs
        if is_int(macs) and macs == 0:
            continue
        family = owner.get(line.name) or OPERATORS.get(line.kind, "")
        if family:
            totals[family] = totals.get(family, 0) + macs * line.times
    if is_int(whole):
        return {f: float(v / whole) for f, v in totals.items()} if whole else {}
    return {f: _ratio(v, whole) for f, v in totals.items()}


def _ratio(part: Size, whole: Size) -> float:
    """The share at a size of a hundred for every symbol, and at the first of every array."""
    for symbol in getattr(whole, "free_symbols", set()) | getattr(part, "free_symbols", set()):
        part, whole = (x.subs(symbol, 100) if hasattr(x, "subs") else x for x in (part, whole))
    first = [x.ravel()[0] if hasattr(x, "ravel") else x for x in (part, whole)]
    return float(first[0]) / float(first[1])
