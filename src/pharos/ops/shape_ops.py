"""Shape operators: views that move nothing, and the few that copy."""

from collections.abc import Sequence
from typing import Any

from pharos.graph.op import SEQUENTIAL, STRIDED, OnnxWriter, Op, Picker, Saved, Tally, Traffic, Work, operator
from pharos.graph.tensor import Tensor
from pharos.quantity.sizes import (
    Size,
    ceil_div,
    floor_div,
    is_array,
    is_int,
    is_symbol,
    maximum,
    minimum,
    prod,
)


class _View(Op):
    """Another shape over the same memory: no kernel, no bytes."""

    __slots__ = ()
    # Whether it may leave elements out, or repeat them.
    cuts = True

    def traffic(self, node: Any) -> Traffic:
        return Traffic()

    def gradient(self, wanted: Sequence[bool], *io: Tensor) -> Work:
        return Work()

    def saved(self, *io: Tensor) -> Saved:
        return Saved()

    def gradient_traffic(self, wanted: Sequence[bool], node: Any) -> Traffic:
        """The gradient of a part is written into zeros of the whole; of a whole it is a view too."""
        if not wanted[0] or not self.cuts:
            return Traffic()
        return Traffic(inputs=sum(t.nbytes for t in node.outs), outputs=node.ins[0].nbytes)

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        return {}


@operator(cost="view", aten="view reshape", onnx="Reshape Squeeze Unsqueeze")
class Reshape(_View):
    """The same elements in another shape; one size may be -1."""

    target: tuple[Size, ...]
    cuts = False

    def shape(self, x: Tensor) -> Tensor:
        free = [i for i, s in enumerate(self.target) if is_int(s) and s == -1]
        self.need(len(free) <= 1, "may leave one size open (-1)", x)
        self.need(not any(is_int(s) and s < -1 for s in self.target), "has a negative size", x)
        if not free:
            given = prod(self.target)
            if is_int(given) and is_int(x.numel) and given != x.numel:
                raise self.refuse(f"holds {given} elements, not {x.numel}", x)
            return x.with_shape(*self.target)
        rest = prod([s for i, s in enumerate(self.target) if i != free[0]])
        if is_int(rest) and is_int(x.numel) and (rest == 0 or x.numel % rest):
            raise self.refuse(f"cannot spread {x.numel} elements over rows of {rest}", x)
        shape = list(self.target)
        shape[free[0]] = floor_div(x.numel, rest)
        return x.with_shape(*shape)

    def loops(self, tally: Tally, x: Any) -> Any:
        return x.reshape(self.target)

    def torch(self, torch: Any) -> Any:
        return lambda x: x.reshape(self.target)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        return w("Reshape", x, w.ints(*w.node.outs[0].shape))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        a, b, c = pick.size(1, 4), pick.size(1, 4), pick.size(1, 4)
        return cls((pick.choice([True, False]) and (a * b, c)) or (a, -1)), [Tensor((a, b, c))]


@operator(cost="view", aten="flatten", onnx="Flatten")
class Flatten(_View):
    """All dimensions from `start_dim` on become one."""

    start_dim: int = 1
    cuts = False

    def shape(self, x: Tensor) -> Tensor:
        self.need(0 <= self.start_dim < x.rank, f"needs a rank above {self.start_dim}", x)
        return x.with_shape(*x.shape[: self.start_dim], prod(x.shape[self.start_dim :]))

    def loops(self, tally: Tally, x: Any) -> Any:
        return x.reshape(*x.shape[: self.start_dim], -1)

    def torch(self, torch: Any) -> Any:
        return torch.nn.Flatten(self.start_dim)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        return w("Reshape", x, w.ints(*w.node.outs[0].shape))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        return cls(pick.int(0, 2)), [Tensor(tuple(pick.size(1, 4) for _ in range(3)))]


