"""Fusions: what a runtime joins into one kernel, a rule each; a runtime is a set of rules."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pharos.graph.count import Line
    from pharos.passes.fuse import Kernel

# How an operator joins: its arithmetic is folded into weights (nothing is left of it); it follows, in
# registers; it lies beside, another product of the same input.
FOLDS, FOLLOWS, BESIDE = "folds", "follows", "beside"


@dataclass(frozen=True, slots=True)
class Rule:
    """One way in which an operator joins the kernel that made what it reads.

    Args:
        says: what it does, in a few words.
        joins: whether an operator joins a kernel.
        how: "folds", "follows" or "beside".
        shared: also where others read what lies between, which then is written all the same.
    """

    name: str
    says: str
    joins: "Callable[[Line, Kernel], bool]"
    how: str = FOLLOWS
    shared: bool = False


CONVOLUTIONS = ("conv1d", "conv2d", "conv3d", "group_conv2d")
PRODUCTS = (*CONVOLUTIONS, "linear")
# Classes whose loops run over elements or rows, which a compiler that writes loops joins with each other.
LOOPS = ("elementwise", "norm", "softmax", "pool", "gather", "copy")


def _function(line: "Line") -> str:
    return str(getattr(line.node.op, "function", ""))


def _alone(host: "Kernel") -> bool:
    return _made_by(host, (host.lead.kind,), ())


def _made_by(host: "Kernel", kinds: tuple[str, ...], also: tuple[str, ...] = ("batch_norm",)) -> bool:
    """Whether a kernel is of such a kind, with nothing but `also` behind it."""
    return (
        host.lead.kind in kinds and not host.beside and all(x.kind in (*also, "pad") for x in host.lines[1:])
    )


def folded_into(*kinds: str) -> Rule:
    """Batch norm folded into the weights of the layer before it."""
    return Rule(
        "batch norm",
        f"batch norm is folded into the weights of {', '.join(kinds)}",
        lambda line, host: line.kind == "batch_norm" and host.lead.kind in kinds and _alone(host),
        FOLDS,
    )


def activated(
    kinds: tuple[str, ...], functions: tuple[str, ...], also: tuple[str, ...] = (), rank: int = 0
) -> Rule:
    """An activation at the end of a kernel of some kinds.

    Args:
        also: what may lie between; rank: of the result that is activated, any by default.
    """
    return Rule(
        "activation",
        f"{', '.join(functions)} behind {', '.join(kinds)}",
        lambda line, host: (
            line.kind == "activation"
            and _function(line) in functions
            and _made_by(host, kinds, ("batch_norm", *also))
            and rank in (0, line.node.ins[0].rank)
        ),
    )


EPILOGUE = Rule(
    "epilogue",
    "elementwise operators behind any kernel but a copy",
    lambda line, host: (
        line.cost_class == "elementwise" and host.lead.cost_class != "copy" and not host.beside
    ),
)
CHAIN = Rule(
    "chain",
    "elementwise operators behind elementwise ones, norms, softmax, pooling, lookups and copies; what lies "
    "between is written where others read it too",
    lambda line, host: line.cost_class == "elementwise" and host.lead.cost_class in LOOPS,
    shared=True,
)
ROWS = Rule(
    "rows",
    "a norm or softmax behind elementwise operators and lookups; what lies between is written where others "
    "read it too",
    lambda line, host: (
        line.cost_class in ("norm", "softmax") and host.lead.cost_class in ("elementwise", "gather")
    ),
    shared=True,
)
SUM = Rule(
    "sum",
    "the addition behind a convolution",
    lambda line, host: line.kind == "add" and _made_by(host, CONVOLUTIONS),
)
SKIP_NORM = Rule(
    "skip norm",
    "layer norm behind the addition whose only reader it is",
    lambda line, host: line.kind in ("layer_norm", "rms_norm") and host.lead.kind == "add" and _alone(host),
)
PADDED = Rule(
    "padding",
    "the padding before a convolution",
    lambda line, host: line.kind in CONVOLUTIONS and host.lead.kind == "pad" and _alone(host),
)
SIDE_BY_SIDE = Rule(
    "side by side",
    "products that read the same input become one",
    lambda line, host: (
        line.kind == host.lead.kind
        and line.kind in PRODUCTS
        and len(host.lines) == 1 + len(host.beside)
        and line.node.inputs == host.lead.node.inputs
        and _shape_but_width(line) == _shape_but_width(host.lead)
    ),
    BESIDE,
)


def _shape_but_width(line: "Line") -> tuple[object, ...]:
    op = line.node.op
    fields = getattr(op, "__dataclass_fields__", ())
    return tuple(getattr(op, name) for name in fields if name != "out_channels" and name != "out_features")


# Activations by library. Source: the graphs that ONNX Runtime 1.32 writes with all optimisations (conv, and
# Gemm of rank 2); ncnn's fuse passes; TensorFlow Lite's fused_activation_function.
ONNXRUNTIME_CONV = ("relu", "relu6", "sigmoid", "tanh", "leaky_relu", "hardsigmoid", "hardswish")
ONNXRUNTIME_GEMM = ("relu", "sigmoid", "tanh", "leaky_relu")
NCNN = ("relu", "leaky_relu", "relu6", "sigmoid", "mish", "hardswish")
TFLITE = ("relu", "relu6")

# The sets of rules. None joins operators across the ends of a repeated layer.
FUSIONS: dict[str, tuple[Rule, ...]] = {
    "none": (),
    # What most inference runtimes do, and what the efficiencies of the catalogue were fitted with.
    "usual": (folded_into("conv1d", "conv2d", "group_conv2d", "linear"), EPILOGUE),
    "inductor": (CHAIN, ROWS, EPILOGUE),
    "tensorrt": (folded_into(*PRODUCTS), CHAIN, ROWS, EPILOGUE, SIDE_BY_SIDE),
    "onnxruntime": (
        PADDED,
        folded_into(*CONVOLUTIONS),
        SUM,
        activated(CONVOLUTIONS, ONNXRUNTIME_CONV, ("add",)),
        activated(("linear",), ONNXRUNTIME_GEMM, rank=2),
        SKIP_NORM,
    ),
    "ncnn": (folded_into(*PRODUCTS), activated(PRODUCTS, NCNN)),
    "tflite": (folded_into(*PRODUCTS), activated((*PRODUCTS, "add", "mul", "max_pool2d"), TFLITE)),
}
