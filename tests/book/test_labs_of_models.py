"""Labs of training and structure: small runs hold, and their numbers are those of other ways to get them."""

import json
from math import isfinite, log, sqrt

import numpy as np
import pytest
from typer.testing import CliRunner

from pharos.book.chapter import claims
from pharos.book.lab import find_lab, labs, run_lab
from pharos.book.ledger import named
from pharos.book.shown import row
from pharos.doors.cli.app import app
from pharos.quantity.errors import InputError, PharosError
from pharos.report.labs import labs_page, outcome_row

torch = pytest.importorskip("torch")

OWN = ("equivariance", "gating", "gradient-flow", "lookup", "normalisation", "recurrence", "sqrt-dk")
run = CliRunner()


@pytest.mark.parametrize("name", OWN)
def test_a_small_run_holds_and_measures_what_it_says(name):
    told = []
    before = torch.get_rng_state()
    outcome = run_lab(name, small=True, progress=lambda at, of, words: told.append((at, of)))
    # random numbers of whoever asked go on where they were
    assert torch.equal(torch.get_rng_state(), before)
    assert [c for c in outcome.checks if not c.holds] == []
    assert told[-1][0] == told[-1][1] > 1
    assert all(0 <= at <= of for at, of in told)
    measured = {c for f in outcome.findings for c in f.claims}
    assert measured <= set(find_lab(name).claims)
    assert all(f.section and f.found for f in outcome.findings)
    assert all(len(row) == len(outcome.columns) for row in outcome.rows)
    text = json.dumps(outcome_row(outcome), allow_nan=False)
    assert outcome.name in text
    assert f"## {name}" in labs_page([(outcome, 1.0)])
    if outcome.figure is not None:
        json.dumps(outcome.figure.spec, allow_nan=False)
        assert outcome.figure.spec["data"]["values"]


def test_the_ledger_leads_to_the_labs_and_back():
    known = set(claims())
    for one in labs().values():
        assert set(one.claims) <= known, one.name
        assert len(set(one.claims)) == len(one.claims)
    (entry,) = named(["bn-jacobian"])
    assert entry.labs == ("normalisation",)
    assert row(entry)["labs"] == ["normalisation"]
    assert find_lab("sqrt_dk").sections == ("1.6",)
    shown = run.invoke(app, ["ledger", "bn-jacobian"]).stdout
    assert "lab: normalisation" in shown
    assert "(1.6)" in run.invoke(app, ["lab", "--list"], env={"COLUMNS": "200"}).stdout


def test_what_cannot_be_drawn_is_refused_before_the_lab_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("pharos.book.lab.run_lab", lambda *_: pytest.fail("it ran"))
    for path in ("x.gif", "nowhere/x.png"):
        found = run.invoke(app, ["lab", "equivariance", "--plot", str(tmp_path / path)])
        assert isinstance(found.exception, InputError)


class TestEquivariance:
    def test_shifts_and_turns_are_numpys(self):
        from pharos.book.labs.equivariance import moved_in, shift, turned_image
        from pharos.ops.group_conv import element

        x = np.arange(50.0).reshape(1, 2, 5, 5)
        assert np.array_equal(shift(x, 1, 2), np.roll(np.roll(x, 1, -2), 2, -1))
        assert np.array_equal(turned_image(x, element(0, 1)), np.rot90(x, 1, (-2, -1)))
        assert np.array_equal(turned_image(x, element(1, 0)), x[..., ::-1])
        assert np.array_equal(moved_in(x, 0, 3)[..., 3:], x[..., :2])
        assert not moved_in(x, 0, 3)[..., :3].any()

    def test_error_of_a_map_that_does_and_of_one_that_does_not(self):
        from pharos.book.labs.equivariance import equivariance_error

        x = np.random.default_rng(0).standard_normal((2, 3, 8, 8))
        assert equivariance_error(lambda x: 2 * x, x, 1, 3) == (0, 0, 0)
        ramp = np.arange(8.0)
        whole, inside, share = equivariance_error(lambda x: x * ramp, x, 0, 1, reach=2)
        assert whole > 0.5
        assert share == 1
        # a border of one that is wrong is left out
        border = np.zeros((8, 8))
        border[0] = 1
        whole, inside, share = equivariance_error(lambda x: x + border * x, x, 1, 0, reach=2)
        assert whole > 0.1
        assert inside == 0
        assert share == 2 / 8
        # stride 2 takes a shift by 2 to one by 1
        assert equivariance_error(lambda x: x[..., ::2, ::2], x, 2, 2, stride=2)[0] == 0

    def test_the_edge_is_the_chapters_and_scipys(self):
        signal = pytest.importorskip("scipy.signal")
        from pharos.book.labs.equivariance import EDGE, edge_example

        found = edge_example()
        image, weight = np.array(found["image"]), np.array(EDGE[0][0])
        assert image[:, 2].tolist() == [1] * 7
        assert image.sum() == 7
        assert found["map"] == signal.correlate2d(image, weight, "valid").tolist()
        assert found["map, true convolution"] == signal.convolve2d(image, weight, "valid").tolist()
        assert found["map, zeros around"] == signal.correlate2d(image, weight, "same").tolist()
        # what leaves the map has left the shifted one as well
        assert found["map of a line in column 6"] == found["map shifted by 3"] == [[0, 0, 0, 3, 0]] * 5

    def test_verdicts_turn_with_the_data(self):
        from pharos.book.labs.equivariance import equals

        assert [equals(True), equals(True, True), equals(False), equals(False, True)] == [
            "agrees",
            "partly",
            "contradicts",
            "contradicts",
        ]


