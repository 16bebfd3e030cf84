"""Contracts: verdicts by margin, every mistake with file, line, field and the nearest choice."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from pharos.decide.contract import contract_schema
from pharos.decide.verdict import check_file, judge
from pharos.facts.reading import read_yaml
from pharos.quantity.errors import PharosError
from pharos.quantity.evidence import Figure, exact, fitted, unknown_figure
from pharos.report.verdicts import junit, verdict_row

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*/contract.yaml"))
BASE = """name: test
model: mobilenet_v2
machine: a100-sxm-80gb
workload: {batch: 1, precision: fp16}
limits:
  parameters: 5 M
"""


def write(tmp_path, text):
    path = tmp_path / "contract.yaml"
    path.write_text(text)
    return path


def figure(low, value, high):
    return Figure(value=value, low=low, high=high, unit="s", evidence=(fitted("rows", 0.2),))


@pytest.mark.parametrize(
    ("limit", "verdict", "margin"),
    [
        (2.0, "holds", 2.0),
        (1.5, "holds", 1.5),
        (1.2, "unknown", 1.2),
        (0.6, "unknown", 0.6),
        (0.4, "broken", 0.4),
    ],
)
def test_a_limit_inside_the_band_cannot_be_told(limit, verdict, margin):
    found = judge("latency", limit, figure(0.5, 1.0, 1.5))
    assert (found.verdict, found.margin) == (verdict, margin)


def test_throughput_is_a_lower_limit():
    assert judge("throughput", 10, figure(20, 30, 40)).verdict == "holds"
    assert judge("throughput", 50, figure(20, 30, 40)).verdict == "broken"
    assert judge("throughput", 25, figure(20, 30, 40)).verdict == "unknown"


def test_unknown_is_never_a_pass():
    assert judge("power", 2.0, unknown_figure("W", "not in the catalogue")).verdict == "unknown"
    assert judge("power", 2.0, unknown_figure("W", "at least", low=3.0)).verdict == "broken"
    assert judge("memory", 2.0, exact(1, "B")).verdict == "holds"


def test_the_camera_trap():
    """1.4 M parameters by hand: 2.6 M of the 1000-class network less 950 x 1281 of its head."""
    found = check_file(EXAMPLES[-1])
    limits = {limit.name: limit for limit in found.limits}
    assert found.contract.name == "wildlife-camera"
    assert limits["storage"].figure.value == pytest.approx(2.64e6 - 950 * 1281 + 2 * 17_000, rel=0.03)
    assert limits["storage"].verdict == limits["memory"].verdict == limits["latency"].verdict == "holds"
    assert limits["power"].verdict == "unknown"
    assert found.verdict == "unknown"
    assert found.exit_code == 3
    assert "measure" in limits["power"].remedy


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.parent.name)
def test_examples_follow_the_published_schema(path):
    jsonschema.validate(read_yaml(path).data, contract_schema())


def test_the_schema_refuses_a_typo():
    data = {"name": "x", "model": "m", "machine": "a100", "limits": {"latencey": "1 ms"}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, contract_schema())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("limits:", "limit:"), "contract.yaml:5:1 limit: unknown field 'limit' (did you mean limits?)"),
        (
            ("parameters: 5 M", "latency: 1o ms"),
            "contract.yaml:6:3 limits.latency: '1o ms' is not a duration",
        ),
        (("parameters: 5 M", "latencey: 1 ms"), "did you mean latency?"),
        (("parameters: 5 M", "latency: 5 MB"), "is a size in bytes, not a duration"),
        (("parameters: 5 M", "latency: -5 ms"), "must be positive"),
        (("batch: 1", "batch: 0"), "greater than or equal to 1"),
        (("batch: 1", "batch: many"), "workload.batch"),
        (("batch: 1", "batch: 1000000000000000"), "workload.batch"),
        (("precision: fp16", "precision: fp15"), "fp16"),
        (
            ("model: mobilenet_v2", "model: mobilenet_v22"),
            "contract.yaml:2:1 model: unknown model 'mobilenet_v22'",
        ),
        (("machine: a100-sxm-80gb", "machine: a100-smx-80gb"), "did you mean"),
        (("machine: a100-sxm-80gb", "machine: {name: a100, clok: 1 GHz}"), "did you mean clock?"),
        (("machine: a100-sxm-80gb", "machine: {name: a100, clock: 1 GB}"), "machine.clock"),
        (("name: test\n", ""), "the field 'name' is missing"),
        (("  parameters: 5 M", "  {}"), "contract.yaml"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path, change, told):
    path = write(tmp_path, BASE.replace(*change))
    with pytest.raises(PharosError) as caught:
        check_file(path)
    assert told in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_several_mistakes_are_told_at_once(tmp_path):
    path = write(tmp_path, BASE.replace("name: test\n", "").replace("parameters: 5 M", "latency: 1o ms"))
    with pytest.raises(PharosError) as caught:
        check_file(path)
    assert len(str(caught.value).splitlines()) == 2


def test_a_broken_limit_says_what_would_mend_it(tmp_path):
    path = write(tmp_path, BASE.replace("parameters: 5 M", "storage: 5 MB").replace("fp16", "fp16"))
    found = check_file(path)
    (limit,) = found.limits
    assert limit.verdict == "broken"
    assert found.exit_code == 1
    # 7 MB in fp16; int8 halves it, a narrower network would give up more
    assert limit.remedy.startswith("precision int8")


def test_remedies_scale_the_network_when_precision_cannot(tmp_path):
    path = write(tmp_path, BASE.replace("parameters: 5 M", "macs: 100 MMAC"))
    (limit,) = check_file(path).limits
    assert limit.verdict == "broken"
    assert limit.remedy.startswith(("width=", "resolution="))


def test_overrides_change_the_machine(tmp_path):
    text = BASE.replace("machine: a100-sxm-80gb", "machine: {name: a100-sxm-80gb, memory.capacity: 1 MB}")
    found = check_file(write(tmp_path, text.replace("parameters: 5 M", "memory: 80 GB")))
    assert found.estimate.fits is False


def test_a_stated_maximum_power_settles_the_limit(tmp_path):
    text = BASE.replace("a100-sxm-80gb", "{name: cortex-a53, power.max_W: 1.9 W}").replace(
        "parameters: 5 M", "power: 2 W"
    )
    assert check_file(write(tmp_path, text)).verdict == "holds"
    text = text.replace("power: 2 W", "power: 1.5 W")
    assert check_file(write(tmp_path, text)).verdict == "unknown"
    # the board alone draws 1.3 W
    text = text.replace("power: 1.5 W", "power: 1 W")
    assert check_file(write(tmp_path, text)).verdict == "broken"


def test_rows_and_junit():
    verdicts = [check_file(path) for path in EXAMPLES]
    row = json.loads(json.dumps(verdict_row(verdicts[-1]), allow_nan=False))
    assert row["verdict"] == "unknown"
    assert {"name", "limit", "value", "low", "high", "margin", "verdict", "evidence", "remedy"} <= set(
        row["limits"][0]
    )
    root = ET.fromstring(junit(verdicts))
    assert [suite.get("name") for suite in root] == [v.contract.name for v in verdicts]
    cases = root.findall(".//testcase")
    assert len(cases) == sum(len(v.limits) for v in verdicts)
    assert len(root.findall(".//skipped")) == sum(
        limit.verdict == "unknown" for v in verdicts for limit in v.limits
    )


def test_an_uncounted_operator_makes_the_verdict_unknown(tmp_path):
    onnx = pytest.importorskip("onnx")
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Frobnicate", ["x"], ["y"], domain="my.ops")], "g",
        [info("x", 1, [1, 8])], [info("y", 1, [1, 8])],
    )  # fmt: skip
    model = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("my.ops", 1)],
        ir_version=9,
    )
    (tmp_path / "odd.onnx").write_bytes(model.SerializeToString())
    text = BASE.replace("model: mobilenet_v2", "model: odd.onnx").replace(
        "parameters: 5 M", "parameters: 5 M\n  latency: 1 s"
    )
    found = check_file(write(tmp_path, text))
    assert found.verdict == "unknown"
    assert {limit.verdict for limit in found.limits} == {"unknown"}


def test_the_published_schema_is_this_one():
    published = Path(__file__).parents[2] / "docs/contract.schema.json"
    assert json.loads(published.read_text()) == contract_schema()


def test_a_day_of_a_duty_cycle_can_be_limited(tmp_path):
    """3.12 mJ a run (47 mW x 66.4 ms), 2,000 runs, 10 uW between: 7.1 J a day; 36 kJ of battery last years."""
    text = """name: listener
model: ds_cnn_s
machine: {name: stm32l4r5_cortex_m4, power.idle_W: 10 uW}
workload: {precision: int8}
duty: {per_day: 2000, battery: 10 Wh}
limits: {energy_per_day: 15 J, battery_life: 365 day}
"""
    found = check_file(write(tmp_path, text))
    assert found.verdict == "holds"
    daily = {limit.name: limit.figure.value for limit in found.limits}
    seconds = found.estimate.latency.value
    by_hand = 2000 * 0.047 * seconds + 1e-5 * (86_400 - 2000 * seconds)
    assert daily["energy_per_day"] == pytest.approx(by_hand)
    assert daily["battery_life"] == pytest.approx(36_000 / by_hand * 86_400)
    broken = text.replace("15 J", "1 J")
    assert check_file(write(tmp_path, broken)).verdict == "broken"
    for mistake in (text.replace("duty: {per_day: 2000, battery: 10 Wh}\n", ""), text.replace(", battery: 10 Wh", ""),
                    text.replace("per_day: 2000", "per_day: 2000, every: 30 s")):  # fmt: skip
        with pytest.raises(PharosError, match="duty"):
            check_file(write(tmp_path, mistake))
