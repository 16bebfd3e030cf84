"""Prices: joules of an operation and of a byte on a machine, by type, process and memory level."""

import math
import re
from dataclasses import dataclass

from pharos.facts.tables import table
from pharos.machines.machine import Machine
from pharos.machines.profile import EnergyModel, Profile
from pharos.quantity.dtypes import BITS
from pharos.quantity.evidence import Evidence, assumed, sigma_of

# What a power sensor of a chip or board sees over the energies of circuits alone. Source: the tables' note.
SENSOR_OVER_DEVICE = (3.0, 20.0)
# Added where a process or a technology lies outside the tables, or is not known.
OUTSIDE_ERROR = 0.15
UNKNOWN_ERROR = 0.35
# Processes that the tables have, in nm; and those of microcontrollers with flash, where theirs is not known.
TABLED = (45.0, 7.0)
WITH_FLASH = (90.0, 40.0)
# Machines whose arithmetic is led by instructions, one a cycle and core; on others matrix units share one.
INSTRUCTED = ("cpu", "mcu", "mobile_soc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What work costs on a machine, dynamic energy alone.

    Args:
        mac_J: a multiply-accumulate of the asked type; vector_J: another operation.
        memory_J, cache_J: a byte of the main memory, and of the last cache; `cache_J` is that of the memory
            where the cache is not known.
        cycle_J: a cycle of a core that runs instructions; 0 where a MAC has it in.
        constant_W: what is drawn all the time it computes; None where it is not known, or in the prices.
        error: standard deviation of the logarithm of what they add up to.
        level: "board" where a sensor of such a board was fitted, "device" where built up from circuits.
    """

    mac_J: float
    vector_J: float
    memory_J: float
    cache_J: float
    cycle_J: float = 0.0
    constant_W: float | None
    error: float
    level: str
    evidence: tuple[Evidence, ...]


def prices_of(machine: Machine, profile: Profile, dtype: str) -> Prices:
    """The prices of a machine: its board's where a profile has them, else built up from circuits."""
    if profile.energy is not None:
        return _board(machine, profile.energy, dtype)
    return _built_up(machine, dtype)


def _board(machine: Machine, model: EnergyModel, dtype: str) -> Prices:
    error, evidence = model.error, [model.evidence]
    per_flop, off, how = _of_type(machine, model, dtype)
    if off:
        error = math.hypot(error, off)
        evidence.append(assumed(how, off))
    memory_J, vector = model.data_J_per_byte, model.vector_J_per_flop or per_flop  # noqa: N806
    cache_J = model.cache_J_per_byte or memory_J  # noqa: N806
    nm = machine.process_nm.value if machine.process_nm else None
    if model.node_nm and nm and nm != model.node_nm:
        per_flop, vector = (v * _scale("fp16_mul", model.node_nm, nm) for v in (per_flop, vector))
        cache_J *= _scale("sram_1MB", model.node_nm, nm)  # noqa: N806
        evidence.append(
            assumed(f"scaled from {model.node_nm:g} to {nm:g} nm by the tables' energies of fp16")
        )
    if model.memory and machine.memory_technology and "GDDR" in machine.memory_technology:
        other = table("energy")["gpu_system_level"]["other"][0]
        memory_J = 8 * float(other["energy_J"])  # noqa: N806
        evidence.append(assumed(f"a byte of graphics memory as at the {other['item']} ({other['source']})"))
    return Prices(
        mac_J=2 * per_flop, vector_J=vector, memory_J=memory_J, cache_J=cache_J, constant_W=model.constant_W,
        error=error, level="board", evidence=tuple(evidence),
    )  # fmt: skip


def _of_type(machine: Machine, model: EnergyModel, dtype: str) -> tuple[float, float, str]:
    """(J a FLOP, added error, how): of a type that the board's fit does not name, scaled from fp16.

    Arithmetic scales as the tables' multiply and add do, everything around it as the bits of an operand: the
    middle of the two, with a band that holds both. Vector units are priced apart where they are known.
    """
    named = model.compute_J_per_flop.get(dtype)
    if named is not None:
        return named, 0.0, ""
    peak = machine.peaks.get(dtype)
    on_vector = dtype in ("fp32", "fp64") and not (peak and peak.unit == "matrix")
    if on_vector and model.vector_J_per_flop:
        wide = model.vector_J_per_flop * BITS[dtype] / 32
        return wide, 0.4, f"{dtype} runs on vector units, at the published fp64 energy by its bits"
    half = model.compute_J_per_flop["fp16"]
    bits = (32 if dtype == "tf32" else BITS[dtype]) / BITS["fp16"]
    arithmetic = _mac_at(dtype, 7.0) / _mac_at("fp16", 7.0)
    ratio = math.sqrt(bits * arithmetic)
    spread = sigma_of(min(bits, arithmetic), max(bits, arithmetic)) if bits != arithmetic else 0.0
    how = f"a {dtype} operation as {ratio:.2g} of an fp16 one, between its arithmetic and its bits"
    return half * ratio, max(spread, 0.2), how


def _built_up(machine: Machine, dtype: str) -> Prices:
    """Energies of circuits and memory devices, taken to what a sensor would see."""
    low, high = SENSOR_OVER_DEVICE
    middle, error = math.sqrt(low * high), sigma_of(low, high)
    nm = machine.process_nm.value if machine.process_nm else None
    evidence = [
        assumed(f"energies of circuits (Horowitz 2014 at 45 nm, Jouppi 2021 at 7 nm) x {low:g} to {high:g} "
                "for control, clocks, regulators and leakage, which they leave out", error)]  # fmt: skip
    if nm is None:
        old, new = WITH_FLASH if machine.kind == "mcu" else TABLED
        nm, error = math.sqrt(old * new), math.hypot(error, UNKNOWN_ERROR)
        why = f"process of {machine.id} is not in the catalogue: between {old:g} and {new:g} nm"
        evidence.append(assumed(why, UNKNOWN_ERROR))
    elif not TABLED[1] <= nm <= TABLED[0]:
        error = math.hypot(error, OUTSIDE_ERROR)
        nearest = TABLED[1] if nm < TABLED[1] else TABLED[0]
        evidence.append(
            assumed(f"no energies at {nm:g} nm are published: those of {nearest:g} nm", OUTSIDE_ERROR)
        )
    elif nm not in TABLED:
        evidence.append(assumed(f"between 45 and 7 nm for {nm:g} nm"))
    mac = _mac_at(dtype, nm) + 2 * BITS[dtype] / 8 * _register(nm)
    cycle = 0.0
    if machine.kind in INSTRUCTED:
        cycle = _instruction(nm)
        evidence.append(assumed("an instruction a cycle and core"))
    else:
        mac *= 1 + _shared(dtype)
    memory, source = _memory(machine, nm)
    evidence.append(source)
    return Prices(
        mac_J=middle * mac, vector_J=middle * (_op("fp32_add", nm) + 8 * _register(nm)),
        memory_J=middle * memory, cache_J=middle * min(memory, _cache(machine, nm)), cycle_J=middle * cycle,
        constant_W=None, error=error, level="device", evidence=tuple(evidence),
    )  # fmt: skip


def _between(at_45: float, at_7: float, nm: float) -> float:
    """A straight line between the logarithms of both; above 45 nm by the square of the length, 7 nm below."""
    if nm > TABLED[0]:
        return at_45 * (nm / TABLED[0]) ** 2
    place = (math.log(nm) - math.log(7.0)) / (math.log(45.0) - math.log(7.0))
    return at_7 * (at_45 / at_7) ** max(place, 0.0)


def _row(name: str, nm: float) -> float:
    rows = table("energy")["arithmetic"]
    return next(float(r["energy_J"]) for r in rows if r["op"] == name and r["node_nm"] == nm)


def _op(name: str, nm: float) -> float:
    return _between(_row(name, 45), _row(name, 7), nm)


def _scale(ratio: str, before: float, after: float) -> float:
    """Energy at one process over that at another, by the tables' ratio of 45 to 7 nm."""
    whole = float(table("energy")["scaling_45_to_7nm"]["ratios"][ratio])
    return _between(whole, 1.0, after) / _between(whole, 1.0, before)


def _mac_at(dtype: str, nm: float) -> float:
    """J of one multiply-accumulate's circuits."""
    if dtype in ("fp32", "fp64", "tf32"):
        # twice the digits take four times the multiplier
        wide = {"fp64": 4.0}.get(dtype, 1.0)
        return (
            wide * (_op("fp32_mul", nm) + _op("fp32_add", nm))
            if dtype != "tf32"
            else _op("fp16_mul", nm) + _op("fp32_add", nm)
        )
    if dtype in ("fp16", "bf16"):
        return _op("fp16_mul", nm) + _op("fp16_add", nm)
    # a multiplier of eight bits and an adder of 32; of fp8 likewise, no table has it; of four a quarter of it
    narrow = BITS[dtype] / 8
    return narrow * narrow * _op("int8_mul", nm) + _op("int32_add", nm)


def _register(nm: float) -> float:
    """J a byte of a register file: 1 pJ for 32 bits at 45 nm, with the smallest memory's scaling."""
    row = next(r for r in table("energy")["sram"] if "register" in r["item"])
    return float(row["energy_J"]) / 4 * _scale("sram_8KB", 45, nm)


def _instruction(nm: float) -> float:
    """J of fetching and decoding one instruction, scaled as integer addition and small memories are."""
    row = table("energy")["instruction_overhead"][0]
    return float(row["energy_J"]) * math.sqrt(_scale("int32_add", 45, nm) * _scale("sram_8KB", 45, nm))


def _shared(dtype: str) -> float:
    """What an instruction adds to a matrix unit's arithmetic."""
    name = "IMMA" if dtype.startswith("int") else "HMMA"
    rows = table("energy")["instruction_overhead"]
    return next(float(r["overhead_pct"]) for r in rows if r["item"] == name) / 100


def _cache(machine: Machine, nm: float) -> float:
    """J a byte of on-chip memory of the machine's size, wires of one as large as 1 MiB and more in."""
    size = (
        machine.cache_bytes.value
        or (machine.capacity_bytes.value if machine.kind == "mcu" else None)
        or 2**20
    )
    rows = [r for r in table("energy")["sram"] if r.get("per") == "access_64b" and r["energy_J"]]
    names = {8192: "SRAM 8 KiB", 32768: "SRAM 32 KiB", 2**20: "SRAM 1 MiB"}
    place = min(max(size, 8192), 2**20)
    sizes = sorted(names)

    def tabled(size: int, node: float) -> float:
        return next(float(r["energy_J"]) for r in rows if r["item"] == names[size] and r["node_nm"] == node)

    at = [_between(tabled(s, 45), tabled(s, 7), nm) / 8 for s in sizes]
    low = max(i for i, s in enumerate(sizes) if s <= place)
    if low == len(sizes) - 1:
        return at[-1]
    part = math.log(place / sizes[low]) / math.log(sizes[low + 1] / sizes[low])
    return at[low] * (at[low + 1] / at[low]) ** part


# Memory technologies by what their name begins with, and the row of the table that tells of them.
_TECHNOLOGIES = (
    (r"HBM3e", "HBM3E"), (r"HBM3", "HBM3"), (r"HBM2e", "HBM2E"), (r"HBM", "HBM2"), (r"GDDR7", "GDDR7"),
    (r"GDDR6X", "GDDR6X"), (r"GDDR", "GDDR6"), (r"LPDDR", "LPDDR4X (all-in, Apple M1 package)"),
    (r"DDR", "DDR3/DDR4"),
)  # fmt: skip


def _memory(machine: Machine, nm: float) -> tuple[float, Evidence]:
    """J a byte of the main memory."""
    told = machine.memory_technology or ""
    if machine.kind == "mcu" or "SRAM" in told:
        return _cache(machine, nm), assumed("main memory is SRAM on the chip, 1 MiB at most a bank")
    name = next((row for begins, row in _TECHNOLOGIES if re.match(begins, told, re.I)), "DDR3/DDR4")
    rows = [r for r in table("energy")["dram"] if r["type"] == name]
    row = next((r for r in rows if r.get("energy_J")), rows[0])
    joules = float(row["energy_J"])
    per_byte = joules / 8 if row["per"] == "access_64b" else joules * 8
    if row["level"] == "system":
        # a sensor's figure: what is added for circuits is in it
        per_byte /= math.sqrt(SENSOR_OVER_DEVICE[0] * SENSOR_OVER_DEVICE[1])
    where = f"a byte of memory by {name}, {row['level']} level ({row['source']})"
    return per_byte, assumed(where if told else f"memory technology unknown: {where}")
