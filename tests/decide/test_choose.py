"""Choosing: the eight briefs from words and from files, the rules behind them, and briefs that cannot be met."""

import dataclasses
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pharos.decide.accuracy import accuracy_of, chosen_right, published, with_classes
from pharos.decide.biases import bias, by_strength, candidates, match, without_network
from pharos.decide.brief import Brief, read_brief
from pharos.decide.choose import choose, choose_file
from pharos.decide.chosen_contract import contract_of, contract_text
from pharos.decide.data.facts import Data
from pharos.decide.search import evaluate, pareto
from pharos.decide.spaces import members
from pharos.decide.verdict import BROKEN, check_file
from pharos.facts.reading import parse_yaml
from pharos.facts.tables import families
from pharos.machines.machine import find_machine
from pharos.models.registry import find, parse_name
from pharos.quantity.errors import InputError

ROOT = Path(__file__).parents[2]
BRIEFS = ROOT / "examples" / "briefs"
sys.path.insert(0, str(ROOT / "examples"))

# Brief -> families that may be chosen, what the model's name starts with.
ENDS = {
    "wildlife": (("cnn",), "mobilenet_v2"), "loan": (("mlp",), "mlp"), "photos": (("cnn",), ""),
    "speech": (("rnn", "ssm"), "sequence_"), "documents": (("transformer",), ""), "clicks": (("dlrm",), "dlrm"),
    "keywords": (("cnn",), "ds_cnn"), "commands": (("cnn-1d", "rnn"), "sequence_"),
}  # fmt: skip


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    import make_data

    root = tmp_path_factory.mktemp("made")
    make_data.make(root / "data", [])
    (root / "briefs" / "from_files").mkdir(parents=True)
    for path in (BRIEFS / "from_files").glob("*.yaml"):
        (root / "briefs" / "from_files" / path.name).write_text(path.read_text())
    return root / "briefs" / "from_files"


@pytest.fixture(scope="module")
def chosen():
    found = {}

    def get(name):
        if name not in found:
            found[name] = choose_file(BRIEFS / f"{name}.yaml")
        return found[name]

    return get


def ends_where_it_should(name, found):
    allowed, begins = ENDS[name]
    assert found.chosen is not None
    assert found.chosen.member.family in allowed
    assert found.chosen.member.model.startswith(begins)
    order = [m.family for m in found.matches]
    if name == "wildlife":
        width = parse_name(found.chosen.member.model)[1]["width"]
        assert width == 0.75
        assert found.chosen.precision == "int8"
    if name == "loan":
        assert found.alternative is not None
        assert "trees" in found.alternative.name
    if name == "photos":
        assert order.index("cnn") < order.index("vit") < order.index("mlp")
    if name == "clicks":
        assert found.chosen.devices > 1
    if name == "commands":
        assert order.index("cnn-1d") < order.index("transformer") > order.index("rnn")


