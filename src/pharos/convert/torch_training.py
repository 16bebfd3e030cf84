"""Memory of a training step: forward, backward and update of a module, watched on tensors without data."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from pharos.convert.torch_memory import Ledger, Pretence, device_of, dtype_for, keep_module, watching
from pharos.convert.torch_record import DTYPES, tensors_in
from pharos.convert.torch_run import as_it_was, mapped, one_sequence_a_row, outputs_of
from pharos.passes.held import Held
from pharos.passes.training import LOSSES
from pharos.quantity.dtypes import Precision
from pharos.quantity.errors import InputError, SizeError, unknown

_MAKE: dict[str, Callable[[Any, Any], Any]] = {
    "sgd": lambda optim, p: optim.SGD(p, lr=0.01),
    "momentum": lambda optim, p: optim.SGD(p, lr=0.01, momentum=0.9),
    "adam": lambda optim, p: optim.Adam(p),
    "adamw": lambda optim, p: optim.AdamW(p),
    "adafactor": lambda optim, p: optim.Adafactor(p),
}


def watch_training(
    torch: Any, module: Any, args: Any, kwargs: Any, precision: Precision, *, optimizer: str = "adamw",
    checkpointing: str | int = "none", loss: str = "sum", set_to_none: bool = True, device: Any = None,
    given: Callable[[Any, Any], Any] | None = None, name: str = "",
) -> Held:  # fmt: skip
    """What the second training step holds, when the optimiser's state exists.

    The step is the usual one: gradients are dropped, the module is run, the loss taken, ``backward()``,
    ``step()``; result and loss stay to the end. Parameters narrower than 32 bits have fp32 copies, which
    the optimiser updates from fp32 copies of the gradients.

    Args:
        optimizer: as `pharos.passes.training.OPTIMIZERS`, with PyTorch's own defaults.
        checkpointing: "none", or "layers": ``torch.utils.checkpoint`` around each repeated layer.
        loss: "sum" of what the module returns, or "cross_entropy" of it over its last dimension (over
            the second of images); a loss that the module returns itself is taken instead.
        set_to_none: ``zero_grad`` drops gradients before each step; else they are there all through.
        given: changes an input's sizes: (its number, tensor) -> sizes.
        name: of the module in errors.

    Raises:
        UnknownName: no such optimiser, loss or way of checkpointing.
        SizeError: nothing repeats that could be checkpointed, or another way of checkpointing is asked.
        InputError: there is no parameter to train, or the module returns nothing that has a gradient.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    if optimizer not in _MAKE:
        raise unknown("optimizer", optimizer, _MAKE)
    if loss not in LOSSES:
        raise unknown("loss", loss, LOSSES)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    place = device_of(module, device)
    dtype = dtype_for(torch, module, precision, lambda d: DTYPES[str(d).removeprefix("torch.")])
    copies = Pretence(torch, mode, place, dtype)
    number = iter(range(1 << 30))

    def made(t: Any) -> Any:
        sizes = t.shape if given is None else given(next(number), t)
        with mode, torch.no_grad():
            kind = dtype if dtype is not None and t.dtype.is_floating_point else t.dtype
            return torch.empty(tuple(sizes), dtype=kind, device=place)

    args, kwargs = mapped(torch, args, made), mapped(torch, kwargs, made)
    ledger = Ledger(torch, int)
    with ExitStack() as stack, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Accessing the data pointer")
        stack.enter_context(as_it_was(module))
        stack.enter_context(copies.inside(module))
        stack.enter_context(_in_training(module))
        stack.enter_context(_checkpointed(torch, module, checkpointing))
        stack.enter_context(one_sequence_a_row(kwargs))
        stack.enter_context(mode)
        stack.enter_context(torch.enable_grad())
        parameters = [p for p in dict.fromkeys(module.parameters()) if p.requires_grad]
        if not parameters:
            raise InputError(
                "has no parameter that could be trained", where=name,
                hint="parameters are trained that have requires_grad",
            )  # fmt: skip
        copied = {p: p.detach().float() for p in parameters if p.element_size() < 4}
        updated = [copied.get(p, p) for p in parameters]
        rule = _MAKE[optimizer](torch.optim, updated)
        hooks = [p.register_post_accumulate_grad_hook(lambda p: ledger.tag(p.grad, "gradients"))
                 for p in parameters]  # fmt: skip

        def step() -> None:
            _zero(parameters, copied, set_to_none)
            ledger.phase = "forward"
            out = module(*args, **kwargs)
            whole = _loss(torch, out, loss, name)
            ledger.phase = "backward"
            whole.backward()
            ledger.phase = "update"
            for p, copy in copied.items():
                if p.grad is not None:
                    copy.grad, p.grad = p.grad.float(), p.grad if not set_to_none else None
            rule.step()
            with torch.no_grad():
                for p, copy in copied.items():
                    p.copy_(copy)

        try:
            step()
            _zero(parameters, copied, set_to_none)
            keep_module(ledger, module)
            for copy in copied.values():
                ledger.keep(copy, "fp32 copies")
            for state in rule.state.values():
                for t in tensors_in(torch, state):
                    ledger.keep(t, "optimizer")
            for p in parameters:
                if p.grad is not None:
                    ledger.keep(p.grad, "gradients")
            for t in tensors_in(torch, (args, kwargs)):
                ledger.see(t, "input", "input")
            with watching(torch, ledger, module):
                step()
        finally:
            for hook in hooks:
                hook.remove()
        return ledger.held(place)


