"""Recommenders beside DLRM: wide and deep, neural matrix factorisation, DIN and DIEN."""

from collections.abc import Callable
from typing import Any

from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.workload import Workload
from pharos.models.mlp import dense_stack
from pharos.models.registry import READERS, Entry, model
from pharos.ops.activation import Activation, Softmax
from pharos.ops.additive import AUGRU
from pharos.ops.elementwise import Add, Mul, Sub
from pharos.ops.embedding import Embedding, EmbeddingBag
from pharos.ops.linear import Linear, MatMul
from pharos.ops.recurrent import GRU
from pharos.ops.reduce import Reduce
from pharos.ops.shape_ops import Concat, Expand, Reshape, Slice
from pharos.quantity.errors import SizeError
from pharos.quantity.sizes import Size


def _spread(value: int | tuple[int, ...], tables: int, what: str) -> tuple[int, ...]:
    """One number for all tables, or one for each."""
    each = tuple(value) if isinstance(value, (tuple, list)) else (value,) * tables
    if len(each) != tables:
        raise SizeError(f"{len(each)} {what} for {tables} tables")
    return each


def _bags(
    g: Builder, batch: Size, rows: tuple[int, ...], dims: tuple[int, ...], lookups: tuple[int, ...]
) -> tuple[list[Value], list[Value]]:
    """(indices, pooled vectors) of every table."""
    ids = [g.input(f"ids_{i}", (batch, n), "int64") for i, n in enumerate(lookups)]
    tables = [EmbeddingBag(n, d) for n, d in zip(rows, dims, strict=True)]
    bags = enumerate(zip(tables, ids, strict=True))
    return ids, [g(f"embeddings.{i}", table, at) for i, (table, at) in bags]


@model("dlrm", source="Cheng et al. 2016, arXiv:1606.07792; sizes: NVIDIA DeepLearningExamples, Outbrain",
       parameters=91_777_231)  # fmt: skip
def wide_and_deep(
    work: Workload,
    *,
    rows: tuple[int, ...] = (300_000, 4, 100_000, 4_000, 1_000, 2_500, 300, 2_000, 350, 10_000, 100,
                             250_000, 2_500, 4_000, 1_000, 5_000),
    dims: int | tuple[int, ...] = (128, 19, 128, 64, 64, 64, 64, 64, 64, 64, 64, 128, 64, 64, 64, 128),
    lookups: int | tuple[int, ...] = (1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 3, 1, 1, 1, 1, 1),
    dense: int = 13,
    deep: tuple[int, ...] = (1024, 1024, 1024, 1024, 1024, 1),
    wide: bool = True,
) -> Graph:  # fmt: skip
    """Wide and deep: an MLP over embeddings, and a linear model of one weight a row beside it.

    Args:
        rows, dims, lookups: of each table; one number stands for all.
        deep: widths of the MLP over the dense features and the pooled embeddings.
        wide: False leaves the linear model out.
    """
    dims, lookups = _spread(dims, len(rows), "widths"), _spread(lookups, len(rows), "lookups")
    g = Builder("wide_and_deep", work.precision)
    x = g.input("dense", (work.batch, dense))
    ids, pooled = _bags(g, work.batch, tuple(rows), dims, lookups)
    y = dense_stack(g, g("join", Concat(1), x, *pooled), tuple(deep), "deep")
    if wide:
        pairs = enumerate(zip(rows, ids, strict=True))
        weights = [g(f"linear.{i}", EmbeddingBag(n, 1), at) for i, (n, at) in pairs]
        total = g("linear_sum", Reduce(1, True, "sum"), g("linear_join", Concat(1), *weights))
        y = g("both", Add(), y, total)
    return g.finish(g("sigmoid", Activation("sigmoid"), y))


