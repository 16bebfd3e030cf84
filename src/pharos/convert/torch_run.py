"""One run of a module for its graph: on tensors without data if it can, else on real ones."""

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from itertools import count
from typing import Any, Protocol

from pharos.convert.read_back import same_again
from pharos.convert.torch_known import following, numbers_kept
from pharos.convert.torch_memory import Pretence, device_of, dtype_for, watch_inference
from pharos.convert.torch_record import DTYPES, TorchReader, recording, tensors_in
from pharos.graph.graph import Builder, Graph
from pharos.ops.copies import Full
from pharos.ops.stored import Stored
from pharos.passes.active import with_active_experts
from pharos.passes.held import HELD
from pharos.quantity.dtypes import Precision
from pharos.quantity.errors import InputError, PharosError
from pharos.quantity.sizes import Size

# Names of free inputs must differ.
_NUMBERS = count()
# Beyond this many numbers a module is not filled with random ones to be run.
LARGEST_RUN = 2_000_000_000
# What PyTorch raises when a run asks for numbers that tensors without data do not have.
_NEEDS_DATA = ("DataDependentOutputException", "DynamicOutputShapeException", "GuardOnDataDependentSymNode",
               "UnsupportedFakeTensorException", "UnsupportedOperatorException", "UserError",
               "ConstraintViolationError", "PendingUnbackedSymbolNotFound")  # fmt: skip


class NeedsData(InputError):
    """A module that must be run on real tensors, and has none."""


