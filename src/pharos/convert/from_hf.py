"""From Hugging Face: a config.json becomes a model; no code of the model's is run, no weights are read."""

import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pharos.facts.declared import declared
from pharos.facts.reading import read_json
from pharos.models.registry import Model
from pharos.ops.activation import FUNCTIONS
from pharos.ops.rotary import SCALINGS
from pharos.quantity.errors import InputError, PharosError, unknown

# Activations by the names configs use.
ACTIVATIONS = {
    "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh",
    "silu": "silu", "swish": "silu", "relu": "relu",
}  # fmt: skip


_ROPE_NUMBERS = (
    "factor", "attention_factor", "beta_fast", "beta_slow", "truncate", "mscale", "mscale_all_dim",
    "original_max_position_embeddings", "low_freq_factor", "high_freq_factor", "short_factor", "long_factor",
)  # fmt: skip
# What each way of scaling cannot do without.
_ROPE_NEEDS = {
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": ("original_max_position_embeddings",),
    "longrope": ("short_factor", "long_factor", "original_max_position_embeddings"),
}


class NotExpressed(InputError):
    """A feature that the blocks of Pharos do not express."""


class Config:
    """A config.json with the defaults of its model_type behind it; every answer is checked.

    Args:
        data: what the file says.
        defaults: what the reference implementation takes for keys that are left out.
        path: the file, as the user wrote it, for messages.
    """

    def __init__(self, data: dict[str, Any], defaults: dict[str, Any], path: str) -> None:
        self.data, self.given, self.path = {**defaults, **data}, data, path

    def get(self, key: str, other: Any = None) -> Any:
        """The value as it stands; `other` where it is missing or null."""
        value = self.data.get(key)
        return other if value is None else value

    def where(self, key: str) -> str:
        """File and key, for messages."""
        return f"{self.path} {key}"

    def wrong(self, key: str, why: str, hint: str = "") -> InputError:
        """An error about a key."""
        return InputError(why, where=self.where(key), hint=hint)

    def whole(self, key: str, other: int | None = None) -> int:
        """A whole number from 1 to 1e9.

        Raises:
            InputError: anything else.
        """
        value = self.get(key, other)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 10**9:
            raise self.wrong(key, f"must be a whole number from 1 to 1e9, not {value!r}")
        return value

    def count(self, key: str) -> int:
        """A whole number from 0 to 1e9, 0 where it is missing."""
        return 0 if self.get(key, 0) == 0 and self.get(key) is not False else self.whole(key)

    def number(self, key: str, other: float | None = None) -> float | None:
        """A positive number, or `other` where it is missing."""
        value = self.get(key, other)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e12:
            raise self.wrong(key, f"must be a positive number, not {value!r}")
        return float(value)

    def flag(self, key: str) -> bool:
        """True or False; missing is False."""
        return bool(self.get(key, False))

    def activation(self, key: str) -> str:
        """Our name of an activation."""
        written = self.get(key, "silu")
        if written not in ACTIVATIONS:
            raise unknown("activation", str(written), [*ACTIVATIONS, *FUNCTIONS], where=self.where(key))
        return ACTIVATIONS[written]

    def rope(self, key: str, kind: str | None = None) -> Any:
        """An entry of `rope_parameters` (of one kind of layer), or of the top level in older files."""
        held = self.get("rope_parameters", {})
        if isinstance(held, dict) and kind is not None:
            held = held.get(kind, held)
        inside = held.get(key) if isinstance(held, dict) else None
        given = self.given.get(key)
        return given if given is not None else self.get(key) if inside is None else inside

    def rope_theta(self, kind: str | None = None) -> float:
        """Base of the rotary positions."""
        value = self.rope("rope_theta", kind)
        if value is None:
            value = 10000.0
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e12:
            raise self.wrong("rope_theta", f"must be a positive number, not {value!r}")
        return float(value)

    def rope_scaling(self, kind: str | None = None) -> dict[str, Any]:
        """How rotary positions are slowed; empty where they are not.

        Raises:
            InputError: an entry that is missing or of the wrong kind.
            UnknownName: a way of scaling that is not known.
        """
        held = self.get("rope_scaling") or self.get("rope_parameters") or {}
        if isinstance(held, dict) and kind is not None:
            held = held.get(kind, held)
        if not isinstance(held, dict):
            raise self.wrong("rope_scaling", f"must be an object, not {held!r}")
        way = str(held.get("rope_type") or held.get("type") or "default")
        way = {"su": "longrope"}.get(way, way)
        if way == "default":
            return {}
        if way not in SCALINGS:
            raise unknown("scaling of positions", way, SCALINGS, where=self.where("rope_scaling"))
        found = {"rope_type": way, "max_position_embeddings": self.whole("max_position_embeddings")}
        trained = self.get("original_max_position_embeddings")
        if trained is not None:
            found["original_max_position_embeddings"] = trained
        for key in _ROPE_NUMBERS:
            value = held.get(key)
            if value is None:
                continue
            each = value if isinstance(value, list) else [value]
            if not each or not all(isinstance(v, (int, float)) and 0 <= v < 1e12 for v in each):
                raise self.wrong(f"rope_scaling.{key}", f"must be a positive number, not {value!r}")
            found[key] = tuple(value) if isinstance(value, list) else value
        for key in _ROPE_NEEDS[way]:
            if key not in found:
                raise self.wrong("rope_scaling", f"of type {way} has no {key}")
        return found

    def refuse(self, **harmless: tuple[Any, ...]) -> None:
        """Raises for a key whose value would change the count in a way that is not expressed.

        Raises:
            NotExpressed: a value other than the harmless ones.
        """
        for key, fine in harmless.items():
            if self.get(key) not in (None, *fine):
                why = f"is {self.data[key]!r}: Pharos would miscount it and refuses"
                raise NotExpressed(why, where=self.where(key))

    def layer_types(self, layers: int, allowed: tuple[str, ...]) -> list[str] | None:
        """The kind of each layer, if the file says so."""
        kinds = self.get("layer_types")
        if kinds is None:
            return None
        if not isinstance(kinds, list) or len(kinds) != layers:
            raise self.wrong("layer_types", f"must name each of the {layers} layers")
        for kind in kinds:
            if kind not in allowed:
                raise unknown("kind of layer", str(kind), allowed, where=self.where("layer_types"))
        return kinds


