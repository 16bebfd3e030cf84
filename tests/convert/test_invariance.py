"""What must not change a count: devices, modes, ways of writing, order of calls; and no trace is left behind."""

import copy

import pytest
import sympy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pharos
from pharos.graph.count import count
from pharos.graph.workload import Workload
from pharos.passes.training import training
from pharos.quantity.errors import InputError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
import torch_nets as nets  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

nn, F = torch.nn, torch.nn.functional
SLOW = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


def counts(module, *args, **kwargs):
    counted = count(pharos.trace(module, *args, **kwargs).graph())
    assert counted.uncounted == ()
    return counted.parameters, counted.macs


def tokens(context=24, batch=2):
    return torch.zeros(batch, context, dtype=torch.long)


def small(kind, name, **options):
    """A small transformers model of a kind, on the meta device."""
    sizes = {
        "Bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
        "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 100},
        "Llama": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
                  "intermediate_size": 48, "vocab_size": 100},
        "Mixtral": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
                    "intermediate_size": 48, "vocab_size": 100, "num_local_experts": 6},
        "Qwen3Moe": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
                     "intermediate_size": 48, "moe_intermediate_size": 16, "num_experts": 8, "vocab_size": 100,
                     "num_experts_per_tok": 3, "head_dim": 8},
        "ViT": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
                "image_size": 32, "patch_size": 8},
        "Whisper": {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
                    "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "vocab_size": 100,
                    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
                    "max_source_positions": 50, "num_mel_bins": 8},
    }[kind]  # fmt: skip
    config = getattr(transformers, f"{kind}Config")(**sizes)
    with torch.device("meta"):
        return getattr(transformers, name)._from_config(config, **options).eval()


SMALL = {
    "Bert": ("BertModel", {"input_ids": tokens()}),
    "GPT2": ("GPT2LMHeadModel", {"input_ids": tokens()}),
    "Llama": ("LlamaForCausalLM", {"input_ids": tokens()}),
    "Mixtral": ("MixtralForCausalLM", {"input_ids": tokens()}),
    "ViT": ("ViTForImageClassification", {"pixel_values": torch.zeros(2, 3, 32, 32)}),
    "Whisper": ("WhisperForConditionalGeneration",
                {"input_features": torch.zeros(2, 8, 100), "decoder_input_ids": tokens(6)}),
}  # fmt: skip


@pytest.mark.parametrize("kind", SMALL)
def test_attention_written_out_counts_as_the_fused_call(kind):
    name, inputs = SMALL[kind]
    ways = {way: counts(small(kind, name, attn_implementation=way), **inputs) for way in ("sdpa", "eager")}
    assert ways["sdpa"] == ways["eager"]


def test_attention_written_out_in_plain_torch():
    x = torch.zeros(2, 3, 32, 32)
    sizes = {"width": 24, "depth": 2, "heads": 3, "patch": 8, "side": 32, "classes": 5}
    assert counts(nets.ViT(**sizes), x) == counts(nets.ViT(**sizes, written=True), x)


def a_net():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(True), nn.Flatten(2),
        nn.TransformerEncoderLayer(64, 4, 32, batch_first=True), nn.LSTM(64, 16, batch_first=True),
    )  # fmt: skip


def test_cpu_meta_and_fake_tensors_alike():
    from torch._subclasses.fake_tensor import FakeTensorMode

    shape = (2, 3, 8, 8)
    with torch.device("meta"):
        on_meta, x_meta = a_net().eval(), torch.zeros(shape)
    on_cpu, x_cpu = a_net().eval(), torch.zeros(shape)
    with FakeTensorMode():
        fake, x_fake = a_net().eval(), torch.zeros(shape)
    found = {counts(m, x) for m in (on_meta, on_cpu, fake) for x in (x_meta, x_cpu, x_fake)}
    assert len(found) == 1


