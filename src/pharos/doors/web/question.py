"""Question: what a page's query asks, read strictly and within bounds; the address that asks it again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from pharos.doors.web.bounds import LONGEST_VALUE
from pharos.quantity.errors import InputError, PharosError, unknown
from pharos.quantity.units import parse

Pairs = Sequence[tuple[str, str]]


class Refused(Exception):
    """A mistake in a question, with the field that it is in."""

    def __init__(self, error: PharosError, field: str = "") -> None:
        self.field, self.text = field, sentence(error)
        super().__init__(self.text)


def sentence(error: PharosError) -> str:
    """An error as a page tells it: options of the command line have other names here."""
    return str(error).replace("--dim ", "").replace("--", "")


@dataclass(frozen=True, slots=True)
class Question:
    """The pairs of a query."""

    pairs: Pairs

    def raw(self, name: str, default: str = "") -> str:
        """A value as it was written, for the form; the first where there are several."""
        found = next((v for k, v in self.pairs if k == name), default)
        return found[:LONGEST_VALUE].replace("\x00", "").strip()

    def many(self, name: str) -> list[str]:
        """Every value of a name that is not empty, without repetition."""
        found = [v[:LONGEST_VALUE].replace("\x00", "").strip() for k, v in self.pairs if k == name]
        return list(dict.fromkeys(v for v in found if v))

    def has(self, name: str) -> bool:
        """Whether a value was given."""
        return bool(self.raw(name))

    def prefixed(self, prefix: str) -> dict[str, str]:
        """What follows a prefix in names -> value, those that are not empty."""
        found = {k[len(prefix) :]: self.raw(k) for k, _ in self.pairs if k.startswith(prefix)}
        return {k: v for k, v in list(found.items())[:64] if k and v}

    def choice(self, name: str, allowed: Iterable[str], default: str) -> str:
        """One of some words.

        Raises:
            Refused: another word.
        """
        value, known = self.raw(name) or default, list(allowed)
        if value not in known:
            raise Refused(unknown(name, value, known), name)
        return value

    def whole(self, name: str, default: int | None, low: int, high: int) -> int | None:
        """A whole number as people write it: 4096, 4k, 1e6.

        Raises:
            Refused: not one, or outside the bounds.
        """
        value = self.quantity(name, "1")
        if value is None:
            return default
        if value != int(value):
            raise Refused(InputError(f"{self.raw(name)} is no whole number", where=label(name)), name)
        if not low <= value <= high:
            told = f"must lie between {low:,} and {high:,}, not {int(value):,}"
            raise Refused(InputError(told, where=label(name)), name)
        return int(value)

    def quantity(self, name: str, unit: str) -> float | None:
        """A positive figure with its unit, such as 10 ms; None where it is not given.

        Raises:
            Refused: not such a figure.
        """
        text = self.raw(name)
        if not text:
            return None
        try:
            value = float(parse(text, unit))
        except PharosError as error:
            raise Refused(error.at(label(name)), name) from None
        except (ValueError, OverflowError):
            raise Refused(InputError(f"{text[:40]!r} is no number", where=label(name)), name) from None
        if not 0 <= value < 1e24:
            raise Refused(InputError(f"{text[:40]!r} must be positive", where=label(name)), name)
        return value

    def positive(self, name: str, unit: str) -> float | None:
        """Like `quantity`, but zero is no value either."""
        value = self.quantity(name, unit)
        if value == 0:
            raise Refused(InputError("must be more than 0", where=label(name)), name)
        return value

    def flag(self, name: str) -> bool:
        """Whether a box is ticked."""
        return self.raw(name) in ("1", "on", "yes", "true")

    def address(self, path: str, **changes: Any) -> str:
        """The address that asks the same with some values changed; None or "" leaves one out."""
        kept = [(k, v) for k, v in self.pairs if v != "" and k not in changes]
        for name, value in changes.items():
            each = value if isinstance(value, (list, tuple)) else [value]
            kept += [(name, str(v)) for v in each if v not in (None, "")]
        return f"{path}?{urlencode(kept)}" if kept else path


# Fields whose label is not their name.
LABELS = {"on": "Machine", "h": "Architecture", "dims": "Sizes of named dimensions"}


def label(name: str) -> str:
    """What a form calls a field."""
    if name.startswith(("h.", "limit.", "data.")):
        name = name.partition(".")[2]
    return LABELS.get(name, name.replace("_", " ").capitalize())
