"""Images in folders, through Pillow, and sound in WAV files: classes by folder, structure by a sample."""

import wave
from pathlib import Path
from typing import Any

import numpy as np

from pharos.decide.data.arrays import images_of
from pharos.decide.data.facts import Data
from pharos.decide.data.measures import dependence, order_p, spatial
from pharos.decide.data.sample import Tick, nothing
from pharos.quantity.errors import InputError

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
# Images and clips opened, pixels of a side they are compared at, seconds of sound read.
SAMPLE, SIDE, SECONDS = 200, 64, 60
# Windows of sound: what keyword spotters take (Zhang et al. 2017, arXiv:1711.07128).
WINDOW_S, STRIDE_S, BANDS = 0.04, 0.02, 10


def classes_of(files: list[Path], root: Path) -> tuple[list[str], dict[str, Any]]:
    """Each file's class by its folder (empty without folders), and what that tells of labels."""
    named = [f.parent.name if root not in (f, f.parent) else "" for f in files]
    if not any(named):
        return named, {}
    found, counts = np.unique([n for n in named if n], return_counts=True)
    return named, {"labels": int(counts.sum()), "classes": len(found),
                   "skew": float(counts.min() / counts.sum())}  # fmt: skip


def read_images(root: Path, files: list[Path], rng: Any, tick: Tick = nothing) -> Data:
    """A folder of images, a folder a class; a sample is opened.

    Raises:
        InputError: Pillow is missing, or more than half of the sample are no images.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise InputError(
            "reading images needs Pillow", where=str(root), hint="pip install 'pharos-nn[data]'"
        ) from None
    picked = [files[i] for i in np.sort(rng.choice(len(files), min(len(files), SAMPLE), replace=False))]
    grey, sides, channels, bad = [], [], [], []
    for i, path in enumerate(picked):
        try:
            with Image.open(path) as image:
                sides.append(min(image.size))
                channels.append(len(image.getbands()))
                small = image.convert("L")
                small.thumbnail((4 * SIDE, 4 * SIDE))
                # the middle at its own scale: shrinking would make neighbours of what were none
                side = min(*small.size, SIDE)
                left, top = (small.width - side) // 2, (small.height - side) // 2
                grey.append(np.asarray(small.crop((left, top, left + side, top + side)), dtype=np.float64))
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            bad.append(path)
        tick(i + 1, len(picked))
    if len(bad) > len(grey):
        raise InputError(f"{len(bad)} of {len(picked)} files opened are no images", where=str(bad[0]))
    side = min(g.shape[0] for g in grey)
    how = f"measured: {len(grey)} of {len(files):,} images, the middle {side} pixels"
    found = images_of(np.stack([g[:side, :side] for g in grey]), str(root), len(files),
                      int(np.median(channels)), rng, how)  # fmt: skip
    _, told = classes_of(files, root)
    note = () if not bad else (f"{len(bad)} of {len(picked)} files opened are no images: {bad[0].name}",)
    return _with(found, {"resolution": int(np.median(sides)), **told}, how, note)


def _with(data: Data, fields: dict[str, Any], how: str, notes: tuple[str, ...] = ()) -> Data:
    from dataclasses import replace

    return replace(data, **fields, known=data.known | dict.fromkeys(fields, how), notes=(*data.notes, *notes))


def read_wav(path: Path) -> tuple[Any, int]:
    """Samples of a WAV file in one channel, -1 to 1, at most SECONDS of it, and its rate.

    Raises:
        InputError: not a WAV file of whole numbers.
    """
    try:
        with wave.open(str(path), "rb") as file:
            rate, width, channels = file.getframerate(), file.getsampwidth(), file.getnchannels()
            raw = file.readframes(min(file.getnframes(), SECONDS * rate))
    except (wave.Error, EOFError, OSError) as error:
        raise InputError(f"is not a WAV file: {error}", where=str(path)) from None
    if width == 3:
        three = np.frombuffer(raw[: len(raw) // 3 * 3], np.uint8).reshape(-1, 3)
        # the three high bytes of a 32-bit number
        samples = np.pad(three, ((0, 0), (1, 0))).copy().view("<i4").ravel() / 2**31
    elif width in (1, 2, 4):
        kind = {1: np.uint8, 2: "<i2", 4: "<i4"}[width]
        samples = np.frombuffer(raw[: len(raw) // width * width], kind).astype(np.float64)
        samples = (samples - 128) / 128 if width == 1 else samples / 2 ** (8 * width - 1)
    else:
        raise InputError(f"has samples of {width} bytes", where=str(path))
    samples = samples[: len(samples) // channels * channels].reshape(-1, channels).mean(axis=1)
    if len(samples) < rate * WINDOW_S:
        raise InputError(f"holds {len(samples):,} samples, less than one window", where=str(path))
    return samples, rate


def spectrogram(samples: Any, rate: int) -> Any:
    """Log energies [steps, BANDS] of windows of WINDOW_S every STRIDE_S, in bands a mel apart."""
    size, stride = int(rate * WINDOW_S), max(1, int(rate * STRIDE_S))
    starts = np.arange(0, len(samples) - size + 1, stride)
    frames = samples[starts[:, None] + np.arange(size)] * np.hanning(size)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    mel = 2595 * np.log10(1 + np.fft.rfftfreq(size, 1 / rate) / 700)
    band = np.minimum((mel / (mel[-1] + 1e-9) * BANDS).astype(int), BANDS - 1)
    sums = np.stack([power[:, band == b].sum(axis=1) for b in range(BANDS)], axis=1)
    return np.log(sums + 1e-10)


def read_sound(root: Path, files: list[Path], rng: Any, tick: Tick = nothing) -> Data:
    """WAV files, a folder a class; a sample is read as spectrograms.

    Raises:
        InputError: more than half of the sample are no WAV files.
    """
    picked = [files[i] for i in np.sort(rng.choice(len(files), min(len(files), SAMPLE), replace=False))]
    spectra, rates, bad, problem = [], [], 0, None
    for i, path in enumerate(picked):
        try:
            samples, rate = read_wav(path)
            spectra.append(spectrogram(samples, rate))
            rates.append(rate)
        except InputError as error:
            bad, problem = bad + 1, problem or error
        tick(i + 1, len(picked))
    if problem is not None and bad > len(spectra):
        raise problem
    lengths = [len(s) for s in spectra]
    found = [dependence(s) for s in spectra if len(s) > 8]
    same = min(lengths)
    grid = spatial(np.stack([s[:same] for s in spectra])[:, :, :], rng) if same > 2 else None
    how = f"measured: {len(spectra)} of {len(files):,} clips, {BANDS} bands every {STRIDE_S * 1e3:.0f} ms"
    fields: dict[str, Any] = {
        "examples": len(files), "length": int(np.median(lengths)), "longest": max(lengths), "features": BANDS,
        "rate_hz": 1 / STRIDE_S, "order_p": order_p(np.concatenate(spectra)[:4096], rng),
        "dependence": float(np.mean([d.steps for d in found])) if found else None,
    }  # fmt: skip
    if grid is not None:
        fields |= {"neighbours": grid.neighbours, "reach": grid.reach}
    _, told = classes_of(files, root)
    fields |= told
    seconds = np.median(lengths) * STRIDE_S
    notes = [f"{np.median(rates) / 1e3:.3g} kHz, clips of {seconds:.3g} s"]
    if bad:
        notes.append(f"{bad} of {len(picked)} files opened are no WAV files: {problem}")
    return Data(kind="audio", path=str(root), known=dict.fromkeys(fields, how), notes=tuple(notes), **fields)
