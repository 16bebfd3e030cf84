"""Where a figure comes from: the rule as it stands in the source, what it was given, and the convention."""

import ast
import inspect
from dataclasses import dataclass
from textwrap import dedent
from typing import Any

from rich.console import Console
from rich.text import Text

from pharos.graph.count import Count, Line
from pharos.graph.serial import op_to_fields
from pharos.graph.tensor import shape_text
from pharos.machines.machine import Machine
from pharos.predict.estimate import Estimate, Operation
from pharos.predict.kernel import compute_dtype, rate_of
from pharos.quantity.errors import unknown
from pharos.quantity.evidence import merge
from pharos.quantity.units import fmt
from pharos.report.rows import evidence_row, plain
from pharos.report.text import pair

# Figure -> the rule of the operator that gives it, and the convention it is told in.
RULES = {
    "shape": ("shape", "sizes of the output, from those of the inputs"),
    "macs": ("work", "1 MAC = 2 FLOPs; elementwise and transcendental operations are told apart"),
    "parameters": ("weights", "elements of its weights; buffers are none"),
    "traffic": ("traffic", "bytes = elements x bytes of their type; each tensor once"),
}
TOTALS = {
    "macs": "sum over operators of runs x MACs of one run; FLOPs are twice as many",
    "parameters": "sum over operators of their weights, shared ones once",
    "traffic_per_op": "sum over operators of runs x bytes of one run",
}
TERMS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of an operator: where it stands, as it stands there, and what it gave.

    Args:
        place: file and line below the package's folder; formula: its source without the docstring.
    """

    figure: str
    place: str
    formula: str
    gave: dict[str, Any]
    convention: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """An operator of a graph with the rules that its figures come from."""

    line: Line
    rules: tuple[Rule, ...]
    operation: Operation | None = None


def find_line(counted: Count, name: str) -> Line:
    """A line by its full name or by an end of it that no other has.

    Raises:
        UnknownName: none or several, with the nearest.
    """
    lines = {line.name: line for line in counted.lines}
    if name in lines:
        return lines[name]
    ends = [n for n in lines if n.endswith(f".{name}")]
    if len(ends) == 1:
        return lines[ends[0]]
    raise unknown("operator" if not ends else f"operator ({len(ends)} end so)", name, ends or lines)


def explain(counted: Count, name: str, estimate: Estimate | None = None) -> Explained:
    """The rules behind an operator's figures; with an estimate, the kernel that it runs in.

    Raises:
        UnknownName: no such operator.
    """
    line = find_line(counted, name)
    node = line.node
    gave = {
        "shape": {"output": shape_text(node.io[-1].shape)},
        "macs": {"macs": line.work.macs, "flops": line.work.flops, "vector_flops": line.work.vector_flops,
                 "transcendentals": line.work.transcendentals},
        "parameters": {"parameters": line.parameters},
        "traffic": {part: getattr(line.traffic, part)
                    for part in ("weights", "inputs", "outputs", "state", "workspace")},
    }  # fmt: skip
    found = [
        Rule(figure=figure, place=place, formula=formula, gave=gave[figure], convention=convention)
        for figure, (method, convention) in RULES.items()
        for place, formula in written(type(node.op), method)
    ]
    ran = None
    if estimate is not None:
        ran = next((o for o in estimate.operations if any(n.name == line.name for n in o.kernel.lines)), None)
    return Explained(line=line, rules=tuple(found), operation=ran)


def written(kind: type, method: str) -> list[tuple[str, str]]:
    """A rule of an operator, and after it those of its bases that it calls.

    Returns:
        of each, file:line and Class.method, and its source without the docstring.
    """
    found: list[tuple[str, str]] = []
    for owner in kind.__mro__:
        called = any(f"{owner.__name__}.{method}(" in text for _, text in found)
        if method in vars(owner) and (not found or called):
            found.append(_written(owner, method))
    return found


def _written(owner: type, method: str) -> tuple[str, str]:
    name = f"{owner.__name__}.{method}"
    try:
        lines, first = inspect.getsourcelines(vars(owner)[method])
    except (OSError, TypeError):
        return f"{owner.__module__} {name}", ""
    text = dedent("".join(lines))
    made = ast.parse(text).body[0]
    assert isinstance(made, ast.FunctionDef)
    body = made.body[1:] if ast.get_docstring(made) is not None else made.body
    inner = dedent("\n".join(text.splitlines()[body[0].lineno - 1 :])) if body else ""
    return f"{owner.__module__.replace('.', '/')}.py:{first} {name}", inner


def timed(found: Explained, machine: Machine, estimate: Estimate) -> dict[str, Any]:
    """How the seconds of its kernel come about: peaks with their sources, and what was reached of them."""
    ran = found.operation
    if ran is None or ran.time is None:
        return {}
    kernel, time = ran.kernel, ran.time
    rate = rate_of(machine, compute_dtype(estimate.workload.precision))
    bandwidth = machine.bandwidth_bytes_per_s
    least = {
        "compute": (2 * kernel.work.macs / rate.ops_per_s) if rate.ops_per_s else None,
        "data": (time.traffic_bytes / bandwidth.value) if bandwidth.value else None,
    }
    taken = {"compute": time.compute_s, "data": time.data_s}
    return {
        "kernel": [line.name for line in kernel.lines],
        "runs": plain(kernel.times),
        "peak": {"ops_per_s": rate.ops_per_s, "dtype": rate.dtype, "evidence": evidence_row(rate.evidence)},
        "bandwidth": {"bytes_per_s": bandwidth.value, "evidence": evidence_row(bandwidth.evidence)},
        "traffic_bytes": plain(time.traffic_bytes),
        "least_s": {k: plain(v) for k, v in least.items()},
        "alone_s": {k: plain(v) for k, v in taken.items()},
        "reached": {k: plain(v / taken[k]) if v and taken[k] else None for k, v in least.items()},
        "overhead_s": plain(time.overhead_s),
        "serial_s": plain(time.serial_s),
        "latency_s": plain(time.latency_s),
        "evidence": [evidence_row(e) for e in merge(time.evidence)],
    }


def explained_row(
    found: Explained, machine: Machine | None = None, estimate: Estimate | None = None
) -> dict[str, Any]:
    """Plain data; schema pharos/explain@1."""
    line = found.line
    inputs = [(shape_text(t.shape), t.dtype) for t in line.node.io[:-1]]
    return {
        "schema": "pharos/explain@1", "operator": line.name, "kind": line.kind, "runs": plain(line.times),
        "fields": {k: plain(v) if not isinstance(v, tuple) else list(v)
                   for k, v in op_to_fields(line.node.op).items()},
        "inputs": [{"shape": shape, "dtype": kind} for shape, kind in inputs],
        "weights": [{"name": n, "shape": shape_text(t.shape), "dtype": t.dtype}
                    for n, t in line.node.weights.items()],
        "rules": [{"figure": r.figure, "rule": r.place, "formula": r.formula, "convention": r.convention,
                   "gave": {k: plain(v) for k, v in r.gave.items()}} for r in found.rules],
        "time": timed(found, machine, estimate) if machine is not None and estimate is not None else {},
    }  # fmt: skip


def totals_row(counted: Count) -> dict[str, Any]:
    """The totals of a graph as sums, with their largest terms."""
    terms = {
        "macs": [(line.name, line.times * line.work.macs) for line in counted.lines],
        "parameters": [(line.name, line.parameters) for line in counted.lines],
        "traffic_per_op": [(line.name, line.times * line.traffic.total) for line in counted.lines],
    }
    wholes = {"macs": counted.macs, "parameters": counted.parameters,
              "traffic_per_op": counted.traffic_per_op}  # fmt: skip
    found = {}
    for name, convention in TOTALS.items():
        ranked = sorted(terms[name], key=lambda t: -t[1])
        found[name] = {
            "value": plain(wholes[name]), "formula": convention, "operators": len(ranked),
            "largest": [{"operator": n, "value": plain(v)} for n, v in ranked[:TERMS]],
        }  # fmt: skip
    return {"schema": "pharos/explain@1", "totals": found}


def print_totals(console: Console, title: str, row: dict[str, Any]) -> None:
    """Each total with its formula and largest terms."""
    console.print(Text(title, style="bold"))
    for name, total in row["totals"].items():
        pair(console, name.replace("_", " "), f"{total['value']:,}", 15)
        pair(console, "", total["formula"], 15)
        largest = " + ".join(f"{t['value']:,} {t['operator']}" for t in total["largest"] if t["value"])
        more = total["operators"] - len(total["largest"])
        pair(console, "", f"= {largest}{f' + {more} more' if more > 0 else ''}", 15)
    console.print(Text("one of them in full: pharos explain MODEL OPERATOR", style="dim"))


def print_explained(console: Console, row: dict[str, Any]) -> None:
    """What the operator was given, then each figure with its rule."""
    console.print(Text(f"{row['operator']}  {row['kind']}", style="bold"))
    pair(console, "given", ", ".join(f"{k} {v}" for k, v in row["fields"].items()) or "no hyperparameters")
    pair(console, "inputs", ", ".join(f"{i['shape']} {i['dtype']}" for i in row["inputs"]))
    if row["weights"]:
        pair(console, "weights", ", ".join(f"{w['name']} {w['shape']} {w['dtype']}" for w in row["weights"]))
    pair(console, "runs", f"{row['runs']:,}; what follows is of one run")
    told = ""
    for rule in row["rules"]:
        if rule["figure"] != told:
            told = rule["figure"]
            console.print()
            gave = ", ".join(f"{k.replace('_', ' ')} {_word(v)}" for k, v in rule["gave"].items() if v != 0)
            pair(console, told, gave or "none")
            pair(console, "convention", rule["convention"])
        pair(console, "rule", rule["rule"])
        for text in rule["formula"].splitlines():
            console.print(Text(f"                {text}", style="dim"), soft_wrap=True)
    if row["time"]:
        _print_time(console, row["time"])


def _print_time(console: Console, time: dict[str, Any]) -> None:
    console.print()
    pair(console, "time", f"{_s(time['latency_s'])} a run, {time['runs']:,} times, in one kernel: "
         f"{', '.join(time['kernel'])}")  # fmt: skip
    peak, bandwidth, reached, least = time["peak"], time["bandwidth"], time["reached"], time["least_s"]
    share = {k: "" if v is None else f": {v:.3g} of it reached" for k, v in reached.items()}
    pair(console, "compute", f"{_s(time['alone_s']['compute'])}; 2 x MACs / {fmt(peak['ops_per_s'], 'OP/s')} "
         f"({peak['dtype']}) = {_s(least['compute'])}{share['compute']}")  # fmt: skip
    pair(console, "data", f"{_s(time['alone_s']['data'])}; {fmt(time['traffic_bytes'], 'B')} / "
         f"{fmt(bandwidth['bytes_per_s'], 'B/s')} = {_s(least['data'])}{share['data']}")  # fmt: skip
    pair(console, "overhead", f"{_s(time['overhead_s'])} of launch and of what is not filled; serial "
         f"{_s(time['serial_s'])}")  # fmt: skip
    for one in time["evidence"]:
        error = f", {one['error']:.0%} error" if "error" in one else ""
        pair(console, "known by", f"{one['kind']}: {one['where']}{error}")


def _s(seconds: float | None) -> str:
    return fmt(seconds, "s")


def _word(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