@model("dlrm", source="Cheng et al. 2016 with a tower a task; sizes: DeepRecSys, arXiv:2001.02772, Table I")
def multi_task_wide_and_deep(
    work: Workload,
    *,
    rows: tuple[int, ...] = (500_000,) * 41 + (5_000_000,) * 2,
    dim: int = 32,
    dense: int = 512,
    shared: tuple[int, ...] = (1024, 512),
    tower: tuple[int, ...] = (512, 256, 128),
    tasks: int = 1,
) -> Graph:
    """Multi-task wide and deep: shared layers over embeddings, then a tower for each task.

    Args:
        tasks: towers; how many the published class has is not stated.
    """
    if tasks < 1:
        raise SizeError(f"needs a task or more, not {tasks}")
    g = Builder("multi_task_wide_and_deep", work.precision)
    x = g.input("dense", (work.batch, dense))
    _, pooled = _bags(g, work.batch, tuple(rows), (dim,) * len(rows), (1,) * len(rows))
    x = dense_stack(g, g("join", Concat(1), x, *pooled), tuple(shared), "shared", last="relu")
    return g.finish(*(dense_stack(g, x, (*tower, 1), f"towers.{i}", last="sigmoid") for i in range(tasks)))


@model("dlrm", source="He et al. 2017, arXiv:1708.05031; sizes: MLPerf Training v0.5, MovieLens-20M",
       parameters=31_832_577, macs=106_624)  # fmt: skip
def neumf(
    work: Workload,
    *,
    users: int = 138_493,
    items: int = 26_744,
    factors: int = 64,
    layers: tuple[int, ...] = (256, 256, 128, 64),
) -> Graph:
    """Neural matrix factorisation: a product of two factor vectors beside an MLP over two others.

    Args:
        layers: width of the joined user and item vectors of the MLP, then its layers.
    """
    if layers[0] % 2:
        raise SizeError(f"the first width is that of two equal vectors together, not {layers[0]}")
    g = Builder("neumf", work.precision)
    user, item = (g.input(name, (work.batch,), "int64") for name in ("users", "items"))
    half = layers[0] // 2
    mf_user = g("mf_user_embed", Embedding(users, factors), user)
    mf_item = g("mf_item_embed", Embedding(items, factors), item)
    product = g("mf", Mul(), mf_user, mf_item)
    mlp_user = g("mlp_user_embed", Embedding(users, half), user)
    mlp_item = g("mlp_item_embed", Embedding(items, half), item)
    y = g("join", Concat(1), mlp_user, mlp_item)
    y = dense_stack(g, y, tuple(layers[1:]), "mlp", last="relu")
    y = g("final", Linear(factors + layers[-1], 1), g("both", Concat(1), product, y))
    return g.finish(g("sigmoid", Activation("sigmoid"), y))


def _items(g: Builder, batch: Size, rows: tuple[int, ...], dim: int, history: int) -> tuple[Value, Value]:
    """(candidate [B, D], history [B, T, D]): what describes an item, joined over its tables."""
    tables = [Embedding(n, dim) for n in rows]
    now = [g.input(f"candidate_{i}", (batch,), "int64") for i in range(len(rows))]
    past = [g.input(f"history_{i}", (batch, history), "int64") for i in range(len(rows))]
    found = [g(f"items.{i}", table, at) for i, (table, at) in enumerate(zip(tables, now, strict=True))]
    # the same tables again
    behind = [
        g(f"history_items.{i}", table, at, tied={"weight": f"items.{i}.weight"})
        for i, (table, at) in enumerate(zip(tables, past, strict=True))
    ]
    return g("candidate", Concat(1), *found), g("behaviour", Concat(2), *behind)


