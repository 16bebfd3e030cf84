"""CPU operators: arithmetic at the rate of few cores, caches, steps; fresh pages are in `passes.heap`."""

from collections.abc import Callable
from typing import Any

from pharos.predict.kernels.base import Constants, Device, Form, Parts, Sizes, joined, octaves

CONSTANTS = {
    "launch_us": (5.0, 0.7),
    "cold_us": (20.0, 1.0),  # more, once other work has pushed code and what it needs out of the cache
    "peak": (0.8, 0.4, 1.2),  # share of the measured peak that large products reach
    "inner_half": (8.0, 1.0),  # length of a sum at which half of that is reached
    "outer_half": (4.0, 1.0),  # and width of what is summed up side by side
    "rows_half": (1.0, 1.0),  # and rows that share a weight
    "ragged": (0.5, 1.0),  # more of it, where channels do not fill vectors
    "vector": (0.3, 0.7),  # share of the vector peak that other arithmetic reaches
    "near": (2.0, 0.7),  # bandwidth of the caches in the memory's
    "far": (0.8, 0.4, 1.5),  # share of the measured bandwidth that large tensors reach
    "weights": (0.8, 0.5),  # and weights, which other layers have pushed out of the nearest cache
    "write": (1.5, 0.5),  # a byte written costs so many read ones
    "resident": (0.5, 1.0, 1.0),  # share of the cache that a tensor is still found in
    "sharpness": (2.0, 0.7),
}


def parts(c: Constants, sizes: Sizes, device: Device) -> Parts:
    """Seconds of one operator on a few cores.

    - compute = 2 macs / (peak rate) x (1 + inner_half / inner) (1 + outer_half / outer)
      (1 + rows_half / rows) (1 + ragged, where channels do not fill vectors), plus other arithmetic at the
      vector share;
    - data = activations, near while they fit resident x cache, far beyond; weights at a rate of their own,
      near as far as a whole call leaves them there;
    - launch, and a cold start after other kernels have moved more than the cache holds.

    Sizes are macs, inner, outer, rows, ragged (1 or 0), weights, read and written (bytes), work (seconds of
    other arithmetic at the vector peak), since and whole (bytes, see `passes.fuse.Around`). Constants
    are fitted on the machine.
    """
    import numpy as np

    def falls(half: str, size: Any) -> Any:
        return 1 + c[half] / np.maximum(size, 1)

    rate = device.ops_per_s * c["peak"]
    products = 2 * sizes["macs"] / rate * falls("inner_half", sizes["inner"])
    products = products * falls("outer_half", sizes["outer"]) * falls("rows_half", sizes["rows"])
    products = products * (1 + c["ragged"] * sizes["ragged"])
    compute = products + sizes["work"] / c["vector"]
    moved = sizes["read"] + c["write"] * sizes["written"]
    beyond = np.maximum(moved - c["resident"] * device.cache_bytes, 0)
    memory = device.bytes_per_s
    data = beyond / (memory * c["far"]) + (moved - beyond) / (memory * np.maximum(c["near"], c["far"]))
    held = c["resident"] * device.cache_bytes
    pushed, cold = sizes["whole"] / (sizes["whole"] + held), sizes["since"] / (sizes["since"] + held)
    weights = pushed / c["weights"] + (1 - pushed) / np.maximum(c["near"], c["weights"])
    data = data + sizes["weights"] * weights / memory
    fixed = 1e-6 * (c["launch_us"] + c["cold_us"] * cold)
    fixed = np.broadcast_to(fixed, np.shape(moved))
    compute, data = compute + 0 * data, data + 0 * compute
    return Parts(compute, data, fixed, fixed + joined(c["sharpness"], compute, data))


SIZES = ("macs", "inner", "outer", "rows", "ragged", "weights", "read", "written", "work", "since",
         "whole")  # fmt: skip


CHAIN = {
    "launch_us": (20.0, 1.0),
    "step_us": (5.0, 1.0),
    "bulk": (0.7, 0.5, 1.2),  # share of the peak that the inputs' product of all steps reaches
    "peak": (0.5, 0.5, 1.2),  # share that a step's product reaches with many rows
    "rows_half": (4.0, 1.0),  # rows at which half of that is reached
    "near": (3.0, 0.7),  # bandwidth in the memory's at which a step reads weights that the cache holds
    "far": (0.8, 0.4, 1.5),  # and those that it does not hold
    "resident": (0.7, 0.5, 1.0),  # share of the cache that weights stay in
    "vector": (0.1, 1.0),
    "sharpness": (2.0, 0.7),
}


