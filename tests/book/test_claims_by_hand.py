"""Claims of every section against arithmetic typed here, and nothing of Pharos in it."""

from math import log, log10

import pytest

from pharos.book.ledger import entry

# Shapes of the networks, written out.
RESNET50_STEM = 112 * 112 * 64 * 3 * 49


def bottleneck(side, cin, width, blocks, stride):
    """MACs of a stage of bottlenecks, the stride in the first 3x3 and its shortcut."""
    big = side * stride
    first = (
        big**2 * cin * width
        + side**2 * 9 * width**2
        + side**2 * width * 4 * width
        + side**2 * cin * 4 * width
    )
    return first + (blocks - 1) * side**2 * (4 * width**2 + 9 * width**2 + 4 * width**2)


def threes(side, width, blocks):
    return blocks * side**2 * 9 * width**2


RESNET50 = (
    RESNET50_STEM
    + bottleneck(56, 64, 64, 3, 1)
    + bottleneck(28, 256, 128, 4, 2)
    + bottleneck(14, 512, 256, 6, 2)
    + bottleneck(7, 1024, 512, 3, 2)
    + 2048 * 1000
)
RESNET50_3X3 = threes(56, 64, 3) + threes(28, 128, 4) + threes(14, 256, 6) + threes(7, 512, 3)
GPT2_XL = 50257 * 1600 + 1024 * 1600 + 48 * (12 * 1600**2 + 13 * 1600) + 2 * 1600
MLP = 784 * 4096 + 4096 * 4096 + 4096 * 10
CNN = 9 * 32 + 9 * 32 * 64 + 64 * 7 * 7 * 128 + 128 * 10
KV_7B = 2 * 32 * 32 * 128 * 2

