"""Gradients of every operator: products against a counter, saved tensors against autograd, readings."""

import numpy as np
import pytest
from draws import Draws, arrays, floating, node_of, past, readings_agree, tuple_of
from hypothesis import given, settings
from hypothesis import strategies as st

from pharos.graph.op import REGISTRY, Op
from pharos.graph.tensor import Tensor
from pharos.ops import load_all
from pharos.ops.attention import Attention
from pharos.ops.cross import Cross

load_all()
RUN = {kind for kind, cls in REGISTRY.items() if cls.sample.__func__ is not Op.sample.__func__}
KINDS = sorted(RUN - {"declared"})
# Their PyTorch form runs through products that torch.utils.flop_counter knows, and nothing is done twice.
COUNTED = [
    "conv1d", "conv2d", "conv_transpose2d", "causal_conv", "cross", "expert_linear", "gru", "linear",
    "mat_mul", "pairwise_interaction", "rnn", "router", "attention",
]  # fmt: skip
# Their PyTorch form is one autograd kernel, which saves what the rule says and nothing else.
ONE_KERNEL = [
    "activation", "add", "clamp", "div", "maximum", "minimum", "embedding", "group_norm", "layer_norm", "linear", "mat_mul", "mul",
    "softmax", "sub", "conv1d", "conv2d", "conv_transpose2d", "concat", "reshape", "flatten", "transpose",
    "slice", "split", "pad", "expand", "global_avg_pool",
]  # fmt: skip


def drawn(kind, data):
    op, tensors = REGISTRY[kind].sample(Draws(data))
    inputs, stored = arrays(op, tensors, data.draw(st.integers(0, 2**16)))
    floats = [np.issubdtype(x.dtype, np.floating) for x in inputs]
    wanted = [f and data.draw(st.booleans()) for f in floats]
    return op, tensors, inputs, stored, wanted


def called(torch, op, inputs, stored, wanted):
    """(outputs, inputs, module) of a call in float32 whose weights and wanted inputs take gradients."""
    module = op.torch(torch)
    if isinstance(module, torch.nn.Module):
        module = module.float().train()
        state = {k: torch.tensor(v, dtype=torch.float32) for k, v in stored.items()}
        module.load_state_dict(state, strict=False)
    values = [torch.tensor(x) if x.dtype.kind in "ib" else torch.tensor(x).float() for x in inputs]
    for value, want in zip(values, wanted, strict=True):
        value.requires_grad_(want)
    kept = {k: torch.tensor(v).float() for k, v in past(op, inputs).items()}
    return tuple_of(module(*values, **kept)), values, module


@pytest.mark.parametrize("kind", COUNTED)
@settings(max_examples=30)
@given(data=st.data())
def test_products_are_those_a_counter_sees(kind, data):
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    op, tensors, inputs, stored, wanted = drawn(kind, data)
    if isinstance(op, Attention) and (op.algorithm == "tiled" or op.pattern != "full" or op.latent):
        return
    if isinstance(op, Cross) and op.form == "vector":
        return
    with FlopCounterMode(display=False) as counter:
        outputs, _, _ = called(torch, op, inputs, stored, wanted)
    node = node_of(op, tensors)
    assert counter.get_total_flops() == 2 * op.work(*node.io).macs
    outputs = [y for y in outputs if y.requires_grad]
    if not outputs:
        return
    total = sum(y.sum() for y in outputs)
    with FlopCounterMode(display=False) as counter:
        total.backward()
    expected = 2 * op.gradient(wanted, *node.io).macs
    seen = counter.get_total_flops()
    if "conv" in kind and getattr(op, "algorithm", "direct") == "direct":
        # the counter takes the kernel's gradient of a grouped convolution for that of a full one
        groups = op.channels if kind == "causal_conv" else op.groups
        one = expected // (1 + wanted[0])
        seen -= one * (groups - 1)
    assert seen == expected


def autograd_bytes(torch, op, inputs, stored, wanted):
    """Bytes that autograd holds after a call, each storage once, without parameters and buffers."""
    held = {}

    def pack(tensor):
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        outputs, values, module = called(torch, op, inputs, stored, wanted)
    if isinstance(module, torch.nn.Module):
        for tensor in (*module.parameters(), *module.buffers()):
            held.pop(tensor.untyped_storage().data_ptr(), None)
    del outputs, values
    return sum(held.values())


