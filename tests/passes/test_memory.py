"""Memory: liveness against an independent storage count, arenas against the definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pharos.graph.graph import Builder
from pharos.graph.workload import Workload
from pharos.models.registry import find
from pharos.ops.activation import Activation
from pharos.ops.elementwise import Add
from pharos.ops.linear import Linear
from pharos.passes.memory import arena, liveness


def chain(widths, skips):
    """Linear layers, some with a residual around them."""
    g = Builder("chain")
    x = g.input("x", (1, widths[0]))
    for i, (width, skip) in enumerate(zip(widths[1:], skips, strict=False)):
        y = g(f"l{i}", Linear(x.shape[1], width), x)
        y = g(f"a{i}", Activation(), y)
        x = g(f"s{i}", Add(), x, y) if skip and x.shape[1] == width else y
    return g.finish(x)


def test_by_hand():
    # x 4 floats; l0 8, then a0 8 while l0 lives, then l1 2 while a0 lives
    graph = chain([4, 8, 2], [False, False])
    assert [v // 4 for v in liveness(graph).live] == [4 + 8, 8 + 8, 8 + 2, 2 + 2]
    # in place the activations cost nothing
    assert [v // 4 for v in liveness(graph, in_place=True).live] == [4 + 8, 8, 8 + 2, 2]


@settings(max_examples=60)
@given(
    widths=st.lists(st.sampled_from([2, 4, 8, 16]), min_size=2, max_size=8),
    skips=st.lists(st.booleans(), min_size=8, max_size=8),
    in_place=st.booleans(),
)
def test_arenas_never_overlap_and_hold_the_peak(widths, skips, in_place):
    graph = chain(widths, skips)
    placed = arena(graph, alignment=4, in_place=in_place)
    for a in placed.placements:
        assert a.offset % 4 == 0
        assert a.offset + a.nbytes <= placed.size
        for b in placed.placements:
            if a is not b and a.first <= b.last and b.first <= a.last:
                assert a.offset + a.nbytes <= b.offset or b.offset + b.nbytes <= a.offset
    assert placed.size >= placed.bound == liveness(graph, in_place=in_place).peak


def test_folded_repeats_have_the_peak_of_the_layers_written_out():
    for name in ("resnet50", "gpt2-small", "ds_cnn_s"):
        graph = find(name).graph()
        assert liveness(graph).peak == liveness(graph.expanded()).peak


def test_ds_cnn_arena_is_the_textbook_microcontroller_plan():
    """Two feature maps of 64 x 25 x 5 int8 live together; a runtime adds nothing to that."""
    graph = find("ds_cnn_s").graph(Workload(precision="int8"))
    placed = arena(graph)
    assert placed.bound == 2 * 64 * 25 * 5
    assert placed.size == 2 * 64 * 25 * 5


def test_array_sizes():
    batches = np.array([1, 2, 4])
    peak = liveness(find("resnet18").graph(Workload(batch=batches))).peak
    one = liveness(find("resnet18").graph()).peak
    assert peak.tolist() == [one * b for b in batches]


def test_peak_against_storages_really_allocated():
    """The largest sum of live storages when the same layers run eagerly in PyTorch."""
    torch = pytest.importorskip("torch")
    import weakref

    from torch.utils._python_dispatch import TorchDispatchMode

    class Storages(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.live, self.now, self.peak = {}, 0, 0

        def hold(self, tensor):
            storage = tensor.untyped_storage()
            if storage._cdata in self.live:
                return
            self.live[storage._cdata] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.drop, storage._cdata)

        def drop(self, key):
            self.now -= self.live.pop(key)

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                self.hold(out)
            return out

    nn = torch.nn
    layers = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
                           nn.Conv2d(32, 8, 1), nn.ReLU())  # fmt: skip
    from pharos.ops.conv import Conv2d

    g = Builder("same")
    x = g.input("x", (2, 3, 32, 32))
    for i, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2d):
            k, s, p = layer.kernel_size[0], layer.stride[0], layer.padding[0]
            x = g(f"c{i}", Conv2d(layer.in_channels, layer.out_channels, k, s, p), x)
        else:
            x = g(f"a{i}", Activation(), x)
    with torch.no_grad(), Storages() as seen:
        y = torch.randn(2, 3, 32, 32)
        for layer in layers:
            y = layer(y)
    assert liveness(g.finish(x)).peak == seen.peak
