"""Why: doublings, upgrades and what meets a limit, against separate predictions."""

import numpy as np
import pytest

import pharos
from pharos.convert.load import load
from pharos.decide.inverse import read_limits
from pharos.decide.scaled import Scale, again
from pharos.decide.why import why
from pharos.graph.workload import Workload
from pharos.machines.machine import find_machine
from pharos.quantity.errors import InputError, PharosError

DECODE = {"phase": "decode", "precision": "fp16", "context": 1024}


def ask(model, on, *, devices=1, limits=None, runtime=None, **work):
    return why(
        load(model), find_machine(on), Workload(**work), runtime=runtime, devices=devices, limits=limits
    )


def gains(found):
    return {d.resource: d.speedup for d in found.doubled}


def needs(found, limit=0):
    return {n.what: n for n in found.answers[limit].needs}


@pytest.mark.parametrize(
    ("model", "on", "work"),
    [("gpt2-xl", "a100-sxm-80gb", DECODE), ("resnet50", "l4", {"precision": "fp16", "batch": 64}),
     ("mobilenet_v2", "cortex-a53", {"precision": "int8"}), ("ds_cnn_s", "stm32l4r5", {"precision": "int8"})],
)  # fmt: skip
def test_twice_a_resource_is_no_more_than_twice_as_fast(model, on, work):
    found = ask(model, on, **work)
    for resource, gain in gains(found).items():
        assert 0.97 <= gain <= 2.03, resource
    assert gains(found)["capacity"] == gains(found)["network"] == 1
    assert found.base.latency.value == pytest.approx(again(found.base, Scale()).latency.value)


def test_twice_of_everything_is_twice_as_fast_but_for_launches():
    base = pharos.predict("gpt2-xl", on="a100-sxm-80gb", **DECODE)
    both = again(base, Scale(compute=2, bandwidth=2)).latency.value
    assert base.latency.value / 2 < both < base.latency.value


def test_bandwidth_helps_decoding_and_compute_a_large_batch():
    assert ask("gpt2-xl", "a100-sxm-80gb", **DECODE).helpful == "bandwidth"
    assert ask("vgg16", "t4", precision="fp16", batch=64).helpful == "compute"


def test_an_own_bandwidth_is_doubled_too():
    """Where only an achieved bandwidth is known, it is a figure of the curve."""
    found = ask("vgg16", "cortex-a53", precision="fp32")
    assert gains(found)["bandwidth"] > 1.01


def test_what_does_not_fit_needs_room_first():
    found = ask("llama-3-70b", "h100", **DECODE)
    assert found.binding == "memory-capacity"
    assert found.helpful == "capacity"
    room = next(d for d in found.doubled if d.resource == "capacity")
    assert room.fits


def test_links_matter_between_devices():
    found = ask("gpt2-xl", "l4", devices=5, batch=5, precision="fp16", context=1024)
    assert found.binding == "network"
    assert found.helpful == "network"
    assert 1.1 < gains(found)["network"] < 2
    with pytest.raises(InputError, match="one device"):
        ask("gpt2-xl", "l4", devices=5, limits={"latency": 1.0}, precision="fp16")


def test_on_another_machine_something_else_binds():
    found = ask("gpt2-xl", "a100-sxm-80gb", **DECODE)
    assert found.flips is not None
    other = pharos.predict("gpt2-xl", on=found.flips.machine, **DECODE)
    assert other.binding == found.flips.binding != found.binding


def test_the_least_bandwidth_meets_the_limit_and_less_does_not():
    limit = 4e-3
    need = needs(ask("gpt2-xl", "a100-sxm-80gb", limits={"latency": limit}, **DECODE))["bandwidth"]
    machine = find_machine("a100-sxm-80gb")

    def at(rate):
        return pharos.predict("gpt2-xl", on=machine.but({"memory.bandwidth": rate}, "the test"), **DECODE)

    assert at(need.value).latency.value <= limit < at(need.value / 1.01).latency.value
    assert need.reached == pytest.approx(limit, rel=0.01)


def test_the_largest_batch_meets_the_limit_and_one_more_does_not():
    limit = 2e-3
    work = {"precision": "fp16"}
    need = needs(ask("resnet50", "a100-sxm-80gb", limits={"latency": limit}, **work))["batch"]
    # one call over all batches around it
    around = np.array([need.value - 1, need.value, need.value + 1])
    found = pharos.predict("resnet50", on="a100-sxm-80gb", batch=around, **work).latency.value
    assert found[1] <= limit < found[2]


def test_the_widest_network_meets_the_limit_and_a_wider_does_not():
    limit = 30e-3
    need = needs(ask("mobilenet_v2", "cortex-a53", limits={"latency": limit}, precision="int8"))["width"]
    for width, holds in ((need.value, True), (need.value + 0.05, False)):
        found = pharos.predict(f"mobilenet_v2(width={width:.2f})", on="cortex-a53", precision="int8")
        assert (found.latency.value <= limit) is holds


def test_throughput_asks_for_the_least_batch():
    need = needs(ask("resnet50", "a100-sxm-80gb", limits={"throughput": 5000.0}, precision="fp16"))["batch"]
    for batch, holds in ((need.value, True), (need.value - 1, False)):
        found = pharos.predict("resnet50", on="a100-sxm-80gb", precision="fp16", batch=batch)
        assert (found.throughput_per_s >= 5000) is holds


def test_memory_and_power():
    found = ask("gpt2-xl", "a100-sxm-80gb", limits={"memory": 10e9, "power": 150.0}, **DECODE)
    held = needs(found)
    assert held["capacity"].value == found.base.memory.total
    batch = held["batch"].value
    fits = [
        pharos.predict("gpt2-xl", on="a100-sxm-80gb", batch=b, **DECODE).memory.total
        for b in (batch, batch + 1)
    ]
    assert fits[0] <= 10e9 < fits[1]
    assert "at most" in needs(found, 1)["bandwidth"].note


def test_a_power_cap_binds():
    capped = find_machine("a100-sxm-80gb").but({"power.cap_W": 150.0}, "the test")
    found = pharos.why("resnet50", on=capped, precision="fp16", batch=64)
    assert found.binding == "power"
    assert "a cap holds the clock" in found.reason


def test_what_nothing_meets_says_so():
    found = needs(ask("gpt2-xl", "a100-sxm-80gb", limits={"latency": 1e-6}, **DECODE))
    assert all(found[k].value is None and found[k].note for k in ("compute", "bandwidth", "batch", "context"))


def test_an_unknown_figure_is_no_answer():
    (answer,) = ask("ds_cnn_s", "esp32_s3", limits={"latency": 0.1}, precision="int8").answers
    assert answer.meets is None
    assert not answer.needs


@pytest.mark.parametrize(
    ("text", "told"),
    [("latency", "NAME=FIGURE"), ("latncy=10ms", "did you mean latency"), ("latency=10 MB", "not a duration"),
     ("latency=0", "positive"), ("latency=", "NAME=FIGURE")],
)  # fmt: skip
def test_wrong_limits_are_told(text, told):
    with pytest.raises(PharosError) as caught:
        read_limits([text])
    assert told in str(caught.value)
    assert "--limit" in str(caught.value)
