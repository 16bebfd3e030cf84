"""Devices: where a model runs; how time, memory, clock and energy are read; one interface, two devices."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from pharos.measure.here import here
from pharos.measure.meters import EnergyMeter
from pharos.measure.nvml import Nvml
from pharos.measure.peaks import Peaks, cpu_peaks
from pharos.quantity.errors import InputError, unknown

DEVICES = ("auto", "cpu", "cuda")
# A device is warm when its clock moved by less than this between two looks, after at least so many seconds.
STEADY, WARM, LONGEST = 0.02, 0.5, 3.0
# Seconds that an energy counter is run for: those of GPUs and processors tick in milliseconds and average.
LOOP = 2.0


class Device(Protocol):
    """What measuring asks of a device.

    Args:
        kind: "cpu" or "cuda"; name: as its maker sells it; place: what PyTorch calls it.
        covers: what its energy counter counts.
    """

    kind: str
    name: str
    place: str
    covers: str

    def mark(self) -> Any:
        """A point in the row of what the device is given."""
        ...

    def between(self, start: Any, end: Any) -> float:
        """Seconds from one mark to another; `finish` comes first."""
        ...

    def finish(self) -> None:
        """Waits until the device has done what it was given."""
        ...

    def hold(self, seconds: float) -> None:
        """Keeps the device busy, so that what it is given next lies ready and runs without a gap."""
        ...

    def clock_hz(self) -> float | None:
        """At which its cores run now; None where nothing says."""
        ...

    def cache_bytes(self) -> float:
        """Of the last level; 0 where nothing says."""
        ...

    def joules(self, call: Callable[[], Any]) -> float | None:
        """Energy that passed during a call; None without a counter."""
        ...

    def peaks(self, call: Callable[[], Any], settled: int, *, allocator: bool) -> Peaks:
        """The most memory that a call takes.

        Args:
            settled: bytes of weights and inputs, there before; allocator: PyTorch's is the one at work.
        """
        ...


class Cpu:
    """The processor that Python runs on."""

    kind, place, covers = "cpu", "cpu", "processor packages"

    def __init__(self) -> None:
        self.name = here().cpu
        self._meter = EnergyMeter()

    mark = staticmethod(time.perf_counter)

    @staticmethod
    def between(start: float, end: float) -> float:
        """Seconds."""
        return end - start

    def finish(self) -> None:
        """Nothing to wait for."""

    def hold(self, seconds: float) -> None:
        """A processor does what it is given when it is given it."""

    def clock_hz(self) -> float | None:
        """Not asked: pulses tell (`pulse`)."""
        return None

    def cache_bytes(self) -> float:
        """As the system lists it."""
        return float(max(here().caches.values(), default=0))

    def joules(self, call: Callable[[], Any]) -> float | None:
        """Of all packages."""
        return self._meter.joules(call) if self._meter.exists else None

    def peaks(self, call: Callable[[], Any], settled: int, *, allocator: bool) -> Peaks:
        """As PyTorch's allocator and the system see it."""
        return cpu_peaks(call, settled, allocator=allocator)