Reader = Callable[[str, Config], Model]
KINDS: dict[str, tuple[Reader, dict[str, Any]]] = {}


def reader(*kinds: str, **defaults: Any) -> Callable[[Reader], Reader]:
    """Registers ``read(name, config) -> Model`` for some model_types with the defaults they share."""

    def register(read: Reader) -> Reader:
        for kind in kinds:
            KINDS[kind] = (read, defaults)
        return read

    return register


# Layers of the deepest network that is read.
MOST_LAYERS = 10_000


_READER = re.compile(r"^@reader\(((?:\"[\w-]+\",?\s*)+)", re.M)


@cache
def kinds() -> dict[str, str]:
    """Every model_type that has a reader -> the module that holds it: an hf_*.py file beside this."""
    found = {}
    for module, match in declared("pharos.convert", _READER):
        found |= dict.fromkeys(re.findall(r"\"(.*?)\"", match[1]), module)
    return found


def reader_of(kind: str) -> tuple[Reader, dict[str, Any]] | None:
    """The reader of a model_type and the defaults it takes; None where there is none."""
    if kind not in KINDS and kind in kinds():
        import_module(kinds()[kind])
    return KINDS.get(kind)


def _bounded(data: dict[str, Any], path: str, depth: int = 0) -> None:
    """Refuses more layers than any network has: they are written down one by one."""
    for key, value in data.items():
        if isinstance(value, dict) and depth < 8:
            _bounded(value, path, depth + 1)
        elif "layer" in key and isinstance(value, int) and value > MOST_LAYERS:
            raise InputError(f"{key} is {value:.3g}; at most {MOST_LAYERS} are read", where=path)


def from_hf_config(path: str | Path, name: str = "") -> Model:
    """A model from a local config.json.

    A model_type that Pharos has a reader for becomes a graph of its own blocks, without torch: a language
    model, or the bare encoder. Everything else is built by the installed transformers on the meta
    device, without weights, and traced. A model's own code (`auto_map`) is never run.

    Args:
        name: what to call it; by default what the file says, or the name of its folder.

    Raises:
        InputError: an unreadable file, an impossible size, or a model that transformers cannot build.
        UnknownName: a model_type that neither Pharos nor the installed transformers knows.
    """
    document = read_json(path)
    data = document.data
    if not isinstance(data, dict):
        raise InputError("is not a config: it must be an object", where=str(path))
    kind = data.get("model_type")
    if not isinstance(kind, str):
        raise InputError("has no model_type", where=str(path), hint=f"known: {', '.join(sorted(kinds()))}")
    name = name or str(data.get("_name_or_path") or Path(path).resolve().parent.name or kind)
    _bounded(data, str(path))
    found = reader_of(kind)
    if found is None:
        from pharos.convert.hf_trace import from_transformers

        return from_transformers(data, name, document.path)
    read, defaults = found
    try:
        return read(name, Config(data, defaults, document.path))
    except NotExpressed as refusal:
        # transformers builds what a reader would miscount, where it is installed
        if find_spec("torch") is None or find_spec("transformers") is None:
            raise
        from pharos.convert.hf_trace import from_transformers

        try:
            return from_transformers(data, name, document.path)
        except PharosError:
            raise refusal from None
    except PharosError as error:
        raise error if str(path) in str(error) else error.at(str(path)) from None