def _zero(parameters: Any, copied: Any, set_to_none: bool) -> None:
    """As an optimiser's ``zero_grad``; gradients of fp32 copies never outlive their step."""
    for p in parameters:
        if set_to_none or p.grad is None:
            p.grad = None
        else:
            p.grad.zero_()
    for copy in copied.values():
        copy.grad = None


def _loss(torch: Any, out: Any, loss: str, name: str) -> Any:
    """One number to take gradients of."""
    own: Any = getattr(out, "loss", None)
    if isinstance(own, torch.Tensor) and own.requires_grad:
        return own
    found = [t for t in outputs_of(torch, out) if t.requires_grad]
    if not found:
        raise InputError(
            "cannot be trained: it returns nothing that has a gradient", where=name,
            hint="an output of floats that depends on a parameter is needed; argmax, detach() and "
            "torch.no_grad() end the gradient",
        )  # fmt: skip
    if loss == "cross_entropy":
        first = found[0]
        classes = 1 if first.dim() == 4 else first.dim() - 1
        rows = first if first.dim() in (2, 4) else first.reshape(-1, first.shape[-1])
        shape = [s for d, s in enumerate(rows.shape) if d != (classes if first.dim() == 4 else 1)]
        return torch.nn.functional.cross_entropy(
            rows, torch.zeros(shape, dtype=torch.int64, device=first.device)
        )
    total = found[0].sum()
    for t in found[1:]:
        total = total + t.sum()
    return total


@contextmanager
def _in_training(module: Any) -> Iterator[None]:
    before = [(part, part.training) for part in module.modules()]
    module.train()
    try:
        yield
    finally:
        for part, was in before:
            part.training = was


@contextmanager
def _checkpointed(torch: Any, module: Any, checkpointing: str | int) -> Iterator[None]:
    """Repeated layers run under ``torch.utils.checkpoint`` meanwhile."""
    if checkpointing == "none":
        yield
        return
    if checkpointing not in ("layers", 1):
        raise SizeError(f"a traced module is checkpointed layer by layer, not by {checkpointing}")
    from torch.utils.checkpoint import checkpoint

    found = repeated_layers(torch, module)
    if not found:
        raise SizeError("repeats no layer that could be checkpointed")
    try:
        for layer in found:
            layer.__dict__["forward"] = partial(
                checkpoint, type(layer).forward.__get__(layer), use_reentrant=False
            )
        yield
    finally:
        for layer in found:
            layer.__dict__.pop("forward", None)


def repeated_layers(torch: Any, module: Any) -> list[Any]:
    """Submodules of the class that a list, sequence or dict of modules has most of; the outermost ones."""
    if isinstance(module, (torch.nn.ModuleList, torch.nn.Sequential, torch.nn.ModuleDict)):
        by_class: dict[type, list[Any]] = {}
        for part in module.children():
            if any(True for _ in part.children()):
                by_class.setdefault(type(part), []).append(part)
        most = max(by_class.values(), key=len, default=[])
        if len(most) > 1 and not isinstance(most[0], (torch.nn.Sequential, torch.nn.ModuleList)):
            return most
    return [layer for part in module.children() for layer in repeated_layers(torch, part)]
