"""How fast Pharos itself is: cold starts and in-process calls; prints a table, asserts nothing."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

TARGETS = {
    "pharos --help, cold": 0.25,
    "import pharos, cold": 0.25,
    "pharos show resnet50, cold": 0.30,
    "pharos show llama-3-70b, cold": 0.30,
    "pharos predict gpt2-xl, cold": 1.0,
    "build and cost resnet50": 0.005,
    "build and cost llama-3.1-405b decode": 0.010,
    "build and cost, slowest of the catalogue": 0.020,
    "1,000,000 points of gpt2-xl decode": 1.0,
    "every legal plan of llama-3.1-405b, 1,024 x h100": 2.0,
    "pharos serve llama-3-8b, cold": 2.0,
    "10,000 requests served, simulated": 2.0,
}


def cold(*command: str, runs: int = 9) -> tuple[float, float]:
    """Median wall seconds and peak resident MB of a fresh process."""
    seconds, resident = [], 0.0
    for _ in range(runs):
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, _, usage = os.wait4(child.pid, 0)
        seconds.append(time.perf_counter() - start)
        resident = max(resident, usage.ru_maxrss / 1e3)
    return statistics.median(seconds), resident


def warm(call: Callable[[], object], runs: int = 20) -> float:
    """Median seconds of a call in this process, after one that pays for imports."""
    call()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def served_requests() -> Callable[[], object]:
    """A trace of 10,000 requests at nine tenths of what a device serves; its tables are made beforehand."""
    from pharos.convert.load import load
    from pharos.machines.machine import find_machine
    from pharos.plan.batching import simulate
    from pharos.plan.capacity import capacity, pool_of
    from pharos.plan.deployment import Deployment
    from pharos.plan.steps import Steps
    from pharos.plan.traces import poisson

    made = Deployment(model=load("llama-3.1-8b"), machine=find_machine("h100-sxm"))
    pool, steps = pool_of(made, capacity(made, context=4096), 4096), Steps(made, 4096)
    trace = poisson(19.0, 10_000, 1024, 256, spread="lognormal", longest=4096)
    return lambda: simulate(steps, pool, trace)


def main() -> None:
    """Times everything in TARGETS and prints it beside its target."""
    import numpy as np

    import pharos
    from pharos.graph.count import count
    from pharos.graph.workload import Workload
    from pharos.models.registry import find, names

    pharos_bin = str(Path(sys.executable).with_name("pharos"))
    found: dict[str, tuple[float, float | None]] = {}
    found["pharos --help, cold"] = cold(pharos_bin, "--help")
    found["import pharos, cold"] = cold(sys.executable, "-c", "import pharos")
    found["pharos show resnet50, cold"] = cold(pharos_bin, "show", "resnet50")
    found["pharos show llama-3-70b, cold"] = cold(pharos_bin, "show", "llama-3-70b")
    found["pharos predict gpt2-xl, cold"] = cold(
        pharos_bin, "predict", "gpt2-xl", "--on", "h100-sxm", "--decode"
    )
    resnet, llama = find("resnet50"), find("llama-3.1-405b")
    decode = Workload(phase="decode", context=2048, precision="bf16")  # type: ignore[arg-type]
    found["build and cost resnet50"] = warm(lambda: count(resnet.graph(Workload()))), None
    found["build and cost llama-3.1-405b decode"] = warm(lambda: count(llama.graph(decode))), None
    models = {name: find(name) for name in names()}
    each = {name: warm(partial(lambda m: count(m.graph()), m), runs=3) for name, m in models.items()}
    found["build and cost, slowest of the catalogue"] = max(each.values()), None
    batch, context = np.meshgrid(np.arange(1, 1001), np.arange(1, 1001))

    def million() -> object:
        return pharos.predict("gpt2-xl", on="h100-sxm", phase="decode", batch=batch.ravel(),
                              context=context.ravel(), precision="fp16")  # fmt: skip

    found["1,000,000 points of gpt2-xl decode"] = warm(million, runs=3), None

    def plans() -> object:
        from pharos.machines.machine import find_machine
        from pharos.plan.parallel import Job, search
        from pharos.plan.topology import topology_of

        h100 = find_machine("h100-sxm")
        job = Job(model=find("llama-3.1-405b"), batch=1024, context=8192)
        return search(job, h100, topology_of(h100, 1024))

    found["every legal plan of llama-3.1-405b, 1,024 x h100"] = warm(plans, runs=3), None
    found["pharos serve llama-3-8b, cold"] = cold(
        pharos_bin, "serve", "llama-3-8b", "--on", "h100-sxm", "--users", "8"
    )
    found["10,000 requests served, simulated"] = warm(served_requests(), runs=3), None
    print(f"{'what':<50}{'seconds':>10}{'target':>10}{'peak MB':>10}")
    for what, (seconds, megabytes) in found.items():
        memory = f"{megabytes:.0f}" if megabytes else ""
        print(f"{what:<50}{seconds:>10.4f}{TARGETS[what]:>10.3f}{memory:>10}")
    slowest = sorted(each, key=lambda name: -each[name])[:3]
    print(f"of {len(each)} models, slowest: {', '.join(f'{n} {1e3 * each[n]:.1f} ms' for n in slowest)}")


if __name__ == "__main__":
    main()
