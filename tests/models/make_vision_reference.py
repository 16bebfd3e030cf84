"""Writes vision_reference.json: what torchvision and timm say of the networks that both know.

Run it in an environment of its own, ``pip install torch torchvision timm``: torchvision's compiled part
fits one build of torch alone, and the tests are to run with any.
"""

import hashlib
import json
import sys
import zlib
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("vision_reference.json")
TORCHVISION = {
    "alexnet": 224, "convnext_base": 224, "convnext_large": 224, "convnext_small": 224, "convnext_tiny": 224,
    "densenet121": 224, "densenet161": 224, "densenet169": 224, "densenet201": 224, "efficientnet_b0": 224,
    "efficientnet_b1": 240, "efficientnet_b2": 288, "efficientnet_b3": 300, "efficientnet_b4": 380,
    "efficientnet_b5": 456, "efficientnet_b6": 528, "efficientnet_b7": 600, "efficientnet_v2_l": 480,
    "efficientnet_v2_m": 480, "efficientnet_v2_s": 384, "googlenet": 224, "mnasnet0_5": 224,
    "mnasnet0_75": 224, "mnasnet1_0": 224, "mnasnet1_3": 224, "mobilenet_v2": 224, "mobilenet_v3_large": 224,
    "mobilenet_v3_small": 224, "regnet_x_16gf": 224, "regnet_x_1_6gf": 224, "regnet_x_32gf": 224,
    "regnet_x_3_2gf": 224, "regnet_x_400mf": 224, "regnet_x_800mf": 224, "regnet_x_8gf": 224,
    "regnet_y_16gf": 224, "regnet_y_1_6gf": 224, "regnet_y_32gf": 224, "regnet_y_3_2gf": 224,
    "regnet_y_400mf": 224, "regnet_y_800mf": 224, "regnet_y_8gf": 224, "resnet101": 224, "resnet152": 224,
    "resnet18": 224, "resnet34": 224, "resnet50": 224, "resnext101_32x8d": 224, "resnext101_64x4d": 224,
    "resnext50_32x4d": 224, "shufflenet_v2_x0_5": 224, "shufflenet_v2_x1_0": 224, "shufflenet_v2_x1_5": 224,
    "shufflenet_v2_x2_0": 224, "squeezenet1_0": 224, "squeezenet1_1": 224, "swin_b": 224, "swin_s": 224,
    "swin_t": 224, "vgg11": 224, "vgg13": 224, "vgg16": 224, "vgg19": 224, "wide_resnet101_2": 224,
    "wide_resnet50_2": 224,
}  # fmt: skip
TIMM = {
    "vit_t_16": "vit_tiny_patch16_224", "vit_s_16": "vit_small_patch16_224",
    "vit_b_16": "vit_base_patch16_224", "vit_b_32": "vit_base_patch32_224",
    "vit_l_16": "vit_large_patch16_224", "vit_l_32": "vit_large_patch32_224",
    "vit_h_14": "vit_huge_patch14_224", "resnet18_v2": "resnetv2_18", "resnet34_v2": "resnetv2_34",
    "resnet50_v2": "resnetv2_50", "resnet101_v2": "resnetv2_101", "resnet152_v2": "resnetv2_152",
}  # fmt: skip
# Networks that are run, at a resolution that keeps the test short; None is the only one they have.
RUN = {
    "alexnet": None, "convnext_tiny": 64, "densenet121": 64, "efficientnet_b0": 64, "efficientnet_b5": 64,
    "efficientnet_v2_s": 64, "googlenet": 64, "mnasnet1_0": 64, "mobilenet_v2": 64, "mobilenet_v3_large": 64,
    "mobilenet_v3_small": 64, "regnet_x_400mf": 64, "regnet_y_400mf": 64, "resnet18_v2": 64, "resnet50": 64,
    "resnet50_v2": 64, "resnext50_32x4d": 64, "shufflenet_v2_x1_0": 64, "squeezenet1_0": 64,
    "swin_t": 100, "swin_s": 128, "vgg16": None, "vit_b_16": 224, "vit_t_16": 224,
}  # fmt: skip


def names_and_shapes(found):
    """Digest of a state by name and shape, without the counters that batch norms keep for training."""
    lines = sorted(
        f"{name} {'x'.join(map(str, shape))}"
        for name, shape in found.items()
        if not name.endswith("num_batches_tracked")
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def fill(module):
    """The same weights for the same names, everywhere: NumPy keeps this generator's numbers for good.

    Matrices keep the size of what goes through them; scales and variances lie around 1.
    """
    import torch

    for name, tensor in module.state_dict().items():
        if not tensor.dtype.is_floating_point:
            continue
        draws = np.random.RandomState(zlib.crc32(name.encode())).random_sample(tuple(tensor.shape))
        # drawn from [low, low + width)
        if max(tensor.shape) < tensor.numel():
            low = -((4 / tensor[0].numel()) ** 0.5)
            width = -2 * low
        elif name.endswith(("running_var", "weight", "scale")):
            low, width = 0.5, 1.0
        else:
            low, width = -0.2, 0.4
        tensor.copy_(torch.from_numpy(draws)).mul_(width).add_(low)


def images(resolution):
    """Two images, always the same."""
    import torch

    draws = np.random.RandomState(0).random_sample((2, 3, resolution, resolution))
    return torch.from_numpy(2 * draws - 1).float()


def reference(name):
    """The reference implementation's module."""
    if name in TIMM:
        import timm

        return timm.create_model(TIMM[name], num_classes=1000).eval()
    import torchvision

    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    return torchvision.models.get_model(name, weights=None, **options).eval()


def describe(name):
    """Counts, names and, for those that are run, the first logits of two images."""
    import torch
    from timm.layers import set_fused_attn
    from torch.utils.flop_counter import FlopCounterMode

    # the counter does not know the fused attention of every device
    set_fused_attn(False)
    # regnets compute their widths with torch while they are built
    device = "cpu" if name in RUN or name.startswith("regnet") else "meta"
    resolution = TORCHVISION.get(name, 224)
    with torch.device(device), torch.no_grad(), FlopCounterMode(display=False) as counter:
        module = reference(name)
        module(torch.zeros(1, 3, resolution, resolution))
    found = {
        "parameters": sum(p.numel() for p in module.parameters()),
        "macs": counter.get_total_flops() // 2,
        "state": names_and_shapes({k: tuple(t.shape) for k, t in module.state_dict().items()}),
    }
    if name in RUN:
        fill(module)
        with torch.no_grad():
            logits = module(images(RUN[name] or resolution))
        found |= {"resolution": RUN[name], "logits": [[float(f"{v:.7g}") for v in row[:6]] for row in logits]}
    return found


def main():
    import timm
    import torch
    import torchvision

    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "timm": timm.__version__}
    models = {name: describe(name) for name in sys.argv[1:] or sorted([*TORCHVISION, *TIMM])}
    lines = ",\n".join(f'  "{name}": {json.dumps(found)}' for name, found in models.items())
    FILE.write_text(f'{{\n "made_with": {json.dumps(versions)},\n "models": {{\n{lines}\n }}\n}}\n')


if __name__ == "__main__":
    main()
