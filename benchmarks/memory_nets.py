"""The networks of docs/memory.md: the module that others wrote, its inputs, and the catalogue's graph of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pharos.models
from pharos.convert.factory import import_mended
from pharos.convert.to_torch import to_torch
from pharos.graph.graph import Graph
from pharos.graph.workload import Workload
from pharos.models.registry import find
from pharos.quantity.errors import InputError

assert pharos.models
IMAGE = (3, 224, 224)
VISION = ("resnet18", "resnet50", "resnext50_32x4d", "mobilenet_v2", "mobilenet_v3_large", "vgg16", "squeezenet1_1",
          "shufflenet_v2_x1_0", "mnasnet1_0", "densenet121", "efficientnet_b0", "convnext_tiny", "vit_b_16",
          "swin_t")  # fmt: skip
# Which the catalogue alone has: their module is written from the graph, or below.
OWN = {
    "lenet5": None,
    "ds_cnn_s": None,
    "lstm_tagger": 50,
    "dlrm": None,
    "neumf": None,
    "unet(width=16)": None,
}


@dataclass(frozen=True)
class Net:
    """A network.

    Args:
        make: the module for a batch, on the device that is the default.
        shapes: of its inputs for a batch, and their types.
        known: the catalogue's name; context: tokens, if it takes any.
        classes: whether it returns class scores, which a cross-entropy can be taken of.
    """

    name: str
    make: Callable[[int], Any]
    shapes: Callable[[int], list[tuple[tuple[int, ...], str]]]
    known: str
    context: int | None = None
    classes: bool = True

    def graph(self, batch: int, precision: str = "fp32") -> Graph:
        """The catalogue's graph."""
        return find(self.known).graph(Workload(batch=batch, context=self.context, precision=precision))  # type: ignore[arg-type]

    def inputs(self, batch: int, device: str, dtype: Any = None) -> list[Any]:
        """Zeros."""
        import torch

        kinds = [torch.int64 if kind == "int64" else dtype or torch.float32 for _, kind in self.shapes(batch)]
        return [torch.zeros(shape, dtype=kind, device=device)
                for (shape, _), kind in zip(self.shapes(batch), kinds, strict=True)]  # fmt: skip


def nets() -> dict[str, Net]:
    """All of them, by name; those without their package are left out."""
    found = [_own(name, context) for name, context in OWN.items()]
    try:
        vision = import_mended("torchvision.models")
    except InputError:
        vision = None
    if vision is not None:
        found += [Net(name, lambda _, name=name: _plain(getattr(vision, name)()),
                      lambda batch: [((batch, *IMAGE), "fp32")], name) for name in VISION]  # fmt: skip
    return {net.name: net for net in [*found, *_transformers()]}


def _plain(module: Any) -> Any:
    """Without dropout and stochastic depth, which the catalogue's graphs do not have."""
    for part in module.modules():
        if type(part).__name__ == "StochasticDepth" or type(part).__name__.startswith("Dropout"):
            part.p = 0.0
        if isinstance(getattr(part, "dropout", None), float):
            part.dropout = 0.0
    return module


def _own(name: str, context: int | None) -> Net:
    def graph(batch: int) -> Graph:
        return find(name).graph(Workload(batch=batch, context=context))

    def shapes(batch: int) -> list[tuple[tuple[int, ...], str]]:
        return [(tuple(v.shape), v.tensor.dtype) for v in graph(batch).inputs]

    written = WRITTEN.get(name)
    make = (lambda _: written()) if written is not None else (lambda batch: to_torch(graph(batch)))
    return Net(name, make, shapes, name, context,
               name in ("lenet5", "ds_cnn_s", "lstm_tagger"))  # fmt: skip


