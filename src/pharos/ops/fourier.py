"""Discrete Fourier transform of real or complex numbers; a complex one is a pair in the last dimension."""

from collections.abc import Sequence
from math import pi
from typing import Any

from pharos.graph.op import (
    REDUCE,
    SEQUENTIAL,
    STRIDED,
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
from pharos.quantity.sizes import Size, ceil_log2, floor_div, prod


@operator(cost="pool", aten="_fft_r2c _fft_c2c _fft_c2r", onnx="DFT")
class Fourier(Op):
    """y[..., k, :] = sum over n of x[..., n, :] exp(-2 pi i k n / N) along `dim`, as a fast transform.

    Counted as 5 N log2 N operations a complex transform of length N and half of that of a real one: the
    radix-2 algorithm. Source: Cooley and Tukey 1965, doi:10.1090/S0025-5718-1965-0178586-1.

    Args:
        dim: not the last one, which holds real and imaginary part: x[..., 1] is real, x[..., 2] complex.
        inverse: with the sign turned and divided by N.
        onesided: only the first N // 2 + 1 results, of which the others are the mirror image.
    """

    dim: int = -2
    inverse: bool = False
    onesided: bool = False

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank >= 2 and -x.rank <= self.dim < x.rank, f"has no dimension {self.dim}", x)
        at = self.dim % x.rank
        self.need(at != x.rank - 1, "runs along another dimension than that of the parts", x)
        n = floor_div(x.shape[at], 2) + 1 if self.onesided else x.shape[at]
        return x.with_shape(*x.shape[:at], n, *x.shape[at + 1 : -1], 2)

    def work(self, x: Tensor, y: Tensor) -> Work:
        n = x.shape[self.dim]
        whole = prod(x.shape[:-1]) * ceil_log2(n) * 5
        real = isinstance(x.shape[-1], int) and x.shape[-1] == 1
        scaled = y.numel if self.inverse else 0
        return Work(vector_flops=(floor_div(whole, 2) if real else whole) + scaled)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """The transform of the gradient."""
        return self.work(x, y) if wanted[0] else Work()

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved()

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        passes = x.numel * ceil_log2(x.shape[self.dim])
        return {STRIDED: passes, SEQUENTIAL: x.numel + y.numel, REDUCE: passes}

    def parallelism(self, x: Tensor, y: Tensor) -> Parallelism:
        return Parallelism(width=y.numel, tree=ceil_log2(x.shape[self.dim]))

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        values = x[..., 0] + (1j * x[..., 1] if x.shape[-1] == 2 else 0)
        moved = np.moveaxis(values, self.dim % x.ndim, -1)
        n, sign = moved.shape[-1], 1 if self.inverse else -1
        kept = n // 2 + 1 if self.onesided else n
        total = np.zeros((*moved.shape[:-1], kept), complex)
        for k in range(kept):
            for i in range(n):
                total[..., k] += moved[..., i] * np.exp(sign * 2j * pi * k * i / n)
        y: Any = np.moveaxis(total / n if self.inverse else total, -1, self.dim % x.ndim)
        return np.stack([y.real, y.imag], -1)

    def torch(self, torch: Any) -> Any:
        def transform(x: Any) -> Any:
            at = self.dim % x.dim()
            pairs = x if x.shape[-1] == 2 else torch.cat([x, torch.zeros_like(x)], -1)
            values = torch.view_as_complex(pairs.contiguous())
            y = (torch.fft.ifft if self.inverse else torch.fft.fft)(values, dim=at)
            if self.onesided:
                y = y.narrow(at, 0, x.shape[at] // 2 + 1)
            return torch.view_as_real(y)

        return transform

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        import numpy as np

        axis = w.table(np.array(self.dim, np.int64))
        return w("DFT", x, "", axis, inverse=int(self.inverse), onesided=int(self.onesided))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        real = pick.choice([True, False])
        shape = (pick.size(1, 2), pick.size(2, 6), pick.size(1, 3), 1 if real else 2)
        return cls(1, not real and pick.choice([True, False]), real and pick.choice([True, False])), [
            Tensor(shape)
        ]
