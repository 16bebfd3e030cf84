"""Studies: arguments are read strictly, answers are numbers with reasons, and none is slow to ask."""

import json

import pytest
from typer.testing import CliRunner

from pharos.book.study import find_study, run_study, studies
from pharos.doors.cli.app import app
from pharos.quantity.errors import PharosError

run = CliRunner()
NAMES = sorted(studies())


@pytest.mark.parametrize("name", NAMES)
def test_every_study_answers_by_its_defaults(name):
    found = find_study(name)
    for kind, default in found.arguments().values():
        assert kind is not None
        assert default is not None or name in found.required
    if found.required:
        with pytest.raises(PharosError, match="needs"):
            run_study(name)
        return
    told = run_study(name)
    assert told.answer
    assert told.numbers
    assert told.evidence
    assert all(len(row) == len(told.columns) for row in told.rows)
    shown = run.invoke(app, ["study", name, "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.output)["numbers"].keys() == told.numbers.keys()


def test_mistakes_are_told():
    with pytest.raises(PharosError, match="did you mean parameter-sharing"):
        run_study("parameter-shering")
    with pytest.raises(PharosError, match="did you mean kernel"):
        run_study("parameter-sharing", kernal=3)
    with pytest.raises(PharosError, match="not a whole number"):
        run_study("parameter-sharing", kernel="2.5")
    with pytest.raises(PharosError, match="kernel"):
        run_study("parameter-sharing", kernel="three")
    shown = run.invoke(app, ["study", "parameter-sharing", "kernel"])
    assert shown.exit_code != 0


def test_parameter_sharing_by_hand():
    told = run_study("Parameter_Sharing", side="10", kernel=3, channels=2, outputs=4)
    assert told.numbers["dense_parameters"] == (100 * 2) * (100 * 4)
    assert told.numbers["local_parameters"] == 100 * 9 * 2 * 4
    assert told.numbers["shared_parameters"] == 9 * 2 * 4
    # 224 x 224 x 3 inputs of a unit against 3 x 3 x 3 weights of a filter
    assert run_study("parameter-sharing").numbers["per_unit_ratio"] == pytest.approx(150_528 / 27)
