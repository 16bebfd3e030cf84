"""Training: a graph learns from arrays on this machine's CPU: seeded, stopping early, or when told to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import cos, pi
from typing import Any

from pharos.convert.to_torch import to_torch
from pharos.graph.graph import Graph
from pharos.quantity.errors import InputError, unknown

LOSSES = ("classes", "number", "shares")
# Examples of a batch when nothing is learnt.
WIDE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a network is trained: AdamW, a linear warm-up, then half a cosine to nothing.

    Source of the optimiser: Loshchilov and Hutter 2019, arXiv:1711.05101; of the schedule: the same, 2017,
    arXiv:1608.03983.

    Args:
        steps: batches at most; warm: share of them in which the rate rises.
        decay: of weights of two or more dimensions; clip: norm of the gradient, at most.
        looks: at the validation part; patience: looks without a better one after which it stops.
    """

    rate: float = 3e-3
    steps: int = 400
    batch: int = 32
    decay: float = 0.01
    warm: float = 0.05
    clip: float = 1.0
    looks: int = 20
    patience: int = 8

    def rate_at(self, step: int) -> float:
        """The rate of a step."""
        warm = max(1, round(self.warm * self.steps))
        if step < warm:
            return self.rate * (step + 1) / warm
        return self.rate * 0.5 * (1 + cos(pi * (step - warm) / max(1, self.steps - warm)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """A trained network and how it came about.

    Args:
        predict: inputs -> codes of classes, or numbers.
        scores: inputs -> how far the second of two classes is believed.
        losses: of training, one a step; looks: (step, loss on the validation part).
        best: the least of those; stopped: before its steps were over.
    """

    predict: Callable[[tuple[Any, ...]], Any]
    scores: Callable[[tuple[Any, ...]], Any]
    losses: tuple[float, ...]
    looks: tuple[tuple[int, float], ...]
    best: float
    steps: int
    stopped: bool


@contextmanager
def one_thread() -> Iterator[Any]:
    """PyTorch on one thread, which small networks are fastest on, and its random state kept aside."""
    torch = _torch()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield torch
    finally:
        torch.set_num_threads(threads)


def _torch() -> Any:
    try:
        import torch
    except ModuleNotFoundError:
        raise InputError("training needs torch", hint="pip install 'pharos-nn[torch]'") from None
    return torch


def warm() -> None:
    """Loads what the first training would, seconds of it, so that its pace is that of the others.

    Raises:
        InputError: torch is missing.
    """
    torch = _torch()
    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])


