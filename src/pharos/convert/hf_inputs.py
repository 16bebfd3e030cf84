"""Inputs of a transformers model: what its `forward` needs, in the sizes that its config and a workload say.

Whole numbers are real, so that grids of patches, lengths and places of image tokens steer the run as they
would; everything else has a shape and no data.
"""

import inspect
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

from pharos.quantity.errors import InputError

# Tokens of a text and side of an image where nothing says otherwise; seconds of sound at 16 kHz.
TOKENS, SIDE, SAMPLES, FRAMES = 128, 224, 16000, 100
LARGEST_CONTEXT = 2048
# Pieces of images and sounds in one text.
LARGEST_PLACES = 1 << 18

Maker = Callable[["Asked"], Any]
MAKERS: dict[str, Maker] = {}
# model_type -> what to say of the inputs where the names do not tell: (asked, found so far) -> inputs.
KINDS: dict[str, Callable[["Asked", dict[str, Any]], dict[str, Any]]] = {}


def maker(*names: str) -> Callable[[Maker], Maker]:
    """Registers how an argument of `forward` is made."""

    def register(make: Maker) -> Maker:
        for name in names:
            MAKERS[name] = make
        return make

    return register


def kind(*names: str) -> Callable[[Any], Any]:
    """Registers what is particular to model_types, after all else is made."""

    def register(change: Any) -> Any:
        for name in names:
            KINDS[name] = change
        return change

    return register


class Asked:
    """A model and the sizes it is asked for.

    Args:
        torch, module: the model, with `config` and `main_input_name`.
        batch: samples.
        tokens: length of texts; None for the model's own default.
        places: image, audio and video tokens that the model turned out to expect in a text, by kind.
    """

    def __init__(
        self, torch: Any, module: Any, batch: int = 1, tokens: int | None = None,
        places: dict[str, int] | None = None,
    ) -> None:  # fmt: skip
        self.torch, self.module, self.config, self.batch = torch, module, module.config, batch
        self.given, self.places = tokens, places or {}
        self.kind = str(getattr(self.config, "model_type", ""))
        self.text = text_config(self.config)
        signature = inspect.signature(module.forward).parameters
        skipped = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        self.parameters = {n: p for n, p in signature.items() if p.kind not in skipped}
        self.required = [n for n, p in self.parameters.items() if p.default is p.empty]

    @property
    def tokens(self) -> int:
        """Length of a text: as asked, else as long as the model allows, up to 2048."""
        if self.given is not None:
            return self.given
        allowed = self.number("max_position_embeddings", "n_positions", "max_target_positions", of=self.text)
        if self.kind in _SHORT:
            return TOKENS
        return min(allowed or LARGEST_CONTEXT, LARGEST_CONTEXT) - self.offset

    @property
    def offset(self) -> int:
        """Rows of the position table that are never used."""
        return 2 if self.kind in _OFFSET else 0

    def parts(self, *kinds: str) -> Iterator[Any]:
        """The config's parts whose names hold one of the words, then itself, then the others."""
        held = [(k, v) for k, v in vars(self.config).items() if hasattr(v, "model_type")]
        near = [v for k, v in held if any(word in k for word in kinds)]
        yield from near
        for part in near:
            yield from (v for v in vars(part).values() if hasattr(v, "model_type"))
        yield self.config
        yield from (v for _, v in held if not any(v is n for n in near))

    def get(self, *names: str, of: Any = None, near: tuple[str, ...] = ()) -> Any:
        """The first of some entries that the config has."""
        for part in [of] if of is not None else self.parts(*near):
            for name in names:
                found = getattr(part, name, None)
                if found is not None:
                    return found
        return None

    def number(self, *names: str, of: Any = None, near: tuple[str, ...] = ()) -> int | None:
        """The same, if it is a whole number."""
        found = self.get(*names, of=of, near=near)
        if isinstance(found, (list, tuple)) and found:
            found = found[0]
        return int(found) if isinstance(found, (int, float)) and not isinstance(found, bool) else None

    def empty(self, *shape: int) -> Any:
        """A tensor of floats without data."""
        return self.torch.empty(shape, device="meta")

    def whole(self, *shape: int, value: int = 0) -> Any:
        """A tensor of whole numbers."""
        return self.torch.full(shape, value, dtype=self.torch.long)

    def true(self, *shape: int) -> Any:
        """A mask that lets all through."""
        return self.torch.ones(shape, dtype=self.torch.bool)

    def sides(self, *near: str) -> tuple[int, int]:
        """Height and width of an image."""
        found = self.get("image_size", "img_size", "input_size", "pretrained_img_size",
                         near=near or ("vision", "image", "backbone", "encoder"))  # fmt: skip
        if isinstance(found, dict):
            found = (found.get("height", SIDE), found.get("width", SIDE))
        if isinstance(found, (list, tuple)):
            sides = [int(side) for side in found] or [SIDE]
            return sides[-2 if len(sides) > 1 else -1], sides[-1]
        return (int(found), int(found)) if found else (SIDE, SIDE)

    def width(self, *names: str) -> int:
        """How many numbers a part of the model takes at a place, by the end of its name; 0 if it has none."""
        for name, part in self.module.named_modules():
            weight = getattr(part, "weight", None)
            if weight is not None and any(name == n or name.endswith(f".{n}") for n in names):
                return int(prod(weight.shape[1:])) if weight.dim() > 1 else int(weight.shape[0])
        return 0

    def channels(self) -> int:
        """Of an image."""
        return (
            self.number("num_channels", "in_channels", "in_chans", near=("vision", "image", "backbone")) or 3
        )


