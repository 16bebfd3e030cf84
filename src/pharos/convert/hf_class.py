"""Which class of transformers a config describes; only transformers' own code, never a model's."""

import importlib
import inspect
from typing import Any

from pharos.quantity.errors import InputError, unknown

# Tasks in the order in which they fit a config that names no class.
_TEXT = ("CAUSAL_LM",)
_BOTH = ("SEQ_TO_SEQ_CAUSAL_LM", "SPEECH_SEQ_2_SEQ")
_REST = (
    "IMAGE_TEXT_TO_TEXT", "MULTIMODAL_LM", *_BOTH, "CTC", "RNNT", "TDT", "IMAGE_CLASSIFICATION",
    "OBJECT_DETECTION", "ZERO_SHOT_OBJECT_DETECTION", "UNIVERSAL_SEGMENTATION", "INSTANCE_SEGMENTATION",
    "SEMANTIC_SEGMENTATION", "MASK_GENERATION", "DEPTH_ESTIMATION", "KEYPOINT_DETECTION",
    "KEYPOINT_MATCHING", "VIDEO_CLASSIFICATION", "AUDIO_CLASSIFICATION", "TEXT_TO_SPECTROGRAM",
    "TEXT_TO_WAVEFORM", "TIME_SERIES_PREDICTION",
)  # fmt: skip


def require_transformers() -> Any:
    """The transformers package, silent and offline.

    Raises:
        InputError: it or torch is not installed.
    """
    from pharos.convert.from_torch import require_torch
    from pharos.convert.hf_hub import quiet

    require_torch()
    quiet()
    try:
        import transformers
    except ModuleNotFoundError:
        hint = "pip install 'pharos-nn[hf,torch]', or give a config of a model_type that Pharos builds itself"
        raise InputError("this model_type is traced, and that needs transformers", hint=hint) from None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def config_of(transformers: Any, data: dict[str, Any], path: str) -> Any:
    """The config object of a config.json's contents; code that it points to is left alone.

    Raises:
        UnknownName: a model_type that the installed transformers does not know.
        InputError: values that its class refuses.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = data["model_type"]
    if kind not in CONFIG_MAPPING:
        where = f"{path} model_type (transformers {transformers.__version__})"
        raise unknown("model_type", kind, list(CONFIG_MAPPING.keys()), where=where)
    try:
        plain = {k: v for k, v in data.items() if k not in ("auto_map", "quantization_config")}
        return CONFIG_MAPPING[kind].from_dict(plain)
    except Exception as error:
        raise InputError(f"is refused by transformers: {_first(error)}", where=path) from None


def class_of(transformers: Any, config: Any) -> Any:
    """The class of the model: the one its `architectures` names if transformers has it, else what fits.

    Raises:
        InputError: there is no model for this model_type, only a config.
    """
    for name in listed(getattr(config, "architectures", None)):
        found = getattr(transformers, name, None) if isinstance(name, str) and name.isidentifier() else None
        if _is_model(transformers, found):
            return found
    kind = config.model_type
    fit = []
    for name in _named(kind, bool(getattr(config, "is_encoder_decoder", False))):
        found = getattr(transformers, name, None)
        if _is_model(transformers, found):
            fit.append(found)
    # a list may name the model of a part of this config
    own = [c for c in fit if isinstance(config, getattr(c, "config_class", None) or object)]
    found = next(iter(own or fit), None) or _by_config(transformers, config)
    if found is None:
        raise InputError(f"transformers has no model for model_type {kind!r}, only a config")
    return found


def listed(found: Any) -> list[Any]:
    """A list as it is; anything else holds nothing."""
    return list(found) if isinstance(found, (list, tuple)) else []


def _named(kind: str, both: bool) -> list[str]:
    """Names of classes for a model_type, best first."""
    from transformers.models.auto import modeling_auto

    tasks = {}
    for name in dir(modeling_auto):
        if name.startswith("MODEL") and name.endswith("NAMES"):
            found = getattr(modeling_auto, name).get(kind)
            if found is not None:
                task = name.removeprefix("MODEL_FOR_").removesuffix("_NAMES").removesuffix("_MAPPING")
                tasks[task] = [found] if isinstance(found, str) else list(found)
    # a masked language model that can also be asked for the next token is an encoder first
    encoder = "MASKED_LM" in tasks and not both
    order = [*(_BOTH if both else () if encoder else _TEXT), *_REST, "MODEL"]
    if encoder:
        order = ["MODEL", *order]
    order += [task for task in tasks if task not in order]
    return [name for task in order for name in tasks.get(task, ())]


def _by_config(transformers: Any, config: Any) -> Any:
    """The largest model whose config is of this class: parts of models have no place in the lists."""
    place = type(config).__module__.replace(".configuration_", ".modeling_")
    try:
        room = importlib.import_module(place)
    except ModuleNotFoundError:
        return None
    found = []
    for value in vars(room).values():
        own = isinstance(value, type) and value.__module__ == place and _is_model(transformers, value)
        if own and getattr(value, "config_class", None) is type(config) and _runs(value):
            found.append(value)
    return max(found, key=lambda c: ("For" in c.__name__, len(c.__name__)), default=None)


def _runs(cls: Any) -> bool:
    """Whether a class has a forward of its own: those that only share code have none."""
    own = any("forward" in vars(c) for c in cls.__mro__ if c.__module__.startswith("transformers.models"))
    return own and "input" not in inspect.signature(cls.forward).parameters


def _is_model(transformers: Any, found: Any) -> bool:
    return (
        isinstance(found, type)
        and issubclass(found, transformers.PreTrainedModel)
        and found.__module__.startswith("transformers.")
    )


def _first(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines)[:200]}" if lines else type(error).__name__
