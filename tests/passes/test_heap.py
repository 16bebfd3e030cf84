"""Fresh pages: the allocator's rules on sizes worked out by hand, and a run that counts its page faults."""

import subprocess
import sys
from pathlib import Path

import pytest

from pharos.graph.graph import Builder
from pharos.graph.workload import Workload
from pharos.models.registry import find
from pharos.ops.activation import Activation
from pharos.ops.conv import Conv2d
from pharos.passes.heap import MOST_MAPPED, PAGE, Heap, fresh_pages


def test_a_block_beyond_the_threshold_is_mapped_anew_every_time():
    heap, size = Heap(), 2 * MOST_MAPPED
    for turn in range(3):
        heap.give(heap.take(size))
        assert heap.faults == pytest.approx((turn + 1) * size / PAGE, rel=1e-3)


def test_the_threshold_follows_what_is_freed():
    """A block that was mapped and freed comes from the heap the next time, and stays there."""
    heap, size = Heap(), 2**20
    heap.give(heap.take(size))
    assert heap.mapped >= size
    heap.give(heap.take(size))
    before = heap.faults
    for _ in range(5):
        heap.give(heap.take(size))
    # twice the threshold does not lie free at the top, so that nothing is given back
    assert heap.faults == before


def test_a_heap_with_much_free_at_its_top_is_trimmed():
    heap, size = Heap(), 2**20
    heap.give(heap.take(size))
    for _ in range(3):
        before = heap.faults
        held = [heap.take(size - 4096) for _ in range(6)]
        for handle in reversed(held):
            heap.give(handle)
    # all but what stays below the trim threshold is touched anew
    assert 3 * size / PAGE < heap.faults - before <= 6 * size / PAGE + 6


def test_freed_neighbours_become_one_block():
    heap = Heap(mapped=2**30, trim=2**40)
    handles = [heap.take(10_000) for _ in range(4)]
    last = heap.take(10_000)
    for i in (1, 2, 0):
        heap.give(handles[i])
    before = heap.faults
    heap.take(29_000)
    assert heap.faults == before
    heap.give(last)


def test_small_networks_touch_nothing_anew():
    assert fresh_pages(find("ds_cnn").graph(Workload())) == {}


def test_results_too_large_for_the_heap():
    """Two ReLUs on 64 MiB: both results are mapped anew, 16,384 pages each."""
    g = Builder("large")
    x = g.input("x", (1, 64, 512, 512))
    y = g("first", Activation("relu"), x)
    pages = fresh_pages(g.finish(g("second", Activation("relu"), y)))
    assert pages == {"first": pytest.approx(16_384, abs=2), "second": pytest.approx(16_384, abs=2)}


def convs():
    """Convolutions on large images."""
    g = Builder("convs")
    x = g.input("x", (4, 16, 400, 400))
    for i in range(3):
        x = g(f"relu{i}", Activation("relu"), g(f"conv{i}", Conv2d(16, 16, 3, padding=1), x))
    return g.finish(x)


def faults(graph, calls=3):
    """Page faults a call of a graph, as the system counts them of this process."""
    import resource

    from pharos.measure.runs import runnable

    with runnable(graph, "eager", 1) as made:
        for _ in range(3):
            made.call()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(calls):
            made.call()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / calls


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts page faults as Linux does")
def test_a_run_faults_as_often():
    """Convolutions copy to a layout of their own and back, which takes three more blocks each."""
    pytest.importorskip("torch")
    expected = sum(fresh_pages(convs()).values())
    assert expected > 60_000
    # in a fresh process, whose allocator has seen nothing else
    code = "from test_heap import convs, faults; print(faults(convs()))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) == pytest.approx(expected, rel=0.35)
