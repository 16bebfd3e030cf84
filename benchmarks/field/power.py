"""Board power of GPUs: constants fitted from power samples, with the error on rows left out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from profiles import _flow, _load, _save
from read import COUNTED_FROM, Table, table
from ruamel.yaml.comments import CommentedMap

from pharos.facts.names import folder
from pharos.facts.tables import board_energy
from pharos.machines.machine import find_machine
from pharos.measure.fit import bucket, conformal, descend

# Kernels below this are over before the sensor has told: their power is a floor.
LEAST_S = 50e-6
# The regulator holds a little below the limit: the median of rows at it.
HELD = 0.987
# Names of the constants: W, then J a FLOP in 16 bits and a byte of the memory.
NAMES = ("constant_W", "compute_J_per_flop", "data_J_per_byte")
START = np.log([100.0, 0.6e-12, 1e-10])
# How far each may go from where it begins, as a standard deviation of its logarithm.
SPREAD = np.array([0.5, 0.4, 0.4])


@dataclass(frozen=True, kw_only=True)
class Powers:
    """Rows of one board: the phases each row is made of, and its average power.

    Args:
        seconds, flops, moved: one column a phase, of one card.
        group: what is left out together.
    """

    what: str
    machine: str
    seconds: Any
    flops: Any
    moved: Any
    measured_W: Any
    group: Any

    def pick(self, which: Any) -> "Powers":
        """Some rows."""
        return Powers(what=self.what, machine=self.machine, seconds=self.seconds[which], flops=self.flops[which],
                      moved=self.moved[which],
                      measured_W=self.measured_W[which], group=self.group[which])  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Power:
    """A board's fit: its constants, and of every counted set of rows predicted and measured watts."""

    machine: str
    constants: dict[str, float]
    rows: int
    error: float
    held_out: str
    counted: dict[str, tuple[Any, Any]]

    @property
    def mean(self) -> float:
        """Mean error over the counted rows of the kind that was fitted on."""
        told, measured = next(iter(self.counted.values()))
        return float(np.mean(np.abs(told / measured - 1)))


def watts(constants: Any, rows: Powers) -> Any:
    """Average power of each row: every phase at its own power, none above the limit."""
    constant, flop, byte = np.exp(constants)
    limit = HELD * float(find_machine(rows.machine).max_W.value or np.inf)
    dynamic = flop * rows.flops + byte * rows.moved
    joules = np.minimum(constant * rows.seconds + dynamic, limit * rows.seconds)
    return joules.sum(1) / rows.seconds.sum(1)


def _fit(parts: list[Powers], begun: Any = START, spread: Any = SPREAD) -> Any:
    def off(place: Any) -> Any:
        return np.concatenate([np.log(watts(place, p) / p.measured_W) for p in parts])

    count = sum(len(p.measured_W) for p in parts)
    return descend(off, begun, 0.02 / spread**2, np.full(len(begun), np.inf), np.ones(count))[0]


def _h200(data: Path) -> list[Powers]:
    """Products and attention, each in a loop of 0.3 s and more while the sensor was read."""
    found = []
    rows = table(data, "aiconfigurator/gemm_power_sample.csv")
    if rows is not None:
        rows = rows.where((rows["system"] == "h200_sxm") & (rows["latency_us"] >= 1e6 * LEAST_S))
        m, n, k = rows["m"], rows["n"], rows["k"]
        found.append(_kernels("bf16 products", rows["latency_us"], rows["power_w"], 2 * m * n * k,
                              2 * (m * n + n * k + m * k), bucket(m, n, k)))  # fmt: skip
    rows = table(data, "aiconfigurator/attention_power_h200_sample.csv")
    if rows is not None:
        found += _attention(rows.where(rows["latency_us"] >= 1e6 * LEAST_S))
    return found


def _attention(rows: Table) -> list[Powers]:
    batch, length, heads, width = (rows[k] for k in ("batch_size", "isl", "num_heads", "head_dim"))
    kv = np.where(rows["num_key_value_heads"] == 0, heads, rows["num_key_value_heads"])
    keys, prefill = length + rows["step"], rows["phase"] == "context"
    queries = np.where(prefill, length, 1)
    pairs = batch * heads * np.where(prefill, length * (rows["step"] + (length + 1) / 2), keys)
    byte = np.where(rows["kv_cache_dtype"] == "fp8", 1, 2)
    moved = 4 * batch * heads * queries * width + 2 * batch * kv * keys * width * byte
    place = bucket(batch, length, rows["step"], heads, kv, width)
    found = []
    for what, which in (("prefill attention", prefill), ("decode attention", ~prefill)):
        part = _kernels(what, rows["latency_us"], rows["power"], 4 * pairs * width, moved, place)
        found.append(part.pick(which))
    return found


