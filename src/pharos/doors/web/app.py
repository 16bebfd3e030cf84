"""App: the routes of the page; each hands its question to a worker, and this process only passes bytes on."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from pharos.doors.web import static
from pharos.doors.web.guard import Guard, TooLarge, TooSlow
from pharos.doors.web.lab_runs import Runs
from pharos.doors.web.labs import lab_routes
from pharos.doors.web.pool import Answer, Busy, Job, Lane, TooLate, lanes
from pharos.doors.web.uploads import Uploads, is_upload
from pharos.doors.web.worker import MODULES, render
from pharos.quantity.errors import PharosError

HTML = "text/html; charset=utf-8"
# Bytes of answers that are kept: the same question has the same answer.
KEPT_BYTES = 32 * 2**20
# Address -> page and part: of every page its whole, the form with its answer, and the answer alone.
PARTS = {
    f"/{page}{ends}": (page, part)
    for page in MODULES
    for ends, part in (("", "page"), ("/whole", "whole"), ("/result", "result"))
} | {
    "/explore/contract.yaml": ("explore", "contract"),
    "/explore.json": ("explore", "json"),
    "/choose/contract.yaml": ("choose", "contract"),
    "/choose/brief.yaml": ("choose", "brief"),
    "/serve/remedies": ("serve", "remedies"),
}


class Kept:
    """Answers by their question, the least asked for going first."""

    def __init__(self, most: int = KEPT_BYTES) -> None:
        self.most, self.size, self.hits, self.asked = most, 0, 0, 0
        self._found: OrderedDict[Any, Answer] = OrderedDict()

    def get(self, key: Any) -> Answer | None:
        """The answer of before."""
        self.asked += 1
        found = self._found.get(key)
        if found is not None:
            self.hits += 1
            self._found.move_to_end(key)
        return found

    def put(self, key: Any, answer: Answer) -> None:
        """Keeps an answer that is right and will be right."""
        if answer.status != 200 or key in self._found or len(answer.body) > self.most // 8:
            return
        self._found[key] = answer
        self.size += len(answer.body)
        while self.size > self.most:
            _, oldest = self._found.popitem(last=False)
            self.size -= len(oldest.body)


def refusal(status: int, title: str, text: str) -> bytes:
    """The page of a refusal."""
    return render("refused.html", page="", title=title, text=text, again="/", query="", status=status)


def create_app(
    *, hosts: frozenset[str] | None = None, token: str | None = None, workers: int = 2,
    made_lanes: dict[str, Lane] | None = None,
) -> Any:  # fmt: skip
    """The application behind its guard.

    Args:
        hosts: names it may be called by; None for any address and loopback's names.
        token: what must be shown once; None on loopback.
        workers: processes for quick questions.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.lanes = made_lanes or lanes(workers)
        app.state.uploads, app.state.kept, app.state.runs = Uploads(), Kept(), Runs()
        app.state.lanes["quick"].start()
        try:
            yield
        finally:
            await app.state.runs.close()
            for lane in app.state.lanes.values():
                lane.stop()
            app.state.uploads.close()

    app = FastAPI(title="Pharos", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)

    @app.get("/")
    async def start() -> Response:
        return RedirectResponse("/explore", 303)

    for path, (page, part) in PARTS.items():
        app.add_api_route(path, _route(page, part), methods=["GET"])
    app.add_api_route("/upload", _upload, methods=["POST"])
    app.add_api_route("/static/{name}", _static, methods=["GET"])
    app.add_api_route("/favicon.ico", _icon, methods=["GET"])
    lab_routes(app)

    @app.exception_handler(HTTPException)
    async def missing(_: Request, error: HTTPException) -> Response:
        words = "There is no such page." if error.status_code == 404 else str(error.detail)
        return Response(refusal(error.status_code, "Not here", words), error.status_code, media_type=HTML)

    @app.exception_handler(RequestValidationError)
    async def wrong_form(_: Request, __: RequestValidationError) -> Response:
        return Response(
            refusal(422, "Not understood", "The form did not hold what it should."), 422, media_type=HTML
        )

    @app.exception_handler(TooLarge)
    async def too_large(_: Request, __: Exception) -> Response:
        return Response(refusal(413, "Too large", "More was sent than the page takes."), 413, media_type=HTML)

    @app.exception_handler(TooSlow)
    async def too_slow(_: Request, __: Exception) -> Response:
        words = "The rest of what was sent did not come in time."
        return Response(refusal(408, "Too slow", words), 408, media_type=HTML)

    @app.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> Response:
        words = "Something is wrong on our side; the server's log has it."
        return Response(refusal(500, "That failed", words), 500, media_type=HTML)

    return Guard(app, hosts, token, refusal)


