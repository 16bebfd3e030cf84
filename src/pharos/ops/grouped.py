"""Grouped matrix product: rows sorted by group, each group with a matrix of its own, as experts are run."""

from collections.abc import Sequence
from typing import Any

from pharos.graph.op import (
    BROADCAST,
    DYNAMIC,
    MATMUL,
    REDUCE,
    SEQUENTIAL,
    Op,
    Parallelism,
    Picker,
    Saved,
    Tally,
    Work,
    operator,
)
from pharos.graph.tensor import Tensor
from pharos.quantity.sizes import Size, ceil_log2


@operator(cost="gemm", aten="_grouped_mm grouped_mm")
class GroupedMatMul(Op):
    """y[r, :] = a[r, :] b[g(r), :, :] for rows a[R, K] in order of their group, b[G, K, N].

    `ends[g]` is the number of the first row behind group g, as PyTorch's grouped_mm takes it; every row
    meets one matrix, so macs = R K N however the rows are divided.
    """

    def shape(self, a: Tensor, b: Tensor, ends: Tensor) -> Tensor:
        self.need(a.rank == 2 and b.rank == 3 and ends.rank == 1, "needs rows, matrices and ends", a, b, ends)
        self.match(b.shape[1], a.shape[1], "inner size", a, b)
        self.match(ends.shape[0], b.shape[0], "ends of groups", a, b, ends)
        return a.with_last(b.shape[2])

    def work(self, a: Tensor, b: Tensor, ends: Tensor, y: Tensor) -> Work:
        return Work(macs=y.numel * a.shape[1])

    def gradient(self, wanted: Sequence[bool], a: Tensor, b: Tensor, ends: Tensor, y: Tensor) -> Work:
        """da = dy b^T and db = a^T dy, group by group."""
        return Work(macs=y.numel * a.shape[1] * (bool(wanted[0]) + bool(wanted[1])))

    def saved(self, a: Tensor, b: Tensor, ends: Tensor, y: Tensor) -> Saved:
        return Saved(inputs=(0, 1))

    def primitives(self, a: Tensor, b: Tensor, ends: Tensor, y: Tensor) -> dict[str, Size]:
        macs = y.numel * a.shape[1]
        return {
            MATMUL: macs,
            DYNAMIC: macs,
            SEQUENTIAL: a.numel + b.numel + y.numel,
            BROADCAST: macs,
            REDUCE: macs,
        }

    def parallelism(self, a: Tensor, b: Tensor, ends: Tensor, y: Tensor) -> Parallelism:
        return Parallelism(width=y.numel, tree=ceil_log2(a.shape[1]))

    def loops(self, tally: Tally, a: Any, b: Any, ends: Any) -> Any:
        import numpy as np

        y = np.zeros((len(a), b.shape[2]), a.dtype)
        for r in range(len(a)):
            group = min(int(np.searchsorted(np.sort(ends), r, side="right")), len(b) - 1)
            for n in range(b.shape[2]):
                for k in range(a.shape[1]):
                    y[r, n] += a[r, k] * b[group, k, n]
                    tally.macs += 1
        return y

    def torch(self, torch: Any) -> Any:
        def call(a: Any, b: Any, ends: Any) -> Any:
            found = [min(int(e), len(a)) for e in sorted(ends.tolist())[:-1]]
            bounds = zip([0, *found], [*found, len(a)], strict=True)
            return torch.cat([a[first:end] @ b[g] for g, (first, end) in enumerate(bounds)])

        return call

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        rows, inner, out, groups = pick.size(1, 5), pick.size(1, 4), pick.size(1, 4), pick.size(1, 3)
        return cls(), [Tensor((rows, inner)), Tensor((groups, inner, out)), Tensor((groups,), "int64")]