def _kernels(what: str, micros: Any, power: Any, flops: Any, moved: Any, group: Any) -> Powers:
    def column(values: Any) -> Any:
        return np.asarray(values, float)[:, None]

    return Powers(what=what, machine="nvidia_h200_sxm", seconds=1e-6 * column(micros), flops=column(flops),
                  moved=column(moved), measured_W=power, group=group)  # fmt: skip


# Parameters, hidden size and layers, keys' and values' width: what of a model a request's FLOPs and bytes follow from.
MODELS = {"llama2-70b": (68.98e9, 8192, 80, 1024), "bloom-176b": (176.25e9, 14336, 70, 14336)}
SERVED = {"a100-80gb": "nvidia_a100_sxm_80gb", "h100-80gb": "nvidia_h100_sxm5"}


def _served(data: Path, hardware: str) -> Powers | None:
    """Requests to language models on several cards: a prompt, then tokens, power averaged over all of it."""
    rows = table(data, "splitwise_sim/llm_prompt_token_latency_power.csv")
    if rows is None or SERVED.get(hardware) is None:
        return None
    rows = rows.where((rows["hardware"] == hardware) & (rows["average_power"] > 0.2))
    if not len(rows):
        return None
    size, width, layers, kv = (np.array([MODELS[str(m)][i] for m in rows["model"]]) for i in range(4))
    prompt, batch, tokens, cards = (
        rows[k] for k in ("prompt_size", "batch_size", "token_size", "tensor_parallel")
    )
    total, first = 1e-3 * rows["e2e_time"], 1e-3 * rows["prompt_time"]
    # queries times keys, twice over, in every layer
    seen = 4 * width * layers * batch
    flops = [2 * size * batch * prompt + seen * prompt * (prompt + 1) / 2,
             2 * size * batch * tokens + seen * tokens * (prompt + tokens / 2)]  # fmt: skip
    cache = 2 * 2 * layers * kv * batch
    moved = [2 * size + cache * prompt, tokens * (2 * size + cache * (prompt + tokens / 2))]
    limit = float(find_machine(SERVED[hardware]).max_W.value or 0)
    two = [np.array(v).T / cards[:, None] for v in (flops, moved)]
    setting = [f"{m} on {int(c)} cards" for m, c in zip(rows["model"], cards, strict=True)]
    every = Powers(
        what="requests to language models", machine=SERVED[hardware], seconds=np.array([first, total - first]).T,
        flops=two[0], moved=two[1], measured_W=limit * rows["average_power"],
        group=np.array(setting),
    )  # fmt: skip
    # runs of one setting were repeated: each counts once
    key = [f"{s}, {p:g}, {b:g}" for s, p, b in zip(setting, prompt, batch, strict=True)]
    return every.pick(np.unique(key, return_index=True)[1])


def powers(data: Path) -> list[Power]:
    """Every board that the rows cover."""
    found = []
    parts = _h200(data)
    if parts:
        # many attention rows tell less than the traffic alone takes: their loops ended before the sensor had settled
        fitted = [p.pick(p.group < COUNTED_FROM) for p in parts if "products" in p.what]
        counted = [p.pick(p.group >= COUNTED_FROM) for p in parts if "products" in p.what]
        counted += [p for p in parts if "products" not in p.what]
        place = _fit(fitted)
        told = {p.what: (watts(place, p), p.measured_W) for p in counted}
        found.append(
            _power("nvidia_h200_sxm", place, sum(len(p.group) for p in fitted), told, "other shapes")
        )
    for hardware in SERVED:
        rows = _served(data, hardware)
        if rows is None:
            continue
        # a prompt's power is at the limit: what arithmetic costs is the published figure's to tell
        row = board_energy(_row(rows.machine))
        begun = np.log([100.0, float(row["fp16_matrix_J_per_flop"]), 8 * float(row["hbm_J_per_bit"])])
        spread = np.array([0.5, 0.2, 0.2])
        told = np.zeros(len(rows.measured_W))
        for name in set(rows.group):
            told[rows.group == name] = watts(_fit([rows.pick(rows.group != name)], begun, spread),
                                             rows.pick(rows.group == name))  # fmt: skip
        place = _fit([rows], begun, spread)
        found.append(_power(rows.machine, place, len(told), {rows.what: (told, rows.measured_W)},
                            "each model and number of cards in turn"))  # fmt: skip
    return found


