"""The sizes that closed forms ask for, read off a kernel's leading operator."""

from typing import Any

from pharos.graph.tensor import Tensor
from pharos.passes.fuse import Around, Kernel
from pharos.quantity.dtypes import BITS
from pharos.quantity.sizes import Size, agree, is_symbol, maximum, minimum, prod

# Numbers of 32 bits in the widest vectors of processors; narrower ones divide it.
VECTOR = 16
# Keys that attention without a window may see.
ENDLESS = 2.0**40


def sizes_of(
    form: str, kernel: Kernel, vector_ops_per_s: float | None, scalar: Size, beside: Around | None = None
) -> dict[str, Size] | None:
    """Columns of a form by its name; None where it does not describe the operator.

    Args:
        scalar: operations of the kernel on vector units. beside: what runs around it, where that is known.
    """
    found = _READERS[form](kernel, vector_ops_per_s, scalar)
    if found is None or beside is None:
        return found
    return {**found, "since": beside.since, "whole": beside.whole}


def unfused(kernel: Kernel) -> list[tuple[str, dict[str, Size]]]:
    """The kernels of attention that stores its scores, by class.

    q k^T, scale, mask, softmax, product with v; heads lie apart in what the projections make, so that q, k,
    v and the result are copied once each to where the products want them, at half the bandwidth of rows in
    order (assumed).
    """
    node = kernel.lead.node
    op: Any = node.op
    q, k = node.ins[0], node.ins[1]
    batch, heads, queries, width = q.shape
    keys, depth = op.cached + k.shape[2], node.outs[0].shape[3]
    element, rows = _element(q), batch * heads * queries
    scores = element * rows * keys

    def product(n: Size, inner: Size) -> dict[str, Size]:
        operands = batch * heads * (queries * inner + inner * n)
        return {"batch": batch * heads, "m": queries, "n": n, "k": inner, "element": element,
                "read": element * operands, "written": element * rows * n}  # fmt: skip

    def over(read: Size) -> dict[str, Size]:
        return {"rows": rows, "row": keys, "read": read, "written": scores, "work": 0.0}

    def moved(count: Size, last: Size) -> tuple[str, dict[str, Size]]:
        return "elementwise", {"rows": count / last, "row": last, "read": 3 * element * count,
                               "written": element * count, "work": 0.0}  # fmt: skip

    copies = [moved(t.numel, t.shape[3]) for t in (q, *node.ins[1:3], node.outs[0]) if t.rank == 4]
    # a mask is added where there is one, and its own bytes are few beside the scores
    masked = [("elementwise", over(scores))] if op.causal or len(node.ins) > 3 else []
    return [("gemm", product(keys, width)), ("elementwise", over(scores)), *masked, ("softmax", over(scores)),
            ("gemm", product(depth, keys)), *copies]  # fmt: skip


def _element(tensor: Tensor) -> float:
    return BITS[tensor.dtype] / 8


def _read(kernel: Kernel) -> Size:
    moved = kernel.traffic
    return moved.weights + moved.inputs + moved.state + moved.workspace


def _gemm(kernel: Kernel, vector: float | None, scalar: Size) -> dict[str, Size] | None:
    node, work = kernel.lead.node, kernel.lead.work
    out = node.outs[0]
    outputs = sum([t.numel for t in node.outs])
    n = getattr(node.op, "out_channels", out.shape[-1])
    # products of the same input lie side by side
    outputs, n = outputs * _wider(kernel), n * _wider(kernel)
    # two activations multiply matrix by matrix; weights serve all rows
    batch = 1 if node.weights or out.rank < 3 else prod(out.shape[:-2])
    return {
        "batch": batch,
        "m": outputs / (batch * n),
        "n": n,
        "k": work.macs * _wider(kernel) / outputs,
        "element": _element(node.ins[0]),
        "read": _read(kernel),
        "written": kernel.traffic.outputs,
    }


def _wider(kernel: Kernel) -> Size:
    """Outputs of a kernel's products in those of its leading one."""
    if not kernel.beside:
        return 1
    own = sum([t.numel for t in kernel.lead.node.outs])
    return (own + sum([t.numel for line in kernel.beside for t in line.node.outs])) / own


