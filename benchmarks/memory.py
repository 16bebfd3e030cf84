"""Memory: Pharos beside PyTorch's own accounting, for inference and training. `python benchmarks/memory.py`.

Needs torch, torchvision and transformers; no weights are downloaded. ``--out docs/memory.md`` writes the page;
names of networks as arguments run those alone; ``--path`` names a folder to import torchvision from; ``--store FILE``
keeps each row, so that a run that was stopped goes on where it stood.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from memory_nets import Net, nets

import pharos
from pharos.graph.workload import Workload
from pharos.passes.eager import eager
from pharos.passes.held import held_of
from pharos.passes.training import training

PAGE = """# Memory beside PyTorch's own accounting

Written by `python benchmarks/memory.py --out docs/memory.md` (torch {torch}); nothing here is fitted.

*MemTracker* is `torch.distributed._tools.mem_tracker.MemTracker` on tensors without data, CPU kernels: every storage
of parameters, buffers, gradients, optimiser state, activations and temporaries, at the moment of the highest sum.
*traced* is Pharos on the same module (`pharos.trace(module, ..., watch=True)`, `pharos.train`). *graph* is Pharos on
its own catalogue graph, which never sees the module: what a network costs that nobody has written yet. MB are 1e6
bytes; errors are relative to MemTracker.

## Inference, eager, without gradients

| network | batch | MemTracker MB | traced, bytes off | graph MB | graph error | peak at |
|---|---|---|---|---|---|---|
{inference}

{inference_said}

## Training: the second step

Training mode with dropout 0, which the catalogue's graphs do not have. Checkpointing: each layer under
`torch.utils.checkpoint`. bf16 has fp32 copies that the optimiser updates. Networks that are missing under "layers"
repeat no layer.

| network | batch | optimizer | checkpointing | precision | loss | MemTracker MB | traced, bytes off | graph MB | graph error | peak at |
|---|---|---|---|---|---|---|---|---|---|---|
{training}

{training_said}

GPT-2 as transformers writes it computes its GELU in eight calls of Python and keeps what each needs; the catalogue's
GELU is PyTorch's own, which `activation_function="gelu_pytorch_tanh"` gives: both are shown. On tensors without data
transformers makes a mask of each layer that it does without on real ones; these runs are kept from that. What a
graph alone cannot know at inference is which results a frame of Python still has a name for: ds_cnn_s is such a case.

## What a process is seen to take

Runs on real tensors on a CPU, one thread. *allocator* is the highest sum that PyTorch's CPU allocator reports to
`torch.profiler` with `profile_memory`, together with what was there before the step; kernels' scratch that goes through
the allocator is in it. *process* is the growth of the process's resident memory to its peak over two steps, as the
operating system sees it: libraries' own buffers and fragmentation are in it, pages never touched are not. Errors are those of the
traced figure.

| network | batch | step | traced MB | allocator MB | error | process MB | error |
|---|---|---|---|---|---|---|---|
{process}

{process_said}
"""
Row = list[Any]
INFERENCE_BATCHES = (1, 8)
# batch, optimizer, checkpointing, precision, loss
CASES = ((1, "adam", "none", "fp32", "sum"), (8, "momentum", "none", "fp32", "cross_entropy"),
         (8, "sgd", "layers", "fp32", "sum"), (1, "adam", "none", "bf16", "sum"))  # fmt: skip
REAL = (("lstm_tagger", 8), ("resnet18", 8), ("mobilenet_v2", 8), ("resnet50", 4), ("vit_b_16", 2), ("swin_t", 2),
        ("bert-base 128", 4))  # fmt: skip


def peak_of(tracker: Any) -> int:
    """Bytes on all devices."""
    return sum(found["Total"] for found in tracker.get_tracker_snapshot("peak").values())


def built(net: Net, batch: int) -> Any:
    """The module without data on the CPU; inside a mode for such tensors."""
    import torch
    from torch._subclasses.fake_tensor import DataDependentOutputException, unset_fake_temporarily

    try:
        return net.make(batch)
    except DataDependentOutputException:
        # some make lists of rates by asking tensors for their numbers
        with unset_fake_temporarily(), torch.device("meta"):
            module = net.make(batch)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        return module.to_empty(device="cpu")


def tracked_inference(net: Net, batch: int) -> int:
    """Peak bytes of a forward pass that MemTracker sees."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        module, given = built(net, batch).eval(), net.inputs(batch, "cpu")
        tracker = MemTracker()
        tracker.track_external(module, *given)
        with tracker:
            out = module(*given)
        del out
    return peak_of(tracker)


