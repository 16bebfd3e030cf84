"""Heap: pages of fresh memory that an eager run touches at every call, as the C library allocates.

A tensor whose memory the allocator has given back to the system before is mapped anew, and every 4 KiB of it
cost a page fault and a page of zeros at the first touch. How many do follows from sizes and order alone.
"""

from dataclasses import dataclass, field

from pharos.graph.graph import Graph, Node
from pharos.ops.conv import Conv1d, Conv2d, Conv3d
from pharos.quantity.sizes import is_int

PAGE = 4096
# Source: glibc 2.36, malloc/malloc.c: DEFAULT_MMAP_THRESHOLD, its maximum on 64 bits, DEFAULT_TOP_PAD,
# FASTBIN_CONSOLIDATION_THRESHOLD; the threshold rises to the largest mapped block that was freed, and the
# heap is trimmed when twice that lies free at its top.
MAPPED, MOST_MAPPED, TOP_PAD, CONSOLIDATED = 128 * 1024, 32 * 2**20, 128 * 1024, 64 * 1024
# Where the threshold stands once PyTorch is loaded. Measured: with 2.13, blocks of 900 KiB came from the heap
# and blocks of 1000 KiB were mapped.
LOADED = 950 * 1024
# Bytes around a block: its header, and what aligning it to 64 wastes at most.
HEADER, ALIGNMENT = 16, 64
CONVOLUTIONS = (Conv1d, Conv2d, Conv3d)
# Calls after which nothing changes any more.
SETTLED = 4


@dataclass(slots=True)
class Heap:
    """glibc's main arena, as far as pages go: free blocks by best fit, a top that grows and is trimmed.

    Args:
        mapped: size from which a block is mapped on its own; trim: free bytes at the top that are given back.
        faults: pages touched for the first time since they were last given back.
    """

    mapped: int = MAPPED
    trim: int = 2 * MAPPED
    faults: int = 0
    _free: list[tuple[int, int]] = field(default_factory=list)
    _end: int = 0
    _break: int = 0
    _touched: int = 0
    _held: dict[int, tuple[int, int]] = field(default_factory=dict)
    _next: int = 0

    def take(self, nbytes: int) -> int:
        """Allocates and writes a block; its handle."""
        size = -(-(nbytes + HEADER + ALIGNMENT) // ALIGNMENT) * ALIGNMENT
        self._next += 1
        if size >= self.mapped:
            pages = -(-size // PAGE)
            self.faults += pages
            self._held[self._next] = (-1, pages * PAGE)
            return self._next
        at = self._place(size)
        self._held[self._next] = (at, size)
        if at + size > self._touched:
            self.faults += -(-(at + size) // PAGE) - -(-max(at, self._touched) // PAGE)
            self._touched = at + size
        return self._next

    def _place(self, size: int) -> int:
        fitting = [(n, at) for at, n in self._free if n >= size]
        if fitting:
            n, at = min(fitting)
            self._free.remove((at, n))
            if n > size:
                self._free.append((at + size, n - size))
            return at
        at = self._end
        self._end += size
        if self._end > self._break:
            self._break = -(-(self._end + TOP_PAD) // PAGE) * PAGE
        return at

    def give(self, handle: int) -> None:
        """Frees a block."""
        at, size = self._held.pop(handle)
        if at < 0:
            if self.mapped < size <= MOST_MAPPED:
                self.mapped, self.trim = size, 2 * size
            return
        start, end = at, at + size
        for block in [b for b in self._free if b[0] == end or b[0] + b[1] == start]:
            self._free.remove(block)
            start, end = min(start, block[0]), max(end, block[0] + block[1])
        if end == self._end:
            self._end = start
        else:
            self._free.append((start, end - start))
        if (
            max(end - start, self._break - start if end >= self._end else 0) >= CONSOLIDATED
            and self._break - self._end >= self.trim
        ):
            self._break = -(-(self._end + TOP_PAD) // PAGE) * PAGE
            self._touched = min(self._touched, self._break)


def fresh_pages(graph: Graph) -> dict[str, int]:
    """Pages that each operator's results touch anew at every call, by its name as written out; no zeros.

    Tensors are taken as they are made and given back after their last reader, as a run of the graph does.
    Sizes must be numbers.
    """
    plain = graph.expanded()
    nodes = [n for n in plain.nodes if isinstance(n, Node)]
    last: dict[str, int] = {}
    root: dict[str, str] = {v.name: v.name for v in plain.inputs}
    for i, node in enumerate(nodes):
        is_view = node.op.class_of(*node.io) == "view"
        for name in node.outputs:
            root[name] = root[node.inputs[0]] if is_view and node.inputs else name
        for name in (*node.inputs, *node.outputs):
            last[root[name]] = i
    kept = {root[v.name] for v in plain.outputs} | {v.name for v in plain.inputs}
    ended: list[list[str]] = [[] for _ in nodes]
    for name, i in last.items():
        if name not in kept:
            ended[i].append(name)
    heap, found = Heap(mapped=LOADED, trim=2 * LOADED), {}
    results: list[int] = []
    for _ in range(SETTLED):
        found, held = {}, {}
        for i, node in enumerate(nodes):
            before = heap.faults
            for name, tensor in zip(node.outputs, node.outs, strict=True):
                if root[name] == name:
                    assert is_int(tensor.nbytes)
                    held[name] = heap.take(tensor.nbytes)
            scratch = [heap.take(n) for n in _scratch(node) if n]
            for handle in scratch:
                heap.give(handle)
            if heap.faults > before:
                found[node.name] = heap.faults - before
            for name in ended[i]:
                if name in held:
                    heap.give(held.pop(name))
        # the caller lets go of a call's results when the next one's are there
        for handle in results:
            heap.give(handle)
        results = list(held.values())
    return found


def _scratch(node: Node) -> list[int]:
    """Bytes of the blocks that an operator takes for itself: a convolution copies its input, weights and
    result to and from the layout that it computes in.

    Source: PyTorch's mkldnn_convolution on plain tensors, through ideep's reorders.
    """
    if isinstance(node.op, CONVOLUTIONS):
        held = node.weights.get("weight")
        sizes = [node.ins[0].nbytes, 0 if held is None else held.nbytes, node.outs[0].nbytes]
    else:
        sizes = [node.op.workspace(*node.io)]
    return [int(n) for n in sizes if is_int(n)]
