"""From Hugging Face, any architecture: transformers builds it without weights and one run is noted."""

import copy
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pharos.convert.hf_bounds import SECONDS, TooLong, bounded, check_sizes
from pharos.convert.hf_cache import Decoding, can_decode
from pharos.convert.hf_class import class_of, config_of, listed, require_transformers
from pharos.convert.hf_inputs import Asked, inputs_of, text_config
from pharos.convert.torch_known import numbers_made
from pharos.convert.torch_run import NeedsData
from pharos.graph.graph import Graph
from pharos.graph.workload import Workload
from pharos.models.registry import Model
from pharos.quantity.errors import InputError, SizeError
from pharos.quantity.sizes import is_int

# Beyond this many parameters a model that must be run on numbers is not filled with random ones.
LARGEST_FILLED = 500_000_000
# What models say when a text has another number of image, video or sound tokens than there are features.
_MISMATCH = re.compile(
    r"(image|video|audio|speech)\w* features.*do not match.*features:?\s*(?:torch.Size\(\[)?(\d+)",
    re.IGNORECASE | re.DOTALL,
)


def build(torch: Any, transformers: Any, config: Any) -> Any:
    """The module of a config on the meta device.

    Raises:
        InputError: its class cannot be built, with the reason.
    """
    cls = class_of(transformers, config)
    try:
        try:
            # sizes that a module keeps as tensors are to be known when it runs
            with bounded(torch), torch.device("meta"), numbers_made(torch):
                module = cls(config)
        except (RuntimeError, NotImplementedError):
            with bounded(torch), torch.device("meta"):
                module = cls(config)
    except TooLong as error:
        why = str(error) or f"it takes over {SECONDS:g} s"
        hint = "its config asks for more than any published network has"
        raise InputError(f"{cls.__name__} is not built: {why}", hint=hint) from None
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        raise InputError(
            f"{cls.__name__} cannot be built: {type(error).__name__}: {lines[0][:200]}"
        ) from None
    return module.eval()


def filled(torch: Any, module: Any, name: str, why: str) -> Any:
    """The same model on the CPU, with the random weights that transformers starts training from.

    Raises:
        InputError: it is too large for that.
    """
    size = sum(p.numel() for p in module.parameters())
    if size > LARGEST_FILLED:
        raise InputError(f"{why}; {size:,} parameters are too many to be filled and run", where=name)
    with torch.random.fork_rng(devices=[]), _silent():
        torch.manual_seed(0)
        return type(module)(copy.deepcopy(module.config)).float().eval()


def from_transformers(data: dict[str, Any], name: str, path: str) -> Model:
    """A model that the installed transformers builds from a config.json's contents, without weights.

    Raises:
        InputError: transformers or torch is missing, or cannot build it.
        UnknownName: a model_type that the installed transformers does not know.
    """
    check_sizes(data, path)
    transformers = require_transformers()
    import torch

    config = config_of(transformers, data, path)
    try:
        module = build(torch, transformers, config)
    except InputError as error:
        raise error.at(path) from None
    notes = [f"built by transformers {transformers.__version__} as {type(module).__name__}, without weights"]
    if data.get("auto_map"):
        notes.append("auto_map is ignored: a model's own code is never run")
    named = [n for n in listed(data.get("architectures")) if n != type(module).__name__]
    if named:
        notes.append(f"transformers has no {named[0]}: this class fits its model_type")
    return traced(torch, module, name, tuple(notes))


def traced(torch: Any, module: Any, name: str, notes: tuple[str, ...] = ()) -> Model:
    """A model that runs a transformers module as a workload asks."""
    memo: dict[Any, Any] = {}

    def graph(work: Workload) -> Graph:
        return _graph(torch, module, work, name, memo, notes)

    return Model(name=name, family="", build=graph)


