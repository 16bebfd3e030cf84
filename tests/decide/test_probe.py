"""Probes: known structure is found, shuffling takes it away, budgets match and are kept, nothing leaks, mistakes are told."""

import json
import sys
from io import StringIO
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from typer.testing import CliRunner

from pharos.decide.data.facts import Data
from pharos.decide.data.inspect import inspect
from pharos.decide.data.labelled import SIDE, read_labelled, shrunk, target
from pharos.decide.data.views import Views
from pharos.decide.members import TOLERANCE, matched
from pharos.decide.probe import Asked, area, probe, split, stratified
from pharos.decide.probe_verdict import verdict_of
from pharos.doors.cli.app import app
from pharos.graph.count import count
from pharos.quantity.errors import PharosError
from pharos.report.probes import probe_row

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
run = CliRunner()
LONG = 600.0


@pytest.fixture(scope="module")
def glyphs(tmp_path_factory):
    import make_data

    at = tmp_path_factory.mktemp("glyphs")
    make_data.make(at, ["glyphs"])
    return at / "glyphs.npz"


@pytest.fixture(scope="module")
def probed(glyphs):
    pytest.importorskip("torch")
    asked = Asked(families=("cnn", "mlp"), budget=2000, seeds=2, time_s=LONG, shuffle=True, sizes=(24, 96))
    return probe(str(glyphs), asked)


def write(at, text):
    at.write_text(text)
    return str(at)


def test_a_translated_pattern_is_learnt_by_a_cnn_from_fewer_samples(probed):
    """Five glyphs of one histogram in any of 16 places: what a CNN assumes, and the MLP has to learn."""
    verdict = verdict_of(probed)
    assert verdict.best == "cnn"
    assert verdict.clear
    lead = probed.advantages()[0]
    assert (lead.first, lead.second) == ("cnn", "mlp")
    assert lead.ratio.value > 2
    assert lead.gap > 0.2
    assert probed.curves["cnn"].means[-1] < 0.4


def test_shuffled_pixels_remove_the_gap(probed):
    assert verdict_of(probed).gap == "gone"
    cnn, mlp = (probed.shuffled[f].means[-1] for f in ("cnn", "mlp"))
    assert cnn > mlp - 0.05
    # the MLP sees the same numbers in another order; all that it learns is as good
    assert probed.curves["mlp"].means[-1] == pytest.approx(mlp, abs=0.12)


def test_the_same_seed_gives_the_same_errors(glyphs):
    pytest.importorskip("torch")
    asked = Asked(families=("mlp",), budget=2000, seeds=1, time_s=LONG, sizes=(24, 48), seed=5)
    first, second = probe(str(glyphs), asked), probe(str(glyphs), asked)
    assert first.curves["mlp"].errors == second.curves["mlp"].errors
    assert first.rates == second.rates


@pytest.mark.parametrize("by", ["parameters", "macs"])
@pytest.mark.parametrize(
    ("form", "families"),
    [("grid", ["cnn", "vit", "mlp"]), ("steps", ["cnn-1d", "rnn", "transformer", "ssm", "mlp"]),
     ("tokens", ["cnn-1d", "rnn", "transformer", "mlp"]), ("ids", ["dlrm", "mlp"])],
)  # fmt: skip
def test_members_have_one_size(form, families, by):
    from pharos.decide.data.views import Shape

    shape = {
        "grid": Shape(form="grid", outputs=10, flat=784, grid=(1, 28, 28)),
        "steps": Shape(form="steps", outputs=6, flat=600, grid=(1, 60, 10), steps=(60, 10)),
        "tokens": Shape(form="tokens", outputs=4, steps=(50, 0), vocabulary=500),
        "ids": Shape(form="ids", outputs=2, flat=300, tables=(300, 50), dense=3),
    }[form]
    budget = (
        {"grid": 400_000, "steps": 600_000, "tokens": 400_000, "ids": 30_000}[form]
        if by == "macs"
        else 25_000
    )
    if (form, by) == ("tokens", "macs") or (form, by) == ("grid", "macs"):
        families = [f for f in families if f != "mlp"]
    found = matched(families, shape, "x", "classes", by, budget)
    sizes = [m.size(by) for m in found.members]
    assert max(sizes) / min(sizes) - 1 == pytest.approx(found.apart)
    assert found.apart <= TOLERANCE
    assert found.holds
    assert all(budget / 1.45 < s < budget * 1.45 for s in sizes)
    for m in found.members:
        # counted again from the name that is shown
        counted = count(m.graph(1))
        assert (counted.parameters, counted.macs) == (m.parameters, m.macs)


