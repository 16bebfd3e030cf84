"""Flowchart: the decision flow as boxes and arrows, with the way that a decision took, as text and as DOT."""

from dataclasses import dataclass

from pharos.decide.choose import Decision
from pharos.decide.flow import CHECKS, Step
from pharos.quantity.units import fmt

START, FAMILIES, ACCEPT, NOTHING = "data", "candidates", "accept", "nothing"
SMALLER, LARGER, OTHER = "smaller", "larger", "reconsider"
# First words of a step's action -> where it leads.
_ACTIONS = {"compress": SMALLER, "scale down": SMALLER, "add capacity": LARGER, "reconsider": OTHER}


@dataclass(frozen=True, slots=True)
class Place:
    """A box of the flowchart.

    Args:
        kind: "start", "step", "question", "action" or "end".
        figures: what was compared there, for what was chosen.
        visits: how often the way led through it.
    """

    key: str
    kind: str
    says: str
    figures: str = ""
    visits: int = 0


@dataclass(frozen=True, slots=True)
class Way:
    """An arrow. taken: how often the decision went along it."""

    source: str
    target: str
    label: str = ""
    taken: int = 0


@dataclass(frozen=True, slots=True)
class Flowchart:
    """The flow of `decide.flow`; with a decision, the way it took through it."""

    places: tuple[Place, ...]
    ways: tuple[Way, ...]
    title: str = ""
    result: str = ""

    def place(self, key: str) -> Place:
        """A box by its key."""
        return next(p for p in self.places if p.key == key)

    def text(self) -> list[str]:
        """The flow in letters, a line a box, its arrows below it; `=>` was taken, and how often."""
        lines = [self.title] if self.title else []
        for place in self.places:
            mark = {"question": "?", "action": "!", "end": "#"}.get(place.kind, ">")
            figures = f"  [{place.figures}]" if place.figures else ""
            lines.append(f"{mark} {place.says}{figures}")
            for way in (w for w in self.ways if w.source == place.key):
                arrow = "=>" if way.taken else "->"
                times = f" ({way.taken}x)" if way.taken > 1 else ""
                label = f"{way.label} " if way.label else ""
                lines.append(f"    {label}{arrow} {self.place(way.target).says}{times}")
        return [*lines, *([self.result] if self.result else [])]

    def dot(self) -> str:
        """The flow for Graphviz; what was taken is bold."""
        shapes = {"start": "box", "step": "box", "question": "diamond", "action": "box", "end": "box"}
        lines = ["digraph decision {", "  rankdir=TB;", '  node [fontname="Helvetica"];']
        for p in self.places:
            words = p.says + (f"\n{p.figures}" if p.figures else "")
            bold = ", penwidth=2.5" if p.visits else ""
            rounded = ", style=rounded" if p.kind in ("start", "end") else ""
            lines.append(f"  {p.key} [label={_quoted(words)}, shape={shapes[p.kind]}{bold}{rounded}];")
        for w in self.ways:
            label = w.label + (f" {w.taken}x" if w.taken > 1 else "")
            style = ", penwidth=2.5" if w.taken else ", color=gray"
            lines.append(f"  {w.source} -> {w.target} [label={_quoted(label.strip())}{style}];")
        return "\n".join([*lines, "}", ""])


