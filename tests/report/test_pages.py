"""Pages: one file that asks nothing of a network, whose figures are those of the estimate, safe with any name."""

import json
import re
from html.parser import HTMLParser

import pytest
from typer.testing import CliRunner

from pharos.convert.load import load
from pharos.decide.verdict import check_file
from pharos.doors.cli.app import app
from pharos.graph.workload import Workload
from pharos.machines.machine import find_machine
from pharos.quantity.errors import PharosError
from pharos.quantity.units import fmt

pytest.importorskip("jinja2")
pytest.importorskip("vl_convert")

import itertools

from pharos.report.pages.content import content
from pharos.report.pages.page import MOST_BYTES, page
from pharos.report.pages.subject import subject, subject_of

run = CliRunner()


class Outline(HTMLParser):
    """Tags with their attributes, text by tag, and whether every element is closed."""

    VOID = ("meta", "img", "source", "input", "br", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text: dict[str, list[str]] = {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.text.setdefault(self.open[-1], []).append(data.strip())

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def made():
    one = subject(
        load("mobilenet_v2"), find_machine("a100-sxm-80gb"), Workload(precision="fp16"), command="pharos"
    )
    return one, page([one])


def test_it_is_one_file_that_asks_for_nothing(made):
    _, text = made
    assert len(text.encode()) < MOST_BYTES
    outline = Outline(text)
    assert outline.open == []
    addresses = [a for _, attrs in outline.tags for k, a in attrs.items() if k in ("src", "href", "srcset")]
    assert addresses
    assert all(a.startswith(("data:image/svg+xml;base64,", "#")) for a in addresses)
    assert "url(" not in text
    assert "@import" not in text


def test_it_can_be_read_without_seeing_it(made):
    outline = Outline(made[1])
    assert [a["lang"] for a in outline.all("html")] == ["en"]
    assert all(len(a["alt"]) > 30 for a in outline.all("img"))
    levels = [int(name[1]) for name, _ in outline.tags if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert all(b - a <= 2 for a, b in itertools.pairwise(levels))
    ids = [attrs["id"] for _, attrs in outline.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in outline.tags:
        if "aria-labelledby" in attrs:
            assert attrs["aria-labelledby"] in ids
    assert all("scope" in a for a in outline.all("th"))


def test_its_figures_are_the_estimates(made):
    one, text = made
    found = content(one)
    cards = {c.name: c for c in found.cards}
    assert cards["latency"].value == fmt(one.estimate.latency.value, "s")
    assert cards["parameters"].value == "3.5 M"
    assert cards["operations"].value == fmt(one.estimate.count.macs, "MAC")
    assert "602 MFLOP" in cards["operations"].more
    rows = json.loads(re.search(r'id="rows">(.*?)</script>', text, re.S)[1])[0]
    at = rows["columns"].index("time")
    assert sum(r[at] for r in rows["rows"]) == pytest.approx(
        sum(float(op.total_s) for op in one.estimate.operations), rel=1e-9
    )
    assert sum(r[rows["columns"].index("MACs")] or 0 for r in rows["rows"]) == one.estimate.count.macs
    assert len(found.figures) >= 5
    told = {p["figure"]: p["parts"] for p in found.provenance}
    assert told["parameters, operations, bytes"][0][0] == "counted"
    assert told["latency, throughput"]
    assert any("Ampere" in title for _, title in found.sources)


def test_a_contract_leads_with_its_verdict(tmp_path):
    path = tmp_path / "c.yaml"
    name = "<script>alert(1)</script>"
    path.write_text(
        f"name: {json.dumps(name)}\nmodel: resnet18\nmachine: a100-sxm-80gb\n"
        "workload: {precision: fp16}\nlimits: {latency: 1 us, memory: 80 GB}\n"
    )
    verdict = check_file(path)
    found = content(subject_of(verdict))
    assert found.state == "broken"
    assert found.headline == "latency: broken"
    assert [v["word"] for v in found.limits] == ["broken", "holds"]
    text = page([subject_of(verdict), subject_of(verdict)])
    assert name not in text
    assert Outline(text).open == []
    assert len(Outline(text).all("article")) == 2


def test_what_cannot_be_told_is_said(tmp_path):
    one = subject(load("gpt2-small"), find_machine("stm32f746"), Workload(precision="int8"))
    found = content(one)
    assert {c.name: c.value for c in found.cards}["memory"] != "unknown"
    assert page([one])
    with pytest.raises(PharosError, match="needs something"):
        page([])


def test_the_commands(tmp_path):
    out = tmp_path / "r.html"
    shown = run.invoke(app, ["report", "resnet18", "--on", "a100-sxm-80gb", "-o", str(out)])
    assert shown.exit_code == 0, shown.output
    assert "resnet18 on nvidia_a100_sxm_80gb" in out.read_text()
    wrong = run.invoke(app, ["report", "resnet18", "--on", "a100-sxm-80gb", "-o", str(tmp_path / "r.pdf")])
    assert wrong.exit_code != 0
    assert not (tmp_path / "r.pdf").exists()
