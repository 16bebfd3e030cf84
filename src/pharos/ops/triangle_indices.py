"""Indices of a triangle's elements, as interactions of pairs pick them from a matrix."""

from typing import Any

from pharos.graph.op import SEQUENTIAL, OnnxWriter, Op, Picker, Tally, Work, operator
from pharos.graph.tensor import Tensor
from pharos.ops.copies import _Made
from pharos.quantity.sizes import Size, is_int


@operator(cost="copy", aten="tril_indices triu_indices")
class TriangleIndices(_Made):
    """[2, count]: row and column of every element in the lower (or upper) triangle, row by row.

    Args:
        diagonal: the last (or first) diagonal that belongs to it; 0 is the main one.
    """

    rows: int
    columns: int
    upper: bool = False
    diagonal: int = 0

    def _held(self) -> list[tuple[int, int]]:
        return [
            (i, j)
            for i in range(self.rows)
            for j in range(self.columns)
            if (j - i >= self.diagonal if self.upper else j - i <= self.diagonal)
        ]

    def shape(self, *inputs: Tensor) -> Tensor:
        self.need(not inputs, "takes no input", *inputs)
        self.need(is_int(self.rows) and is_int(self.columns), "needs numbers for its sizes", *inputs)
        return Tensor((2, len(self._held())), "int64")

    def work(self, y: Tensor) -> Work:
        return Work(vector_flops=y.numel)

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        return {SEQUENTIAL: io[-1].numel}

    def loops(self, tally: Tally) -> Any:
        import numpy as np

        return np.array(self._held(), np.int64).reshape(-1, 2).T

    def torch(self, torch: Any) -> Any:
        made = torch.triu_indices if self.upper else torch.tril_indices
        return lambda: made(self.rows, self.columns, self.diagonal)

    def to_onnx(self, w: OnnxWriter) -> str:
        return w("Identity", w.table(self.loops(Tally())))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        return cls(pick.int(2, 4), pick.int(2, 4), pick.choice([True, False]), pick.int(-1, 1)), []
