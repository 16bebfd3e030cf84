"""Activations element by element, and softmax over a row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import pi
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
from pharos.quantity.errors import unknown
from pharos.quantity.sizes import Size, ceil_log2, prod


@dataclass(frozen=True, slots=True)
class Function:
    """An elementwise function: its cost, its NumPy form, PyTorch's name for it.

    Args:
        forward, backward: (vector, transcendental) operations an element; backward multiplies dy by the
            derivative, computed from what is kept: "input", "output" or nothing.
    """

    forward: tuple[int, int]
    backward: tuple[int, int]
    keeps: str
    numpy: Callable[[Any, Any], Any]
    torch: str
    options: tuple[tuple[str, Any], ...] = ()


def _erf(np: Any, x: Any) -> Any:
    from math import erf

    return np.vectorize(erf, otypes=[x.dtype])(x)


# Scale and slope of SELU: Klambauer et al. 2017, arXiv:1706.02515.
SELU = (1.0507009873554805, 1.6732632423543772)

# vector: additions, multiplications, comparisons; transcendental: exp, tanh, erf, root, division.
FUNCTIONS = {
    "identity": Function((0, 0), (0, 0), "", lambda np, x: x, "nn.Identity"),
    "relu": Function((1, 0), (1, 0), "output", lambda np, x: np.maximum(x, 0), "nn.ReLU"),
    "relu6": Function((2, 0), (2, 0), "input", lambda np, x: np.clip(x, 0, 6), "nn.ReLU6"),
    "leaky_relu": Function(
        (2, 0), (2, 0), "input", lambda np, x: np.where(x > 0, x, 0.01 * x), "nn.LeakyReLU"
    ),
    "elu": Function(
        (2, 1), (2, 1), "input", lambda np, x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), "nn.ELU"
    ),
    "sigmoid": Function((1, 2), (3, 0), "output", lambda np, x: 1 / (1 + np.exp(-x)), "nn.Sigmoid"),
    "tanh": Function((0, 1), (3, 0), "output", lambda np, x: np.tanh(x), "nn.Tanh"),
    "silu": Function((2, 2), (6, 2), "input", lambda np, x: x / (1 + np.exp(-x)), "nn.SiLU"),
    "gelu": Function((4, 1), (9, 2), "input", lambda np, x: 0.5 * x * (1 + _erf(np, x / 2**0.5)), "nn.GELU"),
    "gelu_tanh": Function(
        (8, 1),
        (17, 1),
        "input",
        lambda np, x: 0.5 * x * (1 + np.tanh((2 / pi) ** 0.5 * (x + 0.044715 * x**3))),
        "nn.GELU",
        (("approximate", "tanh"),),
    ),
    "hardsigmoid": Function(
        (4, 0), (3, 0), "input", lambda np, x: np.clip(x + 3, 0, 6) / 6, "nn.Hardsigmoid"
    ),
    "hardswish": Function(
        (5, 0), (6, 0), "input", lambda np, x: x * np.clip(x + 3, 0, 6) / 6, "nn.Hardswish"
    ),
    "softplus": Function((1, 2), (2, 2), "input", lambda np, x: np.logaddexp(x, 0), "nn.Softplus"),
    "mish": Function((2, 3), (8, 4), "input", lambda np, x: x * np.tanh(np.logaddexp(x, 0)), "nn.Mish"),
    "exp": Function((0, 1), (1, 0), "output", lambda np, x: np.exp(x), "exp"),
    "erf": Function((0, 1), (3, 1), "input", _erf, "erf"),
    "abs": Function((1, 0), (1, 0), "input", lambda np, x: np.abs(x), "abs"),
    "neg": Function((1, 0), (1, 0), "", lambda np, x: -x, "neg"),
    "square": Function((1, 0), (2, 0), "input", lambda np, x: x * x, "square"),
    "sqrt": Function((0, 1), (1, 1), "output", lambda np, x: np.sqrt(x), "sqrt"),
    "reciprocal": Function((0, 1), (3, 0), "output", lambda np, x: 1 / x, "reciprocal"),
    "log": Function((0, 1), (0, 1), "input", lambda np, x: np.log(x), "log"),
    "floor": Function((1, 0), (0, 0), "", lambda np, x: np.floor(x), "floor"),
    "ceil": Function((1, 0), (0, 0), "", lambda np, x: np.ceil(x), "ceil"),
    "round": Function((1, 0), (0, 0), "", lambda np, x: np.round(x), "round"),
    "sign": Function((1, 0), (0, 0), "", lambda np, x: np.sign(x), "sign"),
    "sin": Function((0, 1), (1, 1), "input", lambda np, x: np.sin(x), "sin"),
    "cos": Function((0, 1), (2, 1), "input", lambda np, x: np.cos(x), "cos"),
    "selu": Function(
        (3, 1),
        (3, 1),
        "input",
        lambda np, x: SELU[0] * np.where(x > 0, x, SELU[1] * np.expm1(np.minimum(x, 0))),
        "nn.SELU",
    ),
    "celu": Function(
        (2, 1), (2, 1), "input", lambda np, x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), "nn.CELU"
    ),
    "softsign": Function((2, 1), (3, 1), "input", lambda np, x: x / (1 + np.abs(x)), "nn.Softsign"),
    "hardshrink": Function(
        (2, 0), (2, 0), "input", lambda np, x: np.where(abs(x) > 0.5, x, 0), "nn.Hardshrink"
    ),
    "softshrink": Function(
        (3, 0), (2, 0), "input", lambda np, x: np.sign(x) * np.maximum(abs(x) - 0.5, 0), "nn.Softshrink"
    ),
    "logsigmoid": Function((2, 2), (3, 2), "input", lambda np, x: -np.logaddexp(-x, 0), "nn.LogSigmoid"),
    "tanhshrink": Function((1, 1), (2, 1), "input", lambda np, x: x - np.tanh(x), "nn.Tanhshrink"),
    "expm1": Function((1, 1), (2, 0), "output", lambda np, x: np.expm1(x), "expm1"),
    "log1p": Function((1, 1), (1, 1), "input", lambda np, x: np.log1p(x), "log1p"),
    "rsqrt": Function((0, 2), (3, 0), "output", lambda np, x: 1 / np.sqrt(x), "rsqrt"),
    "trunc": Function((1, 0), (0, 0), "", lambda np, x: np.trunc(x), "trunc"),
    "tan": Function((0, 1), (3, 0), "output", lambda np, x: np.tan(x), "tan"),
    "asin": Function((0, 1), (2, 2), "input", lambda np, x: np.arcsin(x), "asin"),
    "acos": Function((0, 1), (3, 2), "input", lambda np, x: np.arccos(x), "acos"),
    "atan": Function((0, 1), (2, 1), "input", lambda np, x: np.arctan(x), "atan"),
    "sinh": Function((0, 1), (1, 1), "input", lambda np, x: np.sinh(x), "sinh"),
    "cosh": Function((0, 1), (1, 1), "input", lambda np, x: np.cosh(x), "cosh"),
    "asinh": Function((0, 1), (2, 2), "input", lambda np, x: np.arcsinh(x), "asinh"),
    "acosh": Function((0, 1), (2, 2), "input", lambda np, x: np.arccosh(x), "acosh"),
    "atanh": Function((0, 1), (2, 1), "input", lambda np, x: np.arctanh(x), "atanh"),
}


# What these multiply by below zero, and PyTorch's name for it.
SCALED = {"leaky_relu": (0.01, "negative_slope"), "elu": (1.0, "alpha")}

# ONNX's operator and attributes; those that are several operators are in `function_onnx`.
ONNX_FUNCTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}), "leaky_relu": ("LeakyRelu", {"alpha": 0.01}), "elu": ("Elu", {}),
    "sigmoid": ("Sigmoid", {}), "tanh": ("Tanh", {}), "gelu": ("Gelu", {}),
    "gelu_tanh": ("Gelu", {"approximate": "tanh"}), "hardsigmoid": ("HardSigmoid", {"alpha": 1 / 6}),
    "hardswish": ("HardSwish", {}), "softplus": ("Softplus", {}), "mish": ("Mish", {}), "exp": ("Exp", {}),
    "sqrt": ("Sqrt", {}), "reciprocal": ("Reciprocal", {}), "log": ("Log", {}), "floor": ("Floor", {}),
    "ceil": ("Ceil", {}), "round": ("Round", {}), "sign": ("Sign", {}),
    "erf": ("Erf", {}), "abs": ("Abs", {}), "neg": ("Neg", {}), "sin": ("Sin", {}), "cos": ("Cos", {}),
    "selu": ("Selu", {}), "celu": ("Celu", {}), "softsign": ("Softsign", {}), "tan": ("Tan", {}),
    "asin": ("Asin", {}), "acos": ("Acos", {}), "atan": ("Atan", {}), "sinh": ("Sinh", {}),
    "cosh": ("Cosh", {}), "asinh": ("Asinh", {}), "acosh": ("Acosh", {}), "atanh": ("Atanh", {}),
    "hardshrink": ("Shrink", {"lambd": 0.5}), "softshrink": ("Shrink", {"lambd": 0.5, "bias": 0.5}),
}  # fmt: skip


def function_onnx(op: Op, w: OnnxWriter, function: str, x: str) -> str:
    """One of FUNCTIONS as ONNX nodes; `op` is named in the refusal of one that has none."""
    if function == "identity":
        return x
    if function == "silu":
        return w("Mul", x, w("Sigmoid", x))
    if function == "square":
        return w("Mul", x, x)
    if function == "relu6":
        return w("Clip", x, w.number(0), w.number(6))
    if function == "logsigmoid":
        return w("Neg", w("Softplus", w("Neg", x)))
    if function == "tanhshrink":
        return w("Sub", x, w("Tanh", x))
    if function == "expm1":
        return w("Sub", w("Exp", x), w.number(1))
    if function == "log1p":
        return w("Log", w("Add", x, w.number(1)))
    if function == "rsqrt":
        return w("Reciprocal", w("Sqrt", x))
    if function == "trunc":
        return w("Mul", w("Sign", x), w("Floor", w("Abs", x)))
    if function not in ONNX_FUNCTIONS:
        raise op.refuse(f"has no ONNX form of {function}")
    kind, attributes = ONNX_FUNCTIONS[function]
    return w(kind, x, **attributes)


@operator(
    cost="elementwise",
    aten="relu gelu silu sigmoid tanh hardswish hardsigmoid leaky_relu elu softplus mish exp erf sqrt "
    "reciprocal log floor ceil round sign selu celu softsign hardshrink softshrink log_sigmoid tanhshrink "
    "expm1 log1p rsqrt trunc tan asin acos atan sinh cosh asinh acosh atanh sin cos abs neg square",
    onnx="Selu Celu Softsign Shrink Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh "
    "Relu Gelu Sigmoid Tanh HardSwish HardSigmoid LeakyRelu Elu Softplus Mish Exp Erf Abs Neg Sin Cos "
    "Sqrt Reciprocal Log Floor Ceil Round Sign",
)
class Activation(Op):
    """y = f(x) for one of FUNCTIONS; operations per element are listed there.

    Args:
        alpha: what leaky_relu and elu multiply by below zero, if not by PyTorch's 0.01 and 1.
    """

    function: str = "relu"
    alpha: float | None = None

    def __post_init__(self) -> None:
        if self.function not in FUNCTIONS:
            raise unknown("activation", str(self.function), FUNCTIONS)
        if self.alpha is not None:
            self.need(self.function in SCALED, f"has an alpha, as only {' and '.join(SCALED)} have")

    def _scaling(self) -> int:
        """Multiplications an element that an alpha adds: of an elu, whose own is 1."""
        return int(self.function == "elu" and self.alpha is not None)

    def shape(self, x: Tensor) -> Tensor:
        return x

    def work(self, x: Tensor, y: Tensor) -> Work:
        vector, transcendental = FUNCTIONS[self.function].forward
        vector += self._scaling()
        return Work(vector_flops=vector * y.numel, transcendentals=transcendental * y.numel)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        vector, transcendental = FUNCTIONS[self.function].backward if wanted[0] else (0, 0)
        vector += self._scaling() if wanted[0] else 0
        return Work(vector_flops=vector * y.numel, transcendentals=transcendental * y.numel)

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        keeps = FUNCTIONS[self.function].keeps
        return Saved((0,) if keeps == "input" else (), (0,) if keeps == "output" else ())

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        y = np.empty_like(x).reshape(-1)
        # a root or logarithm of what has none is not a number, silently, as in PyTorch
        with np.errstate(divide="ignore", invalid="ignore"):
            for i, value in enumerate(x.reshape(-1)):
                y[i] = FUNCTIONS[self.function].numpy(np, np.asarray(value))
                if self.alpha is not None and value < 0:
                    y[i] *= self.alpha / SCALED[self.function][0]
        return y.reshape(x.shape)

    def torch(self, torch: Any) -> Any:
        f = FUNCTIONS[self.function]
        if not f.torch.startswith("nn."):
            return getattr(torch, f.torch)
        options = dict(f.options)
        if self.alpha is not None:
            options[SCALED[self.function][1]] = self.alpha
        return getattr(torch.nn, f.torch.removeprefix("nn."))(**options)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        if self.alpha is not None:
            return w(ONNX_FUNCTIONS[self.function][0], x, alpha=self.alpha)
        return function_onnx(self, w, self.function, x)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        shape = tuple(pick.size(1, 4) for _ in range(pick.int(1, 3)))
        function, alpha = pick.choice(list(FUNCTIONS)), pick.choice([None, 0.25])
        return cls(function, alpha if function in SCALED else None), [Tensor(shape)]


@operator(cost="softmax", aten="softmax _softmax log_softmax", onnx="Softmax LogSoftmax")
class Softmax(Op):
    """y = exp(x - max) / sum(exp(x - max)) along `dim`, or with `log` its logarithm.

    Per element: maximum, difference, sum, 3 operations; an exponential and a division. The logarithm is
    x - max - log(sum): a difference instead of the division, and one logarithm a row.
    """

    dim: int = -1
    log: bool = False

    def shape(self, x: Tensor) -> Tensor:
        self.need(-x.rank <= self.dim < x.rank, f"has no dimension {self.dim}", x)
        return x

    def _rows(self, x: Tensor) -> Size:
        at = self.dim % x.rank
        return prod((*x.shape[:at], *x.shape[at + 1 :]))

    def work(self, x: Tensor, y: Tensor) -> Work:
        if self.log:
            return Work(vector_flops=4 * x.numel, transcendentals=x.numel + self._rows(x))
        return Work(vector_flops=3 * x.numel, transcendentals=2 * x.numel)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """dx = y (dy - sum of y dy): a product, a sum, a difference and a product an element.

        Of the logarithm dx = dy - exp(y) (sum of dy): a sum, an exponential, a product and a difference.
        """
        if self.log and wanted[0]:
            return Work(vector_flops=3 * x.numel, transcendentals=x.numel)
        return Work(vector_flops=4 * x.numel if wanted[0] else 0)

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved(outputs=(0,))

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        return {SEQUENTIAL: 2 * x.numel, REDUCE: 2 * x.numel}

    def parallelism(self, x: Tensor, y: Tensor) -> Parallelism:
        return Parallelism(width=y.numel, tree=ceil_log2(x.shape[self.dim]))

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        moved = np.moveaxis(x, self.dim, -1)
        rows = moved.reshape(-1, moved.shape[-1])
        y = np.empty_like(rows)
        for i, row in enumerate(rows):
            top = max(row)
            powers = [np.exp(v - top) for v in row]
            total = sum(powers)
            y[i] = [v - top - np.log(total) for v in row] if self.log else [p / total for p in powers]
        return np.moveaxis(y.reshape(moved.shape), -1, self.dim)

    def torch(self, torch: Any) -> Any:
        return (torch.nn.LogSoftmax if self.log else torch.nn.Softmax)(dim=self.dim)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        return w("LogSoftmax" if self.log else "Softmax", x, axis=self.dim)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        shape = tuple(pick.size(1, 4) for _ in range(pick.int(1, 3)))
        dim = pick.int(0, len(shape) - 1) - pick.choice([0, len(shape)])
        return cls(dim, pick.choice([False, True])), [Tensor(shape)]
