"""Testing: a module held against a contract, in a test suite or at the start of a training run."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pharos.decide.verdict import Verdict


def check_module(module: Any, contract: str | Path, *args: Any, **kwargs: Any) -> "Verdict":
    """The verdict of a contract on an ``nn.Module`` instead of the model that it names.

    Args:
        args, kwargs: example inputs, or ``input_size=``, as `pharos.trace` takes them; guessed from the
            module if left out. The contract's workload sets batch and context.

    Raises:
        PharosError: a mistake in the contract, or a module that cannot be traced.
    """
    from pharos.convert.factory import guess_inputs
    from pharos.convert.from_torch import require_torch, trace
    from pharos.decide.verdict import check_file

    if not args and not kwargs:
        args, kwargs = guess_inputs(require_torch(), module)  # type: ignore[assignment]
    return check_file(contract, model=trace(module, *args, **kwargs))


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
    from pharos.decide.verdict import BROKEN, HOLDS

    found = check_module(module, contract, *args, **kwargs)
    if found.verdict == HOLDS or (allow_unknown and found.verdict != BROKEN):
        return
    raise AssertionError("\n" + told(found))


def told(verdict: "Verdict") -> str:
    """A verdict as the command line prints it."""
    from io import StringIO

    from rich.console import Console

    from pharos.report.estimates import print_verdict

    page = StringIO()
    print_verdict(Console(file=page, width=100, color_system=None, highlight=False), verdict)
    return page.getvalue().rstrip()
