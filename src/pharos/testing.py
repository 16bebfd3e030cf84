"""Testing: a model held against a contract or a few limits, in a test suite or when a training run starts."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pharos.decide.verdict import LimitVerdict, Verdict
    from pharos.models.registry import Model

# Limits that the shapes alone decide, without a machine.
COUNTED = ("parameters", "macs", "flops", "storage")


def check_module(module: Any, contract: str | Path, *args: Any, **kwargs: Any) -> "Verdict":
    """The verdict of a contract on an ``nn.Module`` instead of the model that it names.

    Args:
        args, kwargs: example inputs, or ``input_size=``, as `pharos.trace` takes them; guessed from the
            module if left out. The contract's workload sets batch and context.

    Raises:
        PharosError: a mistake in the contract, or a module that cannot be traced.
    """
    return check_model(contract, module, *args, **kwargs)


def check_model(contract: str | Path, model: Any = None, *args: Any, **kwargs: Any) -> "Verdict":
    """The verdict of a contract, on another model than it names if one is given: a name, a `Model`, or an
    ``nn.Module`` with example inputs.

    Raises:
        PharosError: a mistake in the contract, or a model that cannot be read.
    """
    from pharos.decide.verdict import check_file

    return check_file(contract, None if model is None else _model(model, *args, **kwargs))


def assert_contract(
    module: Any, contract: str | Path, *args: Any, allow_unknown: bool = False, **kwargs: Any
) -> None:
    """Fails, with the verdict as its message, unless a contract holds for a module::

        def test_it_fits():
            assert_contract(MyNet(), "contract.yaml", input_size=(1, 3, 224, 224))

    Args:
        allow_unknown: limits that cannot be told pass too; those that are broken never do.
        args, kwargs: see `check_module`.

    Raises:
        AssertionError: a limit is broken, or cannot be told.
    """
    require(check_module(module, contract, *args, **kwargs), allow_unknown=allow_unknown)


def require(verdict: "Verdict", *, allow_unknown: bool = False) -> "Verdict":
    """The verdict, if it holds.

    Raises:
        AssertionError: it is broken, or cannot be told and that is not allowed; the verdict is the message.
    """
    __tracebackhide__ = True
    from pharos.decide.verdict import BROKEN, HOLDS

    if verdict.verdict == HOLDS or (allow_unknown and verdict.verdict != BROKEN):
        return verdict
    raise AssertionError("\n" + told(verdict))


def assert_budget(
    model: Any, *args: Any, on: "str | dict[str, Any] | None" = None, allow_unknown: bool = False,
    batch: int = 1, context: int | None = None, precision: str = "fp32", phase: str = "forward",
    runtime: str | None = None, **limits: Any,
) -> "Verdict | tuple[LimitVerdict, ...]":  # fmt: skip
    """Fails, with the verdict as its message, unless a model keeps some limits::

        assert_budget("mobilenet_v2", params="5M", latency="100 ms", on="cortex-a53", precision="int8")

    Args:
        model: what `pharos.load` takes, or an ``nn.Module``; args: its example inputs, or ``input_size=``.
        on: a machine as contracts name it; not needed for parameters (or params), macs, flops and storage.
        limits: as in a contract: latency, throughput, memory, storage, energy, power and what counts.
        allow_unknown: limits that cannot be told pass too.

    Raises:
        AssertionError: a limit is broken, or cannot be told.
        PharosError: no such limit, unit, machine or model.
    """
    __tracebackhide__ = True
    from pharos.decide.contract import contract_of
    from pharos.decide.verdict import BROKEN, HOLDS, UNITS, check_contract, judge_counts
    from pharos.quantity.errors import InputError

    traced = {k: limits.pop(k) for k in ("input_size", "dtypes") if k in limits}
    if "params" in limits:
        limits["parameters"] = limits.pop("params")
    limits = {name: limit for name, limit in limits.items() if limit is not None}
    if on is None and (needs := [name for name in limits if name in UNITS and name not in COUNTED]):
        raise InputError(f"{needs[0]} is of a machine", where="budget", hint='give on="cortex-a53"')
    known = _model(model, *args, **traced)
    work = {"batch": batch, "context": context, "precision": precision, "phase": phase, "runtime": runtime}
    contract, document = contract_of(
        {"name": "budget", "model": known.name or "model", "machine": on or "any", "workload": work,
         "limits": limits}, "budget"
    )  # fmt: skip
    if on is not None:
        return require(check_contract(contract, document, known), allow_unknown=allow_unknown)
    found = judge_counts(contract, known)
    if all(limit.verdict == HOLDS or (allow_unknown and limit.verdict != BROKEN) for limit in found):
        return found
    raise AssertionError("\n" + _told_counts(known.name, found))


def _model(model: Any, *args: Any, **kwargs: Any) -> "Model":
    """A `Model` of a name, a `Model` or a module."""
    from pharos.models.registry import Model

    if isinstance(model, (str, Model)):
        from pharos.convert.load import load

        return load(model)
    from pharos.convert.factory import guess_inputs
    from pharos.convert.from_torch import require_torch, trace

    if not args and not kwargs:
        args, kwargs = guess_inputs(require_torch(), model)  # type: ignore[assignment]
    return trace(model, *args, **kwargs)


def told(verdict: "Verdict") -> str:
    """A verdict as the command line prints it."""
    from pharos.report.estimates import print_verdict

    return _printed(print_verdict, verdict)


def _told_counts(model: str, limits: "tuple[LimitVerdict, ...]") -> str:
    from pharos.report.estimates import print_counted

    return _printed(print_counted, model, limits)


def _printed(show: Any, *what: Any) -> str:
    from io import StringIO

    from rich.console import Console

    page = StringIO()
    show(Console(file=page, width=100, color_system=None, highlight=False), *what)
    return page.getvalue().rstrip()