class Cuda:
    """One NVIDIA GPU, through `torch.cuda` and NVML.

    Args:
        index: as PyTorch counts them.
        api: `torch.cuda`, or what stands in for it; nvml: likewise; place: of tensors.

    Raises:
        InputError: PyTorch sees no such GPU.
    """

    kind, covers = "cuda", "the board, by NVML"

    def __init__(
        self, index: int = 0, *, api: Any = None, nvml: Any = None, place: str | None = None
    ) -> None:
        self._api = api if api is not None else _torch_cuda()
        if not self._api.is_available():
            raise InputError("PyTorch sees no CUDA device here", hint=_why_none(self._api))
        count = self._api.device_count()
        if not 0 <= index < count:
            raise InputError(f"there are {count} CUDA devices, numbered from 0", where=f"cuda:{index}")
        self.index, self.place = index, place or f"cuda:{index}"
        # asked before the context exists: what the context takes is then part of what the run takes
        self._nvml = nvml if nvml is not None else Nvml.of(index)
        self._before = self._nvml.used_bytes() if self._nvml is not None else None
        self.properties = self._api.get_device_properties(index)
        self.name = str(self.properties.name)
        if self._nvml is not None:
            self._nvml.attach(str(getattr(self.properties, "uuid", "")))

    @property
    def nvml(self) -> Any:
        """NVML's view of the device; None where it cannot be read."""
        return self._nvml

    @property
    def api(self) -> Any:
        """`torch.cuda`."""
        return self._api

    def mark(self) -> Any:
        """An event in the device's own row."""
        event = self._api.Event(enable_timing=True)
        event.record()
        return event

    def between(self, start: Any, end: Any) -> float:
        """By the device's own clock, in half microseconds."""
        return start.elapsed_time(end) * 1e-3

    def finish(self) -> None:
        """Waits."""
        self._api.synchronize()

    def hold(self, seconds: float) -> None:
        """Spins on the device."""
        spin = getattr(self._api, "_sleep", None)
        if spin is not None and seconds > 0:
            spin(int(seconds * (self.clock_hz() or 1.5e9)))

    def clock_hz(self) -> float | None:
        """Of the SMs, now."""
        return None if self._nvml is None else self._nvml.clock_hz()

    def cache_bytes(self) -> float:
        """Of the second level."""
        return float(getattr(self.properties, "L2_cache_size", 0) or 0)

    def joules(self, call: Callable[[], Any]) -> float | None:
        """By NVML's counter, which Volta and later have."""
        if self._nvml is None or (before := self._nvml.joules()) is None:
            return None
        call()
        self.finish()
        after = self._nvml.joules()
        return None if after is None else after - before

    def peaks(self, call: Callable[[], Any], settled: int, *, allocator: bool) -> Peaks:
        """As the caching allocator counts it, and as the driver does."""
        self.finish()
        self._api.empty_cache()
        self._api.reset_peak_memory_stats(self.index)
        call()
        self.finish()
        used = None if self._nvml is None else self._nvml.used_bytes()
        seen = used is not None and self._before is not None
        return Peaks(
            settled=settled, allocator=int(self._api.max_memory_allocated(self.index)),
            reserved=int(self._api.max_memory_reserved(self.index)),
            system=max(used - self._before, 0) if seen else None, by="the driver",  # type: ignore[operator]
        )  # fmt: skip

    def captured(self, call: Callable[[], Any]) -> Callable[[], Any]:
        """The same call as one CUDA graph, launched whole.

        Raises:
            InputError: something in it cannot be captured.
        """
        aside = self._api.Stream()
        aside.wait_stream(self._api.current_stream())
        with self._api.stream(aside):
            for _ in range(3):
                call()
        self._api.current_stream().wait_stream(aside)
        self.finish()
        graph = self._api.CUDAGraph()
        try:
            with self._api.graph(graph):
                call()
        except RuntimeError as error:
            first = str(error).partition("\n")[0]
            raise InputError(f"cannot be captured in a CUDA graph: {first}", hint="--runtime eager") from None

        def replay() -> Any:
            graph.replay()

        return replay


def find_device(name: str = "cpu") -> Device:
    """A device by name: "cpu", "cuda", "cuda:1", or "auto" for a GPU where there is one.

    Raises:
        UnknownName: no such kind. InputError: there is none here.
    """
    kind, _, index = name.partition(":")
    if kind not in DEVICES or (index and not index.isdigit()):
        raise unknown("device", name, DEVICES)
    if kind == "auto":
        try:
            return Cuda()
        except InputError:
            return Cpu()
    return Cpu() if kind == "cpu" else Cuda(int(index or 0))


def sample(device: Device, call: Callable[[], Any], times: int) -> float:
    """Seconds of one of several calls in a row, by the device's clock."""
    start = device.mark()
    for _ in range(times):
        call()
    end = device.mark()
    device.finish()
    return device.between(start, end) / times


def settle(device: Device, call: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> None:
    """Runs a call until the device's clock rests; at once where a device tells no clock."""
    if (before := device.clock_hz()) is None:
        return
    start = looked = clock()
    while (now := clock()) - start < LONGEST:
        call()
        device.finish()
        if now - looked < WARM / 5:
            continue
        looked, seen = now, device.clock_hz() or before
        if now - start >= WARM and abs(seen / before - 1) < STEADY:
            return
        before = seen


def joules_of(device: Device, call: Callable[[], Any], once: float) -> float | None:
    """Joules of one call, from a loop long enough for the counter."""
    times = max(1, int(LOOP / max(once, 1e-6)))

    def loop() -> None:
        for _ in range(times):
            call()
        device.finish()

    found = device.joules(loop)
    return None if found is None else found / times


def drift(clocks: Sequence[float | None]) -> float | None:
    """How far a clock moved between looks, as a share of its highest."""
    known = [c for c in clocks if c]
    return (max(known) - min(known)) / max(known) if len(known) > 1 else None


def _torch_cuda() -> Any:
    try:
        import torch
    except ModuleNotFoundError:
        raise InputError("measuring on CUDA needs torch", hint="pip install 'pharos-nn[torch]'") from None
    return torch.cuda


def _why_none(api: Any) -> str:
    """What may be wrong, by what is installed."""
    try:
        import torch

        if torch.version.cuda is None:
            return f"torch {torch.__version__} was built without CUDA; --device cpu measures the processor"
    except ImportError:
        pass
    return "see `nvidia-smi` and CUDA_VISIBLE_DEVICES; --device cpu measures the processor"