@operator(cost="copy", aten="permute transpose", onnx="Transpose")
class Transpose(Op):
    """Dimensions in another order.

    Args:
        dims: the order; y's dimension i is x's dims[i].
        view: the reader takes it by strides, nothing is copied (as attention kernels do with heads).
    """

    dims: tuple[int, ...]
    view: bool = False

    def shape(self, x: Tensor) -> Tensor:
        self.need(sorted(self.dims) == list(range(x.rank)), f"needs an input of rank {len(self.dims)}", x)
        return x.with_shape(*[x.shape[d] for d in self.dims])

    def class_of(self, *io: Tensor) -> str:
        return "view" if self.view else "copy"

    def traffic(self, node: Any) -> Traffic:
        if self.view:
            return Traffic()
        return Traffic(inputs=node.ins[0].nbytes, outputs=node.outs[0].nbytes)

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        return {} if self.view else {STRIDED: x.numel, SEQUENTIAL: y.numel}

    def gradient(self, wanted: Sequence[bool], *io: Tensor) -> Work:
        return Work()

    def saved(self, *io: Tensor) -> Saved:
        return Saved()

    def gradient_traffic(self, wanted: Sequence[bool], node: Any) -> Traffic:
        return self.traffic(node) if wanted[0] else Traffic()

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        y = np.empty([x.shape[d] for d in self.dims], x.dtype)
        for at in np.ndindex(y.shape):
            source = [0] * x.ndim
            for i, d in enumerate(self.dims):
                source[d] = at[i]
            y[at] = x[tuple(source)]
        return y

    def torch(self, torch: Any) -> Any:
        return lambda x: x.permute(self.dims)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        return w("Transpose", x, perm=self.dims)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        order = pick.choice([(0, 2, 1), (2, 1, 0), (1, 2, 0), (0, 1, 2)])
        return cls(order, pick.choice([True, False])), [Tensor(tuple(pick.size(1, 4) for _ in range(3)))]


@operator(cost="copy", aten="cat", onnx="Concat")
class Concat(Op):
    """Tensors joined along `dim`; the others must agree."""

    dim: int = 1

    def shape(self, *inputs: Tensor) -> Tensor:
        self.need(len(inputs) >= 1, "needs at least one tensor")
        first = inputs[0]
        self.need(-first.rank <= self.dim < first.rank, f"has no dimension {self.dim}", *inputs)
        at = self.dim % first.rank
        total: Size = 0
        for t in inputs:
            self.need(t.rank == first.rank, "needs tensors of one rank", *inputs)
            for i in range(t.rank):
                if i != at:
                    self.match(t.shape[i], first.shape[i], f"dimension {i}", *inputs)
            total = total + t.shape[at]
        return first.with_shape(*first.shape[:at], total, *first.shape[at + 1 :])

    def gradient(self, wanted: Sequence[bool], *io: Tensor) -> Work:
        return Work()

    def saved(self, *io: Tensor) -> Saved:
        return Saved()

    def loops(self, tally: Tally, *arrays: Any) -> Any:
        import numpy as np

        return np.concatenate(arrays, self.dim)

    def torch(self, torch: Any) -> Any:
        return lambda *tensors: torch.cat(tensors, self.dim)

    def to_onnx(self, w: OnnxWriter, *inputs: str) -> str:
        return w("Concat", *inputs, axis=self.dim)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        a, c = pick.size(1, 3), pick.size(1, 3)
        return cls(pick.choice([1, -2])), [Tensor((a, pick.size(1, 3), c)) for _ in range(pick.int(1, 3))]


def _edge(edge: Size, n: Size) -> Size:
    """Where an edge of a slice falls on n elements."""
    if is_symbol(edge) or (is_int(edge) and edge == 0):
        return edge
    return maximum(n + edge, 0) if is_int(edge) and edge < 0 else minimum(edge, n)


