"""pytest plugin: contracts collected as tests, and fixtures that hold a model against limits or one."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# Pharos itself is imported where a contract is checked, so that a run without one pays nothing.
if TYPE_CHECKING:
    from pharos.decide.verdict import Verdict


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options and settings."""
    group = parser.getgroup("pharos", "contracts of neural networks")
    group.addoption("--pharos-contracts", action="store_true", default=None,
                    help="collect *contract*.yaml files as tests")  # fmt: skip
    group.addoption("--pharos-strict", action="store_true", default=None,
                    help="contracts that cannot be told fail instead of being skipped")  # fmt: skip
    parser.addini("pharos_contracts", "collect *contract*.yaml files as tests", type="bool", default=False)
    parser.addini("pharos_strict", "contracts that cannot be told fail", type="bool", default=False)


def _asked(config: pytest.Config, name: str) -> bool:
    given = config.getoption(name)
    return bool(config.getini(name) if given is None else given)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "ContractFile | None":
    """A contract's file, where they are asked for."""
    if file_path.suffix not in (".yaml", ".yml") or not _asked(parent.config, "pharos_contracts"):
        return None
    from pharos.decide.contract_files import is_contract, is_named_so

    named = str(file_path) in parent.config.args
    if not named and not (is_named_so(file_path.name) and is_contract(_text(file_path))):
        return None
    return ContractFile.from_parent(parent, path=file_path)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return ""


class ContractFile(pytest.File):
    """A file with one contract."""

    def collect(self) -> "Iterator[ContractItem]":
        """The contract as one test."""
        yield ContractItem.from_parent(self, name="contract")


class ContractItem(pytest.Item):
    """A contract: passes if it holds, is skipped if it cannot be told, fails with its verdict if broken."""

    def runtest(self) -> None:
        """Checks it."""
        from pharos.decide.verdict import BROKEN, HOLDS, check_file
        from pharos.quantity.errors import PharosError

        try:
            verdict = check_file(_shown(self.path))
        except PharosError as error:
            raise ContractFailed(str(error)) from None
        if verdict.verdict == HOLDS:
            return
        if verdict.verdict == BROKEN or _asked(self.config, "pharos_strict"):
            from pharos.testing import told

            raise ContractFailed(told(verdict))
        open_ = [f"{x.name}: {x.remedy}" for x in verdict.limits if x.verdict != HOLDS]
        pytest.skip(f"cannot tell: {'; '.join(open_)}")

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        """The verdict alone: where in Pharos it was found helps nobody."""
        if isinstance(excinfo.value, ContractFailed):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """The file, and the name that reports show."""
        return self.path, 0, f"contract {_shown(self.path)}"


class ContractFailed(AssertionError):
    """A contract that does not hold; its message is the verdict."""


def _shown(path: Path) -> str:
    """A path from the current folder where it lies below, so that models named from there are found."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


@pytest.fixture
def pharos_contract(request: pytest.FixtureRequest) -> Any:
    """A function that holds a contract: ``pharos_contract("contract.yaml", model=None)``.

    The file lies beside the test, or below pytest's root; `model` (a name, a `Model` or an ``nn.Module`` with
    example inputs) stands in for the one that the contract names. Returns the verdict; an AssertionError with
    the verdict as its message where it does not hold, or cannot be told and `allow_unknown` is not given.
    """

    def held(
        path: str | Path, model: Any = None, *args: Any, allow_unknown: bool = False, **kwargs: Any
    ) -> "Verdict":
        __tracebackhide__ = True
        from pharos.testing import check_model, require

        beside = [base / path for base in (request.path.parent, request.config.rootpath)]
        file = next((place for place in beside if place.is_file()), Path(path))
        return require(check_model(_shown(file), model, *args, **kwargs), allow_unknown=allow_unknown)

    return held


@pytest.fixture
def budget() -> Any:
    """A function that holds a model against limits: ``budget(model, params="5M", latency="9 ms", on=...)``.

    See `pharos.testing.assert_budget`.
    """

    def held(model: Any, *args: Any, **limits: Any) -> Any:
        __tracebackhide__ = True
        from pharos.testing import assert_budget

        return assert_budget(model, *args, **limits)

    return held
