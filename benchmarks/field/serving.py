"""Serving engines under load against the simulation of their batching: throughput, time to a token, time between tokens.

`python benchmarks/field/serving.py [--data FOLDER] [--facts]` prints the section of docs/accuracy.md; --facts writes the
host times that were fitted into src/pharos/facts/stacks.yaml.
"""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from page import percent
from read import COUNTED_FROM, Table, table

from pharos.convert.load import load
from pharos.machines.machine import find_machine
from pharos.measure.fit import bucket
from pharos.plan.batching import simulate
from pharos.plan.capacity import capacity, pool_of
from pharos.plan.deployment import Deployment
from pharos.plan.steps import Steps
from pharos.plan.traces import Trace
from pharos.quantity.dtypes import Precision
from pharos.quantity.errors import PharosError

ROOT = Path(__file__).parents[2]
# Names of the rows in the catalogue; a model that is not there is not told.
MODELS = {
    "Qwen/Qwen3-32B": "qwen3-32b", "Qwen/Qwen3-235B-A22B-FP8": "qwen3-235b-a22b", "openai/gpt-oss-120b": "gpt-oss-120b",
    "meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b", "meta-llama/Llama-3.1-70B": "llama-3.1-70b",
    "llama2-70b": "llama-2-70b", "bloom-176b": "bloom-176b",
}  # fmt: skip
PRECISIONS = {
    "": Precision.of("bf16"),
    "fp16": Precision.of("fp16"),
    "fp8": Precision.of("fp8"),
    "fp4": Precision.of("weights=fp4,activations=bf16"),
}
# Requests of a closed loop: the first round, which finds an empty device, and those that are counted.
ROUNDS = 4
# Sequences in flight at most: vLLM's default; the others are told the number of users.
SEQUENCES = {"vllm": 256}
MOST = 512
# Stacks that do not mix prompts and decoding in a step unless told to.
APART = ("sglang",)
# Aims: mean error of serving throughput.
AIM = 0.15


@dataclass(frozen=True, kw_only=True)
class Served:
    """A row: what was measured, and what kernels and all-reduces alone give, without host time.

    Args:
        concurrency: sequences in flight.
        prompts_a_step: prompts that go in beside a token, on average; prompts_first: with the request's own.
        ttft_s, tpot_s: measured; kernels_ttft_s, kernels_tpot_s: ours without host time.
        fits_on: whether host times may be fitted on it.
    """

    stack: str
    what: str
    group: str
    concurrency: int
    output: int
    devices: int
    ttft_s: float
    tpot_s: float
    kernels_ttft_s: float
    kernels_tpot_s: float
    fits_on: bool
    prompts_a_step: float
    prompts_first: int = 1

    def latency_s(self, ttft: float, tpot: float) -> float:
        """Seconds of an answer."""
        return ttft + (self.output - 1) * tpot


@dataclass(frozen=True)
class Host:
    """Host times: of a step, of a sequence and of a prompt in it, of a request."""

    step_s: float = 0.0
    sequence_s: float = 0.0
    prompt_s: float = 0.0
    request_s: float = 0.0

    def tpot(self, row: Served) -> float:
        """Seconds between tokens."""
        return (
            row.kernels_tpot_s
            + self.step_s
            + self.sequence_s * row.concurrency
            + self.prompt_s * row.prompts_a_step
        )

    def ttft(self, row: Served) -> float:
        """Seconds to the first token."""
        host = self.step_s + self.sequence_s * row.concurrency + self.prompt_s * row.prompts_first
        return row.kernels_ttft_s + host + self.request_s


@cache
def _steps(
    model: str,
    machine: str,
    devices: int,
    precision: str,
    longest: int,
    sequences: int = MOST,
    mixed: bool = True,
) -> tuple[Steps, Deployment]:
    made = Deployment(
        model=load(MODELS[model]), machine=find_machine(machine), devices=devices, precision=PRECISIONS[precision],
        sequences=sequences, chunked=mixed,
    )  # fmt: skip
    return Steps(made, longest), made


