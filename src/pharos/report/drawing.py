"""Figures: one description each, as Vega-Lite, drawn as SVG, PNG, HTML or JSON, in light or dark."""

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from html import escape
from importlib.util import find_spec
from pathlib import Path
from textwrap import wrap
from typing import Any

from pharos.quantity.errors import InputError

# Okabe and Ito's, told apart with any kind of colour vision; black is left to the axes. On dark ground the
# lighter blue leads, as the darker would vanish.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#6E6E6E")
DARK_COLOURS = ("#56B4E9", "#FF8A3D", "#2CC79B", "#E29AC4", "#F0C419", "#7FA8FF", "#C9A66B", "#A8A8A8")
WIDTH, HEIGHT = 520, 320
# Points that a letter of the subtitle takes, on average.
LETTER = 5.3
SUFFIXES = (".svg", ".png", ".html", ".json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One picture and what it says.

    Args:
        name: for files and ids. title: over the picture.
        alt: what it shows, in words, for those who cannot see it.
        spec: Vega-Lite, as Altair writes it, without theme; data inside.
        source: where its figures come from, in one line or several.
        characters: draws it on a terminal so many columns wide; None where that would say little.
    """

    name: str
    title: str
    alt: str
    spec: Mapping[str, Any] = field(repr=False)
    source: str | list[str] = ""
    characters: Callable[[int], str] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(
        cls, chart: Any, *, name: str, title: str, alt: str, source: "str | list[str]" = "",
        data: Mapping[str, list[dict[str, Any]]] | None = None,
        characters: Callable[[int], str] | None = None,
    ) -> "Figure":  # fmt: skip
        """A figure of an Altair chart; `data` are the rows of its named data."""
        spec = chart.to_dict()
        if data:
            spec["datasets"] = {**spec.get("datasets", {}), **data}
        return cls(name=name, title=title, alt=alt, spec=spec, source=source, characters=characters)

    @property
    def lines(self) -> list[str]:
        """The source, line by line."""
        return [self.source] if isinstance(self.source, str) and self.source else list(self.source)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows behind it under one of its names of data."""
        return list(self.spec["datasets"][name])

    def themed(self, dark: bool = False) -> dict[str, Any]:
        """The whole Vega-Lite specification, with title, words for readers of the screen and the theme."""
        spec = deepcopy(dict(self.spec))
        own = spec.get("config", {})
        title: dict[str, Any] = {"text": self.title}
        told = spec.get("width", WIDTH)
        width = int((told if isinstance(told, (int, float)) else WIDTH) / LETTER)
        # lines of the figure's own stay as they are
        lines = wrap(self.source, width) if isinstance(self.source, str) else self.lines
        if lines:
            title["subtitle"] = lines
        return {
            **spec, "title": title, "description": self.alt, "config": _merged(config(dark), own),
            "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        }  # fmt: skip

    def svg(self, dark: bool = False) -> str:
        """The picture as SVG.

        Raises:
            InputError: vl-convert is not installed.
        """
        return _converter().vegalite_to_svg(json.dumps(self.themed(dark)))

    def png(self, dark: bool = False, scale: float = 2.0) -> bytes:
        """The picture as PNG, `scale` pixels a point.

        Raises:
            InputError: vl-convert is not installed.
        """
        return _converter().vegalite_to_png(json.dumps(self.themed(dark)), scale=scale)

    def html(self, dark: bool = False) -> str:
        """A page of its own that works without a network: hovering, zooming, saving.

        Raises:
            InputError: vl-convert is not installed.
        """
        return _converter().vegalite_to_html(json.dumps(self.themed(dark)), bundle=True)

    def picture(self) -> str:
        """An HTML element of both themes that holds the picture itself; a reader of the screen hears `alt`.

        Raises:
            InputError: vl-convert is not installed.
        """
        light, dark = (
            "data:image/svg+xml;base64," + b64encode(self.svg(dark=theme).encode()).decode()
            for theme in (False, True)
        )
        words = escape(f"{self.title}. {self.alt}")
        return (
            f'<picture><source media="screen and (prefers-color-scheme: dark)" srcset="{dark}">'
            f'<img src="{light}" alt="{words}" style="max-width:100%"></picture>'
        )

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """What a notebook shows: Vega-Lite where it draws that, a picture where not, words at least."""
        made: dict[str, Any] = {"text/plain": f"{self.title}\n{self.alt}"}
        made["application/vnd.vegalite.v6+json"] = self.themed()
        if find_spec("vl_convert"):
            made["image/png"] = b64encode(self.png()).decode()
        kept = set(include or made) - set(exclude or ())
        return {kind: data for kind, data in made.items() if kind in kept}

    def save(self, path: str | Path, dark: bool = False) -> Path:
        """Writes the picture in the form that the path's suffix names.

        Raises:
            InputError: a suffix that is none of .svg, .png, .html and .json, a folder that is not there, or
                vl-convert is not installed.
        """
        path = form_of(path)
        match path.suffix.lower():
            case ".svg":
                made = self.svg(dark).encode()
            case ".png":
                made = self.png(dark)
            case ".html":
                made = self.html(dark).encode()
            case _:
                made = json.dumps(self.themed(dark), indent=1).encode()
        partial = path.with_name(f".{path.name}.part")
        try:
            partial.write_bytes(made)
            partial.replace(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise InputError(f"cannot be written: {error.strerror}", where=str(path)) from None
        return path


def form_of(path: str | Path) -> Path:
    """A path that a figure can be saved to.

    Raises:
        InputError: a suffix that is none of .svg, .png, .html and .json, or a folder that is not there.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path.suffix or 'no suffix'} is no form of a figure", where=str(path),
                         hint=f"one of {', '.join(SUFFIXES)}")  # fmt: skip
    if not path.absolute().parent.is_dir():
        raise InputError("its folder does not exist", where=str(path))
    return path


def config(dark: bool = False) -> dict[str, Any]:
    """The theme: Vega-Lite's `config`, for a page of light or dark ground."""
    ink, quiet, rule, ground = (
        ("#E8E6E3", "#B4B2AE", "#3A3D42", "#16181C") if dark else ("#1B1C1E", "#55585D", "#DFE1E4", "#FFFFFF")
    )
    colours = list(DARK_COLOURS if dark else COLOURS)
    return {
        "background": ground, "font": "Arial, Liberation Sans, Helvetica, sans-serif",
        "view": {"continuousWidth": WIDTH, "continuousHeight": HEIGHT, "discreteWidth": WIDTH,
                 "stroke": None},
        "title": {"color": ink, "subtitleColor": quiet, "fontSize": 15, "subtitleFontSize": 11,
                  "anchor": "start", "fontWeight": 600, "offset": 12},
        "axis": {"labelColor": quiet, "titleColor": ink, "gridColor": rule, "domainColor": quiet,
                 "tickColor": quiet, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": 500},
        "legend": {"labelColor": quiet, "titleColor": ink, "labelFontSize": 12, "titleFontSize": 12,
                   "titleFontWeight": 500, "labelLimit": 240},
        "header": {"labelColor": ink, "titleColor": ink, "labelFontSize": 12},
        "range": {"category": colours, "heatmap": {"scheme": "viridis"}, "ramp": {"scheme": "viridis"}},
        "mark": {"color": colours[0], "tooltip": True}, "rule": {"color": quiet},
        "text": {"color": ink, "fontSize": 11},
        "line": {"strokeWidth": 2}, "point": {"filled": True, "size": 60}, "bar": {"cornerRadiusEnd": 1},
        "rect": {"stroke": None},
        # under words that lie on marks; words and lines that stand back; what holds something up
        "style": {"halo": {"stroke": ground, "strokeWidth": 3, "strokeJoin": "round", "fill": ground},
                  "quiet": {"color": quiet}, "ink": {"color": ink}, "rimmed": {"stroke": ground}},
    }  # fmt: skip


def _merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        out[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return out


def require_altair() -> Any:
    """The library that describes plots.

    Raises:
        InputError: it is not installed.
    """
    try:
        import altair
    except ImportError:
        raise InputError("drawing a figure needs altair", hint="pip install 'pharos-nn[report]'") from None
    return altair


def _converter() -> Any:
    try:
        import vl_convert
    except ImportError:
        hint = "pip install 'pharos-nn[report]'; .json needs nothing"
        raise InputError("drawing a figure needs vl-convert", hint=hint) from None
    return vl_convert