def test_grad_no_grad_and_inference_mode_alike():
    module, x = a_net().eval(), torch.zeros(2, 3, 8, 8)
    found = {counts(module, x), counts(module, x.clone().requires_grad_())}
    for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with mode():
            found.add(counts(module, x))
    for p in module.parameters():
        p.requires_grad_(False)
    found.add(counts(module, x))
    assert len(found) == 1


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("norm_first", [True, False])
def test_the_fast_path_of_encoder_layers_counts_as_the_slow_one(batch_first, norm_first):
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=batch_first, norm_first=norm_first)
    x = torch.zeros(3, 5, 32)
    b, n = (3, 5) if batch_first else (5, 3)
    # 4 d^2 and 2 d ff weights a token, and two products of n^2 d
    expected = b * n * (4 * 32 * 32 + 2 * 32 * 64) + b * 2 * n * n * 32
    fast, slow = counts(layer.eval(), x), counts(layer.train(), x)
    assert fast == slow
    assert fast[1] == expected
    stack = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    assert counts(stack.eval(), x)[1] == 2 * expected


def test_the_fast_path_of_multihead_attention():
    attention = nn.MultiheadAttention(32, 4, batch_first=True)
    x = torch.zeros(3, 5, 32)
    expected = 3 * 5 * 4 * 32 * 32 + 3 * 2 * 25 * 32
    for weights in (True, False):
        found = {
            counts(m, x, x, x, need_weights=weights)[1]
            for m in (attention.eval(), copy.deepcopy(attention).train())
        }
        assert found == {expected}


def test_a_recurrence_counts_as_a_loop_of_its_cell():
    x = torch.zeros(9, 2, 7)
    # biases count as parameters, of which cells and layers have as many
    assert (
        counts(nn.LSTM(7, 5), x)
        == counts(nets.CellLoop(7, 5), x)
        == (4 * 5 * (7 + 5 + 2), 9 * 2 * 4 * 5 * 12)
    )


@pytest.mark.parametrize("kind", ["GRU", "RNN"])
def test_other_cells_too(kind):
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = getattr(nn, f"{kind}Cell")(7, 5)

        def forward(self, x):
            h = x.new_zeros(2, 5)
            for step in x:
                h = self.cell(step, h)
            return h

    x = torch.zeros(6, 2, 7)
    assert counts(getattr(nn, kind)(7, 5), x) == counts(Loop(), x)


def test_the_same_transformer_of_three_origins():
    """Written with nn.MultiheadAttention, by hand, and in transformers."""
    sizes = {"width": 32, "depth": 2, "heads": 4, "patch": 8, "side": 32, "classes": 2}
    x = torch.zeros(1, 3, 32, 32)
    found = {counts(nets.ViT(**sizes), x), counts(nets.ViT(**sizes, written=True), x)}
    theirs = small("ViT", "ViTForImageClassification")
    # their activation and head are of the same sizes, the feed-forward part is not: 64, not 128
    more = 2 * 2 * 32 * 64
    assert found == {(counts(theirs, x)[0] + more + 2 * 64, counts(theirs, x)[1] + 17 * more)}


@pytest.mark.parametrize("kind", ["Mixtral", "Qwen3Moe"])
def test_experts_of_every_back_end_alike(kind):
    found = []
    for way in ("eager", "batched_mm", "grouped_mm"):
        module = small(kind, f"{kind}ForCausalLM")
        module.set_experts_implementation(way)
        counted = count(pharos.trace(module, tokens()).graph())
        assert counted.uncounted == ()
        found.append((counted.parameters, counted.macs, counted.active_parameters))
    assert len(set(found)) == 1


def test_inputs_by_position_and_by_name_alike():
    module = small("Llama", "LlamaForCausalLM")
    mask = torch.ones(2, 24, dtype=torch.long)
    assert counts(module, tokens(), mask) == counts(module, attention_mask=mask, input_ids=tokens())


LAYERS = [
    lambda width: nn.Linear(width, 2 * width), lambda width: nn.LayerNorm(width), lambda width: nn.GELU(),
    lambda width: nn.LSTM(width, 3, batch_first=True), lambda width: nn.MultiheadAttention(width, 1, batch_first=True),
    lambda width: nn.TransformerEncoderLayer(width, 1, 8, batch_first=True),
]  # fmt: skip


class Chain(nn.Module):
    """Layers over [batch, tokens, width], whatever each of them returns."""

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x, x, x)[0] if isinstance(layer, nn.MultiheadAttention) else layer(x)
            x = x[0] if isinstance(x, tuple) else x
        return x


