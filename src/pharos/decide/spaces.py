"""Spaces: the members of each family that a search looks at, made to fit the data."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pharos.decide.data.facts import Data
from pharos.models.sequence import field_of

# Sides that networks for photographs are published at, and widths of those that have a multiplier.
SIDES = (224, 192, 160, 128, 96)
WIDTHS = {"mobilenet_v1": (0.25, 0.5, 0.75, 1.0), "mobilenet_v2": (0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
          "mobilenet_v3_small": (0.75, 1.0), "mobilenet_v3_large": (0.75, 1.0)}  # fmt: skip
SMALL_IMAGE = 64
HIDDEN = (16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
# Decoders whose weights are published, smallest first; more are in the catalogue.
DECODERS = {"transformer": ("qwen2.5-0.5b", "llama-3.2-1b", "llama-3.2-3b", "phi-3-mini-128k", "llama-3.1-8b",
                            "phi-3-medium-4k", "llama-3.1-70b"),
            "ssm": ("mamba-130m", "mamba-370m", "mamba-790m", "mamba-1.4b", "mamba-2.8b")}  # fmt: skip
# Steps that sound is taken in, and numbers of a step, where the data do not tell.
BANDS = 40
# Tokens, where the data do not tell: those of BERT.
VOCABULARY = 30_522


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One network to judge.

    Args:
        line: the architecture it is a size of.
        model: a name that `pharos` reads.
        knobs: what was chosen, for people.
        work: fields of the workload beside batch and precision.
        resolution: of its input, for published accuracies.
        phases: further phases that must hold too: (phase, context).
        axis: a hyperparameter and values that can be evaluated at once, as an array.
    """

    family: str
    line: str
    model: str
    knobs: dict[str, Any]
    work: dict[str, Any] = field(default_factory=dict)
    resolution: int | None = None
    field_steps: int | None = None


def members(family: str, data: Data, task: str, horizon_s: float, pretrained: bool) -> list[Member]:
    """The members of a family that fit the data; empty where there are none."""
    made = _SPACES.get((family, data.kind))
    return list(made(family, data, task, horizon_s, pretrained)) if made else []


def outputs(data: Data, task: str) -> int:
    """Numbers that come out."""
    if task in ("regress", "forecast", "rank"):
        return 1
    if data.classes:
        return 1 if data.classes == 2 and data.kind == "tabular" else data.classes
    return 32 if task == "transcribe" else 10


def _call(name: str, **arguments: Any) -> str:
    inner = ", ".join(f"{k}={v!r}" for k, v in arguments.items())
    return f"{name}({inner})" if inner else name


