"""Machine: what a device can do at most, each figure with its source; unknowns stay unknown."""

import re
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from pharos.facts.names import find, folder
from pharos.facts.reading import Document, read_yaml
from pharos.quantity.dtypes import BITS
from pharos.quantity.errors import InputError, PharosError, unknown
from pharos.quantity.evidence import Evidence, spec, unknown_because
from pharos.quantity.units import parse


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A figure of a machine in SI units, None when the catalogue does not know it."""

    value: float | None
    evidence: Evidence

    def __bool__(self) -> bool:
        return self.value is not None


def _missing(what: str) -> Known:
    return Known(value=None, evidence=unknown_because(f"{what} is not in the catalogue"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """Dense operations per second of one element type; 1 MAC = 2 operations.

    Args:
        unit: "matrix" (tensor cores, AMX, systolic array), "vector" or None when not told.
    """

    ops_per_s: Known
    unit: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One device of the catalogue, or of a user's file."""

    id: str
    name: str
    kind: str
    year: int | None = None
    vendor: str = ""
    aliases: tuple[str, ...] = ()
    peaks: dict[str, Peak] = field(default_factory=dict)
    vector_peaks: dict[str, Known] = field(default_factory=dict)
    memory_technology: str | None = None
    memory_sold_bytes: Known
    memory_usable_bytes: Known
    bandwidth_bytes_per_s: Known
    cache_bytes: Known
    cache_bandwidth_bytes_per_s: Known = field(default_factory=lambda: _missing("bandwidth of the cache"))
    flash_bytes: Known
    cores: Known
    core_kind: str | None = None
    clock_hz: Known
    alignment: str | None = None
    link_bytes_per_s: Known
    # The file's own section, for planners that tell its kinds of links apart.
    links: dict[str, Any] = field(default_factory=dict)
    max_W: Known
    idle_W: Known
    # What the maker allows, where a user's cap stands in max_W; what it holds for long, where that is less.
    rated_W: Known | None = None
    sustained_W: Known | None = None
    process_nm: Known | None = None
    price_usd: Known
    rent_usd_per_hour: Known = field(default_factory=lambda: _missing("rent"))
    notes: str = ""
    disagreements: tuple[str, ...] = ()
    # The file of its calibration, whose curves then apply.
    calibration: str = ""
    # How many times longer its pulse takes now than while it was calibrated, of one core and of all together.
    pace: tuple[float, ...] = ()

    @property
    def capacity_bytes(self) -> Known:
        """What programs can use: the runtime's figure where known, else what is sold."""
        return self.memory_usable_bytes or self.memory_sold_bytes

    def peak(self, dtype: str) -> Known:
        """Dense operations per second of an element type; unknown stays unknown."""
        found = self.peaks.get(dtype)
        return found.ops_per_s if found else _missing(f"{dtype} peak of {self.id}")

    def vector_peak(self, dtype: str) -> Known:
        """Operations per second of the vector units, where they are told apart from the matrix units."""
        apart, whole = self.vector_peaks.get(dtype), self.peaks.get(dtype)
        if apart:
            return apart
        if whole and whole.ops_per_s and whole.unit == "vector":
            return whole.ops_per_s
        return _missing(f"{dtype} vector peak of {self.id}")

    def ridge_point(self, dtype: str) -> float | None:
        """FLOP per byte above which the peak, not the memory, limits: peak / bandwidth."""
        peak, bandwidth = self.peak(dtype).value, self.bandwidth_bytes_per_s.value
        return peak / bandwidth if peak and bandwidth else None

    def but(self, changes: dict[str, float], where: str) -> "Machine":
        """The same machine with figures of the user's own, e.g. ``{"power.idle_W": 0.9}``.

        Clock changes scale the peaks with them; a power cap lowers the clock where it must.

        Raises:
            UnknownName: a figure that cannot be overridden.
        """
        machine = self
        for key, value in changes.items():
            if key not in OVERRIDES:
                raise unknown("figure of a machine", key, OVERRIDES, where=where)
            given = Known(value=value, evidence=spec(f"{where}: {key}"))
            name = OVERRIDES[key][0]
            if name == "clock_hz" and machine.clock_hz.value:
                scale = value / machine.clock_hz.value
                machine = replace(machine, peaks={
                    d: replace(p, ops_per_s=_scaled(p.ops_per_s, scale, where))
                    for d, p in machine.peaks.items()
                })  # fmt: skip
            if name == "cores" and machine.cores.value:
                scale = value / machine.cores.value
                machine = replace(machine, peaks={
                    d: replace(p, ops_per_s=_scaled(p.ops_per_s, scale, where))
                    for d, p in machine.peaks.items()
                })  # fmt: skip
            # a maximum that nobody knew is told; one where it is known, and every cap, holds it down
            if name == "max_W" and (machine.max_W or key == "power.cap_W"):
                machine = replace(machine, rated_W=machine.rated_W or machine.max_W)
            machine = replace(machine, **{name: given})
        return machine


