"""Cache: rows kept from one call to the next, for what attention itself does not keep."""

from typing import Any

from pharos.graph.op import Op, Picker, Saved, Tally, Traffic, Work, operator
from pharos.graph.tensor import Tensor
from pharos.quantity.dtypes import nbytes
from pharos.quantity.sizes import Size


@operator(cost="copy")
class Cache(Op):
    """y[B, H, cached + T, d] = the cached rows, then x[B, H, T, d]; y is what the next call finds.

    Without cached rows x is written once, into the cache, which is y; with some they are read and
    written again, as a concatenation does.

    Args:
        cached: rows kept from earlier calls.
    """

    cached: Size = 0
    state_precision = "kv_cache"

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank == 4, "needs an input of rank 4", x)
        return x.with_shape(x.shape[0], x.shape[1], self.cached + x.shape[2], x.shape[3])

    def state(self, x: Tensor, *out: Tensor) -> dict[str, tuple[Size, ...]]:
        return {"rows": self.shape(x).shape}

    def traffic(self, node: Any) -> Traffic:
        x, y = node.ins[0], node.outs[0]
        held = x.shape[0] * x.shape[1] * self.cached * x.shape[3]
        return Traffic(inputs=x.nbytes, outputs=y.nbytes, state=nbytes(held, node.state["rows"].dtype))

    def gradient(self, wanted: Any, *io: Tensor) -> Work:
        return Work()

    def saved(self, *io: Tensor) -> Saved:
        return Saved()

    def loops(self, tally: Tally, x: Any, *, past_rows: Any = None) -> Any:
        import numpy as np

        return x.copy() if past_rows is None else np.concatenate([past_rows, x], 2)

    def torch(self, torch: Any) -> Any:
        return lambda x, past_rows=None: x if past_rows is None else torch.cat([past_rows, x], 2)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        cached: Size = pick.size(1, 4) if pick.choice([True, False]) else 0
        return cls(cached), [Tensor((pick.size(1, 2), pick.size(1, 2), pick.size(1, 4), pick.size(1, 3)))]
