"""Figures: the columns that an estimate can be read as, each with its unit and the parts that it needs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pharos.predict.estimate import Estimate
from pharos.predict.grid import BAND, ENERGY, LAW, MEMORY, REGIME, SHARES

Reader = Callable[[Estimate], Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A figure of an estimate, named as in `pharos predict --json` with underscores for dots.

    Args:
        unit: SI; "" for a number of things, "word" for text, "bool" for yes or no.
        needs: parts of an estimate that it is read from.
        read: None where it is not known.
    """

    unit: str
    needs: frozenset[str]
    read: Reader
    says: str = ""


def _column(unit: str, needs: str, read: Reader, says: str) -> Column:
    return Column(unit, frozenset(needs.split()), read, says)


def _tokens(e: Estimate) -> Any:
    return e.throughput_per_s if e.workload.phase in ("prefill", "decode") else None


def _memory(part: str) -> Reader:
    return lambda e: getattr(e.memory, part)


def _intensity(bound: str) -> Reader:
    return lambda e: e.count.intensity(bound)


def _joules(part: str) -> Reader:
    return lambda e: getattr(e.energy_parts, part) if e.energy_parts else None


_PARTS = ("weights", "activations_peak", "kv_cache", "state", "workspace", "rounding", "unused", "runtime")
COLUMNS: dict[str, Column] = {
    "latency_s": _column("s", "", lambda e: e.latency.value, "seconds of one step"),
    "latency_s_low": _column("s", BAND, lambda e: e.latency.low, "10th percentile"),
    "latency_s_high": _column("s", BAND, lambda e: e.latency.high, "90th percentile"),
    "throughput_per_s": _column("1/s", "", lambda e: e.throughput_per_s, "samples, or tokens, a second"),
    "tokens_per_s": _column("1/s", "", _tokens, "of prefill and decode"),
    "energy_J": _column("J", ENERGY, lambda e: e.energy.value, "joules of one step"),
    "energy_J_low": _column("J", ENERGY, lambda e: e.energy.low, "10th percentile"),
    "energy_J_high": _column("J", ENERGY, lambda e: e.energy.high, "90th percentile"),
    "energy_J_compute": _column("J", ENERGY, _joules("compute_J"), "of arithmetic"),
    "energy_J_data": _column("J", ENERGY, _joules("data_J"), "of moving bytes"),
    "energy_J_static": _column("J", ENERGY, _joules("static_J"), "drawn whatever runs"),
    "power_W": _column("W", ENERGY, lambda e: e.power_W.value, "average while it runs"),
    "memory_bytes": _column("B", MEMORY, lambda e: e.memory.total, "peak of everything held"),
    **{f"memory_bytes_{p}": _column("B", MEMORY, _memory(p), p.replace("_", " ")) for p in _PARTS},
    "fits": _column("bool", MEMORY, lambda e: e.fits, "in the machine's memory"),
    "binding": _column("word", f"{SHARES} {MEMORY}", lambda e: e.binding, "what most of the time goes to"),
    "regime": _column("word", f"{REGIME} {SHARES}", lambda e: e.regime, "the side of the ridge point"),
    "compute_s": _column("s", LAW, lambda e: e.compute_s, "arithmetic alone"),
    "data_s": _column("s", LAW, lambda e: e.data_s, "memory alone"),
    "overhead_s": _column("s", LAW, lambda e: e.overhead_s, "launches and steps"),
    "macs": _column("MAC", "", lambda e: e.count.macs, "1 MAC = 2 FLOPs"),
    "flops": _column("FLOP", "", lambda e: e.count.flops, "2 x MACs"),
    "parameters": _column("", "", lambda e: e.count.parameters, "trainable numbers"),
    "weight_bytes": _column("B", "", lambda e: e.count.weight_bytes, "as stored"),
    "state_bytes": _column("B", "", lambda e: e.count.state_bytes, "kept from step to step"),
    "traffic_bytes_ideal": _column("B", "", lambda e: e.count.traffic_ideal, "intermediates free"),
    "traffic_bytes_per_op": _column("B", "", lambda e: e.count.traffic_per_op, "each operator alone"),
    "intensity_ideal": _column("FLOP/B", "", _intensity("ideal"), "FLOP per byte"),
    "intensity_per_op": _column("FLOP/B", "", _intensity("per_op"), "FLOP per byte"),
    "intensity_weights_only": _column("FLOP/B", "", _intensity("weights_only"), "FLOP per byte"),
}  # fmt: skip
USUAL = ("latency_s", "latency_s_low", "latency_s_high", "throughput_per_s", "energy_J", "memory_bytes",
         "fits", "binding", "macs", "parameters")  # fmt: skip
