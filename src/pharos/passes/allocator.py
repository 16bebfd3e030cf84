"""Allocator: what PyTorch's caching allocator sets aside on a GPU for storages that come and go."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pharos.passes.memory import Lifetime
from pharos.quantity.errors import SizeError
from pharos.quantity.sizes import is_int

# Sizes of c10/cuda/CUDACachingAllocator.cpp of PyTorch 2.x with its default settings, bytes.
BLOCK = 512  # every request is rounded up to a multiple of it
SMALL = 1 << 20  # larger requests come from the other pool
SMALL_SEGMENT = 2 << 20  # what is asked of the driver for small ones
LARGE_SEGMENT = 20 << 20  # for requests below LARGE
LARGE = 10 << 20  # from here on a request has a segment of its own,
LARGE_STEP = 2 << 20  # rounded up to a multiple of it


@dataclass(frozen=True, slots=True)
class Reserved:
    """Memory of a GPU under the caching allocator, each at its own highest moment.

    Args:
        requested: bytes of the storages as they are.
        allocated: with every storage rounded up to blocks (``torch.cuda.max_memory_allocated``).
        reserved: what the driver was asked for (``torch.cuda.max_memory_reserved``).
    """

    requested: int
    allocated: int
    reserved: int


@dataclass(slots=True)
class _Block:
    segment: int
    offset: int
    size: int
    free: bool = False
    before: "_Block | None" = None
    after: "_Block | None" = None


@dataclass(slots=True)
class CachingAllocator:
    """A model of the allocator: two pools, best fit, splitting, merging; one stream, no limit.

    Segments are never given back, as PyTorch does until memory runs out.
    """

    allocated: int = 0
    reserved: int = 0
    most_allocated: int = 0
    _segments: int = 0
    _free: dict[bool, list[tuple[int, int, int]]] = field(default_factory=lambda: {True: [], False: []})
    _blocks: dict[tuple[int, int], _Block] = field(default_factory=dict)

    def allocate(self, nbytes: int) -> _Block:
        """A block for a request, from what is free or from a new segment."""
        size = max(-(-nbytes // BLOCK) * BLOCK, BLOCK)
        small = size <= SMALL
        pool = self._free[small]
        at = bisect_left(pool, (size, -1, -1))
        if at < len(pool):
            _, segment, offset = pool.pop(at)
            block = self._blocks[segment, offset]
        else:
            room = (
                SMALL_SEGMENT
                if small
                else LARGE_SEGMENT
                if size < LARGE
                else -(-size // LARGE_STEP) * LARGE_STEP
            )
            block = _Block(self._segments, 0, room)
            self._blocks[block.segment, 0] = block
            self._segments += 1
            self.reserved += room
        left = block.size - size
        if left >= BLOCK if small else left > SMALL:
            rest = _Block(block.segment, block.offset + size, left, True, block, block.after)
            if block.after is not None:
                block.after.before = rest
            block.after, block.size = rest, size
            self._blocks[rest.segment, rest.offset] = rest
            insort(pool, (rest.size, rest.segment, rest.offset))
        block.free = False
        self.allocated += block.size
        self.most_allocated = max(self.most_allocated, self.allocated)
        return block

    def release(self, block: _Block, small: bool) -> None:
        """Frees a block and joins it with free neighbours of its segment."""
        self.allocated -= block.size
        pool = self._free[small]
        for other in (block.before, block.after):
            if other is None or not other.free:
                continue
            pool.remove((other.size, other.segment, other.offset))
            first, second = (other, block) if other.offset < block.offset else (block, other)
            first.size += second.size
            first.after = second.after
            if second.after is not None:
                second.after.before = first
            del self._blocks[second.segment, second.offset]
            block = first
        block.free = True
        insort(pool, (block.size, block.segment, block.offset))


def replay(resident: Iterable[int], lifetimes: Sequence[Lifetime]) -> Reserved:
    """Asks the allocator for everything a run holds, in its order.

    Args:
        resident: bytes of each tensor that is there all through, made first.
        lifetimes: the others; those that end at a step are freed after what begins at it was made.

    Raises:
        SizeError: sizes that are not numbers.
    """
    kept = [n for n in resident if not (is_int(n) and n == 0)]
    items = [t for t in lifetimes if not (is_int(t.nbytes) and t.nbytes == 0)]
    if not all(is_int(n) for n in (*kept, *(t.nbytes for t in items))):
        raise SizeError("an allocator needs sizes that are numbers, not arrays or formulas")
    allocator = CachingAllocator()
    for n in kept:
        allocator.allocate(n)
    begin: dict[int, list[Lifetime]] = {}
    for t in items:
        begin.setdefault(t.first, []).append(t)
    ends: dict[int, list[tuple[_Block, bool, int]]] = {}
    now = sum(kept)
    requested = now
    for step in range(max((t.last for t in items), default=-1) + 1):
        for t in begin.get(step, ()):
            small = max(-(-t.nbytes // BLOCK) * BLOCK, BLOCK) <= SMALL
            ends.setdefault(t.last, []).append((allocator.allocate(t.nbytes), small, t.nbytes))
            now += t.nbytes
        requested = max(requested, now)
        for block, small, nbytes in ends.get(step, ()):
            allocator.release(block, small)
            now -= nbytes
    return Reserved(requested, allocator.most_allocated, allocator.reserved)
