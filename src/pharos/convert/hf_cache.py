"""Prefill and decode of a traced language model: transformers' own cache as the state that calls keep."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pharos.convert.torch_record import DTYPES, TorchReader
from pharos.convert.torch_run import experts_by
from pharos.graph.tensor import ACTIVATIONS
from pharos.ops.cache import Kept, KeptState, Past
from pharos.quantity.errors import SizeError

# What a layer of a cache calls the keys and values of attention; all else is a state of fixed size.
_ATTENTION = ("keys", "values")


@dataclass(frozen=True, slots=True)
class Decoding:
    """A call that keeps a cache, which an unnoted call on `cached` tokens has filled before.

    Args:
        phase: "prefill", or "decode" of one token behind `cached` others.
    """

    phase: str
    cached: int

    def before(self, torch: Any, reader: TorchReader, module: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments with a cache; at decode it holds what came before."""
        found = {**kwargs, "use_cache": True}
        if "logits_to_keep" in _parameters(module):
            found["logits_to_keep"] = 1
        if self.phase == "prefill" or not self.cached:
            return found
        ids = kwargs["input_ids"]
        earlier = torch.zeros((ids.shape[0], self.cached), dtype=ids.dtype, device=ids.device)
        with torch.inference_mode(), experts_by(module, "batched_mm"):
            out = module(**{**kwargs, "input_ids": earlier}, use_cache=True)
        name, cache = cache_of(out, module)
        for path, t in tensors_of(torch, cache):
            kind = reader.dtype(t.dtype)
            floats = str(t.dtype).removeprefix("torch.") in DTYPES and t.dtype.is_floating_point
            op = Past(reader.sizes(t.shape), ACTIVATIONS if floats else kind)
            reader.bind(t, reader.place(reader.free(f"past.{path}"), op, origins={}).name)
        return {**found, name: cache}

    def after(self, torch: Any, reader: TorchReader, out: Any) -> None:
        """Every tensor of floats in the cache is kept."""
        _, cache = cache_of(out, None)
        for path, t in tensors_of(torch, cache):
            op = Kept() if path.rpartition(".")[2] in _ATTENTION else KeptState()
            reader.place(reader.free(f"kept.{path}"), op, reader.of(t), origins={})


def cache_of(out: Any, module: Any) -> tuple[str, Any]:
    """The cache in a model's output, with the name under which the next call takes it.

    Raises:
        SizeError: it keeps none.
    """
    for name in ("past_key_values", "cache", "cache_params", "state"):
        found = getattr(out, name, None)
        if found is not None:
            return ("cache" if module is not None and "cache" in _parameters(module) else name), found
    raise SizeError("keeps nothing from one token to the next: it has no prefill or decode")


def can_decode(module: Any) -> bool:
    """Whether a module makes one token at a time and keeps a cache for it."""
    names = _parameters(module)
    encodes = bool(getattr(module.config, "is_encoder_decoder", False))
    return "use_cache" in names and "input_ids" in names and not encodes


def tensors_of(torch: Any, cache: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Tensors of floats anywhere in a cache, with where they are."""
    if isinstance(cache, torch.Tensor):
        if cache.dim() > 0 and cache.numel() and (cache.dtype.is_floating_point or cache.dtype.is_complex):
            yield path, cache
        return
    if isinstance(cache, dict):
        parts = list(cache.items())
    elif isinstance(cache, (list, tuple)):
        parts = list(enumerate(cache))
    elif hasattr(cache, "__dict__") and type(cache).__module__.startswith("transformers."):
        parts = list(vars(cache).items())
    else:
        return
    for key, value in parts:
        yield from tensors_of(torch, value, f"{path}.{key}" if path else str(key))


def _parameters(module: Any) -> Any:
    import inspect

    return inspect.signature(module.forward).parameters
