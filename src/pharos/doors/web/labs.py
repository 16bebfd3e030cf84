"""Labs: experiments that run on the server's machine, watched while they do."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

from pharos.doors.web.lab_runs import DONE, FAILED, RUNNING, STOPPED, WAITING, Run
from pharos.doors.web.question import Question, Refused
from pharos.doors.web.worker import HTML, render
from pharos.quantity.errors import PharosError

WORDS = {WAITING: "Waits", RUNNING: "Runs", DONE: "Done", FAILED: "Failed", STOPPED: "Stopped"}
LARGEST_SEED = 2**31


def lab_routes(app: FastAPI) -> None:
    """Adds the pages of labs."""
    app.add_api_route("/labs", _index, methods=["GET"])
    app.add_api_route("/labs/start", _start, methods=["POST"])
    app.add_api_route("/labs/run/{name}", _run, methods=["GET"])
    app.add_api_route("/labs/run/{name}/state", _state, methods=["GET"])
    app.add_api_route("/labs/run/{name}/stop", _stop, methods=["POST"])
    app.add_api_route("/labs/run/{name}/figure.svg", _figure, methods=["GET"])


def _page(template: str, status: int = 200, **context: Any) -> Response:
    return Response(render(template, page="labs", **context), status, media_type=HTML)


async def _index(request: Request) -> Response:
    return _listed(request)


def _listed(request: Request, status: int = 200, **more: Any) -> Response:
    from pharos.book.lab import labs

    runs = request.app.state.runs.latest()
    return _page("labs.html", status, labs=list(labs().values()), runs=runs, words=WORDS,
                 **{"mistake": None, "chosen": "", **more})  # fmt: skip


async def _start(request: Request) -> Response:
    """Queues a lab and goes to its page."""
    from pharos.book.lab import find_lab

    async with request.form(max_files=0, max_fields=8, max_part_size=4096) as form:
        question = Question([(k, str(v)) for k, v in form.multi_items()])
    try:
        try:
            lab = find_lab(question.raw("lab")[:80])
        except PharosError as error:
            raise Refused(error, "lab") from None
        processes = question.whole("processes", lab.processes, lab.fewest, lab.most) or lab.processes
        seed = question.whole("seed", 0, 0, LARGEST_SEED) or 0
    except Refused as refused:
        return _listed(request, 422, mistake=refused, chosen=question.raw("lab")[:80])
    made = request.app.state.runs.add(lab.name, processes, seed, question.flag("small"))
    if made is None:
        return _listed(
            request,
            503,
            mistake=Refused(PharosError("Several labs wait already; stop one, or try later."), "lab"),
            chosen=lab.name,
        )
    return RedirectResponse(f"/labs/run/{made.id}", 303)


def _found(request: Request, name: str) -> Run:
    run = request.app.state.runs.find(name)
    if run is None:
        raise HTTPException(404)
    return run


async def _run(request: Request, name: str) -> Response:
    run = _found(request, name)
    return _page("lab_run.html", run=run, words=WORDS, ahead=request.app.state.runs.ahead(run))


async def _state(request: Request, name: str) -> Response:
    run = _found(request, name)
    return _page("lab_state.html", run=run, words=WORDS, ahead=request.app.state.runs.ahead(run))


async def _stop(request: Request, name: str) -> Response:
    run = _found(request, name)
    request.app.state.runs.stop(run)
    return RedirectResponse(f"/labs/run/{run.id}", 303)


async def _figure(request: Request, name: str) -> Response:
    run = _found(request, name)
    figure = run.outcome.get("figure")
    if figure is None:
        raise HTTPException(404)
    shade = "dark" if request.query_params.get("shade") == "dark" else "light"
    return Response(figure[shade], media_type="image/svg+xml")
