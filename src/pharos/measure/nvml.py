"""NVML: clock, power, energy and memory of an NVIDIA GPU as its driver counts them; through nvidia-ml-py."""

from typing import Any


class Nvml:
    """One GPU. Every reading is None where this GPU or driver does not give it.

    Args:
        library: pynvml, initialised; handle: of the GPU.
    """

    def __init__(self, library: Any, handle: Any) -> None:
        self._library, self._handle = library, handle

    @classmethod
    def of(cls, index: int) -> "Nvml | None":
        """The GPU by its number; None without the library or a driver."""
        try:
            import pynvml  # type: ignore[import-not-found]
        except ImportError:
            return None
        try:
            pynvml.nvmlInit()
            return cls(pynvml, pynvml.nvmlDeviceGetHandleByIndex(index))
        except pynvml.NVMLError:
            return None

    def attach(self, uuid: str) -> None:
        """Turns to the GPU of a UUID: PyTorch and NVML may count GPUs differently."""
        if not uuid:
            return
        name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
        found = self._asked("nvmlDeviceGetHandleByUUID", name, of_device=False)
        if found is not None:
            self._handle = found

    def _asked(self, name: str, *more: Any, of_device: bool = True) -> Any:
        try:
            given = (self._handle, *more) if of_device else more
            return getattr(self._library, name)(*given)
        except (AttributeError, self._library.NVMLError):
            return None

    def clock_hz(self) -> float | None:
        """Of the SMs, now."""
        found = self._asked("nvmlDeviceGetClockInfo", getattr(self._library, "NVML_CLOCK_SM", 1))
        return None if found is None else 1e6 * found

    def most_clock_hz(self) -> float | None:
        """Of the SMs, at most."""
        found = self._asked("nvmlDeviceGetMaxClockInfo", getattr(self._library, "NVML_CLOCK_SM", 1))
        return None if found is None else 1e6 * found

    def memory_hz(self) -> float | None:
        """Of the memory, at most."""
        found = self._asked("nvmlDeviceGetMaxClockInfo", getattr(self._library, "NVML_CLOCK_MEM", 2))
        return None if found is None else 1e6 * found

    def bus_bits(self) -> int | None:
        """Width of the memory's bus."""
        return self._asked("nvmlDeviceGetMemoryBusWidth")

    def joules(self) -> float | None:
        """Since the driver was loaded."""
        found = self._asked("nvmlDeviceGetTotalEnergyConsumption")
        return None if found is None else 1e-3 * found

    def watts(self) -> float | None:
        """A slow mean of the last moments."""
        found = self._asked("nvmlDeviceGetPowerUsage")
        return None if found is None else 1e-3 * found

    def limit_watts(self) -> float | None:
        """What the board may draw."""
        found = self._asked("nvmlDeviceGetEnforcedPowerLimit")
        return None if found is None else 1e-3 * found

    def celsius(self) -> float | None:
        """Of the chip."""
        found = self._asked("nvmlDeviceGetTemperature", getattr(self._library, "NVML_TEMPERATURE_GPU", 0))
        return None if found is None else float(found)

    def used_bytes(self) -> int | None:
        """Of the device's memory, by all processes and the driver."""
        found = self._asked("nvmlDeviceGetMemoryInfo")
        return None if found is None else int(found.used)

    def driver(self) -> str | None:
        """Its version."""
        found = self._asked("nvmlSystemGetDriverVersion", of_device=False)
        return found.decode() if isinstance(found, bytes) else found