def aggregated(folder: Path) -> list[Served]:
    """Engines at a constant number of users: each row a closed loop, simulated."""
    rows = table(folder, "aiconfigurator/llm_end_to_end_aggregated_serving.csv")
    found: list[Served] = []
    if rows is None:
        return found
    for i in range(len(rows)):
        row = {k: rows[k][i] for k in rows}
        if (
            str(row["model_path"]) not in MODELS
            or str(row["system"]) != "h100_sxm"
            or float(row["pp_size"]) != 1
        ):
            continue
        if float(row["attention_dp_size"]) > 1 or str(row["mode"]) != "agg":
            continue
        one = _closed_loop(row)
        if one is not None:
            found.append(one)
    return found


def _text(value: Any) -> str:
    return "" if str(value) == "nan" else str(value)


def _closed_loop(row: dict[str, Any]) -> Served | None:
    isl, osl, users, tp = (int(row[k]) for k in ("isl", "osl", "batch_size", "tp_size"))
    model, precision = str(row["model_path"]), _text(row["precision"])
    try:
        steps, made = _steps(model, "h100-sxm", tp, precision, 16384, SEQUENCES.get(str(row["backend"]), MOST),
                             str(row["backend"]) not in APART)  # fmt: skip
        room = capacity(made, context=isl + osl)
        pool = pool_of(made, room, isl + osl)
    except PharosError as error:
        print(f"{model} {tp} {precision}: {error}", file=sys.stderr)
        return None
    if pool.blocks * pool.tokens < isl + osl:
        return None
    n = users * ROUNDS
    trace = Trace(np.zeros(n), np.full(n, isl), np.full(n, osl))
    run = simulate(steps, pool, trace, concurrency=users)
    later = slice(users, None)
    shape = bucket(*(np.array([float(v)]) for v in (isl, osl, users, tp)))[0]
    return Served(
        stack=str(row["backend"]), what=f"{MODELS[model]} {precision or 'bf16'} x{tp}, {users} users, {isl} in, {osl} out",
        group=f"{row['backend']}, {MODELS[model]} {precision or 'bf16'}", concurrency=users, output=osl, devices=tp,
        ttft_s=1e-3 * float(row["silicon_ttft_ms"]), tpot_s=1e-3 * float(row["silicon_tpot_ms"]),
        kernels_ttft_s=float(run.of("ttft")[later].mean()), kernels_tpot_s=float(run.of("tpot")[later].mean()),
        fits_on=bool(shape < COUNTED_FROM), prompts_a_step=users / osl,
    )  # fmt: skip