class TestGradientFlow:
    def test_gradients_are_those_of_a_network_written_by_hand(self):
        from pharos.book.stacks import gradient_norms, layers_of, network, stack
        from pharos.book.trials import digits

        graph = stack(4, skip=True, channels=3, batch=5)
        assert len(layers_of(graph)) == 4
        torch.manual_seed(0)
        made = network(graph)
        images, labels = map(torch.from_numpy, digits(5, 0))
        found = gradient_norms(made, graph, images, labels)
        w = {k: v.detach().clone().requires_grad_() for k, v in made.named_parameters()}
        conv = torch.nn.functional.conv2d
        x = conv(images, w["stem.weight"], w["stem.bias"], padding=1).relu()
        for i in range(2):
            y = conv(x, w[f"layers.{i}.conv1.weight"], w[f"layers.{i}.conv1.bias"], padding=1).relu()
            x = (conv(y, w[f"layers.{i}.conv2.weight"], w[f"layers.{i}.conv2.bias"], padding=1) + x).relu()
        logits = x.flatten(1) @ w["head.weight"].T + w["head.bias"]
        torch.nn.functional.cross_entropy(logits, labels).backward()
        wanted = [float(w[n].grad.norm()) for n in layers_of(graph)]
        assert found == pytest.approx(wanted, rel=1e-4)

    def test_starts(self):
        from pharos.book.stacks import layers_of, network, stack

        graph = stack(2, channels=8)
        weight = network(graph, "orthogonal", 1.5).get_parameter(layers_of(graph)[0])
        middle = weight[:, :, 1, 1].detach().numpy()
        assert middle @ middle.T == pytest.approx(2.25 * np.eye(8), abs=1e-5)
        assert float(weight.detach().abs().sum()) == pytest.approx(float(np.abs(middle).sum()))
        he = network(stack(2, channels=64), "he").get_parameter(layers_of(graph)[0])
        assert float(he.detach().std()) == pytest.approx(sqrt(2 / (64 * 9)), rel=0.05)
        with pytest.raises(PharosError, match="did you mean"):
            network(graph, "orthogonl")
        with pytest.raises(PharosError, match="norm"):
            stack(2, norm="bach")

    def test_overflow_is_where_powers_of_1p5_leave_the_format(self):
        from pharos.book.labs.gradient_flow import _overflow

        layers, value = 0, np.float16(1)
        with np.errstate(over="ignore"):
            while np.isfinite(value):
                layers, value = layers + 1, np.float16(value * np.float16(1.5))
        assert _overflow("float16") == layers == 28
        assert _overflow("float32") == 219

    def test_verdicts_turn_with_the_data(self):
        from pharos.book.labs.gradient_flow import (
            CHANCE,
            learns,
            near,
            of_balance,
            of_barrier,
            of_cluster,
            of_dying,
            of_gain,
            of_share,
            of_vanishing,
            per_layer,
            spread,
        )
        from pharos.book.trials import Curve

        assert per_layer([1e-6, 1e-6, 1], 4) == pytest.approx(1e-2)
        assert [near(v, 20, 1.25, 2) for v in (22, 35, 60, 0)] == [
            "agrees",
            "partly",
            "contradicts",
            "contradicts",
        ]
        assert of_vanishing([7.2, 6.9], [7, 7.5], 7) == "agrees"
        assert of_vanishing([20, 20], [-1, -1], 7) == "partly"
        assert of_vanishing([0.2, 20], [7, 7], 7) == "contradicts"
        assert of_gain([4.2], [3.8], 4) == "agrees"
        assert of_gain([22], [2], 4) == "partly"
        assert of_gain([-1], [2], 4) == "contradicts"
        assert of_cluster([0.8, 1, 1.2], 3) == "agrees"
        assert of_cluster([0, 1, 1.2], 3) == "partly"
        assert of_cluster([0, 1, 1.2], 1e9) == "contradicts"
        assert [of_balance([s]) for s in (0.1, 2, 6)] == ["contradicts", "partly", "agrees"]
        assert [of_dying(*d) for d in ((0.1, 0.5), (0.5, 0.5), (0, 0))] == ["agrees", "partly", "contradicts"]
        assert spread([1, 100, 10]) == pytest.approx(2)
        shares = [of_share(v, 0.01, 0.05, 0.15) for v in (0.1, 0.055, 0.045, 0.3)]
        assert shares == ["agrees", "partly", "cannot tell", "contradicts"]
        assert of_share(0.1, 0.2, 0.05, 0.15) == "cannot tell"
        good, bad = Curve((2.3,) * 9 + (0.1,)), Curve((CHANCE,) * 10)
        assert learns([good, good, bad])
        assert not learns([good, bad, bad])
        works = {("plain, tanh, orthogonal", 50): False, ("plain, batch norm", 50): False,
                 ("residual", 50): True, ("plain, ReLU, He", 50): False}  # fmt: skip
        assert of_barrier(works) == "agrees"
        assert of_barrier(works | {("plain, tanh, orthogonal", 50): True}) == "contradicts"
        assert of_barrier(works | {("residual", 50): False}) == "cannot tell"


