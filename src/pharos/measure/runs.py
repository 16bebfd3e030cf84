"""Runs: a graph made runnable through PyTorch or ONNX Runtime, whole and operator by operator."""

import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pharos.graph.graph import Graph, Node
from pharos.measure.devices import Cpu, Cuda, Device
from pharos.quantity.errors import InputError, unknown
from pharos.quantity.sizes import is_int

# By kind of device, the usual one first.
RUNTIMES = {"cpu": ("eager", "compiled", "onnxruntime"), "cuda": ("eager", "compiled", "cudagraph")}
# Seconds that a GPU is kept busy at most while what it is to run is laid ready.
AHEAD = 0.2
# Copies between layouts that take more than this share of an operator are a reason for its time.
COPIED = 0.1


class Pieces(dict[str, list[float]]):
    """Seconds of every run by name of an operator, as written out.

    Args:
        copies: seconds a call, among them, of what the runtime inserted to move tensors between layouts.
        copied: operators that were given a tensor which does not lie in the order they want.
        bare: the same without those copies; None where there are none to be told apart.
    """

    copies: float = 0.0
    copied: frozenset[str] = frozenset()
    bare: "Pieces | None" = None

    def at(self, quantile: float = 0.5) -> dict[str, float]:
        """Seconds of each, in the middle of its samples or elsewhere among them."""
        return {name: middle(found, quantile) for name, found in self.items()}


@dataclass(frozen=True, slots=True)
class Runnable:
    """A graph ready to be run.

    Args:
        call: runs it once; samples: runs it some times and gives the seconds of every run by name of an
            operator, after calling what it is given before each; None where they cannot be told apart.
        module, inputs: what is called with what, of PyTorch; settled: bytes of weights and inputs.
        anew: loads it and runs it once, for runtimes that keep memory of their own between calls.
    """

    runtime: str
    call: Callable[[], Any]
    samples: Callable[..., Pieces] | None
    module: Any = None
    inputs: Any = ()
    settled: int = 0
    anew: Callable[[], Any] | None = None

    def pieces(self, rounds: int, at: float = 0.5) -> dict[str, float]:
        """Usual seconds of every operator, or at another quantile; none where the runtime does not tell them
        apart."""
        return self.samples(rounds).at(at) if self.samples is not None else {}


@contextmanager
def runnable(
    graph: Graph,
    runtime: str,
    threads: int,
    seed: int = 0,
    device: Device | None = None,
    *,
    fresh: bool = False,
) -> Iterator[Runnable]:
    """Builds a graph with random weights and inputs for a runtime; cleaned up at the end.

    Args:
        device: the processor by default.
        fresh: between operators their inputs are written anew, as the operator before would have; for graphs
            of operators that do not follow each other.

    Raises:
        UnknownName: another runtime.
        InputError: its library is missing, or the graph has sizes that are no numbers.
    """
    with prepared(graph, seed, device, fresh=fresh) as ready:
        yield ready(runtime, threads)


@contextmanager
def prepared(
    graph: Graph, seed: int = 0, device: Device | None = None, *, fresh: bool = False
) -> Iterator[Callable[[str, int], Runnable]]:
    """As `runnable`, for several runtimes and numbers of threads in turn: weights are made once a runtime.

    What was made ready last is what may be run.
    """
    if not all(is_int(s) for v in graph.inputs for s in v.shape):
        raise InputError("has sizes that are no numbers", where=graph.name)
    device = device or Cpu()
    kept: dict[str, Any] = {}
    with ExitStack() as stack:

        def ready(runtime: str, threads: int) -> Runnable:
            _check(runtime, device)
            if runtime == "onnxruntime":
                if "onnx" not in kept:
                    kept["onnx"] = stack.enter_context(_exported(graph, seed))
                return _onnxruntime(kept["onnx"], threads)
            if "torch" not in kept:
                kept["torch"] = stack.enter_context(_built(graph, seed, device))
            module, inputs = kept["torch"]
            return _torch(graph, runtime, threads, module, inputs, device, fresh)

        yield ready


def _check(runtime: str, device: Device) -> None:
    known = RUNTIMES[device.kind]
    if runtime in known:
        return
    if any(runtime in each for each in RUNTIMES.values()):
        raise InputError(f"{runtime} is not measured on {device.kind}", where="--runtime",
                         hint=f"there are {', '.join(known)}")  # fmt: skip
    raise unknown("runtime to measure", runtime, known)


