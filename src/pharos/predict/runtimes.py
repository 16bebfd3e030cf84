"""Runtimes: what runs a graph on a machine: which kernels it makes of it, and how it launches them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pharos.machines.machine import Machine
from pharos.machines.profile import Profile
from pharos.quantity.errors import InputError, unknown
from pharos.quantity.evidence import Z80, Evidence, Kind, assumed

# How launches compose: the host races the device (see `predict.timeline`), the device runs a recorded graph,
# or the processor calls one kernel after the other itself.
RACE, GRAPH, CALLS = "race", "graph", "calls"
REPORTS = "public reports"
PROCESSORS = ("cpu", "mobile_soc")


@dataclass(frozen=True, slots=True)
class Constant:
    """Seconds (or cycles) of a runtime, with the range it may lie in where nothing was measured.

    Args:
        says: what it is; where: what it rests on; on: kinds of machines that it is counted on.
    """

    value: float
    low: float
    high: float
    says: str
    where: str = REPORTS
    on: tuple[str, ...] = ("gpu",)

    @property
    def error(self) -> float:
        """Standard deviation of the logarithm for which the range is an 80% band."""
        return math.log(self.high / self.low) / (2 * Z80) if self.low > 0 else 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """One runtime.

    Args:
        kinds: of machines that it runs on.
        fusion: its rules in `passes.fusions.FUSIONS`.
        composes: "race", "graph" or "calls".
        constants: what a profile may give under `runtime: {NAME: ...}` and what is assumed otherwise.
        says: in a line. assumes: what its model leaves out or takes for granted.
    """

    name: str
    kinds: tuple[str, ...]
    fusion: str
    composes: str
    says: str
    constants: Mapping[str, Constant] = field(default_factory=dict)
    assumes: tuple[str, ...] = ()


_GUARDS = Constant(20e-6, 10e-6, 30e-6, "checking a call's guards")
_GRAPH = Constant(7.5e-6, 5e-6, 10e-6, "starting a recorded graph")
_GAP = Constant(
    0.0, 0.0, 1.3e-6, "between dependent kernels, beyond the launch that is in their fitted times"
)
_WAIT = Constant(3e-6, 1.5e-6, 6e-6, "from the host's launch to the kernel's start")
_SYNC = Constant(7e-6, 5e-6, 10e-6, "waiting for the last kernel")

RUNTIMES: dict[str, Runtime] = {
    r.name: r
    for r in (
        Runtime(
            name="compiled",
            kinds=("gpu", "cpu", "tpu", "npu", "mobile_soc"),
            fusion="inductor",
            composes=GRAPH,
            says="torch.compile: loops fused with each other and behind products; launches recorded once on "
            "a GPU",
            constants={"guard_s": _GUARDS, "graph_s": _GRAPH, "gap_s": _GAP},
            assumes=(
                "products with epilogues, as its templates make them (max-autotune); without, they are loops "
                "of their own",
                "mode reduce-overhead on a GPU, which records launches",
            ),
        ),
        Runtime(
            name="eager",
            kinds=("gpu", "cpu", "mobile_soc"),
            fusion="none",
            composes=RACE,
            says="PyTorch, operator by operator; on a GPU the host's dispatch races the device",
            constants={
                "op_s": Constant(9.6e-6, 8e-6, 20e-6, "the host's part of an operator"),
                "view_s": Constant(2e-6, 1e-6, 4e-6, "the host's part of a view"),
                "wait_s": _WAIT,
                "sync_s": _SYNC,
                "page_s": Constant(
                    0.7e-6,
                    0.25e-6,
                    1.5e-6,
                    "the first touch of a page of a fresh result",
                    "0.1 to 0.5 us on bare metal by public reports, 1.2 to 1.5 us measured on a "
                    "virtual machine",
                    PROCESSORS,
                ),
            },
            assumes=("one kernel an operator of the graph, no gradients",),
        ),
        Runtime(
            name="cudagraph",
            kinds=("gpu",),
            fusion="none",
            composes=GRAPH,
            says="eager's kernels recorded once and launched as one graph",
            constants={"graph_s": _GRAPH, "gap_s": _GAP},
        ),
        Runtime(
            name="tensorrt",
            kinds=("gpu",),
            fusion="tensorrt",
            composes=RACE,
            says="batch norm folded, elementwise operators behind products, products of one input side by "
            "side; launched from C++",
            constants={
                "op_s": Constant(2.5e-6, 2e-6, 5e-6, "the host's part of a kernel"),
                "call_s": Constant(10e-6, 5e-6, 20e-6, "the host's part of a call"),
                "wait_s": _WAIT,
                "sync_s": _SYNC,
            },
            assumes=("kernels as fast as those of the libraries that the machine's profile was fitted on",),
        ),
        Runtime(
            name="onnxruntime",
            kinds=("cpu", "mobile_soc"),
            fusion="onnxruntime",
            composes=CALLS,
            says="convolution with batch norm, sum and activation; matrix products with activation; skip and "
            "norm",
            constants={
                "op_s": Constant(0.0, 0.0, 5e-6, "a node's dispatch, beyond the fitted launch", on=PROCESSORS)
            },
        ),
        Runtime(
            name="ncnn",
            kinds=("cpu", "mobile_soc"),
            fusion="usual",
            composes=CALLS,
            says="convolution and fully connected with batch norm and activation, in place",
            constants={
                "op_s": Constant(
                    0.0, 0.0, 5e-6, "a layer's dispatch, beyond the fitted launch", on=PROCESSORS
                )
            },
            assumes=(
                "additions fused too, as the efficiencies were fitted: ncnn makes them layers of their own",
            ),
        ),
        Runtime(
            name="tflite",
            kinds=("cpu", "mobile_soc"),
            fusion="tflite",
            composes=CALLS,
            says="XNNPACK: convolution, depthwise and fully connected with batch norm and clamp",
            constants={
                "op_s": Constant(0.0, 0.0, 5e-6, "a node's dispatch, beyond the fitted launch", on=PROCESSORS)
            },
        ),
        Runtime(
            name="tflm",
            kinds=("mcu",),
            fusion="tflite",
            composes=CALLS,
            says="an interpreter on a microcontroller: convolution and fully connected with clamp, one arena",
            constants={
                "op_cycles": Constant(
                    200.0,
                    100.0,
                    400.0,
                    "cycles an operator costs the interpreter",
                    "overheads of whole networks in arXiv:2010.08678, not re-read",
                    ("mcu",),
                )
            },
            assumes=("flash with weights, SRAM with the arena; the interpreter's own memory unknown",),
        ),
    )
}
# Taken where neither the caller nor the machine's profile names one.
DEFAULTS = {"gpu": "compiled", "cpu": "compiled", "tpu": "compiled", "npu": "compiled", "mobile_soc": "ncnn",
            "mcu": "tflm"}  # fmt: skip
KINDS = {
    "gpu": "GPU",
    "cpu": "CPU",
    "tpu": "TPU",
    "npu": "NPU",
    "mobile_soc": "mobile chip",
    "mcu": "microcontroller",
}
# What a graph does whose host cannot keep up with the device.
RELIEF = "cudagraph"
# Added to the error where efficiencies were fitted with another runtime's kernels.
OTHER_RUNTIME_ERROR = 0.3


def runtimes_of(kind: str) -> list[str]:
    """Names of the runtimes that a kind of machine has, the default first."""
    names = [r.name for r in RUNTIMES.values() if kind in r.kinds]
    return sorted(names, key=lambda n: n != DEFAULTS.get(kind))


def runtime_of(name: str | None, machine: Machine, fitted_with: str = "") -> Runtime:
    """The runtime of a name on a machine; by default that of its efficiencies' fit, or its kind's.

    Raises:
        UnknownName: no such runtime, with the nearest.
        InputError: it does not run on machines of the kind, with those that do.
    """
    if name is None:
        fitting = machine.kind in RUNTIMES[fitted_with].kinds if fitted_with in RUNTIMES else False
        name = "eager" if machine.calibration else fitted_with if fitting else DEFAULTS[machine.kind]
    allowed = runtimes_of(machine.kind)
    if name not in RUNTIMES:
        raise unknown("runtime", name, list(RUNTIMES))
    if name not in allowed:
        raise InputError(
            f"runtime {name} does not run on {machine.id}, a {KINDS[machine.kind]}",
            hint=f"there: {', '.join(allowed)}",
        )
    return RUNTIMES[name]


@dataclass(frozen=True, slots=True)
class Settled:
    """A runtime's constants on a machine: from its profile where that has them, else assumed."""

    values: dict[str, float]
    errors: dict[str, float]
    evidence: tuple[Evidence, ...]
    by_class: dict[str, float]

    def __getitem__(self, name: str) -> float:
        return self.values.get(name, 0.0)


