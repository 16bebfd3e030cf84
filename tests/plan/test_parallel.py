"""Parallel plans: published memory and bubble formulas, bytes by hand, published utilisation, monotony, refusals."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pharos.convert.load import load
from pharos.graph.count import count
from pharos.graph.workload import Workload
from pharos.machines.machine import find_machine
from pharos.passes.training import training
from pharos.plan.footprint import footprint
from pharos.plan.layout import CHECKPOINTS, Layout, Layouts, every_layout
from pharos.plan.parallel import Job, crossover, plan, scaling, search
from pharos.plan.parts import LAYER, NOT, read_parts
from pharos.plan.topology import topology_of
from pharos.quantity.errors import InputError, UnknownName


def parts_of(name, context=2048, attention="tiled"):
    return read_parts(load(name), Workload(context=context, precision="bf16"), attention)


def held(name, layout, micro_batches=1, **more):
    return footprint(
        parts_of(name, **more), Layouts.of([layout]), np.array([float(micro_batches)]), True, "adamw", True
    )


@pytest.mark.parametrize(
    "name", ["gpt3_xl_1_3b", "llama_3_8b", "mixtral_8x7b", "deepseek_v3", "gemma_3_12b_text", "mamba2_1_3b"]
)
def test_every_parameter_is_in_one_part(name):
    parts = parts_of(name)
    counted = count(load(name).graph(Workload(context=2048, precision="bf16")))
    assert parts.parameters == counted.parameters
    assert parts.work.macs == counted.macs


def test_zero_divides_memory_as_its_paper_says():
    """Rajbhandari et al. 2020, figure 1: 7.5 B parameters on 64 devices: 120, 31.4, 16.6 and 1.9 GB."""
    table = {0: 120e9, 1: 31.4e9, 2: 16.6e9, 3: 1.9e9}
    parts = parts_of("llama_3_8b")
    for stage, published in table.items():
        found = footprint(parts, Layouts.of([Layout(data=64, zero=stage)]), np.ones(1), True, "adamw", True)
        states = float((found.weights + found.gradients + found.optimizer)[0])
        assert math.isclose(states, published * parts.parameters / 7.5e9, rel_tol=0.02)
    assert math.isclose(states, 16 * parts.parameters / 64)


def test_activations_are_megatrons_for_gpt3():
    """Korthikanti et al. 2022: s b h (34 + 5 a s / h) bytes a layer with dropout; of it, dropout's masks are 2 and
    a s / h, and its output 2 a s / h."""
    s, h, a, layers = 2048, 12288, 96, 96
    parts = parts_of("gpt3_175b", attention="materialised")
    # one sequence, no parallelism: all that a layer saves, statistics of norms aside
    saved = sum(x.amount for x in parts.saved if x.section == LAYER) / layers
    by_hand = s * h * (34 - 2 + (5 - 3) * a * s / h)
    assert math.isclose(saved, by_hand, rel_tol=0.001)
    # tensor parallelism alone cuts 24 + 2 a s / h of it and leaves norms and their inputs, 8; with sequence
    # parallelism it cuts all
    for sequence, left in ((False, 8 + (24 + 2 * a * s / h) / 8), (True, (32 + 2 * a * s / h) / 8)):
        layout = Layout(tensor=8, pipeline=8, sequence=sequence)
        found = float(held("gpt3_175b", layout, 100, attention="materialised").activations[0])
        assert math.isclose(found, s * h * left * 12 * 8, rel_tol=0.02)


def test_checkpointing_keeps_the_inputs_of_layers():
    s, h = 2048, 12288
    full = float(
        held("gpt3_175b", Layout(checkpoint="full", sequence=False), attention="materialised").activations[0]
    )
    none = float(held("gpt3_175b", Layout(sequence=False), attention="materialised").activations[0])
    some = float(
        held(
            "gpt3_175b", Layout(checkpoint="selective", sequence=False), attention="materialised"
        ).activations[0]
    )
    one_layer = s * h * (32 + 32)
    # inputs of 96 layers of 2 bytes, one layer made again, logits and the end
    assert math.isclose(full - none, 96 * 2 * s * h + one_layer - 96 * one_layer, rel_tol=0.001)
    assert full < some < none


def test_saved_activations_agree_with_the_training_pass():
    """What a step keeps over all layers, as `passes.training` follows it storage by storage."""
    for name in ("gpt2_small", "llama_3_2_1b"):
        work = Workload(context=256, precision="bf16")
        parts = read_parts(load(name), work)
        step = training(load(name).graph(work))
        assert math.isclose(sum(x.amount for x in parts.saved), step.saved, rel_tol=0.03), name


@given(stages=st.sampled_from([2, 4, 8, 16]), micro=st.integers(1, 6), chunks=st.sampled_from([1, 2]))
@settings(max_examples=12, deadline=None)
def test_bubble_of_1f1b(stages, micro, chunks):
    """(p - 1) / (m + p - 1), and with v chunks (p - 1) / (v m + p - 1). Narayanan et al. 2021."""
    micro = micro * stages
    job = Job(model=load("llama_3_8b"), batch=micro, context=512)
    made = plan(job, find_machine("h100-sxm"), topology_of(find_machine("h100-sxm"), stages, stages),
                Layout(pipeline=stages, chunks=chunks))  # fmt: skip
    assert math.isclose(made.bubble, (stages - 1) / (chunks * micro + stages - 1))
    assert made.micro_batches == micro


def test_bytes_of_every_collective_by_hand():
    """GPT-3 on 8 x 8 x 2 devices: two sums a layer and pass, ring all-reduces of gradients, activations on."""
    s, h, layers, n = 2048, 12288, 96, 128
    h100 = find_machine("h100-sxm")
    job = Job(model=load("gpt3_175b"), batch=32, context=s)
    layout = Layout(tensor=8, pipeline=8, data=2, sequence=False)
    made = plan(job, h100, topology_of(h100, n), layout)
    by_name = {t.what: t for t in made.traffic}
    sums = by_name["activations of layers"]
    assert sums.collective == "all-reduce"
    assert sums.size_bytes == 2 * s * h
    assert sums.calls == 2 * 2 * (layers / 8) * 16
    assert math.isclose(sums.sent_bytes, sums.calls * 2 * 7 / 8 * 2 * s * h)
    gradients = by_name["gradients"]
    # the layers of a stage, and on the first of them the embedding, cut, and the positions, whole
    parameters = 12 * layers * h * h / 8 / 8 + 50257 * h / 8 + 2048 * h
    assert math.isclose(gradients.sent_bytes, 2 * parameters, rel_tol=0.002)
    assert by_name["activations between stages"].size_bytes == 2 * s * h
    # cut by tokens, the same bytes go as reduce-scatters and all-gathers, and stages send an eighth
    other = plan(job, h100, topology_of(h100, n), replace(layout, sequence=True))
    both = [t for t in other.traffic if t.what == "activations of layers"]
    assert math.isclose(sum(t.sent_bytes for t in both), sums.sent_bytes)
    assert {t.what: t for t in other.traffic}["activations between stages"].size_bytes == 2 * s * h / 8


def test_experts_are_sent_their_tokens():
    """Mixtral: each token's vector goes to 2 experts and back, in 32 layers, forward and backward."""
    h100 = find_machine("h100-sxm")
    made = plan(Job(model=load("mixtral_8x7b"), batch=64, context=4096), h100, topology_of(h100, 8),
                Layout(data=8, expert=8, zero=1))  # fmt: skip
    sent = {t.what: t for t in made.traffic}["tokens to experts and back"]
    assert sent.collective == "all-to-all"
    assert sent.size_bytes == 2 * 2 * 4096 * 4096
    assert sent.calls == 2 * 32 * 2 * 8


