"""Workload: what is asked of a model at once: phase, batch, context, precision."""

from dataclasses import dataclass, field, replace
from typing import Any

from pharos.quantity.dtypes import Precision
from pharos.quantity.errors import unknown
from pharos.quantity.sizes import Size, size

# forward: every output, as training or scoring does. prefill: the prompt goes in, its keys and
# values are kept, only the last position is scored. decode: one token a sequence against the cache.
PHASES = ("forward", "prefill", "decode")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One step of work.

    Args:
        phase: "forward", "prefill" or "decode".
        batch: samples, or sequences in flight.
        context: tokens per sequence that the step attends over; at decode the newest included.
            None means the model's own default.
        precision: element types.
    """

    phase: str = "forward"
    batch: Size = 1
    context: Size | None = None
    precision: Precision = field(default_factory=Precision)

    def __post_init__(self) -> None:
        if self.phase not in PHASES:
            raise unknown("phase", str(self.phase), PHASES)
        object.__setattr__(self, "batch", size(self.batch, "batch"))
        if self.context is not None:
            object.__setattr__(self, "context", size(self.context, "context"))
        object.__setattr__(self, "precision", Precision.of(self.precision))

    def but(self, **changes: Any) -> "Workload":
        """The same workload with some fields changed."""
        return replace(self, **changes)
