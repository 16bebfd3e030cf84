"""Runs without data in which some numbers are known: what they decide goes as it does on real tensors."""

import pytest

from pharos.convert.from_torch import trace
from pharos.graph.count import count

torch = pytest.importorskip("torch")


class Masked(torch.nn.Module):
    """Asks for the numbers of its whole-number input, and computes with a weight what it picks by them."""

    def __init__(self):
        super().__init__()
        self.proj = torch.nn.Linear(4, 4)

    def forward(self, ids, x):
        mask = ids == 1
        y = self.proj(x)
        y[mask] = x[mask] * 2
        filled = y.masked_scatter(mask.unsqueeze(-1), x[mask])
        lengths = (ids > 0).sum(-1)
        rows = [filled[i, :n] for i, n in enumerate(lengths.tolist())]
        longest = torch.zeros(2, int(lengths.max()))
        longest[0, 0] = 7
        picked = torch.masked_select(filled, mask.unsqueeze(-1))
        return (
            *rows, longest, picked, mask.nonzero(), torch.repeat_interleave(lengths),
            filled.repeat_interleave(2, dim=1), filled.repeat_interleave(lengths, dim=0), filled[:, :0],
            torch.nan_to_num(filled), torch.eye(3),
        )  # fmt: skip


def test_shapes_are_those_of_a_run_on_data():
    ids, x = torch.tensor([[1, 3, 0], [1, 1, 2]]), torch.randn(2, 3, 4)
    module = Masked()
    wanted = [tuple(t.shape) for t in module(ids, x)]
    graph = trace(module.to("meta"), ids, x).graph()
    assert [v.tensor.shape for v in graph.outputs] == wanted
    assert not [n.op for n, _, _ in graph.walk() if n.op.kind == "unknown"]
    # one product of the six rows with the weight, and nothing else
    assert count(graph).macs == 6 * 16


def test_the_inputs_and_buffers_stay_as_they_are():
    class Counts(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros((), dtype=torch.long))

        def forward(self, ids):
            self.seen += ids.sum()
            ids += 1
            return ids[: int(self.seen)]

    module, ids = Counts(), torch.tensor([1, 2, 0, 0, 0])
    graph = trace(module, ids).graph()
    assert graph.outputs[0].tensor.shape == (3,)
    assert ids.tolist() == [1, 2, 0, 0, 0]
    assert int(module.seen) == 0


def test_what_follows_from_weights_is_not_known():
    class Asks(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.proj = torch.nn.Linear(4, 1)

        def forward(self, x):
            return x[: int((self.proj(x) > 0).sum())]

    with pytest.raises(Exception, match="depends on data"):
        trace(Asks().to("meta"), torch.randn(3, 4)).graph()
