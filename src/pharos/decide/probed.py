"""Probed: what a probe of the data adds to a choice: accuracy measured here, an order of families."""

from collections.abc import Callable
from dataclasses import replace
from math import log2
from pathlib import Path

from pharos.decide.biases import Match
from pharos.decide.brief import Brief
from pharos.decide.data.facts import Data
from pharos.decide.data.sample import Tick
from pharos.decide.flow import Step
from pharos.decide.probe import SHARE, Asked, Probe, probe
from pharos.decide.probe_verdict import times, verdict_of
from pharos.facts.reading import Document
from pharos.quantity.errors import InputError, PharosError
from pharos.quantity.evidence import Evidence, Figure, assumed, fitted, measured, unknown_because
from pharos.quantity.units import fmt_count

# What a measured doubling of the samples that a family needs counts against it, and at most; assumed, so
# that a clear measurement outweighs any one structure (WEIGHTS of biases).
DOUBLING, MOST = 1.0, 4.0


def probe_of(brief: Brief, document: Document, tick: Tick, told: Callable[[str], None]) -> Probe:
    """The probe that a brief asks for, of the families that match best.

    Raises:
        PharosError: no file, no labels, or too little time, with the brief's line.
    """
    assert brief.probe is not None
    where = document.where("probe")
    if brief.data.file is None:
        raise InputError("there is no file to train on", where=where, hint="write data.file")
    at = Path(brief.data.file)
    at = at if at.is_absolute() else Path(document.path).parent / at
    asked = Asked(
        time_s=brief.probe.time, seeds=brief.probe.seeds, label=brief.probe.label,
        budget=brief.probe.parameters, size=None if brief.data.labels is None else int(brief.data.labels),
    )  # fmt: skip
    try:
        return probe(str(at), asked, tick, told)
    except PharosError as error:
        raise error.at(where) from None


def learnt(found: Probe) -> dict[str, Figure]:
    """Accuracy of each family at the labels of the data, as its small member reaches it."""
    if found.metric != SHARE:
        return {}
    figures = {}
    for member in found.matched.members:
        reached, why = found.at_full(member.family)
        curve = found.curves[member.family]
        largest = curve.sizes[-1]
        evidence: list[Evidence] = [measured(
            f"{member.model} ({fmt_count(member.parameters)} parameters) from {largest:,} examples of "
            f"{Path(found.data.path).name}, {len(curve.errors[-1])} seeds, {found.tested:,} held out"
        )]  # fmt: skip
        if reached is None:
            # with all labels it does no worse, but how much better is not told
            why = f"{found.full:,} labels lie beyond the {largest:,} that were tried, and no law holds: {why}"
            figures[member.family] = Figure(
                value=None, low=1 - float(curve.means[-1]), unit="",
                evidence=(unknown_because(f"{why}; give probe.time more"), *evidence),
            )  # fmt: skip
            continue
        if found.full > largest:
            missed = curve.missed()
            evidence.append(fitted(f"a power law to {found.full:,} labels", abs(missed or 0.0)))
        evidence.append(assumed(f"a larger {member.family} does no worse than this small one"))
        figures[member.family] = Figure(
            value=1 - reached.value, low=max(0.0, 1 - reached.high), high=min(1.0, 1 - reached.low), unit="",
            evidence=tuple(evidence),
        )  # fmt: skip
    return figures


def weighed(matches: list[Match], found: Probe) -> list[Match]:
    """The matches, with a clear lead measured on the data among what speaks for and against them."""
    if not found.curves[found.ranked()[0]].learns:
        return matches
    changed = {m.family: m for m in matches}
    for lead in found.advantages():
        if not lead.clear or lead.second not in changed or lead.ratio.value <= 1:
            continue
        told = f"[measured]: it needs {times(lead.ratio)} the samples of {lead.first}"
        m = changed[lead.second]
        score = m.score - min(MOST, DOUBLING * log2(lead.ratio.value))
        changed[lead.second] = replace(m, score=round(score, 3), counters=(f"probe {told}", *m.counters))
        if lead.first in changed:
            best = changed[lead.first]
            words = f"probe [measured]: {lead.second} needs {times(lead.ratio)} its samples"
            changed[lead.first] = replace(best, reasons=(words, *best.reasons))
    return sorted(changed.values(), key=lambda m: -m.score)


def with_probe(data: Data, found: Probe) -> Data:
    """The data with what was learnt of them."""
    return replace(data, learnt=learnt(found))


def probe_step(found: Probe) -> Step:
    """The step of the trail."""
    verdict = verdict_of(found)
    numbers = {f: {"error": float(found.curves[f].means[-1]), "examples": found.curves[f].sizes[-1]}
               for f in found.families}  # fmt: skip
    answer = "cannot tell" if verdict.best is None or not verdict.clear else verdict.best
    return Step(step="probe", question="Which family learns these data from fewest examples?", answer=answer,
                numbers=numbers, action=verdict.words[0])  # fmt: skip
