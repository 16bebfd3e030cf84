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

assert pharos.models
IMAGE = (3, 224, 224)
VISION = ("resnet18", "resnet50", "resnext50_32x4d", "mobilenet_v2", "mobilenet_v3_large", "vgg16", "squeezenet1_1",
          "shufflenet_v2_x1_0", "mnasnet1_0", "densenet121", "efficientnet_b0", "convnext_tiny", "vit_b_16",
          "swin_t")  # fmt: skip
# Which the catalogue alone has: their module is written from the graph.
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
    except ImportError:
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

    return Net(name, lambda batch: to_torch(graph(batch)), shapes, name, context,
               name in ("lenet5", "ds_cnn_s", "lstm_tagger"))  # fmt: skip


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
