"""What attention costs a choice: scores of all pairs, and a cache that grows with a stream."""

from pharos.decide.brief import Brief
from pharos.decide.data.facts import Data
from pharos.decide.flow import Step, bits
from pharos.decide.search import Trial, evaluate, wanted
from pharos.decide.spaces import Member
from pharos.graph.count import Count, count
from pharos.graph.workload import Workload
from pharos.machines.machine import Machine
from pharos.models.registry import find
from pharos.ops.attention import Attention
from pharos.quantity.dtypes import Precision, nbytes
from pharos.quantity.units import fmt


def _counted(trial: Trial, brief: Brief) -> Count:
    precision = Precision.of(trial.precision)
    work = Workload(batch=brief.use.batch, precision=precision, **trial.member.work)
    return count(find(trial.member.model).graph(work))


def scores_step(best: Trial, machine: Machine, brief: Brief) -> list[Step]:
    """Of a network that attends: what one layer's scores, batch x heads x queries x keys, would take."""
    held = []
    for line in _counted(best, brief).lines:
        op, ins = line.node.op, line.node.ins
        if isinstance(op, Attention):
            batch, heads, queries = ins[0].shape[:3]
            pairs = batch * heads * queries * (op.cached + ins[1].shape[2])
            held.append(nbytes(pairs, ins[0].dtype))
    if not held:
        return []
    most = max(held)
    room = min(x for x in (brief.limits.memory, machine.capacity_bytes.value, float("inf")) if x)
    free = room - (best.value("memory") or 0.0)
    fits = most <= free
    known = free < float("inf")
    words = f"{fmt(most, 'B')} a layer" + (f" beside {fmt(free, 'B')} that are free" if known else "")
    told = "attention is taken to be tiled, which stores none of them" + ("" if fits else "; it must be")
    return [
        Step(step="attention", question="Would the scores of all pairs fit, were they stored?",
             answer="yes" if fits else "no", candidate=best.label, action=f"{words}: {told}",
             numbers={"scores_bytes": most, "free_bytes": free if known else None})
    ]  # fmt: skip


def grows(family: str, space: list[Member], machine: Machine, brief: Brief, data: Data) -> str:
    """Of a stream and a family whose cache grows: when the memory is full, for the member that suits best."""
    if not data.unbounded or not space or not data.rate_hz:
        return ""
    trials, _ = evaluate(space, machine, brief, data)
    if not trials:
        return ""
    trial = max(trials, key=lambda t: (wanted(t, brief, data), -bits(t)))
    state = _counted(trial, brief).state_bytes
    steps = trial.member.work.get("context", 1)
    room = brief.limits.memory or machine.capacity_bytes.value
    if state < 1e6 or room is None or trial.member.work.get("phase") != "decode" or family in ("rnn", "ssm"):
        return ""
    each = state / steps
    hours = (room - (trial.value("storage") or 0.0)) / (each * data.rate_hz) / 3600
    return (f"; its cache grows by {fmt(each * data.rate_hz, 'B')} a second ({trial.label}): "
            f"{fmt(room, 'B')} are full after {hours:.3g} hours")  # fmt: skip
