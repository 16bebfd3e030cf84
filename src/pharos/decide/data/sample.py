"""Sampling: lines of large files by blocks at random places, with the error of what is estimated."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pharos.quantity.errors import InputError
from pharos.quantity.units import fmt

# Files up to this size are read whole; of larger ones BLOCKS blocks of BLOCK bytes.
WHOLE = 32 << 20
BLOCK, BLOCKS = 128 << 10, 128
# Bytes of one line beyond which a file is no text in lines.
LONGEST_LINE = 4 << 20

# Called with what is done and what there is to do.
Tick = Callable[[int, int], None]


def nothing(done: int, total: int) -> None:
    """A Tick that shows nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Lines of a file, all or a sample.

    Args:
        groups: lines that follow each other in the file, a list a block.
        total: lines of the whole file, estimated where `sampled`; error: relative standard error of it.
    """

    groups: list[list[str]]
    total: int
    sampled: bool
    error: float = 0.0

    @property
    def lines(self) -> list[str]:
        """All of them in the file's order."""
        return [line for group in self.groups for line in group]

    @property
    def note(self) -> str:
        """How it was sampled, in words; empty if it was not."""
        if not self.sampled:
            return ""
        read = sum(map(len, self.groups))
        return (f"sampled {read:,} lines in {len(self.groups)} blocks at random places; "
                f"about {self.total:,} lines in all, {self.error:.1%} standard error")  # fmt: skip


def read_lines(path: Path, rng: Any, tick: Tick = nothing) -> Lines:
    """Lines of a text file in UTF-8, without their ends; the first line is always among them.

    Raises:
        InputError: not readable, not text, or no lines.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if size <= WHOLE:
                text = _decoded(file.read(), path, whole=True)
                tick(size, size)
                lines = text.splitlines()
                return Lines(groups=[lines], total=len(lines), sampled=False)
            groups, lengths = [], []
            starts = sorted(int(s) for s in rng.integers(0, size - BLOCK, BLOCKS - 1))
            for i, start in enumerate([0, *starts]):
                file.seek(start)
                raw = file.read(BLOCK)
                first = 0 if start == 0 else raw.find(b"\n") + 1
                last = raw.rfind(b"\n")
                if (start and not first) or last <= first:
                    if len(raw) >= LONGEST_LINE or b"\x00" in raw:
                        raise InputError("has no lines; it is not text", where=str(path))
                    continue
                whole = _decoded(raw[first:last], path).splitlines()
                groups.append(whole)
                lengths.append((last - first) / max(len(whole), 1))
                tick(i + 1, BLOCKS)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from None
    if not groups:
        hint = f"lines are longer than {fmt(BLOCK, 'B', binary=True)}"
        raise InputError("no whole line was found in the sample", where=str(path), hint=hint)
    import numpy as np

    mean, spread = float(np.mean(lengths)), float(np.std(lengths))
    error = spread / mean / len(lengths) ** 0.5
    return Lines(groups=groups, total=round(size / mean), sampled=True, error=error)


def _decoded(raw: bytes, path: Path, whole: bool = False) -> str:
    if b"\x00" in raw[:4096]:
        raise InputError("is not text: it holds zero bytes", where=str(path))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # a block may end within a character; elsewhere it is another encoding
        if whole or (len(raw) - error.start > 4 and error.start > 4):
            hint = f"byte {raw[error.start]:#x} at {error.start:,}; save it as UTF-8"
            raise InputError("is not text in UTF-8", where=str(path), hint=hint) from None
        return raw.decode("utf-8", "ignore")


def labels_of(values: list[Any]) -> tuple[int, int, float | None]:
    """Labelled examples, classes and the share of the rarest class among labels; None is no label."""
    from collections import Counter

    counts = Counter(v for v in values if v not in (None, ""))
    total = sum(counts.values())
    return total, len(counts), min(counts.values()) / total if total else None
