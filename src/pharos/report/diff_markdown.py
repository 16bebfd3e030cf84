"""Diffs as Markdown: what a pull request's comment, a step's summary and a file show."""

import re

from pharos.decide.diff import (
    FAILS,
    KEPT,
    MENDED,
    STILL_UNKNOWN,
    TELLS_NOT,
    WAS,
    Diff,
    LimitChange,
    headline,
)
from pharos.report.diffs import (
    allowed,
    band_text,
    change_text,
    delta_text,
    error_note,
    margin_text,
    operator_counts,
    operator_words,
    percent,
    said,
    summary,
    value_text,
    word,
)
from pharos.report.review import NOTE, Review, Reviewed

# The comment's own sign, by which the next run finds it.
MARKER = "<!-- pharos -->"
# What a comment may hold, with room to spare, and how many contracts are shown in full.
LONGEST, SHOWN = 60_000, 20
_SIGNS = {**dict.fromkeys(FAILS, "❌"), **dict.fromkeys(TELLS_NOT, "❔"), WAS: "⚠️", STILL_UNKNOWN: "❔",
          **dict.fromkeys((KEPT, MENDED), "✅")}  # fmt: skip


def diffs_as_markdown(diffs: list[Diff], what: str, rows: int = 10) -> str:
    """`pharos diff --markdown`: the same as on the terminal."""
    told = summary(diffs) or "what changed"
    head = f"{word(diffs)}: {told}" if any(d.limits for d in diffs) else told
    parts = [f"### Pharos: {escaped(head)}", f"_{escaped(what)}_", _most(diffs)]
    for diff in diffs:
        if len(diffs) == 1 or diff.is_changed:
            parts.append(_one(diff, rows, several=len(diffs) > 1))
    return _bounded(parts)


def review_as_markdown(review: Review, rows: int = 8) -> str:
    """The comment on a pull request, with the sign by which it is found again."""
    diffs = review.diffs
    told = summary(diffs) if diffs else "no contract to check"
    mistakes = [c for c in review.contracts if c.mistake is not None]
    if mistakes:
        told = f"{len(mistakes)} contract{'s' * (len(mistakes) > 1)} cannot be read; {told}"
    parts = [MARKER, f"### Pharos: {escaped(told)}", _most(diffs), _limits(review)]
    for found in mistakes:
        parts.append(f"**{escaped(found.path)}** cannot be read:\n\n```\n{fenced(str(found.mistake))}\n```")
    remarks = [r for r in review.remarks if r.level != NOTE and r.rule in ("near", "loosened", "removed")]
    if remarks:
        parts.append("\n".join(f"- ⚠️ {escaped(r.title)}: {escaped(r.text)}" for r in remarks))
    mends = [line for c in review.contracts for line in _mends(c)]
    if mends:
        parts.append("What would mend it:\n\n" + "\n".join(mends))
    changed = [
        c for c in review.contracts if c.diff is not None and c.diff.before is not None and c.diff.is_changed
    ]
    for found in changed[:SHOWN]:
        assert found.diff is not None
        title = f"{escaped(found.diff.side.name)}: figures and operators"
        parts.append(
            f"<details><summary>{title}</summary>\n\n{_one(found.diff, rows, limits=False)}\n\n</details>"
        )
    if len(changed) > SHOWN:
        parts.append(f"{len(changed) - SHOWN} more contracts changed.")
    parts.append(f"<sub>{_foot(review)}</sub>")
    return _bounded(parts)


def _most(diffs: list[Diff]) -> str:
    lines = []
    for diff, change in headline(diffs):
        text = change_text(diff, change)
        first, _, rest = text.partition(":")
        of = f" ({escaped(diff.side.name)})" if diff.side.limits is not None else ""
        lines.append(f"- **{escaped(first)}**{of}: {escaped(rest)}")
    return "\n".join(lines)


def _limits(review: Review) -> str:
    """One table of all limits: those of contracts that changed first."""
    lines = []
    for found in sorted(review.contracts, key=_urgency):
        if found.diff is None or found.verdict is None:
            continue
        for limit in found.diff.limits:
            lines.append(_limit_line(limit, found.diff.side.name))
    if not lines:
        return ""
    shown = lines[:60]
    more = f"\n\n{len(lines) - 60} more limits." if len(lines) > 60 else ""
    return (
        _table(["", "contract", "limit", "base", "now", "allowed", "margin", "became"], "lllrrrrl", shown)
        + more
    )


