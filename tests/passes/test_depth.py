"""The longest chain: by hand, over written-out rounds, and in symbols."""

import pytest
import sympy

from pharos.graph.graph import Builder, Node
from pharos.graph.workload import Workload
from pharos.models.registry import find
from pharos.ops.activation import Activation
from pharos.ops.elementwise import Add
from pharos.ops.linear import Linear
from pharos.passes.depth import depth


def longest(graph):
    """The longest chain of kernels by following every edge of the written-out graph."""
    reached = {v.name: 0 for v in graph.inputs}
    for node in graph.expanded().nodes:
        assert isinstance(node, Node)
        view = node.op.class_of(*node.io) == "view"
        own = 0 if view else node.op.parallelism(*node.io).depth
        for name in node.outputs:
            reached[name] = own + max((reached[i] for i in node.inputs), default=0)
    return max(reached.values())


@pytest.mark.parametrize(
    "name",
    ["mlp", "resnet50", "mobilenet_v2", "gpt2-small", "gemma-2-2b", "llama-4-scout-17b-16e-text", "t5-small", "bert-base",
     "lstm_tagger", "mamba-130m", "dlrm", "densenet121", "unet", "rnnsearch"],
)  # fmt: skip
def test_rounds_are_as_long_as_written_out(name):
    graph = find(name).graph(Workload(context=64))
    assert depth(graph).steps == longest(graph)


def test_by_hand():
    g = Builder("fork")
    x = g.input("x", (2, 4))
    y = g("b", Activation(), g("a", Linear(4, 4), x))
    z = g("c", Linear(4, 4), x)
    found = depth(g.finish(g("d", Add(), y, z)))
    # a, b, d; four operators of 2 x 4 results in three steps
    assert (found.steps, found.results, found.widest) == (3, 32, 8)
    assert found.parallelism == pytest.approx(32 / 3)


def test_a_recurrence_is_as_long_as_its_sequence_and_attention_is_not():
    tagger, gpt = find("lstm_tagger"), find("gpt2-small")
    steps = [depth(tagger.graph(Workload(context=n))).steps for n in (10, 1000)]
    assert steps[1] - steps[0] == 990
    assert len({depth(gpt.graph(Workload(context=n))).steps for n in (10, 1000)}) == 1
    n = sympy.Symbol("n", integer=True, positive=True)
    assert sympy.expand(depth(tagger.graph(Workload(context=n))).steps - n).is_number