class Memory(Protocol):
    """What a run finds of earlier ones and leaves to later ones, such as a cache of keys and values."""

    def before(self, torch: Any, reader: TorchReader, module: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of the run that is noted; what came earlier may be run here, unnoted."""
        ...

    def after(self, torch: Any, reader: TorchReader, out: Any) -> None:
        """Notes what of a result is kept."""
        ...


def recorded(
    torch: Any, module: Any, args: Any, kwargs: Any, free: dict[tuple[int, int], str],
    asked: dict[str, Size] | None, precision: Precision, name: str, device: Any = None,
    memory: Memory | None = None, watch: bool = False,
) -> Any:  # fmt: skip
    """The graph of one run; without `asked` one of formulas, with the symbols of free dimensions.

    With `watch` its meta holds what an eager run keeps in memory, as `pharos.passes.held` reads it, or says
    under "unwatched" why that could not be seen.

    Args:
        device: whose kernels' results count as memory; see `pharos.convert.torch_memory.device_of`.
        memory: what the run finds of earlier ones and leaves to later ones.
        watch: run it once more, in full, to see what it holds in memory.

    Raises:
        InputError: the module refuses the inputs, or needs data and has none.
    """
    run = _Run(torch, module, args, kwargs, free, precision, name, device, memory, watch)
    try:
        return run.pretended(asked)
    except PharosError:
        raise
    except Exception as error:
        if asked is None:
            raise InputError(f"has no formulas: {reason_of(error)}", where=name) from None
        why = error
    if not needs_data(why):
        raise InputError(f"cannot run on {run.shapes(asked)}: {reason_of(why)}", where=name) from None
    if sum(p.numel() for p in module.parameters()) > LARGEST_RUN:
        raise InputError(
            f"depends on data ({reason_of(why)}) and is too large to be run", where=name
        ) from None
    if any(p.device.type == "meta" for p in module.parameters()):
        raise NeedsData(
            f"depends on data ({reason_of(why)}) and is on the meta device", where=name,
            hint="build it on the CPU: then it is run once",
        )  # fmt: skip
    try:
        return run.real(asked)
    except PharosError:
        raise
    except Exception as error:
        raise InputError(f"cannot run on {run.shapes(asked)}: {reason_of(error)}", where=name) from None


def needs_data(error: BaseException) -> bool:
    """Whether a run failed for want of numbers, which tensors without data do not have."""
    at: BaseException | None = error
    while at is not None:
        if type(at).__name__ in _NEEDS_DATA or "meta tensor" in str(at) or "numpy" in str(at).lower():
            return True
        if isinstance(at, (NotImplementedError, RuntimeError)) and "FakeTensor" in str(at):
            return True
        at = at.__cause__ or at.__context__
    return False


def reason_of(error: BaseException) -> str:
    """An error of PyTorch's in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else ""
    return f"{type(error).__name__}: {first[:200]}" if first else type(error).__name__


class _Run:
    """What the two ways of running share: the inputs, the reader, and what is made of its notes."""

    def __init__(
        self, torch: Any, module: Any, args: Any, kwargs: Any, free: Any, precision: Any, name: str,
        device: Any = None, memory: Memory | None = None, watch: bool = False,
    ) -> None:  # fmt: skip
        self.torch, self.module, self.args, self.kwargs = torch, module, args, kwargs
        self.free, self.precision, self.name = free, precision, name
        self.device, self.memory, self.watch = device, memory, watch

    def shapes(self, asked: dict[str, Size] | None) -> str:
        """The inputs in words."""
        found = []
        for i, t in enumerate(tensors_in(self.torch, (self.args, self.kwargs))):
            sizes = self._sizes(i, t, asked)
            found.append(f"{str(t.dtype).removeprefix('torch.')}[{', '.join(map(str, sizes))}]")
        return ", ".join(found)

    def _sizes(self, i: int, t: Any, asked: dict[str, Size] | None) -> tuple[int, ...]:
        shape = list(t.shape)
        for d in range(t.dim()):
            called = self.free.get((i, d))
            if called is not None:
                # in a formula a size of 0 or 1 would be taken for a constant
                shape[d] = asked[called] if asked is not None else max(int(shape[d]), 2)
        return tuple(shape)

    def _reader(self) -> TorchReader:
        reader = TorchReader(self.torch, Builder(self.name, self.precision), self.name)
        for trained, found in ((True, self.module.named_parameters()), (False, self.module.named_buffers())):
            for key, t in found:
                reader.stored.setdefault(id(t), (key, t, trained))
        return reader

    def _given(self, made: Callable[[int, Any], Any]) -> tuple[Any, Any, list[Any]]:
        tensors: list[Any] = []

        def change(t: Any) -> Any:
            tensors.append(made(len(tensors), t))
            return tensors[-1]

        return mapped(self.torch, self.args, change), mapped(self.torch, self.kwargs, change), tensors

    def _declare(self, reader: TorchReader, tensors: Sequence[Any]) -> None:
        for t, called in zip(
            tensors, _input_names(self.torch, self.module, self.args, self.kwargs), strict=True
        ):
            path = reader.free(called)
            if not all(reader.sizes(t.shape)):
                empty = Full(reader.sizes(t.shape), 0.0, reader.dtype(t.dtype))
                reader.bind(t, reader.place(path, empty, origins={}).name)
                continue
            reader.values[path] = reader.g.input(path, reader.sizes(t.shape), reader.dtype(t.dtype))
            reader.bind(t, path)

    def pretended(self, asked: dict[str, Size] | None) -> Any:
        """A run on tensors without data, with formulas for the free sizes if `asked` is None."""
        torch, reader = self.torch, self._reader()
        environment = None
        if asked is None:
            from torch.fx.experimental.symbolic_shapes import ShapeEnv

            environment = ShapeEnv(duck_shape=False)
        mode = _shapes_only()(allow_non_fake_inputs=True, shape_env=environment)
        device = home_of(torch, self.module)
        follow = following(torch)
        follow.device = device
        if environment is None:
            reader.known, reader.wrote = follow.value, follow.wrote

        def made(i: int, t: Any) -> Any:
            sizes = self._sizes(i, t, asked)
            dims = [d for d in range(t.dim()) if (i, d) in self.free] if environment is not None else []
            if dims:
                sizes = _symbolic(torch, mode, environment, sizes, t.dtype, dims)
            with mode:
                pretended = torch.empty(sizes, dtype=t.dtype, device=device)
            numbers = t.device.type != "meta" and not t.is_floating_point()
            # comparing a formula with a number would make it one
            if environment is None and numbers and tuple(t.shape) == tuple(sizes):
                follow.learn(pretended, t.detach().cpu().clone())
            return pretended

        args, kwargs, tensors = self._given(made)
        symbols: dict[str, Any] = {}
        if environment is not None:
            from pharos.convert.torch_formulas import formulas

            sizes = {key: tensors[key[0]].shape[key[1]] for key in self.free}
            reader.symbols = formulas(torch, environment, sizes, self.free, symbols)
        self._declare(reader, tensors)
        with ExitStack() as stack:
            # a module's warnings are for those who run it
            stack.enter_context(warnings.catch_warnings(action="ignore"))
            stack.enter_context(as_it_was(self.module))
            stack.enter_context(one_device(torch, device))
            stack.enter_context(mode)
            if environment is not None:
                from torch._dispatch.python import enable_python_dispatcher

                stack.enter_context(enable_python_dispatcher())
            else:
                stack.enter_context(follow)
                stack.enter_context(numbers_kept(torch))
            stack.enter_context(experts_by(self.module, "grouped_mm", only="eager"))
            if self.memory is not None:
                kwargs = self.memory.before(torch, reader, self.module, kwargs)
            stack.enter_context(recording(torch, reader, self.module, True))
            out = self.module(*args, **kwargs)
            if self.memory is not None:
                self.memory.after(torch, reader, out)
            graph = self._finished(reader, out)
        if self.memory is None:
            graph = self._watched(
                graph, reader, lambda: self._pretence(mode, environment, args, kwargs, reader)
            )
        return graph if environment is None else (graph, symbols)

    def _watched(self, graph: Graph, reader: TorchReader, watch: Callable[[], Any]) -> Graph:
        """The graph with what an eager run holds; a run that cannot be watched leaves it without."""
        if not self.watch:
            return graph
        try:
            found = {HELD: watch().as_meta()}
        except Exception as error:
            found = {"unwatched": reason_of(error)}
        return replace(graph, meta=graph.meta | found)

    def _pretence(self, mode: Any, environment: Any, args: Any, kwargs: Any, reader: TorchReader) -> Any:
        torch, module = self.torch, self.module
        device = device_of(module, self.device)
        dtype = dtype_for(torch, module, self.precision, lambda d: DTYPES[str(d).removeprefix("torch.")])
        copies = Pretence(torch, mode, device, dtype)
        given = [mapped(torch, tree, copies.of) for tree in (args, kwargs)]

        def around(stack: ExitStack) -> None:
            stack.enter_context(mode)
            if environment is not None:
                from torch._dispatch.python import enable_python_dispatcher

                stack.enter_context(enable_python_dispatcher())
            stack.enter_context(experts_by(module, "grouped_mm", only="eager"))
            stack.enter_context(one_sequence_a_row(kwargs))

        with as_it_was(module), copies.inside(module):
            return watch_inference(torch, module, given[0], given[1], reader.size, device, around)

    def real(self, asked: dict[str, Size] | None) -> Graph:
        """A run on random numbers: what depends on data goes one way of those it could."""
        torch = self.torch
        device = next((p.device for p in self.module.parameters()), torch.device("cpu"))
        draw = drawing(torch, self.module)
        args, kwargs, tensors = self._given(lambda i, t: draw(t, self._sizes(i, t, asked)))
        # what the module draws itself is to be the same every time, and a user's own draws are left alone
        with as_it_was(self.module), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            _on_copies_of_buffers(self.module)
            reader = self._reader()
            reader.known = lambda t: t
            self._declare(reader, tensors)
            with recording(torch, reader, self.module, False):
                graph = self._finished(reader, self.module(*args, **kwargs))
            graph = self._watched(
                graph, reader, lambda: watch_inference(torch, self.module, args, kwargs, int, device.type)
            )
        return replace(graph, meta=graph.meta | {"one_run": True})

    def _finished(self, reader: TorchReader, out: Any) -> Graph:
        outputs: dict[str, Any] = {}
        for t in outputs_of(self.torch, out):
            value = reader.of(t)
            outputs.setdefault(value.name, value)
        if not outputs:
            raise InputError("returns no tensor", where=self.name)
        # what the module holds and this run does not use counts as parameters all the same
        unused = []
        for key, p, trained in list(reader.stored.values()):
            if not trained or key in reader.owners:
                continue
            stem, _, last = key.rpartition(".")
            reader.constants.setdefault(key, reader.constant_of(p, key))
            held = Stored(reader.describe(p).shape, True, key=last)
            reader.place(reader.free(key), held, origins={last: key}, home=stem)
            unused.append(key)
        made = reader.g.finish(
            *outputs.values(), unused=tuple(unused) or None, reasons=dict(reader.reasons) or None,
            classes=_classes(self.module),
        )  # fmt: skip
        again = same_again(self.module, made)
        return again if again is not made else with_active_experts(without_dead(made))


def drawing(torch: Any, module: Any) -> Callable[[Any, tuple[int, ...]], Any]:
    """A function that gives an input its numbers, or random ones where it has none of that shape."""
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    rows = min((p.shape[0] for p in module.parameters() if p.dim() == 2), default=2)
    generator = torch.Generator().manual_seed(0)

    def draw(t: Any, sizes: tuple[int, ...]) -> Any:
        if tuple(t.shape) == sizes and t.device.type != "meta":
            return t.detach().clone().to(device)
        if t.dtype.is_floating_point:
            return torch.randn(sizes, generator=generator).to(device=device, dtype=t.dtype)
        high = 2 if t.dtype == torch.bool else max(int(rows), 2)
        return torch.randint(0, high, sizes, generator=generator).to(device=device, dtype=t.dtype)

    return draw


def home_of(torch: Any, module: Any) -> Any:
    """Where a module is: on the meta device if any of its parameters is."""
    found = [p.device for p in module.parameters()]
    return next((d for d in found if d.type == "meta"), found[0] if found else torch.device("cpu"))


def one_device(torch: Any, device: Any) -> Any:
    """What a module on the meta device makes on the CPU meanwhile may meet what is on the meta device."""
    if device.type != "meta":
        return nullcontext()
    import torch._functorch.config as settings

    return settings.patch(fake_tensor_prefer_device_type="meta")


def without_dead(graph: Graph) -> Graph:
    """The graph without views and tensors of constants that nothing reads."""
    nodes: list[Any] = list(graph.nodes)
    kept: list[Any] = []
    needed = {v.name for v in graph.outputs}
    for node in reversed(nodes):
        made_of_nothing = not node.inputs and not node.weights and node.op.kind in ("full", "arange")
        moves_nothing = node.op.class_of(*node.io) == "view" and not node.weights
        if (
            (made_of_nothing or moves_nothing)
            and not node.state
            and not any(o in needed for o in node.outputs)
        ):
            continue
        needed.update(node.inputs)
        kept.append(node)
    return Graph(graph.name, graph.inputs, tuple(reversed(kept)), graph.outputs, graph.precision, graph.meta)


def _classes(module: Any) -> dict[str, str]:
    """Class name of each submodule, by its path."""
    return {name: type(part).__name__ for name, part in module.named_modules()}


@contextmanager
def as_it_was(module: Any) -> Iterator[None]:
    """What a run keeps on the module, such as masks and caches, is taken off it again."""
    held = [(part, dict(vars(part)), [(d, dict(d)) for d in vars(part).values() if isinstance(d, dict)])
            for part in module.modules()]  # fmt: skip
    try:
        yield
    finally:
        for part, attributes, dicts in held:
            vars(part).clear()
            vars(part).update(attributes)
            # hooks among them: a module that notes that it has set some would go without, or set them twice
            for at, before in dicts:
                at.clear()
                at.update(before)


def _on_copies_of_buffers(module: Any) -> None:
    """Statistics that a run updates are updated in copies."""
    copies: dict[int, Any] = {}
    for part in module.modules():
        for key, t in part._buffers.items():
            if t is not None:
                part._buffers[key] = copies.setdefault(id(t), t.detach().clone())


@contextmanager
def experts_by(module: Any, way: str, only: str = "") -> Iterator[None]:
    """How a transformers module runs its experts meanwhile: the same work, whatever the data.

    Args:
        way: "grouped_mm", or "batched_mm": a product a token.
        only: where they are run in this way otherwise; empty for wherever they are.
    """
    changed: list[tuple[Any, str]] = []
    for part in module.modules():
        config = getattr(part, "config", None)
        found = getattr(config, "_experts_implementation", None)
        if found and (not only or found == only) and not any(config is c for c, _ in changed):
            changed.append((config, found))
    try:
        for config, _ in changed:
            config._experts_implementation = way
        yield
    finally:
        for config, found in changed:
            config._experts_implementation = found


@contextmanager
def one_sequence_a_row(kwargs: Mapping[str, Any]) -> Iterator[None]:
    """Rows of tokens hold one sequence each in a transformers module, unless positions are given.

    Such a module looks at the numbers of the positions to find several in a row; where there are no numbers
    it makes masks for all of them, which a run on real tensors does without.
    """
    masks = sys.modules.get("transformers.masking_utils")
    found = getattr(masks, "find_packed_sequence_indices", None)
    if found is None or kwargs.get("position_ids") is not None:
        yield
        return
    masks.find_packed_sequence_indices = lambda position_ids: None  # type: ignore[union-attr]
    try:
        yield
    finally:
        masks.find_packed_sequence_indices = found  # type: ignore[union-attr]


def _shapes_only() -> Any:
    """FakeTensorMode without its guard against torch.compile, whose import takes as long as torch's."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    plain = getattr(FakeTensorMode.__torch_dispatch__, "__wrapped__", None)
    if plain is None:
        return FakeTensorMode

    class ShapesOnly(FakeTensorMode):
        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False

        __torch_dispatch__ = plain

    return ShapesOnly


def _symbolic(torch: Any, mode: Any, environment: Any, sizes: Any, dtype: Any, dims: list[int]) -> Any:
    """Sizes of which those of `dims` are symbols."""
    from torch._dynamo.source import ConstantSource
    from torch.fx.experimental.symbolic_shapes import DimDynamic, StatelessSymbolicContext

    plain = torch.empty(sizes, dtype=dtype, device="meta")
    kinds = [DimDynamic.DYNAMIC if d in dims else DimDynamic.STATIC for d in range(len(sizes))]
    context = StatelessSymbolicContext(dynamic_sizes=kinds)
    source = ConstantSource(f"input{next(_NUMBERS)}")
    return mode.from_tensor(plain, symbolic_context=context, source=source).shape


def mapped(torch: Any, tree: Any, change: Callable[[Any], Any]) -> Any:
    """Nested lists, tuples and dicts with every tensor changed."""
    if isinstance(tree, torch.Tensor):
        return change(tree)
    if isinstance(tree, dict):
        return {k: mapped(torch, v, change) for k, v in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*[mapped(torch, v, change) for v in tree])
    if isinstance(tree, (list, tuple)):
        return type(tree)(mapped(torch, v, change) for v in tree)
    return tree


def _input_names(torch: Any, module: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
    """The names of the parameters of `forward` that the tensors are passed to, in order."""
    import inspect

    source = getattr(module, "source_graph", None)
    if isinstance(source, Graph) and not kwargs and len(args) == len(source.inputs):
        return [v.name for v in source.inputs]
    try:
        known = [n for n, p in inspect.signature(module.forward).parameters.items()
                 if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]  # fmt: skip
    except (TypeError, ValueError):
        known = []
    named = [(known[i] if i < len(known) else f"input{i}", v) for i, v in enumerate(args)]
    found = []
    for called, value in (*named, *kwargs.items()):
        many = list(tensors_in(torch, value))
        found += [called] if isinstance(value, torch.Tensor) else [f"{called}_{j}" for j in range(len(many))]
    return found


def outputs_of(torch: Any, out: Any) -> list[Any]:
    """Tensors of what a module returns: nested lists, dicts, and objects that hold them."""
    if isinstance(out, torch.Tensor):
        return [out]
    if isinstance(out, Mapping):
        return [t for v in out.values() for t in outputs_of(torch, v)]
    if isinstance(out, (list, tuple)):
        return [t for v in out for t in outputs_of(torch, v)]
    if hasattr(out, "__dataclass_fields__"):
        return [t for f in out.__dataclass_fields__ for t in outputs_of(torch, getattr(out, f, None))]
    return []
