"""Load: a model from whatever names it: a catalogue name, an ONNX file, a config.json, PyTorch code."""

from collections.abc import Callable
from pathlib import Path

from pharos.graph.graph import Graph
from pharos.graph.workload import Workload
from pharos.models.registry import Model, find
from pharos.quantity.errors import InputError


def load(
    model: str | Model, dims: dict[str, int] | None = None, inputs: dict[str, str] | None = None
) -> Model:
    """A model from its name or file; no weights are read, and only code that is named as such is run.

    Args:
        model: ``resnet50``, ``mobilenet_v2(width=0.75)``, ``path/model.onnx``, ``path/config.json``,
            ``owner/name`` on the Hugging Face hub (of which the config.json alone is fetched), or
            ``package.module:factory``, the one form that runs the user's code.
        dims: sizes for symbolic dimensions of an ONNX file.
        inputs: of a factory's module, see `pharos.convert.factory.from_factory`.

    Raises:
        PharosError: unknown name or unreadable file.
    """
    if isinstance(model, Model):
        return model
    text = model.strip()
    if ":" in text:
        from pharos.convert.factory_names import is_factory

        if is_factory(text):
            from pharos.convert.factory import from_factory

            return from_factory(text, inputs)
    if text.endswith(".onnx"):
        return Model(name=text, family="", build=_cached_onnx(text, dims))
    if text.endswith(".json"):
        from pharos.convert.from_hf import from_hf_config

        return from_hf_config(text)
    from pharos.convert.hf_hub import fetched, is_hub_id

    if is_hub_id(text):
        from pharos.convert.from_hf import from_hf_config

        return from_hf_config(fetched(text), text)
    if ("/" in text or "\\" in text) and "(" not in text:
        hint = "a catalogue name, a .onnx file, a Hugging Face config.json or package.module:factory"
        raise InputError(f"{text!r} is not a model", hint=hint)
    return find(text)


def _cached_onnx(text: str, dims: dict[str, int] | None) -> Callable[[Workload], Graph]:
    from pharos.convert.cache import cached, file_digest
    from pharos.convert.declared import is_declared
    from pharos.convert.from_onnx import from_onnx

    path = Path(text)

    def build(work: Workload) -> Graph:
        return from_onnx(text, work, dims)

    if is_declared() or not path.is_file():
        return build
    return cached({"onnx": file_digest(path), "name": path.stem, "dims": dims or {}}, build)
