"""Every registered operator, over random configurations: loops, PyTorch, MACs and the three readings."""

import numpy as np
import pytest
from draws import Draws, arrays, figures, node_of, past, readings_agree, tuple_of
from hypothesis import given, settings
from hypothesis import strategies as st

from pharos.graph import op as vocabulary
from pharos.graph.op import REGISTRY, Op, Tally
from pharos.graph.tensor import Tensor
from pharos.ops import load_all
from pharos.quantity.errors import SizeError

load_all()
# What has no form that runs, such as a stand-in for an operator without a rule, has nothing to compare.
RUN = {kind for kind, cls in REGISTRY.items() if cls.sample.__func__ is not Op.sample.__func__}
KINDS = sorted(RUN - {"declared"})
PRIMITIVES = {
    vocabulary.MATMUL, vocabulary.SLIDING_WINDOW, vocabulary.DYNAMIC, vocabulary.SEQUENTIAL,
    vocabulary.STRIDED, vocabulary.RANDOM, vocabulary.BROADCAST, vocabulary.SCATTER, vocabulary.GATHER,
    vocabulary.REDUCE,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(data=st.data())
def test_loops_equal_pytorch_and_count_their_macs(kind, data):
    torch = pytest.importorskip("torch")
    op, tensors = REGISTRY[kind].sample(Draws(data))
    inputs, stored = arrays(op, tensors, data.draw(st.integers(0, 2**16)))
    tally, kept = Tally(), past(op, inputs)
    ours = tuple_of(op.loops(tally, *inputs, **kept, **stored))
    node = node_of(op, tensors)
    assert tally.macs == op.work(*node.io).macs
    module = op.torch(torch)
    if isinstance(module, torch.nn.Module):
        module = module.double().eval()
        state = {k: torch.tensor(v) for k, v in stored.items()}
        missing, unexpected = module.load_state_dict(state, strict=False)
        assert not unexpected
        assert all("num_batches_tracked" in name for name in missing)
    with torch.no_grad():
        theirs = tuple_of(
            module(*[torch.tensor(x) for x in inputs], **{k: torch.tensor(v) for k, v in kept.items()})
        )
    assert len(ours) == len(theirs) == len(node.outs)
    for a, b, t in zip(ours, theirs, node.outs, strict=True):
        assert tuple(a.shape) == tuple(b.shape) == t.shape
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(data=st.data())
def test_the_three_readings_agree(kind, data):
    cls, draws = REGISTRY[kind], Draws(data)
    cls.sample(draws)
    more = [[data.draw(st.integers(low, high)) for _, low, high in draws.sizes] for _ in range(2)]
    readings_agree(cls, draws, more, figures)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(data=st.data())
def test_traffic_and_primitives(kind, data):
    op, tensors = REGISTRY[kind].sample(Draws(data))
    node = node_of(op, tensors)
    moved = op.traffic(node)
    if op.class_of(*node.io) == "view":
        assert moved.total == 0
    elif kind == "overwrite":
        # in place: only the part is read and written
        assert moved.inputs == moved.outputs == node.ins[1].nbytes
    else:
        assert moved.inputs == sum(t.nbytes for t in node.ins)
        assert moved.outputs == sum(t.nbytes for t in node.outs)
        assert 0 <= moved.weights <= node.weight_bytes + node.buffer_bytes
        if type(op).traffic is Op.traffic:
            assert moved.weights == node.weight_bytes + node.buffer_bytes
            assert moved.state == 2 * node.state_bytes
            assert moved.workspace == 0
    handled = op.primitives(*node.io)
    assert set(handled) <= PRIMITIVES
    assert all(v >= 0 for v in handled.values())


@pytest.mark.parametrize(
    "kind",
    sorted(
        set(KINDS)
        - {
            "activation",
            "cast",
            "clone",
            "supplied",
            "add",
            "sub",
            "mul",
            "div",
            "pow",
            "maximum",
            "minimum",
            "clamp",
            "reshape",
            "embedding",
            "expand",
            "stored",
            "compare",
            "logical",
            "predicate",
            "prelu",
            "mod",
            "arange",
            "full",
            "one_hot",
            "kept",
            "kept_state",
            "where",
        }
    ),
)
def test_a_wrong_rank_names_the_operator(kind):
    """A rank no operator here takes; those left out take any."""
    rng = np.random.default_rng(0)

    class Pick:
        def size(self, low, high):
            return int(rng.integers(low, high + 1))

        int = size

        def choice(self, options):
            return next(iter(options))

    op, tensors = REGISTRY[kind].sample(Pick())
    with pytest.raises(SizeError) as caught:
        op.shape(*([Tensor((), t.dtype) for t in tensors] or [Tensor(())]))
    assert type(op).__name__ in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_every_operator_says_what_it_is(kind):
    cls = REGISTRY[kind]
    assert cls.__doc__, kind
    assert len(cls.__doc__.split("\n")[0]) > 5
