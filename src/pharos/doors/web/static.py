"""Static: the files that the pages link, read once when the server starts; a request's path opens nothing."""

import hashlib
from functools import cache
from pathlib import Path

TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
         ".LICENSE": "text/plain; charset=utf-8"}  # fmt: skip


@cache
def files() -> dict[str, tuple[str, bytes]]:
    """Name -> (content type, content)."""
    folder = Path(__file__).parent / "static"
    return {p.name: (TYPES[p.suffix], p.read_bytes()) for p in sorted(folder.iterdir()) if p.suffix in TYPES}


@cache
def address(name: str) -> str:
    """The address of a file, which changes with its content."""
    return f"/static/{name}?v={hashlib.sha256(files()[name][1]).hexdigest()[:12]}"
