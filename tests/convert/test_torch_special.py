"""Calls of PyTorch that are rare: graphs run against the module, stated work against loops, buffers as weights."""

import copy

import pytest

import pharos
from pharos.convert.to_torch import to_torch
from pharos.graph.count import count

torch = pytest.importorskip("torch")

from pharos.convert.torch_rules import RULES, find_rule, rule  # noqa: E402

nn, F = torch.nn, torch.nn.functional


class Of(nn.Module):
    """A function as a module."""

    def __init__(self, call):
        super().__init__()
        self.call = call

    def forward(self, x):
        return self.call(x)


def turned(x):
    angles = torch.polar(torch.ones_like(x), x)
    pairs = torch.view_as_complex(torch.stack([x, x + 1], -1))
    return torch.view_as_real(pairs * angles).flatten(-2)


COMPOSED = {
    "rotary by complex numbers": turned,
    "spectrum": lambda x: torch.fft.rfft(x, dim=1).abs(),
    "spectrum of two dimensions": lambda x: torch.fft.fft2(x, norm="ortho").real,
    "transform of a transform": lambda x: torch.fft.fft(torch.fft.fft(x, dim=-1), dim=1).real,
    "back again": lambda x: torch.fft.ifft(torch.fft.fft(x, dim=1), dim=1).real,
    "conjugate": lambda x: torch.conj(torch.complex(x, x * 2)).resolve_conj().imag,
    "a part of complex numbers": lambda x: torch.complex(x, -x).transpose(0, 1)[1:, :, 2].real,
    "joined": lambda x: torch.view_as_real(torch.cat([torch.complex(x, x), torch.complex(x, -x)], 1).sum(1)),
    "difference": lambda x: torch.view_as_real(torch.complex(x, x) - torch.complex(x, -x)),
    "logit": lambda x: torch.logit(x.sigmoid(), eps=1e-3),
    "log2": lambda x: torch.log2(x.abs() + 1) + torch.log10(x.abs() + 1) + torch.exp2(x),
    "mean of squares": lambda x: F.mse_loss(x, x.flip(1)),
    "distances": lambda x: torch.cdist(x.repeat(1, 8, 1), x, compute_mode="use_mm_for_euclid_dist"),
    "one slice replaced": lambda x: torch.select_scatter(x, x[:, 0] * 2, 1, 2),
    "overlapping windows": lambda x: x.transpose(1, 2).contiguous().as_strided((2, 5, 4), (24, 4, 1)),
    "windows of a turned tensor": lambda x: (x + 1).transpose(1, 2).as_strided((2, 3, 4), (24, 6, 1)),
    "product with a vector": lambda x: F.linear(x, x[0, 0]),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_a_graph_of_rare_calls_gives_what_the_module_gives(name):
    torch.manual_seed(0)
    module, x = Of(COMPOSED[name]), torch.randn(2, 4, 6)
    graph = pharos.trace(module, x).graph()
    assert not count(graph).uncounted
    made = to_torch(graph)(x)
    torch.testing.assert_close(made, module(x), rtol=2e-4, atol=2e-4)


def substitutions(n, columns, unit):
    """(products, divisions) of solving L y = b row by row."""
    products = divisions = 0
    for _ in range(columns):
        for i in range(n):
            products += i
            divisions += not unit
    return products, divisions


@pytest.mark.parametrize("unit", [False, True])
def test_a_triangular_solve_costs_its_substitutions(unit):
    class Solve(nn.Module):
        def forward(self, a, b):
            return torch.linalg.solve_triangular(a, b, upper=False, unitriangular=unit)

    counted = count(pharos.trace(Solve(), torch.randn(3, 5, 5), torch.randn(3, 5, 7)).graph())
    products, divisions = substitutions(5, 3 * 7, unit)
    assert (counted.macs, counted.work.vector_flops) == (products, divisions)
    assert not counted.uncounted


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.cummax(1)[0],
        lambda x: x.cummin(1)[1],
        lambda x: torch.fft.irfft(torch.fft.rfft(x, dim=1), dim=1),
        lambda x: torch.erfinv(x.tanh()),
        lambda x: x.median(1)[0],
        lambda x: torch.multinomial(x[0].softmax(-1), 2),
    ],
)
def test_calls_with_stated_work_are_counted(call):
    counted = count(pharos.trace(Of(call), torch.randn(2, 4, 6)).graph())
    assert not counted.uncounted
    assert counted.macs == 0


def test_a_buffer_that_is_multiplied_or_looked_up_is_no_parameter():
    class Codes(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", torch.randn(10, 4))
            self.own = nn.Linear(4, 3)
            self.kept = torch.randn(4, 4)

        def forward(self, ids):
            x = F.embedding(ids, self.table) @ self.table.T @ self.table
            return self.own(F.linear(x, self.kept))

    module = Codes()
    counted = count(pharos.trace(module, torch.ones(2, 5, dtype=torch.long)).graph())
    assert counted.parameters == sum(p.numel() for p in module.parameters()) == 15
    assert counted.macs == 10 * (4 * 10 + 10 * 4 + 4 * 4 + 4 * 3)


def test_a_copied_tensor_and_a_norm_of_a_turned_one_run_as_they_do_with_data():
    class Copied(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(4)

        def forward(self, x):
            y = self.norm(x.transpose(1, 2)).view(2, -1)
            return copy.deepcopy(y.detach()) + 1

    module, x = Copied(), torch.randn(2, 4, 6)
    graph = pharos.trace(module, x).graph()
    assert not graph.meta.get("one_run")
    assert graph.outputs[0].shape == tuple(module(x).shape)


def test_hooks_of_a_run_that_fails_are_gone():
    class Hooked(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = nn.Identity()
            self.set = False

        def forward(self, x):
            if not self.set:
                self.part.register_forward_hook(lambda *_: None)
                self.set = True
            if x.shape[1] == 3:
                raise ValueError("three")
            return self.part(x)

    module = Hooked()
    with pytest.raises(pharos.PharosError, match="three"):
        pharos.trace(module, torch.ones(2, 3)).graph()
    assert not module.part._forward_hooks
    assert not module.set


def test_a_name_has_one_rule():
    find_rule("aten::mm")
    with pytest.raises(ValueError, match="aten::mm has a rule"):
        rule("mm")(lambda r: None)
    with pytest.raises(ValueError, match="aten::triu has a rule"):
        rule("aten::triu")(lambda r: None)
    assert RULES["aten::triu"].__name__ == "_upper"
