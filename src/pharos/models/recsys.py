"""Recommenders: gathers from tables that fill memory, between two small MLPs."""

from typing import Any

from pharos.graph.graph import Builder, Graph
from pharos.graph.workload import Workload
from pharos.models.mlp import dense_stack
from pharos.models.registry import READERS, Entry, model
from pharos.ops.embedding import EmbeddingBag
from pharos.ops.interaction import PairwiseInteraction
from pharos.ops.shape_ops import Concat, Reshape
from pharos.quantity.errors import SizeError


@model(
    "dlrm",
    source="Naumov et al. 2019, arXiv:1906.00091; the textbook's size: 25 G table elements, 100 GB in fp32",
    lighthouse="capacity",
)
def dlrm(
    work: Workload,
    *,
    rows: tuple[int, ...] = (7_512_019,) * 26,
    dim: int = 128,
    lookups: int = 1,
    dense: int = 13,
    bottom: tuple[int, ...] = (512, 256, 128),
    top: tuple[int, ...] = (1024, 1024, 512, 256, 1),
) -> Graph:
    """Deep learning recommendation model: bottom MLP, one gather a table, pairwise dots, top MLP.

    Args:
        rows: rows of each table.
        lookups: rows summed per table and sample (the pooling factor).
    """
    if bottom[-1] != dim:
        raise SizeError(
            f"the bottom MLP ends in {bottom[-1]}, the tables have {dim}: the dots need one width"
        )
    g = Builder("dlrm", work.precision)
    x = g.input("dense", (work.batch, dense))
    x = dense_stack(g, x, tuple(bottom), "bot_l", last="relu")
    pooled = [x]
    for i, count in enumerate(rows):
        ids = g.input(f"ids_{i}", (work.batch, lookups), "int64")
        pooled.append(g(f"emb_l.{i}", EmbeddingBag(count, dim), ids))
    together = g("stack", Concat(1), *pooled)
    together = g("features", Reshape((work.batch, len(pooled), dim)), together)
    dots = g("interaction", PairwiseInteraction(), together)
    y = g("join", Concat(1), x, dots)
    return g.finish(dense_stack(g, y, tuple(top), "top_l", last="sigmoid"))


def read_dlrm(data: dict[str, Any]) -> Entry:
    """An entry from a facts file with a `dlrm:` block."""
    sizes = {k: tuple(v) if isinstance(v, list) else v for k, v in data["dlrm"].items()}
    return Entry(
        name=data["name"], family="dlrm", build=dlrm, source=data["source"], fixed=sizes,
        parameters=data.get("parameters"), macs=data.get("macs"),
        aliases=tuple(data.get("aliases", ())), summary=data.get("summary", "DLRM, published configuration."),
    )  # fmt: skip


READERS["dlrm"] = read_dlrm
