"""Cases of advice rules: for each rule one where it fires and one, as near as may be, where it must not."""

from dataclasses import replace

from pharos.convert.load import load
from pharos.decide.advice import Case, Stated, case
from pharos.graph.graph import Builder, Graph
from pharos.graph.workload import Workload
from pharos.machines.machine import find_machine
from pharos.models.registry import Model
from pharos.ops.attention import Attention
from pharos.ops.conv import Conv2d
from pharos.ops.norm import BatchNorm
from pharos.ops.shape_ops import Reshape


def made(model, on, *, runtime=None, stated=None, **work) -> Case:
    """A case by name, or of a model made here."""
    chosen = model if isinstance(model, Model) else load(model)
    machine = find_machine(on) if isinstance(on, str) else on
    return case(chosen, machine, Workload(**work), Stated(**(stated or {})), runtime)


def hybrid(alternate: bool, channels: int = 64, size: int = 32) -> Model:
    """Four convolutions and four attentions over one map, in turn or one kind after the other."""

    def build(work: Workload) -> Graph:
        g = Builder("hybrid", work.precision)
        x = g.input("image", (work.batch, channels, size, size))

        def convolve(x, i):
            return g(f"conv{i}", Conv2d(channels, channels, 3, 1, 1), x)

        def attend(x, i):
            q = g(f"tokens{i}", Reshape((work.batch, 1, size * size, channels)), x)
            y = g(f"attention{i}", Attention(algorithm="materialised"), q, q, q)
            return g(f"map{i}", Reshape((work.batch, channels, size, size)), y)

        both = (convolve, attend)
        order = [f for _ in range(4) for f in both] if alternate else [f for f in both for _ in range(4)]
        for i, step in enumerate(order):
            x = step(x, i)
        return g.finish(x)

    return Model(name="hybrid", family="", build=build)


def one_value_norm() -> Model:
    """Batch norm after a global pool: one value a channel and sample."""

    def build(work: Workload) -> Graph:
        g = Builder("pooled", work.precision)
        return g.finish(g("norm", BatchNorm(8), g.input("x", (work.batch, 8))))

    return Model(name="pooled", family="", build=build)


def served_as_trained(told: tuple[str, ...]) -> Model:
    """A convolution and a batch norm that takes the statistics of its batch, or not."""

    def build(work: Workload) -> Graph:
        g = Builder("served", work.precision)
        x = g("conv", Conv2d(3, 8, 3, 1, 1), g.input("x", (work.batch, 3, 8, 8)))
        return g.finish(g("norm", BatchNorm(8), x), training_statistics=told or None)

    return Model(name="served", family="", build=build)


def small(on: str, nbytes: float):
    """A machine with another amount of memory."""
    return find_machine(on).but({"memory.capacity": nbytes}, "the test")


def cached(on: str, nbytes: float):
    """A machine with another cache."""
    machine = find_machine(on)
    return replace(machine, cache_bytes=replace(machine.cache_bytes, value=nbytes))


A100, GPT2 = "a100-sxm-80gb", {"precision": "fp16", "context": 1024}
# rule -> (where it fires, where it must not); functions, so that a table costs nothing until it is used
CASES = {
    "fewer-flops-slower": (
        lambda: made("densenet121", "v100", precision="fp16"),
        # compute decides on one core: more MACs take longer
        lambda: made("ds_cnn_s", "stm32l4r5", precision="int8"),
    ),
    "matrix-alignment": (
        lambda: made("mlp(widths=(1001, 1001, 1001))", A100, precision="fp16", batch=4096),
        lambda: made("mlp(widths=(1024, 1024, 1024))", A100, precision="fp16", batch=4096),
    ),
    "dense-at-batch-1": (
        lambda: made("mlp", A100, precision="fp16"),
        lambda: made("mlp", A100, precision="fp16", batch=64),
    ),
    "batch-norm-small-batch": (
        lambda: made("resnet18", "v100", precision="fp16", batch=2, stated={"trains": True}),
        lambda: made("resnet18", "v100", precision="fp16", batch=32, stated={"trains": True}),
    ),
    "training-statistics": (
        lambda: made(served_as_trained(("norm",)), "v100", batch=4),
        lambda: made(served_as_trained(()), "v100", batch=4),
    ),
    "kv-cache-left-out": (
        lambda: made("gpt2-xl", A100, **GPT2),
        lambda: made("gpt2-xl", A100, phase="decode", **GPT2),
    ),
    "quadratic-attention": (
        lambda: made("gpt2-xl", A100, stated={"attention": "materialised"}, **GPT2),
        lambda: made("gpt2-xl", A100, stated={"attention": "tiled"}, **GPT2),
    ),
    "depth-without-skips": (
        lambda: made("plain34", "v100", precision="fp16"),
        lambda: made("resnet34", "v100", precision="fp16"),
    ),
    "recurrence-on-wide-machine": (
        lambda: made("lstm_tagger", "h100", precision="fp16", batch=4),
        lambda: made("bert-base", "h100", precision="fp16", batch=4),
    ),
    "hybrid-blocks-flush-cache": (
        lambda: made(hybrid(True), cached(A100, 2e6), precision="fp16"),
        lambda: made(hybrid(False), cached(A100, 2e6), precision="fp16"),
    ),
    "trained-large-deployed-small": (
        lambda: made("llama-3-8b", small("rpi5", 4e9), phase="decode", precision="fp16",
                     stated={"trained_on_bytes": 640e9}),
        lambda: made("mobilenet_v2", small("rpi5", 4e9), precision="fp16",
                     stated={"trained_on_bytes": 640e9}),
    ),
    "im2col-workspace": (
        lambda: made("vgg16", small("rpi4", 250e6), precision="int8", stated={"convolution": "im2col"}),
        lambda: made("vgg16", small("rpi4", 250e6), precision="int8", stated={"convolution": "direct"}),
    ),
    "softmax-overflow-fp16": (
        lambda: made("t5-base", A100, precision="fp16"),
        lambda: made("bert-base", A100, precision="fp16"),
    ),
    "tables-beyond-device": (
        lambda: made("dlrm", A100),
        lambda: made("dlrm(rows=(1000, 1000))", A100),
    ),
    "interconnect-bound-sharding": (
        lambda: made("gpt2-small", "l4", precision="fp16", context=1024, batch=4, stated={"devices": 4}),
        lambda: made("llama-3-8b", "h100", precision="fp16", context=4096, batch=8, stated={"devices": 2}),
    ),
    "weak-bias-few-labels": (
        lambda: made("vit_b_16", "v100", precision="fp16", stated={"labels": 50_000}),
        lambda: made("resnet50", "v100", precision="fp16", stated={"labels": 50_000}),
    ),
    "long-range-for-local-data": (
        lambda: made("gpt2-small", A100, stated={"data_range": 128}, **GPT2),
        lambda: made("gpt2-small", A100, stated={"data_range": 1000}, **GPT2),
    ),
    "unsupported-dtype": (
        lambda: made("vit_b_16", "v100", precision="bf16"),
        lambda: made("vit_b_16", "v100", precision="fp16"),
    ),
    "macs-quoted-as-flops": (
        lambda: made("resnet50", "v100", precision="fp16", stated={"flops": 4.1e9}),
        lambda: made("resnet50", "v100", precision="fp16", stated={"flops": 8.2e9}),
    ),
    "does-not-fit": (
        lambda: made("llama-3-70b", "h100", phase="decode", precision="fp16"),
        lambda: made("llama-3-8b", "h100", phase="decode", precision="fp16"),
    ),
}  # fmt: skip
