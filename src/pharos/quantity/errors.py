"""Errors that help: what was wrong, where, what is allowed, the nearest match."""

from collections.abc import Iterable

# Characters of a message; what is longer is cut.
LONGEST = 1000


class PharosError(Exception):
    """A mistake in what was asked for, told in one message.

    Args:
        what: the fact that is wrong, with the value.
        where: the place (``file:line:column field``, an operator, an option); put before `what`.
        hint: the nearest valid choice or the next step; put after `what`.
    """

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        if len(what) > LONGEST:
            # a value out of a file may be of any length
            what = f"{what[:LONGEST]} ..."
        self.what, self.where, self.hint = what, where, hint
        super().__init__(what)

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head} ({self.hint})" if self.hint else head

    def at(self, where: str) -> "PharosError":
        """The same error with its place put in front; used once, where the place is known."""
        joined = f"{where}: {self.where}" if self.where else where
        return type(self)(self.what, where=joined, hint=self.hint)


class SizeError(PharosError):
    """A size, shape or hyperparameter that no network can have."""


class UnknownName(PharosError):
    """A model, machine, operator, unit, dtype or field that Pharos does not know."""


class InputError(PharosError):
    """A file that cannot be read as what it claims to be."""


def unknown(what: str, name: str, known: Iterable[str], *, where: str = "") -> UnknownName:
    """An `UnknownName` that lists the nearest of `known`, or all of them when there are few."""
    from difflib import get_close_matches

    names = sorted(set(known))
    folded = {n.lower(): n for n in names}
    near = [folded[m] for m in get_close_matches(name.lower(), folded, n=4, cutoff=0.55)]
    if not near:
        near = [n for low, n in folded.items() if name.lower()[:4] and name.lower()[:4] in low][:4]
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    elif len(names) <= 16:
        hint = f"known: {', '.join(names)}"
    else:
        hint = f"{len(names)} are known"
    return UnknownName(f"unknown {what} {name!r}", where=where, hint=hint)