@contextmanager
def _built(graph: Graph, seed: int, device: Device) -> Iterator[tuple[Any, list[Any]]]:
    """The module and its inputs; the number of threads is put back at the end."""
    from pharos.convert.to_torch import to_torch

    try:
        import torch
    except ModuleNotFoundError:
        raise InputError("measuring needs torch", hint="pip install 'pharos-nn[torch]'") from None
    before = torch.get_num_threads()
    torch.manual_seed(seed)
    module = to_torch(graph).eval()
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}
    module = module.to(kinds.get(graph.precision.weights, torch.float32)).to(device.place)
    try:
        yield module, [x.to(device.place) for x in _torch_inputs(torch, graph, kinds)]
    finally:
        torch.set_num_threads(before)


def _torch(
    graph: Graph, runtime: str, threads: int, module: Any, inputs: list[Any], device: Device, fresh: bool
) -> Runnable:
    import torch

    torch.set_num_threads(threads)
    called = torch.compile(module) if runtime == "compiled" else module

    def call() -> Any:
        with torch.inference_mode():
            return called(*inputs)

    def samples(rounds: int, before: Callable[[], Any] | None = None) -> Pieces:
        with torch.inference_mode():
            return _stepwise(graph, module, inputs, rounds, before, device, fresh)

    there = [*module.parameters(), *module.buffers(), *inputs]
    settled = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in there}
    runs = device.captured(call) if isinstance(device, Cuda) and runtime == "cudagraph" else call
    return Runnable(runtime, runs, None if runtime == "compiled" else samples, called, inputs,
                    sum(settled.values()))  # fmt: skip


def _torch_inputs(torch: Any, graph: Graph, kinds: dict[str, Any]) -> list[Any]:
    rows = _smallest_table(graph)
    made = []
    for value in graph.inputs:
        dtype = value.tensor.dtype
        if dtype in kinds:
            made.append(torch.randn(value.shape).to(kinds[dtype]))
        elif dtype == "bool":
            made.append(torch.ones(value.shape, dtype=torch.bool))
        else:
            made.append(torch.randint(0, rows, value.shape))
    return made


def _smallest_table(graph: Graph) -> int:
    """Indices below this are in every table."""
    tables = [getattr(n.op, "num_embeddings", None) for n, _, _ in graph.walk()]
    return max(min([int(t) for t in tables if t is not None], default=100), 1)


def _stepwise(
    graph: Graph, module: Any, inputs: list[Any], rounds: int, before: Callable[[], Any] | None,
    device: Device, fresh: bool,
) -> Pieces:  # fmt: skip
    """Seconds of every operator, run one by one, in each round but a first; values die with their
    last use."""
    plain = graph.expanded()
    nodes = [n for n in plain.nodes if isinstance(n, Node)]
    last: dict[str, int] = {}
    for i, node in enumerate(nodes):
        last.update(dict.fromkeys(node.inputs, i))
    kept = {v.name for v in plain.outputs}
    dying = [
        [v for v in {*node.inputs, *node.outputs} if last.get(v, i) == i and v not in kept]
        for i, node in enumerate(nodes)
    ]
    taken: list[list[float]] = [[] for _ in nodes]
    copied: set[str] = set()
    mark = device.mark
    host_s = 0.0
    for turn in range(rounds + 1):
        if turn and before is not None:
            before()
        values = dict(zip((v.name for v in graph.inputs), inputs, strict=True))
        marks: list[tuple[Any, Any]] = []
        # events are read off a device that never waits for its host
        device.hold(min(host_s, AHEAD))
        began = time.perf_counter()
        for i, node in enumerate(nodes):
            given = [values[name] for name in node.inputs]
            if fresh:
                for x in given:
                    if x.is_floating_point() and x.is_contiguous():
                        x.neg_()
            start = mark()
            made = module.calls[node.name](*given)
            marks.append((start, mark()))
            if not turn and any(not x.is_contiguous() for x in given):
                copied.add(node.name)
            del given
            results = made if isinstance(made, (tuple, list)) else (made,)
            values.update(zip(node.outputs, results, strict=False))
            del made, results
            for name in dying[i]:
                values.pop(name, None)
        host_s = 1.2 * (time.perf_counter() - began)
        device.finish()
        if turn:
            for each, (start, end) in zip(taken, marks, strict=True):
                each.append(device.between(start, end))
    found = Pieces({node.name: seconds for node, seconds in zip(nodes, taken, strict=True)})
    found.copied = frozenset(copied)
    return found


