"""The ledger: every claim has its rule, no rule is a literal, verdicts follow the stated rule, the page is current."""

import ast
import inspect
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from pharos.book import agree as rule_of
from pharos.book import shown
from pharos.book.agree import DIFFERS, REPRODUCES, ROUNDS, UNKNOWN, agree, cut, digits, rounded
from pharos.book.answer import told, unknown
from pharos.book.chapter import claims, conflicts
from pharos.book.ledger import counts, entry, ledger, rules
from pharos.doors.cli.app import app
from pharos.ops.linear import Linear

DOCS = Path(__file__).parents[2] / "docs" / "ledger.md"
# Names that compute nothing.
IDLE = {"told", "unknown", "round", "str", "float", "int", "max", "min", "list"}


def called(*words):
    return CliRunner().invoke(app, ["ledger", *words])


def test_every_claim_has_a_rule_and_every_rule_a_claim():
    assert set(rules()) == set(claims())
    assert len(claims()) == 474


def test_rules_take_exactly_the_premises_that_their_claims_give():
    taken = {
        name: {p for p, v in inspect.signature(rule).parameters.items() if v.default is v.empty}
        for name, rule in rules().items()
    }
    assert taken == {name: set(claim.given) for name, claim in claims().items()}


def names_in(code):
    """Global names that a function's code uses, those of the functions inside it too."""
    found = set(code.co_names)
    for inner in code.co_consts:
        if inspect.iscode(inner):
            found |= names_in(inner)
    return found


def test_no_computed_value_is_a_literal():
    for name, rule in rules().items():
        found = entry(name)
        if found.verdict != UNKNOWN and not found.claim.given:
            assert names_in(rule.__code__) - IDLE, name


def returned(rule):
    """What a rule gives as its value: the expression, or the first argument of `told`."""
    source = textwrap.dedent(inspect.getsource(rule)).strip()
    if not source.startswith("def "):
        return None
    body = ast.parse(source)
    for node in ast.walk(body):
        call = node.value if isinstance(node, ast.Return) else None
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "told":
            yield call.args[0]


def test_what_rules_tell_first_is_never_a_number():
    for name, rule in rules().items():
        for value in returned(rule) or ():
            assert not isinstance(value, ast.Constant) or isinstance(value.value, bool), name


def test_a_changed_rule_of_an_operator_changes_its_claims(monkeypatch):
    before = rules()["fn8-784-macs"]()
    right = Linear.work
    monkeypatch.setattr(Linear, "work", lambda self, x, y: right(self, x, y) * 2)
    assert rules()["fn8-784-macs"]() == 2 * before


def test_what_differs_says_why_and_what_is_unknown_says_why():
    silent = [e.claim.id for e in ledger() if e.verdict in (DIFFERS, UNKNOWN) and not e.note]
    assert silent == []


def test_conflicts_name_claims_and_entries_tell_them():
    assert {c for group in conflicts() for c in group["claims"]} <= set(claims())
    assert "sc-16mb" in entry("dense-2048-17mb").conflicts


def test_counts_add_up_and_most_that_can_be_computed_agrees():
    found = counts(ledger())
    assert sum(found[v] for v in rule_of.VERDICTS) == found["claims"] == len(claims())
    assert found["differs_by_convention"] <= found[DIFFERS]


# the rule of agreement


@given(st.floats(1e-3, 1e15), st.integers(2, 6))
def test_a_rounded_number_rounds_and_a_cut_one_too(value, to):
    for stated in (rounded(value, to), cut(value, to)):
        if digits(stated) == to:
            assert agree(stated, value) in (REPRODUCES, ROUNDS)


@given(st.floats(1e-3, 1e15))
def test_a_tenth_more_is_another_number(value):
    stated = rounded(value, 3)
    if digits(stated) == 3:
        assert agree(stated, value * 1.1) == DIFFERS


