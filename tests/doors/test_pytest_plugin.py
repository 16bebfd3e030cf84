"""The pytest plugin as a project's own tests use it, in processes of their own."""

import subprocess
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
# Where the package is installed with its entry point, pytest finds the plugin by itself.
FOUND = any(e.value == "pharos.doors.pytest_plugin" for e in entry_points(group="pytest11"))
PLUGIN = () if FOUND else ("-p", "pharos.doors.pytest_plugin")
CONTRACT = """name: {name}
model: mobilenet_v2(width={width}, classes=50)
machine: cortex-a53
workload: {{precision: int8}}
limits:
  parameters: 1.6 M
  {more}
"""


@pytest.fixture(autouse=True)
def _source(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))


@pytest.fixture
def project(pytester):
    """Contracts that hold, are broken, and cannot be told."""
    made = {"good": (0.75, ""), "broken": (1.0, ""), "open": (0.75, "latency: 60 ms")}
    for name, (width, more) in made.items():
        pytester.path.joinpath(f"{name}_contract.yaml").write_text(
            CONTRACT.format(name=name, width=width, more=more)
        )
    pytester.path.joinpath("smart_contract.yaml").write_text("abi: []\n")
    return pytester


def run(pytester, *arguments):
    # not inside this process: pytester forgets what a test imports, and modules of C cannot be loaded twice
    return pytester.runpytest_subprocess(*PLUGIN, "-p", "no:cacheprovider", *arguments)


def test_contracts_are_collected_when_asked_for(project):
    found = run(project, "--pharos-contracts", "-rs")
    found.assert_outcomes(passed=1, failed=1, skipped=1)
    text = found.stdout.str()
    # the failure is the verdict and nothing of where it was found
    assert "BROKEN  broken" in text
    assert "mend        parameters: width=0.75: parameters 1.42 M" in text
    assert "Traceback" not in text
    assert "verdict.py" not in text
    assert "cannot tell: latency: the limit lies inside the band" in text


def test_they_are_not_collected_otherwise(project):
    assert run(project).ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_settings_and_strictness(project):
    project.makeini("[pytest]\npharos_contracts = true\npharos_strict = true\n")
    run(project).assert_outcomes(passed=1, failed=2)
    run(project, "good_contract.yaml").assert_outcomes(passed=1)


def test_a_mistake_in_a_contract_is_told_with_its_place(project):
    project.path.joinpath("bad_contract.yaml").write_text(
        "name: x\nmodel: resnet5O\nmachine: a100\nlimits: {macs: 1}\n"
    )
    found = run(project, "--pharos-contracts", "bad_contract.yaml")
    found.assert_outcomes(failed=1)
    assert (
        "bad_contract.yaml:2:1 model: unknown model 'resnet5O' (did you mean resnet50" in found.stdout.str()
    )


def test_the_budget(pytester):
    pytester.makepyfile(
        """
        import pytest
        import pharos

        def test_counts(budget):
            budget("mobilenet_v2", params="5M", macs="310 MMAC")

        def test_too_many(budget):
            budget("mobilenet_v2", params="3M")

        def test_on_a_machine(budget):
            found = budget("mobilenet_v2", params="5M", latency="1 s", on="cortex-a53", precision="int8")
            assert found.verdict == "holds"

        def test_too_slow(budget):
            budget("mobilenet_v2", latency="1 ms", on="cortex-a53", precision="int8")

        def test_cannot_be_told(budget):
            budget("mobilenet_v2", latency="70 ms", on="cortex-a53", precision="int8")

        def test_allowed(budget):
            budget("mobilenet_v2", latency="70 ms", on="cortex-a53", precision="int8", allow_unknown=True)

        def test_mistakes(budget):
            for wrong, told in [(dict(latency="1 ms"), "of a machine"), (dict(parms="3M"), "did you mean"),
                                (dict(params="3 W"), "not a plain number"), ({}, "names no limit")]:
                with pytest.raises(pharos.PharosError, match=told):
                    budget("mobilenet_v2", **wrong)
        """
    )
    found = run(pytester)
    found.assert_outcomes(passed=4, failed=3)
    text = found.stdout.str()
    assert "BROKEN  mobilenet_v2" in text
    assert "BROKEN  budget" in text
    assert "UNKNOWN  budget" in text
    # the line of the test is shown, and none of Pharos's own
    assert '>       budget("mobilenet_v2", params="3M")' in text
    assert "src/pharos" not in text


@pytest.mark.skipif(find_spec("torch") is None, reason="needs torch")
def test_the_budget_of_a_module(pytester):
    pytester.makepyfile(
        """
        from torch import nn

        def test_it(budget):
            net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
            budget(net, parameters=3 * 9 * 8 + 8, input_size=(1, 3, 32, 32))

        def test_too_many(budget):
            budget(nn.Linear(8, 8), parameters=71)
        """
    )
    run(pytester).assert_outcomes(passed=1, failed=1)


def test_a_contract_held_from_a_test(project):
    project.mkdir("checks")
    project.path.joinpath("checks/test_held.py").write_text(
        "def test_good(pharos_contract):\n"
        "    assert pharos_contract('good_contract.yaml').verdict == 'holds'\n"
        "def test_other(pharos_contract):\n"
        "    pharos_contract('good_contract.yaml', 'resnet18')\n"
        "def test_open(pharos_contract):\n"
        "    pharos_contract('open_contract.yaml', allow_unknown=True)\n"
    )
    found = run(project, "checks")
    found.assert_outcomes(passed=2, failed=1)
    assert "parameters" in found.stdout.str()


def test_a_run_without_contracts_loads_nothing_of_pharos(pytester):
    pytester.makepyfile(
        """
        import sys

        def test_it():
            heavy = [m for m in ("numpy", "rich", "pydantic", "sympy", "torch", "pharos.decide") if m in sys.modules]
            assert heavy == []
            assert "pharos.doors.pytest_plugin" in sys.modules
        """
    )
    env = {"PYTHONPATH": str(ROOT / "src"), "PATH": ""}
    found = subprocess.run([sys.executable, "-m", "pytest", "-q", *PLUGIN, "-p", "no:hypothesispytest"], env=env,
                           capture_output=True, text=True, cwd=pytester.path)  # fmt: skip
    assert found.returncode == 0, found.stdout
