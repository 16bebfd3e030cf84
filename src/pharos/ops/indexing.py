"""Reading and writing by index: gathers, scatters, one-hot rows, places of what is not zero."""

from collections.abc import Sequence
from typing import Any

from pharos.graph.op import (
    GATHER,
    RANDOM,
    SCATTER,
    SEQUENTIAL,
    OnnxWriter,
    Op,
    Picker,
    Saved,
    Tally,
    Traffic,
    Work,
    operator,
)
from pharos.graph.tensor import ACTIVATIONS, Tensor
from pharos.quantity.errors import unknown
from pharos.quantity.sizes import Size, is_int, prod

REDUCTIONS = {"none": "", "add": "add", "mul": "mul", "max": "max", "min": "min"}
TORCH_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _whole(op: Op, index: Tensor, *tensors: Tensor) -> None:
    op.need(index.dtype.startswith("int"), f"needs integer indices, not {index.dtype}", *tensors)


class _Gather(Op):
    """Reads elements of its first input where its second says; no arithmetic."""

    __slots__ = ()

    def traffic(self, node: Any) -> Traffic:
        # what is gathered is read once for each place it goes to
        return Traffic(inputs=sum(t.nbytes for t in node.ins), outputs=node.outs[0].nbytes)

    def gradient(self, wanted: Sequence[bool], x: Tensor, index: Tensor, y: Tensor) -> Work:
        """Every gradient is added where its element came from."""
        return Work(vector_flops=y.numel if wanted[0] else 0)

    def saved(self, x: Tensor, index: Tensor, y: Tensor) -> Saved:
        return Saved(inputs=(1,))

    def primitives(self, x: Tensor, index: Tensor, y: Tensor) -> dict[str, Size]:
        return {GATHER: y.numel, RANDOM: y.numel, SEQUENTIAL: index.numel + y.numel}


@operator(cost="gather", aten="index_select index", onnx="Gather")
class Take(_Gather):
    """y[..., i..., ...] = x[..., index[i...], ...] along `dim`: slices in the order of an index."""

    dim: int = 0

    def shape(self, x: Tensor, index: Tensor) -> Tensor:
        self.need(-x.rank <= self.dim < x.rank, f"has no dimension {self.dim}", x, index)
        _whole(self, index, x, index)
        at = self.dim % x.rank
        return x.with_shape(*x.shape[:at], *index.shape, *x.shape[at + 1 :])

    def loops(self, tally: Tally, x: Any, index: Any) -> Any:
        import numpy as np

        at = self.dim % x.ndim
        y = np.empty((*x.shape[:at], *index.shape, *x.shape[at + 1 :]), x.dtype)
        before = (slice(None),) * at
        for i in np.ndindex(index.shape):
            y[(*before, *i)] = x[(*before, index[i])]
        return y

    def torch(self, torch: Any) -> Any:
        def take(x: Any, index: Any) -> Any:
            at = self.dim % x.dim()
            index = torch.where(index < 0, index + x.shape[at], index)
            y = torch.index_select(x, at, index.reshape(-1))
            return y.reshape(*x.shape[:at], *index.shape, *x.shape[at + 1 :])

        return take

    def to_onnx(self, w: OnnxWriter, x: str, index: str) -> str:
        return w("Gather", x, index, axis=self.dim)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        shape = tuple(pick.size(4, 5) for _ in range(pick.int(1, 3)))
        index = tuple(pick.size(1, 3) for _ in range(pick.int(1, 2)))
        return cls(pick.choice([0, -1])), [Tensor(shape), Tensor(index, "int64")]