BY_HAND = {
    # 1.1
    "bias-cnn-vs-mlp-1000x": 224**2 * 224**2 / (224**2 * 9),
    "mobilenet-8-9x-cost": [round(1 / (1 / c + 1 / 9), 2) for c in (64, 128, 256, 512, 1024)],
    "fn2-gpt2-3gb": GPT2_XL * 2 / 1e9,
    "table2-resnet50-flops": 2 * RESNET50,
    "table2-gpt2xl-params": GPT2_XL,
    "table2-gpt2xl-memory": 4 * GPT2_XL,
    "sc-ridge-100": 312e12 / 2039e9,
    "sc-mlp-150m": 224 * 224 * 3 * 1000,
    "sc-cnn-10k": 3 * 3 * 3 * 64,
    "sc-resnet-50000-positions": 56 * 56,
    "resnet-depths": [1 + 16 * 3 + 1, 1 + 33 * 3 + 1, 1 + 333 * 3 + 1],
    # 1.2
    "def12-2mb": 1024 * 1024 * 2 / 1e6,
    "mnist-mlp-params": MLP,
    "mnist-cnn-params": CNN,
    "mnist-47x": MLP / CNN,
    "ex12-preactivation": [
        0.8 * 0.5 - 0.2 * 0.3 + 0.9 * 0.2 + 0.1 * 0.7,
        0.8 * 0.1 + 0.2 * 0.8 - 0.9 * 0.4 + 0.1 * 0.3,
        -0.8 * 0.2 + 0.2 * 0.4 + 0.9 * 0.6 - 0.1 * 0.1,
    ],
    "fn7-mac-1pj-dram-200pj": 640 / (3.7 + 0.9),
    "fn9-9x-gap": 312 / 19.5,
    "ref-1568-accesses": 784 + 784,
    "dense-2048-17mb": 2048 * 2048 * 4 / 1e6,
    # the least B with B / (1 + B / 1024) of at least the ridge: B = r / (1 - r / 1024)
    "dense-batch-several-hundred": int((312e12 / 2039e9) / (1 - 312e12 / 2039e9 / 1024)) + 1,
    "sc-4-percent-peak": 100 * 0.5 * 2039e9 / 312e12,
    # 1.3
    "fn12-95-percent": 100 * (1 - (25 * 6) / (32 * 32 * 28 * 28 * 6)),
    "fn14-rf-growth": 1 + 2 * 3,
    "ratio-5575": 224 * 224 * 3 / 27,
    "lh-resnet50-3x3-90": 100 * RESNET50_3X3 / RESNET50,
    "listing3-macs": 9 * 28 * 28,
    "sc-2500": 50 * 50,
    # 1.4
    "rnn-2kb-state": 512 * 4 / 1e3,
    "sc-200mb-10k": 10_000**2 * 2 / 1e6,
    # 1.5
    "def15-32mb": 4096**2 * 2 / 1e6,
    "napkin11-240gb": 1e5**2 * 12 * 2 / 1e9,
    "napkin11-7680gb": 32 * 1e5**2 * 12 * 2 / 1e9,
    "war-4000-64x": (4000 / 512) ** 2,
    "fn18-gpt3-2048-single-gpu": [2048, -(-174_604_259_328 * 2 // 80_000_000_000)],
    # 1.6
    "kv-100gb": 2 * 80 * 64 * 128 * 2 * 40_000 / 1e9,
    "fn22-kv-1p07gb": KV_7B * 2048 / 1e9,
    "fn22-8-users-8p6gb": 8 * KV_7B * 2048 / 1e9,
    "infer-140gb-70b": 70e9 * 2 / 1e9,
    "fig10-three-orders": log10(131_072 / 2048),
    # 1.7
    "embedding-512gb": 1e9 * 128 * 4 / 1e9,
    "napkin12-60-percent": 100 * 1e8 * 128 * 4 / 80e9,
    "sc-600gb-shard": -(-600 // 80),
    # 1.8
    "alexnet-60m": 34_944 + 307_456 + 885_120 + 663_936 + 442_624 + 37_752_832 + 16_781_312 + 4_097_000,
    "sram-20mb": (56 * (256 + 64) * 1024 + 4 * 2**20) / 1e6,
    "sigmoid-max-0p25": 0.5 * (1 - 0.5),
    "plain50-initial-loss": log(10),
    "four-orders-gradient": log10(0.01 / 1e-8),
    "fn27-lstm-triple": 4.0,
    "fn29-196-tokens": (224 // 16) ** 2,
    "bn-jacobian-eigenvalues": [0, 1 / 0.1],
    # 1.9
    "fn30-im2col-2x": 3 * 3,
    "working-set-mlp": (784 * 100 + 784 + 100) * 4 / 1e3,
    "attn-movement-counts": [512 * 64, 512 * 512 * 64, 512 * 512],
    "fn32-25-30x": (92 / 75) / (8.74 / 300),
    "fn34-19tbs": 108 * 128 * 1.41e9 / 1e12,
    "fn33-20x-server-ram": 2039 / (8 * 3.2 * 8),
    "energy-mac-4p6": 3.7 + 0.9,
    # 1.10
    "winograd-2p25": (4 * 9) / (4 * 4),
    "napkin14-123": 30 * 2 * RESNET50 / 1e9,
    "napkin14-2x": 10 * 0.5 / (30 * 100 / 1000),
    "wild-activations-12mb": 224 * 224 * 64 * 4 / 1e6,
    "wild-1p5j-day": 100 * 0.2 * 0.075,
    # 1.11
    "pit6-537mb": KV_7B * 2048 / 1e6,
    "pit6-2-4-users": [2 * KV_7B * 2048 / 1e9, 4 * KV_7B * 2048 / 1e9],
    "sc-7b-35gb": 16 * KV_7B * 4096 / 1e9,
    "sc-7b-66gb": 80 - 7e9 * 2 / 1e9,
    "pit5-160x": 8 * 80 / 4,
}


@pytest.mark.parametrize("claim", BY_HAND)
def test_computed_is_what_the_arithmetic_gives(claim):
    found = entry(claim).computed
    assert found == pytest.approx(BY_HAND[claim], rel=1e-9, abs=1e-9)


def test_every_section_is_sampled():
    numbers = {entry(claim).claim.section.split()[0].split(".")[1] for claim in BY_HAND}
    assert numbers == {str(n) for n in range(1, 12)}


# What another convention gives, by the reading's name.
READINGS = {
    ("table2-resnet50-flops", "MACs"): RESNET50,
    ("def12-9408", "with a 7x7 kernel"): 7 * 7 * 3 * 64,
    ("def15-32mb", "MiB"): 4096**2 * 2 / 2**20,
    ("pit6-537mb", "of keys alone"): KV_7B * 2048 / 2 / 1e6,
    ("sc-cnn-150m-per-neuron", "of a layer of 1000 neurons"): 150_528_000,
    ("fn30-im2col-2x", "with stride 2"): 9 / 4,
    ("napkin12-60-percent", "of 80 GiB"): 100 * 51.2e9 / (80 * 2**30),
    ("fn31-500x", "over an fp32 addition"): 640 / 0.9,
}


@pytest.mark.parametrize(("claim", "reading"), READINGS)
def test_both_readings_are_told_where_the_chapter_has_another_convention(claim, reading):
    found = entry(claim)
    assert found.verdict == "differs"
    assert found.reading == reading
    assert found.readings[reading] == pytest.approx(READINGS[claim, reading], rel=1e-9)
