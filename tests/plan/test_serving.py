"""Serving: room against sums by hand, times against `predict`, remedies against what they must do."""

import numpy as np
import pytest

from pharos.convert.load import load
from pharos.graph.count import count
from pharos.graph.workload import Workload
from pharos.machines.machine import find_machine
from pharos.machines.profile import profile_of
from pharos.passes.fuse import kernels
from pharos.plan.allreduce import all_reduce_s
from pharos.plan.capacity import pool_of
from pharos.plan.deployment import Deployment, find_stack, stacks
from pharos.plan.remedies import remedies
from pharos.plan.serving import serving
from pharos.plan.steps import Steps
from pharos.plan.variants import grouped, joined, routed, share_of
from pharos.predict.kernel import kernel_time
from pharos.quantity.dtypes import Precision
from pharos.quantity.errors import InputError, PharosError


def deployed(name: str = "llama-3.1-8b", on: str = "a100-sxm-80gb", **more) -> Deployment:
    return Deployment(model=load(name), machine=find_machine(on), **more)


def test_room_is_what_the_rest_leaves() -> None:
    found = serving(deployed(), context=2048, users=8)
    room = found.room
    assert room.weights == 2 * 8_030_261_248
    assert room.pool == pytest.approx(0.9 * room.memory - room.weights - room.workspace - 450_000_000)
    each = found.request_bytes
    assert each == 2 * 32 * 8 * 128 * 2048 * 2 + 4 * 128
    assert found.max_users == room.pool // each
    assert found.fits
    assert dict(found.curve)[2048] == found.max_users
    users = [n for _, n in found.curve]
    assert users == sorted(users, reverse=True)


def test_memory_free_after_weights_is_not_room() -> None:
    found = serving(deployed("llama-2-7b"), context=2048, users=80)
    assert found.room.after_weights > 66e9
    assert not found.fits
    assert found.max_users < found.room.after_weights / found.kv_bytes_per_request


def test_devices_share_weights_and_heads() -> None:
    whole, share = load("llama-3-70b"), share_of(load("llama-3-70b"), 8)
    assert share is not None
    work = Workload(phase="decode", context=100, precision="bf16")  # type: ignore[arg-type]
    one, all_ = count(share.graph(work)), count(whole.graph(work))
    norms = (2 * 80 + 1) * 8192 * 2
    assert 8 * (one.weight_bytes - norms) + norms == all_.weight_bytes
    assert 8 * one.state_bytes == all_.state_bytes
    assert 8 * one.macs == all_.macs
    # eight KV heads on sixteen devices: each is on two of them
    more = share_of(whole, 16)
    assert more is not None
    assert count(more.graph(work)).state_bytes == one.state_bytes
    # a latent cache has no heads to divide
    latent = load("deepseek-v3")
    part = share_of(latent, 8)
    assert part is not None
    assert count(part.graph(work)).state_bytes == count(latent.graph(work)).state_bytes
    with pytest.raises(InputError, match="64 heads cannot be divided among 5 devices"):
        share_of(whole, 5)


def test_experts_read_as_drawn() -> None:
    # what an even router touches of 128 experts with 4 a token, drawn
    rng = np.random.default_rng(0)
    for tokens in (1, 8, 64):
        work = Workload(phase="decode", context=8, batch=tokens, precision="bf16")  # type: ignore[arg-type]
        most, made = (
            count(g) for g in (load("gpt-oss-120b").graph(work), routed(load("gpt-oss-120b").graph(work)))
        )
        one = next(n.traffic.weights for n in made.lines if n.kind == "experts")
        whole = next(n.node.weight_bytes for n in most.lines if n.kind == "experts")
        drawn = [
            len(np.unique([rng.choice(128, 4, replace=False) for _ in range(tokens)])) / 128
            for _ in range(300)
        ]
        assert one / whole == pytest.approx(np.mean(drawn), rel=0.03)
        assert made.macs == most.macs