def test_utilisation_of_published_runs():
    """Wide: Llama 3 405B (Grattafiori et al. 2024, table 4: 41% at 16,384 H100s, 43% at 8,192), and GPT-3 175B
    on 64 A100s with full recomputation (Korthikanti et al. 2022, table 5: 51.4% with sequence parallelism and
    selective recomputation on 64)."""
    h100, a100 = find_machine("h100-sxm"), find_machine("a100-sxm-80gb")
    llama = Job(model=load("llama-3.1-405b"), batch=2048, context=8192)
    for devices, published in ((16384, 0.41), (8192, 0.43)):
        found = plan(llama, h100, topology_of(h100, devices),
                     Layout(tensor=8, pipeline=16, data=devices // 128, zero=1, chunks=1))  # fmt: skip
        assert published * 0.75 < found.mfu < published * 1.35
    gpt = Job(model=load("gpt3_175b"), batch=64, context=2048, precision="fp16", attention="materialised")
    found = plan(
        gpt, a100, topology_of(a100, 64), Layout(tensor=8, pipeline=8, checkpoint="selective", chunks=3)
    )
    assert 0.514 * 0.75 < found.mfu < 0.514 * 1.35
    assert found.hfu > found.mfu


def test_search_finds_what_costing_each_would():
    """The best of all is the best of those that are costed one by one, and all of them are legal."""
    h100 = find_machine("h100-sxm")
    job = Job(model=load("llama_3_8b"), batch=16, context=4096)
    topology = topology_of(h100, 16)
    best = search(job, h100, topology)
    columns = every_layout(parts_of("llama_3_8b", 4096), 16, 16, 8, True)
    each = [plan(job, h100, topology, columns.at(i)) for i in range(0, len(columns), 40)]
    fitting = [p.step.value for p in each if p.fits]
    assert best.fits
    assert best.tried == len(columns)
    assert best.step.value <= min(fitting) * (1 + 1e-9)
    assert math.isclose(sum(best.shares.values()), best.step.value, rel_tol=0.02)


def test_inference_holds_weights_and_cache():
    """Llama 3 70B, 64 sequences of 4,096: 70.6 B x 2 bytes and 2 x 80 x 8 x 128 x 2 bytes a token, over 8."""
    h100 = find_machine("h100-sxm")
    job = Job(model=load("llama_3_70b"), phase="decode", batch=64, context=4096)
    made = plan(job, h100, topology_of(h100, 8), Layout(tensor=8, micro_batch=64, sequence=False))
    assert math.isclose(made.memory["weights"], 2 * 70.55e9 / 8, rel_tol=0.01)
    assert math.isclose(made.memory["kv_cache"], 64 * 4096 * 2 * 80 * 8 * 128 * 2 / 8, rel_tol=0.001)
    assert made.memory["optimizer"] == made.memory["gradients"] == 0
    assert made.binding == "memory-bandwidth"
    # one device more than there are key-value heads holds a head again
    wide = plan(job, h100, topology_of(h100, 16, 16), Layout(tensor=16, micro_batch=64, sequence=False))
    assert wide.memory["kv_cache"] == made.memory["kv_cache"]


@given(st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4]), st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_more_devices_never_hold_more(tensor, pipeline, zero):
    def total(**changes):
        layout = Layout(**{"tensor": tensor, "pipeline": pipeline, "data": 8, "zero": zero, **changes})
        return float(held("llama_3_8b", layout, 16).total[0])

    assert total(tensor=2 * tensor) < total()
    assert total(zero=3) <= total(zero=2) + 1e9 <= total(zero=1) + 1e9
    assert total(checkpoint="full") <= total()
    assert total(micro_batch=2) > total()


def test_scaling_and_where_communication_overtakes():
    """A slow network overtakes compute early, a fast one later or never."""
    h100 = find_machine("h100-sxm")
    job = Job(model=load("llama_3_8b"), batch=64, context=1024)
    slow = scaling(
        job, h100, topology_of(h100, 64, network="1Gb/s"), (8, 16, 32, 64), fixed={"tensor": 1, "pipeline": 1}
    )
    fast = scaling(job, h100, topology_of(h100, 64, network="3200Gb/s"), (8, 16, 32, 64))
    assert crossover(slow) in (16, 32, 64)
    assert crossover(fast) is None
    assert slow[0].efficiency == 1
    assert slow[-1].efficiency < fast[-1].efficiency
    weak = scaling(job, h100, topology_of(h100, 64), (8, 16, 32, 64), weak=True)
    assert [p.batch for p in weak] == [8, 16, 32, 64]


def test_vocabulary_and_norms_are_cut_as_they_can_be():
    parts = parts_of("llama_3_8b")
    roles = {(w.section, w.role) for w in parts.weights}
    assert ("stem", "vocabulary") in roles
    assert ("layer", "columns") in roles
    assert ("layer", "rows") in roles
    norms = sum(w.amount for w in parts.weights if w.section == LAYER and w.role == NOT)
    assert norms == 2 * 4096 * 32
    # multi-head latent attention: what is normed over all its features is on every device
    latent = parts_of("deepseek_v3")
    assert sum(w.amount for w in latent.weights if w.role == NOT) > 61 * 7168 * (1536 + 576)


def test_impossible_layouts_name_the_nearest():
    h100 = find_machine("h100-sxm")
    eight = topology_of(h100, 8)
    job = Job(model=load("llama_3_8b"), batch=64, context=1024)
    cases = [
        (Layout(tensor=3, data=1), eight, r"32 heads .* 3 tensor-parallel devices.*nearest: 2"),
        (Layout(tensor=8, data=2), eight, r"16 devices, not 8.*--dp 1"),
        (Layout(pipeline=40), topology_of(h100, 40), r"40 stages are more than the 32 layers.*at most 32"),
        (Layout(data=8, expert=2), eight, r"no experts"),
        (Layout(data=8, micro_batch=3), eight, r"does not divide into .*nearest micro-batch: 2"),
        (Layout(data=8, micro_batch=16), eight, r"a batch of 64 is less than 8 .* x 16"),
    ]
    for layout, topology, told in cases:
        with pytest.raises(InputError, match=told):
            plan(job, h100, topology, layout)
    with pytest.raises(InputError, match="6 experts|nearest"):
        plan(
            Job(model=load("mixtral_8x7b"), batch=12, context=512),
            h100,
            topology_of(h100, 6, 6),
            Layout(data=6, expert=3),
        )
    with pytest.raises(UnknownName, match="selective"):
        Layout(checkpoint="selectiv")
    with pytest.raises(InputError, match="no legal layout"):
        search(replace(job, batch=3), h100, eight, {"tensor": 1, "pipeline": 1})
    with pytest.raises(InputError, match="tensor parallelism could cut|repeats no layer"):
        search(Job(model=load("resnet50"), batch=8), h100, eight)


def test_indices_of_checkpoints_survive_columns():
    layouts = [Layout(tensor=2, checkpoint=c, chunks=2, zero=1) for c in CHECKPOINTS]
    columns = Layouts.of(layouts)
    assert [columns.at(i) for i in range(len(columns))] == layouts