@SLOW
@given(
    st.lists(st.integers(0, len(LAYERS) - 1), min_size=1, max_size=4), st.integers(2, 9), st.integers(1, 4)
)
def test_a_batch_is_as_many_times_one(kinds, batch, length):
    layers, width = [], 4
    for kind in kinds:
        layers.append(LAYERS[kind](width))
        width = {0: 2 * width, 3: 3}.get(kind, width)
    with torch.device("meta"):
        module = Chain(layers).eval()
    traced = pharos.trace(module, torch.zeros(1, length, 4))
    one, many = count(traced.graph()), count(traced.graph(Workload(batch=batch)))
    assert (many.macs, many.parameters) == (batch * one.macs, one.parameters)
    direct = count(pharos.trace(module, torch.zeros(batch, length, 4)).graph())
    assert (direct.macs, direct.work) == (many.macs, many.work)


def test_called_twice_counts_once():
    module, x = a_net().eval(), torch.zeros(2, 3, 8, 8)
    model = pharos.trace(module, x)
    first, again, anew = model.graph(), model.graph(), pharos.trace(module, x).graph()
    assert count(first).macs == count(again).macs == count(anew).macs
    assert [n.name for n in first.nodes] == [n.name for n in anew.nodes]


class Failing(nn.Module):
    """Raises after some work, inside a submodule of a submodule."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x):
        self.norm(self.first(x))
        raise ValueError("nothing more")


class Keeping(nn.Module):
    """Keeps what it made, and one buffer in place of another."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, x):
        self.mask = torch.ones_like(x)
        self.seen = self.seen + x.mean(0)
        self.seen.mul_(0.5)
        return x * self.mask


def everything(module):
    """What a trace could leave changed: of the module, of PyTorch's global state, of random numbers."""
    from torch.nn.modules import module as global_hooks
    from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

    parts = [(type(m), sorted(vars(m)), m.training, len(m._forward_hooks), len(m._forward_pre_hooks))
             for m in module.modules()]  # fmt: skip
    tensors = [(k, t.data_ptr(), t.requires_grad, t.grad, t.device) for k, t in
               (*module.named_parameters(), *module.named_buffers())]  # fmt: skip
    return {
        "parts": parts, "tensors": tensors, "values": [t.tolist() for t in module.state_dict().values()],
        "hooks": (len(global_hooks._global_forward_hooks), len(global_hooks._global_forward_pre_hooks)),
        "modes": len(_get_current_dispatch_mode_stack()),
        "flags": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype(),
                  torch.backends.mha.get_fastpath_enabled(), torch.get_default_device(),
                  torch.are_deterministic_algorithms_enabled()),
        "random": torch.get_rng_state().tolist(),
    }  # fmt: skip