class TestNormalisation:
    def test_jacobian_by_differences(self):
        from pharos.book.labs.normalisation import exact, printed

        x, eps, step = np.random.default_rng(1).standard_normal(6) * 0.01, 1e-5, 1e-6

        def normed(x, kind):
            if kind == "RMS":
                return x / np.sqrt((x**2).mean() + eps)
            return (x - x.mean()) / np.sqrt(x.var() + eps)

        for kind in ("batch", "RMS"):
            wanted = np.stack([(normed(x + step * e, kind) - normed(x - step * e, kind)) / (2 * step)
                               for e in np.eye(6)], 1)  # fmt: skip
            assert exact(x, kind, eps) == pytest.approx(wanted, rel=1e-4, abs=1e-4)
            if kind == "batch":
                assert np.abs(printed(x, eps) - wanted).max() > 1
        # without eps the two are one
        assert printed(x, 0) == pytest.approx(exact(x, "batch", 0))

    def test_eigenvalues_are_two_noughts_and_one_over_the_deviation(self):
        from pharos.book.labs.normalisation import EPS, SAMPLES, jacobians

        for std in (0.01, 3.0):
            found = jacobians(std, 5)
            variance = float((np.random.default_rng(5).standard_normal(SAMPLES) * std).var())
            assert found["batch"]["largest"] == pytest.approx(1 / sqrt(variance + EPS))
            assert (found["batch"]["noughts"], found["layer"]["noughts"], found["RMS"]["noughts"]) == (
                2,
                2,
                1,
            )

    def test_the_slope_of_batch_statistics(self):
        from pharos.book.labs.normalisation import _companions

        found = _companions(0)
        assert found["one"] == 0
        assert found["refused"]
        assert found["rows"] < 1e-6
        assert list(found["batch"].values()) == sorted(found["batch"].values(), reverse=True)

    def test_verdicts_turn_with_the_data(self):
        from pharos.book.labs.normalisation import (
            of_batches,
            of_both,
            of_bounds,
            of_dependence,
            of_formula,
            of_narrowing,
            of_saving,
            of_spread,
        )

        assert [of_formula(e) for e in ([0.0], [0.1, 1e-6], [0.1])] == ["agrees", "partly", "contradicts"]
        assert of_bounds([0.6, 1.9], 0.5, 2) == "agrees"
        assert of_bounds([0.6, 1.9, 3], 0.5, 2) == "partly"
        assert of_bounds([0.6, 0.1, 3], 0.5, 2) == "contradicts"
        alone = [[0.01, 0.05, 0.1], [0.1, 0.5, 1.0], [1.0, 5.0, 10.0]]
        assert of_narrowing(alone, [[0.6, 1, 1.2]] * 3) == "agrees"
        assert of_narrowing(alone, [[0.1, 1, 1.2]] * 3) == "partly"
        assert of_narrowing(alone, alone) == "contradicts"
        assert of_spread([1e5], [3]) == "agrees"
        assert of_spread([1e5], [100]) == "partly"
        assert of_spread([10], [100]) == "contradicts"
        good = {"batch": {2: 0.5}, "rows": 0.0, "modes": {"batch": 0.3, "layer": 0.0, "RMS": 0.0}}
        assert of_dependence(good) == "agrees"
        assert of_dependence(good | {"rows": 0.1}) == "contradicts"
        level = {2: [0.9], 4: [0.9], 8: [0.9], 16: [0.9], 32: [0.9]}
        assert of_batches(level, level) == "contradicts"
        assert of_batches({m: [0.2] for m in level}, {m: [0.2] for m in level}) == "cannot tell"
        assert of_batches(level | {2: [0.5]}, level) == "partly"
        assert of_batches(level | {8: [0.5]}, level) == "agrees"
        assert of_batches(level | {8: [0.5]}, level | {8: [0.5]}) == "partly"
        assert of_both("agrees", "agrees") == "agrees"
        assert of_both("contradicts", "partly") == of_both("contradicts", "agrees") == "partly"
        assert of_both("cannot tell", "agrees") == "cannot tell"
        assert of_saving(0.4, [(0.3, 0.01)]) == "agrees"
        assert of_saving(0.4, [(0.3, 0.2)]) == "cannot tell"
        assert of_saving(0.4, [(-0.9, 0.01)]) == "partly"
        assert of_saving(-0.1, [(0.3, 0.01)]) == "contradicts"


