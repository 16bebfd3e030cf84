"""Labs of learning: loops equal PyTorch in every family, built networks keep their bound, digits come from somewhere."""

import sys

import numpy as np
import pytest

from pharos.book.digits import DOTS, digits, drawn
from pharos.book.lab import run_lab
from pharos.facts.tables import families as known_families

pytest.importorskip("torch")


def test_every_family_runs_by_loops_as_by_pytorch():
    outcome = run_lab("families", seed=2)
    assert [c for c in outcome.checks if not c.holds] == []
    assert {row[0] for row in outcome.rows} == set(known_families()) == set(outcome.data["cards"])
    for card in outcome.data["cards"].values():
        assert set(card) == {"pattern processing", "algorithmic structure", "computational mapping",
                             "system implications"}  # fmt: skip
        assert all(card.values())
    assert all(f.agreement == "agrees" for f in outcome.findings)


def test_a_wrong_gradient_would_be_seen(monkeypatch):
    """Loops whose activation is another function differ in outputs and slope."""
    from pharos.book.labs.families import CASES, step_by_both
    from pharos.ops.activation import Activation

    graph = next(c for c in CASES if c.family == "mlp").graph(2, 8)
    monkeypatch.setattr(Activation, "loops", lambda self, tally, x: np.maximum(0.9 * x, 0))
    found = step_by_both(graph, 0)
    assert found["forward"] > 1e-3
    assert found["slope"] > 1e-3


def test_width_is_linear_in_dimensions_and_structure_matches():
    outcome = run_lab("approximation", small=True)
    assert [c for c in outcome.checks if not c.holds] == []
    built = {row[1]: row[5] for row in outcome.rows if row[0] == "sum of sines" and row[2] == "built"}
    units = {row[1]: row[3] for row in outcome.rows if row[0] == "sum of sines" and row[2] == "built"}
    assert units[32] == 32 * units[1]
    assert built[32] == pytest.approx(built[1], rel=0.2)
    by_width = [row[5] for row in outcome.rows if row[2] == "built" and row[0] == "one sine"]
    # straight pieces: a quarter of the error for each doubling
    assert np.diff(np.log2(by_width)) == pytest.approx([-2] * 4, abs=0.2)
    assert outcome.findings[1].agreement == "contradicts"


def test_learnability_compares_members_of_one_size():
    outcome = run_lab("learnability", small=True)
    assert [c for c in outcome.checks if not c.holds] == []
    # counted at 28 x 28: 20,037,642 against 421,642
    assert "47.5 times" in outcome.findings[0].found
    assert outcome.findings[0].agreement == "agrees"
    assert set(outcome.data["curves"]) >= {"cnn", "mlp"}
    one = {row[2] for row in outcome.rows if row[0].endswith("one size")}
    assert max(one) / min(one) < 1.15


def test_drawn_digits_are_digits():
    """Each class's mean looks more like its own dots than like another's; the same seed draws the same."""
    found = drawn(3)
    assert found.images.shape == (1797, 10, 10)
    assert not found.real
    assert np.array_equal(found.images, drawn(3).images)
    assert not np.array_equal(found.images, drawn(4).images)
    assert len(np.unique(found.labels)) == 10
    assert len(set(DOTS)) == 10
    means = np.stack([found.images[found.labels == d].mean(axis=0).ravel() for d in range(10)])
    assert np.linalg.norm(means[:, None] - means[None], axis=2)[~np.eye(10, dtype=bool)].min() > 0.3


def test_without_scikit_learn_digits_are_drawn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    assert digits().source == "dot-matrix digits drawn here"


def test_mnist_is_taken_where_torchvision_has_it(monkeypatch):
    import types

    import torch

    class Fake:
        def __init__(self, root, train, download):
            assert train
            assert not download
            self.data = torch.zeros(70, 28, 28, dtype=torch.uint8)
            self.targets = torch.arange(70) % 10

    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    made = types.ModuleType("torchvision.datasets")
    made.MNIST = Fake
    monkeypatch.setitem(sys.modules, "torchvision.datasets", made)
    found = digits()
    assert found.real
    assert found.side == 28
    assert "MNIST" in found.source