@pytest.mark.parametrize(
    ("stated", "computed", "verdict"),
    [
        (17, 16.777216, ROUNDS), (47, 47.53, ROUNDS), (4, 4.0, REPRODUCES), (100, 153.0, DIFFERS),
        (100, 101.0, ROUNDS), (3, 3.35, ROUNDS), (3, 3.6, DIFFERS), (">100", 153.0, REPRODUCES),
        (">100", 99.0, DIFFERS), (True, True, REPRODUCES), (False, True, DIFFERS), ("a statement", True, REPRODUCES),
        ("a statement", False, DIFFERS), ("O(N^2)", "O(N^2)", REPRODUCES), ("O(B*S*h)", "O(B S h)", REPRODUCES),
        ("K*K*Cin", "O(K^2 Cin)", REPRODUCES), ("O(h^2)", "O(h^2 + h d)", DIFFERS), ("hundreds", 320.0, REPRODUCES),
        ("hundreds", 2039.0, DIFFERS), ([1, 2], [1, 2.0], REPRODUCES), ([1, 2], [1, 3], DIFFERS),
        ([1, 2], [1], DIFFERS), ([98, 2], [None, 2], REPRODUCES), (1.07, 1.0737, ROUNDS), (25_600_000, 25_557_032, ROUNDS),
    ],
)  # fmt: skip
def test_verdicts(stated, computed, verdict):
    assert agree(stated, computed) == verdict


@pytest.mark.parametrize(
    ("computed", "verdict"), [([8, 9], REPRODUCES), (7.89, ROUNDS), (7.4, DIFFERS), ([8.5, 9.6], DIFFERS)]
)
def test_ranges_hold_all_that_is_computed(computed, verdict):
    assert agree([8, 9], computed, "range") == verdict


def test_readings_are_named_in_words():
    assert told(1, "so", of_keys_alone=2).readings == {"of keys alone": 2}
    assert unknown("why").value is None


# the command


def test_json_has_the_promised_keys():
    found = json.loads(called("--section", "1.4", "--json").output)
    assert found["counts"]["claims"] == len(found["claims"])
    for claim in found["claims"]:
        assert {"id", "stated", "computed", "unit", "verdict", "note"} <= claim.keys()
        file, _, line = claim["code"].partition(":")
        assert (DOCS.parents[1] / file).is_file()
        assert int(line) > 0


def test_filters_meet():
    found = ledger("1.3", "macs", REPRODUCES)
    assert found
    assert all(e.claim.section.startswith("1.3") and e.claim.kind == "macs" for e in found)
    assert {e.claim.section for e in ledger("1.1")} >= {
        "1.1 Architectural Principles fn2",
        "1.1.2 Arithmetic intensity spectrum",
    }
    assert not any(e.claim.section.startswith("1.10") for e in ledger("1.1"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-such-claim"], "no-such-claim"), (["--section", "9.9"], "--section"), (["--kind", "flop"], "flops"),
        (["--verdict", "wrong"], "differs"), (["mnist-47x", "--kind", "ratio"], "mnist-47x"),
        (["--write", "x.md", "--kind", "ratio"], "--write"),
    ],
)  # fmt: skip
def test_mistakes_are_told(words, said):
    from pharos.quantity.errors import PharosError

    result = called(*words)
    assert isinstance(result.exception, PharosError)
    assert said in str(result.exception)


@pytest.mark.parametrize("width", [80, 120])
def test_nothing_is_wider_than_the_terminal(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    for words in (["--section", "1.5"], ["pit6-537mb", "fn19-softmax-forces-nxn"]):
        assert max(map(len, called(*words).output.splitlines())) <= width


def test_one_claim_is_told_in_full():
    text = called("pit6-537mb").output
    for words in ("stated 537 MB; computed 1,074 MB", "keys alone", "pitfalls.py", "fn22-kv-1p07gb"):
        assert words in " ".join(text.split())


def test_the_page_is_current():
    assert DOCS.read_text(encoding="utf-8") == shown.page(), "run pharos ledger --write docs/ledger.md"


def test_the_ledger_never_imports_torch():
    told_by = "import sys; from pharos.book.ledger import ledger; ledger(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", told_by], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
