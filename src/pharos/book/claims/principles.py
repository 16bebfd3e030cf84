"""Section 1.1: inductive biases, families and their bottlenecks, footnotes 1 and 2."""

from math import log10

from pharos.book.answer import told, unknown
from pharos.book.sums import (
    A100,
    GB,
    H100,
    attends,
    conv,
    counted,
    dense,
    devices,
    estimate,
    grows,
    kv_bytes,
    leads,
    machine,
    memory,
    per_byte,
    result,
    ridge,
    symbols,
    weight_layers,
)
from pharos.graph.tensor import Tensor
from pharos.ops.attention import Attention
from pharos.ops.conv import Conv2d
from pharos.ops.recurrent import RNN

PIXELS = 224 * 224
# Filter sizes that networks of the chapter use.
WIDTHS = (64, 128, 256, 512, 1024)


def _locality():
    full, local = dense(PIXELS, PIXELS), conv(1, 1)
    return told(
        full.macs / local.macs,
        "connections of a dense layer over those of 3x3 windows, P/K^2; the chapter itself prints 5,575 for "
        "the same geometry",
        weights_when_shared=full.parameters / local.parameters,
    )


def _hypotheses():
    p, k = symbols("P K")
    windows = Conv2d(1, 1, (k, k), padding=0, bias=False)
    full = leads(dense(p, p).macs, "P")
    local = leads(Tensor((p,)).numel * windows.taps(), "P", "K")
    stored = leads(windows.weights()["weight"][2] * windows.weights()["weight"][3], "P", "K")
    return told(
        [full, local], f"connections; a convolution shares its weights and stores {stored}, whatever P"
    )


def _attention_when_doubled():
    n, d = symbols("N d")
    shape = (1, 1, n, d)
    return told(
        grows(attends(Attention(), shape, shape, shape).macs, n),
        "scores and values; the projections beside them grow as N",
    )


def _conv_when_doubled():
    return conv(64, 64, side=112).macs / layers_of_half()


def layers_of_half() -> float:
    """MACs of the same convolution over half the positions."""
    from pharos.book.sums import layers

    return layers((1, 64, 112, 56), Conv2d(64, 64, 3, 1, 1, bias=False)).macs


def _mlp():
    regime = estimate("mlp", A100).regime
    return told(
        regime,
        "MLP of Example 1.1 in fp16 at batch 1 on an A100: "
        f"{per_byte(counted('mlp', precision='fp16'), 'ideal'):.2f} FLOP/B against a ridge of "
        f"{ridge(A100):.0f}",
        at_batch_1024=estimate("mlp", A100, batch=1024).regime,
    )


def cnn_bottleneck():
    """Where ResNet-50 lies on an A100, by batch and precision."""
    return told(
        estimate("resnet50", A100).regime,
        "ResNet-50, fp16, batch 1 on an A100's tensor cores; it depends on device, precision and batch",
        fp32_on_vector_units=estimate("resnet50", A100, precision="fp32").regime,
        fp16_batch_256=estimate("resnet50", A100, batch=256).regime,
        fp16_on_an_H100=estimate("resnet50", H100, batch=32).regime,
    )


def _recurrence_depth():
    op, x = RNN(100, 128), Tensor((1, 1000, 100))
    return op.parallelism(x, result(op, x)).depth


def _rnn():
    return told(
        estimate("lstm_tagger", A100, context=1000).binding,
        f"{_recurrence_depth()} dependent steps for 1,000 tokens, on an A100",
    )


def transformer_bottleneck():
    """What binds Llama-2-7B on an A100, by phase."""
    crowd = 70
    return told(
        estimate("llama-2-7b", A100, "decode", context=2048).binding,
        "Llama-2-7B in fp16 on an A100, one user, a token at a time; it depends on the phase, and N^2 is no "
        "capacity term once attention is tiled",
        prompt_of_2048=estimate("llama-2-7b", A100, "prefill", context=2048).regime,
        seventy_users_of_2048=estimate("llama-2-7b", A100, "decode", crowd, 2048).binding,
    )


def _dlrm():
    return told(
        estimate("dlrm-mlperf", A100, precision="fp32").binding,
        f"{counted('dlrm-mlperf').weight_bytes / GB:.0f} GB of tables against {memory(A100) / GB:.0f} GB; "
        "once sharded, gathers and then the all-to-all bind",
    )


