"""Subjects: what a page is about: one network under one workload on one machine, with limits or without."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pharos.decide.advice import Finding, advise, of_estimate
from pharos.decide.verdict import Verdict
from pharos.decide.why import Why, why
from pharos.graph.workload import Workload
from pharos.machines.machine import Machine
from pharos.predict.estimate import Estimate, predict
from pharos.quantity.errors import InputError, PharosError
from pharos.quantity.sizes import is_array

if TYPE_CHECKING:
    from pharos.models.registry import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One estimate with all that is told of it.

    Args:
        verdict: of the contract that it was made for, if one was.
        findings: advice, worst first. why: sensitivities; None where the time is unknown.
        command: that gives the same figures.
    """

    estimate: Estimate
    findings: tuple[Finding, ...]
    why: Why | None
    command: str
    verdict: Verdict | None = None


def subject(
    model: "Model", machine: Machine, workload: Workload, *, runtime: str | None = None, command: str = ""
) -> Subject:
    """Predicts a model on a machine, and finds its advice and its sensitivities.

    Raises:
        InputError: sizes are arrays; a page tells of one workload.
    """
    estimate = predict(model.graph(workload), machine, workload, model=model.name, runtime=runtime)
    if is_array(estimate.latency.value) or is_array(estimate.count.macs):
        raise InputError("a page tells of one workload; sizes are arrays here", where=model.name)
    findings = advise(of_estimate(model, estimate), quick=True)
    return Subject(estimate=estimate, findings=tuple(findings), why=_why(model, machine, workload, runtime),
                   command=command)  # fmt: skip


def subject_of(verdict: Verdict) -> Subject:
    """The subject of a contract that was checked."""
    estimate = verdict.estimate
    return Subject(
        estimate=estimate, findings=tuple(verdict.advice()), verdict=verdict,
        why=_why(verdict.network, estimate.machine, estimate.workload, estimate.runtime),
        command=f"pharos check {verdict.path}",
    )  # fmt: skip


def _why(model: "Model", machine: Machine, workload: Workload, runtime: str | None) -> Why | None:
    try:
        return why(model, machine, workload, runtime=runtime)
    except PharosError:
        return None
