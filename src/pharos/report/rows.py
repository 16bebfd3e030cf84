"""Rows: the one place that turns a result into named columns; JSON keys and table columns are these."""

from itertools import zip_longest
from typing import Any

from pharos.graph.count import Count, Line
from pharos.machines.machine import Known, Machine
from pharos.passes.depth import depth as critical_path
from pharos.passes.memory import Arena
from pharos.predict.duty import Day
from pharos.predict.energy import Energy
from pharos.predict.estimate import Estimate, Operation
from pharos.predict.kernel import compute_dtype
from pharos.predict.memory import sram_and_flash
from pharos.predict.runtimes import RELIEF, RUNTIMES
from pharos.quantity.evidence import Evidence, Figure, counted
from pharos.quantity.sizes import Size, is_array, is_int, is_symbol


def plain(value: Any) -> Any:
    """A value as JSON holds it: numbers, lists for arrays, text for formulas."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if is_array(value):
        return value.tolist()
    if is_symbol(value):
        return str(value)
    if hasattr(value, "item"):
        return value.item()
    return str(value)


def evidence_row(evidence: Evidence) -> dict[str, Any]:
    """Kind, source and error."""
    row: dict[str, Any] = {"kind": evidence.kind.value, "where": evidence.where}
    if evidence.error is not None:
        row["error"] = round(evidence.error, 4)
    return row


def figure_row(figure: Figure) -> dict[str, Any]:
    """Value with its band and how it is known."""
    return {
        "value": plain(figure.value),
        "low": plain(figure.low),
        "high": plain(figure.high),
        "level": figure.level,
    }


def operator_row(line: Line) -> dict[str, Any]:
    """One operator over all its runs; traffic per operator, intensity with the same bound."""
    node, times = line.node, line.times
    moved = line.traffic.total * times
    has_traffic = not (is_int(moved) and moved == 0)
    return {
        "name": line.name,
        "kind": line.kind,
        "count": plain(times),
        "macs": plain(line.work.macs * times),
        "flops": plain(line.work.flops * times),
        "vector_flops": plain(line.work.vector_flops * times),
        "transcendentals": plain(line.work.transcendentals * times),
        "masked_macs": plain(line.work.masked_macs * times),
        "parameters": plain(line.parameters),
        "input_shape": [plain(s) for s in node.ins[0].shape] if node.ins else [],
        "output_shape": [plain(s) for s in node.outs[0].shape] if node.outs else [],
        "traffic_bytes": plain(moved),
        "intensity": plain(line.work.flops * times / moved) if has_traffic else None,
        "counted": node.op.is_counted,
    }


def totals_row(count: Count) -> dict[str, Any]:
    """Totals of a graph."""
    deep = critical_path(count.graph)
    return {
        "parameters": plain(count.parameters),
        "active_parameters": plain(count.active_parameters),
        "buffers": plain(count.buffers),
        "macs": plain(count.macs),
        "flops": plain(count.flops),
        "vector_flops": plain(count.work.vector_flops),
        "transcendentals": plain(count.work.transcendentals),
        "masked_macs": plain(count.work.masked_macs),
        "weight_bytes": plain(count.weight_bytes),
        "state_bytes": plain(count.state_bytes),
        "traffic_bytes": {
            "ideal": plain(count.traffic_ideal),
            "per_op": plain(count.traffic_per_op),
            "weights": plain(count.traffic.weights),
        },
        "intensity": {bound: plain(count.intensity(bound)) for bound in ("weights_only", "ideal", "per_op")},
        "depth": {
            "steps": plain(deep.steps),
            "parallelism": plain(deep.parallelism),
            "widest": plain(deep.widest),
        },
    }


def show_row(model: str, family: str, count: Count) -> dict[str, Any]:
    """What `pharos show --json` prints."""
    return {
        "schema": "pharos/show@1",
        "model": model,
        "family": family,
        "precision": str(count.graph.precision),
        "at_least": bool(count.uncounted),
        "totals": totals_row(count),
        "uncounted": list(count.uncounted),
        "notes": list(count.graph.meta.get("notes", ())),
        "operators": [operator_row(line) for line in count.lines],
    }


def workload_row(estimate: Estimate) -> dict[str, Any]:
    """The workload, with the context the model chose when none was given."""
    work = estimate.workload
    return {
        "phase": work.phase,
        "batch": plain(work.batch),
        "context": plain(estimate.count.graph.meta.get("context", work.context)),
        "precision": str(work.precision),
        "runtime": estimate.runtime,
    }


def runtime_row(estimate: Estimate) -> dict[str, Any]:
    """What runs it, what its model takes for granted, and how host and device share the time."""
    runtime = RUNTIMES[estimate.runtime]
    return {
        "name": runtime.name,
        "says": runtime.says,
        "assumes": list(runtime.assumes),
        "host_s": plain(estimate.host_s),
        "device_s": plain(estimate.device_s),
        "idle_s": plain(estimate.idle_s),
        "relief": None
        if estimate.relieved_s is None
        else {"runtime": RELIEF, "latency_s": plain(estimate.relieved_s)},
    }


def memory_row(estimate: Estimate) -> dict[str, Any]:
    """Bytes by use."""
    memory = estimate.memory
    keys = ("weights", "activations_peak", "kv_cache", "state", "workspace", "optimizer", "gradients",
            "rounding", "allocated", "unused", "runtime", "total")  # fmt: skip
    row = {key: plain(getattr(memory, key)) for key in keys}
    if estimate.machine.kind == "mcu":
        sram, flash = sram_and_flash(memory)
        row |= {"flash": plain(flash), "sram": plain(sram)}
    return row | {"peak_at": memory.peak_operator or None,
                  "evidence": [evidence_row(e) for e in memory.evidence]}  # fmt: skip


def parts_of_mcu(estimate: Estimate) -> dict[str, dict[str, Any]]:
    """Of a microcontroller: flash and SRAM, each with what there is of it and how both are known."""
    memory, machine = estimate.memory, estimate.machine
    sram, flash = sram_and_flash(memory)
    what = "arena of activations" + (", kept state" if memory.kv_cache or memory.state else "")
    told = (
        ("flash_bytes", flash, machine.flash_bytes, "parameters and buffers"),
        ("sram_bytes", sram, machine.capacity_bytes, what),
    )
    return {
        key: {
            "value": plain(value), "limit": plain(limit.value), "holds": holds,
            "fits": None if limit.value is None else bool(value <= limit.value),
            "evidence": [evidence_row(e) for e in (counted(holds), limit.evidence, *memory.evidence)],
        }
        for key, value, limit, holds in told
    }  # fmt: skip


def roofline_row(op: Operation, estimate: Estimate) -> dict[str, Any]:
    """Where a kernel lies under each traffic bound: intensity, and which side of the ridge."""
    per_op = _sum([line.traffic.total for line in op.kernel.lines])
    # ideal: intermediates never leave the chip, so a kernel is charged its weights and state
    ends = op.kernel.traffic.weights + op.kernel.traffic.state
    row = {}
    for bound, moved in (("ideal", ends), ("per_op", per_op), ("as_run", op.kernel.traffic.total)):
        intensity, side = estimate.side(op.kernel.work.flops, moved)
        row[bound] = {"traffic_bytes": plain(moved), "intensity": plain(intensity), "side": side}
    return row


def _sum(values: list[Size]) -> Size:
    total: Size = 0
    for value in values:
        total = total + value
    return total


def operation_row(op: Operation, estimate: Estimate, energy: Energy | None = None) -> dict[str, Any]:
    """One kernel of an estimate, over all its runs."""
    times, time = op.kernel.times, op.time
    row = {
        "name": op.kernel.name,
        "kind": op.kernel.lead.kind,
        "fused": [line.name for line in op.kernel.lines[1:]],
        "count": plain(times),
        "macs": plain(op.kernel.work.macs * times),
        "flops": plain(op.kernel.work.flops * times),
        "parameters": plain(_sum([line.parameters for line in op.kernel.lines])),
        "input_shape": [plain(s) for t in op.kernel.lead.node.ins[:1] for s in t.shape],
        "output_shape": [plain(s) for t in op.kernel.lead.node.outs[:1] for s in t.shape],
        "traffic_bytes": plain(op.kernel.traffic.total * times),
        "roofline": roofline_row(op, estimate),
        "latency_s": None,
        "compute_s": None,
        "data_s": None,
        "overhead_s": None,
        "binding": None,
        "level": "unknown",
        "energy_J": energy and {
            "value": plain(energy.total_J), "compute": plain(energy.compute_J), "data": plain(energy.data_J),
            "static": plain(energy.static_J),
        },
    }  # fmt: skip
    if time is not None:
        parts = {
            "compute": time.compute_s, "memory-bandwidth": time.data_s, "overhead": time.overhead_s,
            "sequential-dependency": time.serial_s,
        }  # fmt: skip
        row |= {
            "latency_s": plain(time.latency_s * times),
            "compute_s": plain(time.compute_s * times),
            "data_s": plain(time.data_s * times),
            "overhead_s": plain((time.overhead_s + time.serial_s) * times),
            "level": time.evidence[0].kind.value,
        }
        if not any(is_array(v) for v in parts.values()):
            row["binding"] = max(parts, key=lambda k: parts[k])
    return row


def duty_row(found: Day) -> dict[str, Any]:
    """A day of a duty cycle."""
    return {
        "runs_per_day": plain(found.runs), "busy": plain(found.busy), "keeps_up": plain(found.keeps_up),
        "energy_per_run_J": figure_row(found.run),
        "energy_per_day_J": figure_row(found.energy),
        "idle_per_day_J": plain(found.idle_J), "average_power_W": figure_row(found.power),
        "battery_life_s": found.battery and figure_row(found.battery),
        "evidence": [evidence_row(e) for e in found.energy.evidence],
    }  # fmt: skip


def predict_row(estimate: Estimate, daily: Day | None = None) -> dict[str, Any]:
    """What `pharos predict --json` prints; with the day of a duty cycle where one was asked for."""
    parts = estimate.energy_parts
    causes = {}
    if parts is not None:
        causes = {
            "compute": plain(parts.compute_J),
            "data": plain(parts.data_J),
            "static": plain(parts.static_J),
        }
    row = {
        "schema": "pharos/predict@1",
        "model": estimate.model,
        "machine": estimate.machine.id,
        "workload": workload_row(estimate),
        "latency_s": figure_row(estimate.latency),
        "throughput_per_s": plain(estimate.throughput_per_s),
        "energy_J": figure_row(estimate.energy) | causes,
        "power_W": figure_row(estimate.power_W),
        "clock": plain(estimate.clock),
        "memory_bytes": memory_row(estimate),
        "capacity_bytes": plain(estimate.machine.capacity_bytes.value),
        "fits": plain(estimate.fits),
        "binding": plain(estimate.binding),
        "regime": plain(estimate.regime),
        "shares_s": {k: plain(v) for k, v in estimate.shares.items()},
        "iron_law": {
            "compute_s": plain(estimate.compute_s),
            "data_s": plain(estimate.data_s),
            "overhead_s": plain(estimate.overhead_s),
        },
        "runtime": runtime_row(estimate),
        "ridge_point": plain(estimate.ridge_point),
        "roofline": {
            bound: {"intensity": plain(intensity), "side": side}
            for bound, (intensity, side) in estimate.roofline().items()
        },
        "compute_dtype": compute_dtype(estimate.workload.precision),
        "totals": totals_row(estimate.count),
        "uncounted": list(estimate.count.uncounted),
        "evidence": [evidence_row(e) for e in estimate.evidence],
        "operators": [operation_row(op, estimate, energy)
                      for op, energy in zip_longest(estimate.operations, estimate.energies)],
    }  # fmt: skip
    if estimate.machine.kind == "mcu":
        row |= parts_of_mcu(estimate)
    if daily is not None:
        row["duty"] = duty_row(daily)
    if estimate.arena is not None:
        row["arena"] = arena_row(estimate.arena)
    context = row["workload"]["context"]
    if estimate.workload.phase in ("prefill", "decode"):
        row["tokens_per_s"] = plain(estimate.throughput_per_s)
        held = estimate.memory.kv_cache
        if not (is_int(held) and held == 0) and context is not None:
            per_token = held / (estimate.workload.batch * estimate.count.graph.meta["context"])
            row["kv_bytes_per_token"] = plain(
                int(per_token) if isinstance(per_token, float) and per_token.is_integer() else per_token
            )
    return row


def arena_row(arena: Arena) -> dict[str, Any]:
    """A placement: offsets of all activations in one block."""
    places = [
        {"name": p.name, "offset": p.offset, "nbytes": p.nbytes, "first_step": p.first, "last_step": p.last}
        for p in arena.placements
    ]
    return {"size_bytes": arena.size, "bound_bytes": arena.bound, "placements": places}


def known_row(known: Known) -> dict[str, Any]:
    """A figure of a machine."""
    return {"value": plain(known.value), **evidence_row(known.evidence)}


def machine_row(machine: Machine) -> dict[str, Any]:
    """What `pharos machines NAME --json` prints."""
    return {
        "schema": "pharos/machine@1",
        "id": machine.id,
        "name": machine.name,
        "kind": machine.kind,
        "year": machine.year,
        "aliases": list(machine.aliases),
        "peaks_ops_per_s": {
            dtype: known_row(peak.ops_per_s) | {"unit": peak.unit} for dtype, peak in machine.peaks.items()
        },
        "ridge_point": {dtype: plain(machine.ridge_point(dtype)) for dtype in machine.peaks},
        "memory_technology": machine.memory_technology,
        "memory_sold_bytes": known_row(machine.memory_sold_bytes),
        "memory_usable_bytes": known_row(machine.memory_usable_bytes),
        "bandwidth_bytes_per_s": known_row(machine.bandwidth_bytes_per_s),
        "cache_bytes": known_row(machine.cache_bytes),
        "cores": known_row(machine.cores) | {"core_kind": machine.core_kind},
        "clock_hz": known_row(machine.clock_hz),
        "link_bytes_per_s": known_row(machine.link_bytes_per_s),
        "max_W": known_row(machine.max_W),
        "idle_W": known_row(machine.idle_W),
        "price_usd": known_row(machine.price_usd),
        "notes": machine.notes,
        "disagreements": list(machine.disagreements),
    }
