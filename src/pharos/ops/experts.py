"""Mixture of experts: each token goes through the few feed-forward networks its router picked."""

from typing import Any

from pharos.graph.op import (
    DYNAMIC,
    GATHER,
    MATMUL,
    REDUCE,
    SCATTER,
    SEQUENTIAL,
    OnnxWriter,
    Op,
    Parallelism,
    Picker,
    Saved,
    Tally,
    Traffic,
    Work,
    operator,
)
from pharos.graph.tensor import Tensor
from pharos.ops.activation import FUNCTIONS, function_onnx
from pharos.quantity.errors import unknown
from pharos.quantity.sizes import Size, ceil_log2, is_int, minimum

# The clamped gate of gpt-oss: sharpness of its sigmoid, bound of both halves.
ALPHA, LIMIT = 1.702, 7.0


@operator(cost="gemm", aten="_grouped_mm", onnx="MoE")
class Experts(Op):
    """y[t] = sum over the picked experts e of share[t, e] * down_e(f(gate_e x) * up_e x).

    x[..., d], shares and picks [..., k] -> y[..., d]; without a gate an expert is down_e(f(up_e x)).
    macs = tokens * top_k * (3 or 2) * d * expert_size. At most min(E, tokens * top_k) experts' weights
    are read: few tokens leave most experts untouched, which is what decoding profits from.

    Args:
        bias: both layers of an expert have one.
        transposed: weights are stored [in, out].
        clamped: gate and up take turns feature by feature, both are clamped, and the gate is
            (up + 1) gate sigmoid(1.702 gate). Source: OpenAI 2025, gpt-oss model card, arXiv:2508.10925.
        scale_input: the share multiplies the token before its expert, not the expert's result.
    """

    num_experts: Size
    top_k: int
    hidden_size: Size
    expert_size: Size
    gated: bool = True
    function: str = "silu"
    bias: bool = False
    transposed: bool = False
    clamped: bool = False
    scale_input: bool = False

    def __post_init__(self) -> None:
        if self.function not in FUNCTIONS:
            raise unknown("activation", str(self.function), FUNCTIONS)
        if is_int(self.num_experts) and not 1 <= self.top_k <= self.num_experts:
            raise self.refuse(f"cannot use {self.top_k} of {self.num_experts} experts")
        if self.clamped and not self.gated:
            raise self.refuse("clamps a gate it does not have")

    def shape(self, x: Tensor, shares: Tensor, picks: Tensor) -> Tensor:
        given = (x, shares, picks)
        self.need(x.rank >= 2 and shares.rank == x.rank == picks.rank, "needs three of one rank", *given)
        self.match(x.shape[-1], self.hidden_size, "hidden_size", *given)
        self.match(shares.shape[-1], self.top_k, "shares a token", *given)
        self.match(picks.shape[-1], self.top_k, "picks a token", *given)
        return x

    @property
    def _into(self) -> str:
        return "gate_up_proj" if self.gated else "up_proj"

    def weights(self) -> dict[str, tuple[Size, ...]]:
        wide = self.expert_size * (2 if self.gated else 1)
        into, out = (wide, self.hidden_size), (self.hidden_size, self.expert_size)
        if self.transposed:
            into, out = into[::-1], out[::-1]
        found: dict[str, tuple[Size, ...]] = {
            self._into: (self.num_experts, *into),
            "down_proj": (self.num_experts, *out),
        }
        if self.bias:
            found[f"{self._into}_bias"] = (self.num_experts, wide)
            found["down_proj_bias"] = (self.num_experts, self.hidden_size)
        return found

    def active(self) -> tuple[Size, Size]:
        return self.top_k, self.num_experts

    def _gate(self) -> tuple[int, int]:
        """Vector operations and transcendentals of the activation, per inner feature."""
        if self.clamped:
            # three clamps; sharpness, an addition in the sigmoid, up + 1 and two products
            return 8, 2
        vector, hard = FUNCTIONS[self.function].forward
        return vector + (1 if self.gated else 0), hard

    def _gate_back(self) -> tuple[int, int]:
        """The same on the way back: the activation and gate again, the derivative, a gate's products."""
        vector, hard = self._gate()
        if self.clamped:
            # three masks, the sigmoid's derivative in five, two products of the gate
            return vector + 10, hard
        more, harder = FUNCTIONS[self.function].backward
        return vector + more + (2 if self.gated else 0), hard + harder

    def work(self, x: Tensor, shares: Tensor, picks: Tensor, y: Tensor) -> Work:
        each = picks.numel
        inner, (vector, hard) = each * self.expert_size, self._gate()
        added = each * (self.expert_size * (2 if self.gated else 1) + self.hidden_size) if self.bias else 0
        # a product by the share and an addition to the sum for each pick
        return Work(
            macs=each * (3 if self.gated else 2) * self.hidden_size * self.expert_size,
            vector_flops=inner * vector + added + 2 * each * self.hidden_size,
            transcendentals=inner * hard,
        )

    def gradient(self, wanted: Any, x: Tensor, shares: Tensor, picks: Tensor, y: Tensor) -> Work:
        """Each layer's weights and the input of the second; the token's own gradient if wanted."""
        each, wide = picks.numel, 2 if self.gated else 1
        layer = each * self.hidden_size * self.expert_size
        inner, (vector, hard) = each * self.expert_size, self._gate_back()
        added = each * (self.expert_size * wide + self.hidden_size) if self.bias else 0
        # beside the activation's way back, the shares' products
        return Work(
            macs=layer * (wide + 2 + (wide if wanted[0] else 0)),
            vector_flops=inner * vector + added + each * self.hidden_size * (3 if wanted[1] else 2),
            transcendentals=inner * hard,
        )

    def saved(self, x: Tensor, shares: Tensor, picks: Tensor, y: Tensor) -> Saved:
        """Inputs and what the first layer made: the activation is computed again."""
        wide = self.expert_size * (2 if self.gated else 1)
        return Saved((0, 1, 2), (), {"inner": Tensor((picks.numel, wide), x.dtype)})

    def traffic(self, node: Any) -> Traffic:
        touched = minimum(node.ins[2].numel, self.num_experts)
        one = sum(Tensor(tensor.shape[1:], tensor.dtype).nbytes for tensor in node.weights.values())
        return Traffic(
            weights=touched * one, inputs=sum(t.nbytes for t in node.ins), outputs=node.outs[0].nbytes
        )

    def primitives(self, x: Tensor, shares: Tensor, picks: Tensor, y: Tensor) -> dict[str, Size]:
        macs = self.work(x, shares, picks, y).macs
        moved = x.numel * self.top_k
        return {MATMUL: macs, DYNAMIC: macs, SCATTER: moved, GATHER: moved, REDUCE: moved,
                SEQUENTIAL: x.numel + 2 * picks.numel + y.numel}  # fmt: skip

    def parallelism(self, x: Tensor, shares: Tensor, picks: Tensor, y: Tensor) -> Parallelism:
        return Parallelism(width=y.numel * self.top_k, tree=ceil_log2(self.hidden_size))

    def _activate(self, np: Any, inner: Any) -> Any:
        """From the first layer's features to the second's, of NumPy arrays."""
        if not self.gated:
            return FUNCTIONS[self.function].numpy(np, inner)
        if self.clamped:
            gate, up = np.minimum(inner[::2], LIMIT), np.clip(inner[1::2], -LIMIT, LIMIT)
            return (up + 1) * gate / (1 + np.exp(-ALPHA * gate))
        gate, up = np.split(inner, 2)
        return FUNCTIONS[self.function].numpy(np, gate) * up

    def loops(self, tally: Tally, x: Any, shares: Any, picks: Any, **weights: Any) -> Any:
        import numpy as np

        def layer(name: str, e: int, row: Any) -> Any:
            matrix = weights[name][e].T if self.transposed else weights[name][e]
            out = weights[f"{name}_bias"][e].copy() if self.bias else np.zeros(len(matrix))
            for i in range(len(matrix)):
                for k in range(len(row)):
                    out[i] += matrix[i, k] * row[k]
                    tally.macs += 1
            return out

        rows = x.reshape(-1, x.shape[-1])
        y = np.zeros_like(rows)
        chosen, share = picks.reshape(len(rows), -1), shares.reshape(len(rows), -1)
        for t, row in enumerate(rows):
            for e, part in zip(chosen[t], share[t], strict=True):
                hidden = self._activate(np, layer(self._into, e, row * part if self.scale_input else row))
                result = layer("down_proj", e, hidden)
                y[t] += result if self.scale_input else part * result
        return y.reshape(x.shape)

    def torch(self, torch: Any) -> Any:
        op, function = self, FUNCTIONS[self.function]
        layer = function.torch.removeprefix("nn.")
        plain = layer == function.torch
        call = getattr(torch, layer) if plain else getattr(torch.nn, layer)(**dict(function.options))

        class Mixture(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                for name, size in op.weights().items():
                    made = torch.zeros(size) if name.endswith("_bias") else torch.randn(size) * 0.02
                    setattr(self, name, torch.nn.Parameter(made))

            def layer(self, name: str, e: int, rows: Any) -> Any:
                matrix = getattr(self, name)[e]
                out = rows @ (matrix if op.transposed else matrix.T)
                return out + getattr(self, f"{name}_bias")[e] if op.bias else out

            def activate(self, inner: Any) -> Any:
                if not op.gated:
                    return call(inner)
                if op.clamped:
                    gate, up = inner[..., ::2].clamp(max=LIMIT), inner[..., 1::2].clamp(-LIMIT, LIMIT)
                    return (up + 1) * gate * torch.sigmoid(gate * ALPHA)
                gate, up = inner.chunk(2, -1)
                return call(gate) * up

            def forward(self, x: Any, shares: Any, picks: Any) -> Any:
                rows = x.reshape(-1, x.shape[-1])
                chosen, share = picks.reshape(len(rows), -1), shares.reshape(len(rows), -1)
                y = torch.zeros_like(rows)
                for e in range(op.num_experts):
                    tokens, place = (chosen == e).nonzero(as_tuple=True)
                    part = share[tokens, place, None]
                    given = rows[tokens] * part if op.scale_input else rows[tokens]
                    made = self.layer("down_proj", e, self.activate(self.layer(op._into, e, given)))
                    y = y.index_add(0, tokens, made if op.scale_input else made * part)
                return y.reshape(x.shape)

        return Mixture()

    def to_onnx(self, w: OnnxWriter, x: str, shares: str, picks: str) -> str:
        """Few picks gather their experts' weights; many are sorted out expert by expert in a loop."""
        tensors = w.node.ins
        copies = tensors[2].numel
        rows = w("Reshape", x, w.ints(-1, self.hidden_size))
        chosen = w("Reshape", picks, w.ints(-1))
        share = w("Reshape", shares, w.ints(-1, 1))
        weights = dict(zip(self.weights(), map(w.parameter, self.weights()), strict=True))
        if copies <= self.num_experts:
            given = w("Gather", rows, w.ints(*[i // self.top_k for i in range(copies)]))
            made = self._apply_onnx(w, weights, chosen, given, share)
            made = w("Reshape", made, w.ints(-1, self.top_k, self.hidden_size))
            return w("Reshape", w("ReduceSum", made, w.ints(1), keepdims=0), w.ints(*tensors[0].shape))

        def one(total: str, e: str) -> list[str]:
            at = w("Reshape", w("NonZero", w("Equal", chosen, e)), w.ints(-1))
            token = w("Div", at, w.ints(self.top_k))
            given, part = w("Gather", rows, token), w("Gather", share, at)
            made = self._apply_onnx(w, weights, e, given, part)
            return [w("ScatterND", total, w("Unsqueeze", token, w.ints(1)), made, reduction="add")]

        whole = Tensor((copies // self.top_k, self.hidden_size), tensors[0].dtype)
        none = w("Expand", w.number(0), w.ints(*whole.shape))
        each = [(w.ints(*range(self.num_experts)), Tensor((), "int64"))]
        return w("Reshape", w.scan(one, [(none, whole)], each)[0], w.ints(*tensors[0].shape))

    def _apply_onnx(self, w: OnnxWriter, weights: dict[str, str], expert: str, rows: str, share: str) -> str:
        """Rows [n, d] through one expert, or each through its own, as columns [d, n] or [n, d, 1]."""
        each = w.node.ins[2].numel <= self.num_experts

        def columns(name: str, given: str) -> str:
            matrix = w("Gather", weights[name], expert)
            if self.transposed:
                matrix = w("Transpose", matrix, perm=(0, 2, 1) if each else (1, 0))
            y = w("MatMul", matrix, given)
            if self.bias:
                y = w("Add", y, w("Unsqueeze", w("Gather", weights[f"{name}_bias"], expert), w.ints(-1)))
            return y

        if self.scale_input:
            rows = w("Mul", rows, share)
        inner = w("Unsqueeze", rows, w.ints(-1)) if each else w("Transpose", rows, perm=(1, 0))
        made = columns("down_proj", self._activate_onnx(w, columns(self._into, inner)))
        made = w("Squeeze", made, w.ints(-1)) if each else w("Transpose", made, perm=(1, 0))
        return made if self.scale_input else w("Mul", made, share)

    def _activate_onnx(self, w: OnnxWriter, inner: str) -> str:
        """As `_activate`, features in the last dimension but one."""
        if not self.gated:
            return function_onnx(self, w, self.function, inner)
        if not self.clamped:
            gate, up = w("Split", inner, outputs=2, axis=-2, num_outputs=2)
            return w("Mul", function_onnx(self, w, self.function, gate), up)
        wide = w.ints(2 * self.expert_size)
        gate, up = (w("Slice", inner, w.ints(i), wide, w.ints(-2), w.ints(2)) for i in (0, 1))
        gate, up = w("Min", gate, w.number(LIMIT)), w("Clip", up, w.number(-LIMIT), w.number(LIMIT))
        slow = w("Sigmoid", w("Mul", gate, w.number(ALPHA)))
        return w("Mul", w("Mul", w("Add", up, w.number(1)), gate), slow)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        experts, width, gated = pick.size(2, 4), pick.size(1, 3), pick.choice([True, False])
        top_k = pick.int(1, 2)
        op = cls(
            experts, top_k, width, pick.size(1, 3), gated, pick.choice(["silu", "gelu", "relu"]),
            pick.choice([True, False]), pick.choice([True, False]), gated and pick.choice([True, False]),
            pick.choice([True, False]),
        )  # fmt: skip
        lead = (pick.size(1, 2), pick.size(1, 3))
        return op, [Tensor((*lead, width)), Tensor((*lead, top_k)), Tensor((*lead, top_k), "int64")]
