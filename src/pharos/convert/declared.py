"""Declared: what users say of operators of their own, so that importers count them."""

from collections.abc import Callable, Sequence
from typing import Any

from pharos.graph.op import Work
from pharos.graph.tensor import Tensor
from pharos.ops.declared import CURVES, Declared
from pharos.quantity.errors import InputError, unknown

Cost = Callable[..., Work]
_KNOWN: dict[str, tuple[Cost, str]] = {}


def rule(name: str, *, runs_as: str = "elementwise") -> Callable[[Cost], Cost]:
    """Says what an operator of one's own costs, for PyTorch's custom operators and ONNX's domains::

        @pharos.rule("mylib::my_attention", runs_as="attention")
        def my_attention(q, k, v):
            return pharos.Work(macs=2 * q.numel * k.shape[-2])

    The function gets the input tensors (shapes and dtypes; sizes may be ints or formulas) and, if it
    takes a parameter called `outputs`, those of the call; ONNX attributes come by name.

    Args:
        name: ``library::operator`` as PyTorch registers it, or ``domain::OpType``.
        runs_as: the efficiency curve that fits it.

    Raises:
        InputError: a name without its library.
        UnknownName: an efficiency curve that there is none of.
    """
    library, _, rest = name.partition("::")
    if not library or not rest:
        raise InputError(f"{name!r} names no operator", hint="write library::operator")
    if runs_as not in CURVES:
        raise unknown("efficiency curve", runs_as, CURVES)

    def register(cost: Cost) -> Cost:
        _KNOWN[name] = (cost, runs_as)
        return cost

    return register


def is_declared() -> bool:
    """Whether users said anything: what depends on that is not kept from one process to the next."""
    return bool(_KNOWN)


def declared(
    name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], **attributes: Any
) -> Declared | None:
    """The operator that a user's rule makes of a call; None where there is no rule.

    Raises:
        InputError: the rule fails or does not give a `Work`.
    """
    found = _KNOWN.get(name)
    if found is None:
        return None
    cost, runs_as = found
    import inspect

    taken = inspect.signature(cost).parameters
    wide = any(p.kind is p.VAR_KEYWORD for p in taken.values())
    given = {k: v for k, v in {**attributes, "outputs": tuple(outputs)}.items() if wide or k in taken}
    try:
        work = cost(*inputs, **given)
    except Exception as error:
        raise InputError(f"the rule of {name} fails: {type(error).__name__}: {error}") from None
    if not isinstance(work, Work):
        raise InputError(f"the rule of {name} gives a {type(work).__name__}, not a pharos.Work")
    return Declared(
        name, tuple([t.shape for t in outputs]), tuple([t.dtype for t in outputs]), work.macs,
        work.vector_flops, work.transcendentals, runs_as,
    )  # fmt: skip
