"""Router: which experts each token goes to, and how much each of them counts."""

from math import inf
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
from pharos.ops.linear import affine_onnx
from pharos.quantity.errors import unknown
from pharos.quantity.sizes import Size, ceil_log2, is_int, prod

SCORINGS = ("softmax_picked", "softmax", "sigmoid")


@operator(cost="gemm")
class Router(Op):
    """Scores every expert for each token and picks the top_k: x[..., d] -> shares and picks [..., k].

    macs = tokens * d * num_experts. Source: Shazeer et al. 2017, arXiv:1701.06538; groups and the
    correction: DeepSeek-AI 2024, arXiv:2405.04434 and arXiv:2412.19437.

    Args:
        scoring: "softmax_picked" (softmax over the logits of the picked), "softmax" (over all logits,
            then picked) or "sigmoid" (of each logit).
        normalise: shares are divided by their sum.
        scale: factor of the shares.
        groups, top_groups: experts stand in equal groups and only those of the best groups may be
            picked; a group is as good as its best expert, or with a correction as its best two together.
        bias: logits have a bias.
        correction: a learned number an expert is added where experts are picked, not to their shares.
    """

    hidden_size: Size
    num_experts: Size
    top_k: int
    scoring: str = "softmax_picked"
    normalise: bool = False
    scale: float = 1.0
    groups: int = 1
    top_groups: int = 1
    bias: bool = False
    correction: bool = False

    def __post_init__(self) -> None:
        if self.scoring not in SCORINGS:
            raise unknown("scoring of experts", str(self.scoring), SCORINGS)
        if is_int(self.num_experts):
            if not 1 <= self.top_k <= self.num_experts:
                raise self.refuse(f"cannot pick {self.top_k} of {self.num_experts} experts")
            if self.num_experts % self.groups or not 1 <= self.top_groups <= self.groups:
                raise self.refuse(f"cannot pick {self.top_groups} of {self.groups} groups")
            if self.top_k > self.num_experts // self.groups * self.top_groups:
                raise self.refuse(f"cannot pick {self.top_k} experts in {self.top_groups} groups")

    def shape(self, x: Tensor) -> tuple[Tensor, ...]:
        self.need(x.rank >= 2, "needs an input of rank 2 or more", x)
        self.match(x.shape[-1], self.hidden_size, "hidden_size", x)
        shares = x.with_last(self.top_k)
        return shares, Tensor(shares.shape, "int64")

    def weights(self) -> dict[str, tuple[Size, ...]]:
        found: dict[str, tuple[Size, ...]] = {"weight": (self.num_experts, self.hidden_size)}
        if self.bias:
            found["bias"] = (self.num_experts,)
        if self.correction:
            found["e_score_correction_bias"] = (self.num_experts,)
        return found

    def work(self, x: Tensor, shares: Tensor, picks: Tensor) -> Work:
        tokens, picked = prod(x.shape[:-1]), shares.numel
        logits = tokens * self.num_experts
        # a comparison a logit for each pick, and once more for the best of each group
        vector = logits * self.top_k + (logits * (2 if self.correction else 1) if self.groups > 1 else 0)
        vector = vector + (logits if self.bias else 0) + (logits if self.correction else 0)
        scored = picked if self.scoring == "softmax_picked" else logits
        vector = vector + scored * (1 if self.scoring == "sigmoid" else 3)
        vector = vector + (picked if self.normalise else 0) + (picked if self.scale != 1 else 0)
        return Work(
            macs=logits * self.hidden_size,
            vector_flops=vector,
            transcendentals=2 * scored + (picked if self.normalise else 0),
        )

    def gradient(self, wanted: Any, x: Tensor, shares: Tensor, picks: Tensor) -> Work:
        """Through the picked shares only; picking has no gradient."""
        macs = prod(x.shape[:-1]) * self.num_experts * self.hidden_size
        dense = self.scoring == "softmax"
        scored = prod(x.shape[:-1]) * self.num_experts if dense else shares.numel
        extra = (3 * shares.numel if self.normalise else 0) + (shares.numel if self.scale != 1 else 0)
        extra = extra + (prod(x.shape[:-1]) * self.num_experts if self.bias else 0)
        return Work(macs=macs * (2 if wanted[0] else 1), vector_flops=4 * scored + extra)

    def saved(self, x: Tensor, shares: Tensor, picks: Tensor) -> Saved:
        """The input and the picks; a softmax over all experts is kept whole."""
        if self.scoring != "softmax":
            return Saved((0,), (0, 1))
        # the shares are among them
        return Saved((0,), (1,), {"scores": x.with_last(self.num_experts)})

    def primitives(self, x: Tensor, shares: Tensor, picks: Tensor) -> dict[str, Size]:
        macs = self.work(x, shares, picks).macs
        return {
            MATMUL: macs,
            DYNAMIC: picks.numel,
            SEQUENTIAL: x.numel + self.num_experts * self.hidden_size + 2 * shares.numel,
            BROADCAST: x.numel * self.num_experts,
            REDUCE: macs,
        }

    def parallelism(self, x: Tensor, shares: Tensor, picks: Tensor) -> Parallelism:
        logits = prod(x.shape[:-1]) * self.num_experts
        return Parallelism(width=logits, tree=ceil_log2(self.hidden_size))

    def loops(
        self, tally: Tally, x: Any, *, weight: Any, bias: Any = None, e_score_correction_bias: Any = None
    ) -> Any:
        import numpy as np

        rows = x.reshape(-1, x.shape[-1])
        shares = np.zeros((len(rows), self.top_k), x.dtype)
        picks = np.zeros((len(rows), self.top_k), np.int64)
        for t, row in enumerate(rows):
            logits = np.zeros(len(weight), x.dtype)
            for e in range(len(weight)):
                total = 0.0 if bias is None else bias[e]
                for k in range(len(row)):
                    total += row[k] * weight[e, k]
                    tally.macs += 1
                logits[e] = total
            scores = logits
            if self.scoring == "sigmoid":
                scores = 1 / (1 + np.exp(-logits))
            elif self.scoring == "softmax":
                scores = np.exp(logits - logits.max())
                scores = scores / scores.sum()
            liked = scores if e_score_correction_bias is None else scores + e_score_correction_bias
            allowed = set(range(len(weight)))
            if self.groups > 1:
                size, best = len(weight) // self.groups, 1 if e_score_correction_bias is None else 2
                worth = [sum(sorted(liked[i * size : (i + 1) * size])[-best:]) for i in range(self.groups)]
                kept = sorted(range(self.groups), key=lambda i: -worth[i])[: self.top_groups]
                allowed = {e for i in kept for e in range(i * size, (i + 1) * size)}
            picked = sorted(allowed, key=lambda e: -liked[e])[: self.top_k]
            share = scores[picked]
            if self.scoring == "softmax_picked":
                share = np.exp(share - share.max())
                share = share / share.sum()
            if self.normalise:
                share = share / share.sum()
            shares[t], picks[t] = share * self.scale, picked
        lead = x.shape[:-1]
        return shares.reshape(*lead, self.top_k), picks.reshape(*lead, self.top_k)

    def torch(self, torch: Any) -> Any:
        op = self

        class Route(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                for name, size in op.weights().items():
                    made = torch.zeros(size) if len(size) == 1 else torch.randn(size) * 0.02
                    setattr(self, name, torch.nn.Parameter(made))

            def forward(self, x: Any) -> Any:
                logits = torch.nn.functional.linear(x, self.weight, self.bias if op.bias else None)
                scores = logits
                if op.scoring == "sigmoid":
                    scores = logits.sigmoid()
                elif op.scoring == "softmax":
                    scores = logits.softmax(-1)
                liked = scores.detach()
                if op.correction:
                    liked = liked + self.e_score_correction_bias.detach()
                if op.groups > 1:
                    split = liked.unflatten(-1, (op.groups, -1))
                    best = min(2 if op.correction else 1, split.shape[-1])
                    kept = split.topk(best, -1)[0].sum(-1).topk(op.top_groups, -1)[1]
                    barred = torch.ones_like(split, dtype=torch.bool)
                    barred = barred.scatter(-2, kept[..., None].expand(*kept.shape, split.shape[-1]), False)
                    liked = split.masked_fill(barred, float("-inf")).flatten(-2)
                picks = liked.topk(op.top_k, -1)[1]
                shares = scores.gather(-1, picks)
                if op.scoring == "softmax_picked":
                    shares = shares.softmax(-1)
                if op.normalise:
                    shares = shares / shares.sum(-1, keepdim=True)
                return (shares if op.scale == 1 else shares * op.scale), picks

        return Route()

    def to_onnx(self, w: OnnxWriter, x: str) -> list[str]:
        given = w.node.ins[0]
        weights = [w.parameter("weight"), *([w.parameter("bias")] if self.bias else [])]
        logits = affine_onnx(w, x, *weights, made=given.with_last(self.num_experts).shape)
        scores = logits
        if self.scoring != "softmax_picked":
            scores = w("Sigmoid", logits) if self.scoring == "sigmoid" else w("Softmax", logits, axis=-1)
        liked = w("Add", scores, w.parameter("e_score_correction_bias")) if self.correction else scores
        if self.groups > 1:
            liked = self._allowed_onnx(w, liked, given.shape[:-1])
        _, picks = w("TopK", liked, w.ints(self.top_k), outputs=2, axis=-1)
        shares = w("GatherElements", scores, picks, axis=-1)
        if self.scoring == "softmax_picked":
            shares = w("Softmax", shares, axis=-1)
        if self.normalise:
            shares = w("Div", shares, w("ReduceSum", shares, w.ints(-1), keepdims=1))
        return [shares if self.scale == 1 else w("Mul", shares, w.number(self.scale)), picks]

    def _allowed_onnx(self, w: OnnxWriter, liked: str, lead: tuple[Size, ...]) -> str:
        """Scores with those outside the best groups put out of reach."""
        size = self.num_experts // self.groups
        split = w("Reshape", liked, w.ints(*lead, self.groups, size))
        best, _ = w("TopK", split, w.ints(min(2 if self.correction else 1, size)), outputs=2, axis=-1)
        worth = w("ReduceSum", best, w.ints(-1), keepdims=0)
        _, kept = w("TopK", worth, w.ints(self.top_groups), outputs=2, axis=-1)
        barred = w("Expand", w.number(-inf), w.ints(*lead, self.groups))
        free = w("Expand", w.number(0), w.ints(*lead, self.top_groups))
        barred = w("ScatterElements", barred, kept, free, axis=-1)
        return w(
            "Reshape", w("Add", split, w("Unsqueeze", barred, w.ints(-1))), w.ints(*lead, self.num_experts)
        )

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        groups = pick.choice([1, 1, 2, 3])
        experts, width = groups * pick.size(2, 4), pick.size(1, 3)
        op = cls(
            width, experts, pick.int(1, 2), pick.choice(SCORINGS), pick.choice([True, False]),
            pick.choice([1.0, 2.5]), groups, pick.int(1, groups), pick.choice([True, False]),
            pick.choice([True, False]),
        )  # fmt: skip
        return op, [Tensor((pick.size(1, 2), pick.size(1, 3), width))]
