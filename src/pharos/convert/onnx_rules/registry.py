"""The register of ONNX rules, and what rules share: constants as numbers, pads, scalars, heads."""

from collections.abc import Callable, Sequence
from typing import Any

from pharos.convert.onnx_reader import STANDARD, Call, OnnxReader
from pharos.graph.graph import Value
from pharos.graph.tensor import Tensor
from pharos.ops.copies import Pad
from pharos.ops.priced import Priced
from pharos.ops.shape_ops import Reshape, Transpose
from pharos.quantity.sizes import Size, ceil_div, is_int, maximum, prod, same

# What a rule gives: the node's outputs in order, None for one that is not made.
Result = Any
Rule = Callable[[OnnxReader, Call], Result]
RULES: dict[str, Rule] = {}
MICROSOFT, ML = "com.microsoft", "ai.onnx.ml"
# Domains whose operators are read; those of a preview are in the standard's form.
_DOMAINS = {"": "", "ai.onnx": "", "ai.onnx.preview": "", MICROSOFT: f"{MICROSOFT}.", ML: f"{ML}.",
            "ai.onnx.preview.training": "ai.onnx.preview.training."}  # fmt: skip


def rule(*kinds: str) -> Callable[[Rule], Rule]:
    """Registers a rule for ONNX operator types, those outside the standard with their domain in front."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(kinds, function))
        return function

    return register


def rule_of(node: Call) -> Rule | None:
    """The rule of a node; Microsoft's own come before the standard's of the same name."""
    head = _DOMAINS.get(node.domain)
    if head is None:
        return None
    found = RULES.get(f"{head}{node.op_type}")
    if found is None and node.domain == MICROSOFT:
        return RULES.get(node.op_type)
    return found


def has(node: Call, i: int) -> bool:
    """Whether an optional input is given."""
    return len(node.input) > i and bool(node.input[i])


def gives(node: Call, i: int) -> bool:
    """Whether an optional output is asked for."""
    return len(node.output) > i and bool(node.output[i])


def first(reader: OnnxReader, node: Call) -> Value:
    """The value of the first input."""
    return reader.value(node.input[0])


def weight(reader: OnnxReader, node: Call, i: int) -> Tensor:
    """A parameter's tensor; raises KeyError when the input is no constant."""
    return reader.constants[node.input[i]].tensor


def numbers(reader: OnnxReader, node: Call, name: str, i: int) -> list[Any] | None:
    """Axes, pads and the like: an attribute in old opsets, a constant input in new ones.

    Raises:
        ValueError: an input whose numbers are not known.
    """
    if name and name in node.attributes:
        value = node.attributes[name]
        return list(value) if isinstance(value, (list, tuple)) else [value]
    if not has(node, i):
        return None
    found = reader.data(node.input[i])
    if found is None:
        raise ValueError(f"{name} is not known")
    return [int(v) if isinstance(v, (bool, int, float)) else v for v in found]


def decimals(reader: OnnxReader, name: str) -> list[float] | None:
    """The numbers of a small constant as they were written."""
    found = reader.data(name)
    return None if found is None else [decimal(v) if isinstance(v, float) else v for v in found]


def decimal(number: float) -> float:
    """The number that a float32 of the file was written as: 0.1, not 0.10000000149."""
    import numpy as np

    with np.errstate(over="ignore"):
        narrow = np.float32(number)
    return float(str(narrow)) if float(narrow) == number else float(number)


def pads(
    x: Value, node: Call, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[tuple[int, int]]:
    """(before, after) of each spatial dimension, auto_pad resolved."""
    n = len(kernel)
    mode = node.attributes.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        found = []
        for size, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True):
            total = maximum((ceil_div(size, s) - 1) * s + d * (k - 1) + 1 - size, 0)
            if not is_int(total):
                raise ValueError("pads that depend on an open size")
            small, large = total // 2, total - total // 2
            found.append((small, large) if mode == "SAME_UPPER" else (large, small))
        return found
    flat = [0] * 2 * n if mode == "VALID" else node.attributes.get("pads", [0] * 2 * n)
    if len(flat) != 2 * n:
        raise ValueError("pads of another rank")
    return [(flat[i], flat[i + n]) for i in range(n)]


def even(reader: OnnxReader, node: Call, x: Value, given: list[tuple[int, int]], value: float = 0.0) -> Any:
    """(x, symmetric padding): what is more on one side becomes a Pad."""
    if all(before == after for before, after in given):
        return x, tuple(before for before, _ in given)
    op = Pad(((0, 0), (0, 0), *given), value=value)
    return reader.add(node, op, x, name=reader.name(node) + ".pad"), (0,) * len(given)


def spread(node: Call, name: str, n: int, usual: int = 1) -> tuple[int, ...]:
    """An attribute with one number a spatial dimension."""
    found = tuple(node.attributes.get(name) or [usual] * n)
    if len(found) != n:
        raise ValueError(f"{name} of another rank")
    return found


def reshaped(reader: OnnxReader, node: Call, x: Value, *shape: Size) -> Value:
    """x in another shape, or as it is."""
    if len(shape) == len(x.shape) and all(map(same, shape, x.shape)):
        return x
    return reader.add(node, Reshape(tuple(shape)), x)


def heads(reader: OnnxReader, node: Call, x: Value, count: Size) -> Value:
    """x[B, T, H d] as [B, H, T, d]: a view that attention reads by strides."""
    batch, tokens, width = x.shape
    if is_int(width) and is_int(count) and (count < 1 or width % count):
        raise ValueError(f"{width} features in {count} heads")
    split = reader.add(node, Reshape((batch, tokens, count, width // count)), x)
    return reader.add(node, Transpose((0, 2, 1, 3), view=True), split)


def joined(reader: OnnxReader, node: Call, x: Value) -> Value:
    """x[B, H, T, d] as [B, T, H d]: a view of what attention wrote."""
    batch, count, tokens, width = x.shape
    turned = reader.add(node, Transpose((0, 2, 1, 3), view=True), x)
    return reader.add(node, Reshape((batch, tokens, count * width)), turned)


def priced(
    reader: OnnxReader,
    node: Call,
    outputs: Sequence[tuple[Sequence[Size], str]],
    *inputs: Value,
    macs: Size = 0,
    vector: Size = 0,
    roots: Size = 0,
    cost: str = "elementwise",
) -> Result:
    """Appends an operator of stated outputs and work: (shape, element type) of each output.

    Every parameter that the node reads is its own.
    """
    held: dict[str, str] = {}
    parameters = []
    values = list(inputs)
    for i, name in enumerate(node.input):
        constant = reader.constants.get(name) if name else None
        if (
            constant is not None
            and constant.origins
            and constant.tensor.numel > 1
            and name not in reader.values
        ):
            key = f"weight{i}"
            held[key] = name
            parameters.append((key, constant.tensor.shape))
        elif name in reader.values and not inputs:
            values.append(reader.values[name])
    called = node.op_type if node.domain in STANDARD else f"{node.domain}.{node.op_type}"
    op = Priced(
        called,
        tuple(tuple(s) for s, _ in outputs),
        tuple(d for _, d in outputs),
        macs,
        vector,
        roots,
        tuple(parameters),
        cost,
    )
    return reader.add(node, op, *dict.fromkeys(values), **held)


def activations(reader: OnnxReader) -> str:
    """The element type of what a graph computes."""
    return reader.g.precision.activations


def count_of(shape: Sequence[Size]) -> Size:
    """Elements of a shape."""
    return prod(tuple(shape))
