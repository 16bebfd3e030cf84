"""Cache: rows kept from one call to the next, for what attention itself does not keep."""

from typing import Any

from pharos.graph.op import OnnxWriter, Op, Picker, Saved, Tally, Traffic, Work, operator
from pharos.graph.tensor import ACTIVATIONS, Tensor
from pharos.ops.compare import scalar_onnx
from pharos.quantity.dtypes import nbytes
from pharos.quantity.sizes import Size, ceil_div


@operator(cost="copy")
class Cache(Op):
    """y[B, H, cached + T, d] = the cached rows, then x[B, H, T, d]; y is what the next call finds.

    Without cached rows x is written once, into the cache, which is y; with some they are read and
    written again, as a concatenation does.

    Args:
        cached: rows kept from earlier calls.
        page: the cache is handed out in pages of so many rows.
    """

    cached: Size = 0
    page: int = 1
    state_precision = "kv_cache"

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank == 4, "needs an input of rank 4", x)
        return x.with_shape(x.shape[0], x.shape[1], self.cached + x.shape[2], x.shape[3])

    def state(self, x: Tensor, *out: Tensor) -> dict[str, tuple[Size, ...]]:
        batch, heads, held, width = self.shape(x).shape
        return {"k": (batch, heads, held if self.page == 1 else self.page * ceil_div(held, self.page), width)}

    def traffic(self, node: Any) -> Traffic:
        x, y = node.ins[0], node.outs[0]
        held = x.shape[0] * x.shape[1] * self.cached * x.shape[3]
        return Traffic(inputs=x.nbytes, outputs=y.nbytes, state=nbytes(held, node.state["k"].dtype))

    def gradient(self, wanted: Any, *io: Tensor) -> Work:
        return Work()

    def saved(self, *io: Tensor) -> Saved:
        return Saved()

    def loops(self, tally: Tally, x: Any, *, past_k: Any = None) -> Any:
        import numpy as np

        return x.copy() if past_k is None else np.concatenate([past_k, x], 2)

    def torch(self, torch: Any) -> Any:
        def extend(x: Any, state: Any = None, past_k: Any = None) -> Any:
            past_k = state["k"] if state else past_k
            rows = x if past_k is None else torch.cat([past_k, x], 2)
            if state is not None:
                state["k"] = rows
            return rows

        return extend

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        if not w.node.state:
            return x
        given, made = w.node.ins[0], w.node.outs[0]
        if self.cached:
            old = (*given.shape[:2], self.cached, given.shape[3])
            x = w("Concat", w.past("k", old), x, axis=2)
        w.present("k", x, made.shape)
        return x

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        cached: Size = pick.size(1, 4) if pick.choice([True, False]) else 0
        return cls(cached, pick.choice([1, 4])), [
            Tensor((pick.size(1, 2), pick.size(1, 2), pick.size(1, 4), pick.size(1, 3)))
        ]


@operator(cost="view")
class Recall(Op):
    """y[B, H, cached, d] = what a `Cache` of the same name holds from an earlier call; it adds nothing.

    Its reader moves the bytes: a decoder reads the keys and values of its encoder's tokens at every
    step, and makes them only once.
    """

    batch: Size
    heads: Size
    cached: Size
    width: Size
    state_precision = "kv_cache"

    def shape(self, *inputs: Tensor) -> Tensor:
        self.need(not inputs, "takes no input", *inputs)
        return Tensor((self.batch, self.heads, self.cached, self.width), ACTIVATIONS)

    def state(self, *io: Tensor) -> dict[str, tuple[Size, ...]]:
        return {"k": (self.batch, self.heads, self.cached, self.width)}

    def traffic(self, node: Any) -> Traffic:
        return Traffic()

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        return {}

    def gradient(self, wanted: Any, *io: Tensor) -> Work:
        return Work()

    def saved(self, *io: Tensor) -> Saved:
        return Saved()

    def loops(self, tally: Tally, *, past_k: Any) -> Any:
        return past_k

    def torch(self, torch: Any) -> Any:
        def recall(state: Any = None, past_k: Any = None) -> Any:
            return state["k"] if state else past_k

        return recall

    def to_onnx(self, w: OnnxWriter, *inputs: str) -> str:
        return w.past("k", (self.batch, self.heads, self.cached, self.width))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        return cls(pick.size(1, 2), pick.size(1, 2), pick.size(1, 4), pick.size(1, 3)), []


@operator(cost="view")
class Past(Op):
    """y = a tensor that an earlier call kept, zeros where there was none; its reader moves the bytes.

    How large the state is says the `Kept` or `KeptState` that takes its place.
    """

    size: tuple[Size, ...]
    dtype: str = ACTIVATIONS

    def shape(self, *inputs: Tensor) -> Tensor:
        self.need(not inputs, "takes no input", *inputs)
        return Tensor(self.size, self.dtype)

    def traffic(self, node: Any) -> Traffic:
        return Traffic()

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        return {}

    def gradient(self, wanted: Any, *io: Tensor) -> Work:
        return Work()

    def saved(self, *io: Tensor) -> Saved:
        return Saved()

    def loops(self, tally: Tally) -> Any:
        import numpy as np

        return np.zeros(self.size)

    def torch(self, torch: Any) -> Any:
        return lambda: torch.zeros(self.size)

    def to_onnx(self, w: OnnxWriter) -> str:
        return w("Expand", scalar_onnx(w, w.node.outs[0], 0.0), w.ints(*self.size))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        return cls((pick.size(1, 3), pick.size(1, 4))), []


class _Kept(Op):
    """y = x, which is kept for the next call; who made it has written it."""

    def shape(self, x: Tensor) -> Tensor:
        return x

    def state(self, x: Tensor, *out: Tensor) -> dict[str, tuple[Size, ...]]:
        return {"x": x.shape}

    def traffic(self, node: Any) -> Traffic:
        return Traffic()

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        return {}

    def gradient(self, wanted: Any, *io: Tensor) -> Work:
        return Work()

    def saved(self, *io: Tensor) -> Saved:
        return Saved()

    def loops(self, tally: Tally, x: Any, **_: Any) -> Any:
        return x

    def torch(self, torch: Any) -> Any:
        return lambda x, state=None, past_x=None: x

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        return w("Identity", x)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        return cls(), [Tensor((pick.size(1, 3), pick.size(1, 4)))]


@operator(cost="view")
class Kept(_Kept):
    """y = x: keys or values as a call leaves them for the next one."""

    state_precision = "kv_cache"


@operator(cost="view")
class KeptState(_Kept):
    """y = x: a recurrent state as a call leaves it for the next one."""
