"""Local response normalisation: each channel divided by what its neighbours answer."""

from collections.abc import Sequence
from typing import Any

from pharos.graph.op import REDUCE, SEQUENTIAL, OnnxWriter, Op, Picker, Saved, Tally, Work, operator
from pharos.graph.tensor import Tensor


@operator(cost="norm", aten="local_response_norm", onnx="LRN")
class LocalResponseNorm(Op):
    """y_c = x_c / (k + alpha / size * sum of x_j^2 over `size` channels around c)^beta of x[B, C, ...].

    Per element a square, size - 1 additions, a product and a sum, then a power and a division.
    Source: Krizhevsky, Sutskever and Hinton 2012, section 3.3; alpha is divided by size, as in the
    frameworks that came after it.
    """

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise self.refuse("needs a size of 1 or more")

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank >= 3, "needs an input of rank 3 or more", x)
        return x

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(vector_flops=(self.size + 2) * x.numel, transcendentals=2 * x.numel)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """dx = dy / base^beta - 2 alpha beta / size * x * sum over neighbours of dy y / base."""
        if not wanted[0]:
            return Work()
        return Work(vector_flops=(self.size + 2 + self.size + 4) * x.numel, transcendentals=3 * x.numel)

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved((0,), (0,))

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        return {SEQUENTIAL: 2 * x.numel, REDUCE: self.size * x.numel}

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        y, before = np.empty_like(x), self.size // 2
        for b, c in np.ndindex(*x.shape[:2]):
            total = np.zeros(x.shape[2:])
            for j in range(c - before, c - before + self.size):
                if 0 <= j < x.shape[1]:
                    total += x[b, j] ** 2
            y[b, c] = x[b, c] / (self.k + self.alpha / self.size * total) ** self.beta
        return y

    def torch(self, torch: Any) -> Any:
        return torch.nn.LocalResponseNorm(self.size, self.alpha, self.beta, self.k)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        shape = w.node.ins[0].shape
        fields = {"size": self.size, "alpha": self.alpha, "beta": self.beta, "bias": self.k}
        if len(shape) == 4:
            return w("LRN", x, **fields)
        flat = w("Reshape", x, w.ints(*shape[:2], -1, 1))
        return w("Reshape", w("LRN", flat, **fields), w.ints(*shape))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        # an odd size has as many neighbours on each side, in every framework
        op = cls(pick.choice([1, 3, 5]), 0.5, pick.choice([0.5, 0.75]), 2.0)
        return op, [Tensor((pick.size(1, 2), pick.size(1, 6), pick.size(1, 3)))]
