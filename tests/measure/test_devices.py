"""Devices: the CUDA path against a stand-in for torch.cuda and NVML, and what is said where there is no GPU."""

import pytest
from fake_cuda import Api, Library

from pharos.graph.workload import Workload
from pharos.measure.devices import Cpu, Cuda, find_device, joules_of, sample, settle
from pharos.measure.measure import measure
from pharos.measure.nvml import Nvml
from pharos.measure.peaks import explained, highest, predicted_memory
from pharos.measure.runs import runnable
from pharos.models.registry import find
from pharos.quantity.errors import InputError, PharosError
from pharos.report.measurements import measurement_row


@pytest.fixture
def cuda():
    api = Api()
    return Cuda(api=api, nvml=Nvml(Library(api), "first"), place="cpu"), api


def test_events_tell_seconds_of_the_device(cuda):
    device, api = cuda
    assert sample(device, lambda: api.launch(3e-3), 4) == pytest.approx(3e-3)
    assert device.name == "Fake H100"
    # the driver's own number of the GPU may be another than PyTorch's
    assert device.nvml._library.asked == ["GPU-1234"]


def test_a_captured_call_is_replayed_whole(cuda):
    device, api = cuda
    run = device.captured(lambda: [api.launch(1e-3) for _ in range(5)])
    assert sample(device, run, 2) == pytest.approx(5e-3)


def test_energy_comes_from_a_loop_of_seconds(cuda):
    device, api = cuda
    start = api.now
    assert joules_of(device, lambda: api.launch(0.02), 0.02) == pytest.approx(500 * 0.02, rel=1e-3)
    assert api.now - start >= 2.0


def test_readings_that_a_gpu_does_not_give_are_none(cuda):
    device, _ = cuda
    assert device.nvml.watts() is None
    assert device.nvml.limit_watts() is None
    assert device.nvml.driver() is None


def test_memory_as_the_allocator_and_the_driver_see_it(cuda):
    device, api = cuda
    api.allocated = 100
    device.nvml._library.context = 400_000_000
    seen = device.peaks(lambda: api.takes(50_000_000), 100, allocator=True)
    assert seen.allocator == 50_000_100
    assert seen.reserved == 100_000_000
    # what was there before the process came is not its own
    assert seen.system == 500_000_000
    told = explained(seen, predicted_memory_of("lenet5"))
    assert any("400 MB more by the driver: the CUDA context" in line for line in told)


def predicted_memory_of(name):
    from pharos.graph.count import count

    return predicted_memory(count(find(name).graph()), "eager", "cuda")


def test_warm_is_when_the_clock_rests():
    api = Api()
    device = Cuda(
        api=api, nvml=Nvml(Library(api, [300, 900, 1500, 1900, 1910, 1911, 1912]), "h"), place="cpu"
    )
    now = iter(0.05 * n for n in range(1000))
    ran = []
    settle(device, lambda: ran.append(1), clock=lambda: next(now))
    assert 10 <= len(ran) < 40
    settle(Cpu(), lambda: pytest.fail("a processor tells no clock"))


def test_the_device_tells_the_time_of_a_module(cuda):
    pytest.importorskip("torch")
    device, api = cuda
    with runnable(find("lenet5").graph(), "eager", 1, device=device) as made:
        made.module.register_forward_hook(lambda *_: api.launch(1e-3))
        assert sample(device, made.call, 3) == pytest.approx(1e-3)


@pytest.mark.parametrize("runtime", ["eager", "cudagraph"])
def test_a_model_is_measured_on_the_stand_in(runtime):
    """Modules run on the processor; the stand-in's clock moves by 10 ms from event to event."""
    pytest.importorskip("torch")
    api = Api(tick=0.01)
    device = Cuda(api=api, nvml=Nvml(Library(api), "h"), place="cpu")
    graph = find("lenet5").graph()
    found = measure(
        graph, Workload(), model="lenet5", runtime=runtime, device=device, threads=1, seconds=0.01
    )
    assert found.device == "cuda"
    assert found.device_name == "Fake H100"
    assert found.timing.median == pytest.approx(0.01)
    assert found.peaks.reserved is not None
    assert {o.kind for o in found.operators} >= {"conv2d", "linear"}
    assert all(o.seconds == pytest.approx(0.01 * o.times) for o in found.operators)
    assert any(entry.startswith("held") for entry in api.log)
    assert measurement_row(found)["memory_bytes"]["reserved"] == found.peaks.reserved


def test_without_a_gpu_it_is_told():
    pytest.importorskip("torch")
    with pytest.raises(InputError, match="no CUDA device"):
        Cuda(api=Api(0))
    with pytest.raises(InputError, match="1 CUDA devices, numbered from 0"):
        Cuda(3, api=Api(1), nvml=Nvml(Library(Api()), "h"))
    with pytest.raises(PharosError, match="did you mean cuda"):
        find_device("cudda")
    assert find_device("auto").kind in ("cpu", "cuda")
    with pytest.raises(InputError, match="cudagraph is not measured on cpu"), \
            runnable(find("lenet5").graph(), "cudagraph", 1):  # fmt: skip
        pass


def test_the_highest_sum_and_the_call_around_it():
    def change(at, nbytes):
        return {"name": "[memory]", "ts": at, "args": {"Bytes": nbytes, "Device Type": 0}}

    events = [change(1, 100), change(5, 50), change(6, -50), change(9, -100), change(12, 120), change(13, -120),
              {"cat": "cpu_op", "name": "aten::conv2d", "ts": 4, "dur": 4},
              {"cat": "cpu_op", "name": "aten::inner", "ts": 4.5, "dur": 1}]  # fmt: skip
    assert highest(events) == (150, "aten::inner")
    assert highest([]) == (None, "")


def test_the_allocators_peak_of_a_real_run_is_the_predicted_one():
    """LeNet-5 at batch 8: PyTorch's profiler beside the count; kernels' scratch may come on top."""
    pytest.importorskip("torch")
    graph = find("lenet5").graph(Workload(batch=8))
    found = measure(graph, Workload(batch=8), model="lenet5", threads=1, seconds=0.05)
    assert found.peaks.allocator >= 0.95 * found.memory.allocated
    assert found.peaks.allocator <= 3 * found.memory.allocated
    assert explained(found.peaks, found.memory)
