"""Scaled dot-product attention: query, cached and new keys, shared KV heads, two algorithms."""

from typing import Any

from pharos.graph.op import (
    BROADCAST,
    DYNAMIC,
    GATHER,
    MATMUL,
    REDUCE,
    SEQUENTIAL,
    Op,
    Parallelism,
    Picker,
    Tally,
    Traffic,
    Work,
    operator,
)
from pharos.graph.tensor import Tensor
from pharos.quantity.dtypes import nbytes
from pharos.quantity.sizes import Size, ceil_log2, floor_div, is_int


@operator(cost="attention", aten="scaled_dot_product_attention")
class Attention(Op):
    """softmax(q k^T / sqrt(d)) v for q[B, H, T, d], k[B, G, T', d], v[B, G, T', dv]; G divides H.

    The T' new keys follow `cached` older ones; each of the G key heads serves H / G query heads.
    macs = B H T (cached + T') (d + dv): the full rectangle; a causal kernel may skip
    `masked_macs` of them, those above the diagonal.

    Args:
        causal: query i sees keys up to its own position (T = T' then).
        cached: tokens whose K and V are held from earlier calls.
        keep: K and V are kept for later calls (the KV cache).
        algorithm: "tiled" never stores the T x S scores (online softmax);
            "materialised" writes and reads them, twice, as unfused attention does.
    """

    causal: bool = False
    cached: Size = 0
    keep: bool = False
    algorithm: str = "tiled"

    def __post_init__(self) -> None:
        if self.algorithm not in ("tiled", "materialised"):
            raise self.refuse(f"knows tiled and materialised attention, not {self.algorithm!r}")

    def shape(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.need(q.rank == k.rank == v.rank == 4, "needs q, k, v of rank 4", q, k, v)
        self.match(k.shape[3], q.shape[3], "head_dim of k", q, k, v)
        self.match(v.shape[1], k.shape[1], "KV heads of v", q, k, v)
        self.match(v.shape[2], k.shape[2], "tokens of v", q, k, v)
        self.match(k.shape[0], q.shape[0], "batch of k", q, k, v)
        heads, kv_heads = q.shape[1], k.shape[1]
        if is_int(heads) and is_int(kv_heads) and heads % kv_heads:
            raise self.refuse(f"cannot share {kv_heads} KV heads among {heads} heads", q, k, v)
        if self.causal:
            self.match(k.shape[2], q.shape[2], "as many new keys as queries,", q, k, v)
        return q.with_last(v.shape[3])

    def state(self, q: Tensor, k: Tensor, v: Tensor, y: Tensor) -> dict[str, tuple[Size, ...]]:
        if not self.keep:
            return {}
        batch, heads, new, _ = k.shape
        held = self.cached + new
        return {"k": (batch, heads, held, k.shape[3]), "v": (batch, heads, held, v.shape[3])}

    def _scores(self, q: Tensor, k: Tensor) -> Size:
        batch, heads, queries, _ = q.shape
        return batch * heads * queries * (self.cached + k.shape[2])

    def work(self, q: Tensor, k: Tensor, v: Tensor, y: Tensor) -> Work:
        scores = self._scores(q, k)
        width = q.shape[3] + v.shape[3]
        rows, queries = q.shape[0] * q.shape[1], q.shape[2]
        above = rows * floor_div(queries * (queries - 1), 2) if self.causal else 0
        # scale, running maximum, subtraction and sum per score; one exponential and, per row of
        # the output, one division by the sum
        return Work(
            macs=scores * width,
            vector_flops=4 * scores,
            transcendentals=scores + y.numel,
            masked_macs=above * width,
        )

    def traffic(self, node: Any) -> Traffic:
        q, k, v = node.ins
        cached = write = workspace = 0
        if self.keep:
            row = k.shape[0] * k.shape[1] * (k.shape[3] + v.shape[3])
            kept = node.state["k"].dtype
            cached, write = nbytes(row * self.cached, kept), nbytes(row * k.shape[2], kept)
        if self.algorithm == "materialised":
            # scores written and read by the softmax, probabilities written and read by the product
            workspace = 4 * nbytes(self._scores(q, k), q.dtype)
        return Traffic(
            inputs=q.nbytes + k.nbytes + v.nbytes,
            outputs=node.outs[0].nbytes,
            state=cached + write,
            workspace=workspace,
        )

    def workspace(self, q: Tensor, k: Tensor, v: Tensor, y: Tensor) -> Size:
        """The score matrix; nothing of that order when tiled."""
        return nbytes(self._scores(q, k), q.dtype) if self.algorithm == "materialised" else 0

    def primitives(self, q: Tensor, k: Tensor, v: Tensor, y: Tensor) -> dict[str, Size]:
        scores = self._scores(q, k)
        width = q.shape[3] + v.shape[3]
        return {
            MATMUL: scores * width,
            DYNAMIC: scores * width,
            SEQUENTIAL: q.numel + k.numel + v.numel + y.numel,
            BROADCAST: q.numel,
            GATHER: scores * width,
            REDUCE: scores,
        }

    def parallelism(self, q: Tensor, k: Tensor, v: Tensor, y: Tensor) -> Parallelism:
        # every score can be worked on at once: kernels split long keys among processors too
        return Parallelism(width=self._scores(q, k), tree=ceil_log2(self.cached + k.shape[2]))

    def loops(self, tally: Tally, q: Any, k: Any, v: Any, *, past_k: Any = None, past_v: Any = None) -> Any:
        import numpy as np

        if past_k is not None:
            k, v = np.concatenate([past_k, k], 2), np.concatenate([past_v, v], 2)
        batch, heads, queries, width = q.shape
        group, keys = heads // k.shape[1], k.shape[2]
        y = np.zeros((*q.shape[:3], v.shape[3]), q.dtype)
        for b in range(batch):
            for h in range(heads):
                for t in range(queries):
                    scores = np.full(keys, -np.inf)
                    for s in range(keys):
                        total = 0.0
                        for d in range(width):
                            total += q[b, h, t, d] * k[b, h // group, s, d]
                            tally.macs += 1
                        if not self.causal or s <= t + keys - queries:
                            scores[s] = total / width**0.5
                    weights = np.exp(scores - scores.max())
                    weights /= weights.sum()
                    for s in range(keys):
                        for d in range(v.shape[3]):
                            y[b, h, t, d] += weights[s] * v[b, h // group, s, d]
                            tally.macs += 1
        return y

    def torch(self, torch: Any) -> Any:
        def attend(q: Any, k: Any, v: Any, past_k: Any = None, past_v: Any = None) -> Any:
            if past_k is not None:
                k, v = torch.cat([past_k, k], 2), torch.cat([past_v, v], 2)
            mask = None
            if self.causal:
                mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device)
                mask = mask.tril(k.shape[2] - q.shape[2])
            return torch.nn.functional.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, enable_gqa=q.shape[1] != k.shape[1]
            )

        return attend

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        batch, groups, width = pick.size(1, 2), pick.size(1, 2), pick.size(1, 3)
        heads, queries = groups * pick.int(1, 2), pick.size(1, 4)
        causal = pick.choice([True, False])
        keys = queries if causal else pick.size(1, 4)
        keep = pick.choice([True, False])
        op = cls(causal, pick.size(1, 3) if keep else 0, keep, pick.choice(["tiled", "materialised"]))
        k = Tensor((batch, groups, keys, width))
        return op, [Tensor((batch, heads, queries, width)), k, k.with_last(pick.size(1, 3))]