def stepper(
    module: Any, given: list[Any], optimizer: str, precision: str, loss: str
) -> tuple[Any, Any, list[Any]]:
    """A training step as users write it: (step, the optimiser, fp32 copies of parameters)."""
    import torch

    makers = {
        "adam": torch.optim.Adam,
        "sgd": partial(torch.optim.SGD, lr=0.01),
        "momentum": partial(torch.optim.SGD, lr=0.01, momentum=0.9),
    }
    own = list(module.parameters())
    copies = [p.detach().float() for p in own] if precision == "bf16" else []
    rule = makers[optimizer](copies or own)

    def step() -> None:
        for p in own:
            p.grad = None
        rule.zero_grad()
        out = module(*given)
        found = [out] if isinstance(out, torch.Tensor) else [
            t for t in (out.to_tuple() if hasattr(out, "to_tuple") else out)
            if isinstance(t, torch.Tensor) and t.requires_grad]  # fmt: skip
        if loss == "cross_entropy":
            rows = found[0].reshape(-1, found[0].shape[-1])
            whole = torch.nn.functional.cross_entropy(rows, torch.zeros(len(rows), dtype=torch.int64))
        else:
            whole = found[0].sum()
            for t in found[1:]:
                whole = whole + t.sum()
        whole.backward()
        for p, copy in zip(own, copies, strict=False):
            copy.grad, p.grad = p.grad.float(), None
        rule.step()
        with torch.no_grad():
            for p, copy in zip(own, copies, strict=False):
                p.copy_(copy)

    return step, rule, copies


