"""Plotting: the register of plots, what each is drawn from and what may be asked of it."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from pharos.facts.declared import import_all
from pharos.quantity.errors import unknown
from pharos.report.drawing import Figure, require_altair


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """One kind of picture.

    Args:
        takes: the kind of result that it draws, a key of `pharos.report.asked.MAKERS`.
        draw: makes the figure; its keyword arguments are what may be asked of it.
        options: the names of those.
    """

    name: str
    summary: str
    takes: str
    draw: Callable[..., Figure]
    options: tuple[str, ...] = ()


PLOTS: dict[str, Plot] = {}


def plot(name: str, summary: str, *, takes: str) -> Callable[..., Callable[..., Figure]]:
    """Registers a function of a result as a plot."""

    def register(draw: Callable[..., Figure]) -> Callable[..., Figure]:
        @wraps(draw)
        def checked(*args: Any, **kwargs: Any) -> Figure:
            require_altair()
            return draw(*args, **kwargs)

        options = [p.name for p in inspect.signature(draw).parameters.values() if p.kind is p.KEYWORD_ONLY]
        PLOTS[name] = Plot(name=name, summary=summary, takes=takes, draw=checked, options=tuple(options))
        return checked

    return register


def plots() -> dict[str, Plot]:
    """Every plot by its name."""
    import_all("pharos.report.plots")
    return dict(sorted(PLOTS.items()))


def find_plot(name: str) -> Plot:
    """A plot by its name; case does not matter.

    Raises:
        UnknownName: with the nearest.
    """
    known = plots()
    if name.lower() not in known:
        raise unknown("plot", name, known)
    return known[name.lower()]
