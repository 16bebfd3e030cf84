"""Vision networks: names, counts and logits of the reference implementations, published figures, hand sums."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import sympy

from pharos.graph.count import count
from pharos.graph.graph import Node
from pharos.graph.workload import Workload
from pharos.models.registry import find
from pharos.quantity.errors import PharosError

HERE = Path(__file__)
MADE = runpy.run_path(str(HERE.with_name("make_vision_reference.py")))
REFERENCE = json.loads(HERE.with_name("vision_reference.json").read_text())["models"]
# Parameters and 1e9 MACs that torchvision publishes with its weights (num_params, _ops).
PUBLISHED = {
    "alexnet": (61_100_840, 0.714), "convnext_tiny": (28_589_128, 4.456),
    "convnext_small": (50_223_688, 8.684), "convnext_base": (88_591_464, 15.355),
    "convnext_large": (197_767_336, 34.361), "densenet121": (7_978_856, 2.834),
    "densenet161": (28_681_000, 7.728), "densenet169": (14_149_480, 3.36),
    "densenet201": (20_013_928, 4.291), "efficientnet_b0": (5_288_548, 0.386),
    "efficientnet_b1": (7_794_184, 0.687), "efficientnet_b2": (9_109_994, 1.088),
    "efficientnet_b3": (12_233_232, 1.827), "efficientnet_b4": (19_341_616, 4.394),
    "efficientnet_b5": (30_389_784, 10.266), "efficientnet_b6": (43_040_704, 19.068),
    "efficientnet_b7": (66_347_960, 37.746), "efficientnet_v2_s": (21_458_488, 8.366),
    "efficientnet_v2_m": (54_139_356, 24.582), "efficientnet_v2_l": (118_515_272, 56.08),
    "googlenet": (6_624_904, 1.498), "mnasnet0_5": (2_218_512, 0.104), "mnasnet0_75": (3_170_208, 0.215),
    "mnasnet1_0": (4_383_312, 0.314), "mnasnet1_3": (6_282_256, 0.526), "mobilenet_v2": (3_504_872, 0.301),
    "mobilenet_v3_large": (5_483_032, 0.217), "mobilenet_v3_small": (2_542_856, 0.057),
    "regnet_y_400mf": (4_344_144, 0.402), "regnet_y_800mf": (6_432_512, 0.834),
    "regnet_y_1_6gf": (11_202_430, 1.612), "regnet_y_3_2gf": (19_436_338, 3.176),
    "regnet_y_8gf": (39_381_472, 8.473), "regnet_y_16gf": (83_590_140, 15.912),
    "regnet_y_32gf": (145_046_770, 32.28), "regnet_x_400mf": (5_495_976, 0.414),
    "regnet_x_800mf": (7_259_656, 0.8), "regnet_x_1_6gf": (9_190_136, 1.603),
    "regnet_x_3_2gf": (15_296_552, 3.177), "regnet_x_8gf": (39_572_648, 7.995),
    "regnet_x_16gf": (54_278_536, 15.941), "regnet_x_32gf": (107_811_560, 31.736),
    "resnet18": (11_689_512, 1.814), "resnet34": (21_797_672, 3.664), "resnet50": (25_557_032, 4.089),
    "resnet101": (44_549_160, 7.801), "resnet152": (60_192_808, 11.514),
    "resnext50_32x4d": (25_028_904, 4.23), "resnext101_32x8d": (88_791_336, 16.414),
    "resnext101_64x4d": (83_455_272, 15.46), "wide_resnet50_2": (68_883_240, 11.398),
    "wide_resnet101_2": (126_886_696, 22.753), "shufflenet_v2_x0_5": (1_366_792, 0.04),
    "shufflenet_v2_x1_0": (2_278_604, 0.145), "shufflenet_v2_x1_5": (3_503_624, 0.296),
    "shufflenet_v2_x2_0": (7_393_996, 0.583), "squeezenet1_0": (1_248_424, 0.819),
    "squeezenet1_1": (1_235_496, 0.349), "swin_t": (28_288_354, 4.491), "swin_s": (49_606_258, 8.741),
    "swin_b": (87_768_224, 15.431), "vgg11": (132_863_336, 7.609), "vgg13": (133_047_848, 11.308),
    "vgg16": (138_357_544, 15.47), "vgg19": (143_667_240, 19.632), "vit_b_16": (86_567_656, 17.564),
    "vit_b_32": (88_224_232, 4.409), "vit_l_16": (304_326_632, 61.555), "vit_l_32": (306_535_400, 15.378),
    "vit_h_14": (632_045_800, 167.295),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(REFERENCE))
def test_state_and_counts_of_the_reference_implementation(name):
    graph = find(name).graph()
    state = {k: t.shape for k, t in graph.parameter_names().items()}
    for node in graph.expanded().nodes:
        assert isinstance(node, Node)
        state |= {node.parameter(k): t.shape for k, t in node.buffers.items()}
    counted, known = count(graph), REFERENCE[name]
    assert (counted.parameters, counted.macs) == (known["parameters"], known["macs"])
    assert MADE["names_and_shapes"](state) == known["state"]


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_figures(name):
    parameters, gmacs = PUBLISHED[name]
    counted = count(find(name).graph())
    assert counted.parameters == parameters
    # three decimals are printed
    assert counted.macs == pytest.approx(gmacs * 1e9, rel=5e-3, abs=5e5)


@pytest.mark.parametrize("name", sorted(n for n, known in REFERENCE.items() if "logits" in known))
def test_logits_of_the_reference_implementation(name):
    """The same weights by name give the same logits; the whole state has the reference's names."""
    torch = pytest.importorskip("torch")
    from pharos.convert.to_torch import to_torch

    known = REFERENCE[name]
    resolution = known["resolution"]
    text = name if resolution is None else f"{name}(resolution={resolution})"
    if resolution is None:
        resolution = 224
    graph = find(text).graph(Workload(batch=2))
    if name in ("alexnet", "vgg16"):
        # every tensor is filled below; to initialise 138 million weights first takes seconds
        with torch.device("meta"):
            module = to_torch(graph).eval()
        module = module.to_empty(device="cpu")
    else:
        module = to_torch(graph).eval()
    state = {k: tuple(t.shape) for k, t in module.state_dict().items()}
    assert MADE["names_and_shapes"](state) == known["state"]
    MADE["fill"](module)
    with torch.no_grad():
        logits = module(MADE["images"](resolution))
    expected = torch.tensor(known["logits"])
    torch.testing.assert_close(
        logits[:, : expected.shape[1]], expected, rtol=0, atol=1e-4 * float(logits.abs().max())
    )


