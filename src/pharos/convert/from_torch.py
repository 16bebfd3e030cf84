"""From PyTorch: a module becomes a graph by running it once on tensors without data."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pharos.convert.torch_record import DTYPES, tensors_in
from pharos.convert.torch_run import recorded
from pharos.graph.graph import Graph
from pharos.graph.substitute import substitute
from pharos.graph.workload import Workload
from pharos.models.registry import Model
from pharos.passes.held import Held
from pharos.passes.tidy import tidy
from pharos.quantity.dtypes import Precision
from pharos.quantity.errors import InputError, SizeError
from pharos.quantity.sizes import Size, is_int

# What a dimension of an input is called, if it is free.
BATCH, CONTEXT = "batch", "context"


def require_torch() -> Any:
    """The torch package.

    Raises:
        InputError: it is not installed.
    """
    try:
        import torch
    except ModuleNotFoundError:
        raise InputError("tracing a module needs torch", hint="pip install 'pharos-nn[torch]'") from None
    return torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced(Model):
    """A module with example inputs; its graph at other sizes is traced once, with formulas for sizes.

    Args:
        module, args, kwargs: what is called; free: (path to a tensor, dimension) -> what it is called;
            device: whose kernels' results count as memory.
    """

    module: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    free: dict[tuple[int, int], str]
    device: Any = None

    def training_memory(
        self, work: Workload, optimizer: str = "adamw", checkpointing: str | int = "none", loss: str = "sum",
        set_to_none: bool = True,
    ) -> Held:  # fmt: skip
        """What a training step holds, watched call by call on tensors without data.

        Args:
            work: batch, context and precision of the step.
            optimizer, checkpointing, loss, set_to_none: as
                `pharos.convert.torch_training.watch_training` takes them.

        Raises:
            SizeError: sizes that are no numbers, or nothing repeats that could be checkpointed.
            InputError: the module has no parameter to train, or returns nothing that has a gradient.
        """
        from pharos.convert.torch_training import watch_training

        torch = require_torch()
        asked = _asked(torch, self.args, self.kwargs, self.free, work)
        if not all(map(is_int, asked.values())):
            raise SizeError("a training step is watched at sizes that are numbers", where=self.name)

        def given(i: int, t: Any) -> Any:
            return [asked.get(self.free.get((i, d), ""), s) for d, s in enumerate(t.shape)]

        return watch_training(
            torch, self.module, self.args, self.kwargs, _precision(torch, self.module, work),
            optimizer=optimizer, checkpointing=checkpointing, loss=loss, set_to_none=set_to_none,
            device=self.device, given=given, name=self.name,
        )  # fmt: skip


def trace(
    module: Any, *args: Any, input_size: Any = None, dtypes: Any = None,
    dynamic: Mapping[str, Any] | None = None, name: str = "", device: Any = None,
    watch: bool = False, **kwargs: Any,
) -> Traced:  # fmt: skip
    """A model from an ``nn.Module`` and example inputs; the module is left as it was.

    It runs on tensors that have shapes and no data, whatever device its parameters are on, so that a
    module on the meta device needs no memory. What depends on data falls back to one run on real
    tensors, if the parameters are real. The first dimension that all tensors share is the batch, the
    second of whole-number inputs the context: `Workload` sets both.

    Args:
        args, kwargs: inputs; tensors are used for their shapes and types only.
        input_size: instead of tensors: a shape, or a list of them, batch included.
        dtypes: of those, one or a list; floats if left out.
        dynamic: input's name or number -> {dimension: "batch", "context" or another name}.
        name: of the model; the class's if left out.
        device: whose kernels' results count as memory; the parameters' own, or the CPU's if they are on
            the meta device.
        watch: run it a second time, call by call, to see what it holds in memory: `pharos.passes.held`.

    Raises:
        InputError: no inputs, torch is missing, or the module cannot run on them.
    """
    torch = require_torch()
    if input_size is not None:
        args = (*args, *example_tensors(torch, input_size, dtypes))
    if next(tensors_in(torch, (args, kwargs)), None) is None:
        raise InputError(
            "needs example inputs", where=name or type(module).__name__,
            hint="pass tensors, or input_size=(1, 3, 224, 224)",
        )  # fmt: skip
    free = free_dimensions(torch, args, kwargs, dynamic)
    called = name or type(module).__name__
    memo: dict[Any, Any] = {}

    def build(work: Workload) -> Graph:
        return _graph(torch, module, args, kwargs, free, work, called, memo, device, watch)

    return Traced(name=called, family="", build=build, module=module, args=args, kwargs=kwargs, free=free,
                  device=device)  # fmt: skip


def example_tensors(torch: Any, input_size: Any, dtypes: Any = None) -> list[Any]:
    """Tensors without data of the shapes that ``input_size`` states."""
    many = bool(input_size) and isinstance(input_size[0], (list, tuple))
    shapes = list(input_size) if many else [input_size]
    kinds = list(dtypes) if isinstance(dtypes, (list, tuple)) else [dtypes] * len(shapes)
    if len(kinds) != len(shapes):
        raise InputError(f"gives {len(kinds)} dtypes for {len(shapes)} inputs")
    made = []
    for shape, kind in zip(shapes, kinds, strict=True):
        dtype = getattr(torch, str(kind).removeprefix("torch."), None) if kind else torch.float32
        if dtype is None or str(dtype).removeprefix("torch.") not in DTYPES:
            raise InputError(f"{kind!r} is not a dtype", hint="float32, bfloat16, int64, bool, ...")
        if not all(isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in shape):
            raise InputError(f"{shape!r} is not a shape", hint="whole numbers, batch first")
        made.append(torch.empty(tuple(shape), dtype=dtype, device="meta"))
    return made


def free_dimensions(
    torch: Any, args: Any, kwargs: Any, dynamic: Mapping[str, Any] | None
) -> dict[tuple[int, int], str]:
    """(number of a tensor, dimension) -> what it is: the batch, the context, or as `dynamic` says."""
    found: dict[tuple[int, int], str] = {}
    tensors = list(tensors_in(torch, (args, kwargs)))
    if dynamic is not None:
        order = [*range(len(args)), *kwargs]
        for key, dims in dynamic.items():
            if key not in order:
                raise InputError(f"there is no input {key!r}", hint=f"inputs: {', '.join(map(str, order))}")
            value = args[key] if isinstance(key, int) else kwargs[key]
            for t in tensors_in(torch, value):
                i = next(i for i, other in enumerate(tensors) if other is t)
                found.update({(i, d % t.dim()): called for d, called in dims.items()})
        return found
    leads = {t.shape[0] for t in tensors if t.dim() > 0}
    if len(leads) == 1:
        found.update({(i, 0): BATCH for i, t in enumerate(tensors) if t.dim() > 0})
    whole = [(i, t) for i, t in enumerate(tensors) if t.dim() == 2 and not t.dtype.is_floating_point]
    if len({t.shape[1] for _, t in whole}) == 1:
        found.update({(i, 1): CONTEXT for i, _ in whole})
    return found


def _graph(
    torch: Any, module: Any, args: Any, kwargs: Any, free: dict[tuple[int, int], str], work: Workload,
    name: str, memo: dict[Any, Any], device: Any = None, watch: bool = False,
) -> Graph:  # fmt: skip
    if work.phase != "forward":
        raise SizeError(
            f"a traced module runs as it is called, not as {work.phase}", where=name,
            hint="use a config.json or a catalogue model for prefill and decode",
        )  # fmt: skip
    asked = _asked(torch, args, kwargs, free, work)
    precision = _precision(torch, module, work)
    if all(map(is_int, asked.values())):
        key = (tuple(sorted(asked.items())), precision)
        if key not in memo:
            made = recorded(torch, module, args, kwargs, free, asked, precision, name, device, watch=watch)
            own = made is getattr(module, "source_graph", None)
            memo[key] = made if own else _as_it_is(torch, module, tidy(made))
        return memo[key]
    key = ("formula", precision)
    if key not in memo:
        written, symbols = recorded(
            torch, module, args, kwargs, free, None, precision, name, device, watch=watch
        )
        memo[key] = _as_it_is(torch, module, tidy(written)), symbols
    graph, symbols = memo[key]
    missing = [called for called in asked if called not in symbols and not is_int(asked[called])]
    if missing:
        raise SizeError(
            f"works only at the {missing[0]} it was traced with", where=name,
            hint="give a number: it is traced anew for it",
        )  # fmt: skip
    return substitute(graph, {symbols[c]: s for c, s in asked.items() if c in symbols})


def _as_it_is(torch: Any, module: Any, graph: Graph) -> Graph:
    """The graph with the batch norms that, as the module is, take mean and variance of their batch."""
    norms = torch.nn.modules.batchnorm._BatchNorm
    told = tuple(name for name, part in module.named_modules()
                 if isinstance(part, norms) and (part.training or part.running_mean is None))  # fmt: skip
    return replace(graph, meta=graph.meta | {"training_statistics": told}) if told else graph


def _asked(
    torch: Any, args: Any, kwargs: Any, free: dict[tuple[int, int], str], work: Workload
) -> dict[str, Size]:
    """The size of each free dimension: the workload's, or the example's."""
    tensors = list(tensors_in(torch, (args, kwargs)))
    found: dict[str, Size] = {called: tensors[i].shape[d] for (i, d), called in free.items()}
    if BATCH in found and not (is_int(work.batch) and work.batch == 1):
        found[BATCH] = work.batch
    elif not (is_int(work.batch) and work.batch == 1):
        raise SizeError("has no batch: its inputs share no first dimension", hint="name it with dynamic=")
    if work.context is not None:
        if CONTEXT not in found:
            raise SizeError(
                "has no context: no input is a batch of token numbers", hint="name it with dynamic="
            )
        found[CONTEXT] = work.context
    return found


def _precision(torch: Any, module: Any, work: Workload) -> Precision:
    if work.precision != Precision():
        return work.precision
    sizes: dict[str, int] = {}
    for p in module.parameters():
        if p.dtype.is_floating_point:
            kind = DTYPES.get(str(p.dtype).removeprefix("torch."), "fp32")
            sizes[kind] = sizes.get(kind, 0) + p.numel()
    return Precision.of(max(sizes, key=lambda k: sizes[k])) if sizes else work.precision
