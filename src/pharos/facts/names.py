"""Names of things in the catalogues: loose matching, aliases, the nearest match."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

from pharos.quantity.errors import UnknownName, unknown

VENDORS = ("nvidia", "amd", "intel", "google", "apple", "qualcomm", "aws", "arm", "groq", "cerebras",
           "meta-llama/", "meta", "openai", "mistralai/", "qwen/", "facebook/", "microsoft/")  # fmt: skip


def fold(name: str) -> str:
    """What is compared: lower case without `-`, `_`, `.`, spaces and a leading vendor."""
    text = name.lower().strip()
    for vendor in VENDORS:
        rest = text.removeprefix(vendor)
        if rest != text and rest.strip("-_. /"):
            text = rest
            break
    return re.sub(r"[-_.\s/]", "", text)


def resolve(what: str, name: str, known: Mapping[str, Iterable[str]]) -> str:
    """The canonical name among `known` (name -> aliases) that `name` loosely matches.

    Raises:
        UnknownName: nothing matches (with the nearest), or several do (with all of them).
    """
    if name in known:
        return name
    wanted = fold(name)
    hits = {n for n, aliases in known.items() if wanted in {fold(n), *map(fold, aliases)}}
    if len(hits) == 1:
        return hits.pop()
    if hits:
        raise UnknownName(f"{what} {name!r} is ambiguous", hint=f"one of {', '.join(sorted(hits))}")
    pool = {spelling: n for n, aliases in known.items() for spelling in (n, *aliases)}
    starts = sorted({n for s, n in pool.items() if wanted and fold(s).startswith(wanted)})
    if len(starts) > 1:
        listed = ", ".join(starts[:8]) + (f" and {len(starts) - 8} more" if len(starts) > 8 else "")
        raise UnknownName(f"{what} {name!r} is ambiguous", hint=f"one of {listed}")
    raise unknown(what, name, pool)


_HEAD = re.compile(r"^(?:id|name): *(\S+)", re.M)
_ALIASES = re.compile(r"^aliases: *\[(.*?)\]", re.M)


@cache
def folder(kind: str) -> dict[str, tuple[Path, tuple[str, ...]]]:
    """Name -> (file, aliases) of every YAML file of a facts folder.

    Only the `id:`/`name:` and `aliases:` lines are read, so that finding one entry does not cost
    parsing all of them.
    """
    found = {}
    root = Path(str(files("pharos.facts"))) / kind
    for path in sorted(root.glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        head, aliases = _HEAD.search(text), _ALIASES.search(text)
        words = aliases[1].split(",") if aliases else []
        spelled = tuple(w.strip().strip("'\"") for w in words if w.strip())
        found[head[1] if head else path.stem] = (path, spelled)
    return found


def find(kind: str, what: str, name: str) -> Path:
    """The file of the entry that `name` loosely matches in a facts folder.

    Raises:
        UnknownName: nothing or several match.
    """
    entries = folder(kind)
    return entries[resolve(what, name, {n: aliases for n, (_, aliases) in entries.items()})][0]
