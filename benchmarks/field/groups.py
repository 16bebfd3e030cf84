"""Which cases tell about a device nobody measured: by class, types and phase, one library where they differ."""

from typing import Any

from kernels import Case
from profiles import curve_key
from trial import Trial, anchors, without_device

from pharos.predict.kernels.base import Anchor


def _tells(case: Case) -> bool:
    if case.source in ("deepbench", "llmcompass"):
        return False
    if case.cost_class == "attention":
        return "vllm" in case.stack
    if case.dtype == "fp8":
        return case.source == "pipeweave"
    return case.ships


def grouped(trials: list[Trial]) -> tuple[list[Trial], dict[Any, tuple[list[Trial], list[Anchor]]]]:
    """Trials with the error of a device left out, and by curve: the trials that tell, and the devices' constants."""
    known: dict[Any, list[Anchor]] = {}
    for key in dict.fromkeys(curve_key(t.case) for t in trials):
        telling = [t.case for t in trials if curve_key(t.case) == key and _tells(t.case)]
        if telling:
            known[key] = anchors(telling)
    seen: list[Trial] = []
    for one in trials:
        seen += without_device([one], known.get(curve_key(one.case), []))
    groups = {
        k: ([t for t in seen if curve_key(t.case) == k and _tells(t.case)], v) for k, v in known.items()
    }
    return seen, groups
