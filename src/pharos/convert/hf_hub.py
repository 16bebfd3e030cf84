"""The Hugging Face hub: a config.json by its model's id; nothing else is ever fetched."""

import os
import re
from pathlib import Path

from pharos.quantity.errors import InputError

_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
_SET = ("1", "ON", "YES", "TRUE")


# Ends of files that are not ids.
_FILES = (".json", ".onnx", ".py", ".yaml", ".yml", ".pt", ".pth", ".pt2", ".bin", ".safetensors", ".npz",
          ".ckpt", ".h5", ".tflite")  # fmt: skip


def is_hub_id(text: str) -> bool:
    """Whether a text can only be an id on the hub: owner/name, and no file or folder of that name here."""
    text = text.strip()
    if not _ID.match(text) or text.endswith(_FILES):
        return False
    # a relative path whose first part exists is a path that was mistyped further on
    return not Path(text).exists() and not Path(text.partition("/")[0]).exists()


def fetched(name: str) -> Path:
    """The config.json of a model on the hub, and no other file of it; kept in that library's own cache.

    ``HF_HUB_OFFLINE=1`` keeps to the cache, as everywhere.

    Raises:
        InputError: huggingface_hub is not installed, there is no such model, or it cannot be reached.
    """
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in _SET
    where = f"{name} on the Hugging Face hub"
    try:
        from huggingface_hub import hf_hub_download
    except ModuleNotFoundError:
        hint = "pip install 'pharos-nn[hf]', or give the path of its config.json"
        raise InputError("needs huggingface_hub to be fetched", where=where, hint=hint) from None
    try:
        return Path(hf_hub_download(name, "config.json", local_files_only=offline))
    except Exception as error:
        raise _told(error, where, offline) from None


def _told(error: Exception, where: str, offline: bool) -> InputError:
    """An error of that library in a line."""
    kind, words = type(error).__name__, str(error).strip().splitlines() or [""]
    hint = "give the path of its config.json"
    if offline or kind in ("OfflineModeIsEnabled", "LocalEntryNotFoundError"):
        why = (
            "is not in the local cache, and the hub is not asked offline"
            if offline
            else ("is not in the local cache, and the hub cannot be reached")
        )
        return InputError(why, where=where, hint=hint)
    if kind in ("GatedRepoError",):
        return InputError("is open only to those who accepted its terms", where=where,
                          hint="log in with `hf auth login`, or " + hint)  # fmt: skip
    if kind in ("RepositoryNotFoundError", "HFValidationError"):
        return InputError(
            "does not exist, or is private", where=where, hint="check owner and name, or " + hint
        )
    if kind in ("EntryNotFoundError", "RemoteEntryNotFoundError"):
        return InputError("has no config.json", where=where)
    return InputError(f"cannot be fetched: {kind}: {words[0][:160]}", where=where, hint=hint)


def quiet() -> None:
    """Keeps transformers from reaching out and from printing while it builds a model."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
