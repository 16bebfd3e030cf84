"""Views by strides: any part of a tensor in memory order, and a tensor with such a part written over."""

from collections.abc import Sequence
from typing import Any

from pharos.graph.op import STRIDED, Op, Picker, Saved, Tally, Traffic, Work, operator
from pharos.graph.tensor import Tensor
from pharos.quantity.sizes import Size, is_int, prod


def _strided(np: Any, x: Any, size: Any, stride: Any, offset: int) -> Any:
    flat = np.ascontiguousarray(x).reshape(-1)
    steps = tuple(s * flat.itemsize for s in stride)
    return np.lib.stride_tricks.as_strided(flat[offset:], size, steps, writeable=False)


def _inside(op: Any, x: Tensor) -> None:
    op.need(len(op.size) == len(op.stride), "needs a stride for every size", x)
    last = op.offset + sum((s - 1) * step for s, step in zip(op.size, op.stride, strict=True))
    if is_int(last) and is_int(x.numel) and last >= x.numel:
        raise op.refuse(f"reaches element {last}", x)


@operator(cost="view", aten="as_strided")
class StridedView(Op):
    """y[i, j, ...] = flat(x)[offset + i stride_0 + j stride_1 + ...]; moves nothing.

    Args:
        size, stride: of y, in elements.
        offset: of its first element.
    """

    size: tuple[Size, ...]
    stride: tuple[Size, ...]
    offset: Size = 0

    def shape(self, x: Tensor) -> Tensor:
        _inside(self, x)
        return x.with_shape(*self.size)

    def traffic(self, node: Any) -> Traffic:
        return Traffic()

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        return {}

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """Elements that are seen twice add up."""
        return Work(vector_flops=y.numel if wanted[0] else 0)

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved()

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        return _strided(np, x, self.size, self.stride, self.offset)

    def torch(self, torch: Any) -> Any:
        return lambda x: x.contiguous().as_strided(self.size, self.stride, self.offset)

    def to_onnx(self, w: Any, x: str) -> str:
        import numpy as np

        count = int(prod(w.node.ins[0].shape))
        at = _strided(np, np.arange(count), self.size, self.stride, self.offset)
        return w("Gather", w("Reshape", x, w.ints(-1)), w.table(np.array(at)))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        rows, columns = pick.int(2, 4), pick.int(2, 4)
        forms = [((rows,), (columns,), 1), ((columns, rows), (1, columns), 0), ((2, 2), (columns, 1), 0)]
        return cls(*pick.choice(forms)), [Tensor((rows, columns))]


@operator(cost="copy")
class Overwrite(Op):
    """x with the elements that a `StridedView` shows exchanged for those of `part`; copies the part.

    The whole is handed on in place, as PyTorch writes into a view.

    Args:
        size, stride, offset: which elements, see `StridedView`; each once.
    """

    size: tuple[Size, ...]
    stride: tuple[Size, ...]
    offset: Size = 0

    def shape(self, x: Tensor, part: Tensor) -> Tensor:
        _inside(self, x)
        return x

    def traffic(self, node: Any) -> Traffic:
        part = node.ins[1].nbytes
        return Traffic(inputs=part, outputs=part)

    def primitives(self, x: Tensor, part: Tensor, y: Tensor) -> dict[str, Size]:
        return {STRIDED: 2 * part.numel}

    def gradient(self, wanted: Sequence[bool], x: Tensor, part: Tensor, y: Tensor) -> Work:
        return Work()

    def saved(self, x: Tensor, part: Tensor, y: Tensor) -> Saved:
        return Saved()

    def loops(self, tally: Tally, x: Any, part: Any) -> Any:
        import numpy as np

        y = np.array(x).reshape(-1)
        for at in np.ndindex(*self.size):
            y[self.offset + sum(i * s for i, s in zip(at, self.stride, strict=True))] = np.broadcast_to(
                part, self.size
            )[at]
        return y.reshape(x.shape)

    def torch(self, torch: Any) -> Any:
        def call(x: Any, part: Any) -> Any:
            y = x.clone(memory_format=torch.contiguous_format)
            y.as_strided(self.size, self.stride, self.offset).copy_(part)
            return y

        return call

    def to_onnx(self, w: Any, x: str, part: str) -> str:
        import numpy as np

        whole, shape = w.node.ins[0].shape, w.node.ins[1].shape
        count = int(prod(whole))
        at = _strided(np, np.arange(count), self.size, self.stride, self.offset)
        if tuple(shape) != tuple(self.size):
            part = w("Expand", part, w.ints(*self.size))
        flat = w("Reshape", x, w.ints(-1))
        rows = w(
            "ScatterElements", flat, w.table(np.array(at).reshape(-1)), w("Reshape", part, w.ints(-1)), axis=0
        )
        return w("Reshape", rows, w.ints(*whole))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        rows, columns = pick.int(2, 4), pick.int(2, 4)
        forms = [((rows,), (columns,), 1), ((columns, rows), (1, columns), 0), ((2, 2), (columns, 1), 0)]
        size, stride, offset = pick.choice(forms)
        return cls(size, stride, offset), [Tensor((rows, columns)), Tensor(size)]
