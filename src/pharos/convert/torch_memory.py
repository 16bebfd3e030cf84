"""Memory of a run: births and deaths of storages while a module runs eagerly on tensors without data."""

import math
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from pharos.convert.torch_record import tensors_in
from pharos.passes.held import Held, Storage
from pharos.quantity.sizes import Size

# A call whose results' sizes only the library knows is made on real zeros of at most so many numbers.
LARGEST_REAL = 50_000_000
TORCH_DTYPES = {"fp64": "float64", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


class Ledger:
    """Births and deaths of storages over the calls of a run.

    Storages are watched through weak references: whatever holds a tensor, a frame of Python, a list, the
    graph of gradients, keeps it alive here as it does in PyTorch.

    Args:
        size: turns PyTorch's symbolic sizes into formulas.
    """

    def __init__(self, torch: Any, size: Callable[[Any], Size]) -> None:
        self.torch, self.size = torch, size
        self.steps: list[str] = []
        self.rows: list[list[Any]] = []
        self.resident: dict[str, Size] = {}
        self.pieces: list[Size] = []
        self.phase = "forward"
        self.modules: list[str] = []
        self.leaves: set[str] = set()
        # where the node of the graph of gradients with a number was made
        self.owners: dict[int, str] = {}
        self._live: dict[int, tuple[Any, int | None, Any]] = {}

    def _storages(self, t: Any) -> list[Any]:
        from torch.utils._python_dispatch import is_traceable_wrapper_subclass

        if is_traceable_wrapper_subclass(t):
            names, _ = t.__tensor_flatten__()
            return [s for name in names for s in self._storages(getattr(t, name))]
        try:
            return [t.untyped_storage()]
        except (NotImplementedError, RuntimeError):
            return []

    def keep(self, t: Any, kind: str) -> None:
        """Takes down a tensor that is there all through."""
        for storage in self._storages(t):
            key = storage._cdata
            known = self._live.get(key)
            if known is not None and known[0]() is storage:
                continue
            nbytes = self.size(storage.nbytes())
            self._live[key] = (weakref.ref(storage), None, storage.nbytes())
            self.resident[kind] = self.resident.get(kind, 0) + nbytes
            self.pieces.append(nbytes)

    def see(self, t: Any, kind: str, maker: str) -> None:
        """Takes down a tensor that a call gave back, or one given to the run."""
        for storage in self._storages(t):
            key, nbytes = storage._cdata, storage.nbytes()
            known = self._live.get(key)
            if known is not None and known[0]() is storage:
                if known[1] is None or not _differs(known[2], nbytes):
                    continue
                # it was resized: another one from here on
                self.rows[known[1]][4] = len(self.steps) - 2
            row = len(self.rows)
            size = self.size(nbytes)
            self.rows.append([kind, maker, size, max(len(self.steps) - 1, 0), None])
            self._live[key] = (weakref.ref(storage, self._gone(key, row)), row, nbytes)

    def _gone(self, key: int, row: int) -> Callable[[Any], None]:
        def note(_: Any) -> None:
            if self.rows[row][4] is None:
                self.rows[row][4] = len(self.steps) - 1
            known = self._live.get(key)
            if known is not None and known[1] == row:
                del self._live[key]

        return note

    def tag(self, t: Any, kind: str) -> None:
        """Says what a tensor turned out to be."""
        for storage in self._storages(t):
            known = self._live.get(storage._cdata)
            if known is not None and known[1] is not None:
                self.rows[known[1]][0] = kind

    def where(self, name: str) -> str:
        """Where the call of an operator is made, in words."""
        if self.phase == "update":
            return "update"
        node = self.torch._C._current_autograd_node()
        operator = name.rpartition("::")[2]
        if self.modules:
            path = self.modules[-1]
            at = path if path in self.leaves else f"{path}.{operator}" if path else operator
            if node is not None:
                return f"{at}, run again"
            if self.torch.is_grad_enabled():
                # the call's own node was made just before the call came here
                self.owners[self.torch.autograd._get_sequence_nr() - 1] = at
            return at
        if node is not None:
            return f"backward of {self.owners.get(node._sequence_nr(), operator)}"
        return "loss" if self.phase == "forward" and self.steps and self.torch.is_grad_enabled() else operator

    def note(self, name: str, out: Any) -> None:
        """Takes down one call and what it gave back."""
        at = self.where(name)
        self.steps.append(at)
        kind = "activation" if self.phase == "forward" or self.modules else "temporary"
        for t in tensors_in(self.torch, out):
            self.see(t, kind, at)

    def held(self, device: str) -> Held:
        """Everything that was seen."""
        end = len(self.steps) - 1
        rows = [Storage(kind, maker, nbytes, first, end if last is None else last)
                for kind, maker, nbytes, first, last in self.rows]  # fmt: skip
        kept = tuple(s for s in rows if s.last >= s.first and not (type(s.nbytes) is int and s.nbytes == 0))
        return Held(device, self.resident, tuple(self.steps) or ("input",), kept, tuple(self.pieces))


def _differs(before: Any, after: Any) -> bool:
    return type(before) is int and type(after) is int and before != after


@contextmanager
def watching(torch: Any, ledger: Ledger, module: Any) -> Iterator[None]:
    """Notes what every call inside gives back, below PyTorch's composite operators."""
    from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watcher(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            if func._schema.name == "aten::mkldnn_rnn_layer":
                out = _with_workspace(torch, func, args, out)
            ledger.note(func._schema.name, out)
            return out

    paths: dict[int, str] = {}
    for name, part in module.named_modules():
        paths.setdefault(id(part), name)
        if not any(True for _ in part.children()):
            ledger.leaves.add(name)

    def enter(part: Any, args: Any) -> None:
        ledger.modules.append(paths.get(id(part), ledger.modules[-1] if ledger.modules else ""))

    def leave(part: Any, args: Any, out: Any) -> None:
        if ledger.modules:
            ledger.modules.pop()

    hooks = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)]
    try:
        with warnings.catch_warnings(), Watcher():
            # fused layers look at where weights lie, and those of tensors without data lie nowhere
            warnings.filterwarnings("ignore", message="Accessing the data pointer")
            yield
    finally:
        for hook in hooks:
            hook.remove()


