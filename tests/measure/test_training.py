"""Training: known functions are learnt, seeds repeat, stopping stops, shared tensors predict what was trained."""

import numpy as np
import pytest

from pharos.graph.workload import Workload
from pharos.models.registry import find
from pharos.quantity.errors import PharosError

torch = pytest.importorskip("torch")

from pharos.measure.training import Recipe, train  # noqa: E402

NONE = (np.zeros((0, 4), np.float32),), np.zeros(0, np.int64)


def graphs(model, context=None):
    return lambda batch: find(model).graph(Workload(batch=batch, context=context))


def circle(n, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)).astype(np.float32)
    return (x,), (x[:, 0] ** 2 + x[:, 1] ** 2 > 1.4).astype(np.int64)


def test_a_circle_is_learnt_and_repeats_by_seed():
    x, y = circle(600)
    held, test = circle(100, 1), circle(300, 2)
    recipe = Recipe(steps=300, rate=1e-2)
    made = [
        train(graphs("mlp(widths=(4, 16, 16, 2))"), "classes", x, y, *held, recipe, seed=s) for s in (3, 3, 4)
    ]
    assert all(m is not None for m in made)
    found = [m.predict(test[0]) for m in made]
    assert (found[0] == test[1]).mean() > 0.9
    assert made[0].losses == made[1].losses
    assert np.array_equal(found[0], found[1])
    assert made[0].losses != made[2].losses
    # scores rank as predictions do
    assert np.array_equal(made[0].scores(test[0]) > 0, found[0] == 1)


def test_a_number_is_learnt_in_its_own_units():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 4)).astype(np.float32)
    y = 1000 + 50 * np.sin(2 * x[:, 0]) + 20 * x[:, 1]
    made = train(graphs("mlp(widths=(4, 24, 24, 1))"), "number", (x[:400],), y[:400], (x[400:450],), y[400:450],
                 Recipe(steps=400, rate=1e-2))  # fmt: skip
    left = ((made.predict((x[450:],)) - y[450:]) ** 2).mean() / y[450:].var()
    assert left < 0.1


def test_it_stops_early_and_keeps_the_best():
    """Labels are noise: validation gets worse while training gets better."""
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(40, 4)).astype(np.float32),), rng.integers(0, 2, 40)
    held = (rng.normal(size=(40, 4)).astype(np.float32),), rng.integers(0, 2, 40)
    made = train(graphs("mlp(widths=(4, 64, 64, 2))"), "classes", x, y, *held,
                 Recipe(steps=400, rate=1e-2, patience=5))  # fmt: skip
    assert made.stopped
    assert made.steps < 400
    assert made.best == min(loss for _, loss in made.looks)
    logits = made.scores(held[0])
    # of two classes cross entropy is that of the difference of logits
    again = np.log1p(np.exp(-np.where(held[1] == 1, logits, -logits))).mean()
    assert again == pytest.approx(made.best, rel=1e-4)


def test_it_stops_when_told_and_leaves_torch_as_it_was():
    x, y = circle(64)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    calls = iter([False, False, True])
    assert train(graphs("mlp(widths=(4, 8, 2))"), "classes", x, y, *NONE, Recipe(steps=50),
                 stop=lambda: next(calls)) is None  # fmt: skip
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("model", "shape", "context"),
    [
        (
            "small_cnn(side=8, channels=(4, 8), dense=(), normed=True, pooled=True, classes=3)",
            (1, 8, 8),
            None,
        ),
        (
            "small_vit(side=8, image_channels=1, patch=2, hidden=8, layers=1, heads=2, classes=3)",
            (1, 8, 8),
            None,
        ),
        ("sequence_rnn(features=2, hidden=6, layers=1, classes=3)", (5, 2), 5),
        ("sequence_transformer(features=2, hidden=8, layers=1, heads=2, classes=3)", (5, 2), 5),
    ],
)
def test_any_number_of_examples_is_predicted_as_one_by_one(model, shape, context):
    """The graph of another batch shares the trained tensors, norms' averages included."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(24, *shape)).astype(np.float32), rng.integers(0, 3, 24)
    made = train(graphs(model, context), "classes", (x,), y, (x[:6],), y[:6], Recipe(steps=6, batch=8))
    together = made.scores((x,))
    assert len(together) == 24
    alone = np.concatenate([made.scores((x[i : i + 1],)) for i in range(24)])
    assert together == pytest.approx(alone, abs=1e-5)


def test_outputs_that_are_shares_are_learnt():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 10, (400, 1))
    y = (ids[:, 0] % 2).astype(np.int64)
    dense = np.ones((400, 1), np.float32)
    model = "dlrm(rows=(10,), dim=4, dense=1, bottom=(4,), top=(8, 1))"
    made = train(
        graphs(model), "shares", (dense, ids), y, (dense[:50], ids[:50]), y[:50], Recipe(steps=200, rate=1e-2)
    )
    assert (made.predict((dense, ids)) == y).mean() == 1


def test_an_unknown_loss_is_told():
    x, y = circle(8)
    with pytest.raises(PharosError, match="did you mean classes"):
        train(graphs("mlp(widths=(4, 8, 2))"), "clases", x, y, *NONE, Recipe())


def test_the_rate_rises_and_falls():
    recipe = Recipe(rate=1.0, steps=100, warm=0.1)
    rates = [recipe.rate_at(i) for i in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.01
