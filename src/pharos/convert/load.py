"""Load: a model from whatever names it: a catalogue name, an ONNX file, a Hugging Face config."""

from importlib import import_module

from pharos.models.registry import Model, find
from pharos.quantity.errors import InputError


def load(model: str | Model, dims: dict[str, int] | None = None) -> Model:
    """A model from its name or file; no code of the model's is run, no weights are read.

    Args:
        model: ``resnet50``, ``mobilenet_v2(width=0.75)``, ``path/model.onnx``, ``path/config.json``.
        dims: sizes for symbolic dimensions of an ONNX file.

    Raises:
        PharosError: unknown name or unreadable file.
    """
    if isinstance(model, Model):
        return model
    import_module("pharos.models")
    text = model.strip()
    if text.endswith(".onnx"):
        from pharos.convert.from_onnx import from_onnx

        return Model(name=text, family="", build=lambda work: from_onnx(text, work, dims))
    if text.endswith(".json"):
        from pharos.convert.from_hf import from_hf_config

        return from_hf_config(text)
    if ("/" in text or "\\" in text) and "(" not in text:
        hint = "a catalogue name, a .onnx file or a Hugging Face config.json"
        raise InputError(f"{text!r} is not a model", hint=hint)
    return find(text)
