"""Token shift: every token mixed with the one before it, feature by feature."""

from typing import Any

from pharos.graph.op import SEQUENTIAL, OnnxWriter, Op, Picker, Saved, Tally, Work, operator
from pharos.graph.tensor import Tensor
from pharos.ops.scan import Carried
from pharos.quantity.sizes import Size


@operator(cost="elementwise")
class TokenShift(Carried):
    """For each mix m: y[B, T, C] = x_t m + x_(t-1) (1 - m), learned in [1, 1, C] as time_mix_{name}.

    Two products, an addition an element and a mix, and 1 - m once. The last token is what is carried.
    Source: Peng et al. 2023, arXiv:2305.13048, section 3.1.1.

    Args:
        mixes: names of the outputs, each with a mix of its own.
    """

    width: Size
    mixes: tuple[str, ...] = ("key", "value", "receptance")
    keep: bool = False
    cached: bool = False

    def shape(self, x: Tensor) -> tuple[Tensor, ...]:
        self.need(x.rank == 3, "needs an input of rank 3", x)
        self.match(x.shape[2], self.width, "width", x)
        return (x,) * len(self.mixes)

    def weights(self) -> dict[str, tuple[Size, ...]]:
        return {f"time_mix_{name}": (1, 1, self.width) for name in self.mixes}

    def carried(self, *io: Tensor) -> dict[str, tuple[Size, ...]]:
        return {"x": (io[0].shape[0], self.width)}

    def work(self, *io: Tensor) -> Work:
        return Work(vector_flops=len(self.mixes) * (3 * io[0].numel + self.width))

    def gradient(self, wanted: Any, *io: Tensor) -> Work:
        # d m = sum of dy (x_t - x_(t-1)): the difference once, a product and a sum a mix
        of_mixes = io[0].numel * (1 + 2 * len(self.mixes))
        # dx gathers dy m and the next token's dy (1 - m), over all mixes
        of_x = (4 * len(self.mixes) - 1) * io[0].numel + len(self.mixes) * self.width if wanted[0] else 0
        return Work(vector_flops=of_mixes + of_x)

    def saved(self, *io: Tensor) -> Saved:
        return Saved(inputs=(0,))

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        return {SEQUENTIAL: sum(t.numel for t in io)}

    def loops(self, tally: Tally, x: Any, *, past_x: Any = None, **weights: Any) -> Any:
        import numpy as np

        outs = tuple(np.zeros_like(x) for _ in self.mixes)
        for y, name in zip(outs, self.mixes, strict=True):
            mix = weights[f"time_mix_{name}"][0, 0]
            for b in range(x.shape[0]):
                before = np.zeros_like(mix) if past_x is None else past_x[b]
                for t in range(x.shape[1]):
                    y[b, t] = x[b, t] * mix + before * (1 - mix)
                    before = x[b, t]
        return outs

    def torch(self, torch: Any) -> Any:
        width, mixes, keep = self.width, self.mixes, self.keep

        class Shift(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                for name in mixes:
                    self.register_parameter(f"time_mix_{name}", torch.nn.Parameter(torch.rand(1, 1, width)))

            def forward(self, x: Any, state: Any = None, past_x: Any = None) -> Any:
                past_x = state.get("x") if state else past_x
                first = torch.zeros_like(x[:, 0]) if past_x is None else past_x
                before = torch.cat([first[:, None], x[:, :-1]], 1)
                if state is not None and keep:
                    state["x"] = x[:, -1]
                weights = [getattr(self, f"time_mix_{name}") for name in mixes]
                return tuple(x * m + before * (1 - m) for m in weights)

        return Shift()

    def to_onnx(self, w: OnnxWriter, x: str) -> list[str]:
        batch, tokens, width = w.node.ins[0].shape
        before = w("Unsqueeze", self.before_onnx(w, "x"), w.ints(1))
        if tokens > 1:
            earlier = w("Slice", x, w.ints(0), w.ints(tokens - 1), w.ints(1))
            before = w("Concat", before, earlier, axis=1)
        last = w("Slice", x, w.ints(tokens - 1), w.ints(tokens), w.ints(1))
        self.after_onnx(w, x=w("Reshape", last, w.ints(batch, width)))
        mixes = [w.parameter(f"time_mix_{name}") for name in self.mixes]
        return [w("Add", w("Mul", x, mix), w("Mul", before, w("Sub", w.number(1), mix))) for mix in mixes]

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        width = pick.size(1, 3)
        mixes = pick.choice([("key", "value", "receptance"), ("key", "receptance")])
        op = cls(width, mixes, pick.choice([True, False]), pick.choice([True, False]))
        return op, [Tensor((pick.size(1, 2), pick.size(1, 4), width))]
