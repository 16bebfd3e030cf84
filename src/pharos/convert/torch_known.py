"""Known values: small tensors of a run without data whose numbers are known are computed beside it.

Grids of image patches, lengths, masks and positions decide how a model runs and follow from sizes and from
inputs that were given with their numbers; what depends on weights or on other inputs stays unknown.
"""

from typing import Any

# Beyond this many numbers a tensor is not followed.
LARGEST = 1 << 18
# Beyond this many a tensor of floats that the module holds is taken for weights.
SMALL = 256
# Calls that make a tensor whose numbers follow from sizes alone.
_LIKE = {"aten::zeros_like", "aten::ones_like", "aten::full_like", "aten::new_zeros", "aten::new_ones",
         "aten::new_full"}  # fmt: skip
_RANDOM = ("rand", "normal", "bernoulli", "multinomial", "dropout", "empty", "poisson", "exponential")
_ASKS = {"aten::item", "aten::_local_scalar_dense", "aten::is_nonzero"}
# Calls made of others, of which one asks for numbers that may be known.
_COMPOSED = {"aten::repeat_interleave", "aten::tensor_split"}
_PICKS = {
    "aten::index",
    "aten::_unsafe_index",
    "aten::index_put",
    "aten::index_put_",
    "aten::_index_put_impl_",
}


