"""Digits to learn from: MNIST where torchvision finds it, scikit-learn's own, or some that are drawn here."""

from dataclasses import dataclass
from os import environ
from pathlib import Path
from typing import Any

# Where MNIST is looked for; nothing is fetched.
FOLDER = "PHAROS_MNIST"
# Of MNIST's 70,000, as many as a lab has time for.
MOST = 6000
# The digits of a 5 x 7 dot matrix, a row a number of five bits.
DOTS = (
    (14, 17, 19, 21, 25, 17, 14), (4, 12, 4, 4, 4, 4, 14), (14, 17, 1, 2, 4, 8, 31), (31, 2, 4, 2, 1, 17, 14),
    (2, 6, 10, 18, 31, 2, 2), (31, 16, 30, 1, 1, 17, 14), (6, 8, 16, 30, 17, 17, 14), (31, 1, 2, 4, 8, 8, 8),
    (14, 17, 17, 14, 17, 17, 14), (14, 17, 17, 15, 1, 2, 12),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Digits:
    """Images [n, side, side], 0 to 1, and what they show.

    Args:
        source: where they come from; real: written by people.
    """

    images: Any
    labels: Any
    source: str
    real: bool

    @property
    def side(self) -> int:
        """Pixels of a side."""
        return int(self.images.shape[1])


def digits(seed: int = 0, kind: str = "") -> Digits:
    """MNIST, or scikit-learn's 1,797 digits of 8 x 8, or drawn ones: the first that is there, or a `kind`.

    Args:
        kind: "mnist", "sklearn" or "drawn"; any of them if empty.
    """
    if kind in ("", "mnist"):
        found = _mnist(seed)
        if found is not None or kind:
            return found or drawn(seed)
    if kind in ("", "sklearn"):
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            return drawn(seed)
        data: Any = load_digits()
        source = "scikit-learn's digits, 1,797 of 8 x 8 by 43 people (Alpaydin and Kaynak 1998)"
        return Digits(images=data.images.astype("float32") / 16, labels=data.target, real=True, source=source)
    return drawn(seed)


def _mnist(seed: int) -> Digits | None:
    try:
        from torchvision.datasets import MNIST  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    import numpy as np
    from platformdirs import user_data_path

    root = Path(environ.get(FOLDER) or user_data_path("pharos", appauthor=False))
    try:
        data = MNIST(root, train=True, download=False)
    except RuntimeError:
        return None
    rows = np.random.default_rng(seed).permutation(len(data.data))[:MOST]
    return Digits(images=data.data.numpy()[rows].astype("float32") / 255, labels=data.targets.numpy()[rows],
                  real=True, source=f"MNIST, {len(rows):,} of its 60,000 training images")  # fmt: skip


def drawn(seed: int = 0, n: int = 1797, side: int = 10) -> Digits:
    """Dot-matrix digits, bent, blurred and moved by a pixel or two, in noise."""
    import numpy as np

    rng = np.random.default_rng([seed, 17])
    labels = rng.integers(0, 10, n)
    images = np.zeros((n, side, side), np.float32)
    for image, label in zip(images, labels, strict=True):
        dots = np.array([[row >> (4 - c) & 1 for c in range(5)] for row in DOTS[label]], float)
        slant = rng.integers(-1, 2)
        top, left = rng.integers(0, side - 6), rng.integers(1, side - 5)
        for r, row in enumerate(dots):
            at = left + (slant if r < 3 else 0)
            image[top + r, at : at + 5] = row[: side - at]
        image[:] = 0.6 * image + 0.2 * (np.roll(image, 1, 0) + np.roll(image, 1, 1))
        image += 0.15 * rng.normal(size=image.shape)
    return Digits(
        images=np.clip(images, 0, 1), labels=labels, source="dot-matrix digits drawn here", real=False
    )
