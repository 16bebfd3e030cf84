"""Labs: experiments of the textbook that run on this machine, one file of `labs` each."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from pharos.book.chapter import claims
from pharos.facts.declared import import_all
from pharos.quantity.errors import InputError, unknown
from pharos.report.labs import Outcome

# Told of what a lab does next: (step, steps, words).
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a lab runs with.

    Args:
        processes: that it starts on this machine; seed: of its random numbers.
        timeout_s: after which it is stopped.
        small: a run of seconds, to see that it works; its findings are not the lab's.
    """

    processes: int
    seed: int = 0
    small: bool = False
    timeout_s: float = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """One experiment.

    Args:
        processes: by default; fewest, most: that it can do with.
        claims: ids of the ledger's claims that it measures.
        run: does it; raises no error for a result that was not expected, but says so in its checks.
    """

    name: str
    summary: str
    run: Callable[[Setting, Progress], Outcome]
    processes: int = 1
    fewest: int = 1
    most: int = 1
    claims: tuple[str, ...] = ()

    @property
    def sections(self) -> tuple[str, ...]:
        """Numbers of the chapter's sections whose claims it measures, in their order."""
        known = claims()
        return tuple(dict.fromkeys(i.section.split()[0] for i in known.values() if i.id in self.claims))


LABS: dict[str, Lab] = {}


def lab(name: str, summary: str, **limits: Any) -> Callable[..., Callable[[Setting, Progress], Outcome]]:
    """Registers a function as a lab."""

    def register(run: Callable[[Setting, Progress], Outcome]) -> Callable[[Setting, Progress], Outcome]:
        LABS[name] = Lab(name=name, summary=summary, run=run, **limits)
        return run

    return register


def labs() -> dict[str, Lab]:
    """Every lab by its name."""
    import_all("pharos.book.labs")
    return dict(sorted(LABS.items()))


@cache
def measured_by() -> dict[str, tuple[str, ...]]:
    """Names of the labs that measure a claim, by its id; claims that none does are left out."""
    found: dict[str, tuple[str, ...]] = {}
    for one in labs().values():
        for claim in one.claims:
            found[claim] = (*found.get(claim, ()), one.name)
    return found


def find_lab(name: str) -> Lab:
    """A lab by its name; `-`, `_` and case do not matter.

    Raises:
        UnknownName: with the nearest.
    """
    known = labs()
    for one in known.values():
        if one.name.replace("-", "") == name.lower().replace("_", "").replace("-", ""):
            return one
    raise unknown("lab", name, known)


def run_lab(
    name: str, processes: int | None = None, seed: int = 0, progress: Progress | None = None,
    timeout_s: float = 180.0, small: bool = False,
) -> Outcome:  # fmt: skip
    """Runs a lab.

    Raises:
        UnknownName: no such lab.
        InputError: more or fewer processes than it can do with, or what it needs is not installed.
    """
    found = find_lab(name)
    count = found.processes if processes is None else processes
    if not found.fewest <= count <= found.most:
        allowed = f"{found.fewest} to {found.most}" if found.most > found.fewest else str(found.fewest)
        raise InputError(f"{found.name} runs with {allowed} processes, not {count}", where="--processes")
    return found.run(
        Setting(processes=count, seed=seed, timeout_s=timeout_s, small=small), progress or (lambda *_: None)
    )