def lighthouses(precision: str = "fp16") -> list[str]:
    """What binds ResNet-50, GPT-2 XL decoding and DLRM on an A100."""
    return [
        str(estimate("resnet50", A100, batch=32, precision=precision).regime),
        str(estimate("gpt2-xl", A100, "decode", context=1024).binding),
        str(estimate("dlrm-mlperf", A100, precision="fp32").binding),
    ]


def _isolates():
    return told(
        lighthouses(),
        "on an A100, ResNet-50 at batch 32: in fp16 its kernels lie below the ridge",
        with_fp32_vector_units=lighthouses("fp32"),
    )


def _kv_dominates():
    cache, weights = kv_bytes("gpt2-xl", 1024), counted("gpt2-xl", precision="fp16").weight_bytes
    return told(
        cache > weights,
        f"GPT-2 XL in fp16: {cache / GB:.3f} GB of cache for a request of 1,024 tokens against "
        f"{weights / GB:.2f} GB of weights; {devices(weights, cache)} such requests reach them",
        of_ten_full_requests=10 * cache > weights,
    )


def _separable():
    # a 3x3 convolution against a depthwise one and a pointwise one
    return told(
        [round(separable_gain(c), 2) for c in WIDTHS],
        "C to C channels, C = 64 to 1,024; nine is the limit as C grows",
    )


def separable_gain(cin: int, cout: int = 0) -> float:
    """MACs of a 3x3 convolution over those of its depthwise separable form."""
    cout = cout or cin
    return conv(cin, cout).macs / (conv(cin, cin, groups=cin).macs + conv(cin, cout, 1).macs)


def _kws(params):
    whole = {p: Tensor((params,), p).nbytes for p in ("int8", "int4", "fp32")}
    board = "stm32l4r5_cortex_m4"
    watts = estimate("ds_cnn_s", board, precision="int8").power_W.value
    if watts is None:
        return told([whole["int8"]], "weights alone")
    return told(
        [whole["int8"], watts],
        f"{whole['int8'] / 1e3:.0f} KB in int8, {whole['int4'] / 1e3:.0f} KB in "
        f"int4, {whole['fp32'] / 1e3:.0f} KB in fp32; power of DS-CNN S on {machine(board).name}",
    )


CLAIMS = {
    "bias-cnn-vs-mlp-1000x": _locality,
    "bias-hypothesis-scaling": _hypotheses,
    "bias-same-factor-data": lambda: unknown(
        "bytes follow the parameters exactly; how much less data suffices must be trained",
        memory_ratio=dense(PIXELS, 64).weight_bytes / conv(1, 64).weight_bytes
        == dense(PIXELS, 64).parameters / conv(1, 64).parameters,
    ),
    "transformer-ops-quadratic": _attention_when_doubled,
    "cnn-ops-linear-positions": _conv_when_doubled,
    "family-mlp-bottleneck": _mlp,
    "family-cnn-bottleneck": cnn_bottleneck,
    "family-rnn-bottleneck": _rnn,
    "family-transformer-bottleneck": transformer_bottleneck,
    "family-dlrm-bottleneck": _dlrm,
    "lighthouse-isolates": _isolates,
    "resnet-20-layer-barrier": lambda: unknown(
        "whether depth trains is an experiment; the deepest plain network of its time here is VGG-19",
        layers_of_VGG_19=weight_layers("vgg19"),
    ),
    "resnet-depths": lambda: told(
        [weight_layers(n) for n in ("resnet50", "resnet101", "preact_resnet1001")],
        "layers with weights in ResNet-50, ResNet-101 and the 1,001-layer network of 2016",
    ),
    "resnet-won-ilsvrc2015": lambda: unknown("an event, not a quantity; the entry was an ensemble"),
    "fn2-gpt2-3gb": lambda: told(
        counted("gpt2-xl", precision="fp16").weight_bytes / GB, "GPT-2 XL has 1.558 G parameters"
    ),
    "fn2-intensity-below-1": lambda: told(
        per_byte(counted("gpt2-xl", "decode", context=1024, precision="fp16")),
        "with cache and activations, at 1,024 tokens; weights alone give 1 in fp16 and 0.5 in fp32",
    ),
    "fn2-kv-dominant": _kv_dominates,
    "mobilenet-8-9x-cost": _separable,
    "kws-envelope": _kws,
    "fn1-orders-of-magnitude": lambda: told(
        dense(3 * PIXELS, 1).parameters / conv(3, 1).parameters,
        "weights of one detector on 224x224 RGB; for the two MNIST networks only "
        f"{log10(counted('mlp').parameters / counted('mlp(widths=(784, 100, 10))').parameters):.1f} orders",
    ),
}
