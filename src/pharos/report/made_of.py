"""Made of: what was recognised in a graph, as rows and as a line of words."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from pharos.graph.count import Count, Line
from pharos.passes.recognise import Recognition
from pharos.quantity.errors import unknown
from pharos.quantity.sizes import Size, is_int
from pharos.report.rows import plain

# Kinds of blocks that are told in a line, the heaviest first.
MOST = 6
# Of words that have no plural of their own.
_UNCOUNTABLE = ("mixing", "attention", "excitation", "interaction", "concatenation", "residual", "experts",
                "autoencoder")  # fmt: skip


def recognition_row(found: Recognition, family: str) -> dict[str, Any]:
    """The keys that `show --json` has for it; the family as catalogued, where it is."""
    return {
        "family": family or found.family,
        "family_evidence": list(found.evidence),
        "biases": list(found.biases),
        "blocks": [{**row, "count": plain(row["count"])} for row in found.rows()],
    }


def made_of(found: Recognition, counted: Count) -> str:
    """The largest blocks in words: 16 bottleneck residual blocks (layer1-4), 1 dense layer (fc), ..."""
    weight = {line.name: line.work.macs * line.times for line in counted.lines}
    heavy: dict[str, float] = {}
    for block in found.outermost:
        heavy[block.block] = heavy.get(block.block, 0.0) + sum(_number(weight.get(n, 0)) for n in block.nodes)
    grouped: dict[str, list[dict[str, Any]]] = {}
    for row in found.rows():
        if not row["part"]:
            grouped.setdefault(row["block"], []).append(row)
    names = sorted(grouped, key=lambda name: -heavy.get(name, 0.0))
    told = [_words(name, grouped[name]) for name in names[:MOST]]
    return ", ".join(told) + (", ..." if len(names) > MOST else "")


GROUPINGS = ("block", "kind", "module")


def grouping(by: str, found: Recognition) -> Callable[[Line], str]:
    """What operators are put together by: the largest block around them, their kind, or their module.

    Raises:
        UnknownName: none of GROUPINGS.
    """
    if by == "kind":
        return lambda line: line.kind
    if by == "module":
        return lambda line: line.name.rpartition(".")[0] or line.name
    if by != "block":
        raise unknown("grouping", by, GROUPINGS)
    blocks = {name: block.block for block in found.outermost for name in block.nodes}
    return lambda line: blocks.get(line.name, "the rest")


def _words(name: str, rows: list[dict[str, Any]]) -> str:
    total: Size = 0
    for row in rows:
        total = total + row["count"]
    where = places([path for row in rows for path in row["paths"]])
    details = [row["detail"] for row in rows if row["detail"]]
    said = [part for part in (where, details[0] if len(rows) == 1 and details else "") if part]
    if len(rows) > 1 and details:
        said.append("; ".join(f"{plain(row['count'])} {row['detail'] or 'plain'}" for row in rows))
    return f"{plain(total)} {_plural(name, total)}" + (f" ({': '.join(said)})" if said else "")


def _plural(name: str, number: Size) -> str:
    if name.endswith("residual"):
        name = f"{name} block"
    if is_int(number) and number == 1:
        return name
    if " with " in name:
        head, _, tail = name.partition(" with ")
        return f"{head}s with {tail}"
    return name if name.endswith(_UNCOUNTABLE) else f"{name}s"


def places(paths: Sequence[str]) -> str:
    """Modules in few words: what they share, or a run of numbers such as layer1-4."""
    unique = list(dict.fromkeys(p for p in paths if p))
    if len(unique) <= 1:
        return unique[0] if unique else ""
    parts = [p.split(".") for p in unique]
    shared = 0
    while all(len(p) > shared and p[shared] == parts[0][shared] for p in parts):
        shared += 1
    if shared:
        return ".".join(parts[0][:shared])
    return ", ".join(_runs(list(dict.fromkeys(p[0] for p in parts))))


def _runs(names: list[str]) -> list[str]:
    """layer1, layer2, layer3 -> layer1-3; at most four of other names."""
    found: list[str] = []
    stem, first, last = "", 0, 0
    for name in names:
        match = re.fullmatch(r"(.*?)(\d+)", name)
        if match and match[1] == stem and int(match[2]) == last + 1 and found:
            last = int(match[2])
            found[-1] = f"{stem}{first}-{last}"
            continue
        stem, first = (match[1], int(match[2])) if match else ("", 0)
        last = first
        found.append(name)
    return [*found[:4], "..."] if len(found) > 4 else found


def _number(x: Size) -> float:
    """A size to order by: formulas count as nothing, arrays by their first."""
    if is_int(x):
        return float(x)
    first = x.ravel()[0] if hasattr(x, "ravel") else x
    return 0.0 if hasattr(first, "free_symbols") else float(first)