@operator(cost="view", aten="slice", onnx="Slice")
class Slice(_View):
    """x[..., start:stop:step, ...] along `dim`; stop None means to the end.

    Negative numbers count from the end and numbers beyond it mean the end, as Python's do; a symbol
    is taken to lie inside.
    """

    dim: int
    start: Size = 0
    stop: Size | None = None
    step: int = 1

    def __post_init__(self) -> None:
        self.need(self.step >= 1, "needs a step of 1 or more")

    def shape(self, x: Tensor) -> Tensor:
        self.need(-x.rank <= self.dim < x.rank, f"has no dimension {self.dim}", x)
        at = self.dim % x.rank
        n = x.shape[at]
        start, stop = _edge(self.start, n), n if self.stop is None else _edge(self.stop, n)
        length = stop - start if self.step == 1 else ceil_div(stop - start, self.step)
        if not is_symbol(length):
            some = (length > 0).all() if is_array(length) else length > 0
            self.need(bool(some), f"leaves nothing of dimension {self.dim}", x)
        return x.with_shape(*x.shape[:at], length, *x.shape[at + 1 :])

    def loops(self, tally: Tally, x: Any) -> Any:
        index = [slice(None)] * x.ndim
        index[self.dim] = slice(self.start, self.stop, self.step)
        return x[tuple(index)]

    def torch(self, torch: Any) -> Any:
        return lambda x: self.loops(Tally(), x)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        stop = w.node.ins[0].shape[self.dim] if self.stop is None else self.stop
        return w("Slice", x, w.ints(self.start), w.ints(stop), w.ints(self.dim), w.ints(self.step))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        start, kept = pick.int(0, 2), pick.int(1, 3)
        forms = [(start, start + kept), (start, -1), (start, None), (start, 9), (-kept, None)]
        begin, stop = pick.choice(forms)
        return cls(1, begin, stop, pick.int(1, 2)), [Tensor((pick.size(1, 3), pick.size(5, 7)))]


@operator(cost="view", aten="split split_with_sizes chunk", onnx="Split")
class Split(_View):
    """Consecutive parts along `dim`, of the given sizes."""

    sizes: tuple[Size, ...]
    dim: int = -1

    def shape(self, x: Tensor) -> tuple[Tensor, ...]:
        self.need(-x.rank <= self.dim < x.rank, f"has no dimension {self.dim}", x)
        self.need(not any(is_int(s) and s < 0 for s in self.sizes), "has a negative size", x)
        at = self.dim % x.rank
        total: Size = 0
        for s in self.sizes:
            total = total + s
        self.match(x.shape[at], total, f"dimension {self.dim} of", x)
        return tuple(x.with_shape(*x.shape[:at], s, *x.shape[at + 1 :]) for s in self.sizes)

    def loops(self, tally: Tally, x: Any) -> Any:
        parts, start = [], 0
        for s in self.sizes:
            parts.append(x.take(range(start, start + s), axis=self.dim))
            start += s
        return tuple(parts)

    def torch(self, torch: Any) -> Any:
        return lambda x: torch.split(x, list(self.sizes), self.dim)

    def to_onnx(self, w: OnnxWriter, x: str) -> list[str]:
        made = w("Split", x, w.ints(*self.sizes), outputs=len(self.sizes), axis=self.dim)
        return [made] if isinstance(made, str) else made

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        sizes = tuple(pick.size(1, 3) for _ in range(pick.int(1, 3)))
        return cls(sizes, pick.choice([1, -1])), [Tensor((pick.size(1, 3), sum(sizes)))]


@operator(cost="view", aten="expand", onnx="Expand")
class Expand(_View):
    """Dimensions of size 1 repeated to `target`; read in place by its consumers."""

    target: tuple[Size, ...]

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank <= len(self.target), f"cannot lose dimensions of {self.target}", x)
        lead = len(self.target) - x.rank
        for have, want in zip(x.shape, self.target[lead:], strict=True):
            if not (is_int(have) and have == 1):
                self.match(have, want, "size", x)
        return x.with_shape(*self.target)

    def gradient(self, wanted: Sequence[bool], *io: Tensor) -> Work:
        """Copies are summed up again."""
        return Work(vector_flops=io[1].numel - io[0].numel if wanted[0] else 0)

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        return np.broadcast_to(x, self.target)

    def torch(self, torch: Any) -> Any:
        return lambda x: x.expand(self.target)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        return w("Expand", x, w.ints(*self.target))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        a, b = pick.size(1, 3), pick.size(1, 3)
        return cls((pick.size(1, 3), a, b)), [Tensor((1, b) if pick.choice([True, False]) else (a, b))]