def check_figure(text, name):
    """A figure of a contract given as text."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "contract.yaml"
        path.write_text(text)
        return next(v.figure for v in check_file(path).limits if v.name == name)


@pytest.mark.parametrize("name", ENDS)
def test_from_words(name, chosen):
    ends_where_it_should(name, chosen(name))


@pytest.mark.parametrize("name", ENDS)
def test_from_a_file(name, generated):
    ends_where_it_should(name, choose_file(generated / f"{name}.yaml"))


@pytest.mark.parametrize("name", ENDS)
def test_the_contract_is_one_that_check_reads_and_does_not_break(name, chosen, tmp_path):
    found = chosen(name)
    path = tmp_path / "contract.yaml"
    path.write_text(contract_text(found.chosen, found.brief))
    verdict = check_file(path)
    assert verdict.verdict != BROKEN
    # the same prediction, alone, as the search made with arrays
    told = {v.name: v.figure.value for v in verdict.limits}
    if "latency" in told and found.chosen.devices == 1:
        assert told["latency"] == pytest.approx(found.chosen.value("latency"), rel=1e-6)


def test_a_growing_cache_is_told_in_hours(chosen):
    reasons = dict(chosen("speech").rejected)
    assert "hours" in reasons["transformer"]


def test_scores_of_long_documents_do_not_fit_and_must_be_tiled(chosen):
    step = next(s for s in chosen("documents").trail if s.step == "attention")
    # llama-3.1-8b: 32 heads, 32,000 queries and keys, two bytes each
    assert step.numbers["scores_bytes"] == 32 * 32_000**2 * 2
    assert step.answer == "no"
    assert "tiled" in step.action


def test_the_trail_answers_every_question_and_ends(chosen):
    found = chosen("wildlife")
    steps = [s.step for s in found.trail]
    assert steps[:3] == ["data", "candidates", "memory"]
    assert steps[-1] == "search"
    assert all(s.answer and s.action and s.question for s in found.trail)
    assert any(s.answer == "no" and "back to memory" in s.action for s in found.trail)


# ----- the rules


def test_every_family_states_its_biases():
    for family in families():
        b = bias(family)
        for name in ("locality", "weight_sharing", "recurrence", "permutation", "all_pairs", "sparse_lookup",
                     "lookback", "streams", "varies"):  # fmt: skip
            assert 0 <= getattr(b, name) <= 1
        assert b.labels
        assert all(few < enough and source for few, enough, source in b.labels.values())
    ranked = [b.family for b in by_strength()]
    assert ranked.index("cnn") < ranked.index("rnn") < ranked.index("transformer") < ranked.index("mlp")


def test_more_labels_never_speak_against_families_that_assume_little():
    for family in ("vit", "mlp"):
        scores = [match(Data(kind="images", labels=10**e), family).score for e in range(2, 10)]
        assert scores == sorted(scores)


def test_a_vit_gains_on_a_cnn_with_labels():
    """Dosovitskiy et al. 2020, figure 3: behind at 1.3 M images, close at 14 M, ahead at 300 M."""
    gap = [match(Data(kind="images", labels=n), "cnn").score - match(Data(kind="images", labels=n), "vit").score
           for n in (50_000, 1_300_000, 14_000_000, 300_000_000)]  # fmt: skip
    assert gap[0] > gap[1] > 2 > gap[2] > gap[3]
    assert gap[3] < 0


@given(st.floats(1, 50), st.floats(0.5, 1))
@settings(max_examples=20, deadline=None)
def test_the_farther_dependence_reaches_the_better_for_attention(length, share):
    length = int(length * 1000)
    near = Data(kind="text", labels=10**6, length=length, dependence=4.0)
    far = dataclasses.replace(near, dependence=share * length)
    lead = [match(d, "transformer").score - match(d, "cnn-1d").score for d in (near, far)]
    assert lead[0] < lead[1]


def test_shuffled_pixels_take_the_lead_of_the_cnn_away():
    kept = Data(kind="images", labels=20_000, neighbours=0.9, reach=8, translation=0.95)
    lost = dataclasses.replace(kept, neighbours=0.0, reach=0.6, translation=0.2)
    lead = [match(d, "cnn").score - match(d, "mlp").score for d in (kept, lost)]
    assert lead[1] < lead[0] - 3


def test_endless_streams_want_a_state_that_does_not_grow():
    found = candidates(Data(kind="audio", labels=10**6, unbounded=True, dependence=500))
    assert {m.family for m in found[:2]} == {"rnn", "ssm"}


def test_trees_are_named_for_tables_alone():
    assert without_network(Data(kind="tabular", labels=5000)).leads
    assert not without_network(Data(kind="tabular", labels=10**8)).leads
    assert without_network(Data(kind="images", labels=5000)) is None


# ----- accuracy as evidence


def test_forced_choice_has_its_known_values():
    assert chosen_right(0, 10) == pytest.approx(0.1, abs=1e-4)
    # two alternatives: Phi(d / sqrt 2), Green and Swets 1966
    assert chosen_right(1, 2) == pytest.approx(0.7602, abs=1e-3)
    # m = 10 and d' = 2 by simulation
    import numpy as np

    rng = np.random.default_rng(0)
    wins = (rng.normal(2, 1, 200_000) > rng.normal(size=(9, 200_000)).max(0)).mean()
    assert chosen_right(2, 10) == pytest.approx(wins, abs=0.005)


@given(st.floats(0.3, 0.95))
@settings(max_examples=20, deadline=None)
def test_fewer_classes_are_easier_and_the_same_are_the_same(accuracy):
    assert with_classes(accuracy, 1000, 1000) == pytest.approx(accuracy, abs=1e-3)
    assert with_classes(accuracy, 1000, 50) > accuracy
    assert with_classes(accuracy, 50, 1000) < accuracy


def test_unknown_accuracy_stays_unknown():
    data = Data(kind="images", labels=20_000, classes=50)
    assert accuracy_of("mobilenet_v2(width=0.77)", 224, "fp32", data, "classify", True).value is None
    assert accuracy_of("resnet50", 224, "int8", data, "classify", True).value is None
    # published with a million labels, here are few and nothing to start from
    assert accuracy_of("mobilenet_v2", 224, "fp32", data, "classify", False).value is None
    assert accuracy_of("mobilenet_v2", 224, "fp32", data, "classify", True).value > 0.9


def test_published_rows_name_models_and_sources():
    rows = published()
    assert len(rows) > 100
    for row in rows:
        assert 0 < row.accuracy < 1
        assert row.source
        assert row.trained
    for model in {r.model for r in rows}:
        find(model)


# ----- the search


def brief(**fields):
    text = {"name": "b", "data": {"kind": "images"}, **fields}
    return Brief.model_validate(text)


def test_arrays_and_single_predictions_agree():
    data, machine = (
        Data(kind="text", labels=50_000, classes=8, length=50, dependence=5, vocabulary=500),
        find_machine("cortex-a53"),
    )
    asked = brief(limits={"latency": "1 s"})
    for family in ("cnn-1d", "rnn", "ssm", "transformer"):
        space = [m for m in members(family, data, "classify", 1, False) if m.knobs["depth"] == 2]
        together, _ = evaluate(space, machine, asked, data, ("int8",))
        alone = [evaluate([m], machine, asked, data, ("int8",))[0][0] for m in space[::4]]
        by = {t.label: t for t in together}
        for trial in alone:
            for name in ("latency", "memory", "storage", "macs", "parameters"):
                assert trial.value(name) == pytest.approx(by[trial.label].value(name), rel=1e-9), (
                    family,
                    name,
                )


def test_nothing_on_the_front_is_beaten():
    data = Data(kind="images", labels=20_000, classes=50, resolution=224)
    trials, _ = evaluate(members("cnn", data, "classify", 1, True), find_machine("cortex-a53"),
                         brief(use={"pretrained": True}), data, ("int8",))  # fmt: skip
    front = pareto(trials)
    assert 0 < len(front) < len(trials)

    def axes(t):
        return (-(t.value("accuracy") or 0), t.value("latency"), t.value("memory"))

    for a in front:
        assert not any(all(x < y for x, y in zip(axes(b), axes(a), strict=True)) for b in trials)


# ----- briefs that cannot be met, and mistakes


def decide(text):
    document = parse_yaml(text, "b.yaml")
    return choose(Brief.model_validate(document.data), document)


def test_one_limit_that_nothing_meets():
    found = decide("""
