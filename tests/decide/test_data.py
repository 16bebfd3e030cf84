"""What data hold and how they are built, against generators whose structure is known in closed form."""

import json
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pharos.decide.data import inspect
from pharos.decide.data.facts import STRUCTURES, Data, structure
from pharos.decide.data.measures import (
    autocorrelation,
    crossing,
    dependence,
    distinct,
    order_p,
    spatial,
    token_dependence,
    zipf,
)
from pharos.quantity.errors import InputError

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))


def ar1(phi, n, seed=0):
    noise = np.random.default_rng(seed).normal(size=n)
    x = np.zeros(n)
    for i in range(1, n):
        x[i] = phi * x[i - 1] + noise[i]
    return x


@pytest.mark.parametrize("phi", [0.3, 0.7, 0.9, 0.97])
def test_dependence_of_an_ar1_process_is_its_closed_form(phi):
    found = dependence(ar1(phi, 60_000))
    assert found.first == pytest.approx(phi, abs=0.02)
    # phi^k = 1/e and phi^k = 0.05
    assert found.e_folding == pytest.approx(-1 / np.log(phi), rel=0.2, abs=0.4)
    assert found.steps == pytest.approx(np.log(0.05) / np.log(phi), rel=0.25, abs=0.5)


def test_autocorrelation_is_the_plain_sum():
    x = np.random.default_rng(1).normal(size=(40, 2))
    y = x - x.mean(0)
    by_hand = [(y[k:] * y[: 40 - k]).sum() / (40 - k) / ((y**2).sum() / 40) for k in range(6)]
    assert autocorrelation(x, 5) == pytest.approx(by_hand)


@given(st.floats(0.05, 0.95), st.floats(0.05, 0.95))
@settings(max_examples=30, deadline=None)
def test_crossing_of_a_geometric_curve(ratio, level):
    curve = ratio ** np.arange(400)
    exact = np.log(level) / np.log(ratio)
    assert abs(crossing(curve, level) - exact) < 0.6 or exact > 399


def test_order_is_seen_and_shuffling_loses_it():
    rng = np.random.default_rng(2)
    x = ar1(0.6, 2000)
    assert order_p(x, rng) <= 0.01
    assert order_p(rng.permutation(x), rng) > 0.05
    tokens = np.cumsum(rng.integers(0, 2, 3000)) % 7
    assert order_p(tokens, rng, 19) == 0.05
    assert order_p(rng.permutation(tokens), rng, 19) > 0.05


def test_p_values_are_uniform_where_order_does_not_matter():
    rng = np.random.default_rng(3)
    found = [order_p(rng.normal(size=64), rng, 19) for _ in range(200)]
    # of 200 tests at 10%, 20 are expected: 6 to 40 by the binomial law
    assert 6 <= sum(p <= 0.1 for p in found) <= 40


@pytest.mark.parametrize("width", [2, 4, 8])
def test_spatial_reach_of_a_box_filter(width):
    """Noise averaged over `width` pixels correlates as 1 - k / width."""
    rng = np.random.default_rng(4)
    noise = rng.normal(size=(40, 64, 64))
    kernel = np.ones(width) / width
    x = np.apply_along_axis(lambda v: np.convolve(v, kernel, "valid"), 1, noise)
    x = np.apply_along_axis(lambda v: np.convolve(v, kernel, "valid"), 2, x)
    found = spatial(x, rng)
    assert found.neighbours == pytest.approx(1 - 1 / width, abs=0.05)
    assert found.reach == pytest.approx(width * (1 - np.exp(-1)), abs=0.35)
    assert found.translation > 0.97
    assert found.rotation > 0.9
    shuffled = rng.permuted(x.reshape(40, -1), axis=1).reshape(x.shape)
    lost = spatial(shuffled, rng)
    assert abs(lost.neighbours) < 0.02
    assert lost.p > found.p == 0.05


def test_place_and_direction_are_seen():
    rng = np.random.default_rng(5)
    fixed = np.tile(rng.normal(size=(1, 32, 32)), (30, 1, 1)) + 0.1 * rng.normal(size=(30, 32, 32))
    assert spatial(fixed, rng).translation < 0.05
    rows = np.repeat(rng.normal(size=(30, 1, 32)), 32, axis=1) + 0.1 * rng.normal(size=(30, 32, 32))
    assert spatial(rows, rng).rotation < 0.5


@pytest.mark.parametrize("s", [0.6, 1.0, 1.4])
def test_zipf_exponent_is_recovered(s):
    p = np.arange(1, 2001) ** -s
    counts = np.random.default_rng(6).multinomial(300_000, p / p.sum())
    assert zipf(counts[counts > 0]) == pytest.approx(s, abs=0.03)