def flowchart(decision: Decision | None = None) -> Flowchart:
    """The decision flow, with the way that a decision took where one is given."""
    checks = list(CHECKS)
    steps = [] if decision is None else [s for s in decision.trail if s.step in CHECKS]
    taken: dict[tuple[str, str, str], int] = {}
    visits: dict[str, int] = {}
    if decision is not None:
        stands = decision.chosen is not None
        for place, ways in _walked(steps, checks, stands):
            visits[place] = visits.get(place, 0) + 1
            for way in ways:
                taken[way] = taken.get(way, 0) + 1
    figures = {name: _figures(decision, name) for name in checks}
    first = decision.matches[0].family if decision is not None and decision.matches else ""
    kind = decision.data.kind if decision is not None else ""
    says = {name: question for name, (question, _) in CHECKS.items()}
    places = [
        Place(START, "start", "What structure do the data have?", kind, visits.get(START, 0)),
        Place(FAMILIES, "step", "families that assume it, best first", first, visits.get(FAMILIES, 0)),
        *(Place(n, "question", says[n], figures[n], visits.get(n, 0)) for n in checks),
        Place(ACCEPT, "end", "accept", _chosen(decision), visits.get(ACCEPT, 0)),
        Place(SMALLER, "action", "compress or scale down", "", visits.get(SMALLER, 0)),
        Place(LARGER, "action", "add capacity", "", visits.get(LARGER, 0)),
        Place(OTHER, "action", "reconsider the family", "", visits.get(OTHER, 0)),
        Place(NOTHING, "end", "nothing stands", "", visits.get(NOTHING, 0)),
    ]
    ways = [(START, FAMILIES, ""), (FAMILIES, checks[0], "")]
    for name, following in zip(checks, [*checks[1:], ACCEPT], strict=True):
        ways.append((name, following, "yes"))
        ways.append((name, LARGER if name == "accuracy" else SMALLER, "no"))
        ways.append((name, OTHER, "no"))
    ways += [
        (SMALLER, checks[0], ""),
        (LARGER, checks[0], ""),
        (OTHER, FAMILIES, ""),
        (OTHER, NOTHING, "none left"),
    ]
    made = tuple(Way(a, b, label, taken.get((a, b, label), 0)) for a, b, label in ways)
    if decision is None:
        return Flowchart(tuple(places), made)
    result = _chosen(decision) or "; ".join(decision.conflicts) or "nothing stands"
    return Flowchart(tuple(places), made, decision.brief.name or decision.path, result)


def _walked(
    steps: list[Step], checks: list[str], stands: bool
) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """(box, arrows left by) in the order of the trail; "cannot tell" goes on like a yes."""
    found = [(START, [(START, FAMILIES, "")]), (FAMILIES, [(FAMILIES, checks[0], "")] if steps else [])]
    for i, step in enumerate(steps):
        if step.answer != "no":
            following = [*checks[1:], ACCEPT][checks.index(step.step)]
            found.append((step.step, [(step.step, following, "yes")]))
            continue
        action = next((to for words, to in _ACTIONS.items() if step.action.startswith(words)), OTHER)
        found.append((step.step, [(step.step, action, "no")]))
        if action != OTHER:
            found.append((action, [(action, checks[0], "")]))
        elif i + 1 < len(steps):
            found += [(OTHER, [(OTHER, FAMILIES, "")]), (FAMILIES, [(FAMILIES, checks[0], "")])]
        else:
            found += [(OTHER, [(OTHER, NOTHING, "none left")]), (NOTHING, [])]
    return [*found, *([(ACCEPT, [])] if stands else [])]


def _figures(decision: Decision | None, name: str) -> str:
    """What was compared for the choice, in few words."""
    if decision is None or decision.chosen is None:
        return ""
    told = []
    for limit in CHECKS[name][1]:
        verdict = decision.chosen.verdicts.get(limit)
        if verdict is None:
            continue
        figure = verdict.figure
        if figure.unit:
            value = "unknown" if figure.value is None else fmt(float(figure.value), figure.unit)
            told.append(f"{limit.replace('_', ' ')} {value} of {fmt(verdict.limit, figure.unit)}")
        else:
            value = "unknown" if figure.value is None else f"{figure.value:.1%}"
            told.append(f"{limit} {value} of {verdict.limit:.0%}")
    return ", ".join(told)


def _chosen(decision: Decision | None) -> str:
    if decision is None or decision.chosen is None:
        return ""
    return f"{decision.chosen.member.model}, {decision.chosen.precision}"


def _quoted(words: str) -> str:
    return '"' + words.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
