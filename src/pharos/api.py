"""The Python face: the commands as functions. `import pharos` offers these names lazily."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pharos.convert.load import load as load
from pharos.graph.count import Count
from pharos.graph.count import count as _count
from pharos.graph.workload import Workload
from pharos.models.registry import Model

if TYPE_CHECKING:
    from pharos.decide.advice import Finding
    from pharos.decide.choose import Decision
    from pharos.decide.data import Data
    from pharos.decide.sweep.run import Swept
    from pharos.decide.verdict import Verdict
    from pharos.decide.why import Why
    from pharos.machines.machine import Machine
    from pharos.passes.training import Training
    from pharos.plan.serving import Serving
    from pharos.predict.estimate import Estimate
    from pharos.report.drawing import Figure
    from pharos.report.summary import Summary


def show(model: str | Model, *, dims: dict[str, int] | None = None, **work: Any) -> Count:
    """Counts a model under a workload: operations, bytes and parameters per operator.

    Args:
        dims: sizes for symbolic dimensions of an ONNX file.
        work: batch, context, precision, phase, as `Workload` takes them.
    """
    return _count(load(model, dims).graph(Workload(**work)))


def predict(
    model: str | Model, on: "str | Machine", *, runtime: str | None = None,
    dims: dict[str, int] | None = None, **work: Any,
) -> "Estimate":  # fmt: skip
    """Predicts a model under a workload on a machine.

    Args:
        on: a machine's name, its file, or a `Machine`.
        runtime: a name of `pharos.predict.runtimes.RUNTIMES`; by default the machine's usual one.
        work: batch, context, precision, phase; sizes may be NumPy arrays.
    """
    from pharos.machines.machine import find_machine
    from pharos.predict.estimate import predict as estimate

    asked = Workload(**work)
    chosen = load(model, dims)
    machine = find_machine(on) if isinstance(on, str) else on
    return estimate(chosen.graph(asked), machine, asked, model=chosen.name, runtime=runtime)


def serve(
    model: str | Model, on: "str | Machine", *, context: int | None = None, users: int = 1,
    prompt: int | None = None, output: int | None = None, precision: str = "bf16", stack: str = "none",
    rent_usd_per_hour: float | None = None, **deployed: Any,
) -> "Serving":  # fmt: skip
    """What a decoder serves on devices: users that fit, times, ceilings, energy and price.

    Args:
        on: a machine's name, its file, or a `Machine`.
        context, prompt, output: tokens of a request; users: sequences in flight. See `pharos.plan.serving`.
        stack: whose host times are added, see `pharos.plan.deployment.stacks`.
        deployed: devices, utilization, block, chunk, sequences and further fields of a `Deployment`.
    """
    from pharos.machines.machine import find_machine
    from pharos.plan.deployment import Deployment, find_stack
    from pharos.plan.serving import serving
    from pharos.quantity.dtypes import Precision

    machine = find_machine(on) if isinstance(on, str) else on
    made = Deployment(model=load(model), machine=machine, precision=Precision.of(precision),
                      stack=find_stack(stack), **deployed)  # fmt: skip
    return serving(made, context=context, users=users, prompt=prompt, output=output,
                   rent_usd_per_hour=rent_usd_per_hour)  # fmt: skip


def train(
    model: str | Model, *, optimizer: str = "adamw", checkpointing: str | int = "none", loss: str = "sum",
    set_to_none: bool = True, dims: dict[str, int] | None = None, **work: Any,
) -> "Training":  # fmt: skip
    """Costs a training step of a model: forward, backward and update, and the memory they hold.

    Args:
        optimizer, checkpointing, loss, set_to_none: see `pharos.passes.training.training`; the memory of a
            module's step is seen in a run without data: `pharos.convert.torch_training.watch_training`.
        work: batch, context, precision.
    """
    from pharos.convert.training import train as step

    return step(load(model, dims), Workload(**work), optimizer, checkpointing, loss, set_to_none)


def summary(
    module: Any, *args: Any, input_size: Any = None, dtypes: Any = None, depth: int = 3, **kwargs: Any
) -> "Summary":
    """A module as a tree: output shapes, parameters and operations of its submodules; print it.

    Args:
        args, kwargs, input_size, dtypes: its inputs, see `pharos.trace`; guessed from the module if none
            is given.
        depth: levels of submodules to show.
    """
    from pharos.convert.factory import guess_inputs
    from pharos.convert.from_torch import require_torch, trace
    from pharos.report.summary import summarise

    if not args and not kwargs and input_size is None:
        args, kwargs = guess_inputs(require_torch(), module)  # type: ignore[assignment]
    model = trace(module, *args, input_size=input_size, dtypes=dtypes, **kwargs)
    return summarise(model.name, _count(model.graph()), depth)


def check(path: str | Path) -> "Verdict":
    """Checks a contract file."""
    from pharos.decide.verdict import check_file

    return check_file(path)


def advise(
    model: str | Model, on: "str | Machine", *, runtime: str | None = None,
    dims: dict[str, int] | None = None, stated: "dict[str, Any] | None" = None, **work: Any,
) -> "list[Finding]":  # fmt: skip
    """What rules find wrong with a model on a machine, worst first.

    Args:
        on: a machine's name, its file, or a `Machine`.
        stated: what only you know, by the fields of `pharos.decide.advice.Stated`: labels, data_range, flops,
            memory_bytes, trained_on_bytes, devices, trains, attention, convolution.
        work: batch, context, precision, phase.
    """
    from pharos.decide.advice import Stated, case
    from pharos.decide.advice import advise as findings
    from pharos.machines.machine import find_machine

    machine = find_machine(on) if isinstance(on, str) else on
    return findings(case(load(model, dims), machine, Workload(**work), Stated(**(stated or {})), runtime))


def why(
    model: str | Model, on: "str | Machine", *, runtime: str | None = None, devices: int = 1,
    limits: "dict[str, float | str] | None" = None, dims: dict[str, int] | None = None, **work: Any,
) -> "Why":  # fmt: skip
    """What binds a model on a machine, what twice of each resource gives, and what would meet limits.

    Args:
        on: a machine's name, its file, or a `Machine`.
        devices: that share every layer of a decoder.
        limits: latency, throughput, memory, energy or power, as text with units or in SI units.
        work: batch, context, precision, phase.
    """
    from pharos.decide.inverse import read_limits
    from pharos.decide.why import why as reasons
    from pharos.machines.machine import find_machine

    machine = find_machine(on) if isinstance(on, str) else on
    asked = read_limits([f"{name}={value}" for name, value in (limits or {}).items()])
    return reasons(
        load(model, dims), machine, Workload(**work), runtime=runtime, devices=devices, limits=asked
    )


def choose(path: str | Path) -> "Decision":
    """Chooses an architecture for a brief: data and limits."""
    from pharos.decide.choose import choose_file

    return choose_file(path)


def data(path: str | Path, seed: int = 0) -> "Data":
    """Facts about a file or folder of data, measured from a sample that follows `seed`."""
    from pharos.decide.data import inspect

    return inspect(path, seed)


def sweep(
    grid: "str | Path | dict[str, Any]", out: "str | Path | None" = None, *, engine: str = "local",
    jobs: int | None = None, fresh: bool = False,
) -> "Swept":  # fmt: skip
    """Evaluates every point of a grid of models, workloads, machines and runtimes.

    Args:
        grid: a grid file, or its fields as a mapping.
        out: NAME.parquet for one file, another name for a folder of parts; without it rows stay in memory.
        engine: local, dask://HOST:PORT, ray or ray://HOST:PORT; jobs: processes of local. They start anew,
            so that a script calls this under ``if __name__ == "__main__"``.
        fresh: write over what an earlier sweep left; else it goes on.
    """
    from pharos.decide.sweep.run import sweep as run

    return run(grid, out, engine=engine, jobs=jobs, fresh=fresh)


def compare(models: list[str], on: list[str], **work: Any) -> "list[Estimate]":
    """Predicts every model on every machine, models outermost."""
    return [predict(model, machine, **work) for model in models for machine in on]


def plot(
    what: str, of: Any = None, on: "str | Machine | Sequence[str | Machine]" = (), *,
    runtime: str | None = None, dims: dict[str, int] | None = None, **asked: Any,
) -> "Figure":  # fmt: skip
    """A picture: `.save(path)` writes it as PNG, SVG, HTML or JSON, a notebook shows it, `.alt` says it.

    Args:
        what: roofline, waterfall, memory, treemap, tornado, pareto, capacity, sharding, measured, training or
            sweep; `pharos.report.plotting.plots()` has all with their options.
        of: a model, a brief's or a table's file, or a result that is there already: an `Estimate`, a `Count`,
            a `Why`, a `Decision`, a `Serving`.
        on: a machine or several, each a name, a file, or a `Machine`.
        asked: options of the plot (by, x, y, colour); devices, users, optimizer, global_batch where they
            matter; and batch, context, precision, phase.

    Raises:
        UnknownName: no such plot. InputError: it cannot be drawn of that.
    """
    from pharos.machines.machine import find_machine
    from pharos.report.asked import MORE, PRECISIONS, Asked, draw, draw_asked
    from pharos.report.plotting import find_plot

    chosen = find_plot(what)
    options = {key: asked.pop(key) for key in chosen.options if key in asked}
    if isinstance(of, Path):
        of = str(of)
    if of is not None and not isinstance(of, (str, Model)):
        return draw(what, of, **options, **asked)
    several = [on] if isinstance(on, str) or not isinstance(on, Sequence) else on
    machines = tuple(find_machine(m) if isinstance(m, str) else m for m in several)
    more = {key: asked.pop(key) for key in MORE if key in asked}
    asked = {"precision": PRECISIONS.get(chosen.takes, "fp32"), **asked}
    wanted = Asked(of=of, on=machines, work=Workload(**asked), runtime=runtime, dims=dims or {}, more=more)
    return draw_asked(what, wanted, **options)