def settle(runtime: Runtime, machine: Machine, profile: Profile) -> Settled:
    """Constants of a runtime as far as they hold on a kind of machine."""
    given: Mapping[str, Any] = profile.runtimes.get(runtime.name, {})
    values: dict[str, float] = {}
    errors: dict[str, float] = {}
    told: list[str] = []
    for name, constant in runtime.constants.items():
        if machine.kind not in constant.on:
            continue
        if name in given:
            values[name], errors[name] = float(given[name]), float(given.get("error") or constant.error)
        else:
            values[name], errors[name] = constant.value, constant.error
            if constant.value:
                told.append(f"{constant.says} {_range(name, constant)}")
    evidence = []
    if told:
        evidence.append(assumed(f"{runtime.name}: {'; '.join(told)}", max(errors.values())))
    if given.get("source"):
        evidence.append(
            Evidence(kind=Kind(given["known"]), where=str(given["source"]), error=given.get("error"))
        )
    by_class = {str(k): float(v) for k, v in (given.get("op_s_by_class") or {}).items()}
    return Settled(values, errors, tuple(evidence), by_class)


def _range(name: str, constant: Constant) -> str:
    low, high, unit = constant.low, constant.high, "cycles"
    if name.endswith("_s"):
        low, high, unit = 1e6 * low, 1e6 * high, "us"
    return f"{low:g} to {high:g} {unit}"