def _resolutions(data: Data) -> tuple[int, ...]:
    told = data.resolution or SIDES[0]
    if data.known.get("resolution", "").startswith("told"):
        return (told,)
    return tuple(s for s in SIDES if s <= told) or (32 * max(1, told // 32),)


def _images(family: str, data: Data, task: str, horizon_s: float, pretrained: bool) -> Iterator[Member]:
    classes = outputs(data, task)
    small = (data.resolution or SIDES[0]) <= SMALL_IMAGE and not pretrained

    def member(name: str, line: str, side: int, **knobs: Any) -> Member:
        shown = {"resolution": side, **knobs}
        return Member(family=family, line=line, model=_call(name, **knobs, resolution=side, classes=classes),
                      knobs=shown, resolution=side)  # fmt: skip

    if small:
        for width in (8, 16, 32, 64):
            yield member("resnet8", "ResNet-8", data.resolution or 32, width=width)
        if data.resolution == 32:
            for name in ("cifar_resnet20", "cifar_resnet56", "cifar_resnet110"):
                yield Member(family=family, line="CIFAR ResNet", model=_call(name, classes=classes),
                             knobs={"depth": int(name[12:])}, resolution=32)  # fmt: skip
        for width in WIDTHS["mobilenet_v2"][:4]:
            yield member("mobilenet_v2", "MobileNetV2", data.resolution or 32, width=width)
        return
    for side in _resolutions(data):
        for name, widths in WIDTHS.items():
            for width in widths:
                yield member(name, _LINES[name], side, width=width)
        for name in ("resnet18", "resnet34", "resnet50", "resnet101", "efficientnet_b0", "convnext_tiny"):
            yield member(name, _LINES[name], side)


_LINES = {
    "mobilenet_v1": "MobileNetV1",
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3_small": "MobileNetV3-small",
    "mobilenet_v3_large": "MobileNetV3-large",
    "resnet18": "ResNet-18",
    "resnet34": "ResNet-34",
    "resnet50": "ResNet-50",
    "resnet101": "ResNet-101",
    "efficientnet_b0": "EfficientNet-B0",
    "convnext_tiny": "ConvNeXt-T",
}


def _vit(family: str, data: Data, task: str, horizon_s: float, pretrained: bool) -> Iterator[Member]:
    classes = outputs(data, task)
    for side in _resolutions(data):
        for name in ("vit_t_16", "vit_s_16", "vit_b_16"):
            yield Member(family=family, line="ViT", model=_call(name, resolution=side, classes=classes),
                         knobs={"size": name[4], "resolution": side}, resolution=side)  # fmt: skip


def _dense(family: str, data: Data, task: str, horizon_s: float, pretrained: bool) -> Iterator[Member]:
    if data.kind == "images":
        side = min(data.resolution or SIDES[-1], SIDES[-1])
        inputs = (data.channels or 3) * side**2
    elif data.kind == "audio":
        inputs = (data.length or 49) * (data.features or 10)
    elif data.kind == "interactions":
        inputs = sum(data.tables) + (data.features or 0)
    elif data.kind in ("text", "sequence"):
        inputs = (data.length or 1) * (data.features or data.vocabulary or 1)
    else:
        inputs = data.features or 1
    for depth in (1, 2, 3):
        for hidden in HIDDEN[:11]:
            widths = (inputs, *(hidden,) * depth, outputs(data, task))
            yield Member(family=family, line="MLP", model=_call("mlp", widths=widths),
                         knobs={"depth": depth, "width": hidden})  # fmt: skip


def _keywords(family: str, data: Data, task: str, horizon_s: float, pretrained: bool) -> Iterator[Member]:
    classes = outputs(data, task)
    for name, channels in (
        ("ds_cnn_s", (16, 24, 32, 48, 64)),
        ("ds_cnn_m", (64, 96, 128, 172)),
        ("ds_cnn_l", (276,)),
    ):
        for width in channels:
            own = {"ds_cnn_s": 64, "ds_cnn_m": 172, "ds_cnn_l": 276}[name] == width
            arguments = {} if own else {"channels": width}
            yield Member(family=family, line="DS-CNN", model=_call(name, **arguments, classes=classes),
                         knobs={"size": name[-1], "channels": width})  # fmt: skip


def _sequence(family: str, data: Data, task: str, horizon_s: float, pretrained: bool) -> Iterator[Member]:
    each = task == "transcribe"
    tokens = {"vocabulary": data.vocabulary or VOCABULARY} if data.kind == "text" else {
        "features": data.features or (10 if data.kind == "audio" and not each else BANDS)}  # fmt: skip
    shared: dict[str, Any] = {**tokens, "classes": outputs(data, task)} | ({"each": True} if each else {})
    steps = int(data.longest or data.length or 128)
    if data.unbounded:
        # one new step; what is kept of earlier ones is what the horizon holds
        steps = int(horizon_s * (data.rate_hz or 100.0))
        work = {"phase": "decode", "context": steps}
    else:
        work = {"context": steps}
    name = {"rnn": "sequence_rnn", "ssm": "sequence_ssm", "transformer": "sequence_transformer",
            "cnn-1d": "sequence_cnn"}[family]  # fmt: skip
    for layers in {"rnn": (1, 2, 3, 5), "cnn-1d": (1, 2, 3, 4, 5, 6, 7, 8)}.get(family, (1, 2, 4, 6, 8)):
        seen = field_of(layers, 5) if family == "cnn-1d" else None
        if family == "cnn-1d":
            if layers > 1 and field_of(layers - 1, 5) >= max(data.dependence or steps, 1):
                # one layer less sees as far as dependence reaches
                break
            # a stream is taken window by window, each as long as the field
            work = {"context": min(steps, seen or steps)} if data.unbounded else work
        for hidden in HIDDEN:
            heads = {"heads": max(1, hidden // 64)} if family == "transformer" else {}
            cells = ("lstm", "gru") if family == "rnn" else (None,)
            for cell in cells:
                kind = {"cell": cell} if cell else {}
                yield Member(
                    family=family,
                    line=(cell or {"ssm": "Mamba", "cnn-1d": "1-D CNN"}.get(family, family)).upper()
                    if cell
                    else {"ssm": "Mamba", "cnn-1d": "1-D CNN"}.get(family, "Transformer"),
                    model=_call(name, **shared, hidden=hidden, layers=layers, **heads, **kind),
                    knobs={"width": hidden, "depth": layers, **heads, **kind},
                    work=dict(work),
                    field_steps=seen,
                )


def _language(family: str, data: Data, task: str, horizon_s: float, pretrained: bool) -> Iterator[Member]:
    if task != "generate":
        yield from _sequence(family, data, task, horizon_s, pretrained)
        return
    if not pretrained or family not in DECODERS:
        return
    context = int(data.longest or data.length or 2048)
    for name in DECODERS[family]:
        yield Member(
            family=family,
            line="decoder" if family == "transformer" else "Mamba",
            model=name,
            knobs={"model": name, "context": context},
            work={"phase": "prefill", "context": context},
        )


def _clicks(family: str, data: Data, task: str, horizon_s: float, pretrained: bool) -> Iterator[Member]:
    for dim in (8, 16, 32, 64, 128):
        model = _call(
            "dlrm",
            rows=data.tables,
            dim=dim,
            dense=max(1, data.features or 1),
            bottom=(512, 256, dim),
            top=(512, 256, 1),
        )
        yield Member(
            family=family, line="DLRM", model=model, knobs={"table_dim": dim, "tables": len(data.tables)}
        )


_SPACES: dict[tuple[str, str], Callable[..., Iterator[Member]]] = {
    ("cnn", "images"): _images,
    ("vit", "images"): _vit,
    ("mlp", "images"): _dense,
    ("mlp", "tabular"): _dense,
    ("mlp", "audio"): _dense,
    ("mlp", "interactions"): _dense,
    ("cnn", "audio"): _keywords,
    ("dlrm", "interactions"): _clicks,
    **{(f, k): _sequence for f in ("rnn", "cnn-1d") for k in ("audio", "sequence", "text")},
    **{(f, k): _sequence for f in ("ssm", "transformer") for k in ("audio", "sequence")},
    **{(f, "text"): _language for f in ("ssm", "transformer", "rnn", "cnn-1d")},
}
