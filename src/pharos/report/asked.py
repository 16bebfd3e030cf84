"""Asked: from what somebody asks for to the result that a plot draws, and to the figure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pharos.graph.workload import Workload
from pharos.quantity.errors import InputError, unknown
from pharos.report.drawing import Figure
from pharos.report.plotting import Plot, find_plot

if TYPE_CHECKING:
    from pharos.machines.machine import Machine
    from pharos.models.registry import Model

# What one kind of result alone needs.
MORE = ("devices", "users", "optimizer", "global_batch")
NEEDS = {
    "why": ("devices",),
    "serving": ("devices", "users"),
    "sharding": ("devices", "global_batch"),
    "training": ("optimizer",),
}
# Precisions that results are usually asked for in, as their commands have them.
PRECISIONS = {"serving": "bf16"}
# Files and folders of tables that a sweep wrote.
TABLES = (".parquet", ".csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a picture is asked of.

    Args:
        of: a model, its name or its file, a brief, or a table of results.
        on: machines. work: the workload. runtime: on all of them.
        dims, inputs, threads: as the commands take them.
        more: by the names of `MORE`.
    """

    of: "str | Model | None" = None
    on: "tuple[Machine, ...]" = ()
    work: Workload = field(default_factory=Workload)
    runtime: str | None = None
    dims: Mapping[str, int] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> "Model":
        """The model, read.

        Raises:
            InputError: none was given.
        """
        from pharos.convert.load import load

        if self.of is None:
            raise InputError("a model is missing", hint="such as `pharos plot roofline resnet50 --on a100`")
        return load(self.of, dict(self.dims) or None, dict(self.inputs) or None)

    @property
    def machine(self) -> "Machine":
        """The one machine.

        Raises:
            InputError: none or several were given.
        """
        if len(self.on) != 1:
            raise InputError(f"is drawn of one machine, not of {len(self.on)}", where="--on",
                             hint="such as --on a100")  # fmt: skip
        return self.on[0]


def _estimates(asked: Asked) -> Any:
    from pharos.predict.estimate import predict

    if not asked.on:
        raise InputError("a machine is missing", where="--on", hint="such as --on a100, or --on a100,t4")
    model = asked.model
    graph = model.graph(asked.work)
    return [predict(graph, m, asked.work, model=model.name, runtime=asked.runtime) for m in asked.on]


def _estimate(asked: Asked) -> Any:
    from pharos.predict.estimate import predict

    machine, model = asked.machine, asked.model
    return predict(model.graph(asked.work), machine, asked.work, model=model.name, runtime=asked.runtime)


def _count(asked: Asked) -> Any:
    """A count; where a machine is given an estimate, which has one."""
    from pharos.graph.count import count

    return _estimate(asked) if asked.on else count(asked.model.graph(asked.work))


def _why(asked: Asked) -> Any:
    from pharos.decide.why import why

    return why(asked.model, asked.machine, asked.work, runtime=asked.runtime,
               devices=int(asked.more.get("devices") or 1))  # fmt: skip


def _decision(asked: Asked) -> Any:
    from pharos.decide.choose import choose_file

    if not isinstance(asked.of, str):
        raise InputError("a brief is missing", hint="such as `pharos plot pareto brief.yaml`")
    return choose_file(asked.of)


def _serving(asked: Asked) -> Any:
    from pharos.plan.deployment import Deployment
    from pharos.plan.serving import serving
    from pharos.quantity.sizes import is_int

    work, context = asked.work, asked.work.context
    made = Deployment(model=asked.model, machine=asked.machine, precision=work.precision,
                      devices=int(asked.more.get("devices") or 1))  # fmt: skip
    return serving(made, context=context if is_int(context) else None,
                   users=int(asked.more.get("users") or 1))  # fmt: skip


def _sharding(asked: Asked) -> Any:
    from pharos.plan.shard_layouts import Job
    from pharos.plan.sharding import job_of, shard
    from pharos.plan.tables import read_tables
    from pharos.plan.topology import topology_of

    batch = int(asked.more.get("global_batch") or 65536)
    if isinstance(asked.of, str) and asked.of.endswith((".yaml", ".yml", ".csv")):
        job = Job(tables=tuple(read_tables(asked.of)), batch=batch)
    else:
        job = job_of(asked.model, batch)
    return shard(job, asked.machine, topology_of(asked.machine, int(asked.more.get("devices") or 8)))


def _training(asked: Asked) -> Any:
    from pharos.convert.training import train

    return train(asked.model, asked.work, asked.more.get("optimizer") or "adamw", "none", "sum")


def _measurements(asked: Asked) -> Any:
    """Stored runs, of one model if it is named, or the rows of a file."""
    from pharos.measure.store import runs
    from pharos.report.measured_rows import SUFFIXES, read_rows

    if isinstance(asked.of, str) and asked.of.endswith(SUFFIXES):
        return read_rows(asked.of)
    return runs(model=None if asked.of is None else asked.model.name)


def _table(asked: Asked) -> Any:
    if not isinstance(asked.of, str):
        raise InputError("a file of results is missing", hint="such as `pharos plot sweep out.parquet`")
    return Path(asked.of)


MAKERS: dict[str, Callable[[Asked], Any]] = {
    "estimates": _estimates,
    "estimate": _estimate,
    "count": _count,
    "why": _why,
    "decision": _decision,
    "serving": _serving,
    "sharding": _sharding,
    "training": _training,
    "measurements": _measurements,
    "table": _table,
}


def draw(what: str, result: Any, **options: Any) -> Figure:
    """A plot of a result that is there already.

    Args:
        options: of the plot, see `pharos.report.plotting.plots`; None means what is usual.

    Raises:
        UnknownName: no such plot. InputError: an option that it does not take.
    """
    plot = find_plot(what)
    return plot.draw(_suited(plot, result), **_checked(plot, options))


def draw_asked(what: str, asked: Asked, **options: Any) -> Figure:
    """A plot of what `asked` says, computed first; see `draw`."""
    plot = find_plot(what)
    given = _checked(plot, options)
    for key, value in asked.more.items():
        if value is not None and key not in NEEDS.get(plot.takes, ()):
            raise InputError(f"has no {key.replace('_', '-')}", where=f"plot {plot.name}")
    if "model" in plot.options:
        given.setdefault("model", asked.model.name)
    return plot.draw(MAKERS[plot.takes](asked), **given)


def _suited(plot: Plot, result: Any) -> Any:
    several = isinstance(result, Sequence) and not isinstance(result, str)
    return [result] if plot.takes == "estimates" and not several else result


def _checked(plot: Plot, options: Mapping[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in options.items() if value is not None}
    for key in given:
        if key not in plot.options:
            if not plot.options:
                raise InputError(f"takes no {key!r}: nothing may be asked of it", where=f"plot {plot.name}")
            raise unknown("option", key, plot.options, where=f"plot {plot.name}")
    return given
