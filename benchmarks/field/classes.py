"""Whole networks by classes of operators: one rate a class, one bandwidth, one launch; for devices timed as a whole."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

import pharos
from pharos.graph.count import count
from pharos.graph.workload import Workload
from pharos.measure.fit import descend
from pharos.passes.fuse import Kernel, kernels

# Rates by class; others are memory alone.
CLASSES = ("gemm", "pointwise", "conv", "short_conv", "grouped_conv", "depthwise", "attention")


@dataclass(frozen=True, kw_only=True)
class Network:
    """Kernels of a network: class index (-1 for memory alone), FLOP, bytes, outputs, each times how often."""

    name: str
    kind: Any
    flops: Any
    moved: Any
    outputs: Any
    times: Any
    macs: float


# 2.5 has 13% error on families of networks left out on the one processor, 1 has 17% and 5 has 14%.
NEAR = 2.5


@cache
def network(model: str, batch: int, precision: str, fused: bool, warm: float = 0.0) -> Network:
    """From our own graph; kernels as a runtime launches them.

    Args:
        warm: bytes of activations that a cache still holds, from where they come NEAR times faster.
    """
    asked = Workload(batch=batch, precision=precision)  # type: ignore[arg-type]
    counted = count(pharos.load(model).graph(asked))
    found = kernels(counted, fused=fused)
    kinds = [_class(k) for k in found]
    vector = [k.work.vector_flops + 10 * k.work.transcendentals for k in found]
    return Network(
        name=model, kind=np.array(kinds), flops=np.array([2.0 * k.work.macs for k in found]),
        moved=np.array([
            float(k.traffic.total - min(k.traffic.total - k.traffic.weights, warm) * (1 - 1 / NEAR)) for k in found
        ]), times=np.array([float(k.times) for k in found]),
        outputs=np.array([float(v) for v in vector]), macs=float(counted.macs),
    )  # fmt: skip


# Products in a sum below which a convolution, such as one of the first layer, runs at a rate of its own.
SHORT = 64


def _class(kernel: Kernel) -> int:
    kind = kernel.lead.cost_class
    if kind == "conv":
        outputs = sum(t.numel for t in kernel.lead.node.outs)
        kind = "short_conv" if kernel.work.macs / outputs < SHORT else kind
    return CLASSES.index(kind) if kind in CLASSES else -1


@dataclass(frozen=True, kw_only=True)
class Run:
    """A measured network: on `units` (cores x clock, or 1), at `board`."""

    net: Network
    seconds: float
    units: float
    board: str
    label: str = ""
    threads: int = 1


def seconds_of(x: Any, run: Run, alone: bool) -> float:
    """Seconds of a run for log-parameters x: rates by class, bandwidth, launch, vector rate; threads' exponents.

    t = sum over kernels of times x ((FLOP / rate)^p + (bytes / bandwidth)^p)^(1/p) + launch, p = 3.
    """
    net = run.net
    spread = run.threads ** x[len(CLASSES) + 3] if run.threads > 1 else 1.0
    wide = run.threads ** x[len(CLASSES) + 4] if run.threads > 1 else 1.0
    rate = np.exp(np.append(x[: len(CLASSES)], 0.0))[net.kind] * run.units * spread
    compute = np.where(net.kind >= 0, net.flops / rate, 0.0)
    compute = compute + net.outputs / (np.exp(x[len(CLASSES) + 2]) * run.units * spread)
    data = net.moved / (np.exp(x[len(CLASSES)]) * wide)
    each = (compute**3 + data**3) ** (1 / 3) if not alone else compute
    return float((net.times * (each + np.exp(x[len(CLASSES) + 1]))).sum())


def fit_runs(runs: list[Run], start: Any, sigma: Any, alone: bool = False) -> Any:
    """Log-parameters from runs, held near `start` by `sigma` in the logarithm."""
    target = np.log([r.seconds for r in runs])

    def off(x: Any) -> Any:
        return np.log([seconds_of(x, r, alone) for r in runs]) - target

    return descend(off, np.asarray(start, float), 0.02 / np.asarray(sigma) ** 2, np.full(len(start), np.inf),
                   np.ones(len(runs)))[0]  # fmt: skip


def left_out(
    runs: list[Run],
    by: Callable[[Run], str],
    start: Any,
    sigma: Any,
    *,
    near: Any = None,
    alone: bool = False,
) -> Iterator[tuple[Run, float]]:
    """Each run predicted from a fit without those that share its label.

    Args:
        near: parameters to stay near, such as those of other boards, in place of `start`.
    """
    for label in sorted({by(r) for r in runs}):
        kept = [r for r in runs if by(r) != label]
        if not kept:
            continue
        x = fit_runs(kept, start if near is None else near, sigma, alone)
        for run in runs:
            if by(run) == label:
                yield run, seconds_of(x, run, alone)
