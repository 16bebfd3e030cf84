"""Tables 1 and 2, and the five lighthouses against five resources: signatures, sizes, what binds."""

from typing import Any

from pharos.book.sums import as_run, counted, estimate, graph, machine, memory, per_byte
from pharos.book.table import COUNTED, DECLARED, LOOKED_UP, PREDICTED, Asked, Cell, Filled, cell, table
from pharos.models.registry import entry, parse_name
from pharos.quantity.units import fmt, fmt_count

# Row of the chapter -> (model of the catalogue, phase, batch, precision of predictions).
ROLES = {
    "ResNet-50": ("resnet50", "forward", 32, "fp16"),
    "GPT-2 XL": ("gpt2-xl", "decode", 1, "fp16"),
    "DLRM": ("dlrm-mlperf", "forward", 1, "fp32"),
    "MobileNetV2": ("mobilenet_v2", "forward", 1, "fp16"),
    "KWS (DS-CNN)": ("ds_cnn_m", "forward", 1, "int8"),
}
# The keyword spotter's own ground, whatever machine is asked for.
BOARD = "stm32h743_cortex_m7"
CONTEXT = 1024
MACS = "MACs are printed as FLOPs; 1 MAC = 2 FLOPs"


def context_of(phase: str) -> int | None:
    """Tokens that a prediction is for."""
    return CONTEXT if phase == "decode" else None


def run_of(asked: Asked, row: str) -> tuple[Any, str]:
    """(estimate, machine) of a lighthouse where it is at home: the asked machine, a board for the spotter."""
    name, phase, batch, precision = ROLES[row]
    on = BOARD if row.startswith("KWS") and machine(asked.machine).kind != "mcu" else asked.machine
    usual = batch if asked.batch == 1 else asked.batch
    return estimate(asked.model(name), on, phase, usual, context_of(phase), known(on, precision)), on


def known(on: str, precision: str) -> str:
    """The precision, or the nearest that the machine has a peak for."""
    found = machine(on)
    if found.kind == "mcu":
        return precision
    return next((p for p in (precision, "fp16", "bf16", "fp32", "int8") if p in found.peaks), precision)


@table(
    "1", "signatures", "Arithmetic intensity of three lighthouses, by convention", "1.1.2", heeds=("machine",)
)
def signatures(asked: Asked) -> Filled:
    """Intensity over weights, as the chapter mixes it and in FLOPs, and as run beside a ridge."""
    rows = []
    on = machine(asked.machine)
    for row, name, phase in (("ResNet-50", "resnet50", "forward"), ("MobileNetV2", "mobilenet_v2", "forward"),
                             ("GPT-2 (Inf)", "gpt2-xl", "decode")):  # fmt: skip
        model = asked.model(name)
        found = counted(model, phase, context=1 if phase == "decode" else None)
        operations = found.flops if phase == "decode" else found.macs
        mixed = operations / found.weight_bytes
        flops = per_byte(found, "weights_only")
        precision = known(asked.machine, "fp16")
        est = estimate(model, asked.machine, phase, 1, context_of(phase), precision)
        lies, ridge = as_run(est), float(est.ridge_point or 0)
        side = "compute" if lies >= ridge else "memory-bandwidth"
        rows.append((row, (
            cell(("1", row, "intensity"), mixed, f"{mixed:.3g}", note="printed from rounded figures"),
            Cell(value=flops, text=f"{flops:.3g}", how=COUNTED),
            Cell(value=lies, text=f"{lies:.3g}", how=PREDICTED),
            cell(("1", row, "affinity"), side, f"{side}: {lies:.3g} of {ridge:.0f}", PREDICTED,
                 note=f"batch 1 in {precision} with activations lies below the ridge of {on.name}"
                 if side != "compute" else ""),
        )))  # fmt: skip
    return Filled(
        columns=("lighthouse", "as the chapter mixes it", "FLOP/B of weights", "FLOP/B as run", "binds"),
        rows=tuple(rows), setting=f"as run: {on.name}, batch 1",
        note="weights in fp32; the chapter has MACs for the networks of vision and FLOPs for GPT-2, over "
             "weights "
        "alone; as run has activations and fusion",
    )  # fmt: skip