def chain(c: Constants, sizes: Sizes, device: Device) -> Parts:
    """Seconds of a recurrence on a few cores: a product of all steps for the inputs, then step after step.

    A step costs step_us, beside its product or reading its weights again, near where they fit in
    resident x cache. Sizes are bulk and macs (of all steps, without and with the chain), rows, inner and
    outer (of a step's product), weights (bytes of all steps), once (bytes of all weights), steps (of all
    cells), work (seconds of gates at the vector peak). Constants are fitted on the machine.
    """
    import numpy as np

    rate, memory = device.ops_per_s, device.bytes_per_s
    steps = np.maximum(sizes["steps"], 1)
    bulk = 2 * sizes["bulk"] / (rate * c["bulk"])
    products = 2 * sizes["macs"] / (rate * c["peak"]) * (1 + c["rows_half"] / np.maximum(sizes["rows"], 1))
    compute = products + sizes["work"] / c["vector"]
    held = sizes["weights"] / steps <= c["resident"] * device.cache_bytes
    data = sizes["weights"] / (memory * np.where(held, np.maximum(c["near"], c["far"]), c["far"]))
    data = data + 0 * compute
    serial = 1e-6 * c["step_us"] * steps
    fixed = 1e-6 * c["launch_us"] + sizes["once"] / (memory * c["far"])
    total = fixed + serial + bulk + joined(c["sharpness"], compute, data)
    return Parts(compute + bulk, data, fixed + serial, total)


def _form(name: str, extra: tuple[str, ...], features: Callable[[Sizes, Device], Any], left_out: str = "",
          more: dict[str, tuple[float, ...]] | None = None) -> Form:  # fmt: skip
    kept = {k: v for k, v in CONSTANTS.items() if k not in left_out.split()}
    given = {k: (1e-9 if k.endswith("half") else CONSTANTS[k][0]) for k in left_out.split()}

    def completed(c: Constants, sizes: Sizes, device: Device) -> Parts:
        return parts({**given, **c}, sizes, device)

    return Form(name=name, sizes=(*SIZES, *extra), constants={**kept, **(more or {})}, parts=completed,
                features=features)  # fmt: skip


def _distance(sizes: Sizes) -> Any:
    """Bytes since the last kernel of the kind, in steps of a first-level cache."""
    return 1 + sizes["since"] / 2**15


def _product(sizes: Sizes, device: Device) -> Any:
    """Octaves of the three sides and the batch of a product."""
    return octaves(sizes["rows"], sizes["outer"], sizes["inner"], sizes["batch"], _distance(sizes))


def _conv(sizes: Sizes, device: Device) -> Any:
    """Octaves of pixels, channels, taps, groups, stride, width and images; other arithmetic by products."""
    names = ("rows", "c_in", "outer", "taps", "groups", "stride", "wide", "batch")
    other = 1 + 4 * sizes["work"] * device.ops_per_s / (sizes["macs"] + 1)
    return octaves(*(sizes[k] for k in names), 1 + 15 * sizes["ragged"], other, _distance(sizes))


def _stream(sizes: Sizes, device: Device) -> Any:
    """Octaves of bytes moved, of a row, and of bytes read by bytes written."""
    moved = sizes["read"] + sizes["written"]
    return octaves(moved, sizes["row"], 2 * sizes["read"] / sizes["written"], _distance(sizes))


def _attention(sizes: Sizes, device: Device) -> Any:
    """Octaves of heads in all, queries, keys and a head's width."""
    return octaves(sizes["batch"], sizes["rows"], sizes["outer"], sizes["inner"])


def _recurrence(sizes: Sizes, device: Device) -> Any:
    """Octaves of sequences, steps, the state, a step's products, and the inputs' products by the steps'."""
    import numpy as np

    share = 1 + sizes["bulk"] / np.maximum(sizes["macs"], 1)
    return octaves(sizes["rows"], sizes["steps"], sizes["inner"], sizes["outer"], share)


CPU_GEMM = _form("cpu_gemm", ("batch",), _product, "vector ragged")
CPU_CONV = _form("cpu_conv", ("batch", "c_in", "taps", "groups", "stride", "wide"), _conv)
CPU_STREAM = _form("cpu_stream", ("row",), _stream, "peak inner_half outer_half rows_half ragged weights")
CPU_ATTENTION = _form(
    "cpu_attention", ("batch",), _attention, "weights outer_half ragged far write resident sharpness"
)
CPU_RECURRENCE = Form(
    name="cpu_recurrence", constants=CHAIN, parts=chain, features=_recurrence,
    sizes=("macs", "bulk", "rows", "inner", "outer", "weights", "once", "steps", "work"),
)  # fmt: skip
CPU_FORMS = (CPU_GEMM, CPU_CONV, CPU_STREAM, CPU_ATTENTION, CPU_RECURRENCE)
