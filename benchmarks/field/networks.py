"""Whole networks from our own graphs against measured totals: transformers, requests, vision, boards, microcontrollers."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from devices import CATALOGUE, OUTSIDE
from profiles import _anchor, _curve, _errors, shipped
from read import table
from trial import Trial

import pharos
from pharos.graph.graph import Node
from pharos.graph.op import Op
from pharos.graph.workload import Workload
from pharos.machines import profile as profiles
from pharos.machines.machine import Known, Machine, Peak, find_machine
from pharos.machines.profile import Profile, profile_of
from pharos.ops.attention import Attention
from pharos.predict.estimate import Estimate, predict
from pharos.predict.kernels.base import Anchor
from pharos.quantity.evidence import spec


@dataclass(frozen=True, kw_only=True)
class Total:
    """A network that ran: measured seconds, ours with its 80% band, and others' on the same row."""

    source: str
    device: str
    what: str
    measured_s: float
    ours_s: float
    low_s: float
    high_s: float
    unseen_s: float | None = None
    others_s: dict[str, float] | None = None
    roofline_s: float | None = None


def machine_of(name: str) -> Machine:
    """A measured device as a machine, also those outside the catalogue."""
    if name not in OUTSIDE:
        return find_machine(CATALOGUE.get(name, name))
    found = OUTSIDE[name]
    base = find_machine("nvidia_t4")

    def known(value: float) -> Known:
        return Known(value=value, evidence=spec(found.source))

    peaks = {
        d: Peak(ops_per_s=known(v), unit="vector" if d == "fp32" else "matrix")
        for d, v in found.peaks.items()
    }
    if "bf16" in found.peaks:
        peaks["fp16"] = peaks["bf16"]
    return replace(base, id=name, name=name, peaks=peaks, vector_peaks={}, cores=known(found.units),
                   bandwidth_bytes_per_s=known(found.bytes_per_s), cache_bytes=known(found.cache_bytes))  # fmt: skip


def calibrated(name: str, trials: list[Trial]) -> Profile:
    """The prior of GPUs with the curves that were fitted on the device's own kernels in front."""
    return _in_front(
        name, [(t.case.cost_class, _curve(t, "")) for t in shipped(trials) if t.case.device == name]
    )


def unseen(name: str, groups: dict[Any, tuple[list[Trial], list[Anchor]]]) -> Profile:
    """The prior of GPUs without anything measured on the device."""
    curves = []
    for (kind, types, phase, narrow), (trials, known) in groups.items():
        others = [a for a in known if a.name != name]
        if others:
            entry = {"dtypes": list(types), "form": trials[0].case.form.name, "known": "fitted", "fitted_on": "other GPUs",
                     "anchors": [_anchor(a, kind) for a in others], **_errors({"all": 0.3})}  # fmt: skip
            entry |= {"phase": phase} if phase == "decode" else {}
            entry |= {"peak_dtype": "fp16"} if narrow else {}
            curves.append((kind, entry))
    return _in_front(name, curves)


def _in_front(name: str, curves: list[tuple[str, Any]]) -> Profile:
    base = profile_of(replace(find_machine("nvidia_l4"), id="none"))
    classes = {k: tuple(c for c in v if c.form is None) for k, v in base.classes.items()}
    for kind, entry in curves:
        classes[kind] = (profiles.read_curve(dict(entry), ""), *classes.get(kind, ()))
    return Profile(id=name, classes=classes, runtimes=base.runtimes, energy=None)


def _unfused(node: Node) -> Op | None:
    op = node.op
    return replace(op, algorithm="materialised") if isinstance(op, Attention) else None


# Models of NeuSight's runs as its traced shapes give them; their Hugging Face classes.
NEUSIGHT_MODELS: dict[str, dict[str, Any] | str] = {
    "bert_large": "bert-large",
    "gpt2_large": "gpt2-large",
    "gpt3_xl": {"model_type": "gpt2", "n_embd": 3072, "n_layer": 24, "n_head": 24, "n_positions": 2048, "vocab_size": 50257},
    "gpt3_27": {"model_type": "gpt2", "n_embd": 2560, "n_layer": 32, "n_head": 32, "n_positions": 2048, "vocab_size": 50257},
    "opt_13": "opt-1.3b",
}  # fmt: skip
# GPT's GELU by tanh is eight elementwise calls of the interpreter there, where our graph has one operator.
TANH_CALLS = 8


