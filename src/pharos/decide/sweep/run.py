"""Run: parts computed on an engine, written as they come, continued where a run was broken off."""

import json
import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, wait
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from pharos.decide.sweep.engines import Engine, engine
from pharos.decide.sweep.grid_file import Grid, read_grid
from pharos.decide.sweep.parts import (
    SCHEMA,
    Folder,
    columns_of,
    digest,
    duckdb,
    part_bytes,
    read,
    write_whole,
)
from pharos.decide.sweep.plan import ROWS, Plan, plan
from pharos.decide.sweep.points import Block, Told, blocks
from pharos.quantity.errors import InputError, PharosError
from pharos.quantity.version import __version__

# Failures of one part that are not its own mistake: workers die.
TRIES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a sweep is.

    Args:
        points: of the grid in parts that are done; all: of all parts. begun: of those of an earlier run.
    """

    points: int
    all: int
    begun: int
    rows: int
    retried: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """A finished sweep.

    Args:
        path: the file, or the folder of parts. rows: what is in it.
        points: of the grid; evaluated: predictions made; impossible: points that are no network.
        resumed: parts that an earlier run had written; retried: parts computed again after a worker died.
        seconds: of this run; workers: parts by the process that computed them.
        columns: the rows themselves, where they were not written to a file.
    """

    path: Path | None
    grid: Grid
    rows: int
    points: int
    told: Told
    parts: int
    resumed: int
    retried: int
    seconds: float
    engine: str
    machines: tuple[str, ...]
    refused: tuple[str, ...] = ()
    workers: dict[str, int] = field(default_factory=dict)
    columns: dict[str, Any] | None = None

    def numpy(self, *columns: str) -> dict[str, Any]:
        """Columns as NumPy arrays, masked where values are unknown; all if none is named."""
        if self.path is None:
            assert self.columns is not None
            return {k: v for k, v in self.columns.items() if not columns or k in columns}
        return read(self.path, columns)

    def head(self, rows: int) -> dict[str, Any]:
        """The first rows, as `numpy` gives them."""
        if self.path is None:
            return {k: v[:rows] for k, v in self.numpy().items()}
        return read(self.path, rows=rows)


def sweep(
    grid: "str | Path | dict[str, Any]", out: "str | Path | None" = None, *, engine: str = "local",
    jobs: int | None = None, fresh: bool = False, rows: int = ROWS,
    tick: Callable[[Progress], None] | None = None,
) -> Swept:  # fmt: skip
    """Evaluates every point of a grid.

    Args:
        grid: a file, or its fields.
        out: NAME.parquet for one file, another name for a folder of parts; without it rows stay in memory,
            computed in this process.
        engine: local, dask://HOST:PORT, ray or ray://HOST:PORT.
        jobs: of local, processes; all cores by default.
        fresh: write over what an earlier sweep left.
        rows: of a part, at most.
        tick: told how far it is.

    Raises:
        InputError: a mistake in the grid; parts of another grid; an engine that does not answer.
    """
    if not 1 <= rows <= 10_000_000:
        raise InputError(f"rows of a part must lie between 1 and 10,000,000, not {rows}")
    found = read_grid(grid)
    planned = plan(found, rows)
    if out is None:
        return _in_memory(planned)
    duckdb()
    path = Path(out)
    one = path.suffix == ".parquet"
    folder = Folder(path.with_name(path.name + ".parts") if one else path)
    bound = bound_of(planned, rows)
    start = time.perf_counter()
    if one and path.is_dir():
        raise InputError("is a folder, not a file", where=str(path))
    finished = _finished(path, bound, one)
    if one and path.exists() and not fresh and not folder.manifest.exists():
        if finished is None:
            raise InputError("is there already and is no file of this sweep", where=str(path),
                             hint="give --fresh to write over it, or another -o")  # fmt: skip
        return _swept(planned, path, finished, start, engine)
    done = folder.open(bound, len(planned.parts), fresh)
    left = [i for i in range(len(planned.parts)) if i not in done]
    retried, workers = 0, {}
    if left:
        retried, workers = _compute(planned, folder, left, rows, engine, jobs, tick)
    count, told = folder.told()
    summary = {
        "schema": SCHEMA, "bound": digest(bound), **provenance(planned, told), "rows": count,
        "points": planned.points, "evaluated": told.evaluated, "impossible": told.impossible,
        "single": told.single, "why": told.why, "parts": len(planned.parts),
    }  # fmt: skip
    text = json.dumps(summary, indent=1, ensure_ascii=False)
    if one:
        folder.joined(path, {"pharos": text})
        write_whole(path.with_name(path.name + ".json"), text.encode())
    else:
        write_whole(folder.path / "_sweep.json", text.encode())
    return Swept(
        path=path, grid=found, rows=count, points=planned.points, told=told, parts=len(planned.parts),
        resumed=len(done), retried=retried, seconds=time.perf_counter() - start, engine=engine,
        machines=_machines(planned), refused=planned.refused, workers=workers,
    )  # fmt: skip


def _machines(planned: Plan) -> tuple[str, ...]:
    return tuple(dict.fromkeys(t.machine.id for t in planned.targets))


def _finished(path: Path, bound: dict[str, Any], one: bool) -> dict[str, Any] | None:
    """What an earlier run told of a finished file of the same grid."""
    beside = path.with_name(path.name + ".json")
    if not (one and path.exists() and beside.exists()):
        return None
    try:
        told = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return told if told.get("bound") == digest(bound) else None


def _swept(planned: Plan, path: Path, told: dict[str, Any], start: float, engine: str) -> Swept:
    return Swept(
        path=path, grid=planned.grid, rows=told["rows"], points=planned.points,
        told=Told(told["evaluated"], told["impossible"], told["why"], told["single"], told["evidence"]),
        parts=len(planned.parts), resumed=len(planned.parts), retried=0,
        seconds=time.perf_counter() - start, engine=engine, machines=_machines(planned),
        refused=planned.refused,
    )  # fmt: skip


def bound_of(planned: Plan, rows: int) -> dict[str, Any]:
    """What parts are bound to: the grid, the facts of its machines, files it names, Pharos itself."""
    from pharos.convert.cache import file_digest

    files = [m.name for m in planned.grid.models if m.name.endswith((".onnx", ".json"))]
    return {
        "pharos": __version__,
        "rows of a part": rows,
        "grid": planned.grid.given,
        "machines": {t.machine.id: digest(repr(t.machine)) for t in planned.targets},
        "files": {name: file_digest(Path(name)) for name in files},
    }


def provenance(planned: Plan, told: Told) -> dict[str, Any]:
    """What a reader needs to know of where figures come from."""
    return {
        "pharos": __version__, "name": planned.grid.name, "grid": planned.grid.given,
        "machines": list(_machines(planned)), "refused": list(planned.refused), "evidence": told.evidence,
    }  # fmt: skip


def _in_memory(planned: Plan) -> Swept:
    start, told = time.perf_counter(), Told()
    found: list[Block] = []
    for part in planned.parts:
        for slab in part:
            found += blocks(planned, slab, told)
    columns = {k: _plain(v) for k, v in columns_of(planned.grid, found).items()}
    return Swept(
        path=None, grid=planned.grid, rows=sum(b.rows for b in found), points=planned.points, told=told,
        parts=len(planned.parts), resumed=0, retried=0, seconds=time.perf_counter() - start, engine="here",
        machines=_machines(planned), refused=planned.refused, columns=columns,
    )  # fmt: skip


def _plain(value: Any) -> Any:
    import numpy as np

    from pharos.decide.sweep.parts import MISSING
    from pharos.predict.grid import Codes

    if isinstance(value, Codes):
        return np.array(value.words or (None,), object)[value.codes]
    if value.dtype == np.int64:
        return np.ma.masked_equal(value, MISSING) if (value == MISSING).any() else value
    return np.ma.masked_invalid(value) if np.isnan(value).any() else value


# Parts on an engine.


@lru_cache(maxsize=4)
def _planned(text: str, rows: int) -> Plan:
    given = json.loads(text)
    return plan(read_grid(given), rows)


def compute(text: str, rows: int, version: str, number: int) -> tuple[int, bytes, int, int, str]:
    """One part, in whatever process: its number, the file's bytes, rows, points, and who computed it.

    Args:
        text: the grid's fields as JSON. version: of Pharos that asks.

    Raises:
        InputError: another version of Pharos works here.
    """
    if version != __version__:
        raise InputError(f"a worker has Pharos {__version__}, this is {version}", where=socket.gethostname())
    planned = _planned(text, rows)
    told = Told()
    found = [block for slab in planned.parts[number] for block in blocks(planned, slab, told)]
    points = sum(slab.rows for slab in planned.parts[number])
    made = part_bytes(planned.grid, found, told)
    return number, made, sum(b.rows for b in found), points, f"{socket.gethostname()}:{os.getpid()}"


def _compute(
    planned: Plan, folder: Folder, left: list[int], rows: int, name: str, jobs: int | None,
    tick: Callable[[Progress], None] | None,
) -> tuple[int, dict[str, int]]:  # fmt: skip
    """Computes and writes parts; parts computed again, and parts by worker.

    Only this process writes, and only whole parts: whatever else dies, nothing that was written is lost.
    """
    text = json.dumps(grid_text(planned.grid))
    sizes = [sum(s.rows for s in part) for part in planned.parts]
    begun = sum(sizes) - sum(sizes[i] for i in left)
    done, written, retried, workers = begun, 0, 0, {}

    def tell() -> None:
        if tick is not None:
            tick(Progress(points=done, all=sum(sizes), begun=begun, rows=written, retried=retried))

    tell()
    if name == "local" and jobs is None and len(left) == 1:
        jobs = 1
    with engine(name, jobs) as at:
        waiting, failed = left[::-1], dict.fromkeys(left, 0)
        flying: dict[Future[Any], int] = {}
        while waiting or flying:
            while waiting and len(flying) < at.ahead:
                number = waiting.pop()
                try:
                    flying[at.executor.submit(compute, text, rows, __version__, number)] = number
                except (BrokenExecutor, RuntimeError):
                    waiting.append(number)
                    _begin_again(at, flying, waiting)
                    retried += 1
            ready, _ = wait(flying, return_when=FIRST_COMPLETED)
            for future in ready:
                number = flying.pop(future, None)
                if number is None:
                    continue
                try:
                    _, made, count, points, who = future.result()
                except PharosError:
                    raise
                except (Exception, CancelledError) as error:
                    failed[number] += 1
                    retried += 1
                    if failed[number] >= TRIES:
                        raise InputError(
                            f"part {number} failed {TRIES} times: {type(error).__name__}: {error}",
                            where=str(folder.path), hint="what is written stays; the same command goes on",
                        ) from error  # fmt: skip
                    waiting.append(number)
                    if isinstance(error, BrokenExecutor):
                        _begin_again(at, flying, waiting)
                    continue
                write_whole(folder.part(number), made)
                done, written = done + points, written + count
                workers[who] = workers.get(who, 0) + 1
                tell()
    return retried, workers


def _begin_again(at: Engine, flying: dict[Future[Any], int], waiting: list[int]) -> None:
    """A new executor, and everything that the broken one had in hand."""
    waiting += flying.values()
    flying.clear()
    at.again()


def grid_text(grid: Grid) -> dict[str, Any]:
    """A grid as plain fields that read as the same grid."""
    given = grid.given
    return {
        "name": grid.name,
        "models": [{"name": name, **{k: [list(v) if isinstance(v, tuple) else v for v in vs]
                                     for k, vs in hyper.items()}}
                   for name, hyper in given["models"]],
        "machines": given["machines"], "workload": given["workload"], "runtime": given["runtime"],
        "where": given["where"], "columns": given["columns"],
    }  # fmt: skip
