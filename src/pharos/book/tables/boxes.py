"""The five lighthouses' tables: what each is, what binds it, beside the chapter's boxes."""

from collections.abc import Callable
from typing import Any

from pharos.book.claims.recsys import is_network_first
from pharos.book.claims.vision import kernel_share
from pharos.book.sums import as_run, bandwidth, counted, estimate, machine, memory, per_byte
from pharos.book.table import COUNTED, DERIVED, LOOKED_UP, PREDICTED, Asked, Cell, Filled, cell, table
from pharos.book.tables.lighthouses import BOARD, CONTEXT, MACS, binding_note, known, memory_of
from pharos.decide.accuracy import published
from pharos.quantity.units import fmt, fmt_count

COLUMNS = ("property", "value", "implication")
# The board that the spotter's power is told of.
LOW = "stm32l4r5_cortex_m4"
Pair = tuple[Cell, Cell]
GB, MB = 1e9, 1e6


def _filled(rows: dict[str, Pair], setting: str, note: str = "") -> Filled:
    return Filled(columns=COLUMNS, rows=tuple(rows.items()), setting=setting, note=note)


def _at(key: str) -> Callable[..., Cell]:
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
    name, at = asked.model("resnet50"), _at("1.1")
    found = counted(name)
    est = _estimate(asked, name, batch=32)
    three, one = kernel_share(name, 3), kernel_share(name, 1)
    net = as_run(_estimate(asked, name))
    peak = machine(asked.machine)
    binds = str(est.binding)
    return _filled(
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
                    f"{binds} ({_what(est, 'batch 32', asked)})",
                    PREDICTED,
                    note=binding_note(est),
                ),
                at("constraint", "implication", _parts(est), _parts(est), PREDICTED),
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
    name, other, at = asked.model("mobilenet_v2"), asked.model("resnet50"), _at("1.2")
    found, large = counted(name), counted(other)
    est = _estimate(asked, name)
    smaller, fewer = large.parameters / found.parameters, large.flops / found.flops
    mine, theirs = top1(name), top1(other)
    gap = ""
    if mine and theirs:
        gap = (f"; published top-1 {mine[0]:.1%} to {mine[1]:.1%} against {theirs[0]:.1%} to "
               f"{theirs[1]:.1%}")  # fmt: skip
    binds = str(est.binding)
    return _filled(
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
                    f"{binds} ({_what(est, 'batch 1', asked)})",
                    PREDICTED,
                    note=binding_note(est),
                ),
                at(
                    "constraint",
                    "implication",
                    float(est.latency.value),
                    f"{fmt(float(est.latency.value), 's')} an image",
                    PREDICTED,
                ),
            ),
            "bottleneck": (
                at("bottleneck", "value", binds, binds, PREDICTED, note=binding_note(est)),
                at("bottleneck", "implication", _parts(est), _parts(est), PREDICTED),
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
    name, at = asked.model("ds_cnn_m"), _at("1.3")
    found = counted(name)
    widths = {p: float(counted(name, precision=p).weight_bytes) for p in ("fp32", "int8", "int4")}
    est = estimate(name, BOARD, precision="int8")
    small = estimate(name, LOW, precision="int8")
    watts = small.power_W.value
    room = memory_of(BOARD)
    note = "the published DS-CNN M; 200 K is its memory class in bytes"
    return _filled(
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
                    value=float(est.latency.value),
                    text=f"{fmt(float(est.latency.value), 's')} on {machine(BOARD).name}",
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


@table("1.4", "gpt2-xl", "Lighthouse 1.4: GPT-2 XL", "1.6", heeds=("machine", "batch"))
def gpt2(asked: Asked) -> Filled:
    """Size, work a token, what binds each phase, tokens a second by machine."""
    name, at = asked.model("gpt2-xl"), _at("1.4")
    found = counted(name, "decode", context=1)
    precision = known(asked.machine, "fp16")
    step = estimate(name, asked.machine, "decode", asked.batch, CONTEXT, precision)
    prompt = estimate(name, asked.machine, "prefill", 32, CONTEXT, precision)
    binds = str(step.binding)
    rates = []
    for on in dict.fromkeys((asked.machine, "nvidia_h100_sxm5", "nvidia_v100_sxm2_16gb", "apple_m2_max")):
        known_as = known(on, "fp16")
        rate = estimate(name, on, "decode", 1, CONTEXT, known_as).throughput_per_s
        most = bandwidth(on) / float(counted(name, precision=known_as).weight_bytes)
        rates.append((machine(on).name, float(rate), most))
    by = {
        p: per_byte(counted(name, "decode", context=1, precision=p), "weights_only") for p in ("fp32", "fp16")
    }
    fits = found.weight_bytes < memory(asked.machine)
    read, taken = float(counted(name, precision=precision).weight_bytes), float(step.latency.value)
    return _filled(
        {
            "parameters": (
                at("parameters", "value", found.parameters, fmt_count(found.parameters, 4)),
                at(
                    "parameters",
                    "implication",
                    str(step.regime),
                    f"reading {fmt(read, 'B')} at full bandwidth takes "
                    f"{read / bandwidth(asked.machine) / taken:.0%} of a "
                    "token's predicted time",
                    PREDICTED,
                ),
            ),
            "model size": (
                at("model size", "value", found.weight_bytes, f"{fmt(found.weight_bytes, 'B')} in fp32"),
                at(
                    "model size",
                    "implication",
                    fits,
                    f"{'fits' if fits else 'does not fit'} {machine(asked.machine).name}; at most "
                    f"{bandwidth(asked.machine) / found.weight_bytes:.0f} tokens/s in fp32",
                ),
            ),
            "compute": (
                at(
                    "compute",
                    "value",
                    found.flops,
                    f"{fmt_count(found.macs)} MACs = {fmt_count(found.flops)} FLOPs a token",
                ),
                at("compute", "implication", _parts(step), _parts(step), PREDICTED),
            ),
            "constraint": (
                at(
                    "constraint",
                    "value",
                    binds,
                    f"{binds} ({_what(step, f'{CONTEXT:,} tokens', asked)})",
                    PREDICTED,
                    note=binding_note(step),
                ),
                at(
                    "constraint",
                    "implication",
                    {n: r for n, r, _ in rates},
                    "; ".join(f"{n} {r:.0f} of at most {m:.0f} tokens/s" for n, r, m in rates),
                    PREDICTED,
                ),
            ),
            "profile": (
                at(
                    "profile",
                    "value",
                    by["fp32"],
                    f"{by['fp32']:.2g} FLOP/B in fp32, {by['fp16']:.2g} in fp16",
                    DERIVED,
                    note="1 is of fp16 weights; the same box has the 6 GB of fp32",
                ),
                at(
                    "profile",
                    "implication",
                    [str(prompt.regime), str(step.regime)],
                    f"32 prompts of {CONTEXT:,} at once: {prompt.regime}; a token: {step.regime}",
                    PREDICTED,
                ),
            ),
        },
        machine(asked.machine).name,
    )


@table("1.5", "dlrm", "Lighthouse 1.5: DLRM", "1.7", heeds=("machine", "batch"))
def dlrm(asked: Asked) -> Filled:
    """Elements of the tables, bytes, devices, what binds first."""
    name, at = asked.model("dlrm-mlperf"), _at("1.5")
    found = counted(name)
    tables = [line for line in found.lines if line.kind in ("embedding_bag", "embedding")]
    elements = sum(int(line.parameters * line.times) for line in tables)
    rows = sum(int(line.node.op.weights()["weight"][0] * line.times) for line in tables)
    room = memory(asked.machine)
    est = estimate(name, asked.machine, batch=asked.batch, precision="fp32")
    binds, network = str(est.binding), is_network_first().value
    dense = float(found.parameters) - elements
    needed = int(-(-float(found.weight_bytes) // room))
    over = found.weight_bytes > room
    return _filled(
        {
            "embedding tables": (
                at(
                    "embedding tables",
                    "value",
                    elements,
                    f"{fmt_count(elements)} elements, {fmt_count(rows)} rows",
                    note=("MLPerf's DLRM; elements, not rows"),
                ),
                at(
                    "embedding tables",
                    "implication",
                    elements / found.parameters,
                    f"{elements / found.parameters:.2%} of all parameters, {len(tables)} tables",
                ),
            ),
            "model size": (
                at("model size", "value", found.weight_bytes, f"{fmt(found.weight_bytes, 'B')} in fp32"),
                at(
                    "model size",
                    "implication",
                    needed > 1,
                    f"{needed} of {machine(asked.machine).name} by size alone",
                ),
            ),
            "constraint": (
                at(
                    "constraint",
                    "value",
                    binds,
                    f"{binds} ({_what(est, 'batch 1', asked)})",
                    PREDICTED,
                    note=binding_note(est),
                ),
                at(
                    "constraint",
                    "implication",
                    over,
                    f"{fmt(float(found.weight_bytes), 'B')} against {fmt(room, 'B')}",
                ),
            ),
            "bottleneck": (
                at(
                    "bottleneck",
                    "value",
                    "network" if network else "memory-bandwidth",
                    "network, once it is sharded" if network else "gathers, once it is sharded",
                    DERIVED,
                    note="8 A100: the exchange of looked-up rows against their gathering",
                ),
                Cell(
                    value=network,
                    text="the exchange takes longer than the gathers" if network else "gathers take longer",
                    how=DERIVED,
                    printed=cell(("1.5", "bottleneck", "implication"), None).printed,
                ),
            ),
            "profile": (
                Cell(
                    value=elements,
                    text=f"{fmt_count(elements)} sparse, {fmt_count(dense)} dense parameters",
                    how=COUNTED,
                    printed=cell(("1.5", "profile", "value"), None).printed,
                ),
                at(
                    "profile",
                    "implication",
                    float(found.macs),
                    f"{fmt_count(found.macs)} MACs a sample, none of them in the lookups",
                ),
            ),
        },
        f"{machine(asked.machine).name}",
    )


def _estimate(asked: Asked, name: str, batch: int = 1) -> Any:
    many = batch if asked.batch == 1 else asked.batch
    return estimate(name, asked.machine, batch=many, precision=known(asked.machine, "fp16"))


def _what(est: Any, usual: str, asked: Asked) -> str:
    return f"{usual if asked.batch == 1 else f'batch {asked.batch}'}, {est.workload.precision}"


def _parts(est: Any) -> str:
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
