"""Seconds of a model's kernels on one device of a plan, forward and backward, for many plans at once."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pharos.machines.machine import Machine
from pharos.machines.profile import Curve, Profile, profile_of
from pharos.plan.parts import COLUMNS, EXPERTS, HEADS, NOT, ROWS, VOCABULARY, Parts, Piece
from pharos.predict.kernel import TRANSCENDENTAL_FLOPS, KernelTime, compute_dtype, rate_of, variant
from pharos.predict.kernel import _formed as by_form
from pharos.predict.kernels.shapes import sizes_of, unfused
from pharos.quantity.dtypes import Precision
from pharos.quantity.errors import InputError
from pharos.quantity.evidence import Evidence, merge

# Seconds of forward and backward, each as (all, of it where arithmetic binds, where bytes bind, fixed).
Seconds = Any


@dataclass(slots=True)
class Cut:
    """How many pieces each plan cuts a model into: columns of one length.

    Args:
        tensor, expert: devices that share a layer; a layer's experts.
        sequences: of one micro-batch.
        parallel_tokens: devices that share what tensor parallelism leaves whole.
        context: devices that share a sequence.
    """

    tensor: Any
    expert: Any
    sequences: Any
    parallel_tokens: Any
    context: Any


@dataclass(slots=True)
class Times:
    """Seconds of a section: [4, plans] as `Seconds`; core: attention alone, forward."""

    forward: Seconds
    backward: Seconds
    core: Any
    error: float = 0.0
    evidence: tuple[Evidence, ...] = ()


class Clock:
    """Times the pieces of a model on a machine.

    Raises:
        InputError: the machine's peak or bandwidth is not known.
    """

    def __init__(self, parts: Parts, machine: Machine, precision: Precision, phase: str) -> None:
        self.parts, self.machine = parts, machine
        self.dtype, self.phase = compute_dtype(precision), phase
        self.profile: Profile = profile_of(machine)
        if rate_of(machine, self.dtype).ops_per_s is None or not machine.bandwidth_bytes_per_s.value:
            raise InputError(
                f"the {self.dtype} peak or the memory bandwidth of {machine.id} is not in the catalogue",
                hint="without them no step can be timed",
            )

    def sections(self, cut: Cut, trains: bool) -> dict[str, Times]:
        """Seconds of the stem, of all layers together and of the head."""
        count = len(np.broadcast_to(cut.tensor, np.shape(cut.tensor)))
        found: dict[str, Times] = {}
        squares: dict[str, float] = {}
        for piece in self.parts.pieces:
            at = found.setdefault(
                piece.section, Times(np.zeros((4, count)), np.zeros((4, count)), np.zeros(count))
            )
            forward, backward, error, evidence = self._piece(piece, cut, trains)
            at.forward = at.forward + forward
            at.backward = at.backward + backward
            if piece.kernel.lead.kind == "attention":
                at.core = at.core + forward[0]
            squares[piece.section] = squares.get(piece.section, 0.0) + float(np.mean(forward[0])) * error
            at.evidence = merge((*at.evidence, *evidence))
        for section, at in found.items():
            at.error = squares[section] / max(float(np.mean(at.forward[0])), 1e-30)
        return found

    def _piece(
        self, piece: Piece, cut: Cut, trains: bool
    ) -> tuple[Seconds, Seconds, float, tuple[Evidence, ...]]:
        kernel, lead = piece.kernel, piece.kernel.lead
        shares = np.minimum(cut.tensor, piece.limit) if piece.role != NOT else np.ones_like(cut.tensor)
        stored = getattr(lead.node.op, "algorithm", "") == "materialised"
        if lead.kind == "attention" and stored:
            steps = [(name, self._scaled_stream_or_product(s, shares, cut)) for name, s in unfused(kernel)]
            parts = [self._one(piece, name, sizes) for name, sizes in steps]
            if all(p is not None for p in parts):
                known = [p for p in parts if p is not None]
                total = sum(self._four(p) for p in known) / cut.context
                return (
                    piece.times * total, piece.times * total * piece.gradient[0] if trains else 0 * total,
                    float(np.mean([np.mean(p.error) for p in known])), known[0].evidence,
                )  # fmt: skip
        for curve in self.profile.curves(lead.cost_class, self.dtype, self.phase, variant(lead.node.op)):
            if curve.form is None:
                return self._plain(piece, curve, shares, cut, trains)
            sizes = self._sizes(piece, curve.form, shares, cut)
            if sizes is None:
                continue
            found = by_form(kernel, self.machine, curve, self.dtype, sizes)
            if found is None:
                continue
            forward = self._four(found) * (1 / cut.context if lead.kind == "attention" else 1)
            backward = 0 * forward
            if trains:
                backward = self._backward(piece, curve, sizes, forward)
            error = float(np.mean(found.error))
            return piece.times * forward, piece.times * backward, error, found.evidence
        raise InputError(f"no curve times {lead.name} on {self.machine.id}")

    def _one(self, piece: Piece, name: str, sizes: dict[str, Any]) -> KernelTime | None:
        for curve in self.profile.curves(name, self.dtype, self.phase):
            if curve.form:
                found = by_form(piece.kernel, self.machine, curve, self.dtype, sizes)
                if found is not None:
                    return found
        return None

    def _four(self, time: KernelTime) -> Seconds:
        computes = np.asarray(time.compute_s) >= np.asarray(time.data_s)
        whole, fixed = np.asarray(time.latency_s), np.asarray(time.overhead_s)
        rest = np.maximum(whole - fixed, 0)
        return np.stack(
            np.broadcast_arrays(whole, rest * computes, rest * ~computes, np.minimum(fixed, whole))
        )

    def _backward(self, piece: Piece, curve: Curve, sizes: dict[str, Any], forward: Seconds) -> Seconds:
        if curve.form != "gemm":
            ratio = piece.gradient[0 if piece.kernel.lead.kind == "attention" else 1]
            return forward * ratio
        element = sizes["element"]
        m, n, k = sizes["m"], sizes["n"], sizes["k"]
        into, out, both = element * m * k, element * m * n, sizes["held"]
        ways = [
            {**sizes, "n": k, "k": n, "read": out + both, "written": into},
            {**sizes, "m": n, "n": k, "k": m, "read": out + into, "written": both},
        ]
        total = 0 * forward
        for way in ways if piece.kernel.lead.node.weights or piece.kernel.lead.kind == "matmul" else ways[:1]:
            found = by_form(piece.kernel, self.machine, curve, self.dtype, way)
            if found is not None:
                total = total + self._four(found)
        return total

    def _sizes(self, piece: Piece, form: str, shares: Any, cut: Cut) -> dict[str, Any] | None:
        """A form's columns for one device and micro-batch, from those for one whole sequence."""
        kernel, role = piece.kernel, piece.role
        work, moved = kernel.work, kernel.traffic
        scalar = work.vector_flops + TRANSCENDENTAL_FLOPS * work.transcendentals
        base = sizes_of(form, kernel, self.machine.vector_peak("fp32").value, scalar)
        if base is None:
            return None
        many = cut.sequences / (1 if kernel.lead.kind == "attention" else cut.context)
        if form == "gemm":
            rows, columns, inner = base["m"] * many, base["n"], base["k"]
            batch = base["batch"]
            if role == COLUMNS:
                columns = columns / shares
            elif role in (ROWS, EXPERTS):
                inner = inner / shares
            elif role == HEADS:
                batch = batch / shares
            weights = moved.weights / shares / (cut.expert if role == EXPERTS else 1)
            inside = moved.inputs * many / (shares if role in (ROWS, HEADS) else 1)
            outside = moved.outputs * many / (shares if role in (COLUMNS, HEADS) else 1)
            return {**base, "batch": batch, "m": rows, "n": columns, "k": inner,
                    "read": weights + inside + moved.workspace * many / shares, "written": outside,
                    "held": weights}  # fmt: skip
        if form in ("prefill", "decode"):
            kv = np.minimum(shares, float(base["kv_heads"]))
            heads = np.minimum(cut.tensor, float(base["heads"]))
            return {**base, "batch": base["batch"] * many, "heads": base["heads"] / heads,
                    "kv_heads": base["kv_heads"] / kv, "moved": base["moved"] * many / heads,
                    "cached": base["cached"] * many / kv}  # fmt: skip
        if form == "gather":
            return {**base, "rows": base["rows"] * many, "written": base["written"] * many}
        if form == "stream":
            return self._scaled_stream_or_product(base, self._parts_of(role, shares, cut), cut, many)
        return None

    def _parts_of(self, role: str, shares: Any, cut: Cut) -> Any:
        return cut.parallel_tokens if role in (NOT, VOCABULARY) else shares

    def _scaled_stream_or_product(
        self, base: dict[str, Any], shares: Any, cut: Cut, many: Any = None
    ) -> dict[str, Any]:
        factor = (cut.sequences if many is None else many) / shares
        scaled = ("rows", "read", "written", "work") if "rows" in base else ("batch", "read", "written")
        return {k: v * factor if k in scaled else v for k, v in base.items()}

    def _plain(
        self, piece: Piece, curve: Curve, shares: Any, cut: Cut, trains: bool
    ) -> tuple[Seconds, Seconds, float, tuple[Evidence, ...]]:
        """launch + (compute^p + data^p)^(1/p), as `predict.kernel` has it for classes without a form."""
        kernel, lead = piece.kernel, piece.kernel.lead
        rate = rate_of(self.machine, curve.peak_dtype or self.dtype)
        bandwidth = curve.bandwidth_bytes_per_s or self.machine.bandwidth_bytes_per_s.value
        assert rate.ops_per_s
        assert bandwidth
        if not curve.bandwidth_bytes_per_s:
            bandwidth = bandwidth * curve.bandwidth
        parts = self._parts_of(piece.role, shares, cut)
        many = cut.sequences / cut.context / parts
        work, moved = kernel.work, kernel.traffic
        masked = work.masked_macs if lead.kind == "attention" else 0
        compute = 2.0 * (work.macs - masked) * many / (rate.ops_per_s * curve.compute)
        vector = self.machine.vector_peak("fp32").value
        if vector:
            compute = (
                compute + (work.vector_flops + TRANSCENDENTAL_FLOPS * work.transcendentals) * many / vector
            )
        alone = cut.expert if piece.role == EXPERTS else 1
        data = (moved.weights / shares / alone + (moved.total - moved.weights) * many) / bandwidth
        steps = lead.node.op.parallelism(*lead.node.io).depth
        launch = curve.launch_s * float(steps if isinstance(steps, (int, float)) else 1)
        top = np.maximum(compute, data)
        low = np.minimum(compute, data)
        whole = launch + top * (1 + (low / np.maximum(top, 1e-300)) ** curve.sharpness) ** (
            1 / curve.sharpness
        )
        binds = compute >= data
        forward = np.stack(
            np.broadcast_arrays(
                whole, (whole - launch) * binds, (whole - launch) * ~binds, launch + 0 * whole
            )
        )
        ratio = piece.gradient[0] if work.macs else piece.gradient[1]
        backward = forward * ratio if trains else 0 * forward
        evidence = merge((curve.evidence, rate.evidence))
        return (
            piece.times * forward,
            piece.times * backward,
            (curve.error**2 + rate.error**2) ** 0.5,
            evidence,
        )
