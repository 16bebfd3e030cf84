"""Recommenders: gathers from tables that fill memory, between two small MLPs."""

from typing import Any

from pharos.graph.graph import Builder, Graph
from pharos.graph.workload import Workload
from pharos.models.mlp import dense_stack
from pharos.models.registry import READERS, Entry, model
from pharos.ops.cross import Cross
from pharos.ops.embedding import EmbeddingBag
from pharos.ops.interaction import PairwiseInteraction
from pharos.ops.shape_ops import Concat, Reshape
from pharos.quantity.errors import SizeError, unknown

INTERACTIONS = ("dot", "cat", "dcn")


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
    lookups: int | tuple[int, ...] = 1,
    dense: int = 13,
    bottom: tuple[int, ...] = (512, 256, 128),
    top: tuple[int, ...] = (1024, 1024, 512, 256, 1),
    interaction: str = "dot",
    cross_layers: int = 3,
    cross_rank: int = 512,
) -> Graph:
    """Deep learning recommendation model: bottom MLP, one gather a table, interaction, top MLP.

    Args:
        rows: rows of each table.
        lookups: rows summed per table and sample (the pooling factor), for all or for each table.
        bottom: widths of the bottom MLP; empty to hand the dense features on as they are.
        interaction: "dot" of every pair of vectors, "cat" of all, or "dcn": `cross_layers` low-rank cross
            layers of rank `cross_rank` over all (Wang et al. 2021, arXiv:2008.13535).
    """
    if interaction not in INTERACTIONS:
        raise unknown("interaction", str(interaction), INTERACTIONS)
    if interaction == "dot" and (not bottom or bottom[-1] != dim):
        ends = f"the bottom MLP ends in {bottom[-1]}" if bottom else "there is no bottom MLP"
        raise SizeError(f"{ends}, the tables have {dim}: the dots need one width")
    counts = tuple(lookups) if isinstance(lookups, (tuple, list)) else (lookups,) * len(rows)
    if len(counts) != len(rows):
        raise SizeError(f"{len(counts)} lookups for {len(rows)} tables")
    g = Builder("dlrm", work.precision)
    x = g.input("dense", (work.batch, dense))
    x = dense_stack(g, x, tuple(bottom), "bot_l", last="relu")
    pooled = [x]
    for i, (count, each) in enumerate(zip(rows, counts, strict=True)):
        ids = g.input(f"ids_{i}", (work.batch, each), "int64")
        pooled.append(g(f"emb_l.{i}", EmbeddingBag(count, dim), ids))
    together = g("stack", Concat(1), *pooled)
    if interaction == "dot":
        together = g("features", Reshape((work.batch, len(pooled), dim)), together)
        dots = g("interaction", PairwiseInteraction(), together)
        together = g("join", Concat(1), x, dots)
    elif interaction == "dcn":
        first = together
        for i in range(cross_layers):
            layer = Cross(first.shape[1], "low_rank", cross_rank)
            together = g(f"crossnet.{i}", layer, first, together)
    return g.finish(dense_stack(g, together, tuple(top), "top_l", last="sigmoid"))


def read_dlrm(data: dict[str, Any]) -> Entry:
    """An entry from a facts file with a `dlrm:` block."""
    sizes = {k: tuple(v) if isinstance(v, list) else v for k, v in data["dlrm"].items()}
    return Entry(
        name=data["name"], family="dlrm", build=dlrm, source=data["source"], fixed=sizes,
        parameters=data.get("parameters"), macs=data.get("macs"),
        aliases=tuple(data.get("aliases", ())), summary=data.get("summary", "DLRM, published configuration."),
    )  # fmt: skip


READERS["dlrm"] = read_dlrm