@pytest.mark.parametrize("training_mode", [True, False])
@pytest.mark.parametrize("kind", ["fails", "works", "needs data"])
def test_a_run_leaves_no_trace(kind, training_mode):
    class Sized(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.fc = nn.BatchNorm1d(4), nn.Linear(4, 4)

        def forward(self, x):
            y = self.norm(self.fc(x))
            return y * 2 if y.sum().item() > 0 else y

    module = {
        "fails": Failing,
        "works": lambda: nn.Sequential(*Failing().first, nn.BatchNorm1d(4)),
        "needs data": Sized,
    }
    module = module[kind]().train(training_mode)
    x = torch.randn(3, 4)
    before, given_before = everything(module), x.clone()
    if kind == "works":
        # a mask that is kept is a tensor without data in a traced run
        module.append(Keeping())
        before = everything(module)
    if kind == "fails":
        with pytest.raises(InputError, match="nothing more"):
            pharos.trace(module, x).graph()
    else:
        pharos.trace(module, x).graph()
        # a workload of another size is traced with formulas
        pharos.trace(module, x).graph(Workload(batch=5))
    assert everything(module) == before
    assert torch.equal(x, given_before)
    assert count(pharos.trace(nn.Linear(4, 4), x).graph()).macs == 48


class Two(nn.Module):
    """A product of two inputs in one of many spellings."""

    def __init__(self, call):
        super().__init__()
        self.call = call

    def forward(self, a, b):
        return self.call(a, b)


PRODUCTS = [lambda a, b: a @ b, torch.matmul, torch.bmm, lambda a, b: torch.einsum("bij,bjk->bik", a, b),
            lambda a, b: torch.stack([x.mm(y) for x, y in zip(a, b, strict=True)]),
            lambda a, b: torch.stack([F.linear(x, y.T) for x, y in zip(a, b, strict=True)]),
            lambda a, b: torch.baddbmm(torch.zeros(3, 4, 6), a, b),
            lambda a, b: torch.stack([torch.tensordot(x, y, 1) for x, y in zip(a, b, strict=True)]),
            lambda a, b: torch.stack([torch.inner(x, y.T) for x, y in zip(a, b, strict=True)]),
            lambda a, b: torch.einsum("...ij,...jk", a, b), lambda a, b: (b.mT @ a.mT).mT]  # fmt: skip


@pytest.mark.parametrize("i", range(len(PRODUCTS)))
def test_a_product_in_any_spelling(i):
    assert counts(Two(PRODUCTS[i]), torch.zeros(3, 4, 5), torch.zeros(3, 5, 6)) == (0, 3 * 4 * 5 * 6)


class Layer(nn.Module):
    """A linear layer or convolution, as a module or as a call on its parameters."""

    def __init__(self, layer, call=None):
        super().__init__()
        self.layer, self.call = layer, call

    def forward(self, x):
        return self.layer(x) if self.call is None else self.call(x, self.layer.weight, self.layer.bias)


CALLS = {
    "linear": lambda: nn.Linear(6, 5),
    "conv1d": lambda: nn.Conv1d(6, 5, 3), "conv2d": lambda: nn.Conv2d(6, 4, 3, groups=2),
    "conv3d": lambda: nn.Conv3d(6, 5, 2), "conv_transpose2d": lambda: nn.ConvTranspose2d(6, 5, 3, 2),
}  # fmt: skip
SHAPES = {"linear": (2, 7, 6), "conv1d": (2, 6, 9), "conv2d": (2, 6, 9, 9), "conv3d": (2, 6, 4, 4, 4),
          "conv_transpose2d": (2, 6, 5, 5)}  # fmt: skip


@pytest.mark.parametrize("kind", CALLS)
def test_a_functional_call_counts_as_the_layer(kind):
    x, layer = torch.zeros(SHAPES[kind]), CALLS[kind]()
    options = {"conv2d": {"groups": 2}, "conv_transpose2d": {"stride": 2}}.get(kind, {})
    as_layer = counts(Layer(layer), x)
    assert as_layer == counts(Layer(layer, lambda x, w, b: getattr(F, kind)(x, w, b, **options)), x)
    with FlopCounterMode(display=False) as counter:
        layer.to("meta")(x.to("meta"))
    assert as_layer[1] == counter.get_total_flops() // 2
    if kind == "linear":
        for call in (
            lambda x, w, b: x @ w.T + b, lambda x, w, b: torch.einsum("bti,oi->bto", x, w) + b,
            lambda x, w, b: torch.addmm(b, x.flatten(0, 1), w.t()).view(2, 7, 5),
            lambda x, w, b: torch.matmul(x, w.transpose(0, 1)).add_(b),
        ):  # fmt: skip
            assert counts(Layer(layer, call), x) == as_layer


@pytest.mark.parametrize(
    "build", [a_net, lambda: nets.mobilenet_v2(10), lambda: nets.ViT(24, 2, 3, 8, 32, 5)]
)
def test_train_and_eval_count_the_same_macs(build):
    x = torch.zeros(2, 3, 8, 8) if build is a_net else torch.zeros(2, 3, 32, 32)
    module = build()
    assert counts(module.train(), x) == counts(module.eval(), x)


def test_narrower_types_count_the_same():
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        module = nets.ViT(24, 2, 3, 8, 32, 5).to(dtype)
        x = torch.zeros(2, 3, 32, 32, dtype=dtype)
        assert counts(module, x) == counts(nets.ViT(24, 2, 3, 8, 32, 5), x.float())


@pytest.mark.parametrize("kind", ["Bert", "GPT2", "Llama", "Mixtral"])
def test_formulas_come_to_what_a_run_of_that_size_counts(kind):
    name, _ = SMALL[kind]
    model = pharos.trace(small(kind, name), tokens(16, 2))
    b, n = sympy.symbols("B n", integer=True, positive=True)
    formula = count(model.graph(Workload(batch=b, context=n)))
    for batch, context in ((1, 1), (3, 7), (2, 40)):
        counted = count(pharos.trace(small(kind, name), tokens(context, batch)).graph())
        for figure in ("macs", "traffic_per_op"):
            made = sympy.sympify(getattr(formula, figure)).subs({b: batch, n: context})
            assert (figure, batch, context, int(made)) == (figure, batch, context, getattr(counted, figure))
        assert formula.parameters == counted.parameters


@pytest.mark.parametrize(
    ("build", "shape"),
    [(lambda: nets.resnet50(10), (3, 64, 64)), (lambda: nets.mobilenet_v2(10), (3, 32, 32)),
     (lambda: nets.ViT(24, 2, 3, 8, 32, 5), (3, 32, 32)), (a_net, (3, 8, 8)), (nets.ds_cnn, (1, 49, 10))],
)  # fmt: skip
def test_a_formula_of_the_batch(build, shape):
    with torch.device("meta"):
        module = build().eval()
    b = sympy.Symbol("B", integer=True, positive=True)
    formula = count(pharos.trace(module, torch.zeros(2, *shape)).graph(Workload(batch=b)))
    for batch in (1, 2, 5):
        counted = count(pharos.trace(module, torch.zeros(batch, *shape)).graph())
        assert int(sympy.sympify(formula.macs).subs(b, batch)) == counted.macs
        assert int(sympy.sympify(formula.traffic_per_op).subs(b, batch)) == counted.traffic_per_op


def step_flops(module, *args, **kwargs):
    """FLOPs of a forward and backward pass, by PyTorch's own counter on the meta device."""
    with FlopCounterMode(display=False) as counter:
        out = module(*args, **kwargs)
        outs = (
            [out]
            if isinstance(out, torch.Tensor)
            else [t for t in out.to_tuple() if isinstance(t, torch.Tensor)]
        )
        sum(t.sum() for t in outs).backward()
    return counter.get_total_flops()


def test_a_training_step_of_resnet50():
    """3 x forward without the gradient of the image: 24.3 GFLOPs."""
    with torch.device("meta"):
        module = nets.resnet50().train()
    step = training(pharos.trace(module, torch.zeros(1, 3, 224, 224)).graph())
    assert step.forward.macs + step.backward.macs == 24_299_077_632 // 2
    # batch norm wants more than one value a channel
    assert step_flops(module, torch.zeros(2, 3, 224, 224, device="meta")) == 2 * 24_299_077_632


@pytest.mark.parametrize("kind", ["alexnet", "vit", "vit written", "Bert", "GPT2", "Llama"])
def test_training_steps_against_pytorchs_counter(kind):
    with torch.device("meta"):
        if kind in SMALL:
            name, inputs = SMALL[kind]
            inputs = {k: v.to("meta") for k, v in inputs.items()}
            # on the meta device a mask cannot be looked at: one of four dimensions is taken as it is
            module = small(kind, name, attn_implementation="eager").train()
            inputs["attention_mask"] = torch.zeros(2, 1, 24, 24)
            args = []
        else:
            module = {"alexnet": lambda: nets.alexnet(10), "vit": lambda: nets.ViT(24, 2, 3, 8, 32, 5),
                      "vit written": lambda: nets.ViT(24, 2, 3, 8, 32, 5, True)}[kind]().train()  # fmt: skip
            side = 224 if kind == "alexnet" else 32
            args, inputs = [torch.zeros(2, 3, side, side)], {}
    step = training(pharos.trace(module, *args, **inputs).graph())
    # a fused attention computes the scores again, n^2 d a layer and image; on the meta device it is not fused
    again = 2 * 2 * 17**2 * 24 if kind == "vit" else 0
    assert 2 * (step.forward.macs + step.backward.macs - again) == step_flops(module, *args, **inputs)


def test_a_training_step_of_grouped_convolutions():
    """3 x forward without the gradient of the image; PyTorch's own counter loses sight of the groups."""
    with torch.device("meta"):
        module = nets.mobilenet_v2().train()
    step = training(pharos.trace(module, torch.zeros(1, 3, 224, 224)).graph())
    first = 3 * 32 * 9 * 112**2
    assert step.forward.macs + step.backward.macs == 3 * 300_774_272 - first
