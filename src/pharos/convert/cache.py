"""Cache: graphs of models read before, found again by the content of what they were read from."""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pharos.graph.graph import Graph
from pharos.graph.serial import from_dict, to_dict
from pharos.graph.workload import Workload
from pharos.quantity.errors import PharosError
from pharos.quantity.sizes import is_int

# Graphs kept; the ones not asked for the longest go first.
KEPT = 200


def folder() -> Path | None:
    """Where graphs are kept; None when PHAROS_CACHE is "off" or there is no place."""
    place = os.environ.get("PHAROS_CACHE", "")
    if place.lower() in ("off", "0", "no"):
        return None
    if place:
        return Path(place)
    from platformdirs import user_cache_path

    return user_cache_path("pharos", appauthor=False)


def file_digest(path: Path) -> str:
    """Digest of a file's content."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def cached(
    key: dict[str, Any],
    build: Callable[[Workload], Graph],
    sources: Callable[[], Iterable[Path]] | None = None,
) -> Callable[[Workload], Graph]:
    """`build`, answered from the cache when nothing it depends on has changed.

    Args:
        key: what the graph depends on and is known before: digests, names, versions.
        sources: called after a build: files that it also depended on, whose content is noted and held
            against theirs the next time.
    """

    def wrapped(work: Workload) -> Graph:
        where = _place(key, work)
        found = _read(where) if where is not None else None
        if found is not None:
            return found
        graph = build(work)
        if where is not None:
            _write(where, graph, list(sources()) if sources is not None else [])
        return graph

    return wrapped


def _place(key: dict[str, Any], work: Workload) -> Path | None:
    base = folder()
    if base is None or not is_int(work.batch) or not (work.context is None or is_int(work.context)):
        return None
    told = {
        **key,
        "code": _own_digest(),
        "python": sys.version_info[:2],
        "work": [work.phase, work.batch, work.context, asdict(work.precision)],
    }
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()
    return base / "graphs" / f"{digest}.json"


def _own_digest() -> str:
    """Changes with any file of this package that a graph is made by."""
    root = Path(__file__).parent.parent
    told = []
    for room in ("graph", "ops", "convert", "passes", "quantity", "models"):
        with os.scandir(root / room) as entries:
            told += sorted(
                f"{e.name} {e.stat().st_mtime_ns} {e.stat().st_size}" for e in entries if e.is_file()
            )
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def _read(where: Path) -> Graph | None:
    try:
        row = json.loads(where.read_text(encoding="utf-8"))
        if not all(_unchanged(*note) for note in row["sources"]):
            return None
        graph = from_dict(row["graph"])
        os.utime(where)
        return graph
    except (OSError, ValueError, KeyError, TypeError, AttributeError, PharosError):
        # a damaged or older entry is as good as none
        return None


def _unchanged(path: str, size: int, modified: int, digest: str) -> bool:
    try:
        stat = os.stat(path)
        same = stat.st_size == size and stat.st_mtime_ns == modified
        return same or (stat.st_size == size and file_digest(Path(path)) == digest)
    except OSError:
        return False


def _write(where: Path, graph: Graph, sources: list[Path]) -> None:
    try:
        notes = []
        for path in sources:
            stat = path.stat()
            notes.append([str(path), stat.st_size, stat.st_mtime_ns, file_digest(path)])
        text = json.dumps({"sources": notes, "graph": to_dict(graph)})
        where.parent.mkdir(parents=True, exist_ok=True)
        part = where.with_name(f"{where.name}.{os.getpid()}.part")
        part.write_text(text, encoding="utf-8")
        part.replace(where)
        _prune(where.parent)
    except (OSError, TypeError, ValueError, PharosError):
        # no cache is no mistake
        return


def _prune(place: Path) -> None:
    files = sorted(place.glob("*.json"), key=lambda p: p.stat().st_mtime, reverse=True)
    for path in files[KEPT:]:
        path.unlink(missing_ok=True)