def splitwise(folder: Path) -> list[Served]:
    """A batch of prompts taken in at once, then decoded together; runs of one setting are one row, their median."""
    rows = table(folder, "splitwise_sim/llm_prompt_token_latency_power.csv")
    found: list[Served] = []
    if rows is None:
        return found
    keys = ("model", "tensor_parallel", "prompt_size", "batch_size", "token_size")
    settings = sorted(
        {
            tuple(_text(rows[k][i]) for k in keys)
            for i in range(len(rows))
            if rows["hardware"][i] == "a100-80gb"
        }
    )
    for setting in settings:
        which = np.array([tuple(_text(rows[k][i]) for k in keys) == setting for i in range(len(rows))])
        those: Table = rows.where(which)
        model, (tp, prompt, batch, out) = setting[0], (int(float(x)) for x in setting[1:])
        steps, _ = _steps(model, "a100-sxm-80gb", tp, "fp16", 16384)
        first = 0.0
        left = [prompt] * batch
        # prompts go in whole, as many as a step takes
        while left:
            most = max(steps.deployment.chunk // prompt, 1)
            first += steps.mixed([(prompt, 0)] * len(left[:most]), len(left[:most]), 0, 0.0)
            left = left[most:]
        shape = bucket(*(np.array([float(v)]) for v in (prompt, out, batch, tp)))[0]
        found.append(
            Served(stack="splitwise", what=f"{MODELS[model]} fp16 x{tp}, {batch} x {prompt} in, {out} out",
                   group=f"splitwise, {MODELS[model]} fp16", concurrency=batch, output=out, devices=tp,
                   ttft_s=1e-3 * float(np.median(those["prompt_time"])), tpot_s=1e-3 * float(np.median(those["token_time"])),
                   kernels_ttft_s=first, kernels_tpot_s=steps.decoding(batch, prompt + out / 2),
                   fits_on=bool(shape < COUNTED_FROM), prompts_a_step=0.0, prompts_first=batch)
        )  # fmt: skip
    return found


@dataclass(frozen=True)
class Decoded:
    """A decode step on several cards: measured, ours, others' predictions."""

    what: str
    measured_s: float
    ours_s: float
    others_s: dict[str, float]


# PipeWeave's cards and models that several cards serve.
CARDS = {"A100": "a100-sxm-80gb", "H800": "h100-sxm"}
SHARDED = {"Llama-3.1-70B": "meta-llama/Llama-3.1-70B", "Qwen3-32B": "Qwen/Qwen3-32B"}


def sharded(folder: Path) -> list[Decoded]:
    """Decode steps of PipeWeave's requests on several cards, with a server's 16-bit weights and no host time.

    The lengths of the prompts are not told: taken is the one at which our prefill takes what was measured, so that only
    the decode step is a prediction.
    """
    rows = table(folder, "pipeweave/llm_end_to_end_11_gpus_measured_and_predicted.csv")
    found: list[Decoded] = []
    if rows is None:
        return found
    for i in np.flatnonzero((rows["TP"] > 1) & (rows["method"] == "pipeweave")):
        card, model, workload = (str(rows[k][i]) for k in ("Hardware", "Model", "Workload"))
        if card not in CARDS or model not in SHARDED:
            continue
        devices, batch = int(rows["TP"][i]), int(workload.rsplit("_", 1)[1])
        steps, _ = _steps(SHARDED[model], CARDS[card], devices, "", 65536)
        low, high = 16, 65536
        while high - low > 8:
            middle = (low + high) // 2
            if batch * steps.prompt_s(middle) > 1e-3 * float(rows["real_prefill_ms"][i]):
                high = middle
            else:
                low = middle
        same = (
            (rows["Hardware"] == card)
            & (rows["Model"] == model)
            & (rows["Workload"] == workload)
            & (rows["TP"] == devices)
        )
        others = {
            str(rows["method"][j]): 1e-3 * float(rows["pred_decode_ms"][j]) for j in np.flatnonzero(same)
        }
        answer = float(rows["real_total_ms"][i] - rows["real_prefill_ms"][i]) / float(
            rows["real_decode_ms"][i]
        )
        found.append(
            Decoded(f"{model} on {card} x{devices}, {workload}", 1e-3 * float(rows["real_decode_ms"][i]),
                    steps.decoding(batch, low + answer / 2), others)
        )  # fmt: skip
    return found


def fitted(rows: list[Served]) -> Host:
    """Host times with the least mean error of tokens and, a tenth of it, first tokens; by narrowing a grid."""
    kernel = np.array([r.kernels_tpot_s for r in rows])
    users = np.array([float(r.concurrency) for r in rows])
    tpot, ttft = np.array([r.tpot_s for r in rows]), np.array([r.ttft_s for r in rows])
    first = np.array([r.kernels_ttft_s for r in rows])
    ins = np.array([r.prompts_a_step for r in rows])
    beside = np.array([float(r.prompts_first) for r in rows])
    columns = np.stack([np.ones(len(rows)), users, ins])
    found, wide = np.array([4e-3, 4e-5, 1e-2]), np.array([8e-3, 8e-5, 2e-2])
    for _ in range(14):
        axes = [np.clip(v + w * np.linspace(-0.5, 0.5, 9), 0, None) for v, w in zip(found, wide, strict=True)]
        tried = np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], 1)
        off = _off(kernel + tried @ columns, tpot) + 0.1 * _off(
            first + tried @ np.stack([columns[0], users, beside]), ttft
        )
        found, wide = tried[int(np.argmin(off))], wide * 0.7
    asks = np.linspace(0, 0.5, 501)
    off = _off((first + found @ np.stack([columns[0], users, beside]))[None] + asks[:, None], ttft)
    return Host(*map(float, found), float(asks[int(np.argmin(off))]))