def _with_workspace(torch: Any, func: Any, args: Any, out: Any) -> Any:
    """A recurrent layer's results with the workspace that oneDNN keeps for its gradients.

    Only the library knows its size: the call is made once on real zeros of the same shapes.
    """
    from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily

    shapes = [tuple(t.shape) for t in tensors_in(torch, args)]
    whole = all(type(s) is int for shape in shapes for s in shape)
    if not args[-1] or not isinstance(out[0], FakeTensor) or not whole:
        return out
    if sum(math.prod(shape) for shape in shapes) > LARGEST_REAL:
        return out
    with unset_fake_temporarily():
        real = [torch.zeros(a.shape, dtype=a.dtype) if isinstance(a, torch.Tensor) else a for a in args]
        nbytes = func(*real)[3].untyped_storage().nbytes()
    workspace = torch.empty(nbytes, dtype=torch.uint8, device=out[0].device)
    return (*out[:3], workspace)


class Pretence:
    """Copies without data of tensors, one of each storage and tensor, on a device that need not exist."""

    def __init__(self, torch: Any, mode: Any, device: Any, dtype: Any = None) -> None:
        self.torch, self.mode, self.device, self.dtype = torch, mode, device, dtype
        self.made: dict[int, tuple[Any, Any]] = {}

    def of(self, t: Any) -> Any:
        """The copy of a tensor, always the same one."""
        if id(t) not in self.made:
            self.made[id(t)] = (t, self._copy(t))
        return self.made[id(t)][1]

    def _copy(self, t: Any) -> Any:
        torch = self.torch
        dtype = self.dtype if self.dtype is not None and t.dtype.is_floating_point else t.dtype
        with self.mode, torch.no_grad():
            made = torch.empty_strided(t.shape, t.stride(), dtype=dtype, device=self.device)
        if isinstance(t, torch.nn.Parameter):
            return torch.nn.Parameter(made, requires_grad=t.requires_grad)
        return made.requires_grad_(t.requires_grad) if t.is_leaf and t.requires_grad else made

    @contextmanager
    def inside(self, module: Any) -> Iterator[None]:
        """The module holds copies of its parameters and buffers meanwhile, and its own ones after."""
        torch, undo = self.torch, []
        for part in module.modules():
            for holder in (part._parameters, part._buffers):
                for key, t in holder.items():
                    if t is not None:
                        undo.append((holder, key, t))
            for key, value in part.__dict__.items():
                listed = isinstance(value, (list, tuple)) and value
                if isinstance(value, torch.Tensor) or (
                    listed and all(isinstance(t, torch.Tensor) for t in value)
                ):
                    undo.append((part.__dict__, key, value))
        try:
            for holder, key, value in undo:
                copied = self.of(value) if isinstance(value, torch.Tensor) else [self.of(t) for t in value]
                holder[key] = tuple(copied) if isinstance(value, tuple) else copied
            yield
        finally:
            for holder, key, value in undo:
                holder[key] = value


def device_of(module: Any, device: Any = None) -> str:
    """Whose kernels a run is watched with: those asked for, or the parameters' own; meta has none."""
    if device is not None:
        return str(device)
    own = next((p.device.type for p in module.parameters()), "cpu")
    return "cpu" if own == "meta" else own


def dtype_for(torch: Any, module: Any, precision: Any, reader: Callable[[Any], str]) -> Any:
    """The dtype to run in for a precision; None if that is the module's own.

    Raises:
        ValueError: PyTorch's operators do not run in it.
    """
    own = {reader(p.dtype) for p in module.parameters() if p.dtype.is_floating_point}
    wanted = {precision.weights, precision.activations}
    if own and precision.weights in own and len(wanted) == 1:
        return None
    if len(wanted) != 1 or next(iter(wanted)) not in TORCH_DTYPES:
        raise ValueError(f"eager PyTorch does not run in {precision}")
    return getattr(torch, TORCH_DTYPES[next(iter(wanted))]) if own else None


def watch_inference(
    torch: Any, module: Any, args: Any, kwargs: Any, size: Callable[[Any], Size], device: str,
    around: Callable[[ExitStack], None] | None = None,
) -> Held:  # fmt: skip
    """What one forward pass without gradients holds, the caller's inputs and the result included.

    Args:
        around: enters what the run needs around it, such as a mode for tensors without data.
    """
    ledger = Ledger(torch, size)
    keep_module(ledger, module)
    for t in tensors_in(torch, (args, kwargs)):
        ledger.see(t, "input", "input")
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        if around is not None:
            around(stack)
        stack.enter_context(watching(torch, ledger, module))
        out = module(*args, **kwargs)
    held = ledger.held(device)
    del out
    return held


def keep_module(ledger: Ledger, module: Any) -> None:
    """Takes down a module's parameters and buffers."""
    for p in module.parameters():
        ledger.keep(p, "weights")
    for b in module.buffers():
        ledger.keep(b, "buffers")
