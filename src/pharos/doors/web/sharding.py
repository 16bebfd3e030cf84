"""Shard: embedding tables laid over devices: a map, bytes that move, balance, nearness to the best."""

from dataclasses import replace
from functools import cache
from typing import Any

from pharos.doors.web import drawn
from pharos.doors.web.bounds import MOST_DEVICES, MOST_TABLES, SOLVER_S
from pharos.doors.web.chosen import chosen, machine, machine_groups
from pharos.doors.web.controls import Control, menu, number
from pharos.doors.web.faces import figure_face
from pharos.doors.web.question import Question, Refused
from pharos.plan import sharding
from pharos.plan.shard_layouts import COLUMN, REPLICATED, ROW, TABLE, TABLE_ROW, Job
from pharos.plan.sharding import ShardingPlan
from pharos.plan.tables import OPTIMIZERS, Table, written
from pharos.plan.topology import topology_of
from pharos.quantity.errors import InputError, PharosError
from pharos.quantity.units import fmt, fmt_count
from pharos.report.sharding import devices_text, hit_rate

MODEL, MACHINE, DEVICES, BATCH = "dlrm", "nvidia_a100_sxm_80gb", 8, 65536
COLOURS = {TABLE: "p0", COLUMN: "p4", ROW: "p1", TABLE_ROW: "p2", REPLICATED: "p3"}
# Devices that a table of them shows, and samples of a step at most.
SHOWN, MOST_SAMPLES = 64, 2**24
OWN = "own"


def whole(question: Question, uploads: dict[str, Any]) -> dict[str, Any]:
    """The form, and a place that asks for the answer by itself: the solver takes its seconds."""
    value = question.raw("model") or MODEL
    options = [(n, n) for n in recommenders()] + [(OWN, "tables of one's own, below")]
    fields = [
        menu("model", "Tables of", value, options, whole=True),
        number("devices", "Devices", question.raw("devices") or DEVICES, (1, 2, 4, 8, 16, 32, 64, 128)),
        number(
            "batch", "Samples a step, over all", question.raw("batch") or BATCH, [2**i for i in range(8, 19)]
        ),
    ]
    more = [
        menu(
            "work",
            "Step",
            question.raw("work") or "training",
            (("training", "training"), ("forward", "forward alone")),
        ),
        menu(
            "optimizer",
            "Optimiser of tables",
            question.raw("optimizer") or "rowwise_adagrad",
            [(o, o.replace("_", " ")) for o in OPTIMIZERS],
        ),
        menu(
            "precision",
            "Tables in",
            question.raw("precision"),
            (("", "as they are"), ("fp32", "fp32"), ("fp16", "fp16"), ("bf16", "bf16"), ("int8", "int8")),
        ),
        number(
            "zipf",
            "Skew of lookups, Zipf exponent",
            question.raw("zipf") or "0",
            (0, 0.25, 0.5, 0.75, 0.9, 1, 1.1, 1.25, 1.5),
        ),
        Control(
            name="host",
            label="Memory of the hosts, a device's share",
            value=question.raw("host"),
            placeholder="256 GB",
        ),
    ]
    return {
        "fields": fields,
        "more": more,
        "on": question.raw("on") or MACHINE,
        "machine_groups": machine_groups(),
        "own": value == OWN,
        "tables": question.raw("tables"),
        "answer_address": question.address("/shard/result"),
        "more_open": any(question.has(n) for n in ("host", "zipf", "precision")),
        "most": MOST_TABLES,
    }


@cache
def recommenders() -> tuple[str, ...]:
    """Models of the catalogue that have embedding tables to lay out."""
    import re

    from pharos.facts.names import folder
    from pharos.facts.reading import read_text

    files = [n for n, (path, _) in folder("models").items() if re.search(r"^dlrm:", read_text(path), re.M)]
    return ("dlrm", *sorted(n for n in files if n != "dlrm"))


def tables_of(question: Question) -> list[Table]:
    """Tables as they were written, one a line, `3 x 1e6x128:10` for three alike.

    Raises:
        Refused: a line that is no table, or more of them than the page takes.
    """
    found: list[Table] = []
    for text in question.raw("tables").splitlines():
        line = text.strip()
        if not line:
            continue
        many, star, rest = line.partition(" x ")
        count = int(many) if star and many.isdigit() and len(many) < 4 else 1
        try:
            for _ in range(count):
                found.append(written(rest.strip() if star else line, len(found), "Tables"))
                if len(found) > MOST_TABLES:
                    raise InputError(f"are more than the {MOST_TABLES} that this page takes", where="Tables")
        except PharosError as error:
            raise Refused(error, "tables") from None
        except (ValueError, OverflowError):
            raise Refused(
                InputError(f"{line[:60]!r} is no table", where="Tables", hint="1e6x128:10"), "tables"
            ) from None
    if not found:
        raise Refused(
            InputError("name at least one", where="Tables", hint="one a line, such as 1e6x128:10"), "tables"
        )
    return found


