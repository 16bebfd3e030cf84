"""Choice of a convolution's algorithm: direct, unfolded or Winograd, by memory, kernel and stride."""

from typing import Any

from pharos.book.study import Bytes, study
from pharos.book.sums import chain, only
from pharos.graph.count import count
from pharos.machines.machine import find_machine
from pharos.ops.conv import Conv2d
from pharos.ops.conv_algorithms import ALGORITHMS
from pharos.passes.algorithms import fitting
from pharos.quantity.errors import InputError
from pharos.quantity.evidence import Evidence, counted, spec
from pharos.quantity.units import fmt
from pharos.report.studies import Told


@study("convolution-choice", "Which algorithm should compute a convolution?", section="1.9")
def convolution_choice(
    *,
    inputs: int = 64,
    outputs: int = 64,
    kernel: int = 3,
    stride: int = 1,
    side: int = 56,
    batch: int = 1,
    precision: str = "fp32",
    memory: Bytes = 0.0,
    on: str = "a100-sxm-80gb",
) -> Told:
    """Fewest MACs of those whose intermediates fit beside weights and maps; direct where none does.

    Args:
        memory: bytes for weights, maps and intermediates; 0 for all of the machine's.
    """
    device = find_machine(on)
    room = memory or device.capacity_bytes.value
    if room is None:
        raise InputError(f"the memory of {device.id} is not known", where="on", hint="write memory=...")
    shape = (batch, inputs, side, side)
    conv = Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    graph = chain(shape, conv, precision=precision)
    node = only(count(graph))
    known = fitting(node)
    held = float(node.weight_bytes + sum(t.nbytes for t in node.io))
    peak, bandwidth = device.peak(precision).value, device.bandwidth_bytes_per_s.value
    rows, fits = [], {}
    for name in ("direct", *ALGORITHMS):
        if name not in known:
            rows.append((name, "does not apply", None, None, None, None))
            continue
        op = known[name]
        scratch, macs = float(op.workspace(*node.io)), int(op.work(*node.io).macs)
        fits[name] = held + scratch <= room
        # intermediates are written and read back
        bound = max(2 * macs / peak, (held + 2 * scratch) / bandwidth) if peak and bandwidth else None
        rows.append((name, "yes" if fits[name] else "too large", macs, scratch, scratch / held, bound))
    by = {r[0]: r for r in rows}
    chosen, why = _choose(conv, {n: by[n] for n in fits if fits[n]}, device.kind)
    mine, direct = by[chosen], by["direct"]
    known_by: Evidence = spec("memory as given") if memory else device.capacity_bytes.evidence
    return Told(
        answer=f"{chosen}: {why}; {fmt(mine[2], 'MAC')} instead of {fmt(direct[2], 'MAC')}, "
        f"{fmt(mine[3], 'B')} of intermediates",
        numbers={
            "chosen": chosen,
            "held_bytes": held,
            "room_bytes": room,
            "macs": {r[0]: r[2] for r in rows},
            "workspace_bytes": {r[0]: r[3] for r in rows},
            "bound_s": {r[0]: r[5] for r in rows},
        },
        reasons=(
            f"unfolding copies an input {kernel * kernel / stride**2:.3g} times at stride {stride}",
            "Winograd needs 3 x 3 at stride 1, and moves more bytes: it pays where arithmetic binds",
            "libraries of accelerators unfold a tile at a time in fast memory: nothing is stored",
        ),
        columns=("algorithm", "fits", "macs", "intermediate_bytes", "of_the_rest", "bound_s"),
        rows=tuple(rows),
        evidence=(counted("MACs and intermediates of each algorithm"), known_by),
        note="bound_s: arithmetic at the peak or bytes at the bandwidth, the longer; no kernel is faster",
    )


def _choose(conv: Conv2d, found: dict[str, tuple[Any, ...]], kind: str) -> tuple[str, str]:
    """The algorithm and why, of the rows of those that fit."""
    if set(found) <= {"direct"}:
        return "direct", "nothing else fits"
    if conv.axes()[0][:2] == (1, 1):
        return "direct", "a 1 x 1 kernel is a matrix product as it stands"
    bounds = {n: row[5] for n, row in found.items() if row[5] is not None}
    fewest = min(found, key=lambda n: (bounds.get(n, found[n][2]), n != "direct"))
    if fewest.startswith("winograd"):
        return fewest, "its bound is the shortest, and its tiles fit"
    if kind in ("gpu", "tpu", "npu") or "im2col" not in found:
        return "direct", "as a product that stores no patches"
    return "im2col", "patches fit, and a library's matrix product takes them"