def rule_bytes(op, node):
    kept = op.saved(*node.io)
    tensors = [node.ins[i] for i in kept.inputs] + [node.outs[i] for i in kept.outputs]
    return sum(t.nbytes for t in (*tensors, *kept.extra.values()))


@pytest.mark.parametrize("kind", ONE_KERNEL)
@settings(max_examples=30)
@given(data=st.data())
def test_saved_is_what_autograd_saves(kind, data):
    torch = pytest.importorskip("torch")
    op, tensors, inputs, stored, _ = drawn(kind, data)
    if (kind == "conv2d" and op.algorithm != "direct") or (kind == "pad" and op.mode != "constant"):
        # written out step by step in PyTorch, which keeps the intermediates
        return
    if getattr(op, "rounding", "") or getattr(op, "function", "") == "logsigmoid":
        # autograd keeps what a derivative of zero does not need, and a buffer on CPUs alone
        return
    wanted = [x.dtype.kind not in "ib" for x in inputs]
    found = autograd_bytes(torch, op, inputs, stored, wanted)
    assert rule_bytes(op, node_of(op, tensors)) == found


# Attention of a handful of tokens has fewer probabilities than statistics: see below. What dispatch keeps
# depends on which picks found a slot.
APART = {"attention", "dispatch"}


@pytest.mark.parametrize("kind", sorted(set(KINDS) - set(ONE_KERNEL) - APART))
@settings(max_examples=20)
@given(data=st.data())
def test_a_fused_kernel_saves_no_more_than_autograd_does_step_by_step(kind, data):
    torch = pytest.importorskip("torch")
    op, tensors, inputs, stored, _ = drawn(kind, data)
    wanted = [x.dtype.kind not in "ib" for x in inputs]
    if kind == "batch_norm" and inputs[0].size == op.num_features:
        # a single value a channel has no variance: PyTorch refuses to train on it
        return
    found = autograd_bytes(torch, op, inputs, stored, wanted)
    assert rule_bytes(op, node_of(op, tensors)) <= found


def test_tiled_attention_saves_what_the_fused_kernel_saves():
    torch = pytest.importorskip("torch")
    op = Attention(causal=True)
    tensors = [Tensor((2, 3, 40, 16))] * 3
    inputs, _ = arrays(op, tensors, 0)
    held = {}

    def pack(tensor):
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    values = [torch.tensor(x).float().requires_grad_(True) for x in inputs]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        y = torch.nn.functional.scaled_dot_product_attention(*values, is_causal=True)
    assert "flash" in str(y.grad_fn).lower()
    assert rule_bytes(op, node_of(op, tensors)) == sum(held.values())


def figures(op, tensors, wanted):
    node = node_of(op, tensors)
    work, moved, trained = (
        op.gradient(wanted, *node.io), op.gradient_traffic(wanted, node), op.training_work(*node.io)
    )  # fmt: skip
    found = {f"{k}": getattr(work, k) for k in ("macs", "vector_flops", "transcendentals")}
    found |= {f"moved.{k}": getattr(moved, k) for k in ("weights", "inputs", "outputs", "state")}
    found |= {"trained": trained.vector_flops, "saved": rule_bytes(op, node)}
    return found


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(data=st.data())
def test_the_three_readings_of_gradients_agree(kind, data):
    cls, draws = REGISTRY[kind], Draws(data)
    _, tensors = cls.sample(draws)
    wanted = [floating(t) and data.draw(st.booleans()) for t in tensors]
    more = [[data.draw(st.integers(low, high)) for _, low, high in draws.sizes]]
    readings_agree(cls, draws, more, lambda op, tensors: figures(op, tensors, wanted))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(data=st.data())
def test_what_is_not_wanted_costs_nothing_more(kind, data):
    op, tensors = REGISTRY[kind].sample(Draws(data))
    node = node_of(op, tensors)
    floats = [floating(t) for t in tensors]
    whole, none = op.gradient(floats, *node.io), op.gradient([False] * len(floats), *node.io)
    assert none.macs <= whole.macs
    assert none.vector_flops <= whole.vector_flops
    assert min(none.macs, none.vector_flops, none.transcendentals) >= 0
