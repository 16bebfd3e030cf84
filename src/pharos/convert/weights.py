"""Weights in files: arrays by parameter name, read only when asked for; no code of a file is run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from pharos.quantity.errors import InputError
from pharos.quantity.sizes import prod

# Element types of a safetensors file as NumPy calls them; bfloat16 is read as its upper halves.
SAFETENSORS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4",
               "I16": "<i2", "I8": "<i1", "U8": "<u1", "BOOL": "?"}  # fmt: skip
LARGEST_HEADER = 100_000_000


@dataclass(frozen=True, slots=True)
class Stored:
    """An array that stays in its file until it is asked for."""

    path: Path
    kind: str
    shape: tuple[int, ...]
    offset: int

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        import numpy as np

        wanted = np.dtype(SAFETENSORS[self.kind])
        found = np.memmap(self.path, wanted, "r", self.offset, self.shape or (1,)).reshape(self.shape)
        if self.kind == "BF16":
            found = (found.astype("<u4") << 16).view("<f4")
        return np.asarray(found, dtype)


def read_weights(path: str | Path) -> Mapping[str, Any]:
    """Arrays or tensors by name from a ``.safetensors`` file, the index of several, a ``.pt`` or a ``.npz``.

    Raises:
        InputError: not such a file, or one that says what it does not hold.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("does not exist" if not path.exists() else "is not a file", where=str(path))
    if path.name.endswith(".safetensors.index.json"):
        return _indexed(path)
    if path.suffix == ".safetensors":
        return _safetensors(path)
    if path.suffix == ".npz":
        return _arrays(path)
    if path.suffix in (".pt", ".pth", ".bin"):
        return _torch(path)
    raise InputError(
        "is not a file of weights", where=str(path), hint=".safetensors, .safetensors.index.json, .pt or .npz"
    )


def _safetensors(path: Path) -> dict[str, Stored]:
    """Eight bytes for the header's length, the header as JSON, then the numbers."""
    size = path.stat().st_size
    try:
        with path.open("rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            if length > min(size - 8, LARGEST_HEADER):
                raise ValueError(f"its header would be {length} bytes")
            header = json.loads(handle.read(length))
        found = {}
        for name, row in header.items():
            if name == "__metadata__":
                continue
            begin, end = row["data_offsets"]
            made = Stored(path, row["dtype"], tuple(row["shape"]), 8 + length + begin)
            if made.kind not in SAFETENSORS:
                continue
            if 8 + length + end > size or begin < 0:
                raise ValueError(f"{name} lies outside the file")
            if end - begin != prod(made.shape) * int(SAFETENSORS[made.kind][-1].replace("?", "1")):
                raise ValueError(f"{name} of {made.shape} holds {end - begin} bytes")
            found[name] = made
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"is not a whole safetensors file: {error}", where=str(path)) from None
    return found


def _indexed(path: Path) -> dict[str, Stored]:
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        names = {str(file) for file in files.values()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError("is not the index of safetensors files", where=str(path)) from None
    found: dict[str, Stored] = {}
    for name in sorted(names):
        if Path(name).name != name:
            raise InputError(f"wants {name!r}, outside its folder", where=str(path))
        found |= _safetensors(path.with_name(name))
    return found


def _arrays(path: Path) -> Mapping[str, Any]:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as held:
            return {name: held[name] for name in held.files}
    except (ValueError, OSError, KeyError, BadZipFile) as error:
        raise InputError(f"is not a file of NumPy arrays: {error}", where=str(path)) from None


def _torch(path: Path) -> Mapping[str, Any]:
    try:
        import torch
    except ModuleNotFoundError:
        raise InputError("reading it needs torch", where=str(path), hint="use .safetensors") from None
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(f"is not a state_dict: {reason}", where=str(path)) from None
    if not isinstance(found, Mapping) or not all(isinstance(v, torch.Tensor) for v in found.values()):
        raise InputError("is not a state_dict: it does not map names to tensors", where=str(path))
    return found