def _mends(found: Reviewed) -> list[str]:
    """A line for every limit that fails and for which a single change is known that mends it."""
    if found.diff is None or found.verdict is None:
        return []
    failed = {c.name for c in found.diff.with_status(FAILS)}
    name = escaped(found.diff.side.name)
    return [f"- {name}, {limit.name}: {escaped(limit.remedy)}" for limit in found.verdict.limits
            if limit.name in failed and limit.remedy]  # fmt: skip


def _urgency(found: Reviewed) -> int:
    statuses = {c.status for c in found.diff.limits} if found.diff else set()
    return 0 if statuses & set(FAILS) else 1 if statuses & set(TELLS_NOT) else 2


def _limit_line(limit: LimitChange, name: str | None = None) -> list[str]:
    ends = [value_text(row, limit) for row in (limit.before, limit.after)]
    shown = limit.after or limit.before
    became = f"**{limit.status}**" if limit.status in FAILS else limit.status
    first = [_SIGNS.get(limit.status, "⚠️")]
    return [*first, *([] if name is None else [escaped(name)]), limit.name, *ends, allowed(shown, limit),
            margin_text(shown), became]  # fmt: skip


def _one(diff: Diff, rows: int, *, several: bool = False, limits: bool = True) -> str:
    parts = [f"#### {escaped(diff.side.name)}"] if several else []
    sides = [escaped(side.asked) if side else "nothing" for side in (diff.before, diff.after)]
    parts.append(sides[0] if sides[0] == sides[1] else f"{sides[0]}\n→ {sides[1]}")
    if limits and diff.limits:
        head = ["", "limit", "before", "after", "allowed", "margin", "became"]
        parts.append(_table(head, "llrrrrl", [_limit_line(limit) for limit in diff.limits]))
    figures = [c for c in diff.figures if c.is_changed]
    if figures:
        lines = [
            [c.name, said(c.before.value, c.unit), said(c.after.value, c.unit), percent(c), band_text(c)]
            for c in figures
        ]
        parts.append(_table(["figure", "before", "after", "change", "80% band of it"], "lrrrl", lines))
    if diff.operators:
        parts.append(_operators(diff, rows))
    return "\n\n".join(parts)


def _operators(diff: Diff, rows: int) -> str:
    timed = any(o.delta("latency_s") is not None for o in diff.operators)
    keys = [
        ("parameters", ""),
        ("macs", ""),
        ("traffic_bytes", "B"),
        *([("latency_s", "s")] if timed else []),
    ]
    lines = [
        [f"`{code(o.one.name)}`", escaped(operator_words(o)), *(delta_text(o, *key) for key in keys)]
        for o in diff.operators[:rows]
    ]
    head = ["operator", "became", "params", "MACs", "bytes", *(["time"] if timed else [])]
    left = len(diff.operators) - rows
    more = f", of which {rows} with the largest effect are shown" if left > 0 else ""
    return f"{_table(head, 'll' + 'r' * len(keys), lines)}\n\n{operator_counts(diff)}{more}"


def _foot(review: Review) -> str:
    from pharos.quantity.version import __version__

    parts = [f"Pharos {__version__}"]
    if review.base:
        name = f"{escaped(review.base_name)} at " if not review.base.startswith(review.base_name) else ""
        parts.append(f"base {name}{review.base[:9]}")
    if review.unchanged:
        parts.append(f"{len(review.unchanged)} contracts left out, of which nothing changed")
    banded = next((d for d in review.diffs if any(c.low is not None for c in d.figures)), None)
    return "; ".join(parts) + ("." if banded is None else f". Bands of changes: {error_note(banded)}.")


def _table(head: list[str], sides: str, lines: list[list[str]]) -> str:
    rule = ["---:" if side == "r" else "---" for side in sides]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *lines))


def escaped(text: str) -> str:
    """Text that Markdown and HTML leave alone: no markup, no mention, no reference."""
    flat = " ".join(text.split()).replace(" -> ", " → ")
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    flat = re.sub(r"([\\`*_{}\[\]|~])", r"\\\1", flat)
    # a zero-width space, so that nobody is called and nothing is linked
    return re.sub(r"([@#])(?=\w)", "\\1\u200b", flat)


def code(text: str) -> str:
    """Text inside backticks in a table."""
    return " ".join(text.split()).replace("`", "'").replace("|", "\\|")


def fenced(text: str) -> str:
    """Text inside a fence, which it cannot end."""
    return text.replace("```", "'''")


def _bounded(parts: list[str]) -> str:
    """Whole parts as long as they fit: a comment that is too long is refused."""
    made = ""
    for part in parts:
        if not part:
            continue
        if len(made) + len(part) > LONGEST:
            made += "\n\nMore is in the run's own summary."
            break
        made += f"\n\n{part}" if made else part
    return made + "\n"
