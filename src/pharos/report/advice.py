"""Advice on a terminal and as JSON: findings worst first, each with evidence, cost, remedy and gain."""

from collections import Counter
from typing import Any

from rich.console import Console
from rich.text import Text

from pharos.decide.advice import ERROR, SEVERITIES, WARNING, Case, Fact, Finding, Gain, rules, stated_enough
from pharos.quantity.units import fmt
from pharos.report.estimates import band, title
from pharos.report.rows import evidence_row, figure_row, plain, workload_row
from pharos.report.text import pair

# The command's options for what only the user knows.
OPTIONS = {"labels": "--labels", "data_range": "--data-range", "flops": "--flops", "devices": "--devices",
           "trained_on_bytes": "--trained-on", "memory_bytes": "--memory"}  # fmt: skip
STYLES = {ERROR: "bold red", WARNING: "bold yellow"}


def finding_row(finding: Finding) -> dict[str, Any]:
    """One finding as plain data."""
    cost, gain = finding.consequence, finding.gain
    return {
        "rule": finding.rule,
        "severity": finding.severity,
        "where": list(finding.where),
        "evidence": [
            {"what": f.what, "value": plain(f.value), "unit": f.unit, **evidence_row(f.known)}
            for f in finding.evidence
        ],
        "consequence": {
            "what": cost.what, "value": plain(cost.value), "unit": cost.unit, "share": plain(cost.share),
        },
        "remedy": finding.remedy,
        "gain": None if gain is None else {
            "of": gain.of, "before": plain(gain.before), "after": plain(gain.after), "unit": gain.unit,
            "factor": plain(gain.factor), "better": gain.better,
            "energy_J": None if gain.energy_J is None else list(gain.energy_J),
            "evidence": [evidence_row(e) for e in gain.known],
        },
        "lab": lab_of(finding) or None,
    }  # fmt: skip


def lab_of(finding: Finding) -> str:
    """The lab that shows the effect on this machine; "" where none can."""
    rule = rules().get(finding.rule)
    return "" if rule is None else rule.lab


def advice_row(case: Case, found: list[Finding]) -> dict[str, Any]:
    """What `pharos advise --json` prints."""
    return {
        "schema": "pharos/advise@1",
        "model": case.base.model,
        "machine": case.machine.id,
        "workload": workload_row(case.base),
        "latency_s": figure_row(case.base.latency),
        "fits": plain(case.base.fits),
        "findings": [finding_row(f) for f in found],
        "counts": {severity: sum(f.severity == severity for f in found) for severity in SEVERITIES},
        "not_asked": {
            name: list(r.needs) for name, r in rules().items() if not stated_enough(r, case.stated)
        },
        "withheld": _withheld(case),
    }


def _withheld(case: Case) -> list[str]:
    return [r.name for r in rules().values() if r.of_speed] if case.base.fits is False else []


def gained(gain: Gain) -> str:
    """What a remedy changes: latency of a step 4.68 ms -> 2.4 ms (1.95x)."""
    text = f"{gain.of} {fmt(gain.before, gain.unit)} -> {fmt(gain.after, gain.unit)}"
    text = text if gain.factor is None else f"{text} ({gain.factor:.3g}x)"
    if gain.energy_J is None:
        return text
    return f"{text}, energy {fmt(gain.energy_J[0], 'J')} -> {fmt(gain.energy_J[1], 'J')}"


def costs(finding: Finding) -> str:
    """What a finding costs, its figure first."""
    cost = finding.consequence
    if cost.value is None:
        return cost.what
    of = "" if cost.share is None else f" ({_percent(cost.share)} of {_whole(cost.unit)})"
    return f"{fmt(cost.value, cost.unit)} {cost.what}{of}"


def _whole(unit: str) -> str:
    return "the memory" if unit == "B" else "a step"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.0995 else f"{share:.1%}"


def _short(fact: Fact) -> str:
    value = fmt(fact.value, fact.unit) if fact.unit or abs(fact.value) >= 1e4 else f"{fact.value:.4g}"
    return f"{fact.what} {value}"


def _fact(fact: Fact) -> str:
    told = f" [{fact.known}]" if fact.known.where else f" [{fact.known.kind.value}]"
    return f"{_short(fact)}{told}"


def headline(found: list[Finding]) -> str:
    """How many findings of each severity there are."""
    counts = Counter(f.severity for f in found)
    return ", ".join(f"{counts[s]} {s}{'s' if counts[s] > 1 else ''}" for s in SEVERITIES if counts[s])


def quietly(found: list[Finding]) -> str:
    """One line of errors and warnings, the worst first; "" where there are none."""
    loud = [f for f in found if f.severity in (ERROR, WARNING)]
    if not loud:
        return ""
    more = f"; {len(loud) - 1} more" if len(loud) > 1 else ""
    worst = loud[0]
    told = _short(worst.evidence[0]) if worst.consequence.value is None else costs(worst)
    return f"{worst.rule}: {told}{more} (pharos advise)"


def print_quietly(console: Console, found: list[Finding]) -> None:
    """The line of `quietly`, if there is any."""
    told = quietly(found)
    if told:
        pair(console, "advice", told)


def print_advice(console: Console, case: Case, found: list[Finding]) -> None:
    """`pharos advise`: a block a finding, worst first."""
    base = case.base
    console.print(Text(title(base), style="bold"))
    pair(console, "latency", f"{band(base.latency)}  [{base.latency.level}]")
    pair(console, "binds", str(base.binding))
    pair(console, "findings", headline(found) or "none: no rule applies")
    for finding in found:
        console.print()
        style = STYLES.get(finding.severity, "bold")
        console.print(Text.assemble((finding.severity, style), f"  {finding.rule}"))
        pair(console, "costs", costs(finding))
        for i, fact in enumerate(finding.evidence):
            pair(console, "evidence" if i == 0 else "", _fact(fact))
        if finding.where:
            pair(console, "where", ", ".join(finding.where))
        pair(console, "remedy", finding.remedy)
        if finding.gain is not None:
            known = finding.gain.known[0].kind.value if finding.gain.known else "counted"
            pair(console, "gain", f"{gained(finding.gain)}  [{known}]")
        if lab := lab_of(finding):
            pair(console, "see it", f"pharos lab {lab}")
    withheld = _withheld(case)
    silent = [r for r in rules().values() if not stated_enough(r, case.stated)]
    options = sorted({OPTIONS[need] for r in silent for need in r.needs})
    if withheld or options:
        console.print()
    if withheld:
        pair(console, "withheld", "advice on speed, until it fits")
    if options:
        pair(console, "not asked", f"what needs {', '.join(options)}")