def _ds_cnn() -> Any:
    """As people write it: a stem, a sequence of separable blocks, a head."""
    from torch import nn

    class Separable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.depthwise, self.depthwise_norm = nn.Conv2d(64, 64, 3, 1, 1, groups=64), nn.BatchNorm2d(64)
            self.pointwise, self.pointwise_norm = nn.Conv2d(64, 64, 1), nn.BatchNorm2d(64)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x: Any) -> Any:
            x = self.relu(self.depthwise_norm(self.depthwise(x)))
            return self.relu(self.pointwise_norm(self.pointwise(x)))

    class Spotter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 64, (10, 4), 2, (5, 1)), nn.BatchNorm2d(64)
            self.relu, self.blocks = nn.ReLU(inplace=True), nn.Sequential(*[Separable() for _ in range(4)])
            self.fc = nn.Linear(64, 12)

        def forward(self, x: Any) -> Any:
            x = self.relu(self.norm(self.conv(x)))
            x = self.blocks(x)
            return self.fc(x.mean((2, 3)))

    return Spotter()


def _unet() -> Any:
    """As people write it: a module a level, skips in a list."""
    from torch import cat, nn

    class Double(nn.Module):
        def __init__(self, before: int, after: int) -> None:
            super().__init__()
            self.convs = nn.Sequential(nn.Conv2d(before, after, 3, 1, 1), nn.ReLU(inplace=True),
                                       nn.Conv2d(after, after, 3, 1, 1), nn.ReLU(inplace=True))  # fmt: skip

        def forward(self, x: Any) -> Any:
            return self.convs(x)

    class Up(nn.Module):
        def __init__(self, before: int, after: int) -> None:
            super().__init__()
            self.transpose, self.convs = nn.ConvTranspose2d(before, after, 2, 2), Double(2 * after, after)

        def forward(self, x: Any, skip: Any) -> Any:
            x = self.transpose(x)
            x = cat([skip, x], 1)
            return self.convs(x)

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            wide = [16 * 2**level for level in range(5)]
            self.down = nn.ModuleList(Double(a, b) for a, b in zip([3, *wide], wide[:-1], strict=False))
            self.bottom = Double(wide[-2], wide[-1])
            self.up = nn.ModuleList(Up(b, a) for a, b in zip(wide[-2::-1], wide[:0:-1], strict=True))
            self.pool, self.head = nn.MaxPool2d(2), nn.Conv2d(16, 1, 1)

        def forward(self, x: Any) -> Any:
            skips = []
            for level in self.down:
                x = level(x)
                skips.append(x)
                x = self.pool(x)
            x = self.bottom(x)
            for level, skip in zip(self.up, skips[::-1], strict=True):
                x = level(x, skip)
            return self.head(x)

    return UNet()


WRITTEN: dict[str, Callable[[], Any]] = {"ds_cnn_s": _ds_cnn, "unet(width=16)": _unet}


def _transformers() -> list[Net]:
    try:
        import transformers as tf
    except ImportError:
        return []
    # tensors without data make transformers write masks that it does without where positions have numbers
    tf.masking_utils.find_packed_sequence_indices = lambda position_ids: None
    gpt = {"use_cache": False, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    bert = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    # GPT-2 as transformers writes it computes its GELU in eight calls of Python and keeps what each needs
    torch_gelu = gpt | {"activation_function": "gelu_pytorch_tanh"}

    def tokens(context: int) -> Callable[[int], list[tuple[tuple[int, ...], str]]]:
        return lambda batch: [((batch, context), "int64")]

    return [
        Net("bert-base 128", lambda _: tf.BertModel(tf.BertConfig(**bert)), tokens(128), "bert-base", 128, False),
        Net("gpt2 1024", lambda _: tf.GPT2LMHeadModel(tf.GPT2Config(**gpt)), tokens(1024), "gpt2-small", 1024),
        Net("gpt2 1024, torch's GELU", lambda _: tf.GPT2LMHeadModel(tf.GPT2Config(**torch_gelu)), tokens(1024),
            "gpt2-small", 1024),
    ]  # fmt: skip