def train(
    graph_of: Callable[[int], Graph], loss: str, inputs: tuple[Any, ...], y: Any, held: tuple[Any, ...],
    held_y: Any, recipe: Recipe, seed: int = 0, stop: Callable[[], bool] = lambda: False,
) -> Learnt | None:  # fmt: skip
    """Trains a network; None if it was told to stop before it was done.

    The weights kept are those with the least loss on the validation part. The same seed gives the same
    network on one machine and version of PyTorch.

    Args:
        graph_of: batch -> graph.
        loss: "classes" (cross entropy of outputs), "number" (mean square, of y made standard), "shares"
            (binary cross entropy of outputs that are probabilities; one output tells two classes).
        inputs, y: what is learnt from: arrays of the graph's inputs, codes or numbers.
        held, held_y: the validation part; empty ones train to the end.

    Raises:
        InputError: torch is missing.
    """
    import numpy as np

    if loss not in LOSSES:
        raise unknown("loss", loss, LOSSES)
    with one_thread() as torch:
        torch.manual_seed(seed)
        network = to_torch(graph_of(recipe.batch))
        _positions(torch, network)
        middle, spread = (float(np.mean(y)), float(np.std(y)) or 1.0) if loss == "number" else (0.0, 1.0)
        x = tuple(torch.from_numpy(np.ascontiguousarray(a)) for a in inputs)
        wanted = _wanted(torch, y, loss, middle, spread)
        held_wanted = _wanted(torch, held_y, loss, middle, spread)
        measure = _losses(torch, loss)
        optimiser = torch.optim.AdamW(_groups(network, recipe.decay), lr=recipe.rate, fused=True)
        order = _batches(len(y), recipe.batch, np.random.default_rng([seed, 1]))
        every = max(1, recipe.steps // recipe.looks)
        losses, looks = [], []
        best, kept, since, stopped = float("inf"), None, 0, False
        run = _runner(torch, network, graph_of)
        for step in range(recipe.steps):
            if stop():
                return None
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate_at(step)
            rows = torch.from_numpy(next(order))
            network.train()
            error = measure(network(*(a[rows] for a in x)), wanted[rows])
            optimiser.zero_grad(set_to_none=True)
            error.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
            optimiser.step()
            losses.append(float(error.detach()))
            if len(held_y) and ((step + 1) % every == 0 or step + 1 == recipe.steps):
                out = run(held)
                seen = float(measure(out, held_wanted))
                looks.append((step + 1, seen))
                since += 1
                if seen < best:
                    best, since = seen, 0
                    kept = {k: v.detach().clone() for k, v in network.state_dict().items()}
                if since >= recipe.patience:
                    stopped = True
                    break
        if kept is not None:
            network.load_state_dict(kept)

    def out_of(new: tuple[Any, ...]) -> Any:
        with one_thread():
            return run(new)

    def scores(new: tuple[Any, ...]) -> Any:
        out = out_of(new)
        return (out[:, 0] if out.shape[1] == 1 else out[:, 1] - out[:, 0]).numpy()

    def predict(new: tuple[Any, ...]) -> Any:
        out = out_of(new)
        if loss == "number":
            return out[:, 0].numpy() * spread + middle
        if loss == "shares" and out.shape[1] == 1:
            return (out[:, 0] > 0.5).long().numpy()
        return out.argmax(dim=1).numpy()

    return Learnt(predict=predict, scores=scores, losses=tuple(losses), looks=tuple(looks), best=best,
                  steps=len(losses), stopped=stopped)  # fmt: skip


def _positions(torch: Any, network: Any) -> None:
    """Draws positions, which layers leave at zero: deviation 0.02, as ViT's reference code does."""
    for name, parameter in network.named_parameters():
        if name.endswith("pos_embed"):
            torch.nn.init.trunc_normal_(parameter, std=0.02)


def _groups(network: Any, decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms and positions do not."""
    every = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
    wide = [p for n, p in every if p.ndim > 1 and not n.endswith("pos_embed")]
    thin = [p for n, p in every if p.ndim <= 1 or n.endswith("pos_embed")]
    return [{"params": wide, "weight_decay": decay}, {"params": thin, "weight_decay": 0.0}]


def _wanted(torch: Any, y: Any, loss: str, middle: float, spread: float) -> Any:
    import numpy as np

    if loss == "number":
        return torch.from_numpy(((np.asarray(y, float) - middle) / spread).astype(np.float32))
    return torch.from_numpy(np.asarray(y, dtype=np.int64))


def _losses(torch: Any, loss: str) -> Callable[[Any, Any], Any]:
    functional = torch.nn.functional
    if loss == "classes":
        return functional.cross_entropy
    if loss == "number":
        return lambda out, wanted: ((out[:, 0] - wanted) ** 2).mean()

    def shares(out: Any, wanted: Any) -> Any:
        if out.shape[1] == 1:
            return functional.binary_cross_entropy(out[:, 0], wanted.float())
        return functional.binary_cross_entropy(out, functional.one_hot(wanted, out.shape[1]).float())

    return shares


def _batches(n: int, batch: int, rng: Any) -> Iterator[Any]:
    """Rows of full batches: permutation after permutation, cut as they come."""
    import numpy as np

    left = np.empty(0, np.int64)
    while True:
        while len(left) < batch:
            left = np.concatenate([left, rng.permutation(n)])
        yield left[:batch]
        left = left[batch:]


def _runner(torch: Any, network: Any, graph_of: Callable[[int], Graph]) -> Callable[[tuple[Any, ...]], Any]:
    """Runs a network on any number of examples, through a graph of another batch that shares its tensors."""
    import numpy as np

    made: dict[int, Any] = {}

    def wide(batch: int) -> Any:
        if batch not in made:
            state = torch.random.get_rng_state()
            made[batch] = to_torch(graph_of(batch))
            torch.random.set_rng_state(state)
        # tensors in use may have been exchanged since
        made[batch].load_state_dict(network.state_dict(keep_vars=True), assign=True)
        return made[batch].eval()

    def run(inputs: tuple[Any, ...]) -> Any:
        n = len(inputs[0])
        batch = min(WIDE, n)
        ready, parts = wide(batch), []
        with torch.no_grad():
            for start in range(0, n, batch):
                cut = [np.ascontiguousarray(a[start : start + batch]) for a in inputs]
                short = batch - len(cut[0])
                if short:
                    # the last batch is filled up with its first example
                    cut = [np.concatenate([a, np.repeat(a[:1], short, axis=0)]) for a in cut]
                out = ready(*(torch.from_numpy(a) for a in cut))
                parts.append(out[: batch - short])
        return torch.cat(parts)

    return run
