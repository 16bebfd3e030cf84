"""Coverage: each feature of the textbook's system with its code, proof and page, from coverage.yaml."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from textwrap import wrap
from typing import Any

from pharos.book.chapter import claims
from pharos.book.lab import labs
from pharos.book.study import studies
from pharos.facts.reading import read_yaml

# The outline numbers its features by section, with gaps between the sections.
SECTIONS = {
    "Across all parts": ["F001-F010"],
    "Principles": ["F011-F030"],
    "Dense networks": ["F038-F058", "F082-F082"],
    "Convolutional networks": ["F065-F081", "F083-F091"],
    "Recurrent networks": ["F099-F109"],
    "Attention": ["F116-F131"],
    "Transformers": ["F139-F156"],
    "Recommenders": ["F163-F175"],
    "Building blocks": ["F183-F207"],
    "Primitives": ["F214-F238"],
    "Selection": ["F245-F271"],
    "Fallacies and pitfalls": ["F278-F286"],
    "Summary": ["F290-F291"],
    "The ledger and validation": ["F296-F300"],
    "Smaller items": ["F301-F318"],
}
INTRODUCTION = (
    "Each of the {count} features that the textbook's chapter asks of such a system, with the code that "
    "provides it, the test, lab, study or claim that proves it, and the page or command that explains it. "
    "Written by `make coverage-map` from `src/pharos/book/coverage.yaml`; a test follows every name on this "
    "page to what it names, and says when the page is not current."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One feature.

    Args:
        code: `module:name` or `module:Class.method`, each.
        proof: `tests/path.py`, `tests/path.py::test` or `::Class::test`, `lab NAME`, `study NAME` or
            `claim ID`, each.
        page: a file of the project, or the command that tells it.
        missing: what is not there yet, in words; "" if nothing is.
        note: where it is provided in another way than asked.
    """

    id: str
    title: str
    section: str
    code: tuple[str, ...] = ()
    proof: tuple[str, ...] = ()
    page: str = ""
    missing: str = ""
    note: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether nothing of it is missing: neither code, nor proof, nor page."""
        return bool(self.code and self.proof and self.page) and not self.missing


def identifiers() -> Iterator[tuple[str, str]]:
    """(section, id) of every feature of the outline."""
    for section, ranges in SECTIONS.items():
        for text in ranges:
            first, last = (int(part[1:]) for part in text.split("-"))
            for number in range(first, last + 1):
                yield section, f"F{number:03d}"


def coverage() -> list[Feature]:
    """Every feature, in the outline's order.

    Raises:
        KeyError: the outline has one that the file leaves out.
    """
    rows: dict[str, dict[str, Any]] = read_yaml(str(files("pharos.book") / "coverage.yaml")).data
    return [Feature(id=name, section=section, **_fields(rows[name])) for section, name in identifiers()]


def _fields(row: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}


@cache
def _definitions(file: Path) -> frozenset[str]:
    """Names that a source defines: its own, and of classes as Class.name; nothing of it is run."""

    def names(body: list[ast.stmt], within: str) -> Iterator[str]:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                yield within + node.name
                if isinstance(node, ast.ClassDef):
                    yield from names(node.body, f"{within}{node.name}.")
            elif isinstance(node, ast.Assign):
                yield from (within + t.id for t in node.targets if isinstance(t, ast.Name))
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                yield within + node.target.id

    return frozenset(names(ast.parse(file.read_text(encoding="utf-8")).body, ""))


def absent(feature: Feature, root: Path) -> list[str]:
    """What a feature names that is not there, in the project that lies at `root`."""
    return [
        *(c for c in feature.code if not _is_code(c, root)),
        *(p for p in feature.proof if not _is_proof(p, root)),
        *([feature.page] if feature.page and not _is_page(feature.page, root) else []),
    ]


def _is_code(name: str, root: Path) -> bool:
    module, _, inner = name.partition(":")
    return _defines(root / "src" / f"{module.replace('.', '/')}.py", inner)


def _defines(file: Path, name: str) -> bool:
    return file.is_file() and (not name or name.replace("::", ".") in _definitions(file))


def _is_proof(name: str, root: Path) -> bool:
    kind, _, rest = name.partition(" ")
    if kind in _NAMED:
        return rest in _NAMED[kind]()
    path, _, test = name.partition("::")
    return path.startswith("tests/") and _defines(root / path, test)


_NAMED = {"lab": labs, "study": studies, "claim": claims}


def _is_page(name: str, root: Path) -> bool:
    if not name.startswith("pharos "):
        return (root / name).is_file()
    _, command, *rest = name.split()
    if not (root / f"src/pharos/doors/cli/{command.replace('-', '_')}.py").is_file():
        return False
    stated = rest[0] if rest else "NAME"
    return command not in _NAMED or stated.isupper() or stated in _NAMED[command]()


def page() -> str:
    """The map as Markdown."""
    found = coverage()
    whole = sum(f.is_whole for f in found)
    lines = [
        "# Coverage of the textbook's features",
        "",
        *wrap(INTRODUCTION.format(count=len(found)), 118),
        "",
        f"**{whole} of {len(found)} are whole; {len(found) - whole} lack something, which their row says.**",
        "",
        "| section | features | whole | not yet |",
        "|---|---:|---:|---:|",
    ]
    for section in SECTIONS:
        own = [f for f in found if f.section == section]
        good = sum(f.is_whole for f in own)
        lines.append(f"| {section} | {len(own)} | {good} | {len(own) - good} |")
    for section in SECTIONS:
        lines += ["", f"## {section}", "", "| feature | code | proof | page |", "|---|---|---|---|"]
        lines += [_line(f) for f in found if f.section == section]
    return "\n".join(lines) + "\n"


def _line(feature: Feature) -> str:
    words = [f"**{feature.id}** {feature.title}"]
    words += [f"*not yet: {feature.missing}*"] if feature.missing else []
    words += [f"*{feature.note}*"] if feature.note else []
    cells = [
        "<br>".join(words),
        "<br>".join(_code_link(c) for c in feature.code) or "not yet",
        "<br>".join(_proof_link(p) for p in feature.proof) or "not yet",
        _page_link(feature.page) or "not yet",
    ]
    return f"| {' | '.join(c.replace('|', chr(92) + '|') for c in cells)} |"


def _link(words: str, path: str) -> str:
    return f"[{words}]({path})"


def _code_link(name: str) -> str:
    module, _, inner = name.partition(":")
    return _link(f"{module.removeprefix('pharos.')} {inner}", f"../src/{module.replace('.', '/')}.py")


def _proof_link(name: str) -> str:
    if not name.startswith("tests/"):
        return f"`pharos {name.replace('claim', 'ledger', 1)}`"
    path, _, test = name.partition("::")
    return _link(
        test.rpartition("::")[2].removeprefix("test_").replace("_", " ") if test else path, f"../{path}"
    )


def _page_link(name: str) -> str:
    if not name or name.startswith("pharos "):
        return f"`{name}`" if name else ""
    return _link(name, name.removeprefix("docs/") if name.startswith("docs/") else f"../{name}")


def main() -> None:
    """Writes docs/coverage.md of the project that the current folder is, and tells what is absent."""
    root = Path.cwd()
    target = root / "docs" / "coverage.md"
    target.write_text(page(), encoding="utf-8")
    found = coverage()
    print(f"{sum(f.is_whole for f in found)} of {len(found)} features are whole: {target.relative_to(root)}")
    for feature in found:
        for name in absent(feature, root):
            print(f"  {feature.id}: {name} is not there")


if __name__ == "__main__":
    main()
