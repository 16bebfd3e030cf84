"""Held: the storages an eager run holds at each step, as they were seen, and the peak they make."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pharos.graph.graph import Graph
from pharos.passes.memory import Lifetime, Liveness
from pharos.quantity.sizes import Size, is_int, maximum

# Where a graph's meta keeps what was seen of its run.
HELD = "held"


@dataclass(frozen=True, slots=True)
class Storage:
    """One storage of a run.

    Args:
        kind: "input", "activation", "gradient" of a parameter, "temporary" of a backward pass or an
            update, "optimizer".
        maker: the module, or module and operator, that made it.
        nbytes: an int, or a formula in the sizes that the run left free.
        first, last: the steps after which it is there for the first and for the last time.
    """

    kind: str
    maker: str
    nbytes: Size
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Held:
    """What a run of eager PyTorch holds, call by call.

    Args:
        device: whose kernels' results these are.
        resident: bytes held all through: "weights", "buffers", and of training "master", "optimizer".
        steps: where each call was made: a module's path, with the operator where several modules lie
            below it; "backward of ..." and "update" in training.
        storages: everything else; views share their source's.
        pieces: bytes of each resident tensor, for allocators that round them up one by one.
    """

    device: str
    resident: Mapping[str, Size]
    steps: tuple[str, ...]
    storages: tuple[Storage, ...]
    pieces: tuple[Size, ...] = ()
    sums: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def always(self) -> Size:
        """Bytes held all through."""
        return sum(self.resident.values(), start=0)

    @property
    def live(self) -> tuple[Size, ...]:
        """Bytes of storages after each step, the resident ones left out."""
        if "live" not in self.sums:
            self.sums["live"] = _over_time(self.storages, len(self.steps))
        return self.sums["live"]

    @property
    def most(self) -> Size:
        """The largest of `live`."""
        seen = (
            list(dict.fromkeys(self.live)) if not any(hasattr(v, "dtype") for v in self.live) else self.live
        )
        return maximum(*seen) if len(seen) != 1 else seen[0]

    @property
    def peak(self) -> Size:
        """The most that is held at once."""
        return self.always + self.most

    @property
    def peak_index(self) -> int | None:
        """Number of the step after which the peak stands; None where sizes are no numbers."""
        if not all(is_int(v) for v in self.live):
            return None
        return max(range(len(self.live)), key=lambda i: self.live[i])

    @property
    def peak_step(self) -> str:
        """The step after which the peak stands; "" where sizes are no numbers."""
        at = self.peak_index
        return "" if at is None else self.steps[at]

    def parts(self) -> dict[str, Size]:
        """Bytes by kind at the peak, resident ones included."""
        found: dict[str, Size] = dict(self.resident)
        at = self.peak_index
        for s in self.storages:
            if at is not None and s.first <= at <= s.last:
                found[s.kind] = found.get(s.kind, 0) + s.nbytes
        return {kind: size for kind, size in found.items() if not (is_int(size) and size == 0)}

    def liveness(self) -> Liveness:
        """As a reading of a graph's activations, inputs and outputs included."""
        lifetimes = tuple(Lifetime(s.maker, s.nbytes, s.first, s.last) for s in self.storages)
        return Liveness(lifetimes, self.live, self.steps, self.most)

    def as_meta(self) -> tuple[Any, ...]:
        """As nested tuples, which a graph's meta holds and `substitute` reaches into."""
        return (
            self.device, tuple(self.resident.items()), self.steps,
            tuple((s.kind, s.maker, s.nbytes, s.first, s.last) for s in self.storages), self.pieces,
        )  # fmt: skip


def _over_time(storages: tuple[Storage, ...], steps: int) -> tuple[Size, ...]:
    changes: list[Size] = [0] * (steps + 1)
    for s in storages:
        if s.last >= s.first:
            changes[s.first] = changes[s.first] + s.nbytes
            changes[s.last + 1] = changes[s.last + 1] - s.nbytes
    live: list[Size] = []
    now: Size = 0
    for change in changes[:steps]:
        now = now + change
        live.append(now)
    return tuple(live)


def held_of(graph: Graph) -> Held | None:
    """What was seen of the run that a graph was traced from; None of graphs that no run made."""
    kept = graph.meta.get(HELD)
    if kept is None:
        return None
    device, resident, steps, storages, pieces = kept
    return Held(
        device, dict(map(tuple, resident)), tuple(steps), tuple(Storage(*row) for row in storages),
        tuple(pieces),
    )  # fmt: skip
