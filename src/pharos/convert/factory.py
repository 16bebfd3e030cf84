"""Factory: a module that `package.module:function(arguments)` makes, and inputs it can be run on."""

import importlib
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pharos.convert.cache import cached
from pharos.convert.factory_names import is_factory as is_factory
from pharos.convert.from_torch import Traced, require_torch, trace
from pharos.convert.torch_run import NeedsData
from pharos.graph.graph import Graph
from pharos.graph.workload import Workload
from pharos.models.registry import Model, parse_name
from pharos.passes.held import Held
from pharos.quantity.errors import InputError, PharosError, unknown

# Tokens of a text and side of an image where nothing says otherwise.
TOKENS, SIDE = 128, 224
_HOLD: list[Any] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class FromFactory(Model):
    """A model of a module that code makes, run when it is first needed.

    Args:
        traced: runs it.
    """

    traced: Callable[[], Traced]

    def training_memory(self, work: Workload, *asked: Any) -> Held:
        """What a training step holds, as `pharos.convert.from_torch.Traced` watches it."""
        return self.traced().training_memory(work, *asked)


def from_factory(text: str, inputs: dict[str, str] | None = None) -> Model:
    """The model that a function or class makes: this runs that code, and only because it was named.

    Nothing is run before a graph is asked for, nor when one of the same code is in the cache.

    Args:
        text: ``package.module:factory`` or ``package.module:factory(width=0.5)``.
        inputs: name or number of an input -> its shape, ``1x3x224x224`` or ``int64:1x128``; guessed from
            what the module says of itself if left out.

    Raises:
        InputError: no such code, it fails, it makes no module, or no inputs can be guessed.
    """
    made: list[Traced] = []
    before = set(sys.modules)

    def traced() -> Traced:
        if not made:
            made.append(_traced(text, inputs))
        return made[0]

    def build(work: Workload) -> Graph:
        try:
            return traced().graph(work)
        except NeedsData:
            made[0] = _traced(text, inputs, meta=False)
            return made[0].graph(work)

    top = text.strip().partition(".")[0].partition(":")[0]
    with _on_path(str(Path.cwd())):
        try:
            found = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            found = None
    if found is None or not found.origin:
        return FromFactory(name=text, family="", build=build, traced=traced)
    key = {"factory": text, "inputs": inputs or {}, "origin": found.origin, "versions": _versions()}
    cache = cached(key, build, lambda: _sources(before))
    return FromFactory(name=text, family="", build=cache, traced=traced)


def _traced(text: str, inputs: dict[str, str] | None, meta: bool = True) -> Traced:
    torch = require_torch()
    module = _made(torch, text, meta)
    args, kwargs = _stated(torch, inputs) if inputs else guess_inputs(torch, module, text)
    return trace(module, *args, name=text, watch=True, **kwargs)