class TestRecurrence:
    def test_gradients_at_rest_are_powers_of_the_radius(self):
        from pharos.book.labs.recurrence import gradients

        found = gradients(40, 3)["gains"]
        for radius in (0.5, 0.9, 1.0, 1.1):
            assert found[f"RNN, radius {radius:g}", "at rest"] == pytest.approx(radius**40, rel=1e-3)
            assert found[f"RNN, radius {radius:g}", "driven by inputs"] < radius**40

    def test_memory_of_training_is_what_the_hand_counts(self):
        from pharos.book.labs.recurrence import _memory

        found = _memory((16, 32))
        # outputs of every step and its inputs, and the first state
        hand = 4 * 16 * (128 + 100) * 4
        assert found["RNN, 128 units", 16][0] == pytest.approx(hand, rel=0.05)
        quadratic = [
            found["attention, materialised", t][0] - found["attention, tiled", t][0] for t in (16, 32)
        ]
        assert quadratic[1] / quadratic[0] == pytest.approx(4, rel=0.25)

    def test_pieces_of_a_sequence_and_other_orders_give_the_same(self):
        from pharos.book.labs.recurrence import _faster, _truncated

        assert _faster(5, 0.01, layers=3)["apart"] < 1e-5
        found = _truncated(24, 1)
        assert found[1.0, 24][0] == 1
        assert found[1.0, 1][0] < found[1.0, 8][0] < 1
        assert found[1.0, 8][1] < found[1.0, 24][1] / 2

    def test_verdicts_turn_with_the_data(self):
        from pharos.book.labs.recurrence import (
            exponent,
            of_gains,
            of_growth,
            of_powers,
            of_product,
            of_quadratic,
            of_reach,
            of_width,
        )

        assert exponent(16, 1, 4) == 2
        assert of_growth([1.0, 0.9], 0.02) == "agrees"
        assert of_growth([1.0, 0.6], 0.02) == "partly"
        assert of_growth([0.1], 0.02) == "contradicts"
        assert of_growth([1.0], 0.5) == "cannot tell"
        assert [of_width([w], 32) for w in (5, 40)] == ["partly", "contradicts"]
        assert [of_powers(1, p) for p in (1.01, 1.3, 2)] == ["agrees", "partly", "contradicts"]
        assert [of_quadratic(2, t) for t in (1.9, 1.0)] == ["agrees", "partly"]
        assert of_quadratic(1, 1) == "contradicts"
        assert of_product({0.9: 0.9}, {0.9: 0.9}) == "agrees"
        assert of_product({0.9: 0.9}, {0.9: 0.5}) == "partly"
        assert of_product({0.9: 0.5}, {0.9: 0.5}) == "contradicts"
        assert [of_reach(f, 0.04) for f in (0.01, 1e-6)] == ["agrees", "contradicts"]
        assert of_gains([2, 3], 0.01) == "agrees"
        assert of_gains([2, 0.9], 0.01) == "partly"
        assert of_gains([1.01, 0.99], 0.01) == "cannot tell"
        assert of_gains([0.5, 0.9], 0.01) == "contradicts"