def _power(machine: str, place: Any, rows: int, told: dict[str, tuple[Any, Any]], held_out: str) -> Power:
    # the first set is what was fitted on; the others only show how far it carries
    first = next(iter(told.values()))
    off = np.log(first[0] / first[1])
    constants = {n: float(f"{v:.3g}") for n, v in zip(NAMES, np.exp(place), strict=True)}
    return Power(
        machine=machine, constants=constants, rows=rows, error=conformal(off), held_out=held_out, counted=told
    )


def power_table(found: list[Power]) -> str:
    """One line a board and set of rows, then the constants."""
    lines = ["| board | rows of | counted | left out | mean | median | p90 | worst |", "|---" * 8 + "|"]
    for one in found:
        for what, (told, measured) in one.counted.items():
            off = told / measured - 1
            size = np.abs(off)
            worst = off[np.argmax(size)]
            lines.append(f"| {one.machine} | {what} | {len(off)} | {one.held_out} | **{100 * size.mean():.1f}%** | "
                         f"{100 * np.median(size):.1f}% | {100 * np.quantile(size, 0.9):.0f}% | {100 * worst:+.0f}% |")  # fmt: skip
    lines += [
        "",
        "| board | constant | J a FLOP (16 bits) | J a byte | 80% band's error |",
        "|---|---|---|---|---|",
    ]
    for one in found:
        c = one.constants
        lines.append(f"| {one.machine} | {c['constant_W']:.0f} W | {1e12 * c['compute_J_per_flop']:.2f} pJ | "
                     f"{1e12 * c['data_J_per_byte']:.0f} pJ | {one.error:.2f} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def power_section(data: Path) -> str:
    """What docs/accuracy.md says of power; empty without rows."""
    found = powers(data)
    if not found:
        return ""
    mean = float(np.mean([one.mean for one in found]))
    every = np.concatenate([np.abs(p / m - 1) for one in found for p, m in one.counted.values()])
    aim = (
        f"Aim: 10% mean error of power. Reached: {100 * mean:.1f}% on products and requests, boards weighted alike "
        f"({'met' if mean <= 0.1 else 'missed'}); {100 * every.mean():.1f}% with attention's rows, one by one "
        f"({'met' if every.mean() <= 0.1 else 'missed'}).\n\n"
    )
    return "## Board power\n\n" + aim + NOTES + "\n" + power_table(found)


NOTES = """P = min(98.7% of the limit, constant + J a FLOP x FLOP/s + J a byte x bytes/s), the power of a board while it computes, at the
FLOP/s and bytes/s that were measured: an error of latency comes on top. Kernels under 50 us are left out: the sensor averages
over longer. Requests are averages over a prompt at the limit and tokens after it, of one card; rows whose average is that of an idle
card (the longest prompts on the A100) are left out. Attention on the H200 was fitted on by nothing: many of its loops ended before the
sensor had settled (a tensor-core-bound prefill of milliseconds told as 167 W, less than the board takes while it only waits for its memory),
so its errors are of the samples as much as of the constants.
It was left out after a first fit with it had shown 9.0% on products and 34 to 41% on attention; the H200's band comes of the
products counted here, so that how often it holds is no test of it.
"""


# Boards that another one stands for, and the error of taking it so: the boards of the table differ by as much.
SAME = {"nvidia_h200_sxm": (("nvidia_h100_sxm5", " on the H200, the same chip"),)}
APART_ERROR = 0.25


def write_power(found: list[Power]) -> None:
    """Puts the constants into the profiles of the boards."""
    for one, machine, how in [
        (o, m, h) for o in found for m, h in ((o.machine, ""), *SAME.get(o.machine, ()))
    ]:
        path = folder("profiles")[machine][0]
        yaml, data = _load(path)
        entry = CommentedMap({"row": _row(one.machine)} | one.constants)
        what, (_, measured) = next(iter(one.counted.items()))
        counted = len(measured)
        entry |= {"error": round(max(one.error, APART_ERROR if how else 0.05), 3), "rows": one.rows, "known": "fitted",
                  "fitted_on": f"board power of {what}{how} ({_source(one)})",
                  "held_out": f"{one.held_out}, {counted} rows: {100 * one.mean:.1f}% mean error"}  # fmt: skip
        data.pop("power", None)
        if "energy" in data:
            data["energy"] = _flow(entry)
        else:
            data.insert(list(data).index("sources"), "energy", _flow(entry))
        _save(yaml, data, path)


def _row(machine: str) -> str:
    """The published board nearest to a machine: its caches and vector units are priced by it."""
    return "A100_SXM4_40GB" if "a100" in machine else "GH200_96GB"


def _source(one: Power) -> str:
    return "aiconfigurator" if "products" in next(iter(one.counted)) else "splitwise-sim"
