"""Trials: what labs share: seeded draws, small images, training, and how a number over seeds is told."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf, isfinite
from statistics import median
from typing import Any

from pharos.quantity.errors import InputError

# Digits of three columns and five rows, a row a word.
GLYPHS = (
    "111 101 101 101 111", "010 110 010 010 111", "111 001 111 100 111", "111 001 111 001 111",
    "101 101 111 001 001", "111 100 111 001 111", "111 100 111 101 111", "111 001 001 001 001",
    "111 101 111 101 111", "111 101 111 001 111",
)  # fmt: skip


@contextmanager
def seeded(seed: int) -> Iterator[Any]:
    """PyTorch with its random numbers begun at `seed`, put back as they were at the end.

    Raises:
        InputError: torch is missing.
    """
    try:
        import torch
    except ModuleNotFoundError:
        raise InputError("this lab needs torch", hint="pip install 'pharos-nn[torch]'") from None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield torch


def digits(count: int, seed: int, side: int = 8, noise: float = 0.3, roam: bool = True) -> tuple[Any, Any]:
    """Images [count, 1, side, side] of a digit in noise, float32 of mean 0 and variance 1, and the digits.

    Drawn, so that no data set is needed: ten classes, each as likely.

    Args:
        noise: its standard deviation, where a stroke is 1. roam: the digit is anywhere, not in the middle.
    """
    import numpy as np

    shapes = np.array([[[int(c) for c in row] for row in glyph.split()] for glyph in GLYPHS], np.float32)
    high, wide = shapes.shape[1:]
    rng = np.random.default_rng(seed)
    labels = rng.integers(len(shapes), size=count)
    images = rng.normal(0, noise, (count, 1, side, side)).astype(np.float32)
    tops, lefts = (rng.integers(side - n + 1, size=count) for n in (high, wide))
    if not roam:
        tops, lefts = (np.full(count, (side - n) // 2) for n in (high, wide))
    for image, label, top, left in zip(images, labels, tops, lefts, strict=True):
        image[0, top : top + high, left : left + wide] += shapes[label]
    return (images - images.mean()) / images.std(), labels


def apart(a: Any, b: Any) -> float:
    """Largest difference of two arrays over the largest value of the second."""
    import numpy as np

    a, b = np.asarray(a, float), np.asarray(b, float)
    top = np.abs(b).max()
    return float(np.abs(a - b).max() / (top if top else 1.0))


@dataclass(frozen=True, slots=True)
class Curve:
    """How a training went.

    Args:
        losses: of each step's batch, inf from the step on that was no number.
        accuracy: on samples not trained on.
    """

    losses: tuple[float, ...]
    accuracy: float = 0.0

    @property
    def last(self) -> float:
        """Mean loss of the last tenth of the steps."""
        tail = self.losses[-max(1, len(self.losses) // 10) :]
        return sum(tail) / len(tail) if all(map(isfinite, tail)) else inf


def descend(
    network: Any, loss_of: Callable[[int], Any], steps: int, rate: float, *, momentum: float = 0.9,
    adam: bool = False, clip: float = 0.0,
) -> tuple[float, ...]:  # fmt: skip
    """Losses of `steps` steps of SGD with momentum, or of Adam; it ends at a loss that is no number.

    Args:
        loss_of: the loss of a step. clip: largest norm of the gradient, 0 for no limit.
    """
    import torch

    parameters = list(network.parameters())
    optimizer: Any = (
        torch.optim.Adam(parameters, rate) if adam else torch.optim.SGD(parameters, rate, momentum)
    )
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        loss = loss_of(step)
        if not torch.isfinite(loss):
            losses += [inf] * (steps - step)
            break
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        losses.append(float(loss.detach()))
    return tuple(losses)


def saved_bytes(run: Callable[[], Any], but: Sequence[Any] = ()) -> int:
    """Bytes that PyTorch keeps of a forward pass for its gradients, each piece of memory once.

    Args:
        but: tensors that are there anyway, such as parameters.
    """
    import torch

    known = {t.untyped_storage().data_ptr() for t in but}
    found: dict[int, int] = {}
    held = []

    def pack(tensor: Any) -> Any:
        memory = tensor.untyped_storage()
        if memory.data_ptr() not in known:
            found[memory.data_ptr()] = memory.nbytes()
            # as long as it is counted no other may take its place
            held.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(found.values())


def over(values: Sequence[float], form: str = ".3g") -> str:
    """A number over seeds: its median, and from where to where."""
    if len(values) == 1:
        return f"{values[0]:{form}}"
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def decades(large: float, small: float) -> float:
    """Orders of magnitude between two numbers; inf where the smaller is nothing."""
    from math import log10

    return log10(large / small) if small > 0 and large > 0 else inf