def _conv(kernel: Kernel, vector: float | None, scalar: Size) -> dict[str, Size] | None:
    node, work = kernel.lead.node, kernel.lead.work
    op: Any = node.op
    out = node.outs[0]
    if getattr(op, "algorithm", "direct") != "direct" or out.rank < 3:
        return None
    batch, channels, *space = out.shape
    groups = getattr(op, "groups", 1)
    kernel_of = op.axes() if hasattr(op, "axes") else []
    taps = prod([k for k, _, _, _ in kernel_of]) if kernel_of else 1
    high, wide = space if len(space) == 2 else (1, prod(space))
    return {
        "batch": batch,
        "out_h": high,
        "out_w": wide,
        "c_in": work.macs / (out.numel * taps),
        "c_out": channels * _wider(kernel) / groups,
        "groups": groups,
        "kh": kernel_of[0][0] if kernel_of else 1,
        "kw": kernel_of[1][0]
        if len(kernel_of) == 2
        else (1 if len(kernel_of) < 2 else taps / kernel_of[0][0]),
        "stride": max([s for _, s, _, _ in kernel_of], default=1),
        "element": _element(node.ins[0]),
        "read": _read(kernel),
        "written": kernel.traffic.outputs,
    }


def _attention(kernel: Kernel, vector: float | None, scalar: Size) -> dict[str, Size] | None:
    node = kernel.lead.node
    op: Any = node.op
    if node.op.kind != "attention" or op.algorithm != "tiled":
        return None
    q, k = node.ins[0], node.ins[1]
    batch, heads, queries, width = q.shape
    window: Size = ENDLESS
    if op.pattern == "window":
        window = op.span
    elif op.pattern == "blocks":
        window = (op.before + 1) * op.span
    elif op.pattern != "full":
        return None
    moved = kernel.traffic.total
    return {
        "batch": batch,
        "queries": queries,
        "keys": op.cached + k.shape[2],
        "heads": heads,
        "kv_heads": k.shape[1],
        "width": width,
        "window": window,
        "causal": int(op.causal),
        "moved": moved,
        "cached": moved - q.nbytes - node.outs[0].nbytes,
    }


def _stream(kernel: Kernel, vector: float | None, scalar: Size) -> dict[str, Size] | None:
    first = next(iter(kernel.lead.node.ins), kernel.lead.node.outs[0])
    row = first.shape[-1] if first.rank else 1
    return {
        "rows": first.numel / row,
        "row": row,
        "read": _read(kernel),
        "written": kernel.traffic.outputs,
        "work": scalar / vector if vector else 0.0,
    }


def _gather(kernel: Kernel, vector: float | None, scalar: Size) -> dict[str, Size] | None:
    node = kernel.lead.node
    if not node.weights or not node.ins:
        return None
    rows = node.ins[0].numel
    return {
        "rows": rows,
        "row": kernel.traffic.weights / rows,
        "written": kernel.traffic.outputs,
        "hits": 0.0,
    }


def _cpu(kernel: Kernel, vector: float | None, scalar: Size, **told: Size) -> dict[str, Size]:
    """What every form of a CPU asks for; `told` holds what differs."""
    node, work, moved = kernel.lead.node, kernel.lead.work, kernel.traffic
    macs, out = work.macs - work.masked_macs, node.outs[0]
    return {
        "macs": macs, "inner": 1, "outer": 1, "rows": 1, "ragged": 0, "weights": moved.weights,
        "read": moved.inputs + moved.state + moved.workspace, "written": maximum(moved.outputs, 1),
        "work": scalar / vector if vector else 0.0, "steps": 0, "since": 0, "whole": 0,
        "batch": out.shape[0] if out.rank else 1,
        **told,
    }  # fmt: skip


def _cpu_gemm(kernel: Kernel, vector: float | None, scalar: Size) -> dict[str, Size] | None:
    found = _gemm(kernel, vector, scalar)
    assert found is not None
    return _cpu(
        kernel, vector, scalar, rows=found["m"], outer=found["n"], inner=found["k"], batch=found["batch"]
    )


