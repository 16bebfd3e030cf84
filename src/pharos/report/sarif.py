"""SARIF 2.1.0 and GitHub's annotations: what a review remarks, at the lines of the contracts."""

import hashlib
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from pharos.decide.diff import GROWN, NEWLY, NEWLY_UNKNOWN
from pharos.report.review import RULES, Remark

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
# What of a remark's kind was not there on the base branch.
_NEW = (NEWLY, NEWLY_UNKNOWN, GROWN)


def sarif(remarks: list[Remark], prefix: str = "") -> dict[str, Any]:
    """One run with a rule a kind of remark, and a result a remark.

    Args:
        prefix: the current folder inside the repository, which files are told from.
    """
    from pharos.quantity.version import __version__

    used = [rule for rule in RULES if any(r.rule == rule for r in remarks)]
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "Pharos",
                        "semanticVersion": __version__,
                        "informationUri": "https://github.com/pharos-nn/pharos",
                        "rules": [
                            {
                                "id": rule_id(rule),
                                "name": rule.title().replace(" ", ""),
                                "shortDescription": {"text": RULES[rule]},
                            }
                            for rule in used
                        ],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(r, used.index(r.rule), prefix) for r in remarks],
            }
        ],
    }


def rule_id(rule: str) -> str:
    """pharos/newly-broken."""
    return f"pharos/{rule.replace(' ', '-')}"


def _result(remark: Remark, index: int, prefix: str) -> dict[str, Any]:
    uri = uri_of(prefix + remark.path)
    mark = hashlib.sha256(f"{uri} {remark.rule} {remark.limit}".encode()).hexdigest()[:32]
    return {
        "ruleId": rule_id(remark.rule),
        "ruleIndex": index,
        "level": remark.level,
        "message": {"text": f"{remark.title}: {remark.text}"},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": uri, "uriBaseId": "%SRCROOT%"},
                    "region": {"startLine": max(1, remark.line)},
                }
            }
        ],
        "partialFingerprints": {"pharos/v1": mark},
        "baselineState": "new" if remark.rule in _NEW else "unchanged",
    }


def uri_of(path: str) -> str:
    """A path as a relative URI."""
    return quote(PurePath(path).as_posix())


def annotations(remarks: list[Remark], prefix: str = "") -> list[str]:
    """GitHub's workflow commands, a line each.

    Args:
        prefix: the current folder inside the repository, which annotations are told from.
    """
    words = {"error": "error", "warning": "warning", "note": "notice"}
    return [
        f"::{words[r.level]} file={_property(prefix + PurePath(r.path).as_posix())},line={max(1, r.line)},"
        f"title={_property(r.title)}::{_data(r.text)}"
        for r in remarks
    ]


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
