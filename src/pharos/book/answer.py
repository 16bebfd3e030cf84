"""Answer: what Pharos computes for a claim, how else it may be read, and what the difference is."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """The value of a claim in the unit that it is stated in.

    Args:
        value: a number, a list, words, or whether a statement holds; None if nothing can compute it.
        note: what it was computed from, and why it is not what is stated if it is not.
        readings: the same by other conventions, by their names.
    """

    value: Any
    note: str = ""
    readings: dict[str, Any] = field(default_factory=dict)


def told(value: Any, note: str = "", **readings: Any) -> Answer:
    """An answer; a reading's name has underscores for its spaces."""
    return Answer(value, note, {name.replace("_", " "): v for name, v in readings.items()})


def unknown(why: str, **readings: Any) -> Answer:
    """No answer, and why: it takes training, a machine, a publication or a judgement; what can be computed
    about it all the same may stand among the readings."""
    return told(None, why, **readings)