def following(torch: Any) -> Any:
    """A mode that computes what is known; entered between the tensors without data and what notes calls."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.weak import WeakIdKeyDictionary

    from pharos.convert.torch_record import tensors_in

    class Following(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.known: Any = WeakIdKeyDictionary()
            self.spoiled: set[int] = set()

        def value(self, t: Any) -> Any:
            """The numbers of a tensor, None where they are not known."""
            found = self.known.get(t)
            if found is None:
                # one that torch.tensor made, or a buffer: never a parameter
                if type(t) is not torch.Tensor or t.device.type != "cpu" or t.is_sparse:
                    return None
                if t.numel() > (SMALL if t.is_floating_point() else LARGEST):
                    return None
                with _plainly(torch):
                    found = self.known[t] = t.detach().clone()
            return None if found.untyped_storage()._cdata in self.spoiled else found

        def learn(self, t: Any, real: Any) -> None:
            """Says what the numbers of a tensor are."""
            if real is not None and real.numel() <= LARGEST:
                self.known[t] = real

        def wrote(self, func: Any, args: Any, kwargs: Any) -> None:
            """Follows a write that is not carried out."""
            given = tensors_in(torch, (args, kwargs))
            self._written(func, args, kwargs, all(self.value(t) is not None for t in given))

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            name = func._schema.name
            given = list(tensors_in(torch, (args, kwargs)))
            real = [self.value(t) for t in given]
            sure = all(r is not None for r in real)
            if sure and (name in _ASKS or name == "aten::equal"):
                with _plainly(torch):
                    return real[0].item() if name in _ASKS else torch.equal(*real)
            if name in _PICKS:
                args = (args[0], self._places(args[1]), *args[2:])
            if name == "aten::masked_select" and not sure and real[1] is not None:
                with _plainly(torch):
                    shape = torch.broadcast_shapes(args[0].shape, args[1].shape)
                    count = int(real[1].expand(shape).sum())
                return args[0].new_empty((count,))
            if given and sure and _by_data(torch, func):
                made = self._computed(func, args, kwargs)
                return self._fakes(made)
            if name in _COMPOSED and func._can_decompose() and any(r is not None for r in real):
                with self:
                    return func.decompose(*args, **kwargs)
            out = func(*args, **kwargs)
            if func._schema.is_mutable:
                self._written(func, args, kwargs, sure)
            elif self._follows(name, given, sure, out):
                try:
                    made = self._computed(func, args, kwargs, name in _LIKE)
                except Exception:
                    return out
                self._noted(out, made)
            return out

        def _follows(self, name: str, given: Any, sure: bool, out: Any) -> bool:
            if not (sure or name in _LIKE) or any(word in name for word in _RANDOM):
                return False
            made = list(tensors_in(torch, out))
            return bool(made) and all(_size(torch, t) <= LARGEST for t in made)

        def _computed(self, func: Any, args: Any, kwargs: Any, like: bool = False) -> Any:
            def real(x: Any) -> Any:
                if isinstance(x, torch.Tensor):
                    found = self.value(x)
                    if found is None and like:
                        return torch.zeros((), dtype=x.dtype).expand(tuple(x.shape))
                    return found
                if isinstance(x, torch.device):
                    return torch.device("cpu")
                if isinstance(x, (list, tuple)):
                    return type(x)(real(y) for y in x)
                return x

            with _plainly(torch):
                return func(*[real(a) for a in args], **{k: real(v) for k, v in kwargs.items()})

        def _noted(self, out: Any, made: Any) -> None:
            if isinstance(out, torch.Tensor) and isinstance(made, torch.Tensor):
                self.learn(out, made)
            elif isinstance(out, (list, tuple)) and isinstance(made, (list, tuple)):
                for a, b in zip(out, made, strict=False):
                    self._noted(a, b)

        def _fakes(self, made: Any) -> Any:
            if isinstance(made, torch.Tensor):
                t = torch.empty(made.shape, dtype=made.dtype, device=self.device)
                self.learn(t, made)
                return t
            if isinstance(made, (list, tuple)):
                return type(made)(self._fakes(m) for m in made)
            return made

        def _places(self, indices: Any) -> Any:
            """Masks whose truths are known become places."""
            found: list[Any] = []
            for t in indices:
                masks = t is not None and t.dtype in (torch.bool, torch.uint8)
                real = self.value(t) if masks else None
                if real is None:
                    found.append(t)
                    continue
                with _plainly(torch):
                    places = real.nonzero().unbind(1)
                found += [self._fakes(p) for p in places]
            return found

        def _written(self, func: Any, args: Any, kwargs: Any, sure: bool) -> None:
            targets = [args[i] if i < len(args) else kwargs.get(a.name)
                       for i, a in enumerate(func._schema.arguments)
                       if a.alias_info is not None and a.alias_info.is_write]  # fmt: skip
            if sure and not any(word in func._schema.name for word in _RANDOM):
                try:
                    self._computed(func, args, kwargs)
                    return
                except Exception:
                    pass
            for t in tensors_in(torch, targets):
                real = self.known.get(t)
                if real is not None:
                    self.spoiled.add(real.untyped_storage()._cdata)

        device: Any = torch.device("cpu")

    return Following()


def truths(torch: Any, real: Any) -> int:
    """How many elements of a tensor of real numbers are not zero, whatever modes are on."""
    with _plainly(torch):
        return int((real != 0).sum())


def plain(torch: Any, real: Any) -> float:
    """The number that a tensor of one real number holds, whatever modes are on."""
    with _plainly(torch):
        return float(real)


def numbers_kept(torch: Any) -> Any:
    """A mode under which torch.tensor(numbers, device="meta") does not lose the numbers."""
    from torch.overrides import TorchFunctionMode

    made = {torch.tensor, torch.as_tensor, torch.asarray, torch.scalar_tensor}

    class Kept(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            device = kwargs.get("device")
            if func is torch.Tensor.__deepcopy__:
                # which would put a storage of the CPU under a tensor without data
                copied = args[1][id(args[0])] = args[0].detach().clone()
                return copied
            if func in made and device is not None and torch.device(device).type == "meta":
                data = (
                    [_asked(torch, args[0]) if isinstance(args[0], (list, tuple)) else args[0], *args[1:]]
                    if args
                    else args
                )
                return func(*data, **{**kwargs, "device": None}).to(device)
            return func(*args, **kwargs)

    return Kept()


def _few(args: Any, kwargs: Any) -> bool:
    """Whether a range that is asked for is short enough to be made."""
    given = [a for a in (*args, *kwargs.values()) if isinstance(a, (int, float))]
    return all(abs(a) <= LARGEST for a in given)


def _asked(torch: Any, data: Any) -> Any:
    """Lists of scalar tensors as lists of numbers, each asked for as a module would."""
    if isinstance(data, (list, tuple)):
        return type(data)(_asked(torch, d) for d in data) if type(data) in (list, tuple) else data
    return data.item() if isinstance(data, torch.Tensor) and data.dim() == 0 else data


def numbers_made(torch: Any) -> Any:
    """A mode under which small tensors of stated numbers are made on the CPU, whatever the default device."""
    from torch.overrides import TorchFunctionMode

    stated = {torch.tensor, torch.as_tensor, torch.arange, torch.linspace}

    class Made(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if func in stated and kwargs.get("device") is None and _few(args, kwargs):
                made = func(*args, **{**kwargs, "device": "cpu"})
                return made if made.numel() <= SMALL or not made.is_floating_point() else made.to("meta")
            return func(*args, **kwargs)

    return Made()


def _size(torch: Any, t: Any) -> int:
    return int(t.numel()) if not any(isinstance(s, torch.SymInt) for s in t.shape) else LARGEST + 1


def _by_data(torch: Any, func: Any) -> bool:
    tags = func.tags
    return torch.Tag.dynamic_output_shape in tags or torch.Tag.data_dependent_output in tags


def _plainly(torch: Any) -> Any:
    """Without the modes that are on."""
    from torch.utils._python_dispatch import _disable_current_modes

    return _disable_current_modes()
