"""Calibration: what `pharos calibrate` found on a machine, as a file that can be shared, read back."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from pharos.facts.reading import Document, read_json
from pharos.machines.machine import HERE, HERE_CUDA, Known, Machine, read_machine
from pharos.machines.profile import Curve, Profile, profile_of, read_curve
from pharos.quantity.errors import InputError, unknown
from pharos.quantity.evidence import Evidence, Kind

SCHEMA = "pharos/calibration@1"


@dataclass(frozen=True, slots=True)
class Run:
    """One way of running on the machine: a runtime with a number of threads.

    Args:
        classes: curves by operator class, or by class and kind ("elementwise.gelu").
        host: seconds a call (`call_s`), a kernel (`kernel_s`) and a view (`view_s`) take beside the kernels.
        ops_per_s, bytes_per_s: the best rates of a large product and of a large copy.
        pulse_s: the machine's usual pulse while it was calibrated, of one core and of all in use together.
    """

    runtime: str
    threads: int
    classes: dict[str, tuple[Curve, ...]]
    host: dict[str, Any]
    ops_per_s: float
    bytes_per_s: float
    pulse_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Calibration:
    """A calibrated machine: the machine as measured, and its runs."""

    machine: Machine
    runs: tuple[Run, ...]
    taken: dict[str, Any]
    path: str

    def at(self, threads: int | None = None) -> Machine:
        """The machine with so many threads at work (the most that were calibrated by default).

        Raises:
            InputError: a number of threads that was not calibrated.
        """
        known = sorted({run.threads for run in self.runs})
        if self.machine.kind == "gpu":
            return replace(self.machine, calibration=self.path)
        threads = threads or known[-1]
        if threads not in known:
            hint = f"calibrated: {', '.join(map(str, known))}; `pharos calibrate --threads {threads}` adds it"
            raise InputError(f"{self.machine.id} was not calibrated with {threads} threads", hint=hint)
        run = next(run for run in self.runs if run.threads == threads)
        proof = self.evidence("best rates of large products and copies")
        peak = replace(self.machine.peaks["fp32"], ops_per_s=Known(value=run.ops_per_s, evidence=proof))
        return replace(
            self.machine, cores=Known(value=float(threads), evidence=proof), peaks={"fp32": peak},
            vector_peaks={"fp32": Known(value=run.ops_per_s, evidence=proof)},
            bandwidth_bytes_per_s=Known(value=run.bytes_per_s, evidence=proof), calibration=self.path,
        )  # fmt: skip

    def pace(self, runtime: str, threads: int, pulse_s: Sequence[float]) -> tuple[float, ...]:
        """How many times longer a pulse takes than the usual one of a runtime's calibration.

        Args:
            pulse_s: of one core and of all in use, as the calibration took it.
        """
        run = next((r for r in self.runs if (r.runtime, r.threads) == (runtime, threads)), None)
        known = run.pulse_s if run is not None else ()
        return tuple([now / usual for now, usual in zip(pulse_s, known, strict=True)]) if known else ()

    def evidence(self, what: str) -> Evidence:
        """How a figure of it is known."""
        return Evidence(kind=Kind.MEASURED, where=f"{what}, {self.machine.name}, {self.taken['at']}")

    def profile(self, runtime: str, threads: int) -> Profile:
        """The curves of a runtime; a compiled model's stand in for each other's.

        Raises:
            UnknownName: a runtime that was not calibrated.
        """
        on_gpu = self.machine.kind == "gpu"
        known = [run for run in self.runs if on_gpu or run.threads == threads]
        run = next((run for run in known if run.runtime == runtime), None)
        if run is None:
            where = f"calibration of {self.machine.id}" + ("" if on_gpu else f" with {threads} threads")
            raise unknown("runtime", runtime, [r.runtime for r in known], where=where)
        host = {**run.host, "known": "measured", "source": self.evidence("time between kernels").where}
        if on_gpu:
            # what was not calibrated, and other types, are as other GPUs have them
            prior = profile_of(replace(self.machine, calibration=""))
            names = dict.fromkeys((*run.classes, *prior.classes))
            classes = {n: (*run.classes.get(n, ()), *prior.classes.get(n, ())) for n in names}
            return Profile(
                id=f"{self.machine.id}, {runtime}", classes=classes,
                runtimes={runtime: host}, energy=prior.energy,
            )  # fmt: skip
        return Profile(
            id=f"{self.machine.id}, {runtime}, {threads} threads", classes=run.classes,
            runtimes={runtime: host},
        )  # fmt: skip


def place(name: str = HERE) -> Path:
    """The file of this machine, or of its GPU: in PHAROS_DATA's folder, or the user's data folder."""
    file = "calibration.json" if name == HERE else "calibration-cuda.json"
    given = os.environ.get("PHAROS_DATA")
    if given:
        return Path(given) / file
    from platformdirs import user_data_path

    return user_data_path("pharos", appauthor=False) / file


def find_calibration(name: str = HERE) -> Calibration:
    """The calibration of this machine, or one from a file.

    Raises:
        InputError: there is none, or the file is none.
    """
    path = place(name) if name in (HERE, HERE_CUDA) else Path(name)
    if name == HERE and not path.is_file():
        raise InputError("this machine is not calibrated", hint="run `pharos calibrate` once, it takes 90 s")
    if name == HERE_CUDA and not path.is_file():
        hint = "run `pharos calibrate --device cuda` once, it takes 90 s"
        raise InputError("this machine's GPU is not calibrated", hint=hint)
    return _read(str(path), path.stat().st_mtime_ns if path.is_file() else 0)


@cache
def _read(path: str, _changed: int) -> Calibration:
    return read_calibration(read_json(path))


def read_calibration(document: Document) -> Calibration:
    """A calibration from its file's data.

    Raises:
        InputError: not of the form that `pharos calibrate` writes.
    """
    data = document.data
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise InputError(f"is no calibration: its schema must be {SCHEMA!r}", where=document.path)
    try:
        taken = dict(data["taken"])
        machine = read_machine(Document(data["machine"], document.path, {}))
        runs = tuple([_run(each, machine, str(taken["at"])) for each in data["runs"]])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"is damaged: {type(error).__name__} {error}", where=document.path) from None
    if not runs:
        raise InputError("holds no runs", where=document.path)
    return Calibration(machine, runs, taken, document.path)


def _run(data: Mapping[str, Any], machine: Machine, at: str) -> Run:
    classes = {
        name: tuple([read_curve(entry, f"calibration of {machine.name}, {at}") for entry in entries])
        for name, entries in data["classes"].items()
    }
    return Run(
        runtime=str(data["runtime"]), threads=int(data["threads"]), classes=classes, host=dict(data["host"]),
        ops_per_s=float(data["ops_per_s"]), bytes_per_s=float(data["bytes_per_s"]),
        pulse_s=tuple(map(float, data.get("pulse_s") or ())),
    )  # fmt: skip
