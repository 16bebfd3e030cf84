"""Normalisation: batch, layer, RMS and group norm, in the form inference runs."""

from collections.abc import Sequence
from typing import Any

from pharos.graph.op import (
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
from pharos.quantity.sizes import Size, ceil_log2, floor_div, is_int, prod


@operator(cost="elementwise", aten="batch_norm native_batch_norm", onnx="BatchNormalization")
class BatchNorm(Op):
    """y = (x - running_mean) / sqrt(running_var + eps) * weight + bias, per channel of x[B, C, ...].

    With its statistics frozen it is one multiply-add an element and one root a channel.

    Args:
        affine: there are a weight and a bias.
    """

    num_features: Size
    eps: float = 1e-5
    affine: bool = True

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank >= 2, "needs an input of rank 2 or more", x)
        self.match(x.shape[1], self.num_features, "num_features", x)
        return x

    def weights(self) -> dict[str, tuple[Size, ...]]:
        return {"weight": (self.num_features,), "bias": (self.num_features,)} if self.affine else {}

    def buffers(self) -> dict[str, tuple[Size, ...]]:
        return {"running_mean": (self.num_features,), "running_var": (self.num_features,)}

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(vector_flops=2 * y.numel, transcendentals=2 * self.num_features)

    def training_work(self, x: Tensor, y: Tensor) -> Work:
        """Statistics of the batch: a sum, a difference, a square and its sum an element, then as frozen.

        Per channel two divisions for the means, a root, and 4 operations on the running statistics.
        """
        channels = self.num_features
        return self.work(x, y) + Work(vector_flops=4 * x.numel + 4 * channels, transcendentals=2 * channels)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """dx = w / s (dy - mean(dy) - z mean(dy z)) for z = (x - mean) / s, statistics of the batch.

        Per element z again 2, sums for bias and weight 3, which dx uses too; the line above 4.
        """
        of_x = 4 if wanted[0] else 0
        own = 3 if self.affine or wanted[0] else 0
        return Work(vector_flops=(2 + own + of_x) * x.numel, transcendentals=2 * self.num_features)

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        each = Tensor((self.num_features,), "fp32")
        return Saved((0,), (), {"mean": each, "rstd": each})

    def loops(
        self,
        tally: Tally,
        x: Any,
        *,
        weight: Any = None,
        bias: Any = None,
        running_mean: Any,
        running_var: Any,
    ) -> Any:
        import numpy as np

        y = np.empty_like(x)
        for c in range(x.shape[1]):
            scale = (1.0 if weight is None else weight[c]) / (running_var[c] + self.eps) ** 0.5
            y[:, c] = x[:, c] * scale + ((0.0 if bias is None else bias[c]) - running_mean[c] * scale)
        return y

    def torch(self, torch: Any) -> Any:
        class Frozen(torch.nn.modules.batchnorm._BatchNorm):
            def _check_input_dim(self, input: Any) -> None:
                """Any rank: the rule is the same."""

        return Frozen(self.num_features, self.eps, affine=self.affine).eval()

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        import numpy as np

        own = [w.parameter(key) for key in self.weights()]
        unit = [] if own else [w.table(np.full(int(self.num_features), v)) for v in (1.0, 0.0)]
        held = [w.parameter(key) for key in self.buffers()]
        return w("BatchNormalization", x, *own, *unit, *held, epsilon=self.eps)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        channels = pick.size(1, 4)
        rest = [pick.size(1, 3) for _ in range(pick.int(0, 2))]
        return cls(channels, affine=pick.choice([True, False])), [Tensor((pick.size(1, 3), channels, *rest))]