@operator(cost="gather", aten="gather take_along_dim", onnx="GatherElements")
class TakeAlong(_Gather):
    """y[i, j, k] = x[index[i, j, k], j, k] (for `dim` 0): an index for every output."""

    dim: int = 0

    def shape(self, x: Tensor, index: Tensor) -> Tensor:
        self.need(-x.rank <= self.dim < x.rank, f"has no dimension {self.dim}", x, index)
        self.need(x.rank == index.rank, "needs an index of the same rank", x, index)
        _whole(self, index, x, index)
        return x.with_shape(*index.shape)

    def loops(self, tally: Tally, x: Any, index: Any) -> Any:
        import numpy as np

        y = np.empty(index.shape, x.dtype)
        for at in np.ndindex(index.shape):
            source = list(at)
            source[self.dim] = index[at]
            y[at] = x[tuple(source)]
        return y

    def torch(self, torch: Any) -> Any:
        def take(x: Any, index: Any) -> Any:
            return torch.gather(x, self.dim, torch.where(index < 0, index + x.shape[self.dim], index))

        return take

    def to_onnx(self, w: OnnxWriter, x: str, index: str) -> str:
        return w("GatherElements", x, index, axis=self.dim)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        n, other, rows = pick.size(4, 5), pick.size(1, 3), pick.size(1, 3)
        first = pick.choice([True, False])
        shapes = ((n, other), (rows, other)) if first else ((other, n), (other, rows))
        return cls(0 if first else -1), [Tensor(shapes[0]), Tensor(shapes[1], "int64")]


@operator(cost="gather", onnx="GatherND")
class GatherND(_Gather):
    """y[b..., i..., :] = x[b..., index[b..., i..., 0], ..., index[b..., i..., n - 1], :].

    Args:
        batch_dims: leading dimensions that x and index share.
    """

    batch_dims: int = 0

    def shape(self, x: Tensor, index: Tensor) -> Tensor:
        self.need(index.rank >= 1 and x.rank >= 1, "needs inputs of rank 1 or more", x, index)
        _whole(self, index, x, index)
        n, b = index.shape[-1], self.batch_dims
        self.need(
            is_int(n) and 0 <= b < min(x.rank, index.rank) and b + n <= x.rank,
            "has too many indices",
            x,
            index,
        )
        return x.with_shape(*index.shape[:-1], *x.shape[b + n :])

    def loops(self, tally: Tally, x: Any, index: Any) -> Any:
        import numpy as np

        y = np.empty(self.shape(Tensor(x.shape), Tensor(index.shape, "int64")).shape, x.dtype)
        for at in np.ndindex(index.shape[:-1]):
            y[at] = x[(*at[: self.batch_dims], *index[at])]
        return y

    def torch(self, torch: Any) -> Any:
        def gather(x: Any, index: Any) -> Any:
            b, lead = self.batch_dims, index.shape[:-1]
            grids = [
                torch.arange(lead[i]).reshape([-1 if j == i else 1 for j in range(len(lead))])
                for i in range(b)
            ]
            return x[(*grids, *index.unbind(-1))]

        return gather

    def to_onnx(self, w: OnnxWriter, x: str, index: str) -> str:
        return w("GatherND", x, index, batch_dims=self.batch_dims)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        b, n = pick.int(0, 1), pick.int(1, 2)
        batch = [pick.size(1, 3)][:b]
        x = (*batch, *[pick.size(4, 5) for _ in range(2)], pick.size(1, 2))
        return cls(b), [Tensor(x), Tensor((*batch, pick.size(1, 3), n), "int64")]


class _Scatter(Op):
    """Writes its third input into a copy of its first where its second says."""

    __slots__ = ()
    reduction: str

    def __post_init__(self) -> None:
        if self.reduction not in REDUCTIONS:
            raise unknown("reduction", str(self.reduction), REDUCTIONS)

    def work(self, x: Tensor, index: Tensor, updates: Tensor, y: Tensor) -> Work:
        return Work(vector_flops=0 if self.reduction == "none" else updates.numel)

    def gradient(self, wanted: Sequence[bool], x: Tensor, index: Tensor, updates: Tensor, y: Tensor) -> Work:
        """What was overwritten has none; a factor or an extreme decides an element each."""
        if self.reduction in ("none", "add") or not any(wanted):
            return Work()
        return Work(vector_flops=2 * updates.numel)

    def saved(self, x: Tensor, index: Tensor, updates: Tensor, y: Tensor) -> Saved:
        if self.reduction in ("none", "add"):
            return Saved(inputs=(1,))
        return Saved((0, 1, 2), () if self.reduction == "mul" else (0,))

    def primitives(self, x: Tensor, index: Tensor, updates: Tensor, y: Tensor) -> dict[str, Size]:
        moved = updates.numel
        return {SCATTER: moved, RANDOM: moved, SEQUENTIAL: x.numel + index.numel + moved + y.numel}

    def _write(self, y: Any, at: Any, value: Any) -> None:
        import numpy as np

        joined = {
            "none": lambda a, b: b,
            "add": np.add,
            "mul": np.multiply,
            "max": np.maximum,
            "min": np.minimum,
        }
        y[at] = joined[self.reduction](y[at], value)


