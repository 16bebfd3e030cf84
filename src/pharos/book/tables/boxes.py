"""Lighthouses 1.1 to 1.3, of vision and sound: what each is, what binds it, beside the chapter's boxes."""

from collections.abc import Callable
from typing import Any

from pharos.book.claims.vision import kernel_share
from pharos.book.sums import as_run, band, counted, estimate, machine, per_byte
from pharos.book.table import COUNTED, DERIVED, LOOKED_UP, PREDICTED, Asked, Cell, Filled, cell, table
from pharos.book.tables.lighthouses import BOARD, MACS, binding_note, known, memory_of
from pharos.decide.accuracy import published
from pharos.quantity.units import fmt, fmt_count

COLUMNS = ("property", "value", "implication")
# The board that the spotter's power is told of.
LOW = "stm32l4r5_cortex_m4"
Pair = tuple[Cell, Cell]
GB, MB = 1e9, 1e6


def filled(rows: dict[str, Pair], setting: str, note: str = "") -> Filled:
    """A lighthouse's table."""
    return Filled(columns=COLUMNS, rows=tuple(rows.items()), setting=setting, note=note)


def place(key: str) -> Callable[..., Cell]:
    """A short way to the cells of one box."""

    def made(row: str, column: str, value: Any, text: str = "", how: str = COUNTED, **more: Any) -> Cell:
        return cell((key, row, column), value, text, how, **more)

    return made


def top1(model: str) -> tuple[float, float] | None:
    """Lowest and highest published ImageNet accuracy of a network at 224 pixels in float."""
    found = [
        r.accuracy
        for r in published()
        if r.model == model and r.precision == "fp32" and r.resolution == 224 and r.labels < 2e6
    ]
    return (min(found), max(found)) if found else None


@table("1.1", "resnet50", "Lighthouse 1.1: ResNet-50", "1.3", heeds=("machine", "batch"))
def resnet50(asked: Asked) -> Filled:
    """Parameters, work by kernel, what binds it, intensity."""
    name, at = asked.model("resnet50"), place("1.1")
    found = counted(name)
    est = _estimate(asked, name, batch=32)
    three, one = kernel_share(name, 3), kernel_share(name, 1)
    net = as_run(_estimate(asked, name))
    peak = machine(asked.machine)
    binds = str(est.binding)
    return filled(
        {
            "parameters": (
                at("parameters", "value", found.parameters, fmt_count(found.parameters)),
                at(
                    "parameters",
                    "implication",
                    found.weight_bytes,
                    f"{fmt(found.weight_bytes, 'B')} in fp32, "
                    f"{_share(found.weight_bytes, memory_of(asked.machine))} of {peak.name}",
                ),
            ),
            "FLOPs/image": (
                at(
                    "FLOPs/image",
                    "value",
                    found.flops,
                    f"{fmt_count(found.macs)} MACs = {fmt_count(found.flops)} FLOPs",
                    note=MACS,
                ),
                at(
                    "FLOPs/image",
                    "implication",
                    three,
                    f"3x3 convolutions {three:.0f}% of the MACs, 1x1 {one:.0f}%",
                    note="1x1 convolutions have the larger part",
                ),
            ),
            "constraint": (
                at(
                    "constraint",
                    "value",
                    binds,
                    f"{binds} ({what(est, 'batch 32', asked)})",
                    PREDICTED,
                    note=binding_note(est),
                ),
                at("constraint", "implication", parts(est), parts(est), PREDICTED),
            ),
            "bottleneck": (
                at("bottleneck", "value", binds, binds, PREDICTED, note=binding_note(est)),
                at("bottleneck", "implication", _matrix_gain(asked), _matrix_gain(asked), LOOKED_UP),
            ),
            "profile": (
                at(
                    "profile",
                    "value",
                    per_byte(found, "weights_only"),
                    f"{per_byte(found, 'weights_only'):.3g} FLOP/B of weights, fp32",
                    DERIVED,
                ),
                at(
                    "profile",
                    "implication",
                    net,
                    f"{net:.3g} FLOP/B as run at batch 1 with activations",
                    PREDICTED,
                    note="in fp16 with fused kernels; weights alone give another",
                ),
            ),
        },
        peak.name,
    )


