"""Memory of an estimate: what a step holds on a machine at its peak, part by part."""

import re
from dataclasses import dataclass
from typing import Any

from pharos.graph.count import Count
from pharos.graph.graph import Node
from pharos.machines.machine import Machine
from pharos.passes.allocator import replay
from pharos.passes.eager import eager
from pharos.passes.held import HELD, Held
from pharos.passes.memory import Arena, Liveness, liveness
from pharos.quantity.evidence import Evidence, assumed, counted, spec, unknown_because
from pharos.quantity.sizes import Size, is_array, is_int

# What a CUDA context and its libraries hold on a GPU beside every tensor. Source: public reports of
# 0.3 to 0.6 GB since CUDA 11.7 loads kernels as they are needed (pytorch issue 107667); taken in the middle.
# Before that it was 0.7 to 1.7 GB (pytorch issue 55277).
GPU_CONTEXT_BYTES = 450_000_000
# What PyTorch sets aside for cuBLAS at its first product: 4096 KiB x 2 + 16 KiB x 8, 4096 KiB x 8 on Hopper
# and data-centre Blackwell. Source: PyTorch, aten/src/ATen/cuda/CublasHandlePool.cpp, unless
# CUBLAS_WORKSPACE_CONFIG says otherwise.
CUBLAS_BYTES, CUBLAS_BYTES_HOPPER = 8_519_680, 33_554_432
_HOPPER = re.compile(r"_(gh200|h100|h200|h800|h20|b100|b200|gb200)(_|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes a step needs at its peak.

    Args:
        weights: parameters and buffers as stored.
        activations_peak: the largest set of live activations, inputs and outputs included.
        kv_cache, state: kept between calls, for attention and for recurrences.
        workspace: scratch at the peak beyond the activations, and what libraries set aside.
        optimizer: of a training step, the optimiser's state and wide copies of parameters.
        gradients: of a training step, at its peak.
        runtime: what the device's own software holds (GPU context); assumed.
        rounding: what an allocator adds by rounding tensors up to blocks.
        unused: what an allocator set aside and no tensor is in: allocated but not reserved.
        peak_operator: where the peak stands; "" where sizes are no numbers.
        evidence: how the parts are known.
    """

    weights: Size
    activations_peak: Size
    kv_cache: Size
    state: Size
    workspace: Size
    optimizer: Size
    runtime: Size
    gradients: Size = 0
    rounding: Size = 0
    unused: Size = 0
    peak_operator: str = ""
    evidence: tuple[Evidence, ...] = ()

    @property
    def total(self) -> Size:
        """All of it."""
        return self.allocated + self.unused + self.runtime

    @property
    def allocated(self) -> Size:
        """What tensors take, rounded as the allocator rounds them."""
        return (self.weights + self.activations_peak + self.kv_cache + self.state + self.workspace
                + self.optimizer + self.gradients + self.rounding)  # fmt: skip


def memory_of(
    counts: Count, machine: Machine, runtime: str, placed: Arena | None = None, lived: Liveness | None = None
) -> Memory:
    """The memory of one step.

    Args:
        lived: the liveness of activations that overwrite their inputs, where it is known already.
        runtime: "eager" holds what Python's scopes hold, "compiled" what operators still need.
        placed: of a microcontroller, where its runtime puts the activations.
    """
    kv = state = 0
    for line in counts.lines:
        if line.node.state:
            held = line.times * line.node.state_bytes
            if line.node.op.state_precision == "kv_cache":
                kv = kv + held
            else:
                state = state + held
    on_gpu = machine.kind == "gpu"
    evidence = []
    if on_gpu:
        evidence.append(assumed("CUDA context of 0.3 to 0.6 GB, by public reports"))
        if cublas_workspace(counts, machine):
            evidence.append(spec("PyTorch's workspace for cuBLAS, 8.1 MiB, on Hopper 32 MiB"))
    if machine.kind == "mcu":
        evidence.append(unknown_because("the runtime's own code and tables, in flash and SRAM"))
    weights, rounding, unused = counts.weight_bytes + counts.buffer_bytes, 0, 0
    if runtime == "eager" and placed is None:
        seen = eager(counts.graph)
        live: Liveness = seen.liveness()
        if HELD in counts.graph.meta:
            weights = seen.always
            evidence.append(counted(f"storages that eager PyTorch holds, seen call by call on {seen.device}"))
        else:
            evidence.append(counted("storages of the graph under Python's scopes"))
        if on_gpu and all(is_int(v) for v in live.live):
            asked = replay(_pieces(counts, seen), live.lifetimes)
            rounding, unused = asked.allocated - asked.requested, asked.reserved - asked.allocated
            evidence.append(counted("rounding of PyTorch's caching allocator: blocks of 512 B, segments of "
                                    "2 and 20 MiB"))  # fmt: skip
            evidence.append(unknown_because("workspaces that cuDNN's kernels take"))
    else:
        live = lived or liveness(counts.graph, in_place=runtime != "eager")
    integers = all(is_int(v) for v in live.live)
    return Memory(
        weights=weights,
        activations_peak=live.peak if placed is None else placed.size,
        kv_cache=kv,
        state=state,
        workspace=cublas_workspace(counts, machine),
        optimizer=0,
        runtime=GPU_CONTEXT_BYTES if on_gpu else 0,
        rounding=rounding,
        unused=unused,
        peak_operator=live.peak_step if integers else "",
        evidence=tuple(evidence),
    )


def cublas_workspace(counts: Count, machine: Machine) -> int:
    """Bytes that PyTorch holds for cuBLAS on an NVIDIA GPU once the graph has had a product of matrices."""
    if machine.kind != "gpu" or machine.vendor != "nvidia":
        return 0
    if not any(line.kind in ("linear", "matmul", "bmm") for line in counts.lines):
        return 0
    return CUBLAS_BYTES_HOPPER if _HOPPER.search(machine.id) else CUBLAS_BYTES


def _pieces(counts: Count, seen: Held) -> list[int]:
    """Bytes of each tensor that is there all through, in the order of the graph."""
    if seen.pieces:
        return [n for n in seen.pieces if isinstance(n, int)]
    found: list[int] = []
    for node in counts.graph.expanded().nodes:
        assert isinstance(node, Node)
        held = [t for key, t in node.weights.items() if key not in node.tied]
        found += [t.nbytes for t in (*held, *node.buffers.values(), *node.state.values())]
    return found


def sram_and_flash(memory: Memory) -> tuple[Size, Size]:
    """Of a microcontroller: bytes that change while it runs, and bytes that never do."""
    return memory.total - memory.weights, memory.weights


def fits_in(memory: Memory, machine: Machine) -> Any:
    """Whether it all fits; None when the capacity is unknown."""
    capacity = machine.capacity_bytes.value
    if capacity is None:
        return None
    if machine.kind == "mcu" and machine.flash_bytes.value is not None:
        sram, flash = sram_and_flash(memory)
        return bool(sram <= capacity and flash <= machine.flash_bytes.value)
    fits = memory.total <= capacity
    return fits if is_array(fits) else bool(fits)