@model(
    "dlrm", source="Zhou et al. 2018, arXiv:1706.06978; table sizes: DeepRecSys, arXiv:2001.02772, Table I"
)
def din(
    work: Workload,
    *,
    profile: tuple[int, ...] = (1_000_000, 100_000),
    items: tuple[int, ...] = (10_000_000, 10_000_000),
    dim: int = 32,
    lookups: int = 3,
    history: int = 250,
    unit: tuple[int, ...] = (80, 40),
    top: tuple[int, ...] = (200, 80, 2),
) -> Graph:
    """Deep interest network: past items weighed by how they fit the candidate, without a softmax.

    A small MLP over (past, candidate, difference, product) gives each of the `history` items its weight.

    Args:
        profile, items: rows of the tables about the user, and of those that describe an item; that two
            of the four published tables are of each kind is this catalogue's reading.
        unit: inner widths of the weighing MLP, as in the authors' code.
    """
    g = Builder("din", work.precision)
    candidate, behind = _items(g, work.batch, tuple(items), dim, history)
    _, about = _bags(g, work.batch, tuple(profile), (dim,) * len(profile), (lookups,) * len(profile))
    width = candidate.shape[1]
    row = g("candidate_row", Reshape((work.batch, 1, width)), candidate)
    beside = g("candidate_rows", Expand((work.batch, history, width)), row)
    apart, product = g("difference", Sub(), behind, beside), g("product", Mul(), behind, beside)
    weighed = g("unit_input", Concat(2), behind, beside, apart, product)
    weights = dense_stack(g, weighed, (*unit, 1), "unit", function="sigmoid")
    interest = g("interest", Reduce(1, False, "sum"), g("weighed", Mul(), behind, weights))
    y = g("join", Concat(1), *about, interest, candidate)
    return g.finish(g("softmax", Softmax(), dense_stack(g, y, tuple(top), "top", function="sigmoid")))


@model(
    "dlrm", source="Zhou et al. 2019, arXiv:1809.03672; table sizes: DeepRecSys, arXiv:2001.02772, Table I"
)
def dien(
    work: Workload,
    *,
    profile: tuple[int, ...] = (500_000,) * 41,
    items: tuple[int, ...] = (5_000_000,) * 2,
    dim: int = 32,
    dense: int = 512,
    history: int = 100,
    hidden: int = 64,
    top: tuple[int, ...] = (200, 80, 2),
) -> Graph:
    """Deep interest evolution network: a GRU over past items, then one gated by their fit.

    The second recurrence is as sequential as the first: 2 x `history` steps in a row.

    Args:
        history: past items; its length and `hidden`, the width of both recurrences, are this catalogue's
            choice: they are not published for these tables.
    """
    g = Builder("dien", work.precision)
    x = g.input("dense", (work.batch, dense))
    candidate, behind = _items(g, work.batch, tuple(items), dim, history)
    _, about = _bags(g, work.batch, tuple(profile), (dim,) * len(profile), (1,) * len(profile))
    width = candidate.shape[1]
    states = g("extractor", GRU(width, hidden), behind)
    asked = g("fit", Linear(width, hidden, False), candidate)
    asked = g("fit_column", Reshape((work.batch, hidden, 1)), asked)
    scores = g("scores", MatMul(), states, asked)
    shares = g("shares", Softmax(), g("score_row", Reshape((work.batch, history)), scores))
    evolved = g("evolution", AUGRU(hidden, hidden), states, shares)
    last = g("last", Slice(1, history - 1, history), evolved)
    interest = g("interest", Reshape((work.batch, hidden)), last)
    y = g("join", Concat(1), x, *about, interest, candidate)
    return g.finish(g("softmax", Softmax(), dense_stack(g, y, tuple(top), "top", function="sigmoid")))


def _reader(build: Callable[..., Graph], key: str) -> Callable[[dict[str, Any]], Entry]:
    """Reads facts files whose block of this name is a configuration of this function."""

    def read(data: dict[str, Any]) -> Entry:
        sizes = {k: tuple(v) if isinstance(v, list) else v for k, v in data[key].items()}
        return Entry(
            name=data["name"], family="dlrm", build=build, source=data["source"], fixed=sizes,
            parameters=data.get("parameters"), macs=data.get("macs"),
            aliases=tuple(data.get("aliases", ())), summary=data["summary"],
        )  # fmt: skip

    return read


READERS["wide_and_deep"] = _reader(wide_and_deep, "wide_and_deep")
READERS["neumf"] = _reader(neumf, "neumf")