class TestSqrtDk:
    def test_the_largest_exponent_is_the_logarithm_of_the_largest_number(self):
        from pharos.book.labs.sqrt_dk import largest_exponent

        assert largest_exponent() == pytest.approx(log(65504), abs=0.01)
        assert round(largest_exponent(), 2) == 11.09

    def test_slope_of_softmax_by_differences(self):
        from pharos.book.labs.sqrt_dk import slope, slope_of_equal

        s = np.random.default_rng(2).standard_normal(5)

        def softmax(s):
            return np.exp(s) / np.exp(s).sum()

        wanted = np.linalg.norm([(softmax(s + 1e-6 * e) - softmax(s - 1e-6 * e)) / 2e-6 for e in np.eye(5)])
        assert float(slope(torch.from_numpy(softmax(s)))) == pytest.approx(wanted, rel=1e-6)
        assert slope_of_equal(5) == pytest.approx(float(slope(torch.full((5,), 0.2).double())))

    def test_no_other_weights_have_more_entropy(self):
        from pharos.book.labs.sqrt_dk import _entropy

        found = _entropy(300, 7)
        assert found["own"] - 0.1 < found["best_other"] < found["own"]

    def test_verdicts_turn_with_the_data(self):
        from pharos.book.labs.sqrt_dk import of_overflow, of_saturation, of_variance

        assert [of_variance(w, 0.01, 0.03) for w in (0.02, 0.05, 0.5)] == ["agrees", "partly", "contradicts"]
        assert of_saturation([0.05], [0.9], 0.01, 0.05) == "agrees"
        assert of_saturation([0.05], [0.9], 0.01, 0.5) == "partly"
        assert of_saturation([0.95], [0.9], 0.01, 0.5) == "contradicts"
        by = {16: {"products": 0.0}, 256: {"products": 0.0}, 1024: {"products": 0.0}}
        assert of_overflow(by) == "contradicts"
        assert of_overflow(by | {1024: {"products": 0.1}}) == "partly"
        assert of_overflow(by | {256: {"products": 0.1}, 1024: {"products": 0.1}}) == "agrees"


class TestGating:
    def test_the_balancing_loss_makes_loads_even(self):
        from pharos.book.labs.gating import _experts

        without, with_ = (_experts(a, 150, 1) for a in (0.0, 0.1))
        assert sum(with_["load"]) == pytest.approx(1)
        assert with_["busiest"] < without["busiest"]

    def test_the_gate_that_keeps_is_the_one_that_is_opened(self):
        from pharos.book.labs.gating import HIDDEN
        from pharos.ops.recurrent import GRU, LSTM

        for cell in (LSTM, GRU):
            made = cell(2, HIDDEN).torch(torch)
            with torch.no_grad():
                for parameter in made.parameters():
                    parameter.zero_()
                made.bias_ih_l0[HIDDEN : 2 * HIDDEN] = 30.0
                state = {k: torch.full((1, 1, HIDDEN), 0.3) for k in cell.states}
                made(torch.zeros(1, 1, 2), state)
            assert state[cell.states[-1]].numpy() == pytest.approx(0.3, abs=1e-6)

    def test_verdicts_turn_with_the_data(self):
        from pharos.book.labs.gating import RECALLERS, of_cost, of_depth, of_load, of_memory, of_same
        from pharos.book.trials import Curve

        low = {name: [0.2, 0.2] for name in RECALLERS}
        high = low | {"LSTM": [0.9, 0.8], "GRU": [0.9, 0.9]}
        assert of_memory(high, [0.9, 0.9]) == "agrees"
        assert of_memory(low | {"LSTM, open": [0.9, 0.9]}, [0.9, 0.9]) == "partly"
        assert of_memory(low | {"RNN": [0.9, 0.9]}, [0.9, 0.9]) == "contradicts"
        assert of_memory(high, [0.2, 0.2]) == "cannot tell"
        assert of_cost(3, 4, 0.1) == "agrees"
        assert of_cost(4, 4, 0.1) == "partly"
        assert of_cost(2, 9, 0.1) == "contradicts"
        assert of_cost(4, 4, 0.9) == "cannot tell"
        assert of_same([0.9], [0.85]) == "agrees"
        assert of_same([0.9], [0.5]) == "partly"
        assert of_same([0.9, 0.2], [0.4, 0.4]) in ("cannot tell", "partly")
        good, bad = Curve((0.3,) * 10), Curve((2.3,) * 10)
        assert of_depth([bad], [good]) == "agrees"
        assert of_depth([good], [bad]) == "contradicts"
        assert of_depth([good, bad], [good, bad]) == "cannot tell"
        assert [of_load([3.0], w) for w in ([1.2], [2.5], [4.0])] == ["agrees", "partly", "contradicts"]


