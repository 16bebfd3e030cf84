"""Verdicts for machines: JSON rows and JUnit XML."""

from typing import Any
from xml.etree import ElementTree as ET

from pharos.decide.verdict import BROKEN, HOLDS, Verdict
from pharos.quantity.evidence import Figure
from pharos.quantity.units import fmt
from pharos.report.advice import finding_row
from pharos.report.rows import evidence_row, plain, workload_row


def verdict_row(verdict: Verdict) -> dict[str, Any]:
    """What `pharos check --json` prints for one contract."""
    return limits_row(verdict) | {"advice": [finding_row(f) for f in verdict.advice()]}


def limits_row(verdict: Verdict) -> dict[str, Any]:
    """The same without advice."""
    estimate = verdict.estimate
    return {
        "schema": "pharos/check@1",
        "contract": verdict.contract.name,
        "file": verdict.path,
        "model": verdict.model,
        "machine": estimate.machine.id,
        "workload": workload_row(estimate),
        "verdict": verdict.verdict,
        "binding": plain(estimate.binding),
        "uncounted": list(estimate.count.uncounted),
        "limits": [
            {
                "name": limit.name,
                "unit": limit.unit,
                "limit": plain(limit.limit),
                "value": plain(limit.figure.value),
                "low": plain(limit.figure.low),
                "high": plain(limit.figure.high),
                "margin": plain(limit.margin),
                "verdict": limit.verdict,
                "line": verdict.document.line("limits", limit.name),
                "evidence": [evidence_row(e) for e in limit.figure.evidence],
                "remedy": limit.remedy or None,
            }
            for limit in verdict.limits
        ],
    }


def junit(verdicts: list[Verdict]) -> str:
    """JUnit XML: a suite a contract, a case a limit; broken fails, unknown is skipped with its reason."""
    root = ET.Element("testsuites")
    for verdict in verdicts:
        broken = sum(limit.verdict == BROKEN for limit in verdict.limits)
        unknown = sum(limit.verdict not in (BROKEN, HOLDS) for limit in verdict.limits)
        suite = ET.SubElement(
            root,
            "testsuite",
            name=_clean(verdict.contract.name),
            tests=str(len(verdict.limits)),
            failures=str(broken),
            errors="0",
            skipped=str(unknown),
        )
        for limit in verdict.limits:
            case = ET.SubElement(
                suite,
                "testcase",
                classname=_clean(verdict.path),
                name=limit.name,
                file=_clean(verdict.path),
                line=str(verdict.document.line("limits", limit.name)),
            )
            told = f"{_value(limit.figure)} against {fmt(limit.limit, limit.unit)}"
            if limit.verdict == BROKEN:
                ET.SubElement(case, "failure", message=_clean(told)).text = _clean(limit.remedy)
            elif limit.verdict != HOLDS:
                ET.SubElement(case, "skipped", message=_clean(f"cannot tell: {told}. {limit.remedy}"))
            ET.SubElement(case, "system-out").text = _clean("\n".join(map(str, limit.figure.evidence)))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _value(figure: Figure) -> str:
    return fmt(figure.value, figure.unit)


def _clean(text: str) -> str:
    """Without the control characters that XML forbids."""
    return "".join(c for c in text if c >= " " or c in "\n\t")