def test_distinct_values_beyond_a_sample():
    """Of 5,000 equally likely values 4,000 draws show some 2,750; Chao's bound is exact in that case."""
    counts = np.bincount(np.random.default_rng(7).integers(0, 5000, 4000))
    seen, estimated = distinct(counts[counts > 0])
    assert seen < 3000
    assert estimated == pytest.approx(5000, rel=0.1)


def test_tokens_that_tell_of_the_next_three_only():
    rng = np.random.default_rng(8)
    documents = []
    for _ in range(400):
        tokens = [0]
        while len(tokens) < 60:
            tokens.append((tokens[-1] + 1) % 30 if rng.random() < 0.5 else int(rng.integers(30)))
        documents.append(np.array(tokens))
    reach, _ = token_dependence(documents, rng)
    # 2^-k of what is known is left after k steps
    assert 2 <= reach <= 8
    mixed = [rng.permutation(30)[rng.integers(0, 30, 60)] for _ in documents]
    assert token_dependence([rng.integers(0, 30, 60) for _ in documents], rng)[0] == 0
    assert len(mixed) == len(documents)


def test_words_that_come_again_anywhere_reach_far():
    rng = np.random.default_rng(9)
    documents = []
    for _ in range(40):
        own = rng.integers(0, 2000, 8)
        often = rng.random(2000) < 0.3
        documents.append(np.where(often, own[rng.integers(0, 8, 2000)], rng.integers(0, 2000, 2000)))
    reach, _ = token_dependence(documents, rng)
    assert reach > 1000
    pool = rng.permutation(np.concatenate(documents))
    assert token_dependence(np.array_split(pool, 40), rng)[0] < 50


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table(tmp_path):
    rng = np.random.default_rng(10)
    rows = [f"{a:.3f},{b},{'red' if b else 'blue'},{int(a > 0)}" for a, b in
            zip(rng.normal(size=500), rng.integers(0, 9, 500), strict=True)]  # fmt: skip
    found = inspect(write(tmp_path / "t.csv", "a,b,colour,label\n" + "\n".join(rows)))
    assert (found.kind, found.examples, found.labels, found.classes, found.features) == (
        "tabular",
        500,
        500,
        2,
        3,
    )
    assert found.order_p > 0.05
    assert structure(found)["columns"].value == 1


def test_identifiers_and_their_skew(tmp_path):
    rng = np.random.default_rng(11)
    p = np.arange(1, 3001) ** -1.1
    users, items = rng.integers(0, 10**6, 4000), rng.choice(3000, 4000, p=p / p.sum())
    rows = [f"{u},{i},{int(rng.random() < 0.1)}" for u, i in zip(users, items, strict=True)]
    found = inspect(write(tmp_path / "log.csv", "user_id,item_id,click\n" + "\n".join(rows)))
    assert found.kind == "interactions"
    assert found.tables[0] == pytest.approx(10**6, rel=0.01)
    assert found.tables[1] == pytest.approx(3000, rel=0.05)
    assert found.classes == 2
    assert structure(found)["ids"].value == 1


def test_edges_and_a_series(tmp_path):
    found = inspect(
        write(tmp_path / "e.csv", "source,target\n" + "\n".join(f"{i},{i * 7 % 50}" for i in range(50)))
    )
    assert (found.kind, found.examples) == ("graph", 50)
    series = ar1(0.9, 3000)
    found = inspect(
        write(tmp_path / "s.csv", "time,load\n" + "\n".join(f"{i},{v:.5f}" for i, v in enumerate(series)))
    )
    assert found.kind == "sequence"
    assert found.order_p <= 0.01
    assert found.dependence == pytest.approx(28.4, rel=0.4)


def test_arrays_by_their_shape(tmp_path):
    rng = np.random.default_rng(12)
    np.savez(
        tmp_path / "i.npz", x=rng.integers(0, 255, (30, 16, 16, 3)).astype(np.uint8), y=np.arange(30) % 5
    )
    found = inspect(tmp_path / "i.npz")
    assert (found.kind, found.resolution, found.channels, found.classes) == ("images", 16, 3, 5)
    np.save(tmp_path / "s.npy", np.stack([ar1(0.8, 400, s) for s in range(20)])[:, :, None] * np.ones(3))
    found = inspect(tmp_path / "s.npy")
    assert (found.kind, found.length, found.features) == ("sequence", 400, 3)
    np.save(tmp_path / "t.npy", rng.normal(size=(300, 12)))
    assert inspect(tmp_path / "t.npy").features == 12


