"""Quantisation: numbers as whole ones with a scale and a zero point, and back."""

from collections.abc import Sequence
from typing import Any

from pharos.graph.op import SEQUENTIAL, Op, Picker, Saved, Tally, Work, operator
from pharos.graph.tensor import ACTIVATIONS, Tensor
from pharos.quantity.sizes import Size, is_int

RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "int4": (-8, 7), "int2": (-2, 1),
          "int32": (-(2**31), 2**31 - 1)}  # fmt: skip


class _Scaled(Op):
    """A scale and a zero point, for all numbers or for each place along `dim`."""

    __slots__ = ()
    channels: Size
    dim: int

    def buffers(self) -> dict[str, tuple[Size, ...]]:
        return {"scale": (self.channels,), "zero_point": (self.channels,)}

    def _fits(self, x: Tensor) -> None:
        if not (is_int(self.channels) and self.channels == 1):
            self.need(-x.rank <= self.dim < x.rank, f"has no dimension {self.dim}", x)
            self.match(x.shape[self.dim], self.channels, "channels", x)

    def _along(self, numbers: Any, rank: int) -> Any:
        if self.channels == 1:
            return numbers.reshape([1] * rank)
        return numbers.reshape([-1 if i == self.dim % rank else 1 for i in range(rank)])

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved()

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """None through rounding."""
        return Work()

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        return {SEQUENTIAL: x.numel + y.numel}

    def _module(self, torch: Any, apply: Any) -> Any:
        channels = self.channels

        class Scaled(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.register_buffer("scale", torch.ones(channels))
                self.register_buffer("zero_point", torch.zeros(channels))

            def forward(self, x: Any) -> Any:
                return apply(self, x)

        return Scaled()

    @classmethod
    def _drawn(cls, pick: Picker) -> tuple[Any, tuple[Size, ...]]:
        shape = (pick.size(1, 3), pick.size(1, 4), pick.size(1, 3))
        each = pick.choice([True, False])
        return (shape[1] if each else 1, 1), shape


@operator(cost="elementwise", aten="quantize_per_tensor quantize_per_channel", onnx="QuantizeLinear")
class Quantize(_Scaled):
    """y = round(x / scale) + zero_point, kept in the range of `dtype`.

    Per element a quotient, a rounding, a sum and two comparisons.
    """

    dtype: str = "int8"
    channels: Size = 1
    dim: int = 1

    def shape(self, x: Tensor) -> Tensor:
        self._fits(x)
        return Tensor(x.shape, self.dtype)

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(vector_flops=4 * y.numel, transcendentals=y.numel)

    def _range(self) -> tuple[int, int]:
        return RANGES.get(self.dtype, (-128, 127))

    def loops(self, tally: Tally, x: Any, *, scale: Any, zero_point: Any) -> Any:
        import numpy as np

        low, high = self._range()
        y = np.round(x / self._along(scale, x.ndim)) + np.trunc(self._along(zero_point, x.ndim))
        return np.clip(y, low, high).astype(np.int64)

    def torch(self, torch: Any) -> Any:
        low, high = self._range()

        def quantize(held: Any, x: Any) -> Any:
            scale, zero = self._along(held.scale, x.dim()), self._along(held.zero_point, x.dim())
            return torch.clamp(torch.round(x / scale) + torch.trunc(zero), low, high).to(torch.int64)

        return self._module(torch, quantize)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        fields, shape = cls._drawn(pick)
        return cls(pick.choice(["int8", "uint8"]), *fields), [Tensor(shape)]


@operator(cost="elementwise", aten="dequantize", onnx="DequantizeLinear")
class Dequantize(_Scaled):
    """y = (x - zero_point) scale: a difference and a product an element."""

    dtype: str = ACTIVATIONS
    channels: Size = 1
    dim: int = 1

    def shape(self, x: Tensor) -> Tensor:
        self._fits(x)
        return Tensor(x.shape, self.dtype)

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(vector_flops=2 * y.numel)

    def loops(self, tally: Tally, x: Any, *, scale: Any, zero_point: Any) -> Any:
        import numpy as np

        return (x - np.trunc(self._along(zero_point, x.ndim))) * self._along(scale, x.ndim)

    def torch(self, torch: Any) -> Any:
        def dequantize(held: Any, x: Any) -> Any:
            zero = torch.trunc(self._along(held.zero_point, x.dim()))
            return (x - zero) * self._along(held.scale, x.dim())

        return self._module(torch, dequantize)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        fields, shape = cls._drawn(pick)
        return cls(ACTIVATIONS, *fields), [Tensor(shape, "int64")]