def test_members_have_the_parameters_that_torch_sees():
    pytest.importorskip("torch")
    from pharos import to_torch
    from pharos.decide.data.views import Shape

    shape = Shape(form="grid", outputs=10, flat=64, grid=(1, 8, 8))
    for m in matched(["cnn", "vit", "mlp"], shape, "images", "classes").members:
        assert sum(p.numel() for p in to_torch(m.graph(2)).parameters()) == m.parameters


def test_the_time_is_kept(glyphs):
    pytest.importorskip("torch")
    asked = Asked(families=("cnn", "mlp"), budget=4000, seeds=9, time_s=4.0)
    began = monotonic()
    try:
        found = probe(str(glyphs), asked)
    except PharosError as error:
        assert "not a single sample size was finished" in str(error)
    else:
        assert found.runs < found.planned
        # every size has all families or is not there
        assert len({c.sizes for c in found.curves.values()}) == 1
    # what cannot be cut short is one step, one fit and reading
    assert monotonic() - began < 60


def test_samples_are_stratified_and_grow():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2, 3], [400, 200, 100, 20])
    order = stratified(y, ("a", "b", "c", "d"), rng)
    assert sorted(order) == list(range(720))
    for n in (36, 72, 180, 720):
        counts = np.bincount(y[order[:n]], minlength=4)
        assert np.all(np.abs(counts - n * np.array([400, 200, 100, 20]) / 720) <= 1.01)
    kept, held = split(y, ("a", "b", "c", "d"), 0.25, 2000, np.random.default_rng(1))
    assert not set(kept) & set(held)
    assert len(held) == 180


def test_a_test_set_is_never_learnt_from(glyphs):
    """Scales come from the sample alone: other test inputs change nothing of what is learnt from."""
    data = inspect(str(glyphs))
    found = read_labelled(str(glyphs), data)
    pool, test = split(found.y, found.classes, 0.25, 2000, np.random.default_rng(0))
    before = Views(found, pool).of("mlp", pool[:50], pool[:50])[0]
    found.inputs[0][test] += 1e6
    assert np.array_equal(Views(found, pool).of("mlp", pool[:50], pool[:50])[0], before)


def test_tables_are_read_with_gaps_names_and_row_numbers(tmp_path):
    rng = np.random.default_rng(0)
    lines = ["id,age,town,wage,outcome"]
    for i in range(200):
        age = "" if i % 10 == 0 else f"{rng.normal(40, 10):.1f}"
        lines.append(f"r{i},{age},{'abc'[i % 3]},{rng.normal():.3f},{'yes' if i % 4 else 'no'}")
    path = write(tmp_path / "t.csv", "\n".join(lines))
    found = read_labelled(path, inspect(path))
    assert found.classes == ("no", "yes")
    assert found.inputs[0].shape == (200, 2)
    assert found.inputs[1].shape == (200, 1)
    assert any("id" in note for note in found.notes)
    views = Views(found, np.arange(150))
    x = views.of("mlp", np.arange(150), np.arange(150, 200))[0]
    # two columns, a flag for the one with gaps, three towns with two places for missing and unseen
    assert x.shape == (50, 3 + 5) == (50, views.shape.flat)
    assert np.isfinite(x).all()
    assert x[:, 2].sum() == 5
    assert np.array_equal(x[:, 3:].sum(axis=1), np.ones(50))
    own = views.of("mlp", np.arange(150), np.arange(150))[0]
    assert own[:, 1].mean() == pytest.approx(0, abs=1e-5)
    assert own[:, 1].std() == pytest.approx(1, abs=1e-5)


def test_labels_are_classes_or_numbers():
    codes, classes, rows = target(["b", "a", "", "b", None])
    assert (codes.tolist(), classes, rows.tolist()) == ([1, 0, 1], ("a", "b"), [0, 1, 3])
    codes, classes, _ = target(["3", "5"] * 20)
    assert classes == ("3", "5")
    values, classes, _ = target([f"{v:.3f}" for v in np.linspace(0, 1, 50)])
    assert classes == ()
    assert values[-1] == 1.0


