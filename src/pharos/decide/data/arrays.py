"""Arrays: NPY and NPZ files as images, sequences, tables or tokens by their shape; nothing is unpickled."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from pharos.decide.data.facts import Data
from pharos.decide.data.measures import dependence, order_p, spatial, token_dependence
from pharos.decide.data.sample import Tick, nothing
from pharos.quantity.errors import InputError

EXAMPLES = ("x", "data", "images", "inputs", "features", "x_train", "arr_0")
TARGETS = ("y", "labels", "label", "targets", "y_train", "arr_1")
# Examples looked at; bytes of an archive's arrays, which are read at once.
SAMPLE, LARGEST = 256, 4 << 30


def read_array(path: Path, rng: Any, tick: Tick = nothing) -> Data:
    """An .npy file of examples, or an .npz of x and y.

    By shape: [n, h, w] or [n, h, w, c] of at most 4 channels are images, [n, steps, features] sequences,
    whole numbers [n, steps] tokens, [n, features] a table, [steps] one series.

    Raises:
        InputError: not such a file, or it holds Python objects.
    """
    try:
        if path.suffix.lower() == ".npz":
            x, y = unpacked(path)
        else:
            x, y = np.load(path, mmap_mode="r", allow_pickle=False), None
    except InputError:
        raise
    except (ValueError, OSError, EOFError, KeyError) as error:
        if "pickle" in str(error).lower() and path.stat().st_size > 0:
            hint = "Pharos unpickles nothing; save plain numbers"
            raise InputError(
                "holds Python objects, or is no NumPy file", where=str(path), hint=hint
            ) from None
        raise InputError("is not a NumPy file", where=str(path), hint=str(error)[:120]) from None
    except Exception as error:
        # zipfile's own errors of a broken archive
        raise InputError(f"is not a NumPy file: {error}", where=str(path)) from None
    tick(1, 1)
    if x.dtype.kind not in "fiub" or not x.size:
        raise InputError(f"holds {x.dtype} of shape {x.shape}, not numbers", where=str(path))
    found = from_array(x, str(path), rng)
    if y is None:
        return found
    if len(y) != len(x):
        raise InputError(f"has {len(x):,} examples and {len(y):,} labels", where=str(path))
    told: dict[str, Any] = {"labels": len(y)}
    if y.ndim == 1 and y.dtype.kind in "iub":
        _, counts = np.unique(y, return_counts=True)
        told |= {"classes": len(counts), "skew": float(counts.min() / counts.sum())}
    data = found.with_told(told, "")
    return data.with_told({}, "") if not told else _known(data, told, "measured: array of labels")


def unpacked(path: Path) -> tuple[Any, Any]:
    """Examples and labels (or None) of an archive, if they fit LARGEST bytes."""
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        size = sum(info.file_size for info in archive.infolist())
        if size > LARGEST:
            hint = "save the examples as .npy, which is read in parts"
            raise InputError(f"holds {size:,} bytes of arrays, too many at once", where=str(path), hint=hint)
    with path.open("rb") as file:
        loaded = np.load(file, allow_pickle=False)
        names = {n.lower(): n for n in loaded.files}
        key = next((names[e] for e in EXAMPLES if e in names), next(iter(loaded.files), None))
        if key is None:
            raise InputError("holds no array", where=str(path))
        target = next((names[t] for t in TARGETS if t in names), None)
        return loaded[key], loaded[target] if target else None


def _known(data: Data, fields: dict[str, Any], how: str) -> Data:
    from dataclasses import replace

    return replace(data, known=data.known | dict.fromkeys(fields, how))


def from_array(x: Any, path: str, rng: Any) -> Data:
    """What an array is, by its shape."""
    n = len(x)
    picked = np.sort(rng.choice(n, min(n, SAMPLE), replace=False))
    how = f"measured: {len(picked):,} of {n:,} examples"
    if x.ndim == 4 or (x.ndim == 3 and x.shape[1] == x.shape[2]) or (x.ndim == 3 and x.dtype.kind in "ub"):
        first = x.ndim == 4 and x.shape[1] <= 4 < x.shape[3]
        channels = 1 if x.ndim == 3 else x.shape[1] if first else x.shape[3]
        sample = np.asarray(x[picked], dtype=np.float64)
        grey = sample if x.ndim == 3 else sample.mean(axis=1 if first else 3)
        return images_of(grey, path, n, int(channels), rng, how)
    if x.ndim == 3:
        steps, features = x.shape[1:]
        return series_of([np.asarray(x[i]) for i in picked], path, n, steps, features, rng, how)
    if x.ndim == 2 and x.dtype.kind in "iu" and x.shape[1] > 1 and int(x[picked].max()) > 8:
        tokens = [np.asarray(x[i]) for i in picked]
        reach, _ = token_dependence(tokens, rng)
        vocabulary = int(max(t.max() for t in tokens)) + 1
        p = order_p(np.concatenate(tokens), rng, 19)
        fields = {"length": x.shape[1], "longest": x.shape[1], "vocabulary": vocabulary, "dependence": reach,
                  "order_p": p}  # fmt: skip
        return Data(
            kind="text", path=path, examples=n, known=dict.fromkeys((*fields, "examples"), how), **fields
        )
    if x.ndim == 1:
        block = np.asarray(x[:200_000], dtype=np.float64)
        return series_of([block], path, 1, n, 1, rng, f"measured: {len(block):,} steps")
    features = x.shape[1] if x.ndim == 2 else int(np.prod(x.shape[1:]))
    block = np.asarray(x[: min(n, 20_000)], dtype=np.float64).reshape(min(n, 20_000), -1)
    p = order_p(block, rng)
    return Data(kind="tabular", path=path, examples=n, features=features, order_p=p,
                known={"examples": "measured: shape", "features": "measured: shape",
                       "order_p": f"measured: 99 permutations of {len(block):,} rows"})  # fmt: skip


def images_of(grey: Any, path: str, n: int, channels: int, rng: Any, how: str) -> Data:
    """Images as facts, from a sample in one grey channel [count, height, width]."""
    found = spatial(grey, rng)
    fields = {"resolution": min(grey.shape[1:]), "channels": channels, "neighbours": found.neighbours,
              "reach": found.reach, "translation": found.translation, "rotation": found.rotation,
              }  # fmt: skip
    note = f"order of pixels: shuffled ones are told from them with p = {found.p:.2g}"
    return Data(kind="images", path=path, examples=n, notes=(note,),
                known=dict.fromkeys((*fields, "examples"), how), **fields)  # fmt: skip


def series_of(
    series: list[Any],
    path: str,
    n: int,
    steps: int,
    features: int,
    rng: Any,
    how: str,
    kind: str = "sequence",
) -> Data:
    """Sequences of numbers as facts, from a sample of [steps, features] each."""
    found = [dependence(s) for s in series[:64] if len(s) > 8]
    mean = {k: float(np.mean([getattr(d, k) for d in found])) if found else 0.0
            for k in ("first", "e_folding", "steps")}  # fmt: skip
    fields = {"length": steps, "longest": steps, "features": features, "dependence": mean["steps"],
              "neighbours": mean["first"], "reach": mean["e_folding"], "order_p": order_p(series[0], rng),
              }  # fmt: skip
    return Data(kind=kind, path=path, examples=n, known=dict.fromkeys((*fields, "examples"), how), **fields)
