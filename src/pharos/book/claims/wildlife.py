"""Section 1.10, Example 1.4: the wildlife camera, its candidates, its memory, time and energy."""

from pharos.book.answer import told, unknown
from pharos.book.chapter import printed
from pharos.book.sums import MB, counted, graph, machine
from pharos.graph.tensor import Tensor
from pharos.passes.memory import liveness

CHOSEN = "mobilenet_v2(width=0.75)"
WITH_50_CLASSES = "mobilenet_v2(width=0.75, classes=50)"
CAMERA = "rpi3_cortex_a53"


def _input(width, height, side):
    made = graph("mobilenet_v2").inputs[0].shape
    frame = Tensor((height, width))
    return told(
        [width, height, *made[2:]],
        f"{frame.numel / Tensor((side, side)).numel:.1f} times fewer pixels, in another aspect ratio",
    )


def milliseconds(operations: float, gops: float) -> float:
    """Time of so many operations at a rate."""
    return 1e3 * operations / (gops * 1e9)


def _too_large(system_mb, ram_mb, gops, limit_s):
    found = counted("resnet50")
    whole = found.weight_bytes / MB + liveness(graph("resnet50")).peak / MB + system_mb
    seconds = milliseconds(found.flops, gops) / 1e3
    return told(
        whole > ram_mb,
        f"weights, activations and system take {whole:.0f} of {ram_mb} MB. What it misses is the time:"
        f" {seconds:.1f} s at {gops} GOP/s against {limit_s} s, {seconds / 2:.1f} s if a MAC were one"
        " operation",
    )


def _candidate():
    found = counted("mobilenet_v1")
    return told(
        [found.parameters, found.flops],
        "MACs are printed as FLOPs; the candidate is V1, what is chosen V2",
        MACs=[found.parameters, found.macs],
    )


def _spotter():
    found = counted("ds_cnn_m")
    return told(
        [found.parameters, found.flops, _classes()],
        "DS-CNN M; 200 K is its memory class in bytes. The self-check says 2 to 10 classes",
    )


def _classes() -> int:
    return graph("ds_cnn_m").outputs[0].shape[-1]


def _chosen_size():
    base = counted("mobilenet_v2").parameters
    head = counted("mobilenet_v2").lines[-1].parameters
    return told(
        counted(CHOSEN).parameters,
        "1,000 classes",
        with_the_50_classes_of_the_case=counted(WITH_50_CLASSES).parameters,
        of_width_1_without_its_classifier=base - head,
    )


def _chosen_work():
    small = counted("mobilenet_v2(width=0.75, resolution=192)")
    return told(counted(CHOSEN).flops, "at 224x224", MACs=counted(CHOSEN).macs, MACs_at_192x192=small.macs)


def sizes(name: str) -> list[float]:
    """MB of a network's weights in fp32 and int8."""
    return [counted(name, precision=p).weight_bytes / MB for p in ("fp32", "int8")]


def _chosen_bytes(params):
    each = [Tensor((int(params),), p).nbytes / MB for p in ("fp32", "int8")]
    return told(
        sizes(CHOSEN),
        "of the counted parameters",
        with_50_classes=sizes(WITH_50_CLASSES),
        of_the_printed_2_2_M=each,
    )


def largest_map_mb() -> float:
    """The 224x224x64 map that the example takes for the peak, in fp32."""
    return Tensor((1, 64, 224, 224)).nbytes / MB


def _activations():
    real = liveness(graph(CHOSEN, precision="int8")).peak / MB
    return told(
        largest_map_mb(),
        "no layer of MobileNetV2 has such a map, and the model is in int8: its activations peak at"
        f" {real:.1f} MB",
    )


def total_mb(params: float, system_mb: float) -> float:
    """Model in int8, the example's map and the system, in MB."""
    return Tensor((int(params),), "int8").nbytes / MB + largest_map_mb() + system_mb


def _total(params, system_mb):
    return told(total_mb(params, system_mb), "the printed terms, 2.2 + 12 + 50, add up to 64.2")


def _time(gops):
    found = counted(CHOSEN)
    return told(
        milliseconds(found.flops, gops),
        "of the counted operations, two a MAC, at the printed rate",
        with_a_MAC_as_one_operation=milliseconds(found.macs, gops),
        of_the_printed_count=milliseconds(printed("wild-mnv2-075-flops"), gops),
    )


def _rate():
    found = machine(CAMERA)
    cores, whole = found.cores.value, found.peak("fp32").value
    assert cores is not None
    assert whole is not None
    return unknown(
        "int8 on this core is not in the catalogue, and a sustained rate must be measured",
        fp32_peak_of_a_core=whole / cores / 1e9,
    )


def _no_gpu(budget_w):
    board, module = machine("nvidia_t4"), machine("nvidia_jetson_orin_nano_8gb")
    assert board.max_W.value
    return told(
        budget_w < board.max_W.value,
        f"the most frugal board of the catalogue, {board.name}, may take {board.max_W.value:.0f} W, "
        f"the module {module.name} {module.max_W.value or 0:.0f} W; with duty cycles an average can be lower",
    )


CLAIMS = {
    "wild-input": _input,
    "wild-constraints": lambda: unknown(
        "requirements, not results; `examples/wildlife/contract.yaml` holds them as a contract"
    ),
    "wild-resnet50-too-large": _too_large,
    "wild-mnv1": _candidate,
    "wild-mnv1-17mb": lambda: sizes("mobilenet_v1"),
    "wild-kws-12class": _spotter,
    "wild-mnv2-075-params": _chosen_size,
    "wild-mnv2-075-flops": _chosen_work,
    "wild-mnv2-075-mb": _chosen_bytes,
    "wild-activations-12mb": _activations,
    "wild-total-65mb": _total,
    "wild-ram-fits": lambda params, system_mb, ram_mb: total_mb(params, system_mb) < ram_mb,
    "wild-latency-75ms": _time,
    "wild-a53-2gops": _rate,
    "wild-15mj": lambda milliwatts, milliseconds: milliwatts * milliseconds / 1e3,
    "wild-1p5j-day": lambda milliwatts, milliseconds, a_day: milliwatts * milliseconds * a_day / 1e6,
    "wild-under-100ms": _time,
    "wild-rules-out-gpu": _no_gpu,
    "wild-reserve-10": lambda: unknown("advice, not a quantity"),
    "sc-wild-kws-classes": lambda: told(
        _classes(), "outputs of the published network, and 12 in the example itself"
    ),
}
