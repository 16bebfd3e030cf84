"""Paged and evicting caches: bytes by hand, and what stays untouched."""

import pytest

from pharos.graph.count import count
from pharos.graph.workload import Workload
from pharos.models.registry import find
from pharos.passes.cache import evicting, paged
from pharos.quantity.errors import SizeError

TOKEN = 2 * 32 * 8 * 128 * 2  # K and V, layers, KV heads, head_dim, bytes of fp16


def decode(name, context):
    return find(name).graph(Workload(phase="decode", context=context, precision="fp16"))


@pytest.mark.parametrize(("context", "held"), [(1, 16), (16, 16), (17, 32), (2049, 2064)])
def test_pages_are_handed_out_whole(context, held):
    graph = decode("llama-3-8b", context)
    assert count(graph).state_bytes == context * TOKEN
    assert count(paged(graph)).state_bytes == held * TOKEN
    # a page is memory, not work: the same tokens are read
    assert count(paged(graph)).traffic == count(graph).traffic
    assert count(paged(graph)).macs == count(graph).macs


def test_an_evicting_cache_stops_growing():
    held = [count(evicting(decode("llama-3-8b", n), window=1020)).state_bytes for n in (512, 1024, 8192)]
    assert held == [512 * TOKEN, 1024 * TOKEN, 1024 * TOKEN]
    macs = [count(evicting(decode("llama-3-8b", n), window=1020)).macs for n in (2048, 8192)]
    assert macs[0] == macs[1] < count(decode("llama-3-8b", 2048)).macs


def test_latent_caches_are_paged_at_prefill_and_at_decode():
    token = 27 * (512 + 64) * 2
    for phase in ("prefill", "decode"):
        work = Workload(phase=phase, context=100, precision="fp16")
        assert count(paged(find("deepseek-v2-lite").graph(work), 64)).state_bytes == 128 * token


def test_a_window_that_is_there_is_kept():
    graph = decode("mistral-7b-v0.1", 8192)
    assert evicting(graph, window=16) == graph


def test_mistakes_are_told():
    with pytest.raises(SizeError, match="at least one token"):
        paged(decode("llama-3-8b", 8), 0)
    with pytest.raises(SizeError, match="at least one token"):
        evicting(decode("llama-3-8b", 8), window=0)