@pytest.mark.parametrize(("name", "devices"), [("llama-3.1-8b", 1), ("gpt-oss-20b", 2), ("mamba2-370m", 1)])
def test_steps_are_those_of_the_kernels(name: str, devices: int) -> None:
    """Tables of steps against the kernels of single graphs, fused as serving engines fuse."""
    made = deployed(name, "h100-sxm", devices=devices)
    steps = Steps(made, 2048)

    def kernels_s(work: Workload) -> float:
        graph, profile = made.graph(work), profile_of(made.runner)
        found = kernels(count(graph), fused=True)
        times = [kernel_time(k, made.runner, profile, graph.precision, work.phase) for k in found]
        return sum(float(k.times * t.latency_s) for k, t in zip(found, times, strict=True) if t is not None)

    for batch, context in ((1, 2048), (16, 1024), (256, 64)):
        work = Workload(phase="decode", batch=batch, context=context, precision="bf16")  # type: ignore[arg-type]
        expected = kernels_s(work) + steps._reduce[batch]
        assert steps.decoding(batch, context) == pytest.approx(expected, rel=0.03)
    work = Workload(phase="prefill", context=1024, precision="bf16")  # type: ignore[arg-type]
    assert steps.prompt_s(1024) == pytest.approx(kernels_s(work) + steps._reduce[1024], rel=0.03)


def test_steps_grow_with_what_is_asked() -> None:
    steps = Steps(deployed(), 4096)
    assert steps.decoding(8, 4096) > steps.decoding(8, 512) > steps.decoding(1, 512)
    alone = steps.decoding(32, 1000)
    mixed = steps.mixed([(512, 0)], 1, 32, 1000)
    assert alone < mixed < alone + steps.mixed([(512, 0)], 1, 0, 0)
    assert steps.mixed([(512, 3000)], 1, 0, 0) > steps.mixed([(512, 0)], 1, 0, 0)


def test_turning_compute_bound_by_hand() -> None:
    found = serving(deployed(), context=16, prompt=8, output=8, users=1)
    machine = found.deployment.machine
    batch = found.turn.batch
    assert batch is not None
    # matrices 2 (P - embedding) operations a token; weights read once, KV of 12 tokens and a row of the table
    matrices = 8_030_261_248 - 128_256 * 4096
    balance = machine.bandwidth_bytes_per_s.value / machine.peak("bf16").value  # type: ignore[operator]
    kept = 131_072 * 13 + 128_256 * 2
    assert batch == pytest.approx(2 * matrices / (2 * matrices * balance - kept), rel=0.02)
    assert serving(deployed(), context=2048).turn.batch is None


def test_all_reduce_bounds() -> None:
    machine = find_machine("h100-sxm")
    assert all_reduce_s(1e6, 1, machine) == 0
    small, large = all_reduce_s(1.0, 8, machine), all_reduce_s(1e9, 8, machine)
    assert small is not None
    assert 5e-6 < small < 30e-6
    # measured on 8 H200 without in-switch sums: 367.6 GB/s of bus bandwidth (links table)
    assert large == pytest.approx(2 * 7 / 8 * 1e9 / 367.6e9, rel=0.1)


def test_remedies_do_what_they_say() -> None:
    base = serving(deployed("llama-2-7b"), context=2048, users=8)
    found = {r.name: r for r in remedies(base)}
    assert list(found.values()) == sorted(found.values(), key=lambda r: -(r.gain or np.inf))
    # 32 KV heads to 8: a quarter of the cache
    fewer = found["grouped-query attention, 8 KV heads"]
    assert fewer.max_users == pytest.approx(4 * base.max_users, rel=0.05)
    assert "training" in fewer.needs
    assert found["multi-query attention"].max_users > 7 * fewer.max_users
    assert found["KV cache in fp8"].max_users == pytest.approx(2 * base.max_users, rel=0.03)
    assert found["weights in int4"].tpot_s < base.tpot.value
    assert found["paged cache"].in_use
    assert 2 < found["paged cache"].gain < 6
    assert all(r.gain is None or r.gain > 1 for r in found.values())


def test_remedies_of_what_does_not_fit() -> None:
    base = serving(deployed("llama-3-70b"), context=2048, users=1)
    assert base.max_users == 0
    assert base.room.pool < 0
    found = {r.name: r for r in remedies(base)}
    assert found["weights in int4"].gain is None
    assert found["weights in int4"].max_users > 0
    assert found["4 devices, tensor parallel"].max_users > 0


