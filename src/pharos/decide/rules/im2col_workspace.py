"""The matrix of im2col on a small device: unfolding a convolution's input takes k x k times its bytes."""

from collections.abc import Iterator
from typing import Any

from pharos.decide.advice import ERROR, WARNING, WORTH, Case, Cost, Finding, fact, lighter, rule, severity
from pharos.passes.algorithms import fitting, with_algorithm

NAMED = 4


@rule(
    "im2col-workspace",
    when="convolutions are unfolded (--convolution im2col) for 2% of the memory or more; or, where "
    "the algorithm "
    "is not stated, the matrix would not fit beside the rest",
    costs="bytes of the largest matrix of patches, kernel positions / stride^2 times the input",
    remedy="a direct convolution, or one that unfolds a tile at a time",
    lab="convolution-algorithms",
    source="Chellapilla et al. 2006; counted from the convolution's shapes",
)
def find(case: Case) -> Iterator[Finding]:
    """Predicts the memory with and without the matrix."""
    room = case.machine.capacity_bytes
    matrices = []
    for line in case.lines:
        unfolded = fitting(line.node).get("im2col")
        if unfolded is not None and (size := unfolded.workspace(*line.node.io)):
            matrices.append((size, line, getattr(line.node.op, "algorithm", "direct") == "im2col"))
    if not matrices or not room.value:
        return
    matrices.sort(key=lambda item: -item[0])
    stated = any(used for _, _, used in matrices)
    size, line, _ = matrices[0]
    share = size / room.value
    if stated and share < WORTH:
        return
    if not stated and (case.base.fits is False or float(case.base.memory.total) + size <= room.value):
        return
    other = case.again(graph=with_algorithm(case.graph, "direct" if stated else "im2col"))
    direct, unfolded = (other, case.base) if stated else (case.base, other)
    broken = unfolded.fits is False and direct.fits
    op: Any = line.node.op
    taps = 1
    for kernel, *_ in op.axes():
        taps *= kernel
    gain = None
    if float(unfolded.memory.total) > float(direct.memory.total):
        gain = lighter(unfolded, direct)
    yield Finding(
        severity=(ERROR if stated else WARNING) if broken else severity(share),
        evidence=(
            fact(f"matrix of patches of {line.name}", size, "B"),
            fact("its input", line.node.ins[0].nbytes, "B"),
            fact("kernel positions", taps),
            fact("memory of the machine", room.value, "B", room.evidence),
            fact("memory without it", float(direct.memory.total), "B"),
        ),
        consequence=Cost(
            what="of patches" if stated else "of patches, if the library unfolds convolutions",
            value=float(size), unit="B", share=share,
        ),
        remedy="direct convolution, or unfolding a tile at a time",
        gain=gain,
        where=tuple(ln.name for _, ln, _ in matrices[:NAMED]),
    )  # fmt: skip
