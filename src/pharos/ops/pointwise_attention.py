"""Attention without a softmax: scores go through SiLU one by one, so that how much is seen stays visible."""

from collections.abc import Sequence
from typing import Any

from pharos.graph.op import (
    BROADCAST,
    DYNAMIC,
    MATMUL,
    REDUCE,
    SEQUENTIAL,
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
from pharos.quantity.sizes import Size, ceil_log2, floor_div


@operator(cost="attention")
class PointwiseAttention(Op):
    """y = (silu(q k^T) / T) v for q, k[B, H, T, d], v[B, H, T, dv]; masked scores are zero.

    macs = B H T^2 (d + dv), of which a causal kernel may skip those above the diagonal; a score costs a
    division by T and SiLU's 2 additions and products and 2 transcendentals.
    Source: Zhai et al. 2024, arXiv:2402.17152, equation 2, with the division by the length of its code.
    """

    causal: bool = True

    def shape(self, *inputs: Tensor) -> Tensor:
        self.need(len(inputs) == 3 and all(t.rank == 4 for t in inputs), "takes q, k and v", *inputs)
        q, k, v = inputs
        self.match(k.shape[3], q.shape[3], "head_dim of k", *inputs)
        self.match(k.shape[2], q.shape[2], "tokens of k", *inputs)
        self.match(v.shape[2], k.shape[2], "tokens of v", *inputs)
        return q.with_last(v.shape[3])

    def _scores(self, q: Tensor) -> Size:
        return q.shape[0] * q.shape[1] * q.shape[2] ** 2

    def work(self, *io: Tensor) -> Work:
        q, _, v = io[:3]
        scores, width, tokens = self._scores(q), q.shape[3] + v.shape[3], q.shape[2]
        hidden = q.shape[0] * q.shape[1] * floor_div(tokens * (tokens - 1), 2) if self.causal else 0
        return Work(
            macs=scores * width,
            vector_flops=2 * scores,
            transcendentals=3 * scores,
            masked_macs=hidden * width,
        )

    def gradient(self, wanted: Sequence[bool], *io: Tensor) -> Work:
        """The scores again, then the gradients of scores, v, q and k, tile by tile."""
        q, _, v = io[:3]
        scores, d, dv = self._scores(q), q.shape[3], v.shape[3]
        of_scores = dv if wanted[0] or wanted[1] else 0
        width = d + of_scores + sum(n for n, want in zip((d, d, dv), wanted, strict=True) if want)
        return Work(macs=scores * width, vector_flops=8 * scores, transcendentals=3 * scores)

    def saved(self, *io: Tensor) -> Saved:
        return Saved(inputs=(0, 1, 2))

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        macs = self.work(*io).macs
        return {
            MATMUL: macs,
            DYNAMIC: macs,
            SEQUENTIAL: sum(t.numel for t in io),
            BROADCAST: io[0].numel,
            REDUCE: macs,
        }

    def parallelism(self, *io: Tensor) -> Parallelism:
        return Parallelism(width=self._scores(io[0]), tree=ceil_log2(io[0].shape[2]))

    def loops(self, tally: Tally, *arrays: Any) -> Any:
        import numpy as np

        q, k, v = arrays
        y, tokens = np.zeros((*q.shape[:3], v.shape[3])), q.shape[2]
        for b, h, t, s in np.ndindex(*q.shape[:3], tokens):
            score = 0.0
            for i in range(q.shape[3]):
                score += q[b, h, t, i] * k[b, h, s, i]
                tally.macs += 1
            share = 0.0 if self.causal and s > t else score / (1 + np.exp(-score)) / tokens
            for j in range(v.shape[3]):
                y[b, h, t, j] += share * v[b, h, s, j]
                tally.macs += 1
        return y

    def torch(self, torch: Any) -> Any:
        def attend(q: Any, k: Any, v: Any) -> Any:
            shares = torch.nn.functional.silu(q @ k.transpose(2, 3)) / q.shape[2]
            return (shares.tril() if self.causal else shares) @ v

        return attend

    def to_onnx(self, w: OnnxWriter, *inputs: str) -> str:
        import numpy as np

        q, k, v = inputs
        tokens = w.node.ins[0].shape[2]
        scores = w("MatMul", q, w("Transpose", k, perm=(0, 1, 3, 2)))
        shares = w("Div", w("Mul", scores, w("Sigmoid", scores)), w.number(tokens))
        if self.causal:
            shares = w("Mul", shares, w.table(np.tril(np.ones((tokens, tokens)))))
        return w("MatMul", shares, v)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        batch, heads, tokens, width, wide = (pick.size(1, n) for n in (2, 2, 4, 3, 3))
        key = Tensor((batch, heads, tokens, width))
        return cls(pick.choice([True, False])), [key, key, Tensor((batch, heads, tokens, wide))]