def cifar_by_hand(depth):
    """Weights and MACs of 6 n + 2 layers in stages of 16, 32, 64 channels on 32, 16, 8 rows."""
    n = (depth - 2) // 6
    weights = {32: 9 * (3 * 16 + 2 * n * 16 * 16)}
    weights[16] = 9 * (16 * 32 + (2 * n - 1) * 32 * 32)
    weights[8] = 9 * (32 * 64 + (2 * n - 1) * 64 * 64)
    norms = 2 * (16 + 2 * n * (16 + 32 + 64))
    macs = sum(w * side**2 for side, w in weights.items()) + 640
    return sum(weights.values()) + norms + 650, macs


@pytest.mark.parametrize(
    # He et al. 2015, arXiv:1512.03385, table 6
    ("name", "millions"), [("cifar_resnet20", 0.27), ("cifar_resnet56", 0.85), ("cifar_resnet110", 1.7),
                           ("cifar_resnet(depth=32)", 0.46), ("cifar_resnet(depth=44)", 0.66)],
)  # fmt: skip
def test_cifar_resnets_by_hand(name, millions):
    counted = count(find(name).graph())
    depth = int("".join(c for c in name if c.isdigit()))
    assert (counted.parameters, counted.macs) == cifar_by_hand(depth)
    assert counted.parameters / 1e6 == pytest.approx(millions, rel=0.02)
    # shortcuts of option A have no weights: the plain network has as many
    plain = count(find(f"cifar_plain(depth={depth})").graph())
    assert (plain.parameters, plain.macs) == (counted.parameters, counted.macs)


def preact_by_hand(blocks, widths, deep):
    """(weights, norm parameters, MACs) of pre-activation stages on 32, 16, 8 rows, behind a stem of 16."""
    layers, norms, channels, side = [(3 * 16 * 9, 32)], 0, 16, 32
    for stage, width in enumerate(widths):
        for block in range(blocks):
            out = 32 // 2**stage
            inner = width // 4 if deep else width
            if deep:
                layers += [(channels * inner, side), (9 * inner * inner, out), (inner * width, out)]
            else:
                layers += [(9 * channels * width, out), (9 * width * width, out)]
            if block == 0:
                layers.append((channels * width, out))
            norms += 2 * (channels + inner * (2 if deep else 1))
            channels, side = width, out
    weights = sum(w for w, _ in layers) + 10 * channels
    return weights, norms + 2 * channels, sum(w * s**2 for w, s in layers) + 10 * channels


@pytest.mark.parametrize(
    # weights in millions: He et al. 2016, arXiv:1603.05027, table 4; Zagoruyko and Komodakis 2016, table 4
    ("name", "blocks", "widths", "deep", "millions"),
    [
        ("preact_resnet164", 18, (64, 128, 256), True, 1.7),
        ("preact_resnet1001", 111, (64, 128, 256), True, 10.2),
        ("wide_resnet28_10", 4, (160, 320, 640), False, 36.5),
        ("wide_resnet28_10(depth=16, width=8)", 2, (128, 256, 512), False, 11.0),
        ("wide_resnet28_10(depth=40, width=4)", 6, (64, 128, 256), False, 8.9),
    ],
)
def test_preactivation_networks_by_hand(name, blocks, widths, deep, millions):
    weights, norms, macs = preact_by_hand(blocks, widths, deep)
    counted = count(find(name).graph())
    assert counted.parameters == weights + norms + 10
    assert counted.macs == macs
    # one decimal is printed, and norms are not counted
    assert weights / 1e6 == pytest.approx(millions, abs=0.06)


