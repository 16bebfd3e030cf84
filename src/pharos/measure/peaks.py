"""Peaks: the most memory that a run takes, as the allocator and the system see it, beside the predicted."""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pharos.facts.reading import Document
from pharos.graph.count import Count
from pharos.machines.machine import HERE, read_machine
from pharos.measure.meters import peak_resident
from pharos.predict.memory import Memory, memory_of
from pharos.quantity.units import fmt

# Differences below this share of a peak need no reason.
SMALL = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Peaks:
    """Bytes at the moment of the most.

    Args:
        settled: weights and inputs, which were there before the run.
        allocator: what PyTorch's allocator had given out, `settled` included; None where it was not asked.
        reserved: what it had taken from the driver for that; None on a processor.
        system: what the run added, as the system (resident memory of the process, `settled` not included) or
            the driver (everything since the process came) sees it; by: which of them.
        where: the call of PyTorch that the allocator's peak lies in.
        anew: the run was a first one, with weights and the runtime's own arena in what the system saw.
    """

    settled: int
    allocator: int | None = None
    reserved: int | None = None
    system: int | None = None
    by: str = "the system"
    where: str = ""
    anew: bool = False


def cpu_peaks(call: Callable[[], Any], settled: int, *, allocator: bool) -> Peaks:
    """Of a call on the processor; `allocator` asks PyTorch's too, by its profiler; else it is a first one."""
    given, where = _given_out(call) if allocator else (None, "")
    return Peaks(settled=settled, allocator=None if given is None else settled + given,
                 system=peak_resident(call), where=where, anew=not allocator)  # fmt: skip


def _given_out(call: Callable[[], Any]) -> tuple[int | None, str]:
    """(most that PyTorch's CPU allocator had given out during a call and not back, the call it was in)."""
    import torch

    call()
    activities = [torch.profiler.ProfilerActivity.CPU]
    with silent(), torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        result = call()
    del result
    with tempfile.TemporaryDirectory(prefix="pharos-") as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    return highest(events)


@contextmanager
def silent() -> Iterator[None]:
    """Keeps what a library writes past Python's own streams off the terminal."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for number in (1, 2):
            os.dup2(nowhere, number)
        yield
    finally:
        for number, old in zip((1, 2), kept, strict=True):
            os.dup2(old, number)
            os.close(old)
        os.close(nowhere)


def highest(events: list[dict[str, Any]]) -> tuple[int | None, str]:
    """From a trace's events: the highest rise of the sum over its start, and the innermost call around it."""
    changes = [e for e in events if e.get("name") == "[memory]" and e["args"].get("Device Type") == 0]
    if not changes:
        return None, ""
    changes.sort(key=lambda e: e["ts"])
    now = top = 0
    at: float = changes[0]["ts"]
    for change in changes:
        now += int(change["args"]["Bytes"])
        if now > top:
            top, at = now, change["ts"]
    around = [e for e in events if e.get("cat") == "cpu_op" and e["ts"] <= at <= e["ts"] + e.get("dur", 0)]
    return top, min(around, key=lambda e: e["dur"])["name"] if around else ""


def predicted_memory(counted: Count, runtime: str, kind: str) -> Memory:
    """What a run is predicted to hold; it follows from the graph and the runtime, no calibration is asked."""
    data = {"id": HERE, "name": HERE, "kind": "gpu" if kind == "cuda" else "cpu"}
    known = (
        runtime if runtime in ("eager", "onnxruntime") else "eager" if runtime == "cudagraph" else "compiled"
    )
    return memory_of(counted, read_machine(Document(data, HERE, {})), known)


def explained(seen: Peaks, predicted: Memory) -> list[str]:
    """Why what was seen is not what was predicted, a sentence each."""
    allocated = float(predicted.allocated)
    found = []
    if seen.allocator is not None:
        off = seen.allocator - allocated
        if abs(off) <= SMALL * allocated:
            found.append(f"the allocator's peak is the predicted one to {off / allocated:+.1%}")
        elif off > 0:
            place = f" in {seen.where}" if seen.where else ""
            found.append(
                f"{fmt(off, 'B')} more than predicted{place}: scratch that kernels take, which no shape tells"
            )
        else:
            found.append(
                f"{fmt(-off, 'B')} less than predicted: results are let go sooner, or are views of others"
            )
    if seen.reserved is not None and seen.allocator is not None:
        idle = seen.reserved - seen.allocator
        found.append(f"{fmt(idle, 'B')} reserved beyond that: blocks of 2 and 20 MiB that are not full")
        if seen.system is not None:
            context, assumed = max(seen.system - seen.reserved, 0), fmt(predicted.runtime, "B")
            told = f"the CUDA context and libraries' workspaces, {assumed} assumed"
            found.append(f"{fmt(context, 'B')} more by the driver: {told}")
    elif seen.system is not None:
        rise = (seen.allocator if seen.allocator is not None else allocated) - (
            0 if seen.anew else seen.settled
        )
        off = seen.system - rise
        if abs(off) > SMALL * max(rise, 1) and abs(off) > 1e6:
            why = (
                "memory kept from earlier calls needs no new pages" if off < 0
                else "the runtime's arena and its weights laid out anew are larger than what lives in them"
                if seen.anew else "buffers of libraries beside the allocator, and gaps in the heap"
            )  # fmt: skip
            than = "the allocator" if seen.allocator is not None else "predicted"
            found.append(f"{fmt(abs(off), 'B')} {'more' if off > 0 else 'less'} resident than {than}: {why}")
    return found