def test_images_shrink_to_means():
    x = np.arange(64 * 64, dtype=np.float32).reshape(1, 1, 64, 64)
    small, notes = shrunk(x)
    assert small.shape == (1, 1, SIDE, SIDE)
    assert small[0, 0, 0, 0] == x[0, 0, :2, :2].mean()
    assert small.mean() == pytest.approx(x.mean())
    assert notes
    assert shrunk(small)[1] == ()


def test_folders_of_images_and_sound_have_their_folders_as_labels(tmp_path):
    image = pytest.importorskip("PIL.Image")
    import wave

    rng = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        (tmp_path / "pictures" / kind).mkdir(parents=True)
        (tmp_path / "sounds" / kind).mkdir(parents=True)
        for i in range(6):
            image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(
                tmp_path / "pictures" / kind / f"{i}.png"
            )
            with wave.open(str(tmp_path / "sounds" / kind / f"{i}.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(8000)
                file.writeframes(rng.integers(-999, 999, 4000 + 100 * i).astype("<i2").tobytes())
    pictures = read_labelled(tmp_path / "pictures", inspect(tmp_path / "pictures"))
    assert (pictures.form, pictures.classes, len(pictures)) == ("grid", ("cat", "dog"), 12)
    assert pictures.inputs[0].shape == (12, 3, SIDE, SIDE)
    sounds = read_labelled(tmp_path / "sounds", inspect(tmp_path / "sounds"))
    assert sounds.form == "steps"
    assert sounds.inputs[0].shape[2] == 10
    shape = Views(sounds, np.arange(8)).shape
    assert shape.grid[1:] == shape.steps


def test_texts_are_padded_before_and_shuffled_by_place(tmp_path):
    rows = [
        json.dumps({"text": f"w{i} of {'good' if i % 2 else 'bad'} things", "label": i % 2})
        for i in range(40)
    ]
    path = write(tmp_path / "t.jsonl", "\n".join([*rows, json.dumps({"text": "short", "label": 1})]))
    found = read_labelled(path, inspect(path))
    assert found.form == "tokens"
    assert found.inputs[0].shape == (41, 4)
    assert found.inputs[0][-1].tolist()[:3] == [-1, -1, -1]
    mixed = found.shuffled(0).inputs[0]
    assert not np.array_equal(mixed, found.inputs[0])
    assert np.array_equal(np.sort(mixed, axis=1), np.sort(found.inputs[0], axis=1))
    ids = Views(found, np.arange(20)).of("rnn", np.arange(20), np.arange(41))[0]
    # what the pool never showed is one unknown token
    assert ids[30, 0] == 1
    assert ids[-1, 0] == 0
    counts = Views(found, np.arange(20)).seen_as("bag", np.arange(20), np.arange(41))[0]
    assert counts[:, 0].sum() == 0


def test_the_area_under_a_curve_is_the_share_of_pairs():
    rng = np.random.default_rng(0)
    scores, y = rng.integers(0, 6, 80).astype(float), rng.integers(0, 2, 80)
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[y == 1] for b in scores[y == 0]]
    assert area(scores, y) == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize(
    ("text", "arguments", "told"),
    [
        ("a,b\n" + "1,2\n" * 40, [], "no column is a label"),
        ("a,label\n" + "1,x\n" * 40, [], "learning to tell takes two"),
        ("a,label\n" + "1,x\n2,y\n" * 40, ["--label", "lable"], "did you mean label"),
        ("a,label\n" + "1,x\n2,y\n" * 40, ["--families", "cnm"], "unknown family"),
        ("a,label\n" + "1,x\n2,y\n" * 40, ["--families", "cnn"], "takes no tabular"),
        ("a,label\n" + "1,x\n2,y\n" * 40, ["--shuffle"], "columns have no order"),
        ("a,label\n" + "1,x\n2,y\n" * 40, ["--budget", "3"], "the smallest mlp"),
        ("a,label\n" + "1,x\n2,y\n" * 40, ["--budget", "3 weights"], "is not counted"),
        ("a,label\n" + "1,x\n2,y\n" * 40, ["--target", "150%"], "between 0 and 1"),
        ("a,label\n" + "1,x\n2,y\n" * 40, ["--time", "0s"], "above 0"),
        ("a,label\n" + "1,x\n2,y\n" * 40, ["-o", "x.pdf"], "no form of a report"),
        ("source,target\n" + "1,2\n2,3\n" * 40, [], "no family here takes graphs"),
    ],
)  # fmt: skip
def test_mistakes_are_told(tmp_path, text, arguments, told):
    path = write(tmp_path / "t.csv", text)
    found = run.invoke(app, ["probe", path, *arguments])
    assert isinstance(found.exception, PharosError)
    assert told in str(found.exception)


def test_arrays_without_labels_are_told(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((20, 4)))
    with pytest.raises(PharosError, match="examples and no labels"):
        read_labelled(tmp_path / "x.npy", inspect(tmp_path / "x.npy"))
    with pytest.raises(PharosError, match="names a column"):
        read_labelled(tmp_path / "x.npy", Data(kind="tabular"), label="y")


def test_what_is_printed_and_its_json(probed):
    from rich.console import Console

    from pharos.report.probes import print_probe

    row = json.loads(json.dumps(probe_row(probed), allow_nan=False))
    assert row["schema"] == "pharos/probe@1"
    assert {c["name"] for c in row["curves"]} >= {"cnn", "mlp"}
    assert all("cannot_tell" in c for c in row["curves"])
    assert row["verdict"]["gap_when_shuffled"] == "gone"
    for width in (80, 120):
        screen = Console(width=width, record=True, file=StringIO())
        print_probe(screen, probed)
        text = screen.export_text()
        assert text.startswith("CNN")
        assert max(map(len, text.splitlines())) <= width
        assert "a law takes 4" in text.replace("\n", " ")


def test_curves_are_drawn(probed):
    pytest.importorskip("altair")
    from pharos.report.probes import probe_figure

    spec = probe_figure(probed).themed()
    told = {(r["learner"], r["data"]) for r in spec["data"]["values"]}
    assert told >= {("cnn", "as they are"), ("mlp", "pixels shuffled")}


def test_a_brief_may_ask_for_a_probe(glyphs, probed):
    """What was learnt of the data is evidence for accuracy, and orders the families."""
    from pharos.decide.accuracy import accuracy_of
    from pharos.decide.biases import candidates
    from pharos.decide.brief import Brief
    from pharos.decide.probed import learnt, probe_step, weighed, with_probe

    brief = Brief.model_validate(
        {"name": "x", "data": {"file": str(glyphs)}, "probe": {"time": "5 s"}, "machine": "cortex-a53"}
    )
    assert brief.probe is not None
    assert brief.probe.time == 5
    assert Brief.model_validate({"name": "x", "data": {"kind": "images"}, "probe": False}).probe is None
    before = candidates(probed.data)
    after = weighed(before, probed)
    assert after[0].family == "cnn"
    assert "probe [measured]" in after[0].reasons[0]
    mlp = [next(m for m in ms if m.family == "mlp") for ms in (before, after)]
    assert mlp[1].score < mlp[0].score
    # two sizes give no law: accuracy with all labels is at least what was seen, and not known
    told = learnt(probed)["cnn"]
    assert told.value is None
    assert told.low == pytest.approx(1 - float(probed.curves["cnn"].means[-1]))
    from pharos.decide.probe import with_size

    all_seen = with_probe(probed.data, with_size(probed, 96))
    figure = accuracy_of(
        "resnet8(width=8, resolution=10, classes=5)", 10, "fp32", all_seen, "classify", False
    )
    assert figure.value == pytest.approx(1 - float(probed.curves["cnn"].means[-1]))
    assert any("measured" in str(e) for e in figure.evidence)
    assert figure.level == "assumed"
    bare = accuracy_of(
        "resnet8(width=8, resolution=10, classes=5)", 10, "fp32", probed.data, "classify", False
    )
    assert bare.value is None
    assert probe_step(probed).answer == "cnn"


def test_a_brief_without_a_file_cannot_be_probed(tmp_path):
    path = write(tmp_path / "b.yaml", "name: x\ndata:\n  kind: images\nprobe: true\nmachine: cortex-a53\n")
    found = run.invoke(app, ["choose", path])
    assert isinstance(found.exception, PharosError)
    assert "b.yaml:4" in str(found.exception)
    assert "there is no file to train on" in str(found.exception)
