"""Every advice rule: it fires where it should and is silent where it must be; what it says is complete."""

import json
import math

import pytest
from decide.rules.cases import CASES

from pharos.book.lab import labs
from pharos.decide.advice import SEVERITIES, rules, stated_enough
from pharos.report.advice import costs, finding_row, gained

RULES = rules()


def test_every_rule_has_its_cases():
    assert set(CASES) == set(RULES)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_fires_and_is_told_in_full(name):
    rule, case = RULES[name], CASES[name][0]()
    assert stated_enough(rule, case.stated)
    found = list(rule.find(case))
    assert found
    for finding in found:
        assert finding.severity in SEVERITIES
        assert finding.evidence
        assert finding.remedy
        assert all(math.isfinite(f.value) and f.what for f in finding.evidence)
        # seconds, bytes or joules, and no more than there are
        cost = finding.consequence
        assert cost.unit in ("s", "B", "J") or name == "batch-norm-small-batch"
        assert cost.value is not None
        assert cost.value >= 0
        if cost.unit == "s" and name != "macs-quoted-as-flops" and not case.stated.devices > 1:
            assert cost.value <= case.latency_s
        names = {line.name for line in case.lines}
        assert set(finding.where) <= names
        assert json.dumps(finding_row(finding), allow_nan=False)
        assert costs(finding)


@pytest.mark.parametrize("name", RULES)
def test_a_gain_is_predicted(name):
    """What comes after is another prediction, or another count, with how it is known."""
    for finding in RULES[name].find(CASES[name][0]()):
        gain = finding.gain
        assert gain is not None
        assert gain.known
        assert gain.before > 0
        assert gain.after != gain.before
        assert gained(gain)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_silent_where_it_must_be(name):
    rule, case = RULES[name], CASES[name][1]()
    assert not stated_enough(rule, case.stated) or not list(rule.find(case))


@pytest.mark.parametrize("name", RULES)
def test_a_rule_says_what_it_is(name):
    rule = RULES[name]
    assert rule.when
    assert rule.costs
    assert rule.remedy
    assert rule.source
    assert rule.module.startswith("pharos.decide.rules.")


@pytest.mark.parametrize("name", RULES)
def test_a_rule_has_a_lab_that_shows_it_or_says_why_none_can(name):
    rule = RULES[name]
    assert bool(rule.lab) != bool(rule.no_lab)
    assert not rule.lab or rule.lab in labs()


def test_one_rule_a_file():
    modules = [rule.module for rule in RULES.values()]
    assert len(set(modules)) == len(modules)
