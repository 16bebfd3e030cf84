"""How well Pharos predicts the machine it runs on: calibrates, then predicts and measures; writes a page.

    python benchmarks/accuracy.py [--budget 90] [--calibration FILE] [--store FILE] [--only NAME] [--force]

No network of the catalogue takes part in the calibration, which is of random ones. Each network is measured in a
process of its own that has run nothing before, as it would be deployed. Where neural-cost and MLSysim are installed
(`pip install neural-cost mlsysim`), their predictions of the same runs stand beside: neural-cost calibrates itself
on the machine and predicts what it has never run ("zero-shot"); MLSysim is given the rates that Pharos measured.
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from math import exp, log
from pathlib import Path
from typing import Any

from apart import in_a_process

from pharos.graph.count import count
from pharos.graph.graph import Graph
from pharos.graph.workload import Workload
from pharos.machines.calibration import Calibration, find_calibration
from pharos.measure.calibrate import DISTURBED, calibrate, write
from pharos.measure.here import here, noise
from pharos.measure.pulse import Pulse, beside, middle_beat
from pharos.measure.runs import runnable
from pharos.measure.timing import Timing
from pharos.models.registry import find
from pharos.predict.estimate import predict

PAGE = Path(__file__).parents[1] / "docs" / "accuracy_here.md"
# Name, context where it has one, batches.
MODELS = (
    ("resnet18", None), ("resnet50", None), ("vgg11", None), ("alexnet", None), ("densenet121", None),
    ("squeezenet1_1", None), ("mobilenet_v2", None), ("mobilenet_v3_large", None), ("efficientnet_b0", None),
    ("shufflenet_v2_x1_0", None), ("regnet_y_400mf", None), ("convnext_tiny", None), ("googlenet", None),
    ("vit_b_16", None), ("deit_tiny", None), ("swin_t", None), ("bert_base", 128), ("transformer-base", 64), ("gpt2", 64),
    ("lstm_tagger", None), ("rnnsearch", None), ("dlrm(rows=(4000, 4000, 4000, 4000))", None), ("neumf", None), ("wide_and_deep", None), ("ds_cnn", None), ("mlp", None),
)  # fmt: skip
BATCHES = (1, 8)
RUNTIMES = ("eager", "onnxruntime")
# Median error, mean error and rank correlation that are aimed at.
AIMS = (0.12, 0.18, 0.98)
# Seconds that a run is looked at for.
SECONDS = 0.8
# A run that is predicted to take longer than this is left out, and named.
LONGEST_S = 1.2


def measured(graph: Graph, runtime: str, threads: int) -> dict[str, Any]:
    """Median and spread of a run in this process, with the page faults, the noise and the pulse it saw."""
    import resource

    pulse = Pulse.of(threads if runtime == "eager" else 1)
    with runnable(graph, runtime, threads) as made:
        for _ in range(2):
            made.call()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        seconds, beats, calls = beside(made.call, pulse, seconds=SECONDS, least=3, most=2000, row=0.2)
        faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / calls
    timing, beat = Timing(tuple(seconds)), middle_beat(beats)
    return {
        "median": timing.median, "low": timing.share(0.1), "high": timing.share(0.9), "samples": len(seconds),
        "faults": faults, "others": noise(0.05).others, "pulse_s": [beat.alone, beat.together],
    }  # fmt: skip


def neural_cost_of(threads: int) -> Any:
    """neural-cost's own calibration of the machine."""
    import torch
    from neural_cost.adapters import TorchAdapter

    torch.set_num_threads(threads)
    return TorchAdapter(use_profiler=False).calibrate("cpu")


