"""Primitive profile: which share of MACs, bytes, seconds and joules of a network each primitive has."""

from collections import defaultdict

from pharos.book.study import study
from pharos.graph.workload import Workload
from pharos.machines.machine import find_machine
from pharos.models.registry import find
from pharos.passes.fuse import Kernel
from pharos.predict.estimate import predict
from pharos.quantity.evidence import counted
from pharos.report.readings import HEADINGS
from pharos.report.studies import Told

FIGURES = ("macs", "bytes", "seconds", "joules")


def primitive_of(kernel: Kernel) -> str:
    """What handles most elements of a kernel: a primitive of computation if it has any, else of access."""
    handled: dict[str, float] = defaultdict(float)
    for line in kernel.lines:
        for name, elements in line.node.op.primitives(*line.node.io).items():
            handled[name] += float(elements)
    for heading in HEADINGS.values():
        own = {name: handled[name] for name in heading if handled.get(name)}
        if own:
            return max(own, key=lambda name: own[name])
    return "none"


@study("primitive-profile", "Which share of work, bytes, time and energy has each primitive?", section="1.9")
def primitive_profile(
    *, model: str = "gpt2-small", phase: str = "forward", batch: int = 1, context: int = 0,
    precision: str = "fp16", on: str = "a100-sxm-80gb",
) -> Told:  # fmt: skip
    """Each kernel, with what is fused to it, counts for the primitive that it mostly consists of.

    Args:
        context: tokens; the model's default if 0.
    """
    machine = find_machine(on)
    work = Workload(phase=phase, batch=batch, context=context or None, precision=precision)  # type: ignore[arg-type]
    found = predict(find(model).graph(work), machine, work, model=model)
    sums: dict[str, dict[str, float | None]] = {}
    energies = found.energies or (None,) * len(found.operations)
    for operation, energy in zip(found.operations, energies, strict=True):
        kernel, seconds = operation.kernel, operation.total_s
        own = sums.setdefault(primitive_of(kernel), dict.fromkeys(FIGURES, 0.0))
        joules = None if energy is None else float(energy.compute_J + energy.data_J + energy.static_J)
        for name, value in zip(
            FIGURES,
            (kernel.work.macs * kernel.times, kernel.traffic.total * kernel.times, seconds, joules),
            strict=True,
        ):
            # one figure that is unknown leaves the sum unknown
            before = own[name]
            own[name] = None if before is None or value is None else before + float(value)
    whole = {n: None if any(v[n] is None for v in sums.values()) else sum(v[n] or 0 for v in sums.values())
             for n in FIGURES}  # fmt: skip
    shares = {primitive: {n: _share(v[n], whole[n]) for n in FIGURES} for primitive, v in sums.items()}
    ranked = sorted(shares, key=lambda p: -(shares[p]["seconds"] or 0))
    first = ranked[0]
    return Told(
        answer=f"{first.replace('_', ' ')} has {shares[first]['macs'] or 0:.1%} of the MACs and "
        f"{shares[first]['seconds'] or 0:.1%} of the time",
        numbers={"shares": shares, "whole": whole},
        reasons=(
            "a primitive without MACs still takes bytes, time and energy",
            "elements by primitive, fused or not: `pharos show MODEL --primitives`",
        ),
        columns=("primitive", *(f"share_of_{n}" for n in FIGURES)),
        rows=tuple((p.replace("_", " "), *(shares[p][n] for n in FIGURES)) for p in ranked),
        evidence=(counted("MACs and bytes as run"), *found.latency.evidence),
        note="bytes: as run, after fusion; seconds and joules of all kernels, without what lies between them",
    )


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole
