"""Lab process: one lab in a process of its own: ``lab_process NAME PROCESSES SEED SECONDS SMALL``.

Writes a JSON object a line: {"progress": [step, steps, words]}, then {"outcome": ...} or {"error": words}.
"""

import json
import os
import sys
from typing import Any

from pharos.quantity.errors import PharosError


def main(name: str, processes: str, seed: str, seconds: str, small: str) -> None:
    """Runs the lab and tells how it goes."""
    # what a lab prints must not stand among the lines that are read
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(**line: Any) -> None:
        told.write(json.dumps(line, allow_nan=False) + "\n")
        told.flush()

    from pharos.book.lab import run_lab

    try:
        found = run_lab(
            name,
            int(processes) or None,
            int(seed),
            lambda step, steps, words: say(progress=[step, steps, words]),
            float(seconds),
            small == "1",
        )
    except PharosError as error:
        say(error=str(error).replace("--", ""))
        return
    except Exception as error:
        say(error=f"The lab failed: {type(error).__name__}: {error}"[:400])
        raise
    say(
        outcome={
            "name": found.name,
            "summary": found.summary,
            "holds": found.holds,
            "note": found.note,
            "settings": {k: str(v) for k, v in found.settings.items()},
            "columns": list(found.columns),
            "rows": [[_cell(c) for c in row] for row in found.rows],
            "numeric": [not isinstance(c, str) for c in found.rows[0]] if found.rows else [],
            "checks": [{"what": c.what, "found": c.found, "holds": c.holds} for c in found.checks],
            "findings": [
                {"expected": f.expected, "found": f.found, "agreement": f.agreement, "section": f.section}
                for f in found.findings
            ],
            **_drawn(found.figure),
        }
    )


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _drawn(figure: Any) -> dict[str, Any]:
    """The figure in light and dark with its words; nothing where it cannot be drawn."""
    if figure is None:
        return {}
    try:
        return {
            "figure": {
                "light": figure.svg(),
                "dark": figure.svg(dark=True),
                "alt": figure.alt,
                "title": figure.title,
            }
        }
    except PharosError:
        return {}


if __name__ == "__main__":
    main(*sys.argv[1:6])