@table("2", "lighthouses", "The five lighthouse models", "1.1.2", heeds=("machine", "batch"))
def lighthouses(asked: Asked) -> Filled:
    """Domain, parameters, work, memory, what binds and the part that each plays."""
    rows = []
    for row, (name, phase, *_) in ROLES.items():
        model = asked.model(name)
        found = counted(model, phase, context=1 if phase == "decode" else None)
        est, on = run_of(asked, row)
        binds = str(est.binding)
        domain = _domain(model)
        # DLRM's cell has a word for its size: it holds if others ask for a thousand times as much
        low = 1000 * found.flops < counted(asked.model("resnet50")).flops
        unit = "/token" if phase == "decode" else ""
        rows.append(
            (
                row,
                (
                    cell(("2", row, "domain"), domain, how=DECLARED),
                    cell(
                        ("2", row, "parameters"),
                        found.parameters,
                        fmt_count(found.parameters),
                        note=_size_note(row),
                    ),
                    Cell(value=found.macs, text=f"{fmt_count(found.macs)}{unit}", how=COUNTED),
                    cell(
                        ("2", row, "flops"),
                        found.flops,
                        f"{fmt_count(found.flops)}{unit}",
                        compare=low if row == "DLRM" else None,
                        note=MACS,
                    ),
                    cell(
                        ("2", row, "memory"),
                        found.weight_bytes,
                        fmt(found.weight_bytes, "B"),
                        note=_size_note(row),
                    ),
                    cell(
                        ("2", row, "bottleneck"),
                        binds,
                        binds if on == asked.machine else f"{binds} ({machine(on).name})",
                        PREDICTED,
                        note=binding_note(est),
                    ),
                    cell(("2", row, "role"), entry(parse_name(model)[0]).lighthouse or "-", how=DECLARED),
                ),
            )
        )
    return Filled(
        columns=("model", "domain", "parameters", "MACs", "FLOPs", "memory, fp32", "binds", "isolates"),
        rows=tuple(rows), setting=setting(asked),
        note="ResNet-50 at batch 32, others at batch 1 unless --batch; GPT-2 XL decodes with 1,024 tokens",
    )  # fmt: skip


def _size_note(row: str) -> str:
    if row.startswith("KWS"):
        return "the published DS-CNN M; 200 K is its memory class in bytes"
    return "MLPerf's DLRM; no published size is 25 G" if row == "DLRM" else ""


def binding_note(est: Any) -> str:
    """Where the predicted time goes."""
    shares = {k: v for k, v in est.shares.items() if v}
    whole = sum(float(v) for v in shares.values())
    if not whole:
        return ""
    ranked = sorted(shares.items(), key=lambda item: -float(item[1]))[:3]
    told = ", ".join(f"{k} {float(v) / whole:.0%}" for k, v in ranked)
    launches = "; launches, which the chapter calls latency" if str(est.binding) == "overhead" else ""
    return f"predicted time: {told}{launches}"


def _domain(model: str) -> str:
    """What a network is about, by its inputs."""
    inputs = graph(model).inputs
    first, kinds = inputs[0], {v.tensor.dtype for v in inputs}
    if len(inputs) > 2:
        return "Recommender"
    if any(k.startswith("int") for k in kinds):
        return "Language"
    return "Vision" if first.tensor.rank == 4 and first.shape[1] == 3 else "Audio"


def setting(asked: Asked) -> str:
    """What predictions are for, in words."""
    return f"{machine(asked.machine).name}" + (f", batch {asked.batch}" if asked.batch != 1 else "")


@table(
    "bottlenecks",
    "bottlenecks",
    "Five lighthouses against five resources",
    "1.1.2",
    heeds=("machine", "batch"),
)
def bottlenecks(asked: Asked) -> Filled:
    """How much of its time, memory and power each lighthouse takes, and what binds it."""
    rows = []
    for row in ROLES:
        est, on = run_of(asked, row)
        whole = sum(float(v) for v in est.shares.values() if v) or 1.0
        share = {k: float(v or 0) / whole for k, v in est.shares.items()}
        late = (
            share.get("overhead", 0.0) + share.get("sequential-dependency", 0.0) + share.get("latency", 0.0)
        )
        room = memory_of(on)
        used = float(est.memory.total) / room if room else None
        watts, most = est.power_W.value, machine(on).max_W.value
        power = float(watts) / most if watts is not None and most else None
        binds = str(est.binding)
        rows.append(
            (
                row,
                (
                    _part(share.get("compute", 0.0)),
                    _part(share.get("memory-bandwidth", 0.0)),
                    _part(used, "of memory"),
                    _part(late),
                    _part(power, "of its watts"),
                    cell(
                        ("bottlenecks", row, "binding"),
                        binds,
                        binds if on == asked.machine else f"{binds} ({machine(on).name})",
                        PREDICTED,
                        note=binding_note(est),
                    ),
                ),
            )
        )
    return Filled(
        columns=("lighthouse", "compute", "bandwidth", "capacity", "latency", "power", "binds"),
        rows=tuple(rows), setting=setting(asked),
        note="shares of the predicted time that arithmetic, memory's bandwidth and launches or dependent "
             "steps "
        "take; memory of what the machine has; watts of what it may draw. Power limits a product, not a time",
    )  # fmt: skip


def memory_of(name: str) -> float | None:
    """Bytes that a machine has for a network: of a microcontroller its SRAM."""
    found = machine(name)
    return found.capacity_bytes.value if found.capacity_bytes.value is not None else memory(name)


def _part(value: float | None, of: str = "of time") -> Cell:
    text = "unknown" if value is None else f"{value:.0%} {of}" if value >= 0.01 or not value else f"<1% {of}"
    return Cell(value=value, text=text, how=PREDICTED if value is not None else LOOKED_UP)
