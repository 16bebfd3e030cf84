"""Counting and searching: how many numbers fall in each bin, and between which edges a number lies."""

from collections.abc import Sequence
from typing import Any

from pharos.graph.op import RANDOM, SCATTER, SEQUENTIAL, OnnxWriter, Op, Picker, Saved, Tally, Work, operator
from pharos.graph.tensor import Tensor
from pharos.quantity.sizes import Size, ceil_log2


@operator(cost="gather", aten="bincount histc")
class Histogram(Op):
    """y[b] = how many elements of x are b, for whole numbers from 0; an addition an element."""

    bins: Size

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank >= 1, "needs an input of rank 1 or more", x)
        return Tensor((self.bins,), x.dtype)

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(vector_flops=x.numel)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        return Work()

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved()

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        return {SCATTER: x.numel, RANDOM: x.numel, SEQUENTIAL: x.numel + y.numel}

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        y = np.zeros(self.bins, x.dtype)
        for value in x.reshape(-1):
            if 0 <= value < self.bins:
                y[int(value)] += 1
        return y

    def torch(self, torch: Any) -> Any:
        def call(x: Any) -> Any:
            classes = torch.arange(self.bins, device=x.device)
            return (x.reshape(-1, 1) == classes).sum(0).to(x.dtype)

        return call

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        import numpy as np

        hit = w("Equal", w("Reshape", x, w.ints(-1, 1)), w.table(np.arange(int(self.bins))))
        return w("ReduceSum", w("Cast", hit, to=7), w.ints(0), keepdims=0)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        shape = tuple(pick.size(1, 4) for _ in range(pick.int(1, 2)))
        return cls(pick.size(1, 5)), [Tensor(shape, "int64")]


@operator(cost="gather", aten="searchsorted bucketize")
class Search(Op):
    """y = how many of the sorted `edges` lie before each x; log2 of their number comparisons each."""

    def shape(self, edges: Tensor, x: Tensor) -> Tensor:
        self.need(edges.rank == 1, "needs edges of rank 1", edges, x)
        return Tensor(x.shape, "int64")

    def work(self, edges: Tensor, x: Tensor, y: Tensor) -> Work:
        return Work(vector_flops=x.numel * (ceil_log2(edges.numel) + 1))

    def gradient(self, wanted: Sequence[bool], *io: Tensor) -> Work:
        return Work()

    def saved(self, *io: Tensor) -> Saved:
        return Saved()

    def primitives(self, edges: Tensor, x: Tensor, y: Tensor) -> dict[str, Size]:
        steps = x.numel * (ceil_log2(edges.numel) + 1)
        return {RANDOM: steps, SEQUENTIAL: x.numel + y.numel}

    def loops(self, tally: Tally, edges: Any, x: Any) -> Any:
        import numpy as np

        y, order = np.zeros(x.shape, np.int64), np.sort(edges)
        for at in np.ndindex(x.shape):
            y[at] = sum(1 for edge in order if edge < x[at])
        return y

    def torch(self, torch: Any) -> Any:
        return lambda edges, x: torch.searchsorted(torch.sort(edges).values, x)

    def to_onnx(self, w: OnnxWriter, edges: str, x: str) -> str:
        before = w("Less", edges, w("Unsqueeze", x, w.ints(-1)))
        return w("ReduceSum", w("Cast", before, to=7), w.ints(-1), keepdims=0)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        shape = tuple(pick.size(1, 4) for _ in range(pick.int(1, 2)))
        return cls(), [Tensor((pick.size(1, 5),)), Tensor(shape)]
