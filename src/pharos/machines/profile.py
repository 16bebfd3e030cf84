"""Profile: how much of a machine's peak each class of operator reaches, and with what error."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pharos.facts.names import folder
from pharos.facts.reading import read_yaml
from pharos.facts.tables import board_energy, table
from pharos.machines.machine import Machine
from pharos.quantity.dtypes import BITS
from pharos.quantity.errors import InputError
from pharos.quantity.evidence import Evidence, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Constants of one operator class, for the kernel-time formula of `predict.kernel`.

    Args:
        compute: fraction of the dense peak reached by large work.
        bandwidth: fraction of the specified memory bandwidth reached by large transfers.
        bandwidth_bytes_per_s: the achieved bandwidth itself, where no specification is known.
        peak_dtype: the type whose peak `compute` is a fraction of; None means the work's own.
        launch_s: time of one kernel that does nothing.
        sharpness: p of the norm that joins compute and memory time; large p is max().
        width_half: outputs at which the kernel fills half the machine.
        vector: share of the vector peak that arithmetic beside the products reaches.
        near: activations that fit in half of the cache come so many times faster than from the memory.
        reduction_half: MACs per output at which half of `compute` is reached; short sums are slow.
        error: standard deviation of log(measured / predicted) on cases left out of the fit.
        evidence: what it was fitted on, or why it is assumed.
        form: the closed form of `predict.kernels` that takes over, with its `constants`, `correction` (the
            columns of a `predict.kernels.base.Residual`) and `errors` by regime; None for the formula of
            `predict.kernel`, whose constants are the ones above.
        anchors: instead of constants, those of several devices with their figures, to be blended for this
            one by `predict.kernels.base.blend`.
        slows: powers by which it takes longer with a machine's pace; see `Machine.pace`.
    """

    compute: float
    bandwidth: float
    launch_s: float
    sharpness: float
    error: float
    evidence: Evidence
    form: str | None = None
    constants: dict[str, float] = field(default_factory=dict)
    correction: dict[str, tuple[float, ...]] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    anchors: tuple[dict[str, Any], ...] = ()
    width_half: float = 0.0
    reduction_half: float = 0.0
    vector: float = 1.0
    near: float = 1.0
    bandwidth_bytes_per_s: float | None = None
    peak_dtype: str | None = None
    dtypes: tuple[str, ...] = ()
    phase: str | None = None
    slows: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyModel:
    """Dynamic energy per operation and byte at the board, and constant power while it computes.

    P = min(max_W, constant_W + flops/s x compute + bytes/s x data).

    Args:
        compute_J_per_flop: of matrix units, by type; types that are not there are scaled from fp16.
        vector_J_per_flop: of vector units in fp32; None where not told apart.
        data_J_per_byte, cache_J_per_byte: of the main memory, and of the last cache on the chip.
        node_nm: the process of the board that was measured; None where it needs no scaling to this one.
        memory: memory technology of the board that was measured.
    """

    compute_J_per_flop: dict[str, float]
    data_J_per_byte: float
    constant_W: float | None
    error: float
    evidence: Evidence
    cache_J_per_byte: float | None = None
    vector_J_per_flop: float | None = None
    node_nm: float | None = None
    memory: str | None = None


