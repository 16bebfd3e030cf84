"""Makes the data files of `examples/briefs/from_files` and of docs/probing.md: seeded, of known structure.

python examples/make_data.py FOLDER [NAME ...]
"""

import json
import sys
import wave
from pathlib import Path

import numpy as np


def wildlife(at: Path, rng: np.random.Generator) -> None:
    """Images [n, 96, 96] of 50 kinds of texture, each somewhere in the picture."""
    n, side = 600, 96
    y = rng.integers(0, 50, n)
    x = np.zeros((n, side, side), np.uint8)
    rows, columns = np.mgrid[:side, :side]
    for i, kind in enumerate(y):
        angle, wave_length = kind % 10 * np.pi / 10, 8 + 4 * (kind // 10)
        stripes = np.sin(2 * np.pi * (rows * np.sin(angle) + columns * np.cos(angle)) / wave_length)
        middle = rng.integers(24, side - 24, 2)
        near = np.exp(-((rows - middle[0]) ** 2 + (columns - middle[1]) ** 2) / (2 * 14**2))
        ground = np.cumsum(rng.normal(0, 1, (side, side)), 1) + np.cumsum(rng.normal(0, 1, (side, side)), 0)
        x[i] = np.clip(128 + 90 * near * stripes + 2 * ground, 0, 255)
    np.savez_compressed(at / "wildlife.npz", x=x, y=y)


def loan(at: Path, rng: np.random.Generator) -> None:
    """A table of 47 numbers and what became of the loan: columns of their own meaning, rows in no order."""
    n = 5000
    x = rng.normal(size=(n, 47)) @ (np.eye(47) + 0.1 * rng.normal(size=(47, 47)))
    odds = x[:, 0] - x[:, 1] * x[:, 2] + 0.5 * np.abs(x[:, 3]) - 1.5
    y = rng.random(n) < 1 / (1 + np.exp(-odds))
    with (at / "loan.csv").open("w") as file:
        file.write(",".join([f"f{i}" for i in range(47)] + ["default"]) + "\n")
        for row, label in zip(x, y, strict=True):
            file.write(",".join(f"{v:.4g}" for v in row) + f",{int(label)}\n")


def photos(at: Path, rng: np.random.Generator) -> None:
    """50,000 labelled images of 32 x 32 pixels, ten classes of smooth patches."""
    n = 50_000
    y = rng.integers(0, 10, n)
    coarse = rng.normal(size=(10, 8, 8))
    x = np.empty((n, 32, 32), np.uint8)
    for start in range(0, n, 5000):
        part = coarse[y[start : start + 5000]] + 0.5 * rng.normal(size=(len(y[start : start + 5000]), 8, 8))
        shift = rng.integers(0, 8)
        big = np.roll(np.kron(part, np.ones((1, 4, 4))), shift, axis=(1, 2))
        x[start : start + 5000] = np.clip(128 + 40 * big, 0, 255)
    np.savez_compressed(at / "photos.npz", x=x, y=y)


def speech(at: Path, rng: np.random.Generator) -> None:
    """40 s of sound whose loudness and pitch wander for seconds: an AR(1) process of 5 s (250 windows)."""
    rate, seconds = 8000, 40
    steps = seconds * 50
    slow = np.zeros(steps)
    for i in range(1, steps):
        slow[i] = np.exp(-1 / 250) * slow[i - 1] + np.sqrt(1 - np.exp(-2 / 250)) * rng.normal()
    loud = np.repeat(np.exp(0.8 * slow), rate // 50)
    sound = loud * rng.normal(0, 0.05, len(loud))
    _wav(at / "speech.wav", sound, rate)


def _wav(path: Path, sound: np.ndarray, rate: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())


def documents(at: Path, rng: np.random.Generator) -> None:
    """Long documents, each about names of its own that come again to its end: far relations by content."""
    with (at / "documents.jsonl").open("w") as file:
        for _ in range(40):
            own = [f"name{i}" for i in rng.integers(0, 4000, 12)]
            length = int(rng.integers(6000, 9000))
            words = [
                own[rng.integers(12)] if rng.random() < 0.2 else f"w{int(rng.zipf(1.3)) % 3000}"
                for _ in range(length)
            ]
            file.write(json.dumps({"text": " ".join(words), "answer": own[0]}) + "\n")


def clicks(at: Path, rng: np.random.Generator) -> None:
    """A log of impressions: identifiers drawn by Zipf from 700 M users, 300 M items and 1 M pages."""
    n = 20_000
    columns = {}
    for name, rows in (("user_id", 700_000_000), ("item_id", 300_000_000), ("page_id", 1_000_000)):
        # ranks by a power law, scattered over the identifiers; the last one is there so that all are known
        rank = np.minimum((rows ** rng.random(n)).astype(np.int64), rows - 1)
        columns[name] = rank * 7919 % rows
        columns[name][0] = rows - 1
    dense = rng.normal(size=(n, 13))
    with (at / "clicks.csv").open("w") as file:
        file.write(",".join([*columns, *(f"d{i}" for i in range(13)), "click"]) + "\n")
        for i in range(n):
            ids = ",".join(str(c[i]) for c in columns.values())
            file.write(f"{ids},{','.join(f'{v:.3f}' for v in dense[i])},{int(rng.random() < 0.03)}\n")


def keywords(at: Path, rng: np.random.Generator) -> None:
    """Clips of a second in folders of 12 words: each word is a glide of pitch, somewhere in the clip."""
    rate = 8000
    t = np.arange(rate // 2) / rate
    for word in range(12):
        folder = at / "keywords" / f"word{word:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(8):
            pitch = 300 + 150 * word + (word % 3 - 1) * 400 * t
            sound = 0.4 * np.sin(2 * np.pi * np.cumsum(pitch) / rate) * np.hanning(len(t))
            whole = rng.normal(0, 0.01, rate)
            start = rng.integers(0, rate - len(t))
            whole[start : start + len(t)] += sound
            _wav(folder / f"{i}.wav", whole, rate)


def commands(at: Path, rng: np.random.Generator) -> None:
    """Commands of 50 words in which a word tells about the next three and nothing farther."""
    with (at / "commands.jsonl").open("w") as file:
        follow = rng.integers(0, 400, (400, 3))
        for _ in range(3000):
            words = [int(rng.integers(400))]
            while len(words) < 50:
                known = rng.random() < 0.6
                words.append(int(follow[words[-1], rng.integers(3)]) if known else int(rng.integers(400)))
            file.write(json.dumps({"text": " ".join(f"w{w}" for w in words), "label": words[10] % 20}) + "\n")


def glyphs(at: Path, rng: np.random.Generator) -> None:
    """Images [n, 10, 10] of five glyphs of the same 25 values, each somewhere in the picture, in noise."""
    n, side, size = 2400, 10, 5
    values = rng.normal(size=size * size)
    drawn = [rng.permutation(values).reshape(size, size) for _ in range(5)]
    y = rng.integers(0, 5, n)
    x = rng.normal(0, 0.5, (n, side, side)).astype(np.float32)
    for i, kind in enumerate(y):
        row, column = rng.integers(1, side - size, 2)
        x[i, row : row + size, column : column + size] += drawn[kind]
    np.savez_compressed(at / "glyphs.npz", x=x, y=y)


MAKERS = {
    f.__name__: f for f in (wildlife, loan, photos, speech, documents, clicks, keywords, commands, glyphs)
}


def make(folder: Path, names: list[str], seed: int = 7) -> None:
    """Writes the files of `names` (all if empty) into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or MAKERS:
        MAKERS[name](folder, np.random.default_rng([seed, list(MAKERS).index(name)]))


if __name__ == "__main__":
    if len(sys.argv) < 2 or set(sys.argv[2:]) - set(MAKERS):
        sys.exit(f"usage: python examples/make_data.py FOLDER [{'] ['.join(MAKERS)}]")
    make(Path(sys.argv[1]), sys.argv[2:])
