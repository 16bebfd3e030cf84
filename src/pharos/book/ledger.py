"""Ledger: every claim of the chapter beside what Pharos computes for it through its own rules."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from inspect import signature
from typing import Any

from pharos.book.agree import DIFFERS, REPRODUCES, ROUNDS, UNKNOWN, VERDICTS, agree, is_cut
from pharos.book.answer import Answer
from pharos.book.chapter import Claim, claims, conflicts
from pharos.book.lab import measured_by
from pharos.facts.declared import modules
from pharos.quantity.errors import unknown as unknown_name

# What computes a claim: takes the claim's own premises as keyword arguments, gives an Answer or a bare value.
Rule = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A claim with what was computed.

    Args:
        verdict: one of `agree.VERDICTS`.
        reading: the other reading that gives what is stated, if the computed value does not; "" for none.
        code: file and line of what computed it, below `pharos/book/claims`.
        conflicts: other claims of the chapter that contradict it or repeat it otherwise.
        labs: names of the labs that measure it.
    """

    claim: Claim
    computed: Any
    verdict: str
    note: str
    readings: dict[str, Any]
    reading: str
    code: str
    conflicts: tuple[str, ...] = ()
    labs: tuple[str, ...] = ()


@cache
def rules() -> dict[str, Rule]:
    """What computes each claim: the `CLAIMS` of every file of `claims/`.

    Raises:
        ValueError: two files compute the same claim.
    """
    found: dict[str, Rule] = {}
    for name in modules("pharos.book.claims"):
        own: dict[str, Rule] = import_module(name).CLAIMS
        if twice := own.keys() & found.keys():
            raise ValueError(f"{name} computes what another file does: {', '.join(sorted(twice))}")
        found |= own
    return found


@cache
def entry(name: str) -> Entry:
    """A claim, by its id, computed and compared."""
    claim, rule = claims()[name], rules()[name]
    answer = rule(**claim.given) if signature(rule).parameters else rule()
    if not isinstance(answer, Answer):
        answer = Answer(answer)
    verdict = UNKNOWN if answer.value is None else agree(claim.stated, answer.value, claim.form)
    same = (REPRODUCES, ROUNDS)
    reading = ""
    if verdict == DIFFERS:
        hits = [n for n, v in answer.readings.items() if agree(claim.stated, v, claim.form) in same]
        reading = hits[0] if hits else ""
    note = answer.note
    if is_cut(claim.stated, answer.value):
        note = f"{note}; cut off, not rounded".lstrip("; ")
    others = {o: None for group in conflicts() if claim.id in group["claims"] for o in group["claims"]}
    others.pop(claim.id, None)
    code = rule.__code__
    place = f"{code.co_filename.replace(chr(92), '/').rpartition('/')[2]}:{code.co_firstlineno}"
    return Entry(
        claim=claim, computed=answer.value, verdict=verdict, note=note, readings=answer.readings,
        reading=reading, code=place, conflicts=tuple(others), labs=measured_by().get(name, ()),
    )  # fmt: skip


def ledger(section: str = "", kind: str = "", verdict: str = "") -> list[Entry]:
    """The entries that match all filters, in the chapter's order.

    Args:
        section: its number, with those below it (``1.3``), or any part of its name.

    Raises:
        UnknownName: no claim has such a section, kind or verdict, with the nearest.
    """
    every = list(claims().values())
    if section:
        every = [c for c in every if _is_in(section, c.section)]
        if not every:
            raise unknown_name("section", section, sections(), where="--section")
    if kind:
        kinds = sorted({c.kind for c in claims().values()})
        if kind not in kinds:
            raise unknown_name("kind of claim", kind, kinds, where="--kind")
        every = [c for c in every if c.kind == kind]
    if verdict and verdict not in VERDICTS:
        raise unknown_name("verdict", verdict, VERDICTS, where="--verdict")
    found = [entry(c.id) for c in every]
    return [e for e in found if verdict in ("", e.verdict)]


def sections() -> list[str]:
    """Names of all sections that hold claims, in the chapter's order."""
    return list(dict.fromkeys(c.section for c in claims().values()))


def _is_in(wanted: str, section: str) -> bool:
    number = section.split()[0]
    if wanted.replace(".", "").isdigit():
        return number == wanted or number.startswith(f"{wanted}.")
    return wanted.lower() in section.lower()


def counts(entries: Iterable[Entry]) -> dict[str, int]:
    """Entries by verdict, and of those that differ how many another reading explains."""
    entries = list(entries)
    found = Counter(e.verdict for e in entries)
    return {
        "claims": len(entries),
        **{v: found[v] for v in VERDICTS},
        "differs_by_convention": sum(1 for e in entries if e.verdict == DIFFERS and e.reading),
    }


def named(ids: Iterable[str]) -> list[Entry]:
    """Entries by their ids.

    Raises:
        UnknownName: no such claim, with the nearest.
    """
    known = claims()
    for name in ids:
        if name not in known:
            raise unknown_name("claim", name, list(known))
    return [entry(name) for name in ids]


def changed(before: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """(claim, verdict then, verdict now) of each claim that was there and has another verdict.

    Args:
        before: verdicts by the ids of claims, as `pharos ledger --json` told them.
    """
    return [(e.claim.id, before[e.claim.id], e.verdict) for e in ledger()
            if before.get(e.claim.id, e.verdict) != e.verdict]  # fmt: skip