def planned(question: Question) -> ShardingPlan:
    """The plan.

    Raises:
        Refused: a mistake in the question.
    """
    on = machine(question.raw("on") or MACHINE)
    count = question.whole("devices", DEVICES, 1, min(MOST_DEVICES, 256)) or DEVICES
    samples = question.whole("batch", BATCH, 1, MOST_SAMPLES) or BATCH
    training = question.choice("work", ("training", "forward"), "training") == "training"
    optimizer = question.choice("optimizer", OPTIMIZERS, "rowwise_adagrad")
    kind = question.choice("precision", ("", "fp32", "fp16", "bf16", "int8"), "")
    zipf, host = question.quantity("zipf", "1"), question.quantity("host", "B")
    if zipf is not None and zipf > 5:
        raise Refused(InputError(f"must lie between 0 and 5, not {zipf:g}", where="Skew of lookups"), "zipf")
    given: dict[str, Any] = {"training": training, "optimizer": optimizer, "host_bytes": round(host or 0)}
    try:
        if question.raw("model") == OWN:
            job = Job(tables=tuple(tables_of(question)), batch=samples, **given)
        else:
            job = sharding.job_of(chosen(question, {}, MODEL).model, samples, **given)
        if len(job.tables) > MOST_TABLES:
            raise InputError(f"has {len(job.tables)} tables; this page takes {MOST_TABLES}", where="Tables")
        tables = job.tables
        if zipf:
            from pharos.plan.skew import Skew

            tables = tuple(replace(t, skew=Skew(zipf)) for t in tables)
        if kind:
            tables = tuple(replace(t, dtype=kind) for t in tables)
        return sharding.shard(
            replace(job, tables=tables), on, topology_of(on, count, None, None, None), "auto", SOLVER_S
        )
    except PharosError as error:
        told = str(error)
        field = "devices" if "device" in told or "node" in told else "on" if "memory of" in told else "model"
        raise Refused(error, field) from None


def result(question: Question, uploads: dict[str, Any]) -> dict[str, Any]:
    """The answer.

    Raises:
        Refused: a mistake in the question.
    """
    del uploads  # tables come from the catalogue or the form
    plan = planned(question)
    job, topology = plan.job, plan.topology
    whole = sum(t.nbytes for t in job.tables)
    where = f"{topology.devices} x {plan.machine.name}" + (
        f" in {topology.nodes} nodes" if topology.nodes > 1 else ""
    )
    said = {"what": f"{len(job.tables)} tables, {fmt(whole, 'B')}", "where": where, "plan": plan, "fmt": fmt}
    if plan.solution is None:
        return {
            **said,
            "verdict": "broken",
            "headline": f"{len(job.tables)} tables do not fit",
            "detail": plan.why,
        }
    ours, held = plan.balance(plan.solution.placement), plan.device_bytes
    detail = f"{fmt(max(held), 'B')} on the fullest device of {fmt(plan.capacity, 'B')}"
    if plan.step.value:
        detail += f"; lookups and what is sent take {fmt(plan.step.value, 's')} a step"
    strategies = sorted({p.layout.strategy for p in plan.placed})
    rows = _map(plan)
    says = f"{len(job.tables)} tables over {topology.devices} devices; "
    says += f"the fullest holds {max(held) / plan.capacity:.0%}"
    return {
        **said,
        "verdict": "holds",
        "headline": f"{len(job.tables)} tables fit on {where}",
        "detail": detail + ".",
        "figures": [
            figure_face("Step", plan.step),
            {
                "name": "Busiest device",
                "value": fmt(ours.seconds, "s"),
                "band": f"{ours.time_imbalance:.3f} x the mean",
                "level": plan.step.level,
            },
            {
                "name": "All-to-all",
                "value": fmt(plan.moved("all-to-all"), "B"),
                "band": "a step, over all links",
                "level": "counted",
            },
            {
                "name": "Above the best",
                "value": f"{plan.solution.gap:.2%}",
                "band": f"at most; {plan.solution.how}"
                + (", stopped by the clock" if plan.solution.timed_out else ""),
                "level": "counted",
            },
        ],
        "maps": [
            drawn.devices(rows, plan.capacity, f, n, says)
            for f, n in ((drawn.WIDE, "map"), (drawn.NARROW, "mapn"))
        ],
        "key": [("p7", "on every device", fmt(sum(plan.common.values()), "B"), "")]
        + [
            (COLOURS[s], s, str(sum(p.layout.strategy == s for p in plan.placed)), "tables")
            for s in strategies
        ],
        "tables": [
            {
                "name": p.table.name,
                "rows": fmt_count(p.table.rows).replace(" ", ""),
                "dim": p.table.dim,
                "pooling": f"{p.table.pooling:g}",
                "bytes": fmt(p.table.nbytes, "B"),
                "laid": str(p.layout),
                "kind": COLOURS[p.layout.strategy],
                "hits": "" if (r := hit_rate(p)) is None else f"{r:.0%} hits",
                "devices": devices_text(p.devices),
            }
            for p in plan.placed
        ],
        "flows": [
            {
                "name": f.name,
                "by": f.collective,
                "total": fmt(f.total, "B"),
                "port": fmt(max(f.busiest("inside"), f.busiest("across")), "B"),
                "time": fmt(plan.flow_s(f)[0], "s"),
            }
            for f in plan.flows
        ],
        "theirs": plan.balance(plan.baseline) if plan.baseline else None,
        "evidence": [str(e) for e in plan.step.evidence[:8]],
    }


def _map(plan: ShardingPlan) -> list[list[drawn.Part]]:
    """What lies on each device: what all hold, then its tables by strategy."""
    base = drawn.Part("on every device", float(sum(plan.common.values())), "p7")
    rows: list[list[drawn.Part]] = [[base] for _ in range(plan.topology.devices)]
    assert plan.solution is not None
    for placed, options, (which, devices) in zip(
        plan.placed, plan.problem.options, plan.solution.placement, strict=True
    ):
        for d in devices:
            rows[d].append(
                drawn.Part(
                    f"{placed.table.name}, {placed.layout}",
                    float(options[which].hbm),
                    COLOURS[placed.layout.strategy],
                )
            )
    return [sorted(row, key=lambda p: (p.kind != "p7", p.kind, -p.value)) for row in rows]
