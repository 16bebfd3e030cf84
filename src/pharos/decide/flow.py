"""Flow: the flowchart as steps over a family's trials; each "no" compresses, scales or adds capacity."""

from dataclasses import dataclass, field
from typing import Any

from pharos.decide.brief import Brief
from pharos.decide.data.facts import Data
from pharos.decide.search import Trial, cost
from pharos.decide.verdict import BROKEN, HOLDS
from pharos.quantity.dtypes import BITS, Precision
from pharos.quantity.units import fmt

# Step -> what it asks, the limits that it looks at.
CHECKS = {
    "memory": ("Does it fit the memory and the storage?", ("memory", "storage")),
    "compute": ("Do its operations fit the rate that is asked?", ("throughput",)),
    "speed": ("Is it quick enough?", ("latency",)),
    "accuracy": ("Is it accurate enough?", ("accuracy",)),
    "deployment": ("Does the device support it, within its power?", ("power", "energy", "energy_per_day")),
}
# Turns of the loop before it gives up: cycles are seen before.
MOST = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One question of the flowchart.

    Args:
        answer: yes, no, or cannot tell.
        numbers: what was compared, in SI units.
        action: what follows from it.
    """

    step: str
    question: str
    answer: str
    action: str
    candidate: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """As plain data."""
        return {"step": self.step, "question": self.question, "answer": self.answer, "numbers": self.numbers,
                "action": self.action, "candidate": self.candidate}  # fmt: skip


def capability(trial: Trial) -> float:
    """What orders a family's members: published accuracy, or parameters far below any of those."""
    known = trial.value("accuracy")
    return known if known is not None else -1 / max(trial.value("parameters") or 1.0, 1.0)


def bits(trial: Trial) -> int:
    """Width of its weights."""
    return BITS[Precision.of(trial.precision).weights]


def walk(trials: list[Trial], start: Trial, brief: Brief, data: Data) -> tuple[Trial | None, list[Step]]:
    """The flowchart from a first member until one stands, or nothing is left to try."""
    steps: list[Step] = []
    at, seen = start, set()
    for _ in range(MOST):
        seen.add(at.label)
        failed = None
        for name in CHECKS:
            step, answer = check(name, at, brief)
            if answer == "no":
                failed = name
                following, words = _after(name, at, trials, seen, brief)
                steps.append(_acting(step, words))
                if following is None:
                    return None, steps
                at = following
                break
            steps.append(step)
        if failed is None:
            return at, steps
    return None, steps


def _acting(step: Step, words: str) -> Step:
    from dataclasses import replace

    return replace(step, action=words)


def check(name: str, trial: Trial, brief: Brief) -> tuple[Step, str]:
    """One question about one trial."""
    question, limits = CHECKS[name]
    numbers: dict[str, Any] = {}
    answers = []
    for limit in limits:
        verdict = trial.verdicts.get(limit)
        if verdict is None:
            continue
        figure = verdict.figure
        numbers[limit] = {
            "value": figure.value,
            "low": figure.low,
            "high": figure.high,
            "limit": verdict.limit,
            "margin": verdict.margin,
            "verdict": verdict.verdict,
            "known": figure.level,
        }
        answers.append(verdict.verdict)
    action = "go on"
    if name == "compute":
        numbers |= _busy(trial, brief)
        if numbers.get("busy") is not None and numbers["busy"] > 1:
            answers.append(BROKEN)
    if name == "deployment":
        if trial.precision == "int8" and not trial.plain:
            action = "go on; gates or activations beyond clamps want int8 kernels that not every runtime has"
        if trial.devices > 1:
            numbers["devices"] = trial.devices
            if brief.use.connectivity == "none":
                answers.append(BROKEN)
    if BROKEN in answers:
        answer = "no"
    elif all(a == HOLDS for a in answers):
        answer = "yes"
    else:
        answer, action = "cannot tell", "go on, as a risk: " + _missing(trial, limits)
    if not answers and not numbers:
        action = "no limit is set, go on"
    return Step(step=name, question=question, answer=answer, action=action, candidate=trial.label,
                numbers=numbers), answer  # fmt: skip


def _busy(trial: Trial, brief: Brief) -> dict[str, Any]:
    macs, seconds, rate = trial.value("macs"), trial.value("latency"), brief.rate_per_s
    found: dict[str, Any] = {"macs": macs}
    if rate is not None and seconds is not None:
        found |= {"rate_per_s": rate, "busy": rate * seconds}
    return found


def _missing(trial: Trial, limits: tuple[str, ...]) -> str:
    for limit in limits:
        verdict = trial.verdicts.get(limit)
        if verdict is not None and verdict.verdict not in (HOLDS, BROKEN):
            if verdict.figure.value is None:
                return (
                    f"{limit}: {verdict.figure.evidence[0].where if verdict.figure.evidence else 'unknown'}"
                )
            return f"the limit on {limit} lies inside the band: measure it"
    return "not known"


def _after(
    name: str, at: Trial, trials: list[Trial], seen: set[str], brief: Brief
) -> tuple[Trial | None, str]:
    """What a "no" leads to: a narrower type, a smaller member, or a larger one where accuracy lacks."""
    left = [t for t in trials if t.label not in seen]
    failing = [n for n in at.broken if n in CHECKS[name][1]]
    if name == "accuracy":
        wanted = at.verdicts["accuracy"].limit
        better = [t for t in left if (t.value("accuracy") or 0.0) >= wanted
                  and capability(t) > capability(at)]  # fmt: skip
        if not better:
            return None, "reconsider the family: no member is published to be accurate enough"
        chosen = min(better, key=lambda t: (len(t.broken), cost(t, brief)))
        return chosen, f"add capacity: {chosen.label}; back to memory"
    narrower = [t for t in left if t.member == at.member and bits(t) < bits(at)]
    if narrower and failing:
        chosen = max(narrower, key=bits)
        return chosen, f"compress: {chosen.precision}; back to memory"
    passing = [t for t in left if not _fails(t, name, brief)]
    if not passing:
        return None, f"reconsider the family: no member passes {name}{_nearest(failing, trials)}"
    chosen = max(passing, key=lambda t: (capability(t), bits(t)))
    return chosen, f"scale down: {chosen.label}; back to memory"


def _fails(trial: Trial, name: str, brief: Brief) -> bool:
    """Whether it fails a check or one before it; accuracy is asked later."""
    for each in CHECKS:
        if each != "accuracy" and check(each, trial, brief)[1] == "no":
            return True
        if each == name:
            return False
    return False


def _nearest(limits: list[str], trials: list[Trial]) -> str:
    """The best that any member does on a broken limit, in words."""
    for limit in limits:
        known = [t for t in trials if t.verdicts.get(limit) and t.value(limit) is not None]
        if known:
            least = limit in ("throughput", "accuracy")
            best = (max if least else min)(known, key=lambda t: t.value(limit) or 0.0)
            verdict = best.verdicts[limit]
            return f"; the nearest has {limit} {fmt(best.value(limit), verdict.figure.unit)}"
    return ""
