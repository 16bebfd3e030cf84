"""Section 1.3, Lighthouses 1.1 and 1.2: ResNet-50 and MobileNet: counts, intensity, predicted times."""

from pharos.book.answer import told, unknown
from pharos.book.claims.intensity import FLOPS_OR_MACS
from pharos.book.sums import (
    A100,
    H100,
    as_run,
    band,
    counted,
    estimate,
)
from pharos.ops.conv import Conv2d


def kernel_share(name: str, kernel: int) -> float:
    """Percent of a network's MACs in square kernels of this side."""
    found = counted(name)
    own = sum(
        line.work.macs * line.times
        for line in found.lines
        if isinstance(line.node.op, Conv2d) and line.node.op.axes()[0][0] == kernel
    )
    return 100 * own / found.macs


def network_intensity(batch: int = 1, precision: str = "fp16") -> float:
    """FLOP per byte of ResNet-50's kernels as a compiler fuses them."""
    return as_run(estimate("resnet50", A100, batch=batch, precision=precision))


def mobile_time(machine: str = A100, batch: int = 1) -> tuple[float, float, float]:
    """MobileNetV2's predicted time over ResNet-50's: low, central, high."""
    small, large = (band(estimate(n, machine, batch=batch)) for n in ("mobilenet_v2", "resnet50"))
    return small[0] / large[2], small[1] / large[1], small[2] / large[0]


def told_times(found: list[tuple[float, float, float]], where: str) -> str:
    """Predicted ratios with their bands, in words."""
    shown = ", ".join(f"{value:.2f} ({low:.2f} to {high:.2f})" for low, value, high in found)
    return f"predicted, fp16: MobileNetV2 takes {shown} of ResNet-50's time {where}"


def mobile_ratio() -> float:
    """ResNet-50's FLOPs over MobileNetV2's."""
    return counted("resnet50").flops / counted("mobilenet_v2").flops


def _slower():
    found = [mobile_time(A100), mobile_time(A100, 256), mobile_time(H100)]
    note = told_times(found, "on an A100 at batch 1 and 256 and on an H100")
    if any(value < 1 < high for _, value, high in found):
        return unknown(f"{note}: the band cannot exclude it, so that it must be measured")
    return told(max(value for _, value, _ in found) > 1, note)


def _not_fourteen_times():
    low, value, _ = mobile_time()
    return told(
        1 / low >= mobile_ratio(),
        f"predicted {1 / value:.1f}x faster, {1 / low:.1f}x at most, for {mobile_ratio():.1f}x fewer FLOPs on"
        " an A100, fp16, batch 1",
    )


CLAIMS = {
    "lh-resnet50-params": lambda: [counted("resnet50").parameters, 4 * counted("resnet50").parameters],
    "lh-resnet50-flops": lambda: told(
        counted("resnet50").flops, FLOPS_OR_MACS, MACs=counted("resnet50").macs
    ),
    "lh-resnet50-3x3-90": lambda: told(
        kernel_share("resnet50", 3),
        f"1x1 convolutions have {kernel_share('resnet50', 1):.0f}%",
        of_1x1_and_3x3_together=kernel_share("resnet50", 3) + kernel_share("resnet50", 1),
    ),
    "lh-resnet50-ai-100": lambda: told(
        network_intensity(),
        "fp16, batch 1, weights and activations of fused kernels; Table 1 prints 40.2",
        fp32=network_intensity(precision="fp32"),
        fp32_batch_32=network_intensity(32, "fp32"),
        fp16_batch_32=network_intensity(32),
    ),
    "lh-mobilenet-params": lambda: told(
        [counted("mobilenet_v2").parameters, counted("mobilenet_v2").weight_bytes], "MobileNetV2"
    ),
    "lh-mobilenet-7x": lambda: counted("resnet50").parameters / counted("mobilenet_v2").parameters,
    "lh-mobilenet-flops": lambda: told(
        counted("mobilenet_v2").flops, FLOPS_OR_MACS, MACs=counted("mobilenet_v2").macs
    ),
    "lh-mobilenet-14x": lambda: told(mobile_ratio(), "the same in MACs"),
    "lh-mobilenet-similar-accuracy": lambda: unknown(
        "needs training; published top-1 accuracies are 4 to 9 points apart, by recipe"
    ),
    "mobilenet-slower-on-gpu": _slower,
    "misconception-14x": _not_fourteen_times,
}
