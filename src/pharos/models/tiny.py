"""The reference networks of MLPerf Tiny beside the keyword spotter: wake words, images, anomalies."""

from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.workload import Workload
from pharos.models.blocks import residual
from pharos.models.registry import model
from pharos.ops.activation import Activation
from pharos.ops.conv import Conv2d
from pharos.ops.copies import Pad
from pharos.ops.linear import Linear
from pharos.ops.norm import BatchNorm
from pharos.ops.pooling import GlobalAvgPool
from pharos.quantity.sizes import Size, is_int, round_to

BANBURY = "Banbury et al. 2021, arXiv:2106.07597; layer sizes of its reference code (mlcommons/tiny)"
# Keras' default
EPS = 0.001


def same_conv(
    g: Builder, x: Value, channels: int, name: str, *, kernel: int = 3, stride: int = 1, groups: int = 1,
    norm: bool = True,
) -> Value:  # fmt: skip
    """Convolution with bias and TensorFlow's "same" padding, then batch norm.

    At stride 2 an even side is padded by one after its end and not before its start.
    """
    padding = kernel // 2
    if stride == 2 and kernel == 3 and is_int(x.shape[2]) and x.shape[2] % 2 == 0:
        x = g(f"{name}_pad", Pad(((0, 0), (0, 0), (0, 1), (0, 1))), x)
        padding = 0
    x = g(name, Conv2d(x.shape[1], channels, kernel, stride, padding, groups=groups), x)
    return g(f"{name}_norm", BatchNorm(channels, EPS), x) if norm else x


# (channels, stride) of each separable layer: Howard et al. 2017, arXiv:1704.04861, table 1
SEPARABLE = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1),
             (512, 1), (512, 1), (1024, 2), (1024, 1))  # fmt: skip


@model("cnn", source=BANBURY + ", visual wake words", parameters=216_322, macs=7_489_664,
       aliases=("vww", "vww-mlperf-tiny", "mlperf-tiny-vww"))  # fmt: skip
def mobilenet_vww(work: Workload, *, width: float = 0.25, resolution: int = 96, classes: int = 2) -> Graph:
    """MLPerf Tiny's visual wake words: MobileNetV1 at 0.25; 210,850 parameters once norms are folded."""
    g = Builder("mobilenet_vww", work.precision)
    x = g.input("image", (work.batch, 3, resolution, resolution))
    x = g("stem_relu", Activation("relu"), same_conv(g, x, round_to(32 * width, 8), "stem", stride=2))
    for i, (base, stride) in enumerate(SEPARABLE):
        with g.scope(f"layers.{i}"):
            x = same_conv(g, x, x.shape[1], "depthwise", stride=stride, groups=x.shape[1])
            x = g("depthwise_relu", Activation("relu"), x)
            x = same_conv(g, x, round_to(base * width, 8), "pointwise", kernel=1)
            x = g("pointwise_relu", Activation("relu"), x)
    x = g("pool", GlobalAvgPool(), x)
    return g.finish(g("fc", Linear(x.shape[1], classes), x))


@model("cnn", source=BANBURY + ", image classification", parameters=78_186, macs=12_501_632,
       aliases=("ic-mlperf-tiny", "mlperf-tiny-ic"))  # fmt: skip
def resnet8(work: Workload, *, width: int = 16, resolution: Size = 32, classes: int = 10) -> Graph:
    """MLPerf Tiny's image classifier: three stages of one block; 77,706 parameters once norms are folded."""
    g = Builder("resnet8", work.precision)
    x = g.input("image", (work.batch, 3, resolution, resolution))
    x = g("stem_relu", Activation("relu"), same_conv(g, x, width, "stem"))
    for stage in range(3):
        channels, stride = width * 2**stage, 2 if stage else 1
        with g.scope(f"layers.{stage}"):
            y = same_conv(g, x, channels, "conv1", stride=stride)
            y = same_conv(g, g("relu1", Activation("relu"), y), channels, "conv2")
            if stride != 1:
                x = same_conv(g, x, channels, "shortcut", kernel=1, stride=stride, norm=False)
            x = g("relu2", Activation("relu"), residual(g, x, lambda _, __, y=y: y))
    x = g("pool", GlobalAvgPool(), x)
    return g.finish(g("fc", Linear(x.shape[1], classes), x))


@model("mlp", source=BANBURY + ", anomaly detection", parameters=267_928, macs=264_192,
       aliases=("ad-mlperf-tiny", "mlperf-tiny-ad"))  # fmt: skip
def anomaly_autoencoder(work: Workload, *, features: int = 640, wide: int = 128, narrow: int = 8) -> Graph:
    """MLPerf Tiny's anomaly detector, an autoencoder of sound; 265,864 parameters once norms are folded."""
    g = Builder("anomaly_autoencoder", work.precision)
    x = g.input("spectrogram", (work.batch, features))
    for i, width in enumerate((wide,) * 4 + (narrow,) + (wide,) * 4):
        with g.scope(f"layers.{i}"):
            x = g("dense", Linear(x.shape[-1], width), x)
            x = g("relu", Activation("relu"), g("norm", BatchNorm(width, EPS), x))
    return g.finish(g("output", Linear(x.shape[-1], features), x))