def _graph(
    torch: Any, module: Any, work: Workload, name: str, memo: dict[Any, Any], notes: tuple[str, ...]
) -> Graph:
    from pharos.convert.from_torch import _precision, trace

    batch, context = work.batch, work.context
    if not is_int(batch) or not (context is None or is_int(context)):
        if work.phase != "forward":
            raise SizeError(f"a traced model has no formulas for {work.phase}", where=name,
                            hint="give numbers for batch and context")  # fmt: skip
        return trace(module, name=name, **inputs_of(torch, module)).graph(work)
    key = (work.phase, batch, context, work.precision)
    if key in memo:
        return memo[key]
    memory = None
    if work.phase != "forward":
        if not can_decode(module):
            raise SizeError(
                f"does not make one token at a time: it has no {work.phase}", where=name,
                hint="leave --prefill and --decode out",
            )  # fmt: skip
        context = Asked(torch, module, batch, context).tokens
        memory = Decoding(work.phase, context - 1 if work.phase == "decode" else 0)
    tokens = 1 if work.phase == "decode" else context
    precision = _precision(torch, module, work)
    try:
        made = run(torch, module, name, batch, tokens, precision, memory=memory)
    except NeedsData as error:
        module = filled(torch, module, name, str(error).partition(": ")[2])
        made = run(torch, module, name, batch, tokens, precision, memory=memory)
        notes = (*notes, "what it does depends on data: one run on random weights and inputs")
    more: dict[str, Any] = {"notes": (*notes, *_not_run(module, made))}
    if context is not None and memory is not None:
        more |= {"context": context, "tokens": tokens}
    memo[key] = replace(made, meta=made.meta | more)
    return memo[key]


def _not_run(module: Any, graph: Graph) -> tuple[str, ...]:
    """What a run left out, by the parts of the model that hold it."""
    unused = set(graph.meta.get("unused") or ())
    if not unused:
        return ()
    sizes: dict[str, int] = {}
    for key, p in module.named_parameters():
        if key in unused:
            part = ".".join(key.split(".")[:2])
            sizes[part] = sizes.get(part, 0) + p.numel()
    told = ", ".join(f"{part} ({n:,})" for part, n in sorted(sizes.items(), key=lambda kv: -kv[1])[:4])
    more = f" and {len(sizes) - 4} more" if len(sizes) > 4 else ""
    return (f"not run on these inputs, counted as parameters: {told}{more}",)


@contextmanager
def _silent() -> Iterator[None]:
    """Without transformers' advice and PyTorch's notes on runs that are tried."""
    notes = logging.getLogger("torch._subclasses.fake_tensor")
    level = notes.level
    notes.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        notes.setLevel(level)


def run(
    torch: Any, module: Any, name: str, batch: int, context: int | None, precision: Any,
    call: Any = None, memory: Any = None,
) -> Any:  # fmt: skip
    """One noted run; tried again with as many image tokens as the model says it makes features of.

    Args:
        call: what is done with the inputs instead of noting a run.
        memory: what the run finds of earlier ones, see `torch_run.Memory`.
    """
    from pharos.convert.torch_run import recorded

    if memory is not None:
        # the step after a prompt is a step of text, whatever was in the prompt
        ids = torch.ones((batch, context), dtype=torch.long)
        with _silent():
            return recorded(torch, module, (), {"input_ids": ids}, {}, {}, precision, name, memory=memory)
    try:
        return _settled(torch, module, name, batch, context, precision, call, False)
    except NeedsData:
        raise
    except Exception:
        asked = Asked(torch, module, batch, context)
        if "input_ids" not in asked.parameters or any(n != "input_ids" for n in asked.required):
            raise
        # a model of texts and more that does not take the rest as it is guessed: the text alone
        try:
            return _settled(torch, module, name, batch, context, precision, call, True)
        except Exception:
            pass
        raise


def _settled(
    torch: Any, module: Any, name: str, batch: int, context: int | None, precision: Any, call: Any,
    only_text: bool,
) -> Any:  # fmt: skip
    """A run with as many image tokens in the text as the model says it makes features of."""
    from pharos.convert.torch_run import recorded

    places: dict[str, int] = {}
    width = getattr(text_config(module.config), "hidden_size", 1) or 1
    for _ in range(5):
        given = inputs_of(torch, module, context, batch, places, only_text)
        try:
            with _silent():
                if call is not None:
                    return call(given)
                return recorded(torch, module, (), given, {}, {}, precision, name)
        except Exception as error:
            told = _MISMATCH.search(str(error))
            if told is None:
                raise
            what, said = told[1].lower().replace("speech", "audio"), int(told[2])
            # some say how many numbers the features hold, some how many features there are
            guesses = [said // width, said] if said % width == 0 and said >= width else [said]
            guess = next((g for g in guesses if g != places.get(what)), None)
            if guess is None:
                raise
            places[what] = guess
    raise InputError("does not settle how many image tokens it wants", where=name)
