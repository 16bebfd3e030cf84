"""Bottleneck: the likeliest cause behind measured counters, the network it is like, the next figure."""

from collections.abc import Callable
from math import log

from pharos.book.study import ByteRate, Bytes, PerSecond, Seconds, Watts, study
from pharos.machines.machine import Machine, find_machine
from pharos.quantity.errors import InputError
from pharos.quantity.evidence import Evidence, assumed, measured
from pharos.quantity.units import fmt
from pharos.report.studies import Told

# Cause -> the network of the catalogue that isolates it, what decides between it and the next.
CAUSES = {
    "compute": ("resnet50", "samples/s at twice the batch: they stay, if arithmetic binds"),
    "memory-bandwidth": ("gpt2-xl", "the same step with narrower weights: its time falls with the bytes"),
    "memory-capacity": ("dlrm", "bytes resident on the device, and time spent waiting for other memories"),
    "latency": ("mobilenet_v2", "the step as a recorded graph, or twice the batch: its time hardly changes"),
    "power": ("ds_cnn_m", "the clock while it runs, against the one it is sold with"),
    "sequential-dependency": ("sequence_rnn", "twice the batch at the same length: its time hardly changes"),
    "quadratic-attention": ("gpt2-xl", "the same step with a tiled kernel that stores no scores"),
}
# Not a measurement: the least support from which a cause is named. A choice.
NAMED = 0.3
UNSEEN = -1.0
Ranked = tuple[float, str]


@study("bottleneck", "What do measured counters say binds a network?", section="1.1")
def bottleneck(
    *,
    on: str = "a100-sxm-80gb",
    precision: str = "fp16",
    utilisation: float = UNSEEN,
    moved: ByteRate = UNSEEN,
    rate: PerSecond = UNSEEN,
    weights: Bytes = UNSEEN,
    grown: str = "length",
    times: float = 2.0,
    before: Seconds = UNSEEN,
    after: Seconds = UNSEEN,
    products: float = UNSEEN,
    random: float = UNSEEN,
    tables: Bytes = UNSEEN,
    power: Watts = UNSEEN,
) -> Told:
    """Each counter supports causes by the machine's own figures; those left out are not measured.

    Args:
        utilisation: share of the peak reached, 0 to 1. moved: bytes a second to and from memory.
        rate: tokens or samples a second, with weights: bytes that each of them reads.
        before, after: seconds at a length or batch (grown) and at so many times of it.
        products: share of the time in matrix products. random: share of the bytes read at random places.
        tables: bytes of embedding tables. power: average draw.
    """
    if grown not in ("length", "batch"):
        raise InputError(f"{grown!r} is neither length nor batch", where="grown")
    for name, share in (("utilisation", utilisation), ("products", products), ("random", random)):
        if share != UNSEEN and not 0 <= share <= 1:
            raise InputError("is a share, from 0 to 1", where=name)
    machine = find_machine(on)
    bytes_share = _bytes_share(machine, moved, rate, weights)
    grows = log(after / before) / log(times) if before > 0 and after > 0 and times > 1 else None
    found = _supports(machine, utilisation, bytes_share, grown, grows, products, random, tables, power)
    ranked = sorted(found.items(), key=lambda kv: -kv[1][0])
    seen = {
        "share_of_peak": None if utilisation == UNSEEN else utilisation,
        "share_of_bandwidth": bytes_share,
        "growth_exponent": grows,
        "ridge_point": machine.ridge_point(precision),
    }
    cause = ranked[0][0] if ranked and ranked[0][1][0] >= NAMED else None
    after_that = _next(cause, utilisation, bytes_share, grows)
    if cause is None:
        answer = f"cannot tell from what was given; next: {after_that}"
    else:
        support, why = ranked[0][1]
        answer = f"{cause}, with support {support:.2f} of 1: {why}; nearest network: {CAUSES[cause][0]}"
    return Told(
        answer=answer,
        numbers={"cause": cause, "lighthouse": CAUSES[cause][0] if cause else None, **seen},
        reasons=(f"next measurement: {after_that}",),
        columns=("cause", "support", "like", "by"),
        rows=tuple((name, value, CAUSES[name][0], why) for name, (value, why) in ranked),
        evidence=(*_known(machine, cause), assumed("a support is a rank, not a probability")),
        note="support: 0 to 1, of the strongest counter for a cause",
        data={"next": after_that},
    )


def _bytes_share(machine: Machine, moved: float, rate: float, weights: float) -> float | None:
    bandwidth = machine.bandwidth_bytes_per_s.value
    carried = moved if moved >= 0 else rate * weights if rate > 0 and weights > 0 else None
    return carried / bandwidth if carried is not None and bandwidth else None


def _supports(
    machine: Machine,
    used: float,
    carried: float | None,
    grown: str,
    grows: float | None,
    products: float,
    random: float,
    tables: float,
    power: float,
) -> dict[str, Ranked]:
    found: dict[str, Ranked] = {}

    def add(cause: str, value: float, why: str) -> None:
        found[cause] = max(found.get(cause, (0.0, "")), (min(value, 1.0), why))

    idle = None if used == UNSEEN or carried is None else 1 - min(1.0, max(used, carried))
    if used != UNSEEN:
        add("compute", used, f"{used:.0%} of the peak is reached")
    if carried is not None:
        add("memory-bandwidth", carried, f"{carried:.0%} of the bandwidth is carried")
    if idle is not None:
        add("latency", 0.9 * idle, f"{idle:.0%} of peak and bandwidth idle")
    room = machine.capacity_bytes.value
    if tables > 0 and room:
        beyond = tables / room
        add("memory-capacity", beyond**2, f"tables are {beyond:.3g} times the device's memory")
    if random > 0:
        add("memory-capacity", 0.5 * random, f"{random:.0%} of the bytes are read at random places")
    limit = machine.max_W.value
    if power > 0 and limit:
        add("power", (power / limit) ** 4, f"{power / limit:.0%} of the {fmt(limit, 'W')} it may draw")
    if products != UNSEEN:
        add("memory-bandwidth", 0.5 * (1 - products), f"{1 - products:.0%} of the time is no product")
        add("compute", 0.3 * products, f"{products:.0%} of the time is matrix products")
    if grows is not None:
        _growth(add, grown, grows, idle)
    return found


def _growth(add: Callable[[str, float, str], None], grown: str, grows: float, idle: float | None) -> None:
    told = f"time as {grown}^{grows:.2f}"
    if grown == "length" and grows > 1.2:
        add("quadratic-attention", grows - 0.9, told)
    elif grown == "length" and grows > 0.7:
        add("sequential-dependency", 0.5 if idle is None else idle, told + ", and it idles")
    elif grows < 0.3 and grown == "batch":
        # weights that are read anyway, or launches: what the bytes say decides
        add("latency", 0.5 if idle is None else idle, told)
        add("memory-bandwidth", 0.5 if idle is None else 1 - idle, told)


def _next(cause: str | None, used: float, carried: float | None, grows: float | None) -> str:
    if used == UNSEEN:
        return "utilisation: FLOP a second against the peak"
    if carried is None:
        return "moved: bytes a second to and from memory"
    if grows is None and cause in (None, "latency"):
        return "before and after: the time of a step, and at twice the length and the batch"
    return CAUSES[cause][1] if cause else "the time of each kernel"


def _known(machine: Machine, cause: str | None) -> tuple[Evidence, ...]:
    given = (measured("counters as given"),) if cause else ()
    return (*given, machine.bandwidth_bytes_per_s.evidence)
