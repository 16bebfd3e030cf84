"""Memory of traced modules: byte for byte what PyTorch's own tracker sees, and what the table is good for."""

import numpy as np
import pytest

import pharos
from pharos.convert.to_torch import to_torch
from pharos.graph.workload import Workload
from pharos.models.registry import find
from pharos.passes.eager import eager
from pharos.passes.held import held_of
from pharos.predict.estimate import predict

torch = pytest.importorskip("torch")
nn = torch.nn


def tracked(build, inputs, **kwargs):
    """Peak bytes that PyTorch's tracker sees of a forward pass on tensors without data."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    with FakeTensorMode(), torch.no_grad():
        module = build().eval()
        given = [t if isinstance(t, torch.Tensor) and t.device.type != "meta" else
                 torch.empty(t.shape, dtype=t.dtype) for t in inputs]  # fmt: skip
        tracker = MemTracker()
        tracker.track_external(module, *given)
        with tracker:
            out = module(*given, **kwargs)
        del out
    return sum(found["Total"] for found in tracker.get_tracker_snapshot("peak").values())


def seen(build, inputs, **kwargs):
    """What a trace of the module on the meta device says it holds."""
    with torch.device("meta"):
        module = build().eval()
    return held_of(pharos.trace(module, *inputs, watch=True, **kwargs).graph())


def floats(*shape):
    return torch.empty(shape, device="meta")


def tokens(*shape):
    return torch.zeros(shape, dtype=torch.int64, device="meta")


class Tagger(nn.Module):
    """Embedding, two recurrent layers, a linear layer."""

    def __init__(self, kind="LSTM"):
        super().__init__()
        self.embed = nn.Embedding(100, 64)
        self.rnn = getattr(nn, kind)(64, 128, 2, batch_first=True)
        self.out = nn.Linear(128, 50)

    def forward(self, x):
        y, _ = self.rnn(self.embed(x))
        return self.out(y)


class Bottleneck(nn.Module):
    """A residual block whose functions work in place."""

    def __init__(self, channels=64):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels // 4, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels // 4)
        self.conv2 = nn.Conv2d(channels // 4, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.conv1(x)
        y = self.bn1(y)
        y = self.relu(y)
        y = self.conv2(y)
        y = self.bn2(y)
        y += x
        return self.relu(y)


def catalogue(name, **work):
    def build():
        return to_torch(find(name).graph(Workload(**work)))

    inputs = [
        tokens(*v.shape) if v.tensor.dtype == "int64" else floats(*v.shape)
        for v in find(name).graph(Workload(**work)).inputs
    ]
    return build, inputs


def bert():
    transformers = pytest.importorskip("transformers")
    return transformers.BertModel(transformers.BertConfig(num_hidden_layers=3))


def gpt2():
    transformers = pytest.importorskip("transformers")
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=3, use_cache=False))


def encoder():
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), 3)


CASES = {
    "resnet50": catalogue("resnet50"),
    "mobilenet_v2": catalogue("mobilenet_v2"),
    "vgg16": catalogue("vgg16"),
    "vit_b_16": catalogue("vit_b_16"),
    "dlrm of 128 samples": catalogue("dlrm", batch=128),
    "ds_cnn": catalogue("ds_cnn_s"),
    "bert": (bert, [tokens(1, 128)]),
    "gpt2 of 1024 tokens": (gpt2, [tokens(1, 1024)]),
    "lstm": (Tagger, [tokens(1, 50)]),
    "gru": (lambda: Tagger("GRU"), [tokens(3, 50)]),
    "blocks in place": (lambda: nn.Sequential(*[Bottleneck() for _ in range(3)]), [floats(2, 64, 28, 28)]),
}


@pytest.mark.parametrize("name", CASES)
def test_peak_is_the_trackers_to_the_byte(name):
    build, inputs = CASES[name]
    held = seen(build, inputs)
    assert held is not None
    assert held.peak == tracked(build, inputs)
    assert sum(held.parts().values()) == held.peak


REAL = {
    "lstm": (Tagger, lambda: torch.zeros(2, 9, dtype=torch.int64)),
    "blocks": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), Bottleneck(8)), lambda: torch.zeros(2, 3, 12, 12)),
    # in evaluation a layer is one fused operator, or several where gradients are wanted
    "encoder of PyTorch": (encoder, lambda: torch.zeros(2, 10, 64)),
}


@pytest.mark.parametrize("name", REAL)
def test_real_kernels_hold_what_pretended_ones_do(name):
    from torch.distributed._tools.mem_tracker import MemTracker

    module, x = REAL[name][0]().eval(), REAL[name][1]()
    tracker = MemTracker()
    tracker.track_external(module, x)
    with torch.no_grad(), tracker:
        module(x)
    total = sum(found["Total"] for found in tracker.get_tracker_snapshot("peak").values())
    before = {k: v.clone() for k, v in module.state_dict().items()}
    assert held_of(pharos.trace(module, x, watch=True).graph()).peak == total
    assert all(torch.equal(v, module.state_dict()[k]) for k, v in before.items())
    assert all(p.device.type == "cpu" and type(p) is nn.Parameter for p in module.parameters())


def test_a_frame_keeps_what_it_passes_on():
    class Keeps(nn.Module):
        def forward(self, x):
            a = x + 1
            b = a.exp()
            return b.exp()

    class Drops(nn.Module):
        def forward(self, x):
            a = x + 1
            a = a.exp()
            return a.exp()

    x = floats(2, 250)
    assert seen(Keeps, [x]).peak == 4 * x.nbytes
    assert seen(Drops, [x]).peak == 3 * x.nbytes


def test_views_share_and_resized_storages_count_anew():
    class Views(nn.Module):
        def forward(self, x):
            return x.t().reshape(-1)[:10].unsqueeze(0)

    x = floats(4, 250)
    assert seen(Views, [x]).peak == 2 * x.nbytes


def test_one_trace_answers_every_batch():
    model = pharos.trace(
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), Bottleneck(8)), floats(2, 3, 20, 20), watch=True
    )
    batches = np.array([3, 5, 8])
    swept = held_of(model.graph(Workload(batch=batches))).peak
    each = [held_of(model.graph(Workload(batch=int(b)))).peak for b in batches]
    assert list(swept) == each


def test_precision_asked_for_is_the_one_run_in():
    with torch.device("meta"):
        model = pharos.trace(Bottleneck(), floats(2, 64, 28, 28), watch=True)
    wide, narrow = (held_of(model.graph(Workload(precision=p))) for p in ("fp32", "bf16"))
    # the count of batches a norm has seen stays an int64
    assert narrow.peak - 16 == (wide.peak - 16) // 2
    graph = model.graph(Workload(precision="int8"))
    assert held_of(graph) is None
    assert "int8" in graph.meta["unwatched"]


def test_estimates_in_eager_mode_hold_it():
    build, inputs = CASES["blocks in place"]
    from pharos.machines.machine import find_machine

    with torch.device("meta"):
        graph = pharos.trace(build().eval(), *inputs, watch=True).graph()
    held, work = held_of(graph), Workload()
    memory = predict(graph, find_machine("cortex-a53"), work, runtime="eager").memory
    assert memory.total == held.peak
    assert memory.peak_operator == held.peak_step
    fused = predict(graph, find_machine("cortex-a53"), work).memory
    assert fused.activations_peak < memory.activations_peak


class TestScopes:
    """Graphs that no run made: Python's scopes by rule."""

    @pytest.mark.parametrize("name", ["lenet5", "mlp(widths=[8, 64, 4])"])
    def test_a_chain_holds_what_its_module_does(self, name):
        build, inputs = catalogue(name)
        assert eager(find(name).graph()).peak == pytest.approx(tracked(build, inputs), rel=0.05)

    def test_a_residual_block_as_its_reference_writes_it(self):
        from pharos.graph.graph import Builder
        from pharos.ops.activation import Activation
        from pharos.ops.conv import Conv2d
        from pharos.ops.elementwise import Add
        from pharos.ops.norm import BatchNorm

        g = Builder("blocks")
        x = g.input("x", (2, 64, 28, 28))
        for i in range(3):
            with g.scope(str(i)):
                y = g("conv1", Conv2d(64, 16, 1, bias=False), x)
                y = g("relu1", Activation("relu"), g("bn1", BatchNorm(16), y))
                y = g("conv2", Conv2d(16, 64, 3, 1, 1, bias=False), y)
                y = g("add", Add(), g("bn2", BatchNorm(64), y), x)
                x = g("relu2", Activation("relu"), y)
        ours = eager(g.finish(x))
        build, inputs = CASES["blocks in place"]
        # six counts of batches of 8 bytes, which a graph does not hold
        assert ours.peak == tracked(build, inputs) - 6 * 8
