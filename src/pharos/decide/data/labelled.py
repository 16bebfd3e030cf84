"""Labelled examples out of files, as arrays that a network can learn from."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pharos.decide.data.facts import Data
from pharos.decide.data.sample import Tick, nothing
from pharos.quantity.errors import InputError, unknown

# Examples read at most, by kind; pixels of a side and steps that are kept, at most.
MOST = {"images": 6000, "audio": 6000, "text": 20_000, "interactions": 100_000}
MOST_OTHERS = 50_000
SIDE, STEPS = 32, 128
# Examples that a class needs to be learnt and tested.
FEWEST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """Examples and their labels.

    Args:
        form: vector and ids: inputs are numbers [n, d], NaN where missing, and codes [n, columns], -1 where
            missing. grid: one array [n, channels, height, width]. steps: [n, steps, features]. tokens: codes
            [n, steps], -1 before the first.
        y: codes of classes, or numbers where `classes` is empty.
        total: examples of the whole file or folder, those without a label included.
        notes: what was left out or changed.
    """

    kind: str
    form: str
    path: str
    inputs: tuple[Any, ...]
    y: Any
    classes: tuple[str, ...]
    label: str
    total: int
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: Any) -> "Labelled":
        """Some of the examples."""
        return replace(self, inputs=tuple(x[rows] for x in self.inputs), y=self.y[rows])

    @property
    def places(self) -> str:
        """What a permutation would exchange; empty where nothing has a place."""
        return {"grid": "pixels", "steps": "steps", "tokens": "tokens"}.get(self.form, "")

    def shuffled(self, seed: int) -> "Labelled":
        """The same examples under one fixed permutation of their places.

        Raises:
            InputError: columns have no order.
        """
        if not self.places:
            raise InputError("columns have no order that a permutation could take away", where="--shuffle")
        rng = np.random.default_rng([seed, 0x5F1E])
        x = self.inputs[0]
        if self.form == "grid":
            n, channels, height, width = x.shape
            flat = x.reshape(n, channels, height * width)
            made = flat[:, :, rng.permutation(height * width)].reshape(x.shape)
        else:
            made = x[:, rng.permutation(x.shape[1])]
        return replace(self, inputs=(np.ascontiguousarray(made),))


def read_labelled(
    path: str | Path, data: Data, label: str | None = None, seed: int = 0, tick: Tick = nothing
) -> Labelled:
    """Examples and labels of a file or folder that `inspect` has looked at.

    Images are shrunk to at most SIDE pixels of a side, sequences to at most STEPS steps.

    Args:
        label: the column or key of the label, if it has none of the usual names.

    Raises:
        InputError: there are no labels, only one class, or too few examples.
    """
    at, rng = Path(path), np.random.default_rng(seed)
    if label is not None and (at.is_dir() or at.suffix.lower() in (".npy", ".npz", ".wav")):
        raise InputError(
            "names a column; labels of arrays are an array, of folders the folders", where="--label"
        )
    if data.kind == "graph":
        raise InputError("no family here takes graphs of nodes and edges", where=str(at))
    if at.is_dir():
        found = _of_folder(at, data, rng, tick)
    elif at.suffix.lower() in (".csv", ".tsv", ".parquet"):
        found = _of_table(at, data, label, rng, tick)
    elif at.suffix.lower() in (".npy", ".npz"):
        found = _of_arrays(at, data, rng)
    elif at.suffix.lower() in (".jsonl", ".ndjson"):
        found = _of_documents(at, data, label, rng, tick)
    else:
        hint = "a folder with a folder a class, JSON Lines with a label, NPZ with x and y, or a table"
        raise InputError("has no labels to learn", where=str(at), hint=hint)
    return _cleaned(found)


def _cleaned(found: Labelled) -> Labelled:
    """Without classes that are too rare to learn and test."""
    if not found.classes:
        if len(found) < 8 * FEWEST:
            raise InputError(f"has {len(found)} labelled examples, too few to learn from", where=found.path)
        return found
    counts = np.bincount(found.y, minlength=len(found.classes))
    kept = np.flatnonzero(counts >= FEWEST)
    if len(kept) < 2:
        raise InputError(
            f"has {len(kept)} class(es) of at least {FEWEST} examples, and learning to tell takes two",
            where=found.path,
        )
    if len(kept) == len(counts):
        return found
    left = [found.classes[i] for i in np.flatnonzero(counts < FEWEST)]
    code = np.full(len(counts), -1)
    code[kept] = np.arange(len(kept))
    rows = np.flatnonzero(code[found.y] >= 0)
    few = found.take(rows)
    note = f"{len(left)} classes of fewer than {FEWEST} examples are left out: {', '.join(left[:4])}"
    return replace(few, y=code[few.y], classes=tuple(found.classes[i] for i in kept),
                   notes=(*found.notes, note))  # fmt: skip


def target(values: list[Any]) -> tuple[Any, tuple[str, ...], Any]:
    """Labels as codes and classes, or as numbers and no classes; and the rows that have one.

    Whole numbers of few values, and whatever is no number, are classes.
    """
    texts = ["" if v is None else str(v).strip() for v in values]
    missing = ("", "na", "nan", "null", "none", "?")
    rows = np.array([i for i, t in enumerate(texts) if t.lower() not in missing], dtype=np.int64)
    given = [texts[i] for i in rows]
    try:
        numbers = np.array([float(t) for t in given])
    except ValueError:
        numbers = None
    if numbers is not None and len(numbers):
        whole = bool(np.all(numbers == np.round(numbers)))
        distinct = len(np.unique(numbers))
        if not whole or distinct > max(2, min(1000, len(numbers) // 5)):
            return numbers, (), rows
        seen, codes = np.unique(numbers, return_inverse=True)
        return codes, tuple(f"{v:g}" for v in seen), rows
    seen, codes = np.unique(np.array(given), return_inverse=True)
    return codes, tuple(map(str, seen)), rows


def _few(n: int, kind: str, rng: Any) -> tuple[Any, tuple[str, ...]]:
    """Rows to take, all or a sample, and a note about it."""
    most = MOST.get(kind, MOST_OTHERS)
    if n <= most:
        return np.arange(n), ()
    return np.sort(rng.choice(n, most, replace=False)), (f"{most:,} of {n:,} examples at random",)


def _of_table(at: Path, data: Data, label: str | None, rng: Any, tick: Tick) -> Labelled:
    from pharos.decide.data.table import LABELS, TIMES, column_of, csv_rows, parquet_rows

    rows = (parquet_rows if at.suffix.lower() == ".parquet" else csv_rows)(at, rng, tick)
    names = [name for name, _ in rows.columns]
    if label is not None and label.lower() not in names:
        raise unknown("column", label, names, where="--label")
    told = label.lower() if label else next((n for n in names if n in LABELS), None)
    if told is None:
        hint = f"name it with --label; there: {', '.join(names[:12])}"
        raise InputError("no column is a label", where=f"{at}:1", hint=hint)
    y, classes, known = target(next(cells for name, cells in rows.columns if name == told))
    picked, notes = _few(len(known), data.kind, rng)
    y, known = y[picked], known[picked]
    numbers, codes, left = [], [], []
    for name, cells in rows.columns:
        if name == told:
            continue
        if name in TIMES:
            left.append(name)
            continue
        column = column_of(name, cells, not rows.sampled)
        if not column.is_categorical:
            numbers.append(column.numbers[known])
            continue
        given = np.array([cells[i].strip() for i in known])
        seen, code = np.unique(given, return_inverse=True)
        if len(seen) > 0.9 * len(given) and len(given) > 50 and data.kind != "interactions":
            left.append(name)
            continue
        code[given == ""] = -1
        codes.append(code)
    if not numbers and not codes:
        raise InputError(f"has no column beside {told} to learn from", where=f"{at}:1")
    if left:
        notes = (*notes, f"columns that number or date rows are left out: {', '.join(left[:6])}")
    n = len(known)
    inputs = (np.stack(numbers, 1) if numbers else np.zeros((n, 0)),
              np.stack(codes, 1).astype(np.int64) if codes else np.zeros((n, 0), np.int64))  # fmt: skip
    form = "ids" if data.kind == "interactions" and codes else "vector"
    return Labelled(kind=data.kind, form=form, path=str(at), inputs=inputs, y=y, classes=classes, label=told,
                    total=rows.total, notes=(*rows.notes, *notes))  # fmt: skip


def _of_arrays(at: Path, data: Data, rng: Any) -> Labelled:
    from pharos.decide.data.arrays import TARGETS, unpacked

    hint = f"write an .npz of x and y; y is one of {', '.join(TARGETS)}"
    if at.suffix.lower() == ".npy":
        raise InputError("has examples and no labels", where=str(at), hint=hint)
    x, labels = unpacked(at)
    if labels is None:
        raise InputError("has examples and no labels", where=str(at), hint=hint)
    if labels.ndim != 1 and labels.size != len(labels):
        raise InputError(f"labels of shape {labels.shape}: one a example is learnt", where=str(at))
    y, classes, known = target(labels.reshape(len(labels)).tolist())
    picked, notes = _few(len(known), data.kind, rng)
    x, y = x[known[picked]], y[picked]
    if data.kind == "images":
        first = x.ndim == 4 and x.shape[1] <= 4 < x.shape[3]
        grid = x[:, None] if x.ndim == 3 else x if first else np.moveaxis(x, 3, 1)
        form, made, more = "grid", *shrunk(grid.astype(np.float32))
    elif data.kind == "text":
        form, (made, more) = "tokens", _padded([np.asarray(row) for row in x])
    elif x.ndim == 3:
        form, made, more = "steps", *_shortened(x.astype(np.float32))
    else:
        flat = x.reshape(len(x), -1).astype(np.float64)
        table = flat, np.zeros((len(flat), 0), np.int64)
        return Labelled(kind="tabular", form="vector", path=str(at), y=y, classes=classes, label="y",
                        inputs=table, total=len(labels), notes=notes)  # fmt: skip
    if form != "tokens":
        made = np.nan_to_num(made)
    return Labelled(kind=data.kind, form=form, path=str(at), inputs=(made,), y=y, classes=classes, label="y",
                    total=len(labels), notes=(*notes, *more))  # fmt: skip


def shrunk(x: Any, side: int = SIDE) -> tuple[Any, tuple[str, ...]]:
    """Images [n, c, h, w] with at most `side` pixels of a side, each the mean of those it covers."""
    height, width = x.shape[2:]
    if max(height, width) <= side:
        return x, ()
    scale = side / max(height, width)
    made = x
    for axis, old in ((2, height), (3, width)):
        new = max(1, round(old * scale))
        edges = np.linspace(0, old, new + 1).astype(int)
        widths = np.diff(edges).reshape([-1 if a == axis else 1 for a in range(4)])
        made = np.add.reduceat(made, edges[:-1], axis=axis) / widths
    note = f"images shrunk from {height} x {width} to {made.shape[2]} x {made.shape[3]}"
    return made.astype(np.float32), (note,)


def _shortened(x: Any) -> tuple[Any, tuple[str, ...]]:
    """Sequences [n, t, f] of at most STEPS steps, each the mean of those it covers."""
    steps = x.shape[1]
    if steps <= STEPS:
        return x, ()
    edges = np.linspace(0, steps, STEPS + 1).astype(int)
    made = np.add.reduceat(x, edges[:-1], axis=1) / np.diff(edges)[None, :, None]
    return made.astype(np.float32), (f"sequences of {steps:,} steps taken as {STEPS} means",)


def _padded(documents: list[Any]) -> tuple[Any, tuple[str, ...]]:
    """Codes [n, steps]: the first tokens of each document, with -1 before those that are shorter."""
    lengths = np.array([len(d) for d in documents])
    steps = int(max(1, min(STEPS, np.quantile(lengths, 0.95))))
    made = np.full((len(documents), steps), -1, np.int64)
    for i, document in enumerate(documents):
        kept = document[:steps]
        if len(kept):
            made[i, steps - len(kept) :] = kept
    long = int((lengths > steps).sum())
    return made, (f"{long:,} texts cut to their first {steps} tokens",) if long else ()


def _of_documents(at: Path, data: Data, label: str | None, rng: Any, tick: Tick) -> Labelled:
    from pharos.decide.data.text import jsonl_documents

    documents, labels, total, notes = jsonl_documents(at, rng, tick, label)
    if not labels:
        hint = 'write {"text": "...", "label": ...}, or name the key with --label'
        raise InputError("its lines have no label", where=f"{at}:1", hint=hint)
    y, classes, known = target(labels)
    picked, more = _few(len(known), "text", rng)
    return _texts([documents[i] for i in known[picked]], y[picked], classes, str(at), label or "label", total,
                  (*notes, *more))  # fmt: skip


def _texts(documents: list[Any], y: Any, classes: tuple[str, ...], path: str, label: str, total: int,
           notes: tuple[str, ...]) -> Labelled:  # fmt: skip
    from pharos.decide.data.text import words_of

    coded: dict[str, int] = {}
    codes = [[coded.setdefault(w, len(coded)) for w in words_of(d)] for d in documents]
    made, more = _padded(codes)
    return Labelled(kind="text", form="tokens", path=path, inputs=(made,), y=y, classes=classes, label=label,
                    total=total, notes=(*notes, *more))  # fmt: skip


def _of_folder(at: Path, data: Data, rng: Any, tick: Tick) -> Labelled:
    from pharos.decide.data.inspect import files_of
    from pharos.decide.data.media import classes_of

    kind, files = files_of(at)
    named, _ = classes_of(files, at)
    have = [i for i, name in enumerate(named) if name]
    if not have:
        raise InputError("has no folder a class", where=str(at), hint="put each class's files in a folder")
    picked, notes = _few(len(have), kind, rng)
    chosen = [files[have[i]] for i in picked]
    y, classes, _ = target([named[have[i]] for i in picked])
    if kind == "text":
        from pharos.decide.data.sample import read_lines

        documents = []
        for i, path in enumerate(chosen):
            documents.append("\n".join(read_lines(path, rng).lines))
            tick(i + 1, len(chosen))
        return _texts(documents, y, classes, str(at), "folder", len(files), notes)
    read = _pictures if kind == "images" else _sounds
    made, good, more = read(chosen, data, tick)
    form = "grid" if kind == "images" else "steps"
    return Labelled(kind=kind, form=form, path=str(at), inputs=(made,), y=y[good], classes=classes,
                    label="folder", total=len(files), notes=(*notes, *more))  # fmt: skip


def _pictures(files: list[Path], data: Data, tick: Tick) -> tuple[Any, Any, tuple[str, ...]]:
    """The middle squares of pictures, shrunk; colour where the sample had it."""
    from PIL import Image, UnidentifiedImageError

    side = min(SIDE, data.resolution or SIDE)
    mode = "L" if (data.channels or 3) < 3 else "RGB"
    made, good = [], []
    for i, path in enumerate(files):
        try:
            with Image.open(path) as image:
                least = min(image.size)
                left, top = (image.width - least) // 2, (image.height - least) // 2
                box = (left, top, left + least, top + least)
                small = image.convert(mode).resize((side, side), Image.Resampling.BOX, box=box)
                made.append(np.asarray(small, dtype=np.float32).reshape(side, side, -1))
                good.append(i)
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            pass
        tick(i + 1, len(files))
    notes = (f"middle squares of images, shrunk to {side} x {side}",)
    if len(good) < len(files):
        notes = (*notes, f"{len(files) - len(good)} files are no images")
    return np.moveaxis(np.stack(made), 3, 1), np.array(good), notes


def _sounds(files: list[Path], data: Data, tick: Tick) -> tuple[Any, Any, tuple[str, ...]]:
    """Clips as log energies [n, steps, bands], of the median length: cut, or silent after their end."""
    from pharos.decide.data.media import read_wav, spectrogram

    made, good = [], []
    for i, path in enumerate(files):
        try:
            made.append(spectrogram(*read_wav(path)).astype(np.float32))
            good.append(i)
        except InputError:
            pass
        tick(i + 1, len(files))
    steps = int(np.median([len(m) for m in made]))
    quiet = min(float(m.min()) for m in made)
    whole = np.full((len(made), steps, made[0].shape[1]), quiet, np.float32)
    for row, clip in zip(whole, made, strict=True):
        row[: len(clip)] = clip[:steps]
    short, notes = _shortened(whole)
    if len(good) < len(files):
        notes = (*notes, f"{len(files) - len(good)} files are no WAV files")
    return short, np.array(good), notes
