"""Causal depthwise convolution over tokens, with the last inputs carried from call to call."""

from typing import Any

from pharos.graph.op import (
    BROADCAST,
    REDUCE,
    SEQUENTIAL,
    SLIDING_WINDOW,
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
from pharos.ops.scan import Carried
from pharos.quantity.sizes import Size, ceil_log2


@operator(cost="depthwise")
class CausalConv(Carried):
    """y[b, t, c] = sum over u of x[b, t - K + 1 + u, c] W[c, 0, u] + b[c], each channel on its own.

    x[B, T, C] -> y[B, T, C], zeros before the first token; macs = numel(y) K. The last K inputs are
    carried, as the reference implementations hold them. Source: Gu and Dao 2023, arXiv:2312.00752.
    """

    channels: Size
    kernel_size: int
    bias: bool = True
    keep: bool = False
    cached: bool = False

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank == 3, "needs an input of rank 3", x)
        self.need(self.kernel_size >= 1, "needs a kernel of 1 or more", x)
        self.match(x.shape[2], self.channels, "channels", x)
        return x

    def weights(self) -> dict[str, tuple[Size, ...]]:
        found: dict[str, tuple[Size, ...]] = {"weight": (self.channels, 1, self.kernel_size)}
        return found | {"bias": (self.channels,)} if self.bias else found

    def carried(self, *io: Tensor) -> dict[str, tuple[Size, ...]]:
        return {"x": (io[0].shape[0], self.channels, self.kernel_size)}

    def work(self, *io: Tensor) -> Work:
        return Work(macs=io[0].numel * self.kernel_size, vector_flops=io[0].numel if self.bias else 0)

    def gradient(self, wanted: Any, *io: Tensor) -> Work:
        products = io[0].numel * self.kernel_size
        return Work(macs=products * (1 + bool(wanted[0])), vector_flops=io[0].numel if self.bias else 0)

    def saved(self, *io: Tensor) -> Saved:
        return Saved(inputs=(0,))

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        products = io[0].numel * self.kernel_size
        return {
            SLIDING_WINDOW: products,
            SEQUENTIAL: 2 * io[0].numel,
            BROADCAST: products,
            REDUCE: products,
        }

    def parallelism(self, *io: Tensor) -> Parallelism:
        return Parallelism(width=io[-1].numel, tree=ceil_log2(self.kernel_size))

    def loops(self, tally: Tally, x: Any, *, weight: Any, bias: Any = None, past_x: Any = None) -> Any:
        import numpy as np

        y, kernel = np.zeros_like(x), self.kernel_size
        for b, t, c in np.ndindex(*x.shape):
            for u in range(kernel):
                at = t - kernel + 1 + u
                before = 0.0 if past_x is None or at >= 0 else past_x[b, c, at]
                y[b, t, c] += weight[c, 0, u] * (x[b, at, c] if at >= 0 else before)
                tally.macs += 1
            y[b, t, c] += 0.0 if bias is None else bias[c]
        return y

    def torch(self, torch: Any) -> Any:
        channels, kernel, keep = self.channels, self.kernel_size, self.keep

        class Conv(torch.nn.Conv1d):
            def forward(self, x: Any, state: Any = None, past_x: Any = None) -> Any:
                past_x = state.get("x") if state else past_x
                x = x.transpose(1, 2)
                before = x.new_zeros(*x.shape[:2], kernel) if past_x is None else past_x
                x = torch.cat([before, x], 2)
                if state is not None and keep:
                    state["x"] = x[:, :, -kernel:]
                return super().forward(x[:, :, 1:]).transpose(1, 2)

        return Conv(channels, channels, kernel, groups=channels, bias=self.bias)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        kernel = self.kernel_size
        held = w("Concat", self.before_onnx(w, "x"), w("Transpose", x, perm=(0, 2, 1)), axis=2)
        end = kernel + w.node.ins[0].shape[1]
        self.after_onnx(w, x=w("Slice", held, w.ints(end - kernel), w.ints(end), w.ints(2)))
        seen = w("Slice", held, w.ints(1), w.ints(end), w.ints(2))
        y = w("Conv", seen, *map(w.parameter, self.weights()), kernel_shape=[kernel], group=self.channels)
        return w("Transpose", y, perm=(0, 2, 1))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        channels = pick.size(1, 3)
        op = cls(channels, pick.int(1, 4), pick.choice([True, False]), pick.choice([True, False]),
                 pick.choice([True, False]))  # fmt: skip
        return op, [Tensor((pick.size(1, 2), pick.size(1, 5), channels))]