def _off(ours: Any, theirs: Any) -> Any:
    """Mean |log| of the ratio, along the last axis: too long and too short by a factor cost the same."""
    return np.abs(np.log(ours / theirs)).mean(-1)


def errors(rows: list[Served], host: Host) -> dict[str, float]:
    """Mean and median error of throughput, of time between tokens and to the first one."""

    def off(ours: Callable[[Served], float], theirs: Callable[[Served], float]) -> Any:
        return np.array([abs(ours(r) / theirs(r) - 1) for r in rows])

    rate = off(lambda r: r.latency_s(r.ttft_s, r.tpot_s), lambda r: r.latency_s(host.ttft(r), host.tpot(r)))
    tpot, ttft = off(host.tpot, lambda r: r.tpot_s), off(host.ttft, lambda r: r.ttft_s)
    return {"rows": float(len(rows)), "rate": float(rate.mean()), "rate_median": float(np.median(rate)),
            "tpot": float(tpot.mean()), "tpot_median": float(np.median(tpot)), "ttft": float(ttft.mean()),
            "ttft_median": float(np.median(ttft))}  # fmt: skip


@dataclass(frozen=True)
class Trials:
    """Rows, and host times by stack."""

    rows: list[Served]
    hosts: dict[str, Host]
    decoded: list[Decoded]

    def counted(self, keep: Callable[[Served], bool] = lambda r: True) -> list[Served]:
        """Rows that no host time was fitted on."""
        return [r for r in self.rows if not r.fits_on and keep(r)]


def trials(folder: Path) -> Trials:
    """Every row, and host times fitted on the half that may be."""
    rows = aggregated(folder) + splitwise(folder)
    hosts = {}
    for stack in sorted({r.stack for r in rows}):
        hosts[stack] = fitted([r for r in rows if r.stack == stack and r.fits_on])
    return Trials(rows, hosts, sharded(folder))


def _pair(found: dict[str, float], key: str) -> str:
    return f"{100 * found[key]:.1f} / {100 * found[key + '_median']:.1f}"


