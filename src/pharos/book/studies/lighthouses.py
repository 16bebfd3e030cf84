"""Lighthouses: when and why each of the five was made, what it isolates and what it illustrates."""

from importlib.resources import files
from typing import Any

from pharos.book.study import study
from pharos.facts.reading import read_yaml
from pharos.graph.count import count
from pharos.graph.workload import Workload
from pharos.models.registry import entry, find
from pharos.quantity.evidence import counted, spec
from pharos.quantity.units import fmt_count
from pharos.report.studies import Told


def biographies() -> dict[str, dict[str, Any]]:
    """What is told of each lighthouse, by its name in the catalogue."""
    return read_yaml(str(files("pharos.book") / "lighthouses.yaml")).data


@study("lighthouses", "When and why was each lighthouse made, and what does it isolate?", section="1.1")
def lighthouses(*, precision: str = "fp32") -> Told:
    """The five of the textbook, their sizes counted anew."""
    rows, numbers, told = [], dict[str, dict[str, Any]](), biographies()
    for name, life in told.items():
        counts = count(find(name).graph(Workload(precision=precision)))  # type: ignore[arg-type]
        isolates = entry(name).lighthouse
        rows.append((name, str(life["year"]), isolates, fmt_count(counts.parameters),
                     fmt_count(counts.macs), life["made_for"], ", ".join(life["illustrates"])))  # fmt: skip
        numbers[name] = {"year": life["year"], "parameters": counts.parameters, "macs": counts.macs}
    return Told(
        answer="; ".join(f"{name} ({year}) isolates {isolates}" for name, year, isolates, *_ in rows),
        numbers=numbers,
        reasons=tuple(f"{name}: {life['source']}" for name, life in told.items()),
        columns=("model", "year", "isolates", "parameters", "macs", "made_for", "illustrates"),
        rows=tuple(rows),
        evidence=(counted("sizes at the model's defaults"), spec("years and purposes: the papers named")),
    )
