"""Reasons: why a kernel took what it was not predicted to take, by figures of its run and of a few more."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pharos.facts.reading import read_json
from pharos.graph.graph import Graph
from pharos.measure.devices import Device, sample
from pharos.measure.points import kernel_sizes
from pharos.measure.runs import runnable
from pharos.measure.timing import interleaved
from pharos.measure.unique import together
from pharos.passes.fuse import Around, Kernel
from pharos.predict.estimate import Estimate, Operation
from pharos.quantity.units import fmt

# A prediction this near needs no reason.
NEAR = 0.10
# Samples that spread by more than this, half the way from the 10th to the 90th percentile, say little.
NOISY = 0.25
# Alone in a loop a kernel finds its weights and code in the caches; if that is so much faster, they were not.
COLD = 0.80
# Threads that share a kernel well make it at least this share of their number faster.
SHARED = 0.6
# Sizes of a kernel that calibrations are told to have seen, in words.
SIZES = {"macs": "MACs", "rows": "rows", "inner": "terms a sum", "outer": "columns",
         "weights": "bytes of weights", "read": "bytes to read", "written": "bytes to write",
         "steps": "steps"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Alone:
    """A kernel by itself, again and again.

    Args:
        hot_s: seconds with all it needs in the caches; single_s: likewise on one thread, None where it ran on
            one.
    """

    hot_s: float
    single_s: float | None = None


def alone(
    kernel: Kernel, graph: Graph, runtime: str, threads: int, device: Device, seconds: float = 0.1
) -> Alone:
    """Runs a kernel by itself."""
    one, names = together([kernel], graph, keep=True)

    def took(cores: int) -> float:
        with runnable(one, runtime, cores, device=device) as made:
            if made.samples is None:
                return interleaved({"it": made.call}, seconds=seconds)["it"].median
            once = max(sample(device, made.call, 1), 1e-6)
            taken = made.samples(max(5, min(int(seconds / once), 200)))
            at = (taken.bare or taken).at(0.5)
            return sum(at.get(n, 0.0) for n in names[0])

    return Alone(took(threads), took(1) if threads > 1 and device.kind == "cpu" else None)


def reason(
    operation: Operation, seconds: float, estimate: Estimate, *, spread: float = 0.0, copied: bool = False,
    threads: int = 1, by_itself: Alone | None = None,
) -> str:  # fmt: skip
    """What speaks for the difference between `seconds` of one run of a kernel and what was predicted.

    Args:
        spread: of the kernel's samples; copied: an input does not lie in order.
    """
    time, kernel = operation.time, operation.kernel
    if time is None:
        return "nothing is known of such an operator here"
    predicted = float(time.latency_s)
    ratio = seconds / predicted if predicted else 1.0
    if abs(ratio - 1) <= NEAR:
        return ""
    if spread > NOISY:
        wide = f"±{spread:.0%}" if spread < 1 else f"{spread:,.0f} times their middle"
        return f"noisy: its samples spread by {wide}"
    beyond = unseen(kernel, estimate, threads)
    if beyond:
        return beyond
    if by_itself is not None and ratio > 1:
        if by_itself.single_s is not None and by_itself.single_s < SHARED * threads * by_itself.hot_s:
            faster = by_itself.single_s / by_itself.hot_s
            if float(time.compute_s) >= float(time.overhead_s) or faster < 1:
                alone_s = _us(by_itself.single_s)
                return f"threads share it badly: {threads} are {faster:.2f}x as fast as one ({alone_s})"
        if by_itself.hot_s < COLD * seconds and abs(by_itself.hot_s / predicted - 1) < abs(ratio - 1):
            weights = float(kernel.traffic.weights)
            what = f"{fmt(weights, 'B')} of weights and its code" if weights else "its code and inputs"
            hot = _us(by_itself.hot_s)
            return f"cold: {hot} alone in a loop; among other layers {what} come from further away"
    if copied and ratio > 1:
        moved = float(kernel.traffic.inputs)
        return f"a layout copy: an input of {fmt(moved, 'B')} does not lie in the order it is wanted in"
    if by_itself is not None and abs(by_itself.hot_s / seconds - 1) <= 0.15:
        again = f"; as long alone in a loop ({_us(by_itself.hot_s)}): the curve is off for this shape"
    else:
        again = ""
    return _bound(operation, seconds, estimate) + again


def _bound(operation: Operation, seconds: float, estimate: Estimate) -> str:
    """What the kernel was taken to be bound by, and what it reached of that and of the rest."""
    machine, kernel, time = estimate.machine, operation.kernel, operation.time
    assert time is not None
    parts = {
        "compute": time.compute_s,
        "memory": time.data_s,
        "its start": time.overhead_s,
        "its steps": time.serial_s,
    }
    bound = max(parts, key=lambda k: float(parts[k]))
    rate, moved = float(kernel.work.flops) / seconds, float(kernel.traffic.total) / seconds
    peaks = [p.ops_per_s.value for p in machine.peaks.values() if p.ops_per_s.value]
    reached = {}
    if peaks and kernel.work.macs:
        reached["compute"] = rate / max(peaks)
    if machine.bandwidth_bytes_per_s.value:
        reached["memory"] = moved / machine.bandwidth_bytes_per_s.value
    nearest = max(reached, key=lambda k: reached[k], default="")
    shown = {"compute": f"{fmt(rate, 'FLOP/s')}", "memory": f"{fmt(moved, 'B/s')}"}
    if bound in ("its start", "its steps"):
        found = f"taken for bound by {bound} ({_us(float(parts[bound]))}); took {_us(seconds)}"
        if nearest and reached[nearest] > 0.5:
            found += (
                f", at {reached[nearest]:.0%} of what {nearest} allows ({shown[nearest]}): bound by {nearest}"
            )
        return found
    if nearest and nearest != bound and reached[nearest] > 1.5 * reached.get(bound, 0.0):
        far, near = reached.get(bound, 0.0), reached[nearest]
        rest = f"{shown[bound]} only {far:.0%}"
        return (
            f"bound by {nearest} rather than {bound}: {shown[nearest]} is {near:.0%} of the best here, {rest}"
        )
    if bound in reached:
        faster = "faster than its curve" if seconds < float(time.latency_s) else f"taken for bound by {bound}"
        return f"{faster}; reached {shown[bound]}, {reached[bound]:.0%} of the best {bound} rate here"
    return f"taken for bound by {bound}; reached {shown[bound]}"


def unseen(kernel: Kernel, estimate: Estimate, threads: int) -> str:
    """The size of a kernel that lies furthest outside of what its calibration saw; "" where none does."""
    path = estimate.machine.calibration
    if not path:
        return ""
    run, ranges = _seen(path, Path(path).stat().st_mtime_ns, estimate.runtime, threads)
    sizes = None if run is None else kernel_sizes(kernel, Around(), run)
    if sizes is None:
        return ""
    furthest, told = 1.25, ""
    for name, word in SIZES.items():
        seen, value = ranges.get((kernel.lead.cost_class, name)), sizes.get(name, 0.0)
        if seen is None or value <= 0 or seen[1] <= 0:
            continue
        far = max(value / seen[1], seen[0] / value if seen[0] else 1.0)
        if far > furthest:
            side = "above" if value > seen[1] else "below"
            furthest = far
            put, what = (_bytes, word.removeprefix("bytes ")) if word.startswith("bytes ") else (_count, word)
            told = f"{side} what was calibrated: {put(value)} {what}, seen {put(seen[0])} to {put(seen[1])}"
    return told


Ranges = Mapping[tuple[str, str], tuple[float, float]]


@cache
def _seen(path: str, _changed: int, runtime: str, threads: int) -> tuple[dict[str, Any] | None, Ranges]:
    """A calibration's run, and (least, most) of each size of each class in its points."""
    data = read_json(path).data
    found: dict[tuple[str, str], tuple[float, float]] = {}

    def mine(row: Mapping[str, Any]) -> bool:
        return (row["runtime"], row["threads"]) == (runtime, threads)

    for point in filter(mine, [*data.get("points", ()), *data.get("refined", ())]):
        for name, value in point["sizes"].items():
            low, high = found.get((point["cost_class"], name), (value, value))
            found[point["cost_class"], name] = (min(low, value), max(high, value))
    return next(filter(mine, data["runs"]), None), found


def _us(seconds: Any) -> str:
    return fmt(float(seconds), "s")


def _bytes(value: float) -> str:
    return fmt(value, "B")


def _count(value: float) -> str:
    return f"{value:,.0f}" if value < 1e6 else f"{value:.2g}"
