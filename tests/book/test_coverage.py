"""Coverage: every feature is there once, and what its row names is there."""

from pathlib import Path

import pytest

from pharos.book.coverage import SECTIONS, Feature, absent, coverage, identifiers, page
from pharos.facts.reading import read_yaml

ROOT = Path(__file__).parents[2]


def test_every_feature_of_the_outline_has_one_row():
    names = [name for _, name in identifiers()]
    assert names == sorted(set(names), key=names.index)
    assert len(names) == 247
    assert (min(names), max(names)) == ("F001", "F318")
    rows = read_yaml(str(ROOT / "src/pharos/book/coverage.yaml")).data
    assert set(rows) == set(names)
    assert len({f.title for f in coverage()}) == len(names)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_row_leads_to_what_is_there(section):
    assert {f.id: absent(f, ROOT) for f in coverage() if f.section == section and absent(f, ROOT)} == {}


def test_what_is_not_there_is_told():
    wrong = Feature(
        id="F000", title="t", section="s",
        code=("pharos.graph.op:Op.walk", "pharos.graph.ops:Op", "pharos.graph.op:Op.work", "pharos.graph.op:Op"),
        proof=("tests/book/test_coverage.py::test_nothing", "tests/book/test_nothing.py", "lab nothing",
               "study scaling", "claim nothing", "claim ex12-relu", "src/pharos/api.py",
               "tests/book/test_coverage.py::test_what_is_not_there_is_told"),
        page="docs/nothing.md",
    )  # fmt: skip
    assert absent(wrong, ROOT) == [
        "pharos.graph.op:Op.walk", "pharos.graph.ops:Op", "tests/book/test_coverage.py::test_nothing",
        "tests/book/test_nothing.py", "lab nothing", "claim nothing", "src/pharos/api.py", "docs/nothing.md",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("page", "there"),
    [
        ("README.md", True), ("pharos show MODEL --lens", True), ("pharos study scaling", True),
        ("pharos study nothing", False), ("pharos lab NAME", True), ("pharos nothing", False),
    ],
)  # fmt: skip
def test_pages_and_commands(page, there):
    assert absent(Feature(id="F000", title="t", section="s", page=page), ROOT) == ([] if there else [page])


def test_what_lacks_a_part_is_not_whole():
    whole = {"code": ("c",), "proof": ("p",), "page": "x"}
    assert Feature(id="F000", title="t", section="s", **whole).is_whole
    for part in whole:
        assert not Feature(id="F000", title="t", section="s", **whole | {part: type(whole[part])()}).is_whole
    assert not Feature(id="F000", title="t", section="s", **whole, missing="the rest").is_whole


def test_the_page_is_current():
    assert page() == (ROOT / "docs/coverage.md").read_text(encoding="utf-8"), "run `make coverage-map`"
