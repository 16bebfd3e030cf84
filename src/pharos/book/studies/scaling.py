"""Scaling: what each cost of a network becomes when one of its sizes grows."""

from typing import Any

from pharos.book.study import study
from pharos.graph.count import count
from pharos.graph.workload import Workload
from pharos.models.registry import entry, find, parse_name
from pharos.passes.memory import liveness
from pharos.quantity.errors import InputError, unknown
from pharos.quantity.evidence import counted
from pharos.report.studies import Told

# One size after the other, of a network of each family: hyperparameters, or fields of the workload.
FAMILIES = (
    ("mlp(widths=(1024, 1024, 1024))", "batch"),
    ("mlp(widths=(1024, 1024, 1024))", "widths"),
    ("resnet18", "resolution"),
    ("mobilenet_v2", "width"),
    ("sequence_rnn", "context"),
    ("sequence_rnn", "hidden"),
    ("gpt2-small", "context"),
    ("gpt2-small", "batch"),
    ("dlrm(rows=(100000, 100000))", "rows"),
)
WORK = ("batch", "context")


@study("scaling", "What do parameters, operations and memory become when one size doubles?", section="1.1")
def scaling(*, model: str = "", size: str = "", factor: float = 2.0) -> Told:
    """Every family's usual sizes, or one size of one model.

    Args:
        size: batch, context, or a hyperparameter with a default that is a number or several.
    """
    if bool(model) != bool(size):
        raise InputError("model and size go together", hint="write e.g. model=resnet50 size=resolution")
    if factor <= 0:
        raise InputError(f"{factor} is not a factor that sizes grow by", where="factor")
    rows: list[tuple[Any, ...]] = []
    for name, key in ((model, size),) if model else FAMILIES:
        before, after = _costs(name, key, 1.0), _costs(name, key, factor)
        rows.append((name, key, *(b / a if a else None for a, b in zip(before, after, strict=True))))
    first = rows[0]
    kept = "parameters stay" if first[2] == 1 else f"parameters become {first[2]:.3g} times"
    return Told(
        answer=f"{factor:g} times the {first[1]} of {first[0]}: {kept}, operations {first[3]:.3g} times, "
        f"live memory {first[4]:.3g} times",
        numbers={
            f"{r[0]} {r[1]}": {"parameters": r[2], "macs": r[3], "activations_bytes": r[4]} for r in rows
        },
        columns=("model", "size", "parameters", "macs", "live_activations"),
        rows=tuple(rows),
        evidence=(counted("two graphs each, exact"),),
        note=f"each as a multiple of what it was, the size {factor:g} times as large",
    )


def _costs(name: str, key: str, factor: float) -> tuple[float, float, float]:
    """(parameters, MACs, peak of live activations in bytes) with one size multiplied."""
    work: dict[str, Any] = {"batch": 8, "context": 128} if key in WORK else {"batch": 1, "context": 128}
    if key in WORK:
        work[key] = round(work[key] * factor)
    else:
        name = resized(name, key, factor)
    graph = find(name).graph(Workload(**work))
    found = count(graph)
    return float(found.parameters), float(found.macs), float(liveness(graph).peak)


def resized(name: str, key: str, factor: float) -> str:
    """The name of a model with one hyperparameter multiplied.

    Raises:
        UnknownName: no such hyperparameter. InputError: one that is no number.
    """
    plain, given = parse_name(name)
    known = entry(plain).hyperparameters()
    if key not in known:
        raise unknown(f"size of {plain}", key, [*WORK, *known])
    given[key] = _times(key, given.get(key, known[key].default), factor)
    return f"{plain}({', '.join(f'{k}={v!r}' for k, v in given.items())})"


def _times(key: str, value: Any, factor: float) -> Any:
    if isinstance(value, tuple):
        return tuple(_times(key, v, factor) for v in value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{value!r} is not a number that can grow", where=key)
    return round(value * factor) if isinstance(value, int) else value * factor