def _scaled(known: Known, scale: float, where: str) -> Known:
    if known.value is None:
        return known
    return Known(value=known.value * scale, evidence=spec(f"{known.evidence.where}, scaled by {where}"))


# What a contract or a command may override: dotted key -> (attribute, SI unit).
OVERRIDES = {
    "clock": ("clock_hz", "Hz"),
    "cores": ("cores", "1"),
    "memory.capacity": ("memory_usable_bytes", "B"),
    "memory.bandwidth": ("bandwidth_bytes_per_s", "B/s"),
    "power.idle_W": ("idle_W", "W"),
    "power.max_W": ("max_W", "W"),
    "power.cap_W": ("max_W", "W"),
}

# Sections a machine file may have.
SECTIONS = (
    "id",
    "name",
    "aliases",
    "vendor",
    "kind",
    "year",
    "process",
    "peaks",
    "vector_peaks",
    "memory",
    "cores",
    "alignment",
    "links",
    "power",
    "price",
    "measured",
    "derived",
    "disagreements",
    "notes",
    "unverified",
    "sparsity",
    "overhead",
    "source",
    "sources",
)
# The name of the machine that Pharos runs on.
HERE = "here"
# Its GPU, where that was calibrated.
HERE_CUDA = "here-cuda"
KINDS = ("gpu", "tpu", "npu", "cpu", "mobile_soc", "mcu")


def find_machine(name: str, threads: int | None = None) -> Machine:
    """A machine by catalogue name, by the path of a file of one's own (``.yaml``), or as it was calibrated:
    ``here``, ``here-cuda``, or a calibration's file (``.json``).

    Args:
        threads: cores that work; all by default.

    Raises:
        UnknownName: no such machine, with the nearest.
        InputError: a file that is not a machine, or threads that were not calibrated.
    """
    if is_calibration(name):
        from pharos.machines.calibration import find_calibration

        return find_calibration(name).at(threads)
    found = _found(name)
    return found if threads is None else found.but({"cores": float(threads)}, "--threads")


def is_calibration(name: str) -> bool:
    """Whether a machine's name means a calibration: ``here``, ``here-cuda``, or a ``.json`` file."""
    return name in (HERE, HERE_CUDA) or name.endswith(".json")


def _found(name: str) -> Machine:
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return from_file(name)
    return _catalogued(find("machines", "machine", name))


@cache
def _catalogued(path: Path) -> Machine:
    return from_file(path)


def machine_names() -> dict[str, tuple[str, ...]]:
    """Every machine of the catalogue with its aliases."""
    return {name: aliases for name, (_, aliases) in folder("machines").items()}


def from_file(path: str | Path) -> Machine:
    """A machine from its YAML file.

    Raises:
        InputError: an unknown or missing key, or a figure that is none, with file and line.
    """
    return read_machine(read_yaml(path))


def read_machine(document: Document) -> Machine:
    """A machine from a document, see `from_file`."""
    data = document.data
    if not isinstance(data, dict):
        raise InputError("is not a machine: it must be a mapping", where=document.where())
    for key in data:
        if key not in SECTIONS:
            raise unknown("section of a machine", str(key), SECTIONS, where=document.where(key))
    for key in ("id", "name", "kind"):
        if not isinstance(data.get(key), str):
            raise InputError(f"a machine needs {key!r}, a word", where=document.where(key))
    if data["kind"] not in KINDS:
        raise unknown("kind of machine", data["kind"], KINDS, where=document.where("kind"))
    return _Reader(document).machine()


# Names of processes that say no nanometres.
_PROCESSES = {"N3B": 3, "N5": 5, "N5P": 5, "4N": 5, "4NP": 5, "INTEL 7": 10, "N7": 7}


def _node(data: dict[str, Any], path: str) -> Known:
    """The process in nm, as its maker names it."""
    told = data.get("process")
    text = str((told.get("value") if isinstance(told, dict) else told) or "")
    found = re.search(r"(\d+) ?nm", text)
    named = next((nm for name, nm in _PROCESSES.items() if re.search(rf"\b{name}\b", text.upper())), None)
    size = float(found[1]) if found else named
    if not size:
        return _missing(f"process of {data['id']}")
    source = told.get("source") if isinstance(told, dict) else None
    return Known(value=float(size), evidence=spec(", ".join(map(str, source or [path]))))


