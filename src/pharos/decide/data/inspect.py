"""Inspect: the reader for a file or folder, by suffix and content."""

from collections import Counter
from pathlib import Path

from pharos.decide.data.facts import Data
from pharos.decide.data.sample import Tick, nothing
from pharos.quantity.errors import InputError

SUFFIXES = (".csv", ".tsv", ".parquet", ".npy", ".npz", ".txt", ".text", ".md", ".jsonl", ".ndjson", ".wav")
# Files of a folder that are listed; more are not looked at.
MOST_FILES = 2_000_000


def inspect(path: str | Path, seed: int = 0, tick: Tick = nothing) -> Data:
    """Facts about a file or folder of data: CSV, Parquet, NPY, NPZ, text, JSON Lines, WAV; images in folders.

    What is random, the sample, follows `seed`. Nothing is executed and nothing leaves the machine.

    Args:
        tick: called with what is done and what there is to do.

    Raises:
        InputError: not there, of no known kind, or broken, with the place.
    """
    import numpy as np

    at, rng = Path(path), np.random.default_rng(seed)
    if at.is_dir():
        return _folder(at, rng, tick)
    if not at.exists():
        near = [p.name for p in at.parent.glob("*")][:5] if at.parent.is_dir() else []
        raise InputError("does not exist", where=str(at), hint=f"there: {', '.join(near)}" if near else "")
    if at.stat().st_size == 0:
        raise InputError("is empty", where=str(at))
    suffix = at.suffix.lower()
    if suffix in (".csv", ".tsv"):
        from pharos.decide.data.table import read_csv

        return read_csv(at, rng, tick)
    if suffix == ".parquet":
        from pharos.decide.data.table import read_parquet

        return read_parquet(at, rng, tick)
    if suffix in (".npy", ".npz"):
        from pharos.decide.data.arrays import read_array

        return read_array(at, rng, tick)
    if suffix in (".jsonl", ".ndjson"):
        from pharos.decide.data.text import read_jsonl

        return read_jsonl(at, rng, tick)
    if suffix in (".txt", ".text", ".md"):
        from pharos.decide.data.text import read_text_file

        return read_text_file(at, rng, tick)
    from pharos.decide.data.media import IMAGES, read_images, read_sound

    if suffix == ".wav":
        return read_sound(at, [at], rng, tick)
    if suffix in IMAGES:
        return read_images(at, [at], rng, tick)
    if suffix in (".pkl", ".pickle", ".pt", ".pth", ".joblib"):
        hint = "Pharos unpickles nothing; write it as CSV, NPY or Parquet"
        raise InputError(f"files of {suffix} can run code when read", where=str(at), hint=hint)
    raise InputError(f"files of {suffix or 'no suffix'} are not known as data", where=str(at),
                     hint=f"known: {', '.join(SUFFIXES)}, folders of images")  # fmt: skip


def _folder(root: Path, rng: object, tick: Tick) -> Data:
    from pharos.decide.data.media import read_images, read_sound
    from pharos.decide.data.text import read_text_folder

    kind, files = files_of(root)
    reader = {"images": read_images, "audio": read_sound, "text": read_text_folder}[kind]
    return reader(root, files, rng, tick)


def files_of(root: Path) -> tuple[str, list[Path]]:
    """What a folder mostly holds, images, audio or text, and those files in order.

    Raises:
        InputError: none of them.
    """
    from pharos.decide.data.media import IMAGES

    files = []
    for path in root.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            files.append(path)
            if len(files) >= MOST_FILES:
                break
    files.sort()
    suffixes = {"images": IMAGES, "audio": (".wav",), "text": (".txt", ".text", ".md")}
    found = {kind: [p for p in files if p.suffix.lower() in known] for kind, known in suffixes.items()}
    kind = max(found, key=lambda k: len(found[k]))
    if not found[kind]:
        kinds = Counter(p.suffix.lower() for p in files)
        held = ", ".join(f"{n} of {s or 'no suffix'}" for s, n in kinds.most_common(4)) or "nothing"
        raise InputError("holds no images, WAV or text files", where=str(root), hint=f"there: {held}")
    return kind, found[kind]