name: b
data: {kind: images, labels: 20000, classes: 50, resolution: 224}
limits: {latency: 1 ms, memory: 512 MB, accuracy: 90%}
use: {pretrained: true}
machine: cortex-a53
""")
    assert found.chosen is None
    assert len(found.conflicts) == 1
    assert "latency 1 ms" in found.conflicts[0]
    assert "latency" in found.relaxation.limits


def test_two_limits_that_conflict_and_the_nearest_relaxation():
    text = """
name: b
data: {{kind: images, labels: 20000, classes: 50, resolution: 224}}
limits: {{latency: {latency} s, accuracy: {accuracy}}}
use: {{pretrained: true}}
machine: cortex-a53
"""
    found = decide(text.format(latency=0.018, accuracy=0.95))
    assert found.chosen is None
    assert all("latency" in c and "accuracy" in c and "alone" in c for c in found.conflicts)
    # the relaxation is enough
    limits = {"latency": 0.018, "accuracy": 0.95}
    limits |= {n: need for n, (_, need) in found.relaxation.limits.items()}
    assert decide(text.format(**limits)).chosen is not None


def test_the_cheapest_machine_on_which_the_choice_stands():
    found = decide("""
name: b
data: {kind: images, labels: 20000, classes: 50, resolution: 224}
limits: {latency: 500 ms, memory: 512 MB, accuracy: 90%}
use: {pretrained: true}
machine: [nvidia-t4, stm32f407, cortex-a53]
""")
    assert found.cheapest == "rpi3_cortex_a53"
    step = next(s for s in found.trail if s.step == "machine")
    assert step.numbers["stm32f407_cortex_m4"] != "stands"


def test_what_the_machine_has_is_a_limit_too():
    found = decide("""
