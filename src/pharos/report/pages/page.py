"""Page: subjects laid out as one HTML file that works without a network."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

from pharos.quantity.errors import InputError
from pharos.report.pages.content import Content, content
from pharos.report.pages.subject import Subject

# What a file may weigh: it is mailed and kept.
MOST_BYTES = 2_000_000


def page(subjects: Sequence[Subject], name: str = "") -> str:
    """One HTML file about one subject or several.

    Args:
        name: its title; by default the first subject's.

    Raises:
        InputError: no subject, or Jinja2, altair or vl-convert is not installed.
    """
    if not subjects:
        raise InputError("a page needs something to tell of", where="page")
    template = _environment().get_template("report.html.j2")
    for library in ("altair", "vl_convert"):
        # a figure that fails is left out with its reason; without the libraries all would be
        if find_spec(library) is None:
            raise InputError("a page needs altair and vl-convert", hint="pip install 'pharos-nn[report]'")
    parts = [content(s) for s in subjects]
    made = template.render(
        name=name or (parts[0].title if len(parts) == 1 else "Contracts"), parts=parts,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), version=version("pharos-nn"),
        style=_text("report.css"), script=_text("table.js"), data=_data(parts),
    )  # fmt: skip
    if len(made.encode()) > MOST_BYTES and len(parts) > 1:
        hint = "write a page for each contract"
        raise InputError(f"{len(parts)} subjects make a page of more than {MOST_BYTES / 1e6:g} MB", hint=hint)
    return made


def _data(parts: list[Content]) -> str:
    """The rows of the tables as JSON that may stand inside a script element."""
    rows: list[Any] = [
        {"columns": [c.name for c in p.columns],
         "rows": [[cell.text if cell.value is None else cell.value for cell in row] for row in p.rows]}
        for p in parts
    ]  # fmt: skip
    return json.dumps(rows).replace("<", "\\u003c").replace("&", "\\u0026")


@cache
def _environment() -> Any:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError:
        raise InputError("a page needs Jinja2", hint="pip install 'pharos-nn[report]'") from None
    return Environment(
        loader=PackageLoader("pharos.report", "pages"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def _text(name: str) -> Any:
    from markupsafe import Markup

    # our own files, which hold no end of the element that they stand in
    return Markup((files("pharos.report") / "pages" / name).read_text(encoding="utf-8"))