def test_plain_networks_are_resnets_without_projections():
    for depth in (18, 34):
        plain, residual = (count(find(f"{kind}{depth}").graph()) for kind in ("plain", "resnet"))
        # one 1x1 and its norm in three stages
        projections = [(64, 128, 28), (128, 256, 14), (256, 512, 7)]
        assert residual.parameters - plain.parameters == sum(a * b + 2 * b for a, b, _ in projections)
        assert residual.macs - plain.macs == sum(a * b * side**2 for a, b, side in projections)


def test_a_residual_network_of_any_depth_is_the_catalogued_one():
    for text, name in (
        ("residual_net(depths=[3, 4, 23, 3])", "resnet101"),
        ("residual_net(depths=[3, 4, 6, 3], groups=32, group_width=4)", "resnext50_32x4d"),
        ("residual_net(depths=[2, 2, 2, 2], bottleneck=False)", "resnet18"),
        ("plain_net(depths=[3, 4, 6, 3])", "plain34"),
    ):
        one, other = count(find(text).graph()), count(find(name).graph())
        assert (one.parameters, one.macs) == (other.parameters, other.macs)


@pytest.mark.parametrize(
    # parameters with norms folded and MACs of the files that MLPerf Tiny publishes; channels normed
    ("name", "folded", "macs", "normed"),
    [("mlperf-tiny-vww", 210_850, 7_489_664, 2_736), ("mlperf-tiny-ic", 77_706, 12_501_632, 240),
     ("mlperf-tiny-ad", 265_864, 264_192, 1_032), ("mlperf-tiny-kws", 22_604, 2_656_768, 576)],
)  # fmt: skip
def test_mlperf_tiny(name, folded, macs, normed):
    counted = count(find(name).graph())
    assert counted.parameters == folded + 2 * normed
    assert counted.macs == macs


@pytest.mark.parametrize(
    ("text", "parameters", "gmacs"),
    # torchvision's IMAGENET1K_SWAG_E2E_V1 weights: positions grow with the image, windows do not
    [("vit_b_16(resolution=384)", 86_859_496, 55.484), ("vit_l_16(resolution=512)", 305_174_504, 361.986),
     ("vit_h_14(resolution=518)", 633_470_440, 1016.717), ("regnet_y_16gf(resolution=384)", 83_590_140, 46.735)],
)  # fmt: skip
def test_other_resolutions(text, parameters, gmacs):
    counted = count(find(text).graph())
    assert counted.parameters == parameters
    assert counted.macs == pytest.approx(gmacs * 1e9, rel=1e-4)


@pytest.mark.parametrize(
    "name", ["vit_t_16", "swin_t", "convnext_tiny", "efficientnet_b0", "shufflenet_v2_x1_0", "cifar_resnet20"]
)
def test_batches_in_three_readings(name):
    batches, model = [1, 3, 8], find(name)
    ints = [count(model.graph(Workload(batch=b))) for b in batches]
    arrays = count(model.graph(Workload(batch=np.array(batches))))
    b = sympy.Symbol("B", integer=True, positive=True)
    formula = sympy.sympify(count(model.graph(Workload(batch=b))).macs)
    assert arrays.macs.tolist() == [c.macs for c in ints] == [int(formula.subs(b, n)) for n in batches]
    assert sympy.expand(formula) == ints[0].macs * b
    assert arrays.traffic_per_op.tolist() == [c.traffic_per_op for c in ints]


def test_the_work_of_a_convnext_grows_with_the_area_and_that_of_a_vit_faster():
    side = sympy.Symbol("s", integer=True, positive=True)
    macs = sympy.expand(count(find("vit_t_16").entry.build(Workload(), resolution=16 * side)).macs)
    # n = s^2 + 1 tokens: 12 layers of 12 d^2 n + 2 d n^2, the patches and the head
    n, d = side**2 + 1, 192
    hand = 12 * (12 * d**2 * n + 2 * d * n**2) + 3 * 256 * d * side**2 + 1000 * d
    assert sympy.expand(macs - hand) == 0
    small, large = (count(find(f"convnext_tiny(resolution={r})").graph()).macs - 768_000 for r in (224, 448))
    assert large == 4 * small


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cifar_resnet(depth=21)", "depth is 6 n + 2"),
        ("preact_resnet164(depth=20.5)", "whole number"),
        ("preact_resnet164(depth=100)", "depth is 9 n + 2"),
        ("vit_b_16(resolution=8)", "window of 16"),
    ],
)
def test_mistakes_are_told(text, told):
    with pytest.raises(PharosError) as caught:
        find(text).graph()
    assert told in str(caught.value)


def test_swin_needs_a_known_resolution():
    with pytest.raises(PharosError, match="known resolution"):
        find("swin_t").entry.build(Workload(), resolution=sympy.Symbol("r"))
