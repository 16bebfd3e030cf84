"""Collectives: one file each; what moves over which links, in closed form and message by message."""

from pharos.facts.declared import import_all
from pharos.plan.collectives.base import ACROSS, COLLECTIVES, INSIDE, Collective, Message, Moves, Phase, run
from pharos.quantity.errors import unknown

__all__ = [
    "ACROSS",
    "COLLECTIVES",
    "INSIDE",
    "Collective",
    "Message",
    "Moves",
    "Phase",
    "find_collective",
    "run",
]

import_all("pharos.plan.collectives")


def find_collective(name: str) -> Collective:
    """A collective by its name; `-`, `_` and case do not matter.

    Raises:
        UnknownName: with the nearest.
    """
    wanted = name.lower().replace("_", "").replace("-", "").replace(" ", "")
    for known, found in COLLECTIVES.items():
        if known.replace("-", "") == wanted:
            return found
    raise unknown("collective", name, COLLECTIVES)