@operator(cost="gather", aten="scatter scatter_add scatter_reduce", onnx="ScatterElements Scatter")
class ScatterElements(_Scatter):
    """y = x, but y[index[i, j, k], j, k] = updates[i, j, k] (for `dim` 0), or combined with what is there."""

    dim: int = 0
    reduction: str = "none"

    def shape(self, x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
        given = (x, index, updates)
        self.need(-x.rank <= self.dim < x.rank, f"has no dimension {self.dim}", *given)
        self.need(x.rank == index.rank == updates.rank, "needs tensors of one rank", *given)
        _whole(self, index, *given)
        for i in range(index.rank):
            self.match(updates.shape[i], index.shape[i], "updates as the index,", *given)
        return x

    def loops(self, tally: Tally, x: Any, index: Any, updates: Any) -> Any:
        import numpy as np

        y = x.copy()
        for at in np.ndindex(index.shape):
            place = list(at)
            place[self.dim] = index[at]
            self._write(y, tuple(place), updates[at])
        return y

    def torch(self, torch: Any) -> Any:
        def scatter(x: Any, index: Any, updates: Any) -> Any:
            index = torch.where(index < 0, index + x.shape[self.dim], index)
            if self.reduction == "none":
                return torch.scatter(x, self.dim, index, updates)
            if self.reduction == "add":
                return torch.scatter_add(x, self.dim, index, updates)
            return torch.scatter_reduce(x, self.dim, index, updates, TORCH_REDUCTIONS[self.reduction])

        return scatter

    def to_onnx(self, w: OnnxWriter, *inputs: str) -> str:
        return w("ScatterElements", *inputs, axis=self.dim, reduction=self.reduction)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        n, other, rows = pick.size(4, 5), pick.size(1, 3), pick.size(1, 3)
        index = Tensor((rows, other), "int64")
        return cls(0, pick.choice(list(REDUCTIONS))), [Tensor((n, other)), index, Tensor((rows, other))]


@operator(cost="gather", aten="index_put", onnx="ScatterND")
class ScatterND(_Scatter):
    """y = x, but y[index[i..., 0], ..., index[i..., n - 1], :] = updates[i..., :], or combined."""

    reduction: str = "none"

    def shape(self, x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
        given = (x, index, updates)
        self.need(x.rank >= 1 and index.rank >= 1, "needs inputs of rank 1 or more", *given)
        _whole(self, index, *given)
        n = index.shape[-1]
        self.need(is_int(n) and n <= x.rank, "has too many indices", *given)
        wanted = (*index.shape[:-1], *x.shape[n:])
        self.need(updates.rank == len(wanted), f"needs updates of rank {len(wanted)}", *given)
        for got, want in zip(updates.shape, wanted, strict=True):
            self.match(got, want, "size of the updates", *given)
        return x

    def loops(self, tally: Tally, x: Any, index: Any, updates: Any) -> Any:
        import numpy as np

        y = x.copy()
        for at in np.ndindex(index.shape[:-1]):
            self._write(y, tuple(index[at]), updates[at])
        return y

    def torch(self, torch: Any) -> Any:
        def scatter(x: Any, index: Any, updates: Any) -> Any:
            if self.reduction in ("none", "add"):
                return torch.index_put(x, index.unbind(-1), updates, accumulate=self.reduction == "add")
            # slices one after another, as rows of the flat memory
            n = index.shape[-1]
            rows = prod(x.shape[:n])
            flat, place = x.reshape(rows, -1), torch.zeros(index.shape[:-1], dtype=torch.long)
            for i, size in enumerate(x.shape[:n]):
                place = place * size + torch.where(index[..., i] < 0, index[..., i] + size, index[..., i])
            each = place.reshape(-1, 1).expand(-1, flat.shape[1])
            kind = TORCH_REDUCTIONS[self.reduction]
            return torch.scatter_reduce(flat, 0, each, updates.reshape(each.shape), kind).reshape(x.shape)

        return scatter

    def saved(self, x: Tensor, index: Tensor, updates: Tensor, y: Tensor) -> Saved:
        if self.reduction in ("none", "add"):
            return Saved(inputs=(1,))
        places = Tensor(index.shape[:-1], "int64")
        return Saved((0, 2), () if self.reduction == "mul" else (0,), {"places": places})

    def to_onnx(self, w: OnnxWriter, *inputs: str) -> str:
        return w("ScatterND", *inputs, reduction=self.reduction)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        n, x = pick.int(1, 2), (pick.size(4, 5), pick.size(4, 5), pick.size(1, 2))
        rows = pick.size(1, 3)
        updates = (rows, *x[n:])
        return cls(pick.choice(list(REDUCTIONS))), [Tensor(x), Tensor((rows, n), "int64"), Tensor(updates)]


@operator(cost="gather", aten="one_hot", onnx="OneHot")
class OneHot(Op):
    """y[..., c] = `on` where x[...] is c, `off` elsewhere; one comparison an output.

    Args:
        dim: where the classes stand in y.
        dtype: of y.
    """

    classes: Size
    dim: int = -1
    on: float = 1.0
    off: float = 0.0
    dtype: str = ACTIVATIONS

    def shape(self, x: Tensor) -> Tensor:
        self.need(-x.rank - 1 <= self.dim <= x.rank, f"has no dimension {self.dim}", x)
        at = self.dim % (x.rank + 1)
        return Tensor((*x.shape[:at], self.classes, *x.shape[at:]), self.dtype)

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(vector_flops=y.numel)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """None: classes are whole numbers."""
        return Work()

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved()

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        return {SEQUENTIAL: x.numel + y.numel, SCATTER: x.numel}

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        y = np.full((*x.shape, self.classes), self.off)
        for at in np.ndindex(x.shape):
            if -self.classes <= x[at] < self.classes:
                y[(*at, x[at])] = self.on
        return np.moveaxis(y, -1, self.dim)

    def torch(self, torch: Any) -> Any:
        def spread(x: Any) -> Any:
            classes = torch.arange(self.classes).reshape([-1] + [1] * (x.dim() - self.dim % (x.dim() + 1)))
            inside = torch.where(x < 0, x + self.classes, x).unsqueeze(self.dim)
            return torch.where(inside == classes, self.on, self.off).to(torch.get_default_dtype())

        return spread

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        import numpy as np

        values = w.table(np.array([self.off, self.on], np.float32))
        return w("OneHot", x, w.table(np.array(int(self.classes), np.int64)), values, axis=self.dim)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        shape = tuple(pick.size(1, 3) for _ in range(pick.int(1, 2)))
        return cls(pick.size(4, 6), pick.choice([-1, 0, 1]), 2.0, -1.0), [Tensor(shape, "int64")]


@operator(cost="gather", aten="nonzero nonzero_static", onnx="NonZero")
class NonZero(Op):
    """y[:, n] = where the n-th element of x that is not zero stands; at most all of them.

    How many there are depends on the data: y has room for all, rows beyond are -1. One comparison an input.
    """

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank >= 1, "needs an input of rank 1 or more", x)
        return Tensor((x.rank, x.numel), "int64")

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(vector_flops=x.numel)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """None: places are whole numbers."""
        return Work()

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved()

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        y, n = np.full((x.ndim, x.size), -1, np.int64), 0
        for at in np.ndindex(x.shape):
            if x[at] != 0:
                y[:, n], n = at, n + 1
        return y

    def torch(self, torch: Any) -> Any:
        return lambda x: torch.nonzero_static(x, size=x.numel()).T

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        import numpy as np

        rank, room = w.node.outs[0].shape
        padded = w("Concat", w("NonZero", x), w.table(np.full((rank, room), -1, np.int64)), axis=1)
        return w("Slice", padded, w.ints(0), w.ints(room), w.ints(1))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        shape = tuple(pick.size(1, 4) for _ in range(pick.int(1, 3)))
        return cls(), [Tensor(shape, pick.choice(["int64", "bool", "fp32"]))]