def neusight(folder: Path, trials: list[Trial], groups: dict[Any, Any]) -> Iterator[Total]:
    """Forward and training steps of transformers in FP32, eager; others' predictions stand in the same rows."""
    rows = table(folder, "neusight/end_to_end_fp32_measured_and_predicted.csv")
    if rows is None:
        return
    names = {"NVIDIA_A100-PCIE-40GB": "a100_40", "Tesla_V100-PCIE-32GB": "v100_pcie", "Tesla_P100-PCIE-16GB": "p100",
             "Tesla_T4": "t4", "Tesla_P4": "p4", "AMD_Instinct_MI100": "mi100", "NVIDIA_H100": "h100",
             "NVIDIA_H100_80GB_HBM3": "h100", "NVIDIA_L4": "nvidia_l4"}  # fmt: skip
    for i in range(len(rows)):
        model, option = str(rows["model_name"][i]), str(rows["option"][i])
        name = names.get(str(rows["device"][i]))
        if name is None or model not in NEUSIGHT_MODELS or option not in ("nan", "", "fusion"):
            continue
        batch, tokens, trains = int(rows["batch"][i]), int(rows["seqlen"][i]), rows["mode"][i] == "train"
        machine = machine_of(name)
        found = []
        for profile in (_served(name, trials, groups), unseen(name, groups)):
            found.append(
                _transformer(
                    model, batch, tokens, machine, profile, fused=option == "fusion", trains=bool(trains)
                )
            )
        others = {k: 1e-3 * float(rows[f"{k}_e2e_ms"][i]) for k in ("neusight", "habitat", "li_et_al", "roofline")
                  if np.isfinite(rows[f"{k}_e2e_ms"][i])}  # fmt: skip
        value, low, high = found[0]
        what = f"{model} {batch} x {tokens} {rows['mode'][i]}{' fused' if option == 'fusion' else ''}"
        yield Total(source="neusight", device=name, what=what, measured_s=1e-3 * float(rows["measured_e2e_ms"][i]), ours_s=value,
                    low_s=low, high_s=high, unseen_s=found[1][0], others_s=others)  # fmt: skip


def _transformer(
    model: str, batch: int, tokens: int, machine: Machine, profile: Profile, *, fused: bool, trains: bool
) -> tuple[float, float, float]:
    asked = Workload(batch=batch, context=tokens, precision="fp32")  # type: ignore[arg-type]
    given = NEUSIGHT_MODELS[model]
    if isinstance(given, dict):
        with tempfile.TemporaryDirectory() as at:
            path = Path(at) / "config.json"
            path.write_text(json.dumps(given), encoding="utf-8")
            graph = pharos.load(str(path)).graph(asked)
    else:
        graph = pharos.load(given).graph(asked)
    graph = graph.with_ops(_unfused)
    one = predict(graph, machine, asked, runtime="compiled" if fused else "eager", profile=profile)
    seconds = float(one.latency.value or np.nan)
    if not fused and model.startswith("gpt"):
        calls = [o for o in one.operations if o.kernel.lead.kind == "gelu"]
        seconds += sum(float(o.total_s or 0) * (TANH_CALLS - 1) for o in calls)
    if trains:
        seconds += _dropout(one) + _backward(one)
    spread = float(one.latency.high or np.nan) / float(one.latency.value or np.nan)
    return seconds, seconds / spread, seconds * spread


def _dropout(one: Estimate) -> float:
    """A training step drops scores and two results a layer: read, written, and a byte of mask an element."""
    moved = 0.0
    for o in one.operations:
        if o.kernel.lead.kind == "attention":
            q, k = o.kernel.lead.node.ins[:2]
            scores = q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2]
            moved += 9.0 * (scores + 2 * q.numel) * float(o.kernel.times)
    return 2 * moved / (0.85 * float(one.machine.bandwidth_bytes_per_s.value or np.nan))