def test_grouping_leaves_the_rest_alone() -> None:
    model = grouped(load("llama-2-7b"), 8)
    assert model is not None
    work = Workload(phase="decode", context=100, precision="bf16")  # type: ignore[arg-type]
    lost = load("llama-2-7b").graph(work), model.graph(work)
    assert count(lost[0]).parameters - count(lost[1]).parameters == 32 * 2 * 4096 * 24 * 128
    assert grouped(load("llama-3-8b"), 8) is None
    assert grouped(load("deepseek-v3"), 8) is None


def test_price_only_where_known() -> None:
    assert serving(deployed(on="a100-sxm-40gb"), context=512).usd_per_million.value is None
    found = serving(deployed(on="a100-sxm-40gb"), context=512, rent_usd_per_hour=3.6)
    rate = found.tokens_per_s.value
    assert found.usd_per_million.value == pytest.approx(3.6 / 3600 / rate * 1e6)


def test_pool_holds_as_many_as_are_told() -> None:
    for name, context in (("llama-3.1-8b", 2048), ("gemma-3-4b-text", 4096), ("mamba2-2.7b", 4096)):
        made = deployed(name)
        found = serving(made, context=context)
        pool = pool_of(made, found.room, context)
        held = pool.of(context) + pool.fixed(context)
        assert pool.blocks // held == pytest.approx(found.max_users, rel=0.02)


@pytest.mark.parametrize(
    ("changes", "asked", "says"),
    [
        ({}, {"context": 10**6}, "beyond the 131072 tokens"),
        ({}, {"prompt": 3000, "output": 10, "context": 2048}, "do not go into a context of 2048"),
        ({}, {"users": 0}, "users must be at least 1"),
        ({"name": "resnet50"}, {}, "is not a decoder"),
        ({"devices": 3}, {}, "cannot be divided among 3"),
        ({"utilization": 1.5}, {}, "utilization"),
    ],
)
def test_impossible_asks_explain_themselves(changes, asked, says) -> None:
    with pytest.raises(PharosError, match=says):
        serving(deployed(**changes), **asked)


def test_a_device_without_known_links_serves_alone() -> None:
    made = deployed("gpt2-xl", "rtx4090", precision=Precision.of("fp16"))
    assert made.machine.link_bytes_per_s.value is None
    assert serving(made, context=512).ttft.value
    two = serving(made.but(devices=5), context=512)
    assert two.tpot.value is None
    assert two.max_users > serving(made, context=512).max_users
    with pytest.raises(InputError, match="link of nvidia_rtx4090 is not in the catalogue"):
        Steps(made.but(devices=5), 512)


def test_stacks_add_their_host_time() -> None:
    import pharos

    bare = pharos.serve("llama-3.1-8b", "h100-sxm", context=2048, users=16)
    for name in stacks():
        stack = find_stack(name)
        found = pharos.serve("llama-3.1-8b", "h100-sxm", context=2048, users=16, stack=name)
        more = stack.step_s + 16 * stack.sequence_s
        assert found.tpot.value == pytest.approx(bare.tpot.value + more)
        assert found.ttft.value == pytest.approx(
            bare.ttft.value + stack.step_s + stack.prompt_s + stack.request_s
        )
        assert found.max_users == bare.max_users


def test_one_product_for_projections_of_one_input() -> None:
    work = Workload(phase="decode", context=100, batch=4, precision="bf16")  # type: ignore[arg-type]
    for name in (
        "llama-3.1-8b",
        "qwen3-235b-a22b",
        "gpt-oss-20b",
        "gemma-3-4b-text",
        "deepseek-v3",
        "gpt2-xl",
    ):
        apart, together = count(load(name).graph(work)), count(joined(load(name)).graph(work))
        assert together.parameters == apart.parameters
        assert together.macs == apart.macs
        assert together.traffic.weights == apart.traffic.weights
        assert together.state_bytes == apart.state_bytes
        assert len(together.lines) <= len(apart.lines)