def tracked_training(
    net: Net, batch: int, optimizer: str, checkpointing: str, precision: str, loss: str
) -> int:
    """Peak bytes of the second of two training steps that MemTracker sees."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker
    from torch.utils.checkpoint import checkpoint

    from pharos.convert.torch_training import repeated_layers

    with FakeTensorMode(allow_non_fake_inputs=True):
        module = built(net, batch).train()
        narrow = torch.bfloat16 if precision == "bf16" else None
        if narrow is not None:
            _narrow(torch, module, narrow)
        given = net.inputs(batch, "cpu", narrow)
        if checkpointing == "layers":
            for layer in repeated_layers(torch, module):
                layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
        step, rule, copies = stepper(module, given, optimizer, precision, loss)
        step()
        for p in module.parameters():
            p.grad = None
        rule.zero_grad()
        tracker = MemTracker()
        tracker.track_external(module, rule, *given, *copies)
        with tracker:
            step()
    return peak_of(tracker)


def _narrow(torch: Any, module: Any, dtype: Any) -> None:
    """As ``module.to(dtype)``, which tensors without data do not take part in."""
    made: dict[int, Any] = {}
    for part in module.modules():
        for holder in (part._parameters, part._buffers):
            for key, t in holder.items():
                if t is not None and t.is_floating_point():
                    plain = t.detach().to(dtype)
                    new = torch.nn.Parameter(plain) if holder is part._parameters else plain
                    holder[key] = made.setdefault(id(t), (new, t))[0]


def traced(net: Net, batch: int, watch: bool, train: bool = False) -> Any:
    """The model that Pharos makes of the module."""
    import torch

    with torch.device("meta"):
        module = net.make(batch).train(train)
    return pharos.trace(module, *net.inputs(batch, "meta"), watch=watch)


def inference_row(net: Net, batch: int) -> Row:
    """One row: what MemTracker saw, what Pharos says of the module, and of its own graph."""
    held = held_of(traced(net, batch, True).graph())
    assert held is not None
    truth, ours = tracked_inference(net, batch), eager(net.graph(batch)).peak
    return [net.name, batch, truth, held.peak - truth, ours, held.peak_step]


def training_row(net: Net, batch: int, optimizer: str, way: str, precision: str, loss: str) -> Row | None:
    """One row; None if nothing repeats that could be checkpointed, or no classes are told apart."""
    import torch

    from pharos.convert.torch_training import repeated_layers

    if not net.classes:
        loss = "sum"
    if way == "layers":
        with torch.device("meta"):
            if not repeated_layers(torch, net.make(batch)):
                return None
    truth = tracked_training(net, batch, optimizer, way, precision, loss)
    work = Workload(precision=precision)  # type: ignore[arg-type]
    seen = traced(net, batch, False, True).training_memory(work, optimizer, way, loss)
    try:
        ours = training(net.graph(batch, precision), optimizer, way, loss).peak
    except pharos.PharosError:
        ours = None
    return [net.name, batch, optimizer, way, precision, loss, truth, seen.peak - truth, ours, seen.peak_step]


def real_row(name: str, batch: int, train: bool) -> Row:
    """One row of a run on real tensors, in a process of its own."""
    command = [sys.executable, __file__, "--real", name, str(batch), str(int(train)), *sys.argv[1:]]
    found = subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    allocator, process = json.loads(found.stdout.splitlines()[-1])
    net = nets()[name]
    if train:
        told = traced(net, batch, False, True).training_memory(Workload(), "adam", "none", "sum").peak
    else:
        held = held_of(traced(net, batch, True).graph())
        assert held is not None
        told = held.peak
    return [name, batch, "training, adam" if train else "inference", told, allocator, process]


def really(net: Net, batch: int, train: bool) -> tuple[int, int]:
    """(bytes at the peak by PyTorch's allocator, growth of the process's peak) of a run on real tensors."""
    import torch

    torch.set_num_threads(1)
    # what PyTorch loads for its first step is no network's
    stepper(torch.nn.Linear(8, 8), [torch.zeros(2, 8)], "adam", "fp32", "sum")[0]()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    module, given = net.make(batch).train(train), net.inputs(batch, "cpu")
    there = [*module.parameters(), *module.buffers(), *given]
    if train:
        step, rule, _ = stepper(module, given, "adam", "fp32", "sum")
    else:
        rule = None

        def step() -> None:
            with torch.no_grad():
                module(*given)

    step()
    for p in module.parameters():
        p.grad = None
    if rule is not None:
        there += [t for state in rule.state.values() for t in state.values()]
    settled = sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in there}.values())
    gc.collect()
    step()
    process = _status("VmHWM") - before
    for p in module.parameters():
        p.grad = None
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        step()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    totals = [
        e["args"]["Total Allocated"]
        for e in events
        if e.get("name") == "[memory]" and e["args"]["Device Type"] == 0
    ]
    return settled + max(totals), process


def _status(what: str) -> int:
    """Bytes that Linux tells of this process: VmRSS now, VmHWM at its highest since that was cleared."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


def jobs(chosen: list[str]) -> Iterator[tuple[str, str, Callable[[], Row | None]]]:
    """(table, key, what makes the row) of every row."""
    found = nets()
    for name, net in found.items():
        if chosen and name not in chosen:
            continue
        for batch in INFERENCE_BATCHES:
            yield "inference", f"{name} {batch}", partial(inference_row, net, batch)
        for case in CASES:
            yield "training", f"{name} {case}", partial(training_row, net, *case)
    for name, batch in REAL:
        if name in found and (not chosen or name in chosen):
            for train in (False, True):
                yield "process", f"{name} {batch} {train}", partial(real_row, name, batch, train)


