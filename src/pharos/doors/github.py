"""GitHub: what a run knows of its pull request, where its summary goes, and the comment that it keeps."""

import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pharos.quantity.errors import InputError

# Seconds for an answer; comments that are looked through for ours.
PATIENCE, PAGES = 30, 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run of GitHub Actions.

    Args:
        base: the commit that the change goes to; "" where there is none.
        number: of the pull request; None where the run is of none.
    """

    base: str = ""
    number: int | None = None
    repository: str = ""
    summary: str = ""
    output: str = ""
    api: str = ""
    token: str = ""


def run_of(environment: "os._Environ[str] | dict[str, str]") -> Run | None:
    """The run that the environment tells of; None outside GitHub Actions.

    Raises:
        InputError: the event's file cannot be read.
    """
    if environment.get("GITHUB_ACTIONS") != "true":
        return None
    event = _event(environment.get("GITHUB_EVENT_PATH", ""))
    request = event.get("pull_request") or {}
    base = str((request.get("base") or {}).get("sha") or "")
    if not base and environment.get("GITHUB_BASE_REF"):
        base = f"origin/{environment['GITHUB_BASE_REF']}"
    before = str(event.get("before") or "")
    # a push says what was before it, but not the first one of a branch
    if not base and before.strip("0"):
        base = before
    number = request.get("number")
    return Run(
        base=base, number=number if isinstance(number, int) else None,
        repository=environment.get("GITHUB_REPOSITORY", ""),
        summary=environment.get("GITHUB_STEP_SUMMARY", ""),
        output=environment.get("GITHUB_OUTPUT", ""),
        api=environment.get("GITHUB_API_URL", "https://api.github.com").rstrip("/"),
        token=environment.get("GITHUB_TOKEN") or environment.get("GH_TOKEN", ""),
    )  # fmt: skip


def _event(path: str) -> dict[str, Any]:
    if not path or not Path(path).is_file():
        return {}
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError("is no event of GitHub", where=path) from None
    return data if isinstance(data, dict) else {}


def append(path: str, text: str) -> None:
    """Adds to a file that GitHub reads after a step; nothing where there is none."""
    if path:
        with Path(path).open("a", encoding="utf-8") as target:
            target.write(text)


def comment(run: Run, text: str, marker: str) -> str:
    """Writes a pull request's comment, or the one with the marker anew; what was done, in words.

    A token that may not write, as those of forks are, is no error: the summary holds the same text.

    Raises:
        InputError: GitHub cannot be reached or refuses for another reason.
    """
    if run.number is None:
        return "no pull request to comment on"
    if not run.token:
        return "no token to comment with: set GITHUB_TOKEN"
    base = f"{run.api}/repos/{run.repository}"
    try:
        for page in range(1, PAGES + 1):
            found = _asked(run, "GET", f"{base}/issues/{run.number}/comments?per_page=100&page={page}")
            for old in found:
                if str(old.get("body") or "").startswith(marker):
                    _asked(run, "PATCH", f"{base}/issues/comments/{int(old['id'])}", {"body": text})
                    return "comment brought up to date"
            if len(found) < 100:
                break
        _asked(run, "POST", f"{base}/issues/{run.number}/comments", {"body": text})
        return "comment written"
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return "the token may not comment (permissions: pull-requests: write); see the summary"
        raise InputError(f"GitHub answers {error.code} to the comment") from None
    except (OSError, ValueError) as error:
        raise InputError(f"GitHub cannot be reached for the comment: {error}") from None


def _asked(run: Run, method: str, url: str, body: dict[str, Any] | None = None) -> Any:
    if not url.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
        raise InputError("a token is sent over https only", where="GITHUB_API_URL")
    request = urllib.request.Request(
        url, method=method, data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {run.token}", "Accept": "application/vnd.github+json",
                 "X-GitHub-Api-Version": "2022-11-28", "User-Agent": "pharos",
                 "Content-Type": "application/json"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.loads(answer.read().decode() or "null")
