"""Values of an axis as people write them: one, a list, or a range with steps, counts or powers of two."""

import math
from typing import Any

from pharos.quantity.errors import PharosError
from pharos.quantity.units import parse

SPACINGS = ("linear", "log", "powers_of_two")
FIELDS = ("start", "stop", "step", "count", "spacing")
# Values of one axis at most: a mistyped step would make billions.
MOST = 1_000_000
EXAMPLE = (
    "write [1, 2, 4], {start: 128, stop: 4096, step: 128} or {start: 1, stop: 64, spacing: powers_of_two}"
)


def values(given: Any) -> tuple[Any, ...]:
    """The values of an axis in their order, each once.

    A range includes both ends where its steps meet them. Whole ends give whole numbers.

    Raises:
        ValueError: what is wrong and what is allowed.
    """
    if isinstance(given, dict):
        return _range(given)
    if isinstance(given, (list, tuple)):
        if not given:
            raise ValueError(f"names no value ({EXAMPLE})")
        found: dict[Any, None] = {}
        for each in given:
            for value in values(each) if isinstance(each, dict) else (_one(each),):
                # 1 and 1.0 are one size, True is none
                found[value] = None
        return tuple(found)
    return (_one(given),)


def _one(given: Any) -> Any:
    if isinstance(given, list):
        return tuple(_one(each) for each in given)
    if isinstance(given, (str, bool, int, float)) or given is None:
        if isinstance(given, float) and not math.isfinite(given):
            raise ValueError(f"{given!r} is not a number")
        return given
    raise ValueError(f"{given!r} is neither a number, a word nor a range ({EXAMPLE})")


def _range(given: dict[str, Any]) -> tuple[Any, ...]:
    for key in given:
        if key not in FIELDS:
            raise ValueError(f"a range has no {key!r} (it has {', '.join(FIELDS)})")
    spacing = given.get("spacing", "linear")
    if spacing not in SPACINGS:
        raise ValueError(f"spacing {spacing!r} is not one of {', '.join(SPACINGS)}")
    if "start" not in given or "stop" not in given:
        raise ValueError(f"a range needs start and stop ({EXAMPLE})")
    start, stop = _number(given["start"], "start"), _number(given["stop"], "stop")
    if stop < start:
        raise ValueError(f"stop {stop:g} lies before start {start:g}")
    whole = isinstance(start, int) and isinstance(stop, int)
    if spacing == "powers_of_two":
        if "step" in given or "count" in given or start <= 0:
            raise ValueError("powers_of_two takes a start above 0 and a stop alone")
        return tuple(start * 2**i for i in range(int(math.log2(stop / start) + 1e-9) + 1))
    if ("step" in given) == ("count" in given):
        raise ValueError("a range needs one of step and count, or spacing: powers_of_two")
    if "step" in given:
        if spacing == "log":
            raise ValueError("spacing: log takes a count, not a step")
        step = _number(given["step"], "step")
        if step <= 0:
            raise ValueError(f"step must be above 0, not {step:g}")
        count = _few(math.floor((stop - start) / step + 1e-9) + 1)
        whole = whole and isinstance(step, int)
        made = [start + i * step for i in range(count)]
    else:
        count = _few(given["count"])
        if spacing == "log":
            if start <= 0:
                raise ValueError("spacing: log needs a start above 0")
            made = [start * (stop / start) ** (i / max(count - 1, 1)) for i in range(count)]
        else:
            made = [start + (stop - start) * i / max(count - 1, 1) for i in range(count)]
    if whole:
        return tuple(dict.fromkeys(round(v) for v in made))
    # what binary fractions add to decimal steps goes
    return tuple(dict.fromkeys(float(f"{v:.12g}") for v in made))


def _few(count: Any) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST:
        raise ValueError(f"a range has 1 to {MOST:,} values, not {count!r}")
    return count


def _number(given: Any, name: str) -> int | float:
    try:
        found = parse(given, "1")
    except PharosError as error:
        raise ValueError(f"{name}: {error}") from None
    if not math.isfinite(found):
        raise ValueError(f"{name} must be a number, not {given!r}")
    return int(found) if isinstance(given, str) and float(found).is_integer() else found
