"""Worker: what runs in a process of the pool: a job to a rendered page, part of one, or a file."""

import gc
import json
import secrets
import sys
import time
import traceback
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pharos.doors.web.pool import Answer, Job
from pharos.doors.web.question import Question, Refused
from pharos.doors.web.static import address as static_address
from pharos.quantity.errors import PharosError

HTML, YAML, JSON = "text/html; charset=utf-8", "application/yaml; charset=utf-8", "application/json"
# Pages in the order of the menu: name -> its words.
PAGES = {
    "explore": "Explore",
    "compare": "Compare",
    "choose": "Choose",
    "serve": "Serve",
    "shard": "Shard",
    "labs": "Labs",
}


@cache
def environment() -> Environment:
    """Templates; everything is escaped but what `drawn` made."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals |= {"pages": PAGES, "static": static_address}
    return made


def render(template: str, **context: Any) -> bytes:
    """A template filled in."""
    return environment().get_template(template).render(**context).encode()


def warm() -> None:
    """Imports and reads once what every question needs, so that none waits for it."""
    explore = import_module("pharos.doors.web.explore")
    context = explore.whole(Question(()), {})
    render("explore.html", page="explore", whole=True, question=Question(()), **context)
    gc.collect()
    # what lives as long as the process need not be looked through again and again
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def answer(job: Job) -> tuple[Answer, bool]:
    """The answer to a job, and whether this process may go on; a mistake is told in place."""
    start = time.perf_counter()
    question = Question(job.query)
    healthy = True
    try:
        found = _made(job, question)
    except Refused as refused:
        found = mistake(job, question, refused.text, refused.field)
    except PharosError as error:
        found = mistake(job, question, str(error))
    except MemoryError:
        # what is left of such a heap is not to be trusted
        found, healthy = (
            mistake(job, question, "The sizes asked for do not fit in the memory of this page.", status=422),
            False,
        )
    except Exception:
        code = secrets.token_hex(4)
        print(f"pharos ui: {job.page}/{job.part} failed ({code})", file=sys.stderr)
        traceback.print_exc()
        found = mistake(
            job,
            question,
            f"Something is wrong on our side. The server's log has it under {code}.",
            status=500,
        )
    took, body = time.perf_counter() - start, found.body
    for held in job.extra.get("uploads", {}).values():
        # where the server keeps it is nobody's business; a title has harmless characters alone
        body = body.replace(held["path"].encode(), held["title"].encode())
    return Answer(
        found.status, found.kind, body, found.headers | {"server-timing": f"answer;dur={1e3 * took:.1f}"}
    ), healthy


def _made(job: Job, question: Question) -> Answer:
    view = import_module(f"pharos.doors.web.{MODULES[job.page]}")
    uploads = job.extra.get("uploads", {})
    if job.part == "contract":
        return Answer(
            200,
            YAML,
            view.contract_text(question, uploads).encode(),
            {"content-disposition": 'attachment; filename="contract.yaml"'},
        )
    if job.part == "brief":
        return Answer(200, YAML, view.brief_text(question).encode(),
                      {"content-disposition": 'attachment; filename="brief.yaml"'})  # fmt: skip
    if job.part == "json":
        return Answer(200, JSON, json.dumps(view.rows(question, uploads), indent=2, allow_nan=False).encode())
    if job.part == "check":
        view.check(question, uploads)
        return Answer(200, HTML, b"")
    if job.part == "remedies":
        return Answer(200, HTML, render("serve_remedies.html", **view.remedies_of(question, uploads)))
    context = view.result(question, uploads) if job.part == "result" else view.whole(question, uploads)
    failed = "mistake" in context
    template = f"{job.page}_answer.html" if job.part == "result" else f"{job.page}.html"
    body = render(template, page=job.page, whole=job.part == "page", question=question, **context)
    return Answer(422 if failed else 200, HTML, body)


# Page -> the module that answers it.
MODULES = {
    "explore": "explore",
    "compare": "compare",
    "choose": "choosing",
    "serve": "serving",
    "shard": "sharding",
}


def mistake(job: Job, question: Question, text: str, field: str = "", status: int = 422) -> Answer:
    """A mistake told in place: as the answer's part, or on a page of its own."""
    if job.part in ("result", "remedies"):
        return Answer(status, HTML, render("mistake.html", text=text, field=field))
    again = f"/{job.page}"
    return Answer(
        status,
        HTML,
        render(
            "refused.html",
            page=job.page,
            title="That cannot be answered",
            text=text,
            again=again,
            query=urlencode(question.pairs),
        ),
    )