def _cpu_conv(kernel: Kernel, vector: float | None, scalar: Size) -> dict[str, Size] | None:
    found = _conv(kernel, vector, scalar)
    if found is None:
        return None
    taps = found["kh"] * found["kw"]
    c_in, c_out, groups = found["c_in"], found["c_out"], found["groups"]
    ragged: Size = 0
    if not is_symbol(groups) and not agree(groups, 1):
        # kernels in blocks of channels want whole vectors of a group's, or of all where each has its own
        alone = kernel.lead.cost_class == "depthwise"
        ragged = _spare(groups * c_out) if alone else maximum(_spare(c_in), _spare(c_out))
    elif not is_symbol(c_in):
        # fewer channels than a vector holds, as of a picture, have kernels of their own
        ragged = _spare(c_in) * (c_in > VECTOR)
    return _cpu(
        kernel, vector, scalar, rows=found["batch"] * found["out_h"] * found["out_w"], outer=found["c_out"],
        inner=found["c_in"] * taps, c_in=found["c_in"], taps=taps, groups=found["groups"],
        stride=found["stride"], wide=found["out_w"], batch=found["batch"], ragged=ragged,
    )  # fmt: skip


def _spare(channels: Size) -> Size:
    """1 where channels leave a vector partly empty, else 0."""
    return minimum((-channels) % VECTOR, 1)


def _cpu_stream(kernel: Kernel, vector: float | None, scalar: Size) -> dict[str, Size] | None:
    node = kernel.lead.node
    last = node.ins[0] if node.ins else node.outs[0]
    row = last.shape[-1] if last.rank else 1
    found = _cpu(kernel, vector, scalar, row=row)
    # what is looked up comes with the activations
    return {**found, "read": found["read"] + found["weights"], "weights": 0}


def _cpu_attention(kernel: Kernel, vector: float | None, scalar: Size) -> dict[str, Size] | None:
    node = kernel.lead.node
    if node.op.kind != "attention":
        return _cpu(kernel, vector, scalar)
    q, k = node.ins[0], node.ins[1]
    batch, heads, queries, width = q.shape
    op: Any = node.op
    return _cpu(kernel, vector, scalar, batch=batch * heads, rows=queries, outer=op.cached + k.shape[2],
                inner=width)  # fmt: skip


def _cpu_recurrence(kernel: Kernel, vector: float | None, scalar: Size) -> dict[str, Size] | None:
    node = kernel.lead.node
    op: Any = node.op
    x = node.ins[0]
    rows, steps = x.shape[0], op.parallelism(*node.io).depth
    hidden = getattr(op, "hidden_size", x.shape[-1])
    element = _element(x)
    if hasattr(op, "num_layers"):
        # one direction after the other: few cores have nothing to run side by side
        steps, cells = x.shape[1], op.num_layers * op.directions
        serial, again = op.gates * hidden**2, element * op.gates * hidden**2
    else:
        # every product of a step waits for the one before, and what is looked at is read again each step
        cells, serial = 1, kernel.lead.work.macs / (rows * steps)
        again = kernel.traffic.weights + sum([t.nbytes for t in node.ins[1:3]])
    chain = steps * cells
    macs = kernel.lead.work.macs
    return _cpu(
        kernel, vector, scalar, steps=chain, rows=rows, inner=hidden, outer=serial / hidden,
        macs=serial * rows * chain, bulk=maximum(macs - serial * rows * chain, 0), weights=again * chain,
        once=kernel.traffic.weights,
    )  # fmt: skip


def _recurrence(kernel: Kernel, vector: float | None, scalar: Size) -> dict[str, Size] | None:
    node = kernel.lead.node
    op: Any = node.op
    if op.kind not in ("rnn", "lstm", "gru"):
        return None
    x = node.ins[0]
    batch, steps, width = x.shape
    macs = kernel.lead.work.macs
    return {
        "rows": batch, "steps": steps, "layers": op.num_layers, "directions": op.directions, "input": width,
        "hidden": op.hidden_size, "gates": op.gates, "small": 384 if op.kind == "rnn" else 192,
        "halves": int(x.dtype == "fp16" and op.kind != "gru"), "element": _element(x),
        "moved": kernel.traffic.total,
        "products": macs - batch * steps * op.num_layers * op.directions * op.gates * op.hidden_size**2,
        "work": scalar / vector if vector else 0.0,
    }  # fmt: skip


_READERS = {
    "cpu_gemm": _cpu_gemm,
    "cpu_conv": _cpu_conv,
    "cpu_stream": _cpu_stream,
    "cpu_attention": _cpu_attention,
    "cpu_recurrence": _cpu_recurrence,
    "gemm": _gemm,
    "conv": _conv,
    "prefill": _attention,
    "decode": _attention,
    "stream": _stream,
    "recurrence": _recurrence,
    "gather": _gather,
}
