"""`pharos show` beside the count: formulas, primitives, card, stages, training, as text and as JSON."""

import json

import pytest
from typer.testing import CliRunner

from pharos.doors.cli.app import app
from pharos.models.registry import FAMILIES

run = CliRunner()


def shown(*arguments, width="80"):
    result = run.invoke(app, ["show", *arguments], env={"COLUMNS": width})
    assert result.exit_code == 0, result.output
    return result.output


def test_formulas_of_a_family_and_of_a_model():
    text = shown("transformer", "--symbolic")
    assert "d (12 d + 13)  =  O(d^2)" in text
    row = json.loads(shown("gpt2-small", "--symbolic", "--json"))
    # L (12 n d^2 + 2 n^2 d) + n d V, and 2 L d kept numbers of 4 bytes a token
    assert row["formulas"]["macs"] == {"exact": "768 B n (24 n + 160849)", "leading": "O(B n^2)"}
    assert row["formulas"]["state_bytes"]["exact"] == "73728 B n"
    assert json.loads(shown("resnet18", "--symbolic", "--json"))["symbols"] == {"B": "batch"}


def test_primitives_add_up_to_the_macs():
    row = json.loads(shown("resnet50", "--primitives", "--json"))
    computing = row["primitives"]["computation"]
    # every MAC is in a window or a matrix product; pooling slides windows too
    pooled = 9 * 64 * 56 * 56
    assert sum(computing.values()) - pooled == row["totals"]["macs"]
    assert "sliding_window" in shown("resnet50", "--primitives")


@pytest.mark.parametrize(
    ("name", "bias"),
    [("mlp", "no structure"), ("resnet18", "translation equivariance"), ("lstm_tagger", "sequential state"),
     ("gpt2-small", "all-pairs"), ("vit_b_16", "patches"), ("dlrm", "categories"), ("mamba-130m", "decay")],
)  # fmt: skip
def test_cards_name_the_biases(name, bias):
    row = json.loads(shown(name, "--lens", "--json"))["lens"]
    assert any(bias in each for each in row["inductive_biases"])
    for part in ("pattern_processing_needs", "algorithmic_structure", "computational_mapping",
                 "system_implications"):  # fmt: skip
        assert row[part]["says"]
        assert row[part]["numbers"]


def test_every_family_has_a_card():
    from pharos.facts.tables import families

    assert set(families()) == set(FAMILIES)


def test_stages_and_training():
    text = shown("resnet50", "--stages", "--train", "--optimizer", "sgd")
    assert "427 x 427" in text
    assert "training step, sgd" in text
    row = json.loads(shown("gpt2-small", "-c", "64", "--train", "--checkpointing", "layers", "--json"))[
        "training"
    ]
    assert row["memory_bytes"]["optimizer"] == 8 * 124_439_808
    assert row["recomputed"]["macs"] < row["forward"]["macs"] < row["backward"]["macs"]


@pytest.mark.parametrize("width", ["80", "120"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("gpt2-small", "--symbolic"),
        ("resnet50", "--primitives", "--lens", "--stages", "--train"),
        ("cnn", "--symbolic"),
    ],
)
def test_no_line_is_wider_than_the_terminal(arguments, width):
    assert max(map(len, shown(*arguments, width=width).splitlines())) <= int(width)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("lenet5", "--train", "--checkpointing", "layers"), "repeats no layer"),
        (("mlp", "--train", "--optimizer", "adm"), "did you mean adam"),
        (("unet(resolution=64)", "--symbolic", "--batch", "x"), "batch"),
    ],
)
def test_mistakes_are_told(arguments, told):
    from pharos.doors.cli import main

    assert main
    result = run.invoke(app, ["show", *arguments])
    assert result.exit_code != 0
    assert told in str(result.exception)
