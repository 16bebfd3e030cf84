"""Chapter: the claims as they are stated, read from chapter.json."""

import json
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim as the chapter states it.

    Args:
        section: where it stands, as printed.
        claim: in words of our own.
        stated: its value in `unit`: a number, words, a bound, or a list of these.
        form: "range" if `stated` is a range.
        given: premises that the chapter itself sets (frames a second, watts), which its rule takes.
    """

    id: str
    section: str
    kind: str
    claim: str
    stated: Any
    unit: str
    form: str = ""
    given: dict[str, Any] = field(default_factory=dict)


@cache
def _data() -> dict[str, Any]:
    return json.loads((files("pharos.book") / "chapter.json").read_text(encoding="utf-8"))


@cache
def claims() -> dict[str, Claim]:
    """Every claim by its id, in the chapter's order."""
    found = [Claim(**row) for row in _data()["claims"]]
    return {c.id: c for c in found}


@cache
def conflicts() -> tuple[dict[str, Any], ...]:
    """Where the chapter contradicts itself: `group`, `what`, and the `claims` concerned."""
    return tuple(_data()["conflicts"])


def source() -> str:
    """Where the claims were read."""
    return _data()["source"]


def printed(claim: str) -> Any:
    """What the chapter states for another claim."""
    return claims()[claim].stated