def by_neural_cost(graph: Graph, threads: int, known: Any) -> float:
    """Seconds that neural-cost predicts for the module from that."""
    import torch
    from neural_cost import estimate_operations
    from neural_cost.adapters import TorchAdapter

    with runnable(graph, "eager", threads) as made:
        module = made.module
        inputs = made.inputs
        adapter = TorchAdapter(use_profiler=False)
        with torch.inference_mode():
            operations = adapter.operations(module, inputs)
        execution, exposed = known.predict([estimate_operations([operation]) for operation in operations])
        return float(execution + exposed)


def by_mlsysim(graph: Graph, calibration: Calibration, threads: int, batch: int) -> float:
    """Seconds that MLSysim gives for a network of these counts on a machine of these rates."""
    from mlsysim.core.units import Q_
    from mlsysim.engine.engine import Engine
    from mlsysim.hardware.types import ComputeCore, HardwareNode, MemoryHierarchy
    from mlsysim.models.types import CNNWorkload

    machine, counted = calibration.at(threads), count(graph)
    peak = Q_(machine.peaks["fp32"].ops_per_s.value, "flop/s")
    node = HardwareNode(
        name="here", release_year=2026, compute=ComputeCore(peak_flops=peak, precision_flops={"fp32": peak}),
        memory=MemoryHierarchy(capacity=Q_(16, "GB"), bandwidth=Q_(machine.bandwidth_bytes_per_s.value, "B/s")),
    )  # fmt: skip
    model = CNNWorkload(name=graph.name, architecture="any", parameters=Q_(counted.parameters, "param"),
                        inference_flops=Q_(counted.flops / batch, "flop"))  # fmt: skip
    found = Engine.solve(model, node, batch_size=batch, precision="fp32")
    return float(found.latency.to("s").magnitude)


def cases(only: str, threads: tuple[int, ...]) -> list[tuple[str, int, str, int, Graph]]:
    """(name, batch, runtime, threads, graph) of every run."""
    found = []
    for name, context in MODELS:
        if only not in name:
            continue
        for batch in BATCHES:
            graph = find(name).graph(Workload(batch=batch, context=context))
            found += [(name, batch, runtime, n, graph) for runtime in RUNTIMES for n in threads]
    return found


def spearman(a: list[float], b: list[float]) -> float:
    """Rank correlation of two rows of numbers without ties."""

    def ranks(x: list[float]) -> list[int]:
        order = sorted(range(len(x)), key=x.__getitem__)
        found = [0] * len(x)
        for rank, i in enumerate(order):
            found[i] = rank
        return found

    n, pairs = len(a), zip(ranks(a), ranks(b), strict=True)
    return 1 - 6 * sum((x - y) ** 2 for x, y in pairs) / (n * (n * n - 1)) if n > 2 else 1.0


def summary(rows: list[dict[str, Any]], key: str) -> tuple[int, float, float, float] | None:
    """Runs, median and mean of |predicted / measured - 1|, and the rank correlation, of one predictor."""
    known = [(r[key], r["measured"]["median"]) for r in rows if isinstance(r.get(key), float)]
    if not known:
        return None
    off = [abs(p / m - 1) for p, m in known]
    return (
        len(off),
        statistics.median(off),
        statistics.mean(off),
        spearman(*map(list, zip(*known, strict=True))),
    )