def _versions() -> dict[str, str]:
    """Of the packages whose own files are not looked at one by one."""
    found = {}
    for name in ("torch", "transformers", "timm", "torchvision"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = ""
    return found


def _sources(before: set[str]) -> list[Path]:
    """Files of the modules that were imported since, but for torch's and Python's own."""
    apart = ("torch.", "torch", "sympy.", "numpy.", "pharos.", "functorch.", "transformers.")
    library = Path(importlib.util.__file__).parent.parent
    found = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not file or name in before or f"{name}.".startswith(tuple(f"{a.rstrip('.')}." for a in apart)):
            continue
        path = Path(file)
        inside = library in path.parents and "site-packages" not in path.parts
        if path.suffix == ".py" and path.is_file() and not inside:
            found.append(path)
    return found


def _made(torch: Any, text: str, meta: bool) -> Any:
    place, _, rest = text.strip().partition(":")
    name, arguments = parse_name(rest)
    room = import_mended(place, text)
    at: Any = room
    for part in name.split("."):
        if not hasattr(at, part):
            known = [n for n in dir(at) if not n.startswith("_") and callable(getattr(at, n, None))]
            raise unknown(f"name in {place}", part, known)
        at = getattr(at, part)
    if isinstance(at, torch.nn.Module):
        return at
    if not callable(at):
        raise InputError(f"is a {type(at).__name__}, not a function or class", where=text)
    made = _called(torch, at, arguments, text, meta)
    if not isinstance(made, torch.nn.Module):
        raise InputError(f"makes a {type(made).__name__}, not a torch.nn.Module", where=text)
    return made.eval()


def _called(torch: Any, make: Callable[..., Any], arguments: dict[str, Any], text: str, meta: bool) -> Any:
    """What the factory makes, on the meta device if it can be made there."""
    if meta:
        try:
            with torch.device("meta"):
                return make(**arguments)
        except Exception:
            # it may need numbers to be made at all
            pass
    try:
        return make(**arguments)
    except PharosError:
        raise
    except Exception as error:
        raise InputError(f"fails: {_first(error)}", where=text) from None


def import_mended(place: str, text: str = "") -> Any:
    """A module by its name; a torchvision whose compiled part fits another torch is still imported.

    Raises:
        InputError: there is none, or importing it fails.
    """
    here = str(Path.cwd())
    with _on_path(here):
        for _ in range(40):
            try:
                return importlib.import_module(place)
            except ModuleNotFoundError as error:
                missing = error.name or place
                if place == missing or place.startswith(f"{missing}."):
                    raise InputError(f"there is no module {place!r}", where=text) from None
                raise InputError(f"importing {place} needs {missing}", where=text) from None
            except RuntimeError as error:
                if not _mended(str(error)):
                    raise InputError(f"importing {place} fails: {_first(error)}", where=text) from None
            except Exception as error:
                raise InputError(f"importing {place} fails: {_first(error)}", where=text) from None
    raise InputError(f"importing {place} fails", where=text)


def _mended(message: str) -> bool:
    """Declares an operator that a mismatched torchvision lacks, so that its Python part loads."""
    found = re.search(r"operator torchvision::(\w+) does not exist", message)
    if not found:
        return False
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define(f"{found[1]}(Tensor x) -> Tensor")
    _HOLD.append(library)
    for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    return True


@contextmanager
def _on_path(folder: str) -> Iterator[None]:
    if folder in sys.path or "" in sys.path:
        yield
        return
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def _first(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _stated(torch: Any, inputs: dict[str, str]) -> tuple[list[Any], dict[str, Any]]:
    args: dict[int, Any] = {}
    kwargs: dict[str, Any] = {}
    for key, text in inputs.items():
        made = tensor_of(torch, text, key)
        if key.isdigit():
            args[int(key)] = made
        else:
            kwargs[key] = made
    if sorted(args) != list(range(len(args))):
        raise InputError("numbered inputs must be 0, 1, 2, ...", where="--input")
    return [args[i] for i in sorted(args)], kwargs


def tensor_of(torch: Any, text: str, key: str = "") -> Any:
    """A tensor without data from ``1x3x224x224``, ``int64:1x128`` or ``bfloat16:2x8``.

    Raises:
        InputError: not of that form.
    """
    from pharos.convert.from_torch import example_tensors

    kind, _, sizes = text.strip().rpartition(":")
    if not re.fullmatch(r"\d+(x\d+)*", sizes):
        raise InputError(
            f"{text!r} is not a shape",
            where=f"--input {key}".strip(),
            hint="write 1x3x224x224 or int64:1x128",
        )
    return example_tensors(torch, tuple(int(s) for s in sizes.split("x")), kind or None)[0]


def guess_inputs(torch: Any, module: Any, text: str = "") -> tuple[list[Any], dict[str, Any]]:
    """Inputs from what a module says of itself: Lightning's example, timm's and transformers' configs, or
    the layer that it begins with.

    Raises:
        InputError: nothing says what it takes.
    """
    example = getattr(module, "example_input_array", None)
    if isinstance(example, torch.Tensor):
        return [example], {}
    if isinstance(example, dict):
        return [], dict(example)
    if isinstance(example, (list, tuple)):
        return list(example), {}
    settings = getattr(module, "default_cfg", None) or getattr(module, "pretrained_cfg", None)
    if isinstance(settings, dict) and settings.get("input_size"):
        return [torch.empty(1, *settings["input_size"], device="meta")], {}
    if hasattr(module, "config") and hasattr(module, "main_input_name"):
        from pharos.convert.hf_inputs import inputs_of

        return [], inputs_of(torch, module)
    found = _by_first_layer(torch, module)
    if found is None:
        raise InputError(
            "does not say what it takes", where=text or type(module).__name__,
            hint="give --input 0=1x3x224x224, or 0=int64:1x128 for token numbers",
        )  # fmt: skip
    return [found], {}


def _by_first_layer(torch: Any, module: Any) -> Any:
    nn = torch.nn
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            side = 299 if type(module).__name__ in ("Inception3", "InceptionV3") else SIDE
            return torch.empty(1, part.in_channels, side, side, device="meta")
        if isinstance(part, nn.Conv1d):
            return torch.empty(1, part.in_channels, TOKENS, device="meta")
        if isinstance(part, nn.Conv3d):
            return torch.empty(1, part.in_channels, 16, 112, 112, device="meta")
        if isinstance(part, nn.Embedding):
            return torch.zeros(1, TOKENS, dtype=torch.long, device="meta")
        if isinstance(part, nn.Linear):
            return torch.empty(1, part.in_features, device="meta")
        if isinstance(part, (nn.LSTM, nn.GRU, nn.RNN)):
            order = (1, TOKENS) if part.batch_first else (TOKENS, 1)
            return torch.empty(*order, part.input_size, device="meta")
        if isinstance(part, nn.MultiheadAttention):
            order = (1, TOKENS) if part.batch_first else (TOKENS, 1)
            return torch.empty(*order, part.embed_dim, device="meta")
    return None