def section(found: Trials) -> str:
    """The section of docs/accuracy.md."""
    lines = [
        "## Language models as served",
        "",
        "Answers of engines under a constant number of users (AIConfigurator's dumps of benchmark campaigns, H100 SXM) and of "
        "batches that go in together (splitwise-sim, A100 80 GB), beside the simulation of their batching with the kernels' "
        "times. Host times of a step, of a sequence and a prompt in it and of a request are fitted by stack on the lower half of the hash of "
        "(prompt, answer, users, devices); errors are of the upper half, mean / median. *Kernels alone* adds no host time: "
        "nothing of these runs was seen. Throughput is users x answer / (first token + further tokens). Rows of models outside "
        "the catalogue are not told. How engines behave (products of one input joined, SGLang keeping prompts and decoding apart, 256 sequences of vLLM) was set after looking at all rows.",
        "",
        "| stack, model | counted | throughput | token to token | first token | kernels alone: throughput | token to token | first |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups = sorted({r.group for r in found.rows})
    for name in [*groups, "all"]:
        rows = found.counted(lambda r, n=name: n in (r.group, "all"))
        if not rows:
            continue
        by_host = [_one(r, found.hosts[r.stack]) for r in rows]
        ours, bare = _mean(by_host), errors(rows, Host())
        lines.append(
            f"| {name} | {len(rows)} | **{_pair(ours, 'rate')}** | {_pair(ours, 'tpot')} | {_pair(ours, 'ttft')} | "
            f"{_pair(bare, 'rate')} | {_pair(bare, 'tpot')} | {_pair(bare, 'ttft')} |"
        )
    lines += [
        "",
        "| stack | a step | a sequence, a step | a prompt, a step | a request | fitted on |",
        "|---|---|---|---|---|---|",
    ]
    for stack, host in found.hosts.items():
        n = sum(r.stack == stack and r.fits_on for r in found.rows)
        lines.append(
            f"| {stack} | {1e3 * host.step_s:.2f} ms | {1e6 * host.sequence_s:.1f} µs | {1e3 * host.prompt_s:.1f} ms | {1e3 * host.request_s:.0f} ms | {n} |"
        )
    ours = _mean([_one(r, found.hosts[r.stack]) for r in found.counted()])
    verdict = "met" if ours["rate"] <= AIM else "missed"
    lines += [
        "",
        f"Aim, mean error of throughput: {percent(AIM, 0)}; reached {percent(ours['rate'])}, {verdict}.",
    ]
    lines += ["", "Worst counted rows:", ""]
    worst = sorted(found.counted(), key=lambda r: -_one(r, found.hosts[r.stack])["rate"])[:6]
    for r in worst:
        host = found.hosts[r.stack]
        lines.append(
            f"- {r.stack}: {r.what}: first {r.ttft_s:.3g} s, ours {host.ttft(r):.3g} s; each {1e3 * r.tpot_s:.3g} ms, "
            f"ours {1e3 * host.tpot(r):.3g} ms"
        )
    if found.decoded:
        lines += ["", "Decode steps of PipeWeave's requests on several cards; nothing of them was fitted, but the length of the "
                  "prompts, which is not told, is the one at which our prefill takes what was measured:", ""]  # fmt: skip
        names = ("pipeweave", "neusight", "habitat", "linear", "roofline")
        lines += [
            f"| request | measured | ours | error | {' | '.join(names)} |",
            "|---|---|---|---|" + "---|" * len(names),
        ]
        for d in found.decoded:
            theirs = " | ".join(f"{100 * (d.others_s[n] / d.measured_s - 1):+.1f}%" for n in names)
            lines.append(
                f"| {d.what} | {1e3 * d.measured_s:.4g} ms | {1e3 * d.ours_s:.4g} ms | {100 * (d.ours_s / d.measured_s - 1):+.1f}% | {theirs} |"
            )
        off = [
            np.mean([abs(v / d.measured_s - 1) for d, v in ((d, d.others_s[n]) for d in found.decoded)])
            for n in names
        ]
        ours = float(np.mean([abs(d.ours_s / d.measured_s - 1) for d in found.decoded]))
        lines.append(f"| mean error | | | {percent(ours)} | {' | '.join(percent(float(x)) for x in off)} |")
    return "\n".join(lines) + "\n"


def _one(row: Served, host: Host) -> dict[str, float]:
    return errors([row], host)


def _mean(found: list[dict[str, float]]) -> dict[str, float]:
    made = {}
    for key in ("rate", "tpot", "ttft"):
        values = np.array([f[key] for f in found])
        made |= {key: float(values.mean()), f"{key}_median": float(np.median(values))}
    return made


def write_facts(found: Trials) -> None:
    """Host times with their rows and errors, for `pharos serve --stack`."""
    sources = {"splitwise": "splitwise-sim, MIT, snapshot of 2024-04-25, A100 80 GB"}
    lines = [
        "# Serving stacks: host time that a server adds to the kernels of its steps, with source, rows and error.",
        "# error: of the time between tokens, mean over rows that no fit saw.",
        "stacks:",
    ]
    for stack, host in found.hosts.items():
        rows = [r for r in found.rows if r.stack == stack and r.fits_on]
        off = errors(found.counted(lambda r, s=stack: r.stack == s), host)
        source = sources.get(stack, "ai-dynamo/aiconfigurator, Apache-2.0, snapshot of 2026-08-21, H100 SXM")
        lines.append(
            f"  {stack}: {{step_s: {host.step_s:.3g}, sequence_s: {host.sequence_s:.3g}, prompt_s: {host.prompt_s:.3g}, request_s: {host.request_s:.3g}, "
            f"mixes: {str(stack not in APART).lower()}, known: fitted, rows: {len(rows)}, error: {off['tpot']:.2f}, source: '{source}'}}"
        )
    (ROOT / "src/pharos/facts/stacks.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> int:
    """Prints the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(os.environ.get("PHAROS_FIELD", ROOT / "../shared/field"))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--facts", action="store_true", help="write the fitted host times")
    asked = parser.parse_args()
    found = trials(asked.data)
    print(section(found))
    if asked.facts:
        write_facts(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