name: b
data: {kind: images, labels: 20000, classes: 50, resolution: 224}
limits: {latency: 100 s, accuracy: 90%}
use: {pretrained: true}
machine: stm32f407
""")
    assert found.chosen is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: b\ndata: {kind: pictures}\n", "data.kind"),
        ("name: b\ndata: {kind: images, clases: 3}\n", "did you mean classes?"),
        ("name: b\ndata: {says: nothing}\n", "needs a file, or a kind"),
        ("name: b\ndata: {kind: images}\nlimits: {latency: 5 kg}\n", "limits.latency"),
        ("name: b\ndata: {kind: images}\nlimits: {accuracy: 90}\n", "between 0 and 1"),
        ("name: b\ndata: {kind: text, dependence: wide}\n", "local nor far"),
        ("name: b\ntask: clasify\ndata: {kind: images}\n", "task"),
        ("data: {kind: images}\n", "'name' is missing"),
        ("name: b\ndata: {file: none.csv}\n", "does not exist"),
        ("name: b\ndata: {kind: images}\nmachine: cortex-a5x\n", "cortex-a53"),
        ("name: b\ndata: {kind: images}\nmachine: {name: cortex-a53, clok: 1 GHz}\n", "did you mean clock?"),
        ("- a\n", "not a brief"),
        ("name: b\ndata: {kind: interactions}\n", "data.tables"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path, text, told):
    path = tmp_path / "brief.yaml"
    path.write_text(text)
    with pytest.raises(Exception) as error:
        choose_file(path)
    assert "brief.yaml:" in str(error.value)
    assert told in str(error.value)
    assert type(error.value).__module__ == InputError.__module__


def test_a_contract_of_shards_is_one_device(chosen):
    found = chosen("clicks")
    rows = parse_name(contract_of(found.chosen, found.brief)["model"])[1]["rows"]
    whole = parse_name(found.chosen.member.model)[1]["rows"]
    assert all(
        abs(a * found.chosen.devices - b) <= found.chosen.devices for a, b in zip(rows, whole, strict=True)
    )


def test_what_shards_exchange_is_in_the_latency(chosen):
    found = chosen("clicks")
    best, n = found.chosen, found.chosen.devices
    sent = found.brief.use.batch * 3 * 128 * 2
    # no quicker than the bytes over the link, (n - 1) / n of each device's buffer
    assert best.exchange.value > sent * (n - 1) / n / 300e9
    alone = check_figure(contract_text(best, found.brief), "latency")
    assert best.value("latency") == pytest.approx(alone.value + best.exchange.value, rel=1e-3)
    assert contract_of(best, found.brief)["limits"]["latency"] == pytest.approx(0.01 - best.exchange.high)


def test_data_that_no_family_here_takes_are_told():
    found = decide("{name: b, data: {kind: graph, labels: 1000}, machine: cortex-a53}")
    assert found.chosen is None
    assert "graph" in found.conflicts[0]


def test_every_example_brief_is_read():
    paths = [*BRIEFS.glob("*.yaml"), *(BRIEFS / "from_files").glob("*.yaml")]
    assert len(paths) == 2 * len(ENDS)
    for path in paths:
        read_brief(path)
