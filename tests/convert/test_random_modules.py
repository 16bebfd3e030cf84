"""Random networks of torch layers: counts against PyTorch's own counter, and the graph run against the module."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pharos
from pharos.convert.to_torch import to_torch
from pharos.graph.count import count

torch = pytest.importorskip("torch")
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

nn, F = torch.nn, torch.nn.functional


class Steps(nn.Module):
    """Steps one after another on a list of tensors; modules among them are registered."""

    def __init__(self, steps):
        super().__init__()
        self.parts = nn.ModuleList([part for _, part in steps if part is not None])
        self.steps = []
        at = 0
        for call, part in steps:
            self.steps.append((call, None if part is None else at))
            at += part is not None

    def forward(self, x):
        for call, at in self.steps:
            x = call(x) if at is None else call(x, self.parts[at])
        return x


def plain(x, part):
    return part(x)


class Bag:
    """Draws steps, knowing the shape that arrives at each."""

    def __init__(self, draw):
        self.draw, self.steps = draw, []
        # what PyTorch's counter does not see: the fused recurrences and attention of the CPU are run on meta
        self.shape: tuple[int, ...] = ()

    def pick(self, *options):
        return self.draw(st.sampled_from(options))

    def int(self, low, high):
        return self.draw(st.integers(low, high))

    def add(self, call, part=None):
        self.steps.append((call, part))

    # -- images [b, c, h, w]

    def conv(self, n):
        c = self.shape[1]
        groups = self.pick(*[g for g in (1, 2, c) if c % g == 0])
        out = groups * self.int(1, 3)
        kernel = [self.int(1, min(3, s)) for s in self.shape[2:]]
        padding = [self.int(0, k // 2) for k in kernel]
        made = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[n]
        same = self.pick(False, False, True)
        if same:
            part = made(
                c,
                out,
                kernel,
                1,
                "same",
                groups=groups,
                padding_mode=self.pick("zeros", "circular", "replicate"),
            )
        else:
            dilation = [self.pick(1, 2) if 2 * (k - 1) < s + 2 * p else 1
                        for k, s, p in zip(kernel, self.shape[2:], padding, strict=True)]  # fmt: skip
            part = made(c, out, kernel, self.int(1, 2), padding, dilation, groups, self.pick(True, False))
        self.add(plain, part)

    def transposed(self, n):
        c = self.shape[1]
        groups = self.pick(*[g for g in (1, 2) if c % g == 0])
        made = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[n]
        stride = self.int(1, 2)
        part = made(c, groups * self.int(1, 2), self.int(1, 3), stride, 0, self.int(0, stride - 1), groups,
                    self.pick(True, False), 1)  # fmt: skip
        self.add(plain, part)

    def norm(self, n):
        c = self.shape[1]
        batch = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[n]
        instance = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[n]
        options = [batch(c), batch(c, affine=False), nn.GroupNorm(1, c), nn.GroupNorm(c, c)]
        if all(s > 1 for s in self.shape[2:]):
            options.append(instance(c, affine=self.pick(True, False)))
        if n == 2:
            options += [nn.LayerNorm(self.shape[1:]), nn.LocalResponseNorm(3)]
        self.add(plain, self.pick(*options))

    def pool(self, n):
        sides = self.shape[2:]
        if min(sides) < 3:
            return self.add(plain, getattr(nn, f"AdaptiveAvgPool{n}d")(1))
        kind = self.pick("Max", "Avg", "AdaptiveAvg", "AdaptiveMax", "LPPool", "interpolate")
        if kind == "interpolate":
            mode = self.pick("nearest", {1: "linear", 2: "bilinear", 3: "trilinear"}[n])
            return self.add(lambda x: F.interpolate(x, scale_factor=2, mode=mode))
        if kind.startswith("Adaptive"):
            return self.add(plain, getattr(nn, f"{kind}Pool{n}d")(self.int(1, min(sides))))
        if kind == "LPPool":
            return self.add(plain, nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False) if n == 2
                            else getattr(nn, f"MaxPool{n}d")(2, ceil_mode=True))  # fmt: skip
        kernel = self.int(2, 3)
        return self.add(plain, getattr(nn, f"{kind}Pool{n}d")(kernel, self.int(1, 2), self.int(0, 1)))

    def squeeze(self, n):
        c = self.shape[1]

        class Gate(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Sequential(nn.Linear(c, 2), nn.ReLU(True), nn.Linear(2, c), nn.Sigmoid())

            def forward(self, x):
                y = x.mean(dim=tuple(range(2, x.dim())))
                return x * self.fc(y)[(..., *[None] * (x.dim() - 2))]

        self.add(plain, Gate())

    # -- sequences [b, t, d]

    def linear(self):
        self.add(plain, nn.Linear(self.shape[-1], self.int(1, 6), self.pick(True, False)))

    def attention(self):
        d = self.shape[-1]
        heads = self.pick(*[h for h in (1, 2, 4) if d % h == 0])
        how = self.int(0, 3)
        if how == 0:
            part = nn.MultiheadAttention(d, heads, batch_first=True, bias=self.pick(True, False))
            weights = self.pick(True, False)
            self.add(lambda x, part: part(x, x, x, need_weights=weights)[0], part)
        elif how == 1:
            self.add(plain, nn.TransformerEncoderLayer(d, heads, 7, batch_first=True, norm_first=self.pick(True, False),
                                                       activation=self.pick("relu", "gelu")))  # fmt: skip
        elif how == 2:
            causal = self.pick(True, False)

            def call(x, part):
                q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in part(x).chunk(3, -1))
                return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)

            self.add(call, nn.Linear(d, 3 * d))
        else:

            def masked(x, part):
                q, k, v = part(x).split(d, -1)
                n = x.shape[1]
                scores = torch.baddbmm(
                    torch.zeros(x.shape[0], n, n), q, k.transpose(1, 2), beta=0, alpha=d**-0.5
                )
                hidden = torch.ones(n, n, dtype=torch.bool).triu(1)
                return torch.einsum("bij,bjd->bid", scores.masked_fill(hidden, float("-inf")).softmax(-1), v)

            self.add(masked, nn.Linear(d, 3 * d))

    def recurrent(self):
        kind = self.pick(nn.LSTM, nn.GRU, nn.RNN)
        both, first = self.pick(True, False), self.pick(True, False)
        part = kind(self.shape[-1], self.int(1, 4), self.int(1, 2), bias=self.pick(True, False), batch_first=first,
                    bidirectional=both)  # fmt: skip
        last = self.pick(True, False)

        def call(x, part):
            y, state = part(x)
            state = state[0] if isinstance(state, tuple) else state
            return y + state.mean() if last else y

        self.add(call, part)

    def sequence_norm(self):
        d = self.shape[-1]
        self.add(
            plain,
            self.pick(
                nn.LayerNorm(d), nn.RMSNorm(d), nn.LayerNorm(d, elementwise_affine=False), nn.Softmax(-1)
            ),
        )

    # -- anything

    def pointwise(self):
        part = self.pick(nn.ReLU(), nn.ReLU(inplace=True), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Hardswish(),
                         nn.Sigmoid(), nn.Tanh(), nn.LeakyReLU(0.2), nn.ELU(), nn.Softplus(), nn.Mish(), nn.ReLU6(),
                         nn.Hardsigmoid(), nn.PReLU(), nn.Dropout(0.3), nn.Identity(), nn.CELU(), nn.SELU(),
                         nn.Softsign(), nn.Hardtanh(), nn.Threshold(0.1, 0.5), nn.LogSigmoid(), nn.Tanhshrink(),
                         nn.Softshrink(), nn.Hardshrink(), nn.Softplus(2.0))  # fmt: skip
        self.add(plain, part)

    def arithmetic(self):
        def written_over(x):
            y = x.clone()
            y[:, :1] = y[:, -1:] * 2
            y[..., 0] += 1
            return y

        def in_view(x):
            y = x.contiguous() * 1
            y.view(-1)[: y.numel() // 2].mul_(-1)
            return y

        def masked(x):
            return x.masked_fill(x < 0, 0.25).clamp(-3, 3)

        def chosen(x):
            return torch.where(x > 0.1, x, x.abs().sqrt())

        def joined(x):
            a, b = x, x.flip(1)
            return torch.cat([a, b[:, :1]], 1)

        def swapped(x):
            return x.roll(1, 1).sub(0.5).div(2).pow(2)

        def broadcast(x):
            return x - x.mean(-1, keepdim=True) / (x.var(-1, keepdim=True, unbiased=False) + 1).rsqrt()

        def indexed(x):
            return x[:, torch.arange(x.shape[1]).flip(0)]

        def stacked(x):
            return torch.stack([x, x.neg(), x.exp().log1p()], 1).amax(1)

        def padded(x):
            return F.pad(x, (1, 2), value=0.5)

        def gathered(x):
            top = x.topk(min(2, x.shape[-1]), -1)
            return torch.cat([x, top.values, x.gather(-1, top.indices)], -1)

        def filled(x):
            y = torch.zeros_like(x)
            y.copy_(x).add_(x, alpha=0.5)
            return torch.lerp(y, x, 0.3).addcmul(x, x, value=0.1)

        def summed(x):
            return x.cumsum(-1) - x.sum(dim=(0, -1), keepdim=True)

        def unbound(x):
            return torch.stack([t * i for i, t in enumerate(x.unbind(1))], 1)

        def scattered(x):
            index = x.argmax(-1, keepdim=True)
            return x.scatter(-1, index, 0.0) + F.one_hot(index.squeeze(-1), x.shape[-1])

        def windows(x):
            return x.unfold(-1, 1, 1).squeeze(-1) + x.repeat_interleave(2, 1)[:, ::2]

        def diagonals(x):
            return (
                x
                + x.transpose(0, 1).diagonal(0, 0, 1).mean()
                + x.mT.unfold(-2, 2 if x.shape[-1] > 1 else 1, 1).sum()
            )

        def spread(x):
            return (
                x / (x.std(-1, keepdim=True, unbiased=False) + 1)
                + x.std()
                + torch.var_mean(x, 1, keepdim=True)[0]
            )

        self.add(self.pick(written_over, in_view, masked, chosen, joined, swapped, broadcast, indexed, stacked, padded,
                           gathered, filled, summed, unbound, scattered, windows, diagonals, spread))  # fmt: skip

    def residual(self):
        d = self.shape[-1]

        class Residual(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc, self.gain = nn.Linear(d, d), nn.Parameter(torch.full((d,), 0.7))
                self.register_buffer("table", torch.linspace(-1, 1, d))

            def forward(self, x):
                y = self.fc(x)
                y += x * self.gain
                return y + self.table

        self.add(plain, Residual())

    def weight_made(self):
        d = self.shape[-1]

        class Made(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.randn(3, d))
                self.scale = nn.Parameter(torch.rand(3, 1))

            def forward(self, x):
                w = self.weight / self.weight.norm(dim=1, keepdim=True) * self.scale
                return F.linear(x, w) @ self.weight

        self.add(plain, Made())


@st.composite
def networks(draw):
    bag = Bag(draw)
    form = bag.pick("image", "image", "sequence", "sequence", "signal", "volume")
    batch = bag.int(1, 3)
    n = {"image": 2, "signal": 1, "volume": 3}.get(form, 0)
    bag.shape = (
        (batch, bag.pick(2, 4), *[bag.int(3, 7) for _ in range(n)])
        if n
        else (batch, bag.int(1, 5), bag.pick(2, 4))
    )
    first = bag.shape
    torch.manual_seed(bag.int(0, 99))
    for _ in range(bag.int(1, 5)):
        if n and len(bag.shape) == n + 2:
            ways = [lambda: bag.conv(n), lambda: bag.conv(n), lambda: bag.transposed(n), lambda: bag.norm(n),
                    lambda: bag.pool(n), bag.pointwise, bag.arithmetic, lambda: bag.squeeze(n), bag.residual]  # fmt: skip
            if n == 2:
                ways.append(lambda: bag.add(lambda x: x.flatten(2).transpose(1, 2)))
        else:
            ways = [bag.linear, bag.attention, bag.recurrent, bag.sequence_norm, bag.pointwise, bag.arithmetic,
                    bag.residual, bag.weight_made]  # fmt: skip
        bag.pick(*ways)()
        with torch.no_grad():
            bag.shape = tuple(Steps(bag.steps).eval()(torch.rand(first)).shape)
        if len(bag.shape) not in (3, n + 2) or max(bag.shape) > 40 or min(bag.shape) < 1:
            bag.steps.pop()
            with torch.no_grad():
                bag.shape = tuple(Steps(bag.steps).eval()(torch.rand(first)).shape)
    return Steps(bag.steps).eval(), first


def run_both(module, shape):
    """The module's outputs and its traced graph's, with the same weights."""
    x = torch.randn(shape)
    graph = pharos.trace(module, x).graph()
    again = to_torch(graph).eval()
    state = dict(module.state_dict())
    missing = [k for k in again.state_dict() if k not in state]
    assert not [k for k in missing if k in dict(again.named_parameters())], missing
    again.load_state_dict({k: state.get(k, v) for k, v in again.state_dict().items()})
    with torch.no_grad():
        return graph, module(x.clone()), again(x.clone())


def check(module, shape):
    graph, theirs, ours = run_both(module, shape)
    counted = count(graph)
    assert counted.parameters == sum(p.numel() for p in module.parameters())
    assert counted.uncounted == (), graph.meta.get("reasons")
    assert tuple(graph.outputs[0].shape) == tuple(theirs.shape)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4, equal_nan=True)
    return counted


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(networks())
def test_a_random_network(made):
    module, shape = made
    counted = check(module, shape)
    module.to("meta")
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        module(torch.zeros(shape))
    assert counted.macs == counter.get_total_flops() // 2


@pytest.mark.parametrize("shape", [(1, 4, 6), (3, 4, 6), (5, 4)])
@pytest.mark.parametrize("scaled", [(), ("weight",), ("bias",), ("weight", "bias")])
@pytest.mark.parametrize("stored", [True, False])
def test_a_norm_by_its_own_statistics_or_half_affine(shape, scaled, stored):
    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            for name in scaled:
                setattr(self, name, nn.Parameter(torch.rand(4)))
            self.register_buffer("mean", torch.rand(4) if stored else None)
            self.register_buffer("var", torch.rand(4) + 0.5 if stored else None)

        def forward(self, x):
            weight, bias = (getattr(self, name, None) for name in ("weight", "bias"))
            return F.batch_norm(x, self.mean, self.var, weight, bias, not stored)

    module = Norm().eval()
    graph = pharos.trace(module, torch.zeros(shape)).graph()
    assert count(graph).parameters == 4 * len(scaled)
    if not stored:
        check(module, shape)


def test_a_list_of_names_that_are_not_the_layers():
    """Parameters of any name, one used twice, one unused: all keep the names the module has for them."""

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.shift = nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.randn(4))
            self.spare = nn.Parameter(torch.randn(2))
            self.cell, self.attend = nn.GRUCell(4, 4), nn.MultiheadAttention(4, 2, batch_first=True)
            self.kernel = nn.Parameter(torch.randn(4, 1, 3))

        def forward(self, x):
            y = F.linear(F.linear(x, self.w, self.shift), self.w)
            y = F.conv1d(y.mT, self.kernel, self.shift, padding=1, groups=4).mT
            y = self.attend(y, x, y)[0] @ self.w.T
            h = x.new_zeros(x.shape[0], 4)
            for step in y.unbind(1):
                h = self.cell(step, h)
            return F.layer_norm(h, (4,), self.shift, self.shift)

    module, x = Odd().eval(), torch.randn(2, 3, 4)
    graph = pharos.trace(module, x).graph()
    assert {k: tuple(p.shape) for k, p in module.named_parameters()} == {
        k: tuple(t.shape) for k, t in graph.parameter_names().items()
    }
    check(module, (2, 3, 4))
