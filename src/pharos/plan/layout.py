"""Layouts: how many devices share what, which are legal for a model, and all that are."""

from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any

import numpy as np

from pharos.plan.parts import Parts
from pharos.quantity.errors import InputError, unknown

CHECKPOINTS = ("none", "selective", "full")
# What of training's memory data-parallel devices share. Rajbhandari et al. 2020, arXiv:1910.02054.
ZERO = {0: "nothing", 1: "optimiser", 2: "optimiser and gradients", 3: "optimiser, gradients and weights"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A parallel plan.

    Args:
        tensor, pipeline, data, context, expert: devices that share a layer, the layers, the batch, a
            sequence, and a layer's experts (which are among the `data` ones); in all they are tensor x
            pipeline x data x context.
        micro_batch: sequences that a device of the pipeline takes at once.
        zero: stage 0 to 3; 3 is fully sharded data parallel.
        checkpoint: "none", "selective" (attention's own, where it stores its scores) or "full" (all layers).
        chunks: of its layers that a stage holds apart (interleaved 1F1B); 1 for plain 1F1B.
        sequence: what tensor parallelism leaves whole is cut by tokens over its devices.
            Korthikanti et al. 2022, arXiv:2205.05198.
    """

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    context: int = 1
    expert: int = 1
    micro_batch: int = 1
    zero: int = 0
    checkpoint: str = "none"
    chunks: int = 1
    sequence: bool = True

    def __post_init__(self) -> None:
        for each in ("tensor", "pipeline", "data", "context", "expert", "micro_batch", "chunks"):
            if getattr(self, each) < 1:
                raise InputError(f"{each} must be at least 1, not {getattr(self, each)}", where="layout")
        if self.checkpoint not in CHECKPOINTS:
            raise unknown("checkpointing", self.checkpoint, CHECKPOINTS)
        if self.zero not in ZERO:
            raise InputError(f"ZeRO has stages 0 to 3, not {self.zero}", where="--zero")

    @property
    def devices(self) -> int:
        """All of them."""
        return self.tensor * self.pipeline * self.data * self.context

    def __str__(self) -> str:
        names = ("tensor", "pipeline", "data", "context", "expert")
        return " x ".join(f"{getattr(self, k)} {k}" for k in names if getattr(self, k) > 1) or "1 device"


@dataclass(slots=True)
class Layouts:
    """Many layouts as columns of one length; `checkpoint` is an index of CHECKPOINTS."""

    tensor: Any
    pipeline: Any
    data: Any
    context: Any
    expert: Any
    micro_batch: Any
    zero: Any
    checkpoint: Any
    chunks: Any
    sequence: Any

    @classmethod
    def of(cls, layouts: list[Layout]) -> "Layouts":
        """Columns of some layouts."""
        rows = [replace(one) for one in layouts]
        columns = {f.name: np.array([_number(getattr(r, f.name)) for r in rows], float) for f in fields(cls)}
        return cls(**columns)

    def __len__(self) -> int:
        return len(self.tensor)

    def pick(self, which: Any) -> "Layouts":
        """Some of them, by mask or index."""
        return Layouts(**{f.name: getattr(self, f.name)[which] for f in fields(self)})

    def at(self, i: int) -> Layout:
        """One of them."""
        values = {f.name: int(getattr(self, f.name)[i]) for f in fields(self)}
        return Layout(**values | {"checkpoint": CHECKPOINTS[values["checkpoint"]],
                                  "sequence": bool(values["sequence"])})  # type: ignore[arg-type] # fmt: skip


def _number(x: Any) -> float:
    return float(CHECKPOINTS.index(x)) if isinstance(x, str) else float(x)


def divisors(n: int) -> list[int]:
    """Divisors of a number, in order."""
    return [d for d in range(1, n + 1) if n % d == 0] if n <= 4096 else _divisors(n)


def _divisors(n: int) -> list[int]:
    small = [d for d in range(1, int(n**0.5) + 1) if n % d == 0]
    return sorted({*small, *(n // d for d in small)})


def check(layout: Layout, parts: Parts, batch: int, per_node: int, trains: bool) -> None:
    """Raises where a model cannot be laid out so, with the nearest that can.

    Raises:
        InputError: heads, experts or the batch that do not divide, more stages than layers, or tensor
            parallelism beyond a node.
    """
    name = parts.name
    if parts.heads and parts.heads % layout.tensor:
        raise InputError(
            f"{parts.heads} heads of {name} do not divide over {layout.tensor} tensor-parallel devices",
            where="--tp", hint=f"nearest: {_nearest(layout.tensor, divisors(parts.heads))}",
        )  # fmt: skip
    kv = parts.kv_heads
    if kv and max(kv, layout.tensor) % min(kv, layout.tensor):
        legal = [d for d in divisors(parts.heads) if max(kv, d) % min(kv, d) == 0]
        raise InputError(
            f"{kv} key-value heads of {name} do not divide over {layout.tensor} tensor-parallel devices",
            where="--tp", hint=f"nearest: {_nearest(layout.tensor, legal)}",
        )  # fmt: skip
    if layout.pipeline * layout.chunks > parts.layers:
        what = f"{layout.pipeline} stages" + (f" of {layout.chunks} chunks" if layout.chunks > 1 else "")
        raise InputError(
            f"{what} are more than the {parts.layers} layers of {name}", where="--pp",
            hint=f"at most {parts.layers // layout.chunks} stages",
        )  # fmt: skip
    if layout.expert > 1 and (not parts.experts or parts.experts % layout.expert):
        told = f"{parts.experts} experts do" if parts.experts else "no experts to"
        raise InputError(
            f"{name} has {told} {'not ' if parts.experts else ''}divide over {layout.expert} devices",
            where="--ep",
            hint=f"nearest: {_nearest(layout.expert, divisors(parts.experts))}"
            if parts.experts
            else "--ep 1",
        )
    if layout.data % layout.expert:
        raise InputError(
            f"{layout.data} data-parallel devices do not divide into groups of {layout.expert} for experts",
            where="--ep", hint=f"nearest: {_nearest(layout.expert, divisors(layout.data))}",
        )  # fmt: skip
    _shareable(parts, layout.context)
    if parts.tokens % layout.context:
        raise InputError(
            f"{parts.tokens} tokens do not divide over {layout.context} devices", where="--cp",
            hint=f"nearest: {_nearest(layout.context, divisors(parts.tokens))}",
        )  # fmt: skip
    each = layout.data * layout.micro_batch
    if batch % each:
        legal = [d for d in divisors(batch) if d % layout.data == 0]
        hint = (
            f"nearest micro-batch: {_nearest(layout.micro_batch, [d // layout.data for d in legal])}"
            if legal
            else f"nearest batch: {max(1, round(batch / each)) * each}"
        )
        less = "is less than" if batch < each else "does not divide into"
        raise InputError(
            f"a batch of {batch} {less} {layout.data} data-parallel devices x {layout.micro_batch} sequences",
            where="--global-batch" if trains else "--batch", hint=hint,
        )  # fmt: skip


def _shareable(parts: Parts, context: int) -> None:
    if parts.sequential and context > 1:
        raise InputError(
            f"layers of {parts.name} pass along a sequence step by step; devices cannot share it",
            where="--cp", hint="--cp 1",
        )  # fmt: skip


def _nearest(wanted: int, legal: list[int]) -> int:
    return min(legal, key=lambda d: (abs(d - wanted), d))


def every_layout(
    parts: Parts, devices: int, batch: int, per_node: int, trains: bool, fixed: dict[str, Any] | None = None
) -> Layouts:
    """All legal layouts of a model over a number of devices.

    Tensor-parallel groups stay inside a node; micro-batches and chunks are powers of two; sequence
    parallelism goes with tensor parallelism; a sequence is shared in training by up to 16 devices, each with
    1,024 tokens or more. ZeRO beyond stage 1 is combined with no pipeline, as frameworks do.

    Args:
        fixed: fields that are given.
    """
    fixed = dict(fixed or {})
    _shareable(parts, fixed.get("context") or 1)
    kv = parts.kv_heads
    tensors = [d for d in divisors(devices) if d <= per_node and (not parts.heads or parts.heads % d == 0)]
    tensors = [d for d in tensors if not kv or max(kv, d) % min(kv, d) == 0]
    contexts = [1]
    if trains and not parts.sequential:
        contexts = [
            c for c in (1, 2, 4, 8, 16) if parts.tokens % c == 0 and (c == 1 or parts.tokens >= 1024 * c)
        ]
    rows: list[tuple[Any, ...]] = []
    for t in _given(fixed, "tensor", tensors):
        if devices % t:
            continue
        stages = [d for d in divisors(devices // t) if d <= parts.layers]
        for p in _given(fixed, "pipeline", stages):
            rest = devices // t // p
            for c in _given(fixed, "context", contexts):
                if t * p * rest != devices or rest % c or parts.tokens % c:
                    continue
                data = rest // c
                if "data" in fixed and fixed["data"] != data:
                    continue
                if batch % data:
                    continue
                experts = [e for e in divisors(data) if parts.experts and parts.experts % e == 0] or [1]
                each = batch // data
                micros = [1 << i for i in range(each.bit_length()) if each % (1 << i) == 0]
                if not trains:
                    micros = [each]
                chunks = [v for v in (1, 2, 4, 8) if v * p <= parts.layers] if trains and p > 1 else [1]
                zeros = ([0, 1] if p > 1 else [0, 1, 2, 3]) if trains and data * c > 1 else [0]
                checkpoints = CHECKPOINTS if trains else ("none",)
                if not parts.core:
                    checkpoints = tuple(x for x in checkpoints if x != "selective")
                for e, m, v, z, k in product(
                    _given(fixed, "expert", experts), _given(fixed, "micro_batch", micros),
                    _given(fixed, "chunks", chunks), _given(fixed, "zero", zeros),
                    _given(fixed, "checkpoint", checkpoints),
                ):  # fmt: skip
                    # interleaving needs the micro-batches to fill every stage
                    if each % m or (v > 1 and (each // m) % p) or v * p > parts.layers:
                        continue
                    rows.append(
                        (
                            t,
                            p,
                            data,
                            c,
                            e,
                            m,
                            z,
                            CHECKPOINTS.index(k),
                            v,
                            fixed.get("sequence", t > 1 and trains),
                        )
                    )
    columns = np.array(rows, float).reshape(-1, 10).T
    names = ("tensor", "pipeline", "data", "context", "expert", "micro_batch", "zero", "checkpoint", "chunks",
             "sequence")  # fmt: skip
    return Layouts(**dict(zip(names, columns, strict=True)))


def _given(fixed: dict[str, Any], name: str, options: Any) -> Any:
    return [fixed[name]] if fixed.get(name) is not None else options
