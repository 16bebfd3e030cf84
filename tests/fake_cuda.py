"""A stand-in for `torch.cuda` and NVML: a device whose clock moves by a fixed time a call."""

from contextlib import contextmanager
from types import SimpleNamespace


class Api:
    """What `pharos.measure.devices.Cuda` asks of `torch.cuda`; work is what `launch` is told.

    Args:
        tick: seconds that pass before every event.
    """

    def __init__(self, count=1, tick=0.0):
        self.now, self.count, self.capturing, self.log = 0.0, count, None, []
        self.allocated = self.reserved = 0
        self.peak = (0, 0)
        api = self

        class Event:
            def __init__(self, enable_timing=False):
                assert enable_timing

            def record(self):
                api.now += tick
                self.at = api.now

            def elapsed_time(self, end):
                return (end.at - self.at) * 1e3

        class Graph:
            def __init__(self):
                self.work = []

            def replay(self):
                for seconds in self.work:
                    api.launch(seconds)

        self.Event, self.CUDAGraph = Event, Graph

    def launch(self, seconds):
        """Work of so many seconds."""
        if self.capturing is not None:
            self.capturing.work.append(seconds)
        else:
            self.now += seconds

    def takes(self, nbytes):
        """A call that allocates."""
        self.peak = (max(self.peak[0], self.allocated + nbytes), max(self.peak[1], self.reserved, 2 * nbytes))
        self.reserved = max(self.reserved, 2 * nbytes)

    @contextmanager
    def graph(self, graph):
        self.capturing = graph
        yield
        self.capturing = None

    @contextmanager
    def stream(self, _):
        yield

    def Stream(self):  # noqa: N802 (torch's name)
        return SimpleNamespace(wait_stream=lambda other: None)

    current_stream = Stream

    def is_available(self):
        return self.count > 0

    def device_count(self):
        return self.count

    def get_device_properties(self, _):
        return SimpleNamespace(name="Fake H100", uuid="1234", major=9, minor=0, multi_processor_count=132,
                               L2_cache_size=50 * 2**20, total_memory=80 * 10**9, clock_rate=1980000)  # fmt: skip

    def synchronize(self):
        self.log.append("waited")

    def _sleep(self, cycles):
        self.log.append(f"held {cycles}")

    def empty_cache(self):
        self.reserved = self.allocated

    def reset_peak_memory_stats(self, _):
        self.peak = (self.allocated, self.reserved)

    def max_memory_allocated(self, _):
        return self.peak[0]

    def max_memory_reserved(self, _):
        return self.peak[1]


class NvmlError(Exception):
    """What pynvml raises."""


class Library:
    """What `pharos.measure.nvml.Nvml` asks of pynvml."""

    NVMLError = NvmlError

    def __init__(self, api, clocks=(1980,)):
        self.api, self.clocks, self.asked = api, list(clocks), []
        self.context = 0

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        self.asked.append(uuid)
        return uuid

    def nvmlDeviceGetClockInfo(self, handle, kind):  # noqa: N802
        return self.clocks.pop(0) if len(self.clocks) > 1 else self.clocks[0]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802
        return int(1e3 * 500 * self.api.now)

    def nvmlDeviceGetPowerUsage(self, handle):  # noqa: N802
        raise NvmlError

    def nvmlDeviceGetMemoryInfo(self, handle):  # noqa: N802
        return SimpleNamespace(used=10**9 + self.context + self.api.reserved)
