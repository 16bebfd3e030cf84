"""Section 1.7: recommenders, their tables, Lighthouse 1.5, Napkin Math 1.2, the self-check."""

from pharos.book.answer import told, unknown
from pharos.book.claims.transformer import block_kinds
from pharos.book.sums import (
    A100,
    GB,
    GIB,
    TB,
    bandwidth,
    counted,
    devices,
    figure,
    layers,
    machine,
    memory,
    only,
    ridge,
)
from pharos.graph.tensor import Tensor
from pharos.ops.embedding import EmbeddingBag
from pharos.quantity.sizes import ceil_div

# A sample's lookups in MLPerf's DLRM: 26 tables, vectors of 128.
TABLES, DIM = 26, 128


def table(rows: float, dim: int, lookups: int = 1):
    """A table in fp32 with one sample's lookups."""
    return layers((1, lookups), EmbeddingBag(int(rows), dim), dtype="int64")


def table_gb(rows: float, dim: int) -> float:
    """Its size in GB."""
    return table(rows, dim).weight_bytes / GB


def _lookup():
    many = table(1000, DIM, 20).work.vector_flops
    return told(
        table(1000, DIM).work.flops + table(1000, DIM).work.vector_flops,
        f"a single row; a bag of 20 adds {many:,} numbers",
    )


def _elements():
    found = counted("dlrm-mlperf")
    return told(
        found.parameters,
        "MLPerf's DLRM. Elements, not rows: 25 G rows of 128 would be "
        f"{4 * 128 * 25:,} GB, where the box has 100",
    )


def _exchange(batch: int = 2048, cards: int = 8) -> tuple[float, float]:
    """Seconds to gather a batch's rows, and to hand them round, on 8 A100 with tables split among them."""
    vectors = Tensor((batch, TABLES, DIM)).nbytes / cards
    link = machine(A100).link_bytes_per_s.value
    assert link is not None
    return vectors / bandwidth(A100), vectors * (cards - 1) / cards / link


def is_network_first():
    """Whether the exchange takes longer than the gathers."""
    gather, send = _exchange()
    return told(
        send > gather,
        f"8 A100, batch 2,048 of 26 vectors of 128: {1e6 * send:.0f} us over NVLink at least, "
        f"{1e6 * gather:.1f} us to gather from memory",
    )


def _largest(params):
    whole = Tensor((int(params),), "fp16").nbytes
    return unknown(
        f"a model of 12 T parameters is published, {whole / TB:.0f} TB in fp16, so terabytes are reached; no "
        "petabyte model is"
    )


def _ranges():
    items, cards = 2_000_000, 2
    each = ceil_div(items, cards)
    return told(
        [f"{i * each + 1}-{(i + 1) * each}" for i in range(cards)],
        "item 1,000,000 stands in both printed ranges; shards must not overlap",
    )


def _share(rows, dim):
    total = figure(A100, "B", "memory", "main", "smi_total_bytes")
    return told(
        100 * table_gb(rows, dim) * GB / memory(A100),
        "of the 80 GB that the chapter has elsewhere",
        of_80_GiB=100 * table_gb(rows, dim) * GB / total,
    )


def _capacity():
    total = figure(A100, "B", "memory", "main", "smi_total_bytes")
    return told(
        memory(A100) / GB, "as sold, and as every other place of the chapter has it", of_80_GiB=total / GB
    )


def _two_tables(rows, dim):
    both = 2 * table_gb(rows, dim) * GB
    cards = devices(both, memory(A100))
    return told(
        cards > 8,
        f"{both / GB:.1f} GB need {cards} devices of 80 GB; a machine holds 8, and fp16 fits one",
        of_one_accelerator=cards > 1,
    )


def has_skip(name: str) -> bool:
    """Whether a network adds an earlier value to a later one."""
    return any(line.kind == "add" and len(line.node.inputs) > 1 for line in counted(name).lines)


def _skips():
    found = {n: has_skip(n) for n in ("mlp", "resnet50", "lstm_tagger", "gpt2-xl", "dlrm")}
    yes = [n for n, skips in found.items() if skips]
    return told(
        all(found.values()),
        f"only {' and '.join(yes)} of the five lighthouse families' networks; LeNet and VGG have none either",
    )


def _has_mlp() -> bool:
    kinds = block_kinds("gpt2-xl")
    at = kinds.index("activation")
    return kinds[at - 1] == kinds[at + 1] == "linear"


def _order() -> bool:
    names = [line.name.split(".")[0] for line in counted("dlrm").lines]
    first = {n: names.index(n) for n in ("bot_l", "emb_l", "interaction", "top_l")}
    return max(first["bot_l"], first["emb_l"]) < first["interaction"] < first["top_l"]


def _is_random():
    node = only(table(1000, DIM, 4))
    return told(
        "random" in node.op.primitives(*node.io),
        "rows are where the ids say; skewed ids of production leave a large share to a small cache",
    )


def _gathers():
    found = counted("dlrm-mlperf", batch=2048)
    own = [line for line in found.lines if line.kind == "embedding_bag"]
    asked = sum(line.work.flops for line in own) / sum(line.traffic.total for line in own)
    return told(
        asked < ridge(A100, "fp32"),
        "the gathers do no MAC at all. The section also says capacity, and the lighthouse "
        "network: fitting, gathering and exchanging bind one after another",
    )


CLAIMS = {
    "recsys-50ms": lambda: unknown("a service's target, not a quantity to compute"),
    "embedding-512gb": lambda rows, dim: told(
        table_gb(rows, dim), f"{table_gb(rows, dim) * GB / GIB:.1f} GiB"
    ),
    "lookup-single-copy": _lookup,
    "lh-dlrm-25b": _elements,
    "lh-dlrm-100gb": lambda params: told(
        Tensor((int(params),)).nbytes / GB,
        f"of 25 G elements; MLPerf's DLRM has {counted('dlrm-mlperf').weight_bytes / GB:.0f} GB",
    ),
    "lh-dlrm-exceeds-gpu": lambda params: told(
        Tensor((int(params),)).nbytes > memory(A100),
        f"one of 80 GB; it fits one of {memory('nvidia_h200_sxm') / GB:.0f} GB",
    ),
    "lh-dlrm-alltoall": is_network_first,
    "resnet-102mb-gpt3-350gb": lambda: told(
        [counted("resnet50").weight_bytes, counted("gpt3-175b", precision="fp16").weight_bytes],
        "the second in fp16: it fits 8 devices of 80 GB, not of 40",
    ),
    "recsys-tb-pb": _largest,
    "shard-ranges": _ranges,
    "napkin12-51gb": table_gb,
    "napkin12-60-percent": _share,
    "napkin12-86gb-a100": _capacity,
    "napkin12-two-tables": _two_tables,
    "every-family-skip": _skips,
    "every-block-mlp": lambda: told(_has_mlp(), "of GPT-2: dense, activation, dense"),
    "sc-256gb-500m": table_gb,
    "sc-600gb-shard": lambda tables_gb: told(
        devices(tables_gb * GB, memory(A100)), "without room for activations"
    ),
    "sc-random-access": _is_random,
    "sc-dlrm-order": lambda: told(
        _order(), "the order of its graph; the bottom MLP and the lookups do not wait for each other"
    ),
    "sc-interconnect-true": is_network_first,
    "fn23-embedding-bound": _gathers,
    "sc-100m-items": lambda users, items, dim: told(
        [only(table(n, dim)).op.weights()["weight"][0] for n in (users, items)],
        f"rows; at 128 numbers in fp32 {table_gb(users, dim):.0f} and {table_gb(items, dim):.1f} GB",
    ),
}