def mb(nbytes: float) -> str:
    """Millions of bytes."""
    return f"{nbytes / 1e6:.2f}"


def cells(table: str, row: Row) -> Row:
    """A row as the page shows it."""
    if table == "process":
        *named, told, allocator, process = row
        return [
            *named,
            mb(told),
            mb(allocator),
            f"{told / allocator - 1:+.2%}",
            mb(process),
            f"{told / process - 1:+.1%}",
        ]
    *named, truth, off, ours, at = row
    graph = ["-", "-"] if ours is None else [mb(ours), f"{ours / truth - 1:+.2%}"]
    return [*named, mb(truth), off, *graph, at]


def said(table: str, rows: list[Row]) -> str:
    """What a table comes to."""
    if table == "process":
        parts = []
        for name, at in (("allocator", 4), ("process", 5)):
            errors = sorted(abs(row[3] / row[at] - 1) for row in rows)
            parts.append(f"{name}: {sum(errors) / len(errors):.1%} mean error, {errors[len(errors) // 2]:.1%} median, "
                         f"{errors[-1]:.1%} worst")  # fmt: skip
        return "; ".join(parts).capitalize() + "."
    truth, off, ours = -4, -3, -2
    offs = [abs(row[off]) for row in rows]
    share = max(abs(row[off]) / row[truth] for row in rows)
    errors = sorted(abs(row[ours] / row[truth] - 1) for row in rows if row[ours] is not None)
    return (
        f"Traced: {sum(o == 0 for o in offs)} of {len(offs)} rows to the byte, {max(offs)} bytes or {share:.2%} off at "
        f"most. Graph: {sum(errors) / len(errors):.2%} mean error, {errors[len(errors) // 2]:.2%} median, "
        f"{errors[-1]:.1%} worst; {sum(e <= 0.05 for e in errors)} of {len(errors)} within 5%."
    )


def main() -> None:
    """Prints the rows, or writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--path", help="folder to import torchvision from")
    parser.add_argument("--store", type=Path, help="file of rows that are done")
    parser.add_argument("--tables", default="inference,training,process", help="which of them")
    parser.add_argument("--real", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.path:
        sys.path.insert(0, given.path)
    if given.real:
        name, batch, train = given.real
        print(json.dumps(really(nets()[name], int(batch), bool(int(train)))))
        return
    done: dict[str, Row | None] = (
        json.loads(given.store.read_text()) if given.store and given.store.exists() else {}
    )
    found: dict[str, list[Row]] = {"inference": [], "training": [], "process": []}
    failed = 0
    for table, key, make in jobs(given.names):
        if table not in given.tables.split(","):
            continue
        if f"{table} {key}" not in done:
            try:
                done[f"{table} {key}"] = make()
            except Exception as error:
                failed += 1
                print(f"{table} {key}: {error!r}"[:400], file=sys.stderr, flush=True)
                continue
            if given.store:
                given.store.write_text(json.dumps(done))
            gc.collect()
        row = done[f"{table} {key}"]
        if row is not None:
            found[table].append(row)
            print("| " + " | ".join(map(str, cells(table, row))) + " |", flush=True)
    texts = {
        t: "\n".join("| " + " | ".join(map(str, cells(t, row))) + " |" for row in rows)
        for t, rows in found.items()
    }
    words = {f"{t}_said": said(t, rows) if rows else "" for t, rows in found.items()}
    print("\n".join(filter(None, words.values())))
    if given.out and not failed:
        import torch

        given.out.write_text(PAGE.format(torch=torch.__version__, **texts, **words))
    if failed:
        raise SystemExit(f"{failed} rows failed; nothing is written")


if __name__ == "__main__":
    main()