def middle(samples: Sequence[float], at: float = 0.5) -> float:
    """Mean of the half of the samples around a quantile (a quarter on either side, as far as there are any):
    finer than a median where a clock ticks in microseconds."""
    ordered = sorted(samples)
    low, high = int(max(at - 0.25, 0.0) * len(ordered)), int(-(-(min(at + 0.25, 1.0) * len(ordered)) // 1))
    kept = ordered[low : max(high, low + 1)]
    return sum(kept) / len(kept)


@contextmanager
def _exported(graph: Graph, seed: int) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The file of the graph as ONNX with random weights, and its inputs."""
    import numpy as np

    from pharos.convert.to_onnx import to_onnx

    generator = np.random.default_rng(seed)
    rows = _smallest_table(graph)
    feeds = {}
    kinds = {"fp32": np.float32, "fp16": np.float16, "fp64": np.float64}
    for value in graph.inputs:
        dtype = value.tensor.dtype
        if dtype in kinds:
            feeds[value.name] = generator.standard_normal(value.shape).astype(kinds[dtype])
        elif dtype == "bool":
            feeds[value.name] = np.ones(value.shape, bool)
        else:
            feeds[value.name] = generator.integers(0, rows, value.shape)
    with tempfile.TemporaryDirectory(prefix="pharos-") as folder:
        yield to_onnx(graph, Path(folder) / "model.onnx", "random"), feeds


def _onnxruntime(made: tuple[Path, dict[str, Any]], threads: int) -> Runnable:
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise InputError("measuring needs onnxruntime", hint="pip install onnxruntime") from None
    path, feeds = made

    def session(profile: bool) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        options.enable_profiling = profile
        options.profile_file_prefix = str(path.parent / "profile")
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    running: list[Any] = []

    def call() -> Any:
        if not running:
            running.append(session(False))
        return running[0].run(None, feeds)

    def samples(rounds: int, before: Callable[[], Any] | None = None) -> Pieces:
        watched = session(True)
        for turn in range(rounds + 1):
            if turn and before is not None:
                before()
            watched.run(None, feeds)
        return _profiled(Path(watched.end_profiling()), rounds)

    def anew() -> Any:
        return session(False).run(None, feeds)

    settled = path.stat().st_size + sum(x.nbytes for x in feeds.values())
    return Runnable("onnxruntime", call, samples, settled=settled, anew=anew)


def _profiled(path: Path, rounds: int) -> Pieces:
    """Seconds of each round by node from ONNX Runtime's trace.

    What it fused is under the node it is named after. Copies into its own layout for convolutions, and out of
    it, count for the node that has not that layout: the one after a copy out, or before a copy in.
    """
    taken: dict[str, list[float]] = {}
    bare: dict[str, list[float]] = {}
    last, waiting = "", 0.0
    for event in json.loads(path.read_text()):
        name = event.get("name", "")
        if name == "model_run":
            if waiting and last:
                taken[last][-1] += waiting
            last, waiting = "", 0.0
        if event.get("cat") != "Node" or not name.endswith("_kernel_time"):
            continue
        seconds = event["dur"] * 1e-6
        if name.startswith("ReorderInput") and last:
            taken[last][-1] += seconds
            continue
        if name.startswith("Reorder"):
            waiting += seconds
            continue
        named = name.removesuffix("_kernel_time").removeprefix("fused ").partition("/")[0]
        last = re.sub(r"(_nchwc|_fused\w*)$", "", named)
        taken.setdefault(last, []).append(seconds + waiting)
        bare.setdefault(last, []).append(seconds)
        waiting = 0.0
    found = Pieces(_by_round(taken, rounds))
    found.bare = Pieces(_by_round(bare, rounds))
    alone = found.bare.at()
    copies = {node: seconds - alone[node] for node, seconds in found.at().items()}
    found.copies = sum(copies.values())
    found.copied = frozenset(n for n, seconds in copies.items() if seconds > COPIED * alone[n])
    return found


def _by_round(taken: dict[str, list[float]], rounds: int) -> dict[str, list[float]]:
    """Several ONNX nodes may do the work of one operator: they run as often each."""
    found = {}
    for node, seconds in taken.items():
        each = max(len(seconds) // (rounds + 1), 1)
        later = seconds[each:] or seconds
        found[node] = [sum(later[i : i + each]) for i in range(0, len(later), each)]
    return found