def _backward(one: Estimate) -> float:
    """A product has two in its backward pass, each as long; what is bound by memory moves twice the bytes."""
    return sum(2.0 * float(o.total_s or 0) for o in one.operations if o.kernel.lead.cost_class != "gather")


# Requests of PipeWeave's table that one card serves; the lengths of the prompts are not told.
REQUESTS = {"Qwen2.5-14B": "qwen2.5-14b"}
SERVED = {"A100": "a100", "A40": "a40", "H20": "h20", "H800": "h800", "RTX_A6000": "a6000", "H100": "h100", "H200": "h200",
          "L40": "l40"}  # fmt: skip


def requests(folder: Path, trials: list[Trial], groups: dict[Any, Any]) -> Iterator[Total]:
    """Requests on one card: prefill of all prompts, then decode steps.

    The A100's row of a workload gives the length of the prompts (that at which our prefill takes what was measured)
    and the number of steps; it is not counted. Other cards are then predicted.
    """
    rows = table(folder, "pipeweave/llm_end_to_end_11_gpus_measured_and_predicted.csv")
    if rows is None:
        return
    one = rows.where((rows["TP"] == 1) & (rows["PP"] == 1))
    made: dict[str, Profile] = {}
    for workload in sorted(set(map(str, one["Workload"]))):
        here = one.where((one["Workload"] == workload) & np.isin(one["Model"], list(REQUESTS)))
        reference = here.where((here["Hardware"] == "A100") & (here["method"] == "pipeweave"))
        if not len(here) or not len(reference):
            continue
        model, batch = REQUESTS[str(reference["Model"][0])], int(workload.rsplit("_", 1)[1])
        made.setdefault("a100", calibrated("a100", trials))
        machine = machine_of("a100")
        wanted = 1e-3 * float(reference["real_prefill_ms"][0])
        low, high = 16, 65536
        while high - low > 8:
            middle = (low + high) // 2
            if _step(model, batch, middle, "prefill", machine, made["a100"]).latency.value > wanted:
                high = middle
            else:
                low = middle
        steps = (reference["real_total_ms"][0] - reference["real_prefill_ms"][0]) / reference[
            "real_decode_ms"
        ][0]
        for hardware in sorted(set(map(str, here["Hardware"]))):
            name = SERVED.get(hardware)
            if hardware == "A100" or name is None or (name not in OUTSIDE and name not in CATALOGUE):
                continue
            profile = made.setdefault(name, _served(name, trials, groups))
            card = here.where(here["Hardware"] == hardware)
            machine = machine_of(name)
            first, then = (_step(model, batch, low, p, machine, profile) for p in ("prefill", "decode"))
            parts = [(first, 1.0), (then, float(steps))]
            value, bottom, top = (
                sum(float(getattr(e.latency, k)) * n for e, n in parts) for k in ("value", "low", "high")
            )
            others = {
                str(card["method"][i]): 1e-3 * float(card["pred_total_ms"][i]) for i in range(len(card))
            }
            yield Total(source="pipeweave", device=name, what=f"{model} {workload}",
                        measured_s=1e-3 * float(card["real_total_ms"][0]), ours_s=value, low_s=bottom, high_s=top,
                        others_s=others)  # fmt: skip


def _served(name: str, trials: list[Trial], groups: dict[Any, Any]) -> Profile:
    """What was fitted on the card's own kernels, before what other cards tell."""
    own, others = calibrated("h100" if name == "h800" else name, trials), unseen(name, groups)
    classes = {
        k: (*(c for c in own.classes.get(k, ()) if c.form), *others.classes.get(k, ()))
        for k in others.classes
    }
    return Profile(id=name, classes=classes, runtimes=own.runtimes, energy=None)


def _step(model: str, batch: int, tokens: int, phase: str, machine: Machine, profile: Profile) -> Any:
    asked = Workload(batch=batch, context=tokens, precision="bf16", phase=phase)  # type: ignore[arg-type]
    return predict(pharos.load(model).graph(asked), machine, asked, runtime="compiled", profile=profile)