@table("1.2", "mobilenet", "Lighthouse 1.2: MobileNetV2", "1.3", heeds=("machine", "batch"))
def mobilenet(asked: Asked) -> Filled:
    """Size and work beside ResNet-50's, the gap in accuracy, where its time goes."""
    name, other, at = asked.model("mobilenet_v2"), asked.model("resnet50"), place("1.2")
    found, large = counted(name), counted(other)
    est = _estimate(asked, name)
    smaller, fewer = large.parameters / found.parameters, large.flops / found.flops
    mine, theirs = top1(name), top1(other)
    gap = ""
    if mine and theirs:
        gap = (f"; published top-1 {mine[0]:.1%} to {mine[1]:.1%} against {theirs[0]:.1%} to "
               f"{theirs[1]:.1%}")  # fmt: skip
    binds = str(est.binding)
    return filled(
        {
            "parameters": (
                at("parameters", "value", found.parameters, fmt_count(found.parameters)),
                at(
                    "parameters",
                    "implication",
                    smaller,
                    f"{fmt(found.weight_bytes, 'B')} in fp32; {smaller:.2g} times smaller than {other}",
                ),
            ),
            "FLOPs/image": (
                at(
                    "FLOPs/image",
                    "value",
                    found.flops,
                    f"{fmt_count(found.macs)} MACs = {fmt_count(found.flops)} FLOPs",
                    note=MACS,
                ),
                at("FLOPs/image", "implication", fewer, f"{fewer:.3g} times fewer than {other}{gap}"),
            ),
            "constraint": (
                at(
                    "constraint",
                    "value",
                    binds,
                    f"{binds} ({what(est, 'batch 1', asked)})",
                    PREDICTED,
                    note=binding_note(est),
                ),
                at(
                    "constraint",
                    "implication",
                    band(est)[1],
                    f"{fmt(band(est)[1], 's')} an image",
                    PREDICTED,
                ),
            ),
            "bottleneck": (
                at("bottleneck", "value", binds, binds, PREDICTED, note=binding_note(est)),
                at("bottleneck", "implication", parts(est), parts(est), PREDICTED),
            ),
            "profile": (
                at(
                    "profile",
                    "value",
                    per_byte(found, "weights_only"),
                    f"{per_byte(found, 'weights_only'):.3g} FLOP/B of weights, fp32",
                    DERIVED,
                ),
                at(
                    "profile",
                    "implication",
                    as_run(est),
                    f"{as_run(est):.3g} FLOP/B as run with activations; "
                    f"{other} {as_run(_estimate(asked, other)):.3g}",
                    PREDICTED,
                ),
            ),
        },
        machine(asked.machine).name,
    )


@table("1.3", "kws", "Lighthouse 1.3: keyword spotting", "1.3")
def kws(asked: Asked) -> Filled:
    """Parameters, work, bytes in three widths and the class of power; the chapter's box has no table."""
    name, at = asked.model("ds_cnn_m"), place("1.3")
    found = counted(name)
    widths = {p: float(counted(name, precision=p).weight_bytes) for p in ("fp32", "int8", "int4")}
    est = estimate(name, BOARD, precision="int8")
    small = estimate(name, LOW, precision="int8")
    watts = small.power_W.value
    room = memory_of(BOARD)
    note = "the published DS-CNN M; 200 K is its memory class in bytes"
    return filled(
        {
            "parameters": (
                at("parameters", "value", found.parameters, fmt_count(found.parameters), note=note),
                Cell(
                    value=widths,
                    text=", ".join(f"{fmt(v, 'B')} in {p}" for p, v in widths.items()),
                    how=COUNTED,
                ),
            ),
            "FLOPs/inference": (
                at(
                    "FLOPs/inference",
                    "value",
                    found.flops,
                    f"{fmt_count(found.macs)} MACs = {fmt_count(found.flops)} FLOPs",
                ),
                Cell(
                    value=band(est)[1],
                    text=f"{fmt(band(est)[1], 's')} on {machine(BOARD).name}",
                    how=PREDICTED,
                ),
            ),
            "memory": (
                at(
                    "memory",
                    "value",
                    found.weight_bytes,
                    f"{fmt(found.weight_bytes, 'B')} in fp32",
                    note=note,
                ),
                at(
                    "memory",
                    "implication",
                    widths["int8"],
                    f"{fmt(widths['int8'], 'B')} in int8; activations "
                    f"{fmt(float(est.memory.activations_peak), 'B')} of {fmt(room, 'B')} SRAM",
                    PREDICTED,
                ),
            ),
            "constraint": (
                at(
                    "constraint",
                    "value",
                    str(est.binding),
                    f"{est.binding} binds its time on {machine(BOARD).name}",
                    PREDICTED,
                    note="power limits the product, not the time of an inference",
                ),
                at(
                    "constraint",
                    "implication",
                    watts,
                    "unknown"
                    if watts is None
                    else f"{fmt(float(watts), 'W')}: of the whole board {machine(LOW).name}",
                    PREDICTED,
                ),
            ),
        },
        f"{machine(BOARD).name}, int8",
        "the chapter prints no table here; its cells are those of Table 2",
    )


def _estimate(asked: Asked, name: str, batch: int = 1) -> Any:
    many = batch if asked.batch == 1 else asked.batch
    return estimate(name, asked.machine, batch=many, precision=known(asked.machine, "fp16"))


def what(est: Any, usual: str, asked: Asked) -> str:
    """Batch or tokens, and precision, of a prediction."""
    return f"{usual if asked.batch == 1 else f'batch {asked.batch}'}, {est.workload.precision}"


def parts(est: Any) -> str:
    """Where its time goes."""
    return binding_note(est).removeprefix("predicted time: ")


def _share(part: float, whole: float | None) -> str:
    return "unknown" if not whole else f"{part / whole:.1%}"


def _matrix_gain(asked: Asked) -> str:
    """What matrix units give over vector units."""
    found = machine(asked.machine)
    matrix, vector = found.peaks.get("fp16"), found.vector_peak("fp32").value if found.peaks else None
    if matrix is None or not matrix.ops_per_s.value or not vector:
        return "the catalogue has no matrix units for it"
    gain = matrix.ops_per_s.value / vector
    return f"matrix units in fp16 have {gain:.0f} times the peak of vector units in fp32"
