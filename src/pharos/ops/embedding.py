"""Embedding tables: gathers of rows, alone or summed in bags."""

from collections.abc import Sequence
from typing import Any

from pharos.graph.op import (
    GATHER,
    RANDOM,
    REDUCE,
    SEQUENTIAL,
    OnnxWriter,
    Op,
    Parallelism,
    Picker,
    Saved,
    Tally,
    Traffic,
    Work,
    operator,
)
from pharos.graph.tensor import ACTIVATIONS, Tensor
from pharos.quantity.dtypes import nbytes
from pharos.quantity.errors import unknown
from pharos.quantity.sizes import Size, ceil_log2, minimum


class _Table(Op):
    """What the two lookups share: a table weight[rows, width], integer indices."""

    __slots__ = ()
    num_embeddings: Size
    embedding_dim: Size

    def weights(self) -> dict[str, tuple[Size, ...]]:
        return {"weight": (self.num_embeddings, self.embedding_dim)}

    def traffic(self, node: Any) -> Traffic:
        # rows are read as they are asked for; a table smaller than that is read once
        rows = minimum(node.ins[0].numel, self.num_embeddings)
        gathered = nbytes(rows * self.embedding_dim, node.weights["weight"].dtype)
        return Traffic(weights=gathered, inputs=node.ins[0].nbytes, outputs=node.outs[0].nbytes)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """Every row that was read adds its gradient to the table's."""
        return Work(vector_flops=x.numel * self.embedding_dim)

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved(inputs=(0,))

    def gradient_traffic(self, wanted: Sequence[bool], node: Any) -> Traffic:
        """The gradient of the whole table is filled with zeros, then rows are read and written."""
        table, x = node.weights["weight"], node.ins[0]
        rows = nbytes(x.numel * self.embedding_dim, table.dtype)
        return Traffic(weights=table.nbytes + 2 * rows, inputs=x.nbytes + node.outs[0].nbytes)

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        read = x.numel * self.embedding_dim
        return {GATHER: read, RANDOM: read, SEQUENTIAL: x.numel + y.numel}


@operator(cost="gather", aten="embedding", onnx="Gather")
class Embedding(_Table):
    """y[..., :] = weight[x[...], :]; no arithmetic."""

    num_embeddings: Size
    embedding_dim: Size

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.dtype.startswith("int"), f"needs integer indices, not {x.dtype}", x)
        return Tensor((*x.shape, self.embedding_dim), ACTIVATIONS)

    def loops(self, tally: Tally, x: Any, *, weight: Any) -> Any:
        import numpy as np

        y = np.empty((*x.shape, weight.shape[1]), weight.dtype)
        for at in np.ndindex(x.shape):
            y[at] = weight[x[at]]
        return y

    def torch(self, torch: Any) -> Any:
        return torch.nn.Embedding(self.num_embeddings, self.embedding_dim)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        return w("Gather", w.parameter("weight"), x)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        shape = tuple(pick.size(1, 4) for _ in range(pick.int(1, 2)))
        return cls(pick.size(1, 6), pick.size(1, 4)), [Tensor(shape, "int64")]


@operator(cost="gather", aten="embedding_bag _embedding_bag")
class EmbeddingBag(_Table):
    """y[b, :] = sum or mean over l of weight[x[b, l], :]; L - 1 additions an output."""

    num_embeddings: Size
    embedding_dim: Size
    mode: str = "sum"

    def __post_init__(self) -> None:
        if self.mode not in ("sum", "mean"):
            raise unknown("mode", str(self.mode), ("sum", "mean"))

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank == 2, "needs indices of rank 2", x)
        self.need(x.dtype.startswith("int"), f"needs integer indices, not {x.dtype}", x)
        return Tensor((x.shape[0], self.embedding_dim), ACTIVATIONS)

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(
            vector_flops=y.numel * (x.shape[1] - 1), transcendentals=y.numel if self.mode == "mean" else 0
        )

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """As alone; a mean divides first."""
        divisions = y.numel if self.mode == "mean" else 0
        return Work(vector_flops=x.numel * self.embedding_dim, transcendentals=divisions)

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        return _Table.primitives(self, x, y) | {REDUCE: x.numel * self.embedding_dim}

    def parallelism(self, x: Tensor, y: Tensor) -> Parallelism:
        return Parallelism(width=y.numel, tree=ceil_log2(x.shape[1]))

    def loops(self, tally: Tally, x: Any, *, weight: Any) -> Any:
        import numpy as np

        y = np.zeros((len(x), weight.shape[1]), weight.dtype)
        for b, bag in enumerate(x):
            for index in bag:
                y[b] += weight[index]
        return y / x.shape[1] if self.mode == "mean" else y

    def torch(self, torch: Any) -> Any:
        return torch.nn.EmbeddingBag(self.num_embeddings, self.embedding_dim, mode=self.mode)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        rows = w("Gather", w.parameter("weight"), x)
        return w(f"Reduce{self.mode.title()}", rows, w.ints(1), keepdims=0)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        op = cls(pick.size(1, 6), pick.size(1, 4), pick.choice(["sum", "mean"]))
        return op, [Tensor((pick.size(1, 3), pick.size(1, 4)), "int64")]