# Classes that run as another where a profile tells them not apart.
STAND_INS = {"pointwise": "gemm", "grouped_conv": "conv"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Curves by operator class, most specific source first.

    Args:
        runtimes: constants of runtimes by their names, see `predict.runtimes`.
        fitted_with: the runtime whose kernels the curves were fitted with; "" where they hold for any.
        threads: of a CPU, the `cores` that launches were fitted with and what doubling them costs one
            (`fork_s`).
    """

    id: str
    classes: dict[str, tuple[Curve, ...]]
    runtimes: dict[str, dict[str, Any]] = field(default_factory=dict)
    energy: EnergyModel | None = None
    fitted_with: str = ""
    threads: dict[str, Any] = field(default_factory=dict)

    def curves(self, cost_class: str, dtype: str, phase: str, kind: str = "") -> list[Curve]:
        """The curves for an operator class under a dtype and phase, the most fitting first.

        Args:
            kind: of the operator, which may have curves of its own, "class.kind".

        Raises:
            InputError: the profile has no curve for the class.
        """
        chain = (f"{cost_class}.{kind}", cost_class, STAND_INS.get(cost_class, ""), "elementwise")
        curves = next((self.classes[name] for name in chain if name in self.classes), None)
        if not curves:
            raise InputError(f"profile {self.id} has no curve for {cost_class}")

        def distance(curve: Curve) -> tuple[bool, bool, bool]:
            wrong_phase = curve.phase is not None and curve.phase != phase
            return (wrong_phase, bool(curve.dtypes) and dtype not in curve.dtypes, curve.phase is None)

        return sorted(curves, key=distance)

    def curve(self, cost_class: str, dtype: str, phase: str) -> Curve:
        """The most fitting curve; see `curves`."""
        return self.curves(cost_class, dtype, phase)[0]


def read_curve(data: Mapping[str, Any], source: str) -> Curve:
    """A curve from an entry of a profile's file."""
    known = Kind(data.get("known", "assumed"))
    where = str(data.get("fitted_on") or data.get("source") or source)
    rows = f", {data['rows']} rows" if data.get("rows") else ""
    constants = {str(k): float(v) for k, v in (data.get("constants") or {}).items()}
    # a correction is written as one line of numbers a column: YAML would take long over a thousand scalars
    correction = {
        str(k): tuple(map(float, str(v).split())) for k, v in (data.get("correction") or {}).items()
    }
    return Curve(
        form=data.get("form"),
        constants=constants,
        correction=correction,
        errors={str(k): float(v) for k, v in (data.get("errors") or {}).items()},
        anchors=tuple(data.get("anchors") or ()),
        compute=float(data.get("compute", constants.get("peak", 1.0))),
        bandwidth=float(data.get("bandwidth") or constants.get("bandwidth", 1.0)),
        launch_s=float(data.get("launch_s") or constants.get("launch_us", 0.0) * 1e-6),
        sharpness=float(data.get("sharpness") or 3.0),
        error=float(data["error"]),
        evidence=Evidence(kind=known, where=where + rows, error=float(data["error"])),
        width_half=float(data.get("width_half") or 0.0),
        reduction_half=float(data.get("reduction_half") or 0.0),
        vector=float(data.get("vector") or 1.0),
        near=float(data.get("near") or 1.0),
        bandwidth_bytes_per_s=data.get("bandwidth_bytes_per_s"),
        peak_dtype=data.get("peak_dtype"),
        dtypes=tuple(data.get("dtypes") or ()),
        phase=data.get("phase"),
        slows=tuple(map(float, data.get("slows") or ())),
    )


def _energy(data: dict[str, Any]) -> EnergyModel:
    """A row of the board-level energies, or one active power; with the error of using it here."""
    error = float(data["error"])
    if "active_W" in data:
        return EnergyModel(
            compute_J_per_flop=dict.fromkeys(BITS, 0.0),
            data_J_per_byte=0.0,
            constant_W=float(data["active_W"]),
            error=error,
            evidence=Evidence(kind=Kind(data["known"]), where=str(data["source"]), error=error),
        )
    row = board_energy(data["row"])
    published = f"{table('energy')['gpu_system_level']['source']}: {data.get('source', data['row'])}"
    rows = f", {data['rows']} rows" if data.get("rows") else ""
    per_flop = float(data.get("compute_J_per_flop", row["fp16_matrix_J_per_flop"]))
    return EnergyModel(
        compute_J_per_flop={"fp16": per_flop, "bf16": per_flop},
        data_J_per_byte=float(data.get("data_J_per_byte", 8 * float(row["hbm_J_per_bit"]))),
        constant_W=data.get("constant_W", row.get("constant_power_W")),
        error=error,
        evidence=Evidence(
            kind=Kind(data["known"]), where=str(data.get("fitted_on") or published) + rows, error=error
        ),
        cache_J_per_byte=8 * float(row["l2_J_per_bit"]),
        # an fp32 operation moves half the bits of an fp64 one
        vector_J_per_flop=float(row["fp64_vector_J_per_flop"]) / 2,
        node_nm=data.get("node_nm"),
        memory=data.get("memory"),
    )


_APPLIES = re.compile(r"^applies_to: *\{ *(machine|core|kind): *['\"]?(.+?)['\"]? *\}", re.M)


@cache
def _scopes() -> tuple[tuple[Path, str, str], ...]:
    """Each profile's file and what it applies to; one line is read, the rest only when needed."""
    found = []
    for path, _ in folder("profiles").values():
        match = _APPLIES.search(path.read_text(encoding="utf-8"))
        if match is None:
            raise InputError("has no line 'applies_to: {machine|core|kind: ...}'", where=path.name)
        found.append((path, match[1], match[2]))
    return tuple(found)


@cache
def _read(path: Path) -> dict[str, Any]:
    return read_yaml(path).data


def profile_of(machine: Machine, runtime: str = "") -> Profile:
    """The curves that apply to a machine: its own, then its core's, then its kind's; of a calibrated machine
    those of the runtime with its threads.

    Raises:
        UnknownName: a runtime that the machine was not calibrated for.
    """
    if machine.calibration:
        from pharos.machines.calibration import find_calibration

        return find_calibration(machine.calibration).profile(runtime, int(machine.cores.value or 1))
    matching = []
    for scope, value in (("machine", machine.id), ("core", machine.core_kind), ("kind", machine.kind)):
        matching += [_read(path) for path, kind, name in _scopes() if kind == scope and name == value]
    if not matching:
        raise InputError(f"no profile covers a machine of kind {machine.kind}")
    classes: dict[str, tuple[Curve, ...]] = {}
    runtimes: dict[str, dict[str, Any]] = {}
    energy = None
    for data in matching:
        source = str(data.get("source") or "; ".join(map(str, data.get("sources") or ())))
        for name, entries in (data.get("classes") or {}).items():
            # more specific curves come first, and win ties in `Profile.curve`
            classes[name] = classes.get(name, ()) + tuple(read_curve(e, source) for e in entries)
        runtimes = {**(data.get("runtime") or {}), **runtimes}
        if energy is None and data.get("energy"):
            energy = _energy(data["energy"])
    # of the file that the curves come from first
    threads = next((d.get("threads") or {} for d in matching if d.get("classes")), {})
    fitted_with = next((str(d["fitted_with"]) for d in matching if d.get("fitted_with")), "")
    return Profile(id=matching[0]["id"], classes=classes, runtimes=runtimes, energy=energy,
                   fitted_with=fitted_with, threads=dict(threads))  # fmt: skip