class TestLookup:
    def test_weights_are_softmax_of_likeness(self):
        from pharos.book.labs.lookup import WIDTH, _retrieved

        found = _retrieved(16, 0.0, 2)
        assert found["hash table"]["right"] == 1
        # the own key scores root d, others about a normal number: e^8 against 15 e^0.5
        own = np.exp(sqrt(WIDTH))
        assert found["attention, 1/root d"]["weight"] == pytest.approx(
            own / (own + 15 * np.exp(0.5)), abs=0.01
        )
        assert found["attention, 1/root d"]["macs"] == 16 * (WIDTH + 32)
        strayed = _retrieved(16, 0.5, 2)
        assert strayed["hash table"]["right"] == 0
        assert strayed["attention, 4/root d"]["right"] > 0.99

    def test_likeness(self):
        from pharos.book.labs.lookup import likeness

        a, b = torch.tensor([[1.0, 0, 0, 0]]), torch.tensor([[0.0, 1, 0, 0]])
        assert likeness(a, a) == pytest.approx(1)
        assert likeness(a, b) == pytest.approx(-1 / 3)

    def test_verdicts_turn_with_the_data(self):
        from pharos.book.labs.lookup import of_heads, of_lookup

        assert of_lookup(1, 1, 0, 1) == "agrees"
        assert of_lookup(1, 1, 0, 0.2) == "partly"
        assert of_lookup(0.5, 1, 0, 1) == of_lookup(1, 0, 0, 1) == "contradicts"
        assert [of_heads([0.95], [x]) for x in (0.1, 0.5, 0.9)] == ["agrees", "partly", "contradicts"]
        assert of_heads([0.3], [0.1]) == "cannot tell"


def test_trials():
    from pharos.book.trials import Curve, apart, decades, descend, digits, over, saved_bytes, seeded

    images, labels = digits(400, 1, noise=0.0, roam=False)
    assert images.shape == (400, 1, 8, 8)
    assert images.mean() == pytest.approx(0, abs=1e-5)
    assert images.std() == pytest.approx(1, abs=1e-5)
    assert set(labels) == set(range(10))
    # every digit is drawn differently from all others
    firsts = [images[labels == d][0] for d in range(10)]
    assert min(np.abs(a - b).max() for i, a in enumerate(firsts) for b in firsts[:i]) > 1
    assert np.array_equal(images, digits(400, 1, noise=0.0, roam=False)[0])
    assert not np.array_equal(digits(4, 1)[0], digits(4, 2)[0])
    with seeded(4):
        first = torch.rand(3)
    with seeded(4):
        assert torch.equal(torch.rand(3), first)
    assert apart([1, 2], [1, 4]) == 0.5
    assert decades(100, 1) == 2
    assert not isfinite(decades(1, 0))
    assert over([0.5]) == "0.5"
    assert over([3, 1, 2], ".0f") == "2 (1 to 3)"
    w = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        w.weight.fill_(1.0)
    # w <- w - rate 2 w: 0.8 of it each step, without momentum
    losses = descend(w, lambda _: (w.weight**2).sum(), 3, 0.1, momentum=0.0)
    assert losses == pytest.approx([0.8 ** (2 * i) for i in range(3)])
    assert Curve(descend(w, lambda _: w.weight.sum() / 0, 4, 0.1)).last == float("inf")
    x = torch.randn(10, 10, requires_grad=True)
    # exp keeps its output, and the product with itself the same memory again
    assert saved_bytes(lambda: x.exp() ** 2) == 400