def page(rows: list[dict[str, Any]], calibration: Calibration, took: str) -> str:
    """The page's text."""
    taken = calibration.taken
    machine = taken["machine"]
    busy = " and ".join(f"{n['others']:.0%}" for n in taken["noise"])
    covered = [r["low"] <= r["measured"]["median"] <= r["high"] for r in rows]
    lines = [
        "# Predicted beside measured, on one machine", "",
        "Generated by `make accuracy`. None of these networks takes part in the calibration, which times random "
        "networks only; each is measured in a fresh process, so that the memory it allocates behaves as it does "
        "when deployed. Errors are |predicted / measured - 1| of the median latency.", "",
        f"- machine: {machine['cpu']}, {machine['cores']} cores, {', '.join(machine['instructions'])}; "
        f"{machine['system']}; {', '.join(f'{k} {v}' for k, v in machine['versions'].items())}",
        f"- calibrated {taken['at']}, {taken['probes']} random networks, budget {taken['budget_s']:.0f} s; {took}",
        f"- others' share of the cores before and after calibrating: "
        f"{busy}; during the measurements: median "
        f"{statistics.median(r['measured']['others'] for r in rows):.0%}, most "
        f"{max(r['measured']['others'] for r in rows):.0%}",
        f"- the machine's pulse (two fixed pieces of work, on one core and on all in use): {taken['disturbed']:.0%} of "
        f"its readings while calibrating were more than {DISTURBED:.0%} of the usual one; while a network was measured it "
        f"was {statistics.median(max(r['pace']) for r in rows):.2f} times the usual one in the median, "
        f"{max(max(r['pace']) for r in rows):.1f} at most",
        f"- 80% bands cover {statistics.mean(covered):.0%} of the runs", "",
        "| predictor | runs | median error | mean error | rank correlation |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for key, title in (
        ("predicted", "Pharos, told the pulse while it was measured"), ("usual", "Pharos, at the usual pulse"), ("neural_cost", "neural-cost (calibrated by itself, zero-shot)"),
        ("mlsysim", "MLSysim (given the measured rates)"),
    ):  # fmt: skip
        found = summary(rows, key)
        lines.append(
            f"| {title} | {found[0]} | {found[1]:.1%} | {found[2]:.1%} | {found[3]:.3f} |"
            if found
            else f"| {title} | not installed | | | |"
        )
    ours = summary(rows, "predicted")
    assert ours is not None
    held = [
        f"median error {'met' if ours[1] <= AIMS[0] else 'missed'} (at most {AIMS[0]:.0%})",
        f"mean error {'met' if ours[2] <= AIMS[1] else 'missed'} (at most {AIMS[1]:.0%})",
        f"rank correlation {'met' if ours[3] >= AIMS[2] else 'missed'} (at least {AIMS[2]})",
    ]
    lines += ["", f"Aims: {', '.join(held)}.", "",
              "The pulse is known without running the network: a prediction told it says how long the network takes on "
              "the machine as it ran just then; one at the usual pulse, as it ran on the whole while it was calibrated."]  # fmt: skip
    lines += [
        "",
        "| runtime | threads | batch | runs | median error | mean error |",
        "|---|---|---|---|---|---|",
    ]
    for runtime in RUNTIMES:
        for threads in sorted({r["threads"] for r in rows}):
            for batch in BATCHES:
                some = [
                    r for r in rows if (r["runtime"], r["threads"], r["batch"]) == (runtime, threads, batch)
                ]
                found = summary(some, "predicted")
                if found:
                    lines.append(
                        f"| {runtime} | {threads} | {batch} | {found[0]} | {found[1]:.1%} | {found[2]:.1%} |"
                    )
    lines += ["", "| network | batch | runtime | threads | measured ms | predicted ms (80%) | error | neural-cost | MLSysim |",
              "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for r in rows:
        m = r["measured"]["median"]
        others = [
            f"{r[k] / m - 1:+.0%}" if isinstance(r.get(k), float) else "-" for k in ("neural_cost", "mlsysim")
        ]
        lines.append(
            f"| {r['name']} | {r['batch']} | {r['runtime']} | {r['threads']} | {m * 1e3:.3g} | "
            f"{r['predicted'] * 1e3:.3g} ({r['low'] * 1e3:.3g} to {r['high'] * 1e3:.3g}) | "
            f"{r['predicted'] / m - 1:+.0%} | {' | '.join(others)} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Calibrates, measures, writes the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--budget", type=float, default=90.0)
    parser.add_argument("--calibration", type=Path, help="use this file; made there if it does not exist")
    parser.add_argument("--store", type=Path, help="file that keeps each run, so that a stopped one goes on")
    parser.add_argument("--only", default="", help="networks whose name holds this")
    parser.add_argument("--threads", default="", help="1,2; one and all by default")
    parser.add_argument("--force", action="store_true", help="go on on a busy machine")
    options = parser.parse_args()
    import torch

    assert torch
    threads = (
        tuple(map(int, options.threads.split(","))) if options.threads else tuple(sorted({1, here().cores}))
    )
    path = options.calibration or Path(tempfile.mkdtemp(prefix="pharos-")) / "calibration.json"
    if not (options.calibration and path.is_file()):
        # in a process of its own: this one must never start threads, its children are forked
        def run() -> str:
            found = calibrate(budget=options.budget, threads=threads, force=options.force)
            write(found, path)
            return "calibrated"

        start = time.perf_counter()
        print(in_a_process(run, 10 * options.budget), f"in {time.perf_counter() - start:.0f} s", flush=True)
    calibration = find_calibration(str(path))
    stored: dict[str, Any] = {}
    if options.store and options.store.is_file():
        for line in options.store.read_text().splitlines():
            stored |= json.loads(line)
    peers: dict[int, Any] = {}
    rows, left_out = [], []
    for name, batch, runtime, n, graph in cases(options.only, threads):
        key = f"{name} {batch} {runtime} {n}"
        machine, work = calibration.at(n), Workload(batch=batch)
        usual = predict(graph, machine, work, model=name, runtime=runtime)
        latency = usual.latency
        if latency.value is None or float(latency.value) > LONGEST_S:
            left_out.append(key)
            continue
        found, new = stored.get(key), key not in stored
        if found is None:
            found = {"measured": in_a_process(lambda g=graph, r=runtime, n=n: measured(g, r, n), 180)}
        if not isinstance(found["measured"], str):
            if runtime == "eager" and "neural_cost" not in found:
                with contextlib.suppress(ImportError):
                    import neural_cost

                    assert neural_cost
                    if n not in peers:
                        peers[n] = in_a_process(lambda n=n: neural_cost_of(n), 180)
                    found["neural_cost"] = in_a_process(
                        lambda g=graph, n=n: by_neural_cost(g, n, peers[n]), 180
                    )
            with contextlib.suppress(ImportError):
                found["mlsysim"] = by_mlsysim(graph, calibration, n, batch)
            if options.store and new:
                with options.store.open("a") as file:
                    file.write(json.dumps({key: found}) + "\n")
        if isinstance(found["measured"], str):
            print(key, found["measured"], flush=True)
            left_out.append(key)
            continue
        at_usual = float(latency.value)
        pace = calibration.pace(runtime, n, found["measured"]["pulse_s"])
        latency = predict(graph, replace(machine, pace=pace), work, model=name, runtime=runtime).latency
        assert latency.value is not None
        assert latency.low is not None
        assert latency.high is not None
        row = {"name": name, "batch": batch, "runtime": runtime, "threads": n, "predicted": float(latency.value),
               "usual": at_usual, "pace": pace, "low": float(latency.low), "high": float(latency.high), **found}  # fmt: skip
        rows.append(row)
        m = found["measured"]["median"]
        others = {k: found.get(k) for k in ("neural_cost", "mlsysim")}
        print(
            f"{key:<40} {m * 1e3:9.3f} ms, predicted {latency.value * 1e3:9.3f} ({latency.value / m - 1:+.0%}) {others}",
            flush=True,
        )
    took = f"{len(rows)} runs measured"
    if left_out:
        took += f"; left out: {', '.join(left_out)}"
    shown = summary(rows, "predicted")
    print(
        took,
        shown,
        "geometric bias",
        exp(statistics.mean(log(r["predicted"] / r["measured"]["median"]) for r in rows)),
    )
    if not options.only:
        PAGE.write_text(page(rows, calibration, took))
        print(f"wrote {PAGE}")


if __name__ == "__main__":
    sys.exit(main())
