"""Performance per watt: machines compared at a stated type, by their peaks and the power they may draw."""

from itertools import combinations

from pharos.book.study import study
from pharos.machines.machine import Machine, find_machine
from pharos.quantity.errors import InputError
from pharos.quantity.evidence import Evidence, assumed, spec
from pharos.quantity.units import fmt
from pharos.report.studies import Told


@study("performance-per-watt", "How many operations does a machine have for a joule?", section="1.9")
def performance_per_watt(
    *,
    machines: tuple[str, ...] = ("google_tpu_v1", "nvidia_k80"),
    precisions: tuple[str, ...] = ("int8", "fp32"),
    watts: tuple[float, ...] = (),
) -> Told:
    """Dense peak over maximum power; unlike types are compared only with a word that they are.

    Args:
        precisions: of each machine, or one for all. watts: of each, as printed somewhere, instead of the
            catalogue's; 0 keeps that.
    """
    types = precisions * len(machines) if len(precisions) == 1 else precisions
    given = watts or (0.0,) * len(machines)
    if not len(machines) == len(types) == len(given) or len(machines) < 2:
        raise InputError("as many types and watts as machines, two at least", where="machines")
    found = [find_machine(m) for m in machines]
    rows, evidence = [], []
    for machine, dtype, told in zip(found, types, given, strict=True):
        rate = machine.peak(dtype)
        power = told or machine.max_W.value
        rows.append((machine.id, dtype, rate.value, power, per_watt(machine, dtype, told)))
        how: Evidence = spec("watts as given") if told else machine.max_W.evidence
        evidence += [rate.evidence, how]
    known = [r for r in rows if r[4] is not None]
    pairs = {f"{a[0]} over {b[0]}": a[4] / b[4] for a, b in combinations(known, 2)}
    missing = [r[0] for r in rows if r[4] is None]
    unlike = len(set(types)) > 1
    first = next(iter(pairs.items()), None)
    return Told(
        answer=(
            f"{first[0]}: {first[1]:.3g} times the operations a joule"
            if first
            else f"not known: peak or power of {', '.join(missing)} is not in the catalogue"
        )
        + (", of unlike types" if first and unlike else ""),
        numbers={"ratios": pairs, **{r[0]: {"per_watt_flops": r[4], "power_W": r[3]} for r in rows}},
        reasons=(
            *(
                ("an operation of 8 bits is not one of 32: the ratio mixes hardware with precision",)
                if unlike
                else ()
            ),
            *(f"{r[0]}: {fmt(r[2], 'FLOP/s')} in {r[1]} at {fmt(r[3], 'W')}" for r in known),
        ),
        columns=("machine", "type", "peak", "watts", "per_watt"),
        rows=tuple(rows),
        evidence=(*evidence, assumed("all of its power at its peak: neither is reached by a network")),
        note="peak: dense operations a second; per_watt: operations a joule",
    )


def per_watt(machine: Machine, dtype: str, watts: float = 0.0) -> float | None:
    """Operations a joule at the peak; None where the peak or the power is unknown."""
    rate, power = machine.peak(dtype).value, watts or machine.max_W.value
    return rate / power if rate and power else None