@operator(cost="norm", aten="layer_norm native_layer_norm", onnx="LayerNormalization")
class LayerNorm(Op):
    """y = (x - mean) / sqrt(var + eps) * weight + bias over the last dimension.

    Per element: sum, difference, square, its sum, scale, weight and bias, 7 operations; per row a
    root and three divisions.

    Args:
        affine: there is a weight; a bias only with one.
    """

    normalized_shape: Size
    eps: float = 1e-5
    bias: bool = True
    affine: bool = True

    def __post_init__(self) -> None:
        self.need(self.affine or not self.bias, "has a bias only beside a weight")

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank >= 1, "needs an input of rank 1 or more", x)
        self.match(x.shape[-1], self.normalized_shape, "normalized_shape", x)
        return x

    def weights(self) -> dict[str, tuple[Size, ...]]:
        weights: dict[str, tuple[Size, ...]] = {"weight": (self.normalized_shape,)} if self.affine else {}
        if self.bias:
            weights["bias"] = (self.normalized_shape,)
        return weights

    def work(self, x: Tensor, y: Tensor) -> Work:
        rows = prod(x.shape[:-1])
        each = 5 + int(self.affine) + int(self.bias)
        return Work(vector_flops=each * x.numel, transcendentals=4 * rows)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """dx = (g - mean(g) - z mean(g z)) / s for z = (x - mean) / s and g = dy weight.

        Per element z again 2, sums for weight 2 and bias 1; for dx the product g, the two sums 3, the
        line above 4; per row two divisions for the means.
        """
        of_x = (8 if self.affine else 7) if wanted[0] else 0
        rows = prod(x.shape[:-1])
        sums = 2 * int(self.affine) + int(self.bias)
        return Work(vector_flops=(2 + sums + of_x) * x.numel, transcendentals=2 * rows if wanted[0] else 0)

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        row = Tensor(x.shape[:-1], "fp32")
        return Saved((0,), (), {"mean": row, "rstd": row})

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        return {SEQUENTIAL: 2 * x.numel, REDUCE: 2 * x.numel}

    def parallelism(self, x: Tensor, y: Tensor) -> Parallelism:
        return Parallelism(width=y.numel, tree=ceil_log2(self.normalized_shape))

    def loops(self, tally: Tally, x: Any, *, weight: Any = None, bias: Any = None) -> Any:
        import numpy as np

        rows = x.reshape(-1, x.shape[-1])
        y = np.empty_like(rows)
        for i, row in enumerate(rows):
            mean = sum(row) / len(row)
            variance = sum((v - mean) ** 2 for v in row) / len(row)
            for j, v in enumerate(row):
                shift = 0.0 if bias is None else bias[j]
                factor = 1.0 if weight is None else weight[j]
                y[i, j] = (v - mean) / (variance + self.eps) ** 0.5 * factor + shift
        return y.reshape(x.shape)

    def torch(self, torch: Any) -> Any:
        return torch.nn.LayerNorm(self.normalized_shape, self.eps, self.affine, bias=self.bias)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        import numpy as np

        own = [w.parameter(key) for key in self.weights()] or [w.table(np.ones(int(self.normalized_shape)))]
        return w("LayerNormalization", x, *own, axis=-1, epsilon=self.eps)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        width = pick.size(2, 6)
        lead = [pick.size(1, 3) for _ in range(pick.int(0, 2))]
        bias, affine = pick.choice([(True, True), (False, True), (False, False)])
        return cls(width, 1e-5, bias, affine), [Tensor((*lead, width))]


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

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """dx = (g - z mean(g z)) / s for z = x / s and g = dy weight.

        Per element z again 1, a product and a sum for the weight; for dx the product g, the sum 2, the
        line above 3; per row a division for the mean.
        """
        own = 2 if self.affine else 0
        of_x = (6 if self.affine else 5) if wanted[0] else 0
        rows = prod(x.shape[:-1]) if wanted[0] else 0
        return Work(vector_flops=(1 + own + of_x) * x.numel, transcendentals=rows)

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved((0,), (), {"rstd": Tensor(x.shape[:-1], "fp32")})

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

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        mean = w("ReduceMean", w("Mul", x, x), w.ints(-1), keepdims=1)
        y = w("Div", x, w("Sqrt", w("Add", mean, w.number(self.eps))))
        if not self.affine:
            return y
        weight = w.parameter("weight")
        return w("Mul", y, w("Add", weight, w.number(1)) if self.unit_offset else weight)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        width = pick.size(1, 6)
        lead = [pick.size(1, 3) for _ in range(pick.int(0, 2))]
        op = cls(width, 1e-6, pick.choice([True, False]), pick.choice([True, False]))
        return op, [Tensor((*lead, width))]


@operator(cost="norm", aten="group_norm native_group_norm", onnx="GroupNormalization")
class GroupNorm(Op):
    """y = (x - mean) / sqrt(var + eps) * weight + bias over each group of channels of x[B, C, ...].

    Counted as layer norm: 7 operations an element; per group a root and three divisions.
    Source: Wu and He 2018, arXiv:1803.08494.

    Args:
        affine: there are a weight and a bias.
    """

    num_groups: Size
    num_channels: Size
    eps: float = 1e-5
    affine: bool = True

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank >= 2, "needs an input of rank 2 or more", x)
        self.match(x.shape[1], self.num_channels, "num_channels", x)
        if is_int(self.num_groups) and is_int(self.num_channels) and self.num_channels % self.num_groups:
            raise self.refuse(f"cannot split {self.num_channels} channels in {self.num_groups} groups", x)
        return x

    def weights(self) -> dict[str, tuple[Size, ...]]:
        return {"weight": (self.num_channels,), "bias": (self.num_channels,)} if self.affine else {}

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(
            vector_flops=(7 if self.affine else 5) * x.numel, transcendentals=4 * x.shape[0] * self.num_groups
        )

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """dx = (g - mean(g) - z mean(g z)) / s for z = (x - mean) / s and g = dy weight.

        Per element z again 2, sums for weight and bias 3; for dx the product g, the two sums 3, the
        line above 4; per group two divisions for the means.
        """
        of_x, own = (8 if self.affine else 7) if wanted[0] else 0, 3 if self.affine else 0
        groups = x.shape[0] * self.num_groups
        return Work(vector_flops=(2 + own + of_x) * x.numel, transcendentals=2 * groups if wanted[0] else 0)

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        per_group = Tensor((x.shape[0], self.num_groups), "fp32")
        return Saved((0,), (), {"mean": per_group, "rstd": per_group})

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        return {SEQUENTIAL: 2 * x.numel, REDUCE: 2 * x.numel}

    def parallelism(self, x: Tensor, y: Tensor) -> Parallelism:
        each = floor_div(prod(x.shape[1:]), self.num_groups)
        return Parallelism(width=y.numel, tree=ceil_log2(each))

    def loops(self, tally: Tally, x: Any, *, weight: Any = None, bias: Any = None) -> Any:
        import numpy as np

        y, each = np.empty_like(x), self.num_channels // self.num_groups
        for b in range(len(x)):
            for first in range(0, self.num_channels, each):
                values = x[b, first : first + each].reshape(-1)
                mean = sum(values) / len(values)
                variance = sum((v - mean) ** 2 for v in values) / len(values)
                for c in range(first, first + each):
                    y[b, c] = (x[b, c] - mean) / (variance + self.eps) ** 0.5
                    if self.affine:
                        y[b, c] = y[b, c] * weight[c] + bias[c]
        return y

    def torch(self, torch: Any) -> Any:
        return torch.nn.GroupNorm(self.num_groups, self.num_channels, self.eps, self.affine)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        import numpy as np

        shape, groups = w.node.ins[0].shape, int(self.num_groups)
        rows = w("Reshape", x, w.ints(shape[0], groups, -1))
        unit = [w.table(np.full(groups, value)) for value in (1.0, 0.0)]
        rows = w("InstanceNormalization", rows, *unit, epsilon=self.eps)
        if not self.affine:
            return w("Reshape", rows, w.ints(*shape))
        side = w.ints(self.num_channels, *[1] * (len(shape) - 2))
        weight, bias = (w("Reshape", w.parameter(key), side) for key in ("weight", "bias"))
        return w("Add", w("Mul", w("Reshape", rows, w.ints(*shape)), weight), bias)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        # two channels a group or more: a single value has no variance
        groups, each = pick.size(1, 3), pick.int(2, 3)
        rest = [pick.size(1, 3) for _ in range(pick.int(0, 2))]
        op = cls(groups, groups * each, affine=pick.choice([True, False]))
        return op, [Tensor((pick.size(1, 2), groups * each, *rest))]
