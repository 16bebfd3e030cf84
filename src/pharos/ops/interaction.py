"""Pairwise interaction: the dot product of every pair of feature vectors."""

from collections.abc import Sequence
from typing import Any

from pharos.graph.op import (
    BROADCAST,
    DYNAMIC,
    GATHER,
    MATMUL,
    REDUCE,
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
from pharos.quantity.sizes import Size, ceil_log2, floor_div


@operator(cost="gemm")
class PairwiseInteraction(Op):
    """y[b] = the strict lower triangle of x[b] x[b]^T for x[B, F, D]; macs = B F^2 D.

    The full square is counted, as the reference computes it with one batched product.
    Source: Naumov et al. 2019, arXiv:1906.00091, and its code.

    Args:
        self_interaction: the diagonal is kept too.
    """

    self_interaction: bool = False

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank == 3, "needs an input of rank 3", x)
        n = x.shape[1]
        return x.with_shape(x.shape[0], floor_div(n * (n + 1 if self.self_interaction else n - 1), 2))

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(macs=x.numel * x.shape[1])

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """dx = dS x + dS^T x for the square dS, as the batched product is differentiated; their sum."""
        return Work(macs=2 * x.numel * x.shape[1], vector_flops=x.numel) if wanted[0] else Work()

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved(inputs=(0,))

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        macs = x.numel * x.shape[1]
        return {MATMUL: macs, DYNAMIC: macs, SEQUENTIAL: x.numel + y.numel, GATHER: y.numel,
                BROADCAST: macs, REDUCE: macs}  # fmt: skip

    def parallelism(self, x: Tensor, y: Tensor) -> Parallelism:
        return Parallelism(width=x.shape[0] * x.shape[1] * x.shape[1], tree=ceil_log2(x.shape[2]))

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        batch, n, width = x.shape
        square = np.zeros((batch, n, n), x.dtype)
        for b in range(batch):
            for i in range(n):
                for j in range(n):
                    for d in range(width):
                        square[b, i, j] += x[b, i, d] * x[b, j, d]
                        tally.macs += 1
        rows = [(i, j) for i in range(n) for j in range(i + 1 if self.self_interaction else i)]
        return np.stack([square[:, i, j] for i, j in rows], 1) if rows else np.zeros((batch, 0), x.dtype)

    def torch(self, torch: Any) -> Any:
        def dots(x: Any) -> Any:
            square = torch.bmm(x, x.transpose(1, 2))
            i, j = torch.tril_indices(x.shape[1], x.shape[1], 0 if self.self_interaction else -1)
            return square[:, i, j]

        return dots

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        batch, n, _ = w.node.ins[0].shape
        square = w("MatMul", x, w("Transpose", x, perm=(0, 2, 1)))
        kept = [i * n + j for i in range(n) for j in range(i + 1 if self.self_interaction else i)]
        return w("Gather", w("Reshape", square, w.ints(batch, n * n)), w.ints(*kept), axis=1)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        op = cls(pick.choice([True, False]))
        return op, [Tensor((pick.size(1, 3), pick.size(2, 5), pick.size(1, 4)))]
