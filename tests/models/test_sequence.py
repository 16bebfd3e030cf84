"""Small networks over sequences: counts by hand, what is kept between steps, PyTorch's own modules."""

import pytest

from pharos.graph.count import count
from pharos.graph.workload import Workload
from pharos.models.registry import find
from pharos.models.sequence import field_of
from pharos.quantity.errors import PharosError


def counted(name, **work):
    return count(find(name).graph(Workload(**work)))


def test_the_transformer_by_hand():
    d, layers = 128, 4
    own = layers * (12 * d * d + 13 * d)
    whole = own + 2 * d + (40 * d + d) + (12 * d + 12)
    assert counted("sequence_transformer").parameters == whole
    n = 50
    macs = n * 40 * d + layers * (12 * n * d * d + 2 * n * n * d) + d * 12
    assert counted("sequence_transformer", context=n).macs == macs


def test_the_ssm_by_hand():
    d, layers, states = 128, 4, 16
    wide, rank = 2 * d, d // 16
    mixer = d * 2 * wide + wide * 4 + wide + wide * (rank + 2 * states) + rank * wide + wide
    mixer += wide * states + wide + wide * d + d
    assert counted("sequence_ssm").parameters == layers * mixer + d + (40 * d + d) + 12 * d + 12


def test_the_field_of_a_dilated_stack():
    """Seen by differences: a step farther away than the field changes nothing."""
    torch = pytest.importorskip("torch")
    from pharos.convert.to_torch import to_torch

    layers, kernel = 3, 3
    graph = find(f"sequence_cnn(features=4, hidden=4, layers={layers}, kernel={kernel}, each=True)").graph(
        Workload(context=41)
    )
    module = to_torch(graph).double().eval()
    x = torch.randn(1, 41, 4, dtype=torch.float64, requires_grad=True)
    module(x)[0, 20].sum().backward()
    seen = (x.grad.abs().sum(-1)[0] > 0).nonzero().flatten()
    assert field_of(layers, kernel) == 15
    assert seen.min() >= 20 - 7
    assert seen.max() <= 20 + 7


def test_parameters_are_those_of_torch_modules():
    torch = pytest.importorskip("torch")
    lstm = torch.nn.LSTM(40, 128, 2)
    head = torch.nn.Linear(128, 12)
    expected = sum(p.numel() for m in (lstm, head) for p in m.parameters())
    assert counted("sequence_rnn").parameters == expected


@pytest.mark.parametrize("name", ["sequence_rnn", "sequence_ssm"])
def test_a_state_does_not_grow(name):
    short, long = (counted(name, phase="decode", context=n).state_bytes for n in (10, 10_000))
    assert short == long > 0


def test_a_cache_does():
    short, long = (counted("sequence_transformer", phase="decode", context=n).state_bytes for n in (100, 200))
    # K and V of 4 layers of width 128 in fp32
    assert (short, long) == (4 * 2 * 128 * 4 * 100, 4 * 2 * 128 * 4 * 200)


@pytest.mark.parametrize(
    "name",
    ["sequence_rnn(cell='lst')", "sequence_cnn(kernel=4)", "sequence_transformer(hidden=100, heads=3)"],
)
def test_sizes_that_make_no_network(name):
    with pytest.raises(PharosError):
        find(name).graph()
