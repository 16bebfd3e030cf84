"""Recording: a module runs once on tensors without data while every call it makes of PyTorch is noted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from pharos.convert.declared import declared
from pharos.convert.reader import FLOATS, Constant, Reader
from pharos.graph.graph import Builder, Value
from pharos.graph.op import Op
from pharos.graph.tensor import ACTIVATIONS, Tensor
from pharos.ops.copies import Full
from pharos.ops.shape_ops import Transpose
from pharos.ops.stored import Stored
from pharos.ops.strided import Overwrite, StridedView
from pharos.ops.unknown import Unknown
from pharos.quantity.errors import PharosError
from pharos.quantity.sizes import Size, is_int, same_shape

DTYPES = {
    "float64": "fp64", "float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "int64": "int64",
    "int32": "int32", "int16": "int16", "int8": "int8", "uint8": "uint8", "bool": "bool",
    "float8_e4m3fn": "fp8", "float8_e5m2": "fp8", "float8_e4m3fnuz": "fp8", "float8_e5m2fnuz": "fp8",
    "uint16": "int16", "uint32": "int32", "uint64": "int64", "complex64": "fp64", "complex128": "fp64",
}  # fmt: skip
# What comes of a rule that meets a form it does not cover.
MISTAKES = (PharosError, ValueError, KeyError, TypeError, AttributeError, IndexError, ArithmeticError,
            NotImplementedError)  # fmt: skip


@dataclass(slots=True)
class _Memory:
    """One storage: the value of all it holds, and how often it was written over."""

    ref: Any
    name: str
    size: tuple[Size, ...]
    stride: tuple[Size, ...]
    offset: Size
    version: int = 0


@dataclass(slots=True)
class _Held:
    """The value a tensor stands for, as of a version of its storage."""

    name: str
    version: int


class TorchReader(Reader):
    """What each live tensor of a run stands for; rules write operators through it."""

    def __init__(self, torch: Any, g: Builder, path: str) -> None:
        super().__init__(g, path)
        from torch.multiprocessing.reductions import StorageWeakRef
        from torch.utils.weak import WeakIdKeyDictionary

        self.torch = torch
        self._weak = StorageWeakRef
        self.held: Any = WeakIdKeyDictionary()
        self.memory: dict[int, _Memory] = {}
        # parameters and buffers by identity, with their full names; and tensors met that are neither
        self.stored: dict[int, tuple[str, Any, bool]] = {}
        self.captured: list[Any] = []
        self._trained: set[str] | None = None
        # views of parameters that are no operators as long as nothing but a weight is made of them
        self.deferred: dict[str, tuple[Op, str]] = {}
        self.symbols: Callable[[Any], Size] | None = None
        # the numbers of a tensor where they are known
        self.known: Callable[[Any], Any] | None = None
        # told of a write into the module's own tensors, which is not carried out
        self.wrote: Callable[[Any, Any, Any], None] | None = None
        self.modules: list[str] = []
        # path of each submodule by identity
        self.paths: dict[int, str] = {}
        self.leaves: set[str] = set()
        self.reasons: dict[str, str] = {}
        # values that are one number everywhere
        self.numbers: dict[str, float] = {}
        # what the call that a rule is being asked about gave
        self.out: Any = None

    # -- sizes and tensors

    def size(self, value: Any) -> Size:
        """An int as it is; a symbolic one as a formula."""
        if type(value) is int:
            return value
        if self.symbols is not None and isinstance(value, (self.torch.SymInt, self.torch.SymFloat)):
            return self.symbols(value)
        return int(value)

    def sizes(self, values: Any) -> tuple[Size, ...]:
        """Several."""
        return tuple([self.size(v) for v in values])

    def describe(self, t: Any) -> Tensor:
        """Shape and dtype of a torch tensor; floats have the type of the graph's activations."""
        dtype = DTYPES[str(t.dtype).removeprefix("torch.")]
        if t.is_complex():
            return Tensor((*self.sizes(t.shape), 2), self.g.precision.activations)
        return Tensor(self.sizes(t.shape), self.g.precision.activations if dtype in FLOATS else dtype)

    def dtype(self, torch_dtype: Any) -> str:
        """Our name of a torch dtype."""
        dtype = DTYPES[str(torch_dtype).removeprefix("torch.")]
        return self.g.precision.activations if dtype in FLOATS else dtype

    # -- which value a tensor is

    def bind(self, t: Any, name: str) -> None:
        """Says that a new tensor stands for the value or constant called `name`."""
        memory = self._memory(t, name)
        self.held[t] = _Held(name, memory.version if memory else 0)

    def _memory(self, t: Any, name: str) -> _Memory | None:
        try:
            storage = t.untyped_storage()
        except (NotImplementedError, RuntimeError):
            return None
        key = storage._cdata
        found = self.memory.get(key)
        if found is None or found.ref.expired():
            found = _Memory(self._weak(storage), name, *self._geometry(t))
            self.memory[key] = found
        return found

    def _geometry(self, t: Any) -> tuple[tuple[Size, ...], tuple[Size, ...], Size]:
        return self.sizes(t.shape), self.sizes(t.stride()), self.size(t.storage_offset())

    def named(self, t: Any) -> str:
        """Name of the value or constant that a tensor stands for now."""
        held = self.held.get(t)
        if held is None:
            return self._met(t)
        memory = self._memory(t, held.name)
        if memory is None or held.version == memory.version:
            return held.name
        geometry = self._geometry(t)
        if geometry == (memory.size, memory.stride, memory.offset):
            name = memory.name
        else:
            base, _ = self._as_it_lies(memory)
            size, stride, offset = geometry
            op = StridedView(size, stride, offset - memory.offset)
            name = self.place(self.under("view"), op, base, origins={}).name
        self.held[t] = _Held(name, memory.version)
        return name

    def assign(self, t: Any, name: str) -> None:
        """Says that a tensor was written over with the value called `name`."""
        held = self.held.get(t)
        memory = self._memory(t, held.name if held else name)
        if memory is None:
            self.held[t] = _Held(name, 0)
            return
        geometry = self._geometry(t)
        if geometry == (memory.size, memory.stride, memory.offset):
            memory.name = name
        elif (
            self._whole(geometry)
            and self._whole((memory.size, memory.stride, memory.offset))
            and same_shape((self._numel(geometry),), (self._numel((memory.size,)),))
        ):
            memory.name, (memory.size, memory.stride, memory.offset) = name, geometry
        else:
            base, order = self._as_it_lies(memory)
            size, stride, offset = geometry
            op = Overwrite(size, stride, offset - memory.offset)
            made = self.place(self.under("overwrite"), op, base, self.value(name), origins={})
            if order is not None:
                back = Transpose(tuple(order.index(d) for d in range(len(order))), view=True)
                made = self.place(self.under("transpose"), back, made, origins={})
            memory.name = made.name
        memory.version += 1
        self.held[t] = _Held(name, memory.version)

    def assign_unknown(self, t: Any, name: str, value: Value) -> None:
        """Says that it is not known what the storage of `t` holds now that `value` was written into it."""
        memory = self.memory[t.untyped_storage()._cdata]
        base = self.value(memory.name)
        op = Unknown(name, (base.shape,), (base.tensor.dtype,))
        made = self.place(self.free(f"{self.under('overwrite')} ({name})"), op, base, value, origins={})
        memory.name, memory.version = made.name, memory.version + 1
        self.held[t] = _Held(value.name, memory.version)

    def beneath(self, t: Any) -> tuple[Value, Size]:
        """All that the storage of a tensor holds, with its dimensions as they lie, and where that begins.

        Raises:
            NotImplementedError: it was first seen through a view that leaves some of it out.
        """
        memory = self._memory(t, self.named(t))
        if memory is None:
            raise NotImplementedError("a tensor without storage")
        return self._as_it_lies(memory)[0], memory.offset

    def _as_it_lies(self, memory: _Memory) -> tuple[Value, tuple[int, ...] | None]:
        """The value of a storage with its dimensions as they lie, and their order if it is another.

        Raises:
            NotImplementedError: it was first seen through a view that leaves some of it out.
        """
        base = self.value(memory.name)
        rank, stride = len(memory.size), memory.stride
        orders: Any = [tuple(range(rank))]
        if all(map(is_int, stride)):
            orders.append(tuple(sorted(range(rank), key=lambda d: (-int(stride[d]), d))))
            # a dimension of one may lie anywhere
            orders.append(tuple(sorted(range(rank), key=lambda d: (-int(stride[d]), memory.size[d] != 1, d))))
        else:
            orders = permutations(range(rank))
        for order in orders:
            size = tuple([memory.size[d] for d in order])
            if self._whole((size, tuple([stride[d] for d in order]), 0)):
                if order == tuple(range(rank)):
                    return base, None
                turned = Transpose(order, view=True)
                return self.place(self.under("transpose"), turned, base, origins={}), order
        raise NotImplementedError("a part of what was first seen in part")

    @staticmethod
    def _numel(geometry: Any) -> Size:
        total: Size = 1
        for s in geometry[0]:
            total = total * s
        return total

    @staticmethod
    def _whole(geometry: Any) -> bool:
        size, stride, offset = geometry
        expected: Size = 1
        for s, step in zip(reversed(size), reversed(stride), strict=True):
            if not same_shape((step,), (expected,)) and not (is_int(s) and s == 1):
                return False
            expected = expected * s
        return is_int(offset) and offset == 0

    def _met(self, t: Any) -> str:
        """A parameter, a buffer, or a tensor that the module keeps without registering it."""
        found = self.stored.get(id(t))
        if found is None:
            name = self.free("constant")
            self.captured.append(t)
        else:
            name = found[0]
        if name not in self.constants:
            self.constants[name] = self.constant_of(t, name)
        self.held[t] = _Held(name, 0)
        self._memory(t, name)
        return name

    def stored_name(self, t: Any) -> str:
        """The module's own name of a parameter or buffer; "" for another tensor."""
        found = self.stored.get(id(t))
        return found[0] if found is not None else ""

    def constant_of(self, t: Any, name: str) -> Constant:
        """A tensor of the module as a constant."""
        return Constant(self.describe(t), None, (name,))

    def of(self, t: Any) -> Value:
        """The value of a tensor; a parameter becomes one."""
        return self.value(self.named(t))

    def parameter(self, t: Any) -> str | None:
        """Name of the constant that a tensor is, None for an activation."""
        name = self.named(t)
        return name if name in self.constants and name not in self.values else None

    def weight(self, t: Any) -> str | None:
        """The same if it is a parameter of the module's: None for a buffer and for a tensor it just keeps."""
        name = self.parameter(t)
        if name is None:
            return None
        if self._trained is None:
            self._trained = {key for key, _, trained in self.stored.values() if trained}
        return name if set(self.constants[name].origins) <= self._trained else None

    def derive(self, t: Any, op: Op, source: str, turned: bool = False) -> None:
        """Says that a tensor is a view of a parameter, to be written down only if it is used as a value."""
        constant = self.constants[source]
        made = op.shape(constant.tensor)
        assert isinstance(made, Tensor)
        name = self.free(f"{source} {op.kind}")
        self.constants[name] = Constant(made, None, constant.origins, turned)
        self.deferred[name] = (op, source)
        self.bind(t, name)

    def _stored(self, name: str, constant: Constant) -> Value:
        """A parameter or buffer as a value, under its own name."""
        stem, _, key = name.rpartition(".")
        trained = any(n == name and is_trained for n, _, is_trained in self.stored.values())
        dtype = constant.tensor.dtype
        op = Stored(constant.tensor.shape, trained, ACTIVATIONS if dtype in FLOATS else dtype, key)
        return self.place(self.free(name), op, origins={key: name} if trained else {}, home=stem)

    def written(self, name: str) -> bool:
        """Writes the views that make a constant of a parameter."""
        if name not in self.deferred:
            return False
        op, source = self.deferred.pop(name)
        value = self.value(source)
        self.values[name] = self.place(self.free(name.replace(" ", ".")), op, value, origins={})
        return True

    # -- names

    def under(self, kind: str) -> str:
        """A free name for an operator of the module that is running."""
        at = self.modules[-1] if self.modules else ""
        if at and at in self.leaves and at not in self.used:
            return self.free(at)
        return self.free(f"{at}.{kind}" if at else kind)

    def put(self, kind: str, op: Op, *values: Value, **parameters: str) -> Any:
        """Appends an operator named after its first parameter's module, or after the one that is running."""
        origins = {k: v for k, v in parameters.items() if v}
        first = next((self.origin(v) for v in origins.values()), "")
        stem = first.rpartition(".")[0] if first and first not in self.owners else ""
        path = self.free(stem) if stem else self.under(kind)
        return self.place(path, op, *values, origins=origins)

    def place(
        self, path: str, op: Op, *values: Value, origins: dict[str, str], home: str | None = None
    ) -> Any:
        """As for every reader, with each parameter under the module's own name for it.

        One that is called otherwise than the operator calls it is stored on its own and lent to it.
        """
        prefix = None
        fresh: dict[str, str] = {}
        if home is None:
            fresh = {k: self.origin(origins.get(k, "")) for k in op.weights()}
            fresh = {k: o for k, o in fresh.items() if o and o not in self.owners}
            stems = {k: o[: len(o) - len(k)] if o.endswith(k) else None for k, o in fresh.items()}
            prefix = next((stem for stem in stems.values() if stem is not None), None)
            for key, origin in fresh.items():
                if stems[key] is None or stems[key] != prefix:
                    stem, _, last = origin.rpartition(".")
                    held = Stored(self.constants[origin].tensor.shape, True, key=last)
                    self.place(self.free(origin), held, origins={last: origin}, home=stem)
            if fresh and prefix is None:
                home = next(iter(fresh.values())).rpartition(".")[0]
            elif prefix is not None and (prefix == "" or prefix.endswith(".")):
                home, prefix = None if prefix == f"{path}." else prefix.removesuffix("."), None
        made = super().place(path, op, *values, origins=origins, home=home)
        if prefix is not None:
            self.g.call_parameters(prefix)
            self.owners.update({o: o for o in fresh.values()})
        for value in made if isinstance(made, tuple) else (made,):
            self.values[value.name] = value
        return made

    # -- what was called

    def call(self, name: str, rule: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Writes down one call of PyTorch: by its rule, or as an operator without one."""
        outs = [*out] if isinstance(out, (tuple, list)) else [out]
        self.out = out
        if any(t.is_complex() for t in tensors_in(self.torch, (args, kwargs, outs))):
            from pharos.convert.torch_complex import complex_rule

            rule = complex_rule(name)
        try:
            made = rule(self, *args, **kwargs) if rule is not None else NotImplemented
        except MISTAKES as error:
            made = NotImplemented
            self.reasons.setdefault(name, str(error))
        if made is NotImplemented or not self._agrees(made, outs):
            made = self._unknown(name, args, kwargs, outs)
        if made is None:
            return
        results = made if isinstance(made, (tuple, list)) else (made,)
        for t, value in zip(outs, results, strict=False):
            if value is not None and isinstance(t, self.torch.Tensor):
                self.bind(t, value.name)

    def _agrees(self, made: Any, outs: list[Any]) -> bool:
        """Whether the rule's shapes are PyTorch's, so far as both are numbers."""
        if made is None:
            return True
        results = made if isinstance(made, (tuple, list)) else (made,)
        for t, value in zip(outs, results, strict=False):
            if value is None or not isinstance(t, self.torch.Tensor):
                continue
            given, wanted = value.shape, self.sizes(t.shape)
            wanted = (*wanted, 2) if t.is_complex() else wanted
            if len(given) != len(wanted) or any(
                is_int(a) and is_int(b) and a != b for a, b in zip(given, wanted, strict=True)
            ):
                self.reasons.setdefault(value.name, f"gives {given}, not {wanted}")
                return False
        return True

    def _unknown(self, name: str, args: Any, kwargs: Any, outs: list[Any]) -> Any:
        given = []
        for t in tensors_in(self.torch, (args, kwargs)):
            given.append(self.of(t))
        made = [self.describe(t) for t in outs if isinstance(t, self.torch.Tensor)]
        if not made:
            return None
        own = declared(name, [v.tensor for v in given], made)
        if own is not None:
            return self.place(self.under(name.rpartition("::")[2]), own, *given, origins={})
        if all(is_int(t.numel) and t.numel == 0 for t in made):
            # nothing comes of it, whatever it is
            return [self.place(self.under("empty"), Full(t.shape, 0.0, t.dtype), origins={}) for t in made]
        op = Unknown(name, tuple(t.shape for t in made), tuple(t.dtype for t in made))
        path = self.under(name.replace("::", ".").replace("aten.", ""))
        return self.place(self.free(f"{path} ({name})"), op, *given, origins={})


def tensors_in(torch: Any, tree: Any) -> Iterator[Any]:
    """Every tensor in nested lists, tuples and dicts."""
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from tensors_in(torch, value)
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            yield from tensors_in(torch, value)


@contextmanager
def recording(torch: Any, reader: TorchReader, module: Any, pretend: bool) -> Iterator[None]:
    """Notes every call made of PyTorch inside, with the path of the submodule that makes it.

    In inference mode a dispatch mode is asked before PyTorch takes a call apart, so that linear layers,
    attention and recurrent layers arrive whole; those without a rule are taken apart here. Nothing is
    patched, and the mode is gone after.

    Args:
        pretend: the tensors hold no data, so that results of whole calls are only shaped.
    """
    from torch._subclasses.fake_tensor import FakeTensor
    from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
    from torch.utils._python_dispatch import TorchDispatchMode

    from pharos.convert.read_back import listening
    from pharos.convert.torch_rules import SHAPED, UNSEEN, find_rule

    def of_the_module(written: list[Any]) -> bool:
        """Whether real tensors would be written, which a run without data must leave alone."""
        return any(not isinstance(t, FakeTensor) for t in tensors_in(torch, written))

    class Recorder(TorchDispatchMode):
        inside = False

        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            # the guard against torch.compile would import all of it
            return False

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            name = func._schema.name
            if name == "aten::detach_":
                # what torch.tensor does last; there is nothing to detach from
                return args[0]
            if self.inside or name in UNSEEN:
                return func(*args, **kwargs)
            rule = find_rule(name)
            if rule is None and func._can_decompose():
                with self:
                    return func.decompose(*args, **kwargs)
            written = [args[i] if i < len(args) else kwargs.get(a.name)
                       for i, a in enumerate(func._schema.arguments)
                       if a.alias_info is not None and a.alias_info.is_write]  # fmt: skip
            # the old values must be known before they are written over
            for t in tensors_in(torch, written):
                reader.named(t)
            self.inside = True
            try:
                shaped = SHAPED.get(name) if pretend else None
                out = NotImplemented if shaped is None else shaped(torch, *args, **kwargs)
                if out is NotImplemented and pretend and written and of_the_module(written):
                    out = written[0] if len(written) == 1 else tuple(written)
                    if reader.wrote is not None:
                        reader.wrote(func, args, kwargs)
                elif out is NotImplemented:
                    out = func(*args, **kwargs)
            finally:
                self.inside = False
            if written:
                _overwrite(torch, reader, name, list(tensors_in(torch, written)), args, kwargs, out)
            else:
                reader.call(name, rule, args, kwargs, out)
            return out

    paths = reader.paths
    for name, part in module.named_modules():
        paths.setdefault(id(part), name)
        if not any(True for _ in part.children()):
            reader.leaves.add(name)

    def enter(part: Any, args: Any) -> None:
        reader.modules.append(paths.get(id(part), reader.modules[-1] if reader.modules else ""))

    def leave(part: Any, args: Any, out: Any) -> None:
        if reader.modules:
            reader.modules.pop()

    fast = torch.backends.mha.get_fastpath_enabled()
    hooks = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)]
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        recorder = Recorder()
        with torch.inference_mode(), recorder, listening(reader, recorder, pretend):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for hook in hooks:
            hook.remove()


def _overwrite(
    torch: Any, reader: TorchReader, name: str, written: list[Any], args: Any, kwargs: Any, out: Any
) -> None:
    """A call that writes into its arguments: the values they stand for are new ones from then on."""
    from pharos.convert.torch_rules import find_rule

    targets = [t for t in written if isinstance(t, torch.Tensor)]
    base = name.removesuffix("_") if name.endswith("_") and not name.endswith("__") else name
    plain = {k: v for k, v in kwargs.items() if not any(v is t for t in targets)}
    rule = find_rule(name) or find_rule(base)
    outs = out if isinstance(out, (tuple, list)) else (out,)
    returned = [t for t in outs if isinstance(t, torch.Tensor)]
    fresh = [t for t in returned if not any(t is w for w in targets)]
    try:
        reader.out = out
        made = rule(reader, *args, **plain) if rule is not None else NotImplemented
    except MISTAKES as error:
        made = NotImplemented
        reader.reasons.setdefault(name, str(error))
    results = list(made) if isinstance(made, (tuple, list)) else [made]
    if made is NotImplemented or not reader._agrees(results, returned):
        made = reader._unknown(name, args, plain, returned or targets)
        results = list(made) if isinstance(made, (tuple, list)) else [made]
    for t, value in zip(returned or targets, results, strict=False):
        if value is None:
            continue
        if any(t is w for w in targets):
            try:
                reader.assign(t, value.name)
            except NotImplementedError as error:
                reader.reasons.setdefault(name, str(error))
                reader.assign_unknown(t, name, value)
        elif any(t is f for f in fresh):
            reader.bind(t, value.name)
