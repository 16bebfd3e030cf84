"""Text: lines, JSON Lines, and folders of text files as sequences of tokens, with labels where told."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from pharos.decide.data.facts import Data
from pharos.decide.data.measures import distinct, order_p, token_dependence
from pharos.decide.data.sample import Tick, labels_of, nothing, read_lines
from pharos.quantity.errors import InputError

WORD = re.compile(r"\w+|[^\w\s]")
TEXTS = ("text", "document", "content", "body", "sentence", "question", "prompt", "input", "tokens")
LABELS = ("label", "labels", "class", "target", "answer", "category")
# Documents whose tokens are looked at, and tokens of them.
SAMPLE, TOKENS = 2000, 2_000_000


def read_text_file(path: Path, rng: Any, tick: Tick = nothing) -> Data:
    """A text file: a document a paragraph, or a line where there are no blank lines."""
    lines = read_lines(path, rng, tick)
    texts = lines.lines
    if not any(t.strip() for t in texts):
        raise InputError("is empty", where=str(path))
    blank = sum(not t.strip() for t in texts)
    total: int | None
    if blank > 1:
        documents = [d for d in re.split(r"\n\s*\n", "\n".join(texts)) if d.strip()]
        total = len(documents) if not lines.sampled else round(lines.total * len(documents) / len(texts))
    else:
        documents = [t for t in texts if t.strip()]
        total = lines.total if lines.sampled else len(documents)
    return _from_texts(documents, [], total, str(path), rng, [lines.note] if lines.sampled else [])


def read_jsonl(path: Path, rng: Any, tick: Tick = nothing) -> Data:
    """JSON Lines: a text (one of TEXTS, or the longest string) and maybe a label in each line.

    Raises:
        InputError: a line that is no JSON object, with its number; or no text in them.
    """
    documents, labels, total, notes = jsonl_documents(path, rng, tick)
    return _from_texts(documents, labels, total, str(path), rng, notes)


def jsonl_documents(
    path: Path, rng: Any, tick: Tick = nothing, label: str | None = None
) -> tuple[list[Any], list[Any], int, list[str]]:
    """Texts and labels (empty if there are none) of JSON Lines, lines in all, and notes.

    Args:
        label: the key that holds it, if it is none of LABELS.

    Raises:
        InputError: a line that is no JSON object, with its number; or no text in them.
    """
    lines = read_lines(path, rng, tick)
    rows, number = [], 0
    for i, line in enumerate(lines.lines):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            row = None
        if not isinstance(row, dict):
            place = f"{path}:{i + 1}" if not lines.sampled else str(path)
            raise InputError("is not a JSON object", where=place, hint='write {"text": "...", "label": ...}')
        rows.append(row)
        number += 1
    if not rows:
        raise InputError("is empty", where=str(path))
    keys = {k.lower(): k for k in rows[0]}
    key = next((keys[t] for t in TEXTS if t in keys), None)
    if key is None:
        strings = {k: v for k, v in rows[0].items() if isinstance(v, str)}
        if not strings:
            raise InputError("its objects have no text", where=f"{path}:1", hint=f"one of {', '.join(TEXTS)}")
        key = max(strings, key=lambda k: len(strings[k]))
    if label is not None and label.lower() not in keys:
        raise InputError(
            f"its objects have no {label!r}", where=f"{path}:1", hint=f"there: {', '.join(keys)}"
        )
    label = keys[label.lower()] if label else next((keys[n] for n in LABELS if n in keys), None)
    texts = [row.get(key) for row in rows]
    documents = [t if isinstance(t, (str, list)) else "" for t in texts]
    labels = [] if label is None else [
        v if isinstance(v, (str, int, bool)) else None for v in (row.get(label) for row in rows)
    ]  # fmt: skip
    total = lines.total if lines.sampled else number
    return documents, labels, total, [lines.note] if lines.sampled else []


def read_text_folder(root: Path, files: list[Path], rng: Any, tick: Tick = nothing) -> Data:
    """A folder of text files, a document each; a folder a class."""
    from pharos.decide.data.media import classes_of

    picked = [files[i] for i in np.sort(rng.choice(len(files), min(len(files), SAMPLE), replace=False))]
    documents = []
    for i, path in enumerate(picked):
        documents.append("\n".join(read_lines(path, rng).lines))
        tick(i + 1, len(picked))
    found = _from_texts(documents, [], len(files), str(root), rng, [])
    _, told = classes_of(files, root)
    from dataclasses import replace

    return replace(found, **told, known=found.known | dict.fromkeys(told, "measured: folders"))


def words_of(document: Any) -> list[str]:
    """Words and marks of a text in lower case; of a list, its items."""
    return WORD.findall(document.lower()) if isinstance(document, str) else list(map(str, document))


def _from_texts(
    documents: list[Any], labels: list[Any], total: int, path: str, rng: Any, notes: list[str]
) -> Data:
    picked = documents
    if len(documents) > SAMPLE:
        picked = [documents[i] for i in np.sort(rng.choice(len(documents), SAMPLE, replace=False))]
    coded: dict[Any, int] = {}
    tokens, seen = [], 0
    for document in picked:
        words = words_of(document)
        tokens.append(np.array([coded.setdefault(w, len(coded)) for w in words], dtype=np.int64))
        seen += len(words)
        if seen > TOKENS:
            break
    lengths = np.array([len(t) for t in tokens if len(t)])
    if not len(lengths):
        raise InputError("holds no words", where=path)
    long = [t for t in tokens if len(t)]
    reach, _ = token_dependence(long, rng)
    pool = np.concatenate(long)
    _, vocabulary = distinct(np.bincount(pool)[np.bincount(pool) > 0])
    how = f"measured: {len(long):,} of {total:,} documents, {seen:,} words"
    quantiles = np.quantile(lengths, (0.1, 0.9))
    notes = [*notes, f"lengths: 80% lie between {quantiles[0]:,.0f} and {quantiles[1]:,.0f} words"]
    fields: dict[str, Any] = {
        "examples": total, "length": int(np.median(lengths)), "longest": int(lengths.max()),
        "vocabulary": max(len(coded), round(vocabulary)), "dependence": reach,
        "order_p": order_p(pool[:20_000], rng, 19),
    }  # fmt: skip
    if labels:
        count, classes, skew = labels_of(labels)
        fields |= {"labels": round(count * total / len(labels))}
        if classes <= max(2, count // 5):
            fields |= {"classes": classes, "skew": skew}
    return Data(kind="text", path=path, known=dict.fromkeys(fields, how), notes=tuple(notes), **fields)
