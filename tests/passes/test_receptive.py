"""Receptive fields: published values, formulas by hand, and what a gradient really reaches."""

import pytest

from pharos.graph.graph import Builder
from pharos.models.registry import find
from pharos.ops.conv import Conv2d
from pharos.ops.conv_transpose import ConvTranspose2d
from pharos.ops.elementwise import Add
from pharos.ops.pooling import AvgPool2d
from pharos.passes.receptive import fields, stages


@pytest.mark.parametrize(
    ("name", "sees"),
    # last feature map before the head; as computed for these networks by Araujo et al. 2019, Distill, and
    # by hand for the strides of torchvision's ResNet-50
    [("vgg16", 212), ("resnet18", 435), ("resnet50", 427), ("mobilenet_v2", 491), ("alexnet", 195)],
)
def test_published_fields(name, sees):
    last = [s for s in stages(find(name).graph()) if s.field.size][-1]
    assert last.field.size == (sees, sees)


@pytest.mark.parametrize("depth", [1, 3, 25, 50])
def test_plain_three_by_three_layers_grow_by_two(depth):
    g = Builder("plain")
    x = g.input("x", (1, 1, 200, 200))
    x = g.repeat("layers", depth, lambda g, x: g("conv", Conv2d(1, 1, 3, padding=1), x), x)
    seen = fields(g.finish(x))
    assert max(f.size[0] for f in seen.values()) == 1 + 2 * depth


def small(form):
    g = Builder(form)
    x = g.input("x", (1, 1, 48, 48))
    if form == "dilated":
        x = g("a", Conv2d(1, 1, 3, padding=2, dilation=2), x)
        return g.finish(g("b", Conv2d(1, 1, 3, stride=2, padding=4, dilation=4), x))
    if form == "strided":
        x = g("a", Conv2d(1, 1, (5, 3), stride=(2, 3), padding=(2, 1)), x)
        x = g("b", AvgPool2d(2), x)
        return g.finish(g("c", Conv2d(1, 1, 3, padding=1), x))
    if form == "branches":
        y = g("a", Conv2d(1, 1, 7, padding=3), x)
        return g.finish(g("d", Add(), y, g("c", Conv2d(1, 1, 3, padding=1), x)))
    x = g("a", Conv2d(1, 1, 3, stride=2, padding=1), x)
    x = g("b", Conv2d(1, 1, 3, padding=1), x)
    x = g("up", ConvTranspose2d(1, 1, 2, 2), x)
    return g.finish(g("c", Conv2d(1, 1, 3, padding=1), x))


@pytest.mark.parametrize("form", ["dilated", "strided", "branches", "up"])
def test_a_gradient_reaches_the_field_and_no_further(form):
    torch = pytest.importorskip("torch")
    from pharos.convert.to_torch import to_torch

    graph = small(form)
    module = to_torch(graph)
    for parameter in module.parameters():
        torch.nn.init.ones_(parameter)
    height, width = graph.outputs[0].shape[2:]
    reached = [0, 0]
    # neighbouring outputs may lie differently over the inputs of a finer grid
    for i, j in ((height // 2, width // 2), (height // 2 + 1, width // 2 + 1)):
        x = torch.ones(1, 1, 48, 48, requires_grad=True)
        module(x)[0, 0, i, j].backward()
        touched = x.grad[0, 0].nonzero()
        spans = (touched.max(0).values - touched.min(0).values + 1).tolist()
        reached = [max(a, b) for a, b in zip(reached, spans, strict=True)]
    assert tuple(reached) == fields(graph)[graph.outputs[0].name].size


def test_stages_share_out_all_operations_and_parameters():
    from pharos.graph.count import count

    counted = count(find("resnet50").graph())
    found = stages(counted.graph)
    assert sum(s.macs for s in found) == counted.macs
    assert sum(s.parameters for s in found) == counted.parameters
    assert [s.shape for s in found][-1] == (1000,)


def test_what_has_no_windows_has_no_stages():
    assert stages(find("mlp").graph()) == []
    assert stages(find("gpt2-small").graph()) == []