def is_slow(page: str, part: str, step: str) -> bool:
    """Whether a question is a search of seconds: decisions, placements and remedies."""
    if page == "choose":
        return part == "contract" or (part == "result" and step == "decision")
    return (page == "shard" and part == "result") or part == "remedies"


def _route(page: str, part: str) -> Any:
    async def asked(request: Request) -> Response:
        return await answered(request, page, part)

    return asked


async def answered(request: Request, page: str, part: str) -> Response:
    """A worker's answer to the question in the address, or that of before."""
    state = request.app.state
    pairs = tuple(request.query_params.multi_items())
    extra: dict[str, Any] = {}
    lane = "slow" if is_slow(page, part, request.query_params.get("step", "")) else "quick"
    for _, value in pairs:
        if is_upload(value):
            try:
                held = state.uploads.find(value.strip())
            except PharosError:
                # the page tells that it is gone, beside the field
                continue
            extra.setdefault("uploads", {})[held.id] = {"path": str(held.path), "title": held.title}
            lane = "upload"
    key = (
        None
        if any(v.startswith("here") for _, v in pairs)
        else (page, part, pairs, tuple(extra.get("uploads", ())))
    )
    found = state.kept.get(key) if key else None
    if found is None:
        found = await ask(state.lanes[lane], Job(page, part, pairs, extra))
        if key:
            state.kept.put(key, found)
    return Response(found.body, found.status, found.headers, media_type=found.kind)


async def ask(lane: Lane, job: Job) -> Answer:
    """A lane's answer; a full queue and a killed worker are told in place."""
    try:
        return await lane.ask(job)
    except Busy:
        words = "Many ask at once. Try again in a few seconds."
        status, title, more = 503, "Busy", {"retry-after": "3"}
    except TooLate as late:
        words = f"That took longer than {late.seconds:g} s and was stopped." if late.seconds else (
            "That took more memory than this page may have, and was stopped.")  # fmt: skip
        words += " Ask for smaller sizes, or use the command line, which has no such bound."
        status, title, more = 422, "Stopped", {}
    if job.part in ("result", "remedies"):
        return Answer(status, HTML, render("mistake.html", text=words, field=""), more)
    return Answer(status, HTML, refusal(status, title, words), more)


async def _upload(request: Request) -> Response:
    """Keeps a file, reads it once in the lane for uploads, and goes on to the page that asked for it."""
    state = request.app.state
    async with request.form(max_files=1, max_fields=4, max_part_size=4096) as form:
        file, back = form.get("file"), str(form.get("back") or "explore")
        if not isinstance(file, UploadFile) or not file.filename:
            return Response(
                refusal(422, "No file", "Choose an ONNX file or a config.json first."), 422, media_type=HTML
            )
        try:
            made = await asyncio.to_thread(_keep, state.uploads, file)
        except PharosError as error:
            return Response(refusal(413 if "more than" in str(error) else 422, "Not taken", f"{error}."), 422,
                            media_type=HTML)  # fmt: skip
    page = back if back in ("explore", "compare", "serve") else "explore"
    extra = {"uploads": {made.id: {"path": str(made.path), "title": made.title}}}
    found = await ask(state.lanes["upload"], Job("explore", "check", (("model", made.id),), extra))
    if found.status != 200 and b"dimension" not in found.body:
        state.uploads.forget(made.id)
        return Response(found.body, found.status, found.headers, media_type=found.kind)
    return RedirectResponse(f"/{page}?model={made.id}", 303)


def _keep(uploads: Uploads, file: UploadFile) -> Any:
    return uploads.add(file.filename or "", file.file)


async def _static(name: str) -> Response:
    found = static.files().get(name)
    if found is None:
        raise HTTPException(404)
    return Response(
        found[1], media_type=found[0], headers={"cache-control": "public, max-age=31536000, immutable"}
    )


async def _icon() -> Response:
    return Response(static.files()["icon.svg"][1], media_type="image/svg+xml")