def test_images_in_folders(tmp_path):
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(13)
    for kind in ("cat", "dog"):
        (tmp_path / kind).mkdir()
        for i in range(6):
            smooth = np.kron(rng.integers(0, 255, (8, 8)), np.ones((6, 6)))
            image.fromarray(smooth.astype(np.uint8)).save(tmp_path / kind / f"{i}.png")
    found = inspect(tmp_path)
    assert (found.kind, found.examples, found.classes, found.resolution) == ("images", 12, 2, 48)
    # equal within blocks of 6: 5 of 6 neighbours are the same
    assert found.neighbours == pytest.approx(5 / 6, abs=0.08)
    (tmp_path / "cat" / "x.png").write_bytes(b"no image")
    assert "1 of 13" in " ".join(inspect(tmp_path).notes)


def test_text_and_sound(tmp_path):
    lines = [json.dumps({"text": "a b c " * 5, "label": i % 3}) for i in range(30)]
    found = inspect(write(tmp_path / "t.jsonl", "\n".join(lines)))
    assert (found.kind, found.length, found.classes, found.vocabulary) == ("text", 15, 3, 3)
    with wave.open(str(tmp_path / "s.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes((1000 * np.random.default_rng(14).normal(size=8000)).astype("<i2").tobytes())
    found = inspect(tmp_path / "s.wav")
    assert (found.kind, found.length, found.features) == ("audio", 49, 10)


def test_a_large_file_is_sampled_with_its_error(tmp_path):
    rng = np.random.default_rng(15)
    block = "".join(f"{a:.4f},{b:.4f},{int(a > b)}\n" for a, b in rng.normal(size=(50_000, 2)))
    path = tmp_path / "big.csv"
    with path.open("w") as file:
        file.write("a,b,label\n")
        for _ in range(40):
            file.write(block)
    ticks = []
    found = inspect(path, tick=lambda done, total: ticks.append((done, total)))
    assert found.examples == pytest.approx(2_000_000, rel=0.01)
    assert "standard error" in found.notes[0]
    assert ticks[-1][0] == ticks[-1][1] > 1


def test_parquet_tells_what_the_same_csv_does(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    rng = np.random.default_rng(16)
    rows = "".join(
        f"{a:.4f},{k},{int(a > 0)}\n"
        for a, k in zip(rng.normal(size=500), rng.integers(0, 5, 500), strict=True)
    )
    write(tmp_path / "t.csv", "a,kind,label\n" + rows)
    duckdb.sql(f"COPY (FROM read_csv('{tmp_path / 't.csv'}')) TO '{tmp_path / 't.parquet'}'")
    csv, parquet = (inspect(tmp_path / f"t.{e}") for e in ("csv", "parquet"))
    for name in ("kind", "examples", "labels", "classes", "skew", "features", "order_p"):
        assert getattr(parquet, name) == getattr(csv, name), name
    assert csv.classes == 2


def test_a_long_parquet_file_is_sampled_in_runs(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "long.parquet"
    # sorted by label: its first rows tell nothing of the second class
    duckdb.sql(f"COPY (SELECT i AS a, i >= 450000 AS label FROM range(900000) t(i)) TO '{path}'")
    found = inspect(path)
    assert found.examples == found.labels == 900_000
    assert "200,000 of 900,000 rows in 50 runs" in found.notes[0]
    assert found.classes == 2
    assert found.skew == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.csv", b"", "is empty"),
        ("x.csv", b"a,b\n", "no rows"),
        ("x.csv", b"a,b\n1,2\n3\n4\n", "fields of its header"),
        ("x.csv", b"1,2\n3,4\n", "no header"),
        ("x.csv", b"a,b\n\xff\xfe\xfd\xfc,1\n12345678\n", "UTF-8"),
        ("x.npy", b"\x80\x04abc", "NumPy"),
        ("x.npz", b"PK\x03\x04nothing", "NumPy"),
        ("x.jsonl", b'{"text": "a"}\nnot json\n', "x.jsonl:2"),
        ("x.wav", b"RIFF0000nope", "WAV"),
        ("x.pkl", b"\x80\x04.", "run code"),
        ("x.xyz", b"1", "not known"),
        ("x.parquet", b"PAR1", "arquet"),
    ],
)
def test_bad_files_are_explained(tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        inspect(tmp_path / name)
    assert told in str(error.value)


def test_pickles_are_never_loaded(tmp_path):
    import pickle

    class Bomb:
        def __reduce__(self):
            return (Path(tmp_path / "boom").write_text, ("x",))

    (tmp_path / "b.npy").write_bytes(pickle.dumps(Bomb()))
    np.save(tmp_path / "o.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    for name in ("b.npy", "o.npy"):
        with pytest.raises(InputError):
            inspect(tmp_path / name)
    assert not (tmp_path / "boom").exists()


def test_every_structure_has_a_level():
    for kind in ("tabular", "images", "audio", "text", "sequence", "interactions", "graph"):
        found = structure(Data(kind=kind))
        assert tuple(found) == STRUCTURES
        assert all(v.value is None or 0 <= v.value <= 1 for v in found.values())
