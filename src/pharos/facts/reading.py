"""Reading YAML and JSON files with the place of every value, for errors that point at a line."""

import json
from pathlib import Path
from typing import Any

from pharos.quantity.errors import InputError, PharosError

# A hand-written file is far smaller; more is a wrong file or an attack with nested aliases.
LARGEST_FILE = 4 << 20
# Plain data only: any other tag could ask for an object to be made.
_TAGS = {
    f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp")
}


class Document:
    """A parsed file that remembers the line and column of its keys.

    Args:
        data: plain dicts, lists and scalars.
        path: where it was read from, as the user wrote it.
        places: key path -> (line, column), both from 1.
    """

    def __init__(self, data: Any, path: str, places: dict[tuple[Any, ...], tuple[int, int]]) -> None:
        self.data, self.path, self.places = data, path, places

    def where(self, *keys: Any) -> str:
        """``file:line:column a.b``: the place of a key, or of the nearest one around it."""
        spot = keys
        while spot and spot not in self.places:
            spot = spot[:-1]
        line, column = self.places.get(spot, (1, 1))
        dotted = ".".join(str(k) for k in keys)
        return f"{self.path}:{line}:{column}{' ' + dotted if dotted else ''}"

    def line(self, *keys: Any) -> int:
        """Line of a key, from 1."""
        while keys and keys not in self.places:
            keys = keys[:-1]
        return self.places.get(keys, (1, 1))[0]


def read_text(path: str | Path) -> str:
    """The text of a file a person named.

    Raises:
        InputError: missing, a folder, too large, or not text.
    """
    file = Path(path)
    try:
        if file.is_dir():
            raise InputError("is a folder, not a file", where=str(path))
        if file.stat().st_size > LARGEST_FILE:
            raise InputError(
                f"has {file.stat().st_size} bytes; such a file has at most 4 MiB", where=str(path)
            )
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("is not text in UTF-8", where=str(path)) from None
    except FileNotFoundError:
        near = [p.name for p in file.parent.glob(f"*{file.suffix}")][:5] if file.parent.is_dir() else []
        hint = f"there: {', '.join(near)}" if near else ""
        raise InputError("does not exist", where=str(path), hint=hint) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from None


def read_yaml(path: str | Path) -> Document:
    """A YAML 1.2 file, one document, no duplicate keys, no tags, no anchors.

    Raises:
        InputError: not readable as YAML, with the place.
    """
    return parse_yaml(read_text(path), str(path))


def parse_yaml(text: str, path: str) -> Document:
    """Like `read_yaml`, from text; `path` is used in messages only."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError
    from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

    yaml = YAML(typ="safe", pure=True)
    try:
        root = yaml.compose(text)
        places: dict[tuple[Any, ...], tuple[int, int]] = {}
        if root is None:
            raise InputError("is empty", where=path)
        build = yaml.constructor

        def plain(node: Any, at: tuple[Any, ...], depth: int) -> Any:
            mark = node.start_mark
            places.setdefault(at, (mark.line + 1, mark.column + 1))
            if node.anchor is not None or depth > 40:
                what = "an anchor" if node.anchor is not None else "nesting beyond 40 levels"
                raise InputError(f"{what} is not allowed here", where=f"{path}:{mark.line + 1}")
            if str(node.tag) not in _TAGS:
                raise InputError(f"tag {node.tag} is not allowed here", where=f"{path}:{mark.line + 1}")
            if isinstance(node, MappingNode):
                made: dict[Any, Any] = {}
                for key_node, value_node in node.value:
                    key = plain(key_node, (*at, None), depth + 1)
                    if not isinstance(key, (str, int, float, bool)):
                        raise InputError(f"{key!r} cannot be a key", where=f"{path}:{mark.line + 1}")
                    place = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
                    if key in made:
                        spot = f"{path}:{place[0]}:{place[1]}"
                        raise InputError(f"{key!r} is written twice", where=spot)
                    places[(*at, key)] = place
                    made[key] = plain(value_node, (*at, key), depth + 1)
                return made
            if isinstance(node, SequenceNode):
                return [plain(child, (*at, i), depth + 1) for i, child in enumerate(node.value)]
            assert isinstance(node, ScalarNode)
            return node.value if str(node.tag).endswith(":timestamp") else build.construct_object(node)

        return Document(plain(root, (), 0), path, places)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        spot = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else path
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(f"is not valid YAML: {problem}", where=spot) from None
    except RecursionError:
        raise InputError("is nested too deeply", where=path) from None
    except PharosError:
        raise
    except ValueError as error:
        raise InputError(f"holds a value that cannot be read: {error}", where=path) from None


def read_json(path: str | Path) -> Document:
    """A JSON file.

    Raises:
        InputError: not readable as JSON, with the place.
    """
    text = read_text(path)
    try:
        return Document(json.loads(text), str(path), {})
    except json.JSONDecodeError as error:
        raise InputError(
            f"is not valid JSON: {error.msg}", where=f"{path}:{error.lineno}:{error.colno}"
        ) from None
    except RecursionError:
        raise InputError("is nested too deeply", where=str(path)) from None
