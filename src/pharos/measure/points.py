"""Points: kernels of a measured graph with the sizes that a calibration's curves ask for."""

from collections.abc import Mapping
from typing import Any

from pharos.graph.count import Count
from pharos.machines.profile import STAND_INS
from pharos.passes.fuse import Around, Kernel, around, kernels
from pharos.predict.kernel import TRANSCENDENTAL_FLOPS, variant
from pharos.predict.kernels.shapes import sizes_of


def entry_of(run: Mapping[str, Any], cost_class: str, kind: str) -> dict[str, Any] | None:
    """The curve of a calibration's run that a kernel of a class and kind goes by, as its file holds it."""
    for name in (f"{cost_class}.{kind}", cost_class, STAND_INS.get(cost_class, ""), "elementwise"):
        if run["classes"].get(name):
            return run["classes"][name][0]
    return None


def kernel_sizes(kernel: Kernel, beside: Around, run: Mapping[str, Any]) -> dict[str, float] | None:
    """The columns of its curve; None where that has no form, or does not describe the kernel."""
    entry = entry_of(run, kernel.lead.cost_class, variant(kernel.lead.node.op))
    if entry is None or not entry.get("form"):
        return None
    scalar = kernel.work.vector_flops + TRANSCENDENTAL_FLOPS * kernel.work.transcendentals
    sizes = sizes_of(entry["form"], kernel, float(run["ops_per_s"]), scalar, beside)
    return None if sizes is None else {k: float(v) for k, v in sizes.items()}  # type: ignore[arg-type]


def points_of(
    counted: Count, pieces: Mapping[str, float], run: Mapping[str, Any]
) -> list[tuple[str, str, dict[str, float], float]]:
    """(class, kind, sizes, seconds) of every kernel that was timed.

    Args:
        pieces: seconds of one run by the name of an operator, folded as counted.
    """
    found = []
    ours = kernels(counted, fused=run["runtime"] != "eager")
    for kernel, beside in zip(ours, around(ours), strict=True):
        seconds = sum(pieces.get(line.name, 0.0) for line in kernel.lines)
        sizes = kernel_sizes(kernel, beside, run) if seconds > 0 else None
        if sizes is not None:
            found.append((kernel.lead.cost_class, variant(kernel.lead.node.op), sizes, seconds))
    return found
