"""Dimensions off the matrix unit's multiple: products whose sizes the unit has to pad, or loads in pieces."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pharos.decide.advice import Case, Cost, Finding, Gain, fact, rule, severity
from pharos.decide.alignment import multiple_of, up_to
from pharos.graph.count import Line
from pharos.predict.kernel import compute_dtype
from pharos.quantity.sizes import is_int

# Shares of the time in such products, and lost to them, from which the rule speaks. A choice.
FROM, LOST, NAMED = 0.05, 0.005, 4


@rule(
    "matrix-alignment",
    when="5% of the time goes to products with an inner or outer size off the multiple of the matrix unit "
    "(16 bytes on tensor cores, the edge of a systolic array)",
    costs="seconds that the same products take longer than padded ones, or that go to padding; 0.5% "
    "of a step at least",
    remedy="pad the sizes to the next multiple",
    lab="alignment",
    source="NVIDIA, Matrix Multiplication Background; the machine's alignment rule in the catalogue",
    of_speed=True,
)
def find(case: Case) -> Iterator[Finding]:
    """Predicts the products on their own, as they are and padded."""
    known = multiple_of(case.machine, compute_dtype(case.graph.precision))
    if known is None or case.latency_s is None:
        return
    multiple, evidence = known
    off = [(line, padded) for line in case.lines if (padded := _padded(line, multiple)) is not None]
    off.sort(key=lambda item: -case.seconds([item[0]]))
    lines = [line for line, _ in off]
    seconds = case.seconds(lines)
    if not off or case.share(seconds) < FROM:
        return
    single = case.alone((line.node, op, (shape,)) for line, (op, shape) in off)
    saved = sum(s.before_s * ln.times - s.after_s * ln.times for ln, s in zip(lines, single, strict=True))
    padding = sum(case.seconds([line]) * (1 - _size(line.node.op) / _size(op)) for line, (op, _) in off)
    lost = max(saved, padding)
    if lost < LOST * case.latency_s:
        return
    lead: Any = lines[0].node.op
    told = "" if saved > 0 else "; no gain is predicted by this machine's curves: measure"
    after = case.latency_s - saved
    yield Finding(
        severity=severity(lost / case.latency_s),
        evidence=(
            fact("multiple that sizes should have", multiple, "", evidence),
            fact(f"inner size of {lines[0].name}", _sizes(lead)[0]),
            fact(f"outer size of {lines[0].name}", _sizes(lead)[1]),
            fact("products off the multiple", len(lines)),
            fact("time in them", seconds, "s", case.evidence()),
        ),
        consequence=Cost(what="lost to sizes off the multiple", value=lost, unit="s",
                         share=lost / case.latency_s),
        remedy=f"pad {_sizes(lead)[0]} x {_sizes(lead)[1]} to {_sizes(off[0][1][0])[0]} x "
        f"{_sizes(off[0][1][0])[1]} and alike{told}",
        gain=Gain(of="latency of a step", before=case.latency_s, after=after, unit="s",
                  known=single[0].known),
        where=tuple(line.name for line in lines[:NAMED]),
    )  # fmt: skip


def _sizes(op: Any) -> tuple[Any, Any]:
    if op.kind == "linear":
        return op.in_features, op.out_features
    return op.in_channels, op.out_channels


def _size(op: Any) -> float:
    inner, outer = _sizes(op)
    return inner * outer


def _padded(line: Line, multiple: int) -> tuple[Any, tuple[Any, ...]] | None:
    """The operator with padded sizes and its input's shape; None where it is no product or fits."""
    op: Any = line.node.op
    if op.kind not in ("linear", "conv2d", "conv1d") or not is_int(line.work.macs):
        return None
    if op.kind != "linear" and op.groups != 1:
        return None
    inner, outer = _sizes(op)
    # an image's few channels are taken together with the kernel's positions by every library
    thin = op.kind != "linear" and inner < multiple
    new_in = inner if thin else up_to(inner, multiple)
    new_out = up_to(outer, multiple)
    if (new_in, new_out) == (inner, outer) or (outer == 1 and new_in == inner):
        return None
    shape = line.node.ins[0].shape
    if op.kind == "linear":
        return replace(op, in_features=new_in, out_features=new_out), (*shape[:-1], new_in)
    return (
        replace(op, in_channels=new_in, out_channels=new_out),
        (shape[0], new_in, *shape[2:]),
    )
