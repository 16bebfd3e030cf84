"""Propagation over a graph's edges: every node takes the sum or the mean of its neighbours' features."""

from collections.abc import Sequence
from typing import Any

from pharos.graph.op import (
    GATHER,
    RANDOM,
    REDUCE,
    SCATTER,
    SEQUENTIAL,
    OnnxWriter,
    Op,
    Parallelism,
    Picker,
    Saved,
    Tally,
    Work,
    operator,
)
from pharos.graph.tensor import Tensor
from pharos.quantity.errors import unknown
from pharos.quantity.sizes import Size, ceil_log2


@operator(cost="gather")
class Propagate(Op):
    """y[v] = sum or mean of x[u] over the edges (u, v): convolution where the data say who neighbours whom.

    With a linear layer before it, a graph convolution; a node without edges into it gets zeros. Edges are
    columns of `edges`, from and to.
    """

    reduction: str = "sum"

    def __post_init__(self) -> None:
        if self.reduction not in ("sum", "mean"):
            raise unknown("reduction", str(self.reduction), ("sum", "mean"))

    def shape(self, x: Tensor, edges: Tensor) -> Tensor:
        self.need(x.rank == 2, "needs features of rank 2: nodes x features", x, edges)
        self.need(edges.rank == 2, "needs edges of rank 2: from and to x edges", x, edges)
        self.match(edges.shape[0], 2, "rows of edges, from and to,", x, edges)
        self.need(edges.dtype.startswith("int"), f"needs integer edges, not {edges.dtype}", x, edges)
        return x

    def work(self, x: Tensor, edges: Tensor, y: Tensor) -> Work:
        """An addition an edge and feature; a mean also counts the edges and divides."""
        added = edges.shape[1] * x.shape[1]
        if self.reduction == "sum":
            return Work(vector_flops=added)
        return Work(vector_flops=added + edges.shape[1] + x.shape[0], transcendentals=y.numel)

    def gradient(self, wanted: Sequence[bool], x: Tensor, edges: Tensor, y: Tensor) -> Work:
        """Gradients go the edges backwards; those of a mean are divided first."""
        divisions = y.numel if self.reduction == "mean" else 0
        return Work(vector_flops=edges.shape[1] * x.shape[1], transcendentals=divisions)

    def saved(self, x: Tensor, edges: Tensor, y: Tensor) -> Saved:
        if self.reduction == "sum":
            return Saved(inputs=(1,))
        return Saved(inputs=(1,), extra={"degrees": Tensor((x.shape[0], 1), x.dtype)})

    def primitives(self, x: Tensor, edges: Tensor, y: Tensor) -> dict[str, Size]:
        moved = edges.shape[1] * x.shape[1]
        return {
            GATHER: moved,
            SCATTER: moved,
            REDUCE: moved,
            RANDOM: 2 * moved,
            SEQUENTIAL: edges.numel + y.numel,
        }

    def parallelism(self, x: Tensor, edges: Tensor, y: Tensor) -> Parallelism:
        # edges into one node add up as a tree; how deep a tree is the graph's matter, at most all edges
        return Parallelism(width=y.numel, tree=ceil_log2(edges.shape[1]))

    def loops(self, tally: Tally, x: Any, edges: Any) -> Any:
        import numpy as np

        y, degrees = np.zeros_like(x), np.zeros(len(x), int)
        for source, target in edges.T:
            degrees[target] += 1
            for feature in range(x.shape[1]):
                y[target, feature] += x[source, feature]
        return y / np.maximum(degrees, 1)[:, None] if self.reduction == "mean" else y

    def torch(self, torch: Any) -> Any:
        def call(x: Any, edges: Any) -> Any:
            y = torch.zeros_like(x).index_add(0, edges[1], x[edges[0]])
            if self.reduction == "sum":
                return y
            ones = torch.ones(edges.shape[1], dtype=x.dtype, device=x.device)
            degrees = torch.zeros(len(x), dtype=x.dtype, device=x.device).index_add(0, edges[1], ones)
            return y / degrees.clamp(min=1)[:, None]

        return call

    def to_onnx(self, w: OnnxWriter, x: str, edges: str) -> str:
        source = w("Gather", edges, w.ints(0), axis=0)
        target = w("Gather", edges, w.ints(1), axis=0)
        source, target = (w("Reshape", e, w.ints(-1)) for e in (source, target))
        zeros = w("Mul", x, w.number(0.0))
        places = w("Unsqueeze", target, w.ints(1))
        y = w("ScatterND", zeros, places, w("Gather", x, source), reduction="add")
        if self.reduction == "sum":
            return y
        column = w("ReduceSum", zeros, w.ints(1), keepdims=0)
        ones = w("Expand", w.number(1.0), w("Shape", target))
        degrees = w("ScatterND", column, places, ones, reduction="add")
        return w("Div", y, w("Unsqueeze", w("Max", degrees, w.number(1.0)), w.ints(1)))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        x = Tensor((pick.size(4, 5), pick.size(1, 3)))
        return cls(pick.choice(["sum", "mean"])), [x, Tensor((2, pick.size(1, 6)), "int64")]
