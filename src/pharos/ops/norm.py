"""Normalisation: batch, layer and RMS norm, in the form inference runs."""

from typing import Any

from pharos.graph.op import REDUCE, SEQUENTIAL, Op, Parallelism, Picker, Tally, Work, operator
from pharos.graph.tensor import Tensor
from pharos.quantity.sizes import Size, ceil_log2, prod


@operator(cost="elementwise", aten="batch_norm native_batch_norm", onnx="BatchNormalization")
class BatchNorm(Op):
    """y = (x - running_mean) / sqrt(running_var + eps) * weight + bias, per channel of x[B, C, ...].

    With its statistics frozen it is one multiply-add an element and one root a channel.
    """

    num_features: Size
    eps: float = 1e-5

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank >= 2, "needs an input of rank 2 or more", x)
        self.match(x.shape[1], self.num_features, "num_features", x)
        return x

    def weights(self) -> dict[str, tuple[Size, ...]]:
        return {"weight": (self.num_features,), "bias": (self.num_features,)}

    def buffers(self) -> dict[str, tuple[Size, ...]]:
        return {"running_mean": (self.num_features,), "running_var": (self.num_features,)}

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(vector_flops=2 * y.numel, transcendentals=2 * self.num_features)

    def loops(
        self, tally: Tally, x: Any, *, weight: Any, bias: Any, running_mean: Any, running_var: Any
    ) -> Any:
        import numpy as np

        y = np.empty_like(x)
        for c in range(x.shape[1]):
            scale = weight[c] / (running_var[c] + self.eps) ** 0.5
            y[:, c] = x[:, c] * scale + (bias[c] - running_mean[c] * scale)
        return y

    def torch(self, torch: Any) -> Any:
        class Frozen(torch.nn.modules.batchnorm._BatchNorm):
            def _check_input_dim(self, input: Any) -> None:
                """Any rank: the rule is the same."""

        return Frozen(self.num_features, self.eps).eval()

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        channels = pick.size(1, 4)
        rest = [pick.size(1, 3) for _ in range(pick.int(0, 2))]
        return cls(channels), [Tensor((pick.size(1, 3), channels, *rest))]


@operator(cost="norm", aten="layer_norm native_layer_norm", onnx="LayerNormalization")
class LayerNorm(Op):
    """y = (x - mean) / sqrt(var + eps) * weight + bias over the last dimension.

    Per element: sum, difference, square, its sum, scale, weight and bias, 7 operations; per row a
    root and three divisions.
    """

    normalized_shape: Size
    eps: float = 1e-5
    bias: bool = True

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank >= 1, "needs an input of rank 1 or more", x)
        self.match(x.shape[-1], self.normalized_shape, "normalized_shape", x)
        return x

    def weights(self) -> dict[str, tuple[Size, ...]]:
        weights: dict[str, tuple[Size, ...]] = {"weight": (self.normalized_shape,)}
        if self.bias:
            weights["bias"] = (self.normalized_shape,)
        return weights

    def work(self, x: Tensor, y: Tensor) -> Work:
        rows = prod(x.shape[:-1])
        return Work(vector_flops=(7 if self.bias else 6) * x.numel, transcendentals=4 * rows)

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        return {SEQUENTIAL: 2 * x.numel, REDUCE: 2 * x.numel}

    def parallelism(self, x: Tensor, y: Tensor) -> Parallelism:
        return Parallelism(width=y.numel, tree=ceil_log2(self.normalized_shape))

    def loops(self, tally: Tally, x: Any, *, weight: Any, bias: Any = None) -> Any:
        import numpy as np

        rows = x.reshape(-1, x.shape[-1])
        y = np.empty_like(rows)
        for i, row in enumerate(rows):
            mean = sum(row) / len(row)
            variance = sum((v - mean) ** 2 for v in row) / len(row)
            for j, v in enumerate(row):
                shift = 0.0 if bias is None else bias[j]
                y[i, j] = (v - mean) / (variance + self.eps) ** 0.5 * weight[j] + shift
        return y.reshape(x.shape)

    def torch(self, torch: Any) -> Any:
        return torch.nn.LayerNorm(self.normalized_shape, self.eps, bias=self.bias)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        width = pick.size(2, 6)
        lead = [pick.size(1, 3) for _ in range(pick.int(0, 2))]
        return cls(width, bias=pick.choice([True, False])), [Tensor((*lead, width))]


@operator(cost="norm", aten="rms_norm", onnx="RMSNormalization SimplifiedLayerNormalization")
class RMSNorm(Op):
    """y = x / sqrt(mean(x^2) + eps) * weight over the last dimension.

    Per element: square, its sum, scale, weight, 4 operations; per row a root and two divisions.
    Source: Zhang and Sennrich 2019, arXiv:1910.07467.

    Args:
        unit_offset: the stored weight is what is added to 1, as in Gemma.
        affine: there is a weight.
    """

    normalized_shape: Size
    eps: float = 1e-6
    unit_offset: bool = False
    affine: bool = True

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank >= 1, "needs an input of rank 1 or more", x)
        self.match(x.shape[-1], self.normalized_shape, "normalized_shape", x)
        return x

    def weights(self) -> dict[str, tuple[Size, ...]]:
        return {"weight": (self.normalized_shape,)} if self.affine else {}

    def work(self, x: Tensor, y: Tensor) -> Work:
        each = 3 + (1 if self.affine else 0) + (1 if self.affine and self.unit_offset else 0)
        return Work(vector_flops=each * x.numel, transcendentals=3 * prod(x.shape[:-1]))

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        return {SEQUENTIAL: 2 * x.numel, REDUCE: x.numel}

    def parallelism(self, x: Tensor, y: Tensor) -> Parallelism:
        return Parallelism(width=y.numel, tree=ceil_log2(self.normalized_shape))

    def loops(self, tally: Tally, x: Any, *, weight: Any = None) -> Any:
        import numpy as np

        rows = x.reshape(-1, x.shape[-1])
        y = np.empty_like(rows)
        for i, row in enumerate(rows):
            root = (sum(v * v for v in row) / len(row) + self.eps) ** 0.5
            for j, v in enumerate(row):
                factor = 1.0 if weight is None else weight[j] + (1.0 if self.unit_offset else 0.0)
                y[i, j] = v / root * factor
        return y.reshape(x.shape)

    def torch(self, torch: Any) -> Any:
        if not self.unit_offset:
            return torch.nn.RMSNorm(self.normalized_shape, self.eps, elementwise_affine=self.affine)

        class Offset(torch.nn.RMSNorm):
            def forward(self, x: Any) -> Any:
                weight = None if self.weight is None else 1 + self.weight
                return torch.nn.functional.rms_norm(x, self.normalized_shape, weight, self.eps)

        return Offset(self.normalized_shape, self.eps, elementwise_affine=self.affine)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        width = pick.size(1, 6)
        lead = [pick.size(1, 3) for _ in range(pick.int(0, 2))]
        op = cls(width, 1e-6, pick.choice([True, False]), pick.choice([True, False]))
        return op, [Tensor((*lead, width))]