# Types whose text has no length of its own to speak of.
_SHORT = {"csm"}
# Positions count from the padding token's number on.
_OFFSET = {"roberta", "camembert", "xlm-roberta", "xlm-roberta-xl", "xmod", "data2vec-text", "longformer",
           "mpnet", "roberta-prelayernorm", "ibert", "luke", "markuplm", "layoutlmv3", "lilt", "esm",
           "bridgetower", "altclip", "clap", "kosmos-2.5"}  # fmt: skip


def text_config(config: Any) -> Any:
    """The part of a config that describes texts."""
    try:
        return config.get_text_config()
    except (ValueError, AttributeError):
        return config


def inputs_of(
    torch: Any, module: Any, tokens: int | None = None, batch: int = 1, places: dict[str, int] | None = None,
    only_text: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Inputs by name, from the model's main input, its signature and its config.

    Args:
        tokens: length of texts; None for the model's own, at most 2048.
        batch: samples.
        places: image, video and audio tokens in a text, by kind, if they are known.
        only_text: images and sounds are left out.
    """
    import pharos.convert.hf_inputs_more
    import pharos.convert.hf_inputs_parts  # noqa: F401

    asked = Asked(torch, module, batch, tokens, places)
    if only_text:
        return {n: MAKERS[n](asked) for n in ("input_ids", "decoder_input_ids")
                if n in asked.parameters and (n == "input_ids" or _wanted(asked, n))}  # fmt: skip
    main = getattr(module, "main_input_name", "input_ids")
    names = list(asked.required)
    for name in [main] if isinstance(main, str) else list(main):
        if name in asked.parameters and name not in names:
            names.append(name)
    if not names or (names == ["attention_mask"]):
        names += [n for n in ("input_ids", "pixel_values", "input_features", "input_values", "inputs_embeds")
                  if n in asked.parameters][:1]  # fmt: skip
    names += [n for n in _WITH if n in asked.parameters and n not in names and _wanted(asked, n)]
    found: dict[str, Any] = {}
    for name in names:
        make = MAKERS.get(name)
        if make is not None:
            found[name] = make(asked)
    if asked.kind in KINDS:
        found = KINDS[asked.kind](asked, found)
    found = {k: v for k, v in found.items() if v is not None}
    if "input_ids" in found and found["input_ids"].dim() == 2:
        found = with_places(asked, found)
    return found


# What is given besides what is required, if the model can take it: all of a model is to run.
_WITH = (
    "input_ids",
    "decoder_input_ids",
    "pixel_values",
    "image_grid_thw",
    "image_sizes",
    "spatial_shapes",
    "pixel_attention_mask",
    "input_features",
    "input_features_mask",
    "input_values",
    "bbox",
)


def _wanted(asked: Asked, name: str) -> bool:
    config = asked.config
    held = [k for k, v in vars(config).items() if hasattr(v, "model_type")]
    if name == "decoder_input_ids":
        return bool(getattr(config, "is_encoder_decoder", False)) or asked.kind in _DECODES
    if name == "input_ids":
        return any("text" in k or "llm" in k for k in held)
    if name in ("image_sizes", "image_grid_thw") and "pixel_values" not in asked.parameters:
        return False
    if name == "image_sizes" and asked.get("image_grid_pinpoints", of=config) is None:
        return False
    if name in ("spatial_shapes", "pixel_attention_mask"):
        return "spatial_shapes" in asked.parameters
    if name in ("pixel_values", "image_grid_thw", "image_sizes"):
        return any(w in k for k in held for w in ("vision", "image", "vq")) or asked.kind in _SEES
    if name == "input_features_mask" and "input_features" in asked.required:
        return True
    if name in ("input_features", "input_values", "input_features_mask"):
        return (
            any("audio" in k or "speech" in k or "encoder_config" in k for k in held)
            and asked.kind not in _DEAF
        )
    return True


_DECODES = {"dia"}
_SEES = {"git", "flava", "layoutlmv3", "vilt", "fuyu", "chameleon", "emu3", "bridgetower"}
_DEAF = {"csm"}

# Names of the entry of a config that says which token stands for a piece of an image, a video, or a sound.
_PLACE = {
    "image": ("image_token_id", "image_token_index", "media_placeholder_token_id", "image_pad_token_id"),
    "audio": ("audio_token_id", "audio_token_index", "speech_token_id"),
    "video": ("video_token_id", "video_token_index"),
}


def with_places(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """Puts image, audio and video tokens at the front of the text, as many as there are pieces.

    A text that is too short for them grows by them.
    """
    ids, front = found["input_ids"], []
    if sum(asked.places.values()) > LARGEST_PLACES * asked.batch:
        raise InputError(f"wants {sum(asked.places.values()):,} tokens for images or sounds")
    for what in ("image", "audio", "video"):
        count = asked.places.get(what, 0)
        token = asked.number(*_PLACE[what], of=asked.config)
        if count and token is not None:
            front += [token] * (count // asked.batch)
    if not front:
        return found
    torch, length = asked.torch, ids.shape[1]
    row = front + [1] * max(length - len(front), 8)
    found["input_ids"] = torch.tensor([row] * asked.batch)
    kinds = {"image": 1, "video": 2, "audio": 3}
    if "mm_token_type_ids" in asked.parameters:
        types = [kinds[w] for w in kinds for _ in range(asked.places.get(w, 0) // asked.batch)]
        found["mm_token_type_ids"] = torch.tensor([types + [0] * (len(row) - len(types))] * asked.batch)
    if found.get("attention_mask") is not None and found["attention_mask"].shape[-1] == length:
        found["attention_mask"] = asked.whole(asked.batch, len(row), value=1)
    return found


@maker("input_ids")
def _input_ids(asked: Asked) -> Any:
    return asked.whole(asked.batch, asked.tokens, value=1)


@maker("decoder_input_ids")
def _decoder_input_ids(asked: Asked) -> Any:
    allowed = (
        asked.number("max_target_positions", "max_position_embeddings", of=asked.text) or LARGEST_CONTEXT
    )
    return asked.whole(asked.batch, min(asked.tokens, allowed), value=1)


@maker("inputs_embeds")
def _inputs_embeds(asked: Asked) -> Any:
    width = asked.number("hidden_size", "d_model", of=asked.text) or 1
    return asked.empty(asked.batch, asked.tokens, width)


@maker("attention_mask")
def _attention_mask(asked: Asked) -> Any:
    return asked.whole(asked.batch, asked.tokens, value=1)


@maker("bbox")
def _bbox(asked: Asked) -> Any:
    return asked.whole(asked.batch, asked.tokens, 4)


@maker("pixel_values", "pixel_values_images", "image", "prompt_pixel_values")
def _pixel_values(asked: Asked) -> Any:
    if "image_grid_thw" in asked.parameters or "grid_thw" in asked.parameters:
        return patches(asked)
    height, width = asked.sides()
    if asked.kind in _SEVERAL:
        return asked.empty(asked.batch, _SEVERAL[asked.kind], asked.channels(), height, width)
    frames = asked.number("num_frames", of=asked.config)
    if frames and asked.kind in _VIDEO:
        return asked.empty(asked.batch, frames, asked.channels(), height, width)
    return asked.empty(asked.batch, asked.channels(), height, width)


_VIDEO = {"timesformer", "vivit", "videomae", "tvp", "videomt"}
# Types whose images come as several a sample: how many.
_SEVERAL = {
    "idefics": 1, "idefics2": 1, "idefics3": 1, "smolvlm": 1, "modernvbert": 1, "colmodernvbert": 1,
    "inkling_mm_model": 1, "inkling_vision": 1, "instructblipvideo": 4, "efficientloftr": 2, "lightglue": 2,
    "superglue": 2, "mllama": 1,
}  # fmt: skip


def grid(asked: Asked) -> tuple[int, int, int]:
    """Frames, rows and columns of an image cut in patches: about 224 pixels a side, whole merged blocks."""
    merge = asked.number("spatial_merge_size", "merge_size", near=("vision",)) or 2
    patch = asked.number("patch_size", "spatial_patch_size", near=("vision",)) or 14
    side = max(SIDE // (patch * merge), 1) * merge
    return 1, side, side


def patches(asked: Asked) -> Any:
    """Rows of pixels of the patches of an image for each sample."""
    patch = asked.number("patch_size", "spatial_patch_size", near=("vision",)) or 14
    deep = asked.number("temporal_patch_size", near=("vision",)) or 1
    width = asked.channels() * deep * patch * patch
    # the model may lay a patch out otherwise than its config tells
    width = asked.width("patch_embed.proj", "patch_embed", "patch_embedding", "patch_embedder.proj") or width
    return asked.empty(asked.batch * prod(grid(asked)), width)


@maker("image_grid_thw", "grid_thw", "grid_hw")
def _grid_thw(asked: Asked) -> Any:
    return asked.torch.tensor([grid(asked)] * asked.batch)


@maker("pixel_values_videos")
def _pixel_values_videos(asked: Asked) -> Any:
    height, width = asked.sides()
    frames = asked.number("num_frames", "frames_per_clip", "max_frames", near=("vision", "video")) or 16
    return asked.empty(asked.batch, frames, asked.channels(), height, width)


@maker("hidden_states")
def _hidden_states(asked: Asked) -> Any:
    if "grid_thw" in asked.parameters:
        return patches(asked)
    width = asked.number("hidden_size", "d_model", of=asked.config) or 1
    return asked.empty(asked.batch, asked.tokens, width)


@maker("input_features")
def _input_features(asked: Asked) -> Any:
    near = ("audio", "encoder", "speech")
    bins = asked.number(
        "input_dim", "feature_projection_input_dim", "input_feat_per_channel", "num_mel_bins", "n_mels",
        "num_mel_channels", "mel_bins", "feature_size", near=near,
    ) or 80  # fmt: skip
    if asked.number("feature_projection_input_dim", "input_feat_per_channel", "input_dim", near=near):
        return asked.empty(asked.batch, FRAMES, bins)
    positions = asked.number("max_source_positions", near=near)
    if positions:
        return asked.empty(asked.batch, bins, 2 * positions)
    return asked.empty(asked.batch, FRAMES, bins)


@maker("input_features_mask")
def _features_mask(asked: Asked) -> Any:
    made = MAKERS["input_features"](asked)
    bins = asked.number("num_mel_bins", near=("audio", "encoder"))
    return asked.true(asked.batch, made.shape[-1] if made.shape[1] == bins else made.shape[1])


@maker("input_values")
def _input_values(asked: Asked) -> Any:
    if asked.kind == "audio-spectrogram-transformer":
        return asked.empty(asked.batch, int(asked.config.max_length), int(asked.config.num_mel_bins))
    flat = asked.get("conv_dim") is not None or hasattr(asked.config, "feat_extract_norm")
    if asked.kind in _FLAT_SOUND or flat:
        return asked.empty(asked.batch, SAMPLES)
    return asked.empty(asked.batch, 1, SAMPLES)


_FLAT_SOUND = {
    "speecht5",
    "vits",
    "moonshine",
    "moonshine_streaming",
    "moonshine_streaming_encoder",
    "pop2piano",
}


@maker("past_values")
def _past_values(asked: Asked) -> Any:
    config = asked.config
    lags = max(asked.get("lags_sequence", of=config) or [0])
    length = asked.number("context_length", of=config) or 512
    size = asked.number("input_size", "num_input_channels", of=config) or 1
    if size == 1 and hasattr(config, "lags_sequence"):
        return asked.empty(asked.batch, length + lags)
    return asked.empty(asked.batch, length + lags, size)


@maker("past_time_features")
def _past_time_features(asked: Asked) -> Any:
    width = asked.number("num_time_features", of=asked.config) or 0
    return asked.empty(asked.batch, MAKERS["past_values"](asked).shape[1], width)


@maker("past_observed_mask")
def _past_observed(asked: Asked) -> Any:
    return asked.true(*MAKERS["past_values"](asked).shape)


@maker("spectrogram", "mel_spectrogram")
def _spectrogram(asked: Asked) -> Any:
    bins = asked.number("model_in_dim", "mel_dim", "num_mel_bins", of=asked.config) or 80
    return asked.empty(asked.batch, FRAMES, bins)


@maker("query_embeds", "patch_embeds", "context")
def _embedded(asked: Asked) -> Any:
    width = asked.number("hidden_size", of=asked.config) or 1
    return asked.empty(asked.batch, 32, width)


@maker("qformer_input_ids")
def _qformer(asked: Asked) -> Any:
    return asked.whole(asked.batch, 32, value=1)
