"""Views: labelled examples as each family takes them; vocabularies of the pool, scales of each sample."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pharos.decide.data.labelled import Labelled
from pharos.quantity.errors import InputError

# Tokens and identifiers of a column that get a row of their own, values of a column that get an input;
# the most frequent do, the others share one.
VOCABULARY, ROWS, ONE_HOT = 2000, 2000, 24
# Inputs that an identifier column comes to where no family looks rows up: buckets of a hash.
BUCKETS = 128

# Family -> the forms of data it takes, and the view it has of them.
TAKES = {
    "mlp": {"vector": "flat", "grid": "flat", "steps": "flat", "tokens": "tokens", "ids": "flat"},
    "cnn": {"grid": "grid", "steps": "grid"}, "vit": {"grid": "grid", "steps": "grid"},
    "cnn-1d": {"steps": "steps", "tokens": "tokens"}, "rnn": {"steps": "steps", "tokens": "tokens"},
    "ssm": {"steps": "steps", "tokens": "tokens"}, "transformer": {"steps": "steps", "tokens": "tokens"},
    "dlrm": {"ids": "ids"},
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What members are built for.

    Args:
        flat: numbers of an example as one vector; grid: (channels, height, width); steps: (length, features);
            vocabulary: rows for tokens; tables: rows for each identifier; dense: numbers beside identifiers.
        outputs: classes, or 1 for a number.
    """

    form: str
    outputs: int
    flat: int = 0
    grid: tuple[int, int, int] = (0, 0, 0)
    steps: tuple[int, int] = (0, 0)
    vocabulary: int = 0
    tables: tuple[int, ...] = ()
    dense: int = 0


def view_of(family: str, form: str, kind: str) -> str | None:
    """The view a family has of a form of data; None where it takes none such. Sound is steps and a grid."""
    if form == "steps" and family in ("cnn", "vit") and kind != "audio":
        return None
    return TAKES.get(family, {}).get(form)


class Views:
    """Arrays of a training pool and a test set by family.

    What is counted of the pool's inputs, without their labels, are tokens and values of columns. Means and
    deviations come from the sample that a network learns from.
    """

    def __init__(self, data: Labelled, pool: Any) -> None:
        self.data = data
        form = data.form
        outputs = len(data.classes) or 1
        if form == "tokens":
            self._tokens = _ranked(data.inputs[0][pool], VOCABULARY)
            length = data.inputs[0].shape[1]
            self.shape = Shape(
                form=form, outputs=outputs, steps=(length, 0), vocabulary=len(self._tokens) + 2
            )
        elif form == "grid":
            x = data.inputs[0]
            self.shape = Shape(form=form, outputs=outputs, flat=x[0].size, grid=x.shape[1:])
        elif form == "steps":
            x = data.inputs[0]
            self.shape = Shape(form=form, outputs=outputs, flat=x[0].size, grid=(1, *x.shape[1:]),
                               steps=x.shape[1:])  # fmt: skip
        else:
            numbers, codes = data.inputs
            most = ROWS if form == "ids" else ONE_HOT
            self._columns = [_ranked(codes[pool, i], most) for i in range(codes.shape[1])]
            self._missing = np.flatnonzero(np.isnan(numbers[pool]).any(axis=0))
            tables = tuple(len(c) + 2 for c in self._columns)
            wide = numbers.shape[1] + len(self._missing)
            hot = sum(min(t, BUCKETS) if form == "ids" else t for t in tables)
            self.shape = Shape(form=form, outputs=outputs, flat=wide + hot, tables=tables,
                               dense=max(1, wide))  # fmt: skip

    def of(self, family: str, learnt_from: Any, rows: Any) -> tuple[Any, ...]:
        """Inputs of `rows` for a family whose sample is `learnt_from`.

        Raises:
            InputError: the family takes no such data.
        """
        view = view_of(family, self.data.form, self.data.kind)
        if view is None:
            raise InputError(f"{family} takes no {self.data.kind}", where="--families")
        return self.seen_as(view, learnt_from, rows)

    def seen_as(self, view: str, learnt_from: Any, rows: Any) -> tuple[Any, ...]:
        """Inputs of `rows` in a view: flat, grid, steps, tokens, ids or bag (counts of tokens)."""
        form, inputs = self.data.form, self.data.inputs
        if form == "tokens":
            ids = _coded(inputs[0][rows], self._tokens)
            if view != "bag":
                return (ids,)
            counts = np.zeros((len(ids), self.shape.vocabulary), np.float32)
            np.add.at(counts, (np.arange(len(ids))[:, None], ids), 1)
            counts[:, 0] = 0
            return (np.log1p(counts),)
        if form in ("grid", "steps"):
            axes = (0, 2, 3) if form == "grid" else (0, 1)
            sample = inputs[0][learnt_from]
            mean, deviation = sample.mean(axis=axes, keepdims=True), sample.std(axis=axes, keepdims=True)
            x = ((inputs[0][rows] - mean) / np.where(deviation > 1e-8, deviation, 1)).astype(np.float32)
            if view == "flat" or view == "bag":
                return (x.reshape(len(x), -1),)
            return (x[:, None],) if view == "grid" and form == "steps" else (x,)
        numbers, codes = inputs
        dense = self._dense(numbers[learnt_from], numbers[rows])
        coded = [_coded(codes[rows, i], c) for i, c in enumerate(self._columns)]
        if view == "ids":
            dense = dense if dense.shape[1] else np.ones((len(dense), 1), np.float32)
            return (dense, *(c[:, None] for c in coded))
        parts = [dense]
        for code, rows_of in zip(coded, self.shape.tables, strict=True):
            width = min(rows_of, BUCKETS) if form == "ids" else rows_of
            # what is rare shares a bucket with what is not, as hashing does
            parts.append(np.eye(width, dtype=np.float32)[code % width])
        return (np.concatenate(parts, axis=1),)

    def _dense(self, sample: Any, numbers: Any) -> Any:
        """Standardised columns, a mean where one is missing, and a flag for it."""
        if not numbers.shape[1]:
            return np.zeros((len(numbers), 0), np.float32)
        seen = ~np.isnan(sample)
        count = np.maximum(seen.sum(axis=0), 1)
        filled = np.where(seen, sample, 0)
        mean = filled.sum(axis=0) / count
        deviation = np.sqrt((np.where(seen, sample - mean, 0) ** 2).sum(axis=0) / count)
        # far outliers of skewed columns would drown the rest
        x = np.clip((numbers - mean) / np.where(deviation > 1e-12, deviation, 1), -8, 8)
        flags = np.isnan(numbers[:, self._missing])
        return np.concatenate([np.nan_to_num(x), flags], axis=1).astype(np.float32)


def _ranked(codes: Any, most: int) -> Any:
    """The most frequent codes, sorted; missing ones are none."""
    seen, counts = np.unique(codes[codes >= 0], return_counts=True)
    return np.sort(seen[np.argsort(-counts, kind="stable")[:most]])


def _coded(codes: Any, known: Any) -> Any:
    """0 where missing, 1 where not among the known, else from 2 on."""
    if not len(known):
        return np.where(codes < 0, 0, 1)
    at = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    return np.where(codes < 0, 0, np.where(known[at] == codes, at + 2, 1)).astype(np.int64)