class _Reader:
    """Turns a machine document into a Machine, naming the line of what is wrong."""

    def __init__(self, document: Document) -> None:
        self.document, self.data = document, document.data

    def section(self, *keys: str) -> dict[str, Any]:
        at: Any = self.data
        for key in keys:
            at = at.get(key) if isinstance(at, dict) else None
            if at is None:
                return {}
        if not isinstance(at, dict):
            raise InputError("must be a mapping", where=self.document.where(*keys))
        return at

    def known(self, what: str, unit: str, *keys: str) -> Known:
        holder = self.section(*keys[:-1])
        raw = holder.get(keys[-1])
        if isinstance(raw, dict):
            holder, raw = raw, raw.get("value")
        if raw is None:
            return _missing(f"{what} of {self.data['id']}")
        try:
            value = float(parse(raw, unit))
        except PharosError as error:
            raise error.at(self.document.where(*keys)) from None
        if not 0 <= value < 1e24:
            raise InputError(f"{raw!r} is no {what}", where=self.document.where(*keys))
        source = holder.get("source") or self.data.get("source") or []
        named = ", ".join(source) if isinstance(source, list) else str(source)
        return Known(value=value, evidence=spec(named or self.document.path))

    def peaks(self) -> dict[str, Peak]:
        found = {}
        for dtype, entry in self.section("peaks").items():
            if dtype in ("note", "notes", "sparsity"):
                continue
            if dtype not in BITS:
                raise unknown("dtype", str(dtype), BITS, where=self.document.where("peaks", dtype))
            if not isinstance(entry, dict):
                raise InputError(
                    "must be {ops_per_s: ..., source: [...]}", where=self.document.where("peaks", dtype)
                )
            unit = entry.get("unit")
            if unit not in (None, "matrix", "vector"):
                raise unknown(
                    "unit", str(unit), ("matrix", "vector"), where=self.document.where("peaks", dtype)
                )
            rate = self.known(f"{dtype} peak", "FLOP/s", "peaks", dtype, "ops_per_s")
            found[dtype] = Peak(ops_per_s=rate, unit=unit)
        return found

    def _rent(self) -> Known:
        price = self.section("price")
        if price.get("cloud_usd_per_hour") is None:
            return _missing(f"rent of {self.data['id']}")
        said = price.get("cloud_source") or price.get("source") or ()
        told = ", ".join(map(str, said if isinstance(said, list) else [said]))
        noted = ", ".join(str(price[k]) for k in ("cloud_date", "cloud_note") if price.get(k))
        return Known(value=float(price["cloud_usd_per_hour"]), evidence=spec(f"{told}: {noted}"))

    def machine(self) -> Machine:
        data = self.data
        boost = self.known("clock", "Hz", "cores", "boost_hz")
        links = [self.known("link", "B/s", "links", key) for key in self.section("links")
                 if key.endswith("_bytes_per_s") and "both" not in key]  # fmt: skip
        usd = self.section("price").get("usd")
        return Machine(
            id=data["id"],
            name=data["name"],
            kind=data["kind"],
            year=data.get("year"),
            vendor=str(data.get("vendor", "")),
            aliases=tuple(map(str, data.get("aliases") or ())),
            peaks=self.peaks(),
            vector_peaks={
                d: self.known(f"{d} vector peak", "FLOP/s", "vector_peaks", d, "ops_per_s")
                for d in self.section("vector_peaks")
            },
            memory_technology=self.section("memory", "main").get("technology"),
            memory_sold_bytes=self.known("memory", "B", "memory", "main", "sold_bytes"),
            memory_usable_bytes=self.known("usable memory", "B", "memory", "main", "usable_bytes"),
            bandwidth_bytes_per_s=self.known(
                "memory bandwidth", "B/s", "memory", "main", "bandwidth_bytes_per_s"
            ),
            cache_bytes=self.known("cache", "B", "memory", "cache", "capacity_bytes"),
            cache_bandwidth_bytes_per_s=self.known(
                "cache bandwidth", "B/s", "memory", "cache", "bandwidth_bytes_per_s"
            ),
            flash_bytes=self.known("flash", "B", "memory", "flash", "bytes"),
            cores=self.known("cores", "1", "cores", "count"),
            core_kind=self.section("cores").get("kind"),
            clock_hz=boost or self.known("clock", "Hz", "cores", "base_hz"),
            alignment=self.section("alignment").get("rule") or self.section("alignment").get("tile"),
            link_bytes_per_s=max((k for k in links if k), key=lambda k: k.value or 0.0,
                                 default=_missing(f"link of {data['id']}")),
            links=self.section("links"),
            max_W=self.known("maximum power", "W", "power", "max_W"),
            idle_W=self.known("idle power", "W", "power", "idle_W"),
            sustained_W=self.known("sustained power", "W", "power", "sustained_W"),
            process_nm=_node(self.data, self.document.path),
            price_usd=self.known("price", "1", "price", "usd") if usd is not None else _missing("price"),
            rent_usd_per_hour=self._rent(),
            notes=str(data.get("notes") or ""),
            disagreements=tuple(map(str, data.get("disagreements") or ())),
        )  # fmt: skip
