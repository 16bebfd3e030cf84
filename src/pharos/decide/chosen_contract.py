"""The contract of a decision: model, workload, machine and limits as `pharos check` reads them."""

from io import StringIO
from math import ceil
from typing import Any

from pharos.decide.brief import Brief
from pharos.decide.contract import Contract
from pharos.decide.search import Trial
from pharos.models.registry import parse_name

# Limits of a brief that mean the same in a contract.
SAME = ("latency", "throughput", "memory", "storage", "energy")


def contract_of(chosen: Trial, brief: Brief) -> dict[str, Any]:
    """The fields of a contract, SI units; of tables over several devices, one device's share.

    Accuracy is no limit of a contract: it is not predicted from a graph.
    """
    limits: dict[str, Any] = {n: v for n in SAME if (v := getattr(brief.limits, n)) is not None}
    if chosen.exchange is not None and "latency" in limits:
        # a check predicts one device alone: it may take what the exchange leaves
        limits["latency"] = max(0.0, limits["latency"] - float(chosen.exchange.high or 0))
    rate, watts, joules = brief.rate_per_s, brief.limits.power, brief.limits.energy_per_day
    if rate is None and watts is not None:
        limits["power"] = watts
    elif rate is not None and (watts is not None or joules is not None):
        # an average over the day is a contract's energy a day under its duty cycle
        limits["energy_per_day"] = min(86400 * (watts or float("inf")), joules or float("inf"))
    if not limits:
        capacity = chosen.machine.capacity_bytes.value
        if capacity is not None:
            limits["memory"] = capacity
        else:
            limits["latency"] = chosen.figures["latency"].high
    machine: Any = dict(brief.machine) if isinstance(brief.machine, dict) else chosen.machine.id
    if brief.assumed.idle_power is not None:
        machine = machine if isinstance(machine, dict) else {"name": machine}
        machine["power.idle_W"] = _plain(brief.assumed.idle_power)
    work: dict[str, Any] = {"batch": brief.use.batch, "precision": chosen.precision, **chosen.member.work}
    found: dict[str, Any] = {
        "name": brief.name,
        "model": _share(chosen),
        "machine": machine,
        "workload": work,
    }
    if brief.assumed.system_memory is not None:
        found["assumed"] = {"system_memory": brief.assumed.system_memory}
    if "energy_per_day" in limits and rate is not None:
        found["duty"] = {"per_day": _plain(round(rate * 86400 / brief.use.batch, 6))}
    found["limits"] = {k: _plain(v) for k, v in limits.items()}
    Contract.model_validate(found)
    return found


def _plain(value: float) -> float | int:
    return int(value) if float(value).is_integer() else float(f"{value:.12g}")


def _share(chosen: Trial) -> str:
    if chosen.devices == 1:
        return chosen.member.model
    name, given = parse_name(chosen.member.model)
    given["rows"] = tuple(max(1, ceil(r / chosen.devices)) for r in given["rows"])
    inner = ", ".join(f"{k}={v!r}" for k, v in given.items())
    return f"{name}({inner})"


def contract_text(chosen: Trial, brief: Brief, path: str = "") -> str:
    """The contract as YAML, with a line that says what it came from."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 200
    out = StringIO()
    share = ""
    if chosen.devices > 1:
        share = f"; one of {chosen.devices} devices, what they exchange taken off the latency"
    out.write(f"# Chosen by pharos choose{' from ' + path if path else ''}{share}. SI units.\n")
    found = contract_of(chosen, brief)
    for part in ("machine", "limits", "assumed", "workload"):
        if isinstance(found.get(part), dict):
            found[part] = {k: (float(v) if isinstance(v, float) else v) for k, v in found[part].items()}
    yaml.dump(found, out)
    return out.getvalue()
