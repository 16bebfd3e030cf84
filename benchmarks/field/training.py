"""Training steps in the field: vTrain's iterations on A100s; a training stack's constants fitted on few, counted on the rest."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from collectives import _flow
from read import table
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from trial import Errors

from pharos.graph.workload import Workload
from pharos.machines.machine import find_machine
from pharos.measure.fit import bucket, conformal, descend
from pharos.models.registry import Model
from pharos.models.transformer import Decoder, decoder
from pharos.plan.layout import CHECKPOINTS, Layouts
from pharos.plan.parts import read_parts
from pharos.plan.step import Stack, steps
from pharos.plan.topology import find_link, topology_of
from pharos.quantity.evidence import Z80

# Rows that the constants may be fitted on: a few for each shape of network.
SINGLE, MULTI = 200, 54
# Megatron pads GPT-2's vocabulary to it.
VOCABULARY = 51200
NAMES = ("slow", "layer_us", "reduce", "sync", "pass_on", "update", "step_us")
START = {
    "slow": 1.1,
    "layer_us": 100.0,
    "reduce": 1.0,
    "sync": 1.0,
    "pass_on": 1.0,
    "update": 1.5,
    "step_us": 3000.0,
}
LOOSE = {
    "slow": 0.3,
    "layer_us": 1.0,
    "reduce": 0.5,
    "sync": 0.5,
    "pass_on": 1.0,
    "update": 0.7,
    "step_us": 1.0,
}


@dataclass(kw_only=True)
class Runs:
    """Iterations of one shape of network: seconds, and what each constant of a stack contributes to them.

    Args:
        basis: [rows, constants]: seconds of a step are basis @ constants.
    """

    label: str
    place: Any
    seconds: Any
    basis: Any
    what: list[str]


def runs(folder: Path, name: str, checkpoint: str) -> list[Runs]:
    """Every row of a file, by shape of network."""
    rows = table(folder, f"vtrain/a100_llm_training_iteration_{name}.csv")
    if rows is None:
        return []
    shape = ("hidden size", "attention heads", "layers", "sequence length")
    found = []
    for one in sorted({tuple(r) for r in zip(*(rows[c] for c in shape), strict=True)}):
        at = np.all([rows[c] == v for c, v in zip(shape, one, strict=True)], axis=0)
        found.append(_runs(rows.where(at), *map(int, one), name, checkpoint))
    return found


def _model(hidden: int, heads: int, layers: int, tokens: int) -> Model:
    sizes = Decoder(
        layers=layers, hidden_size=hidden, heads=heads, kv_heads=heads, head_dim=hidden // heads, ffn_size=4 * hidden,
        vocabulary=VOCABULARY, max_context=tokens, gated=False, activation="gelu", norm="layer", position="learned",
        attention_bias="qkvo", mlp_bias=True, tied=True,
    )  # fmt: skip
    label = f"GPT of {layers} layers, width {hidden}"
    return Model(name=label, family="transformer", build=lambda work: decoder(label, work, sizes))


def _runs(rows: Any, hidden: int, heads: int, layers: int, tokens: int, name: str, checkpoint: str) -> Runs:
    model = _model(hidden, heads, layers, tokens)
    work = Workload(context=tokens, precision="fp16")
    parts = read_parts(model, work, "materialised")
    machine = find_machine("a100-sxm-80gb")
    columns = {"tensor": rows["tensor parallelism"], "pipeline": rows["pipeline parallelism"],
               "data": rows["data parallelism"], "micro_batch": rows["micro batch"]}  # fmt: skip
    one = np.ones(len(rows))
    lay = Layouts(context=one, expert=one, zero=0 * one, checkpoint=one * CHECKPOINTS.index(checkpoint), chunks=one,
                  sequence=0 * one, **columns)  # fmt: skip
    basis = np.zeros((len(rows), len(NAMES)))
    nothing = Stack(slow=0.0, layer_us=0.0, reduce=0.0, sync=0.0, pass_on=0.0, update=0.0, step_us=0.0)
    # four adapters of 200 Gb/s for eight devices
    link = replace(find_link("infiniband-hdr"), bytes_per_s=12.5e9)
    for devices in np.unique(rows["GPUs"]):
        for batch in np.unique(rows["global batch"]):
            at = (rows["GPUs"] == devices) & (rows["global batch"] == batch)
            if not at.any():
                continue
            topology = replace(topology_of(machine, int(devices), 8), across=link)
            for i, constant in enumerate(NAMES):
                made = steps(parts, machine, topology, lay.pick(at), int(batch), work.precision, overlap=0.0,
                             stack=replace(nothing, **{constant: 1.0}))  # fmt: skip
                basis[at, i] = made.seconds
    what = [f"{layers} layers, width {hidden}, {t:g} tensor x {d:g} data x {p:g} pipeline, batch {b:g}/{m:g}"
            for t, d, p, b, m in zip(columns["tensor"], columns["data"], columns["pipeline"], rows["global batch"],
                                     columns["micro_batch"], strict=True)]  # fmt: skip
    place = bucket(hidden * one, layers * one, rows["GPUs"], rows["global batch"], *columns.values())
    return Runs(
        label=model.name, place=place, seconds=1e-3 * rows["iteration time (ms)"], basis=basis, what=what
    )


def fit(found: list[Runs], budget: int, start: dict[str, float], stiff: float = 1.0) -> dict[str, float]:
    """Constants on at most `budget` rows of the lower halves, the same number of each network."""
    each = max(budget // max(len(found), 1), 1)
    basis, target = [], []
    for one in found:
        order = np.argsort(one.place, kind="stable")
        pool = order[one.place[order] < 500][:each]
        basis.append(one.basis[pool])
        target.append(np.log(one.seconds[pool]))
    a, y = np.concatenate(basis), np.concatenate(target)
    begun = np.log([start[n] for n in NAMES])
    pull = stiff * 0.02 / np.array([LOOSE[n] for n in NAMES]) ** 2
    x, _ = descend(
        lambda x: np.log(a @ np.exp(x)) - y, begun, pull, np.full(len(NAMES), np.inf), np.ones(len(y))
    )
    return dict(zip(NAMES, map(float, np.exp(x)), strict=True))


def ours(one: Runs, constants: dict[str, float]) -> Any:
    """Seconds of every row."""
    return one.basis @ np.array([constants[n] for n in NAMES])


@dataclass(kw_only=True)
class Result:
    """What was found for a file: errors on rows that no fit saw, and on networks left out whole."""

    name: str
    checkpoint: str
    constants: dict[str, float]
    fitted: int
    counted: Errors
    unseen: Errors
    bare: Errors
    error: float
    unseen_error: float
    covered: float
    worst: list[str]


def trial(
    name: str, found: list[Runs], budget: int, start: dict[str, float], checkpoint: str, stiff: float
) -> Result:
    """Fits and counts."""
    constants = fit(found, budget, start, stiff)
    pairs = [(ours(r, constants)[r.place >= 500], r.seconds[r.place >= 500]) for r in found]
    said, seen = (np.concatenate(c) for c in zip(*pairs, strict=True))
    left = []
    for one in found:
        other = fit([r for r in found if r is not one], budget, start, stiff)
        left.append((ours(one, other), one.seconds))
    unseen, truth = (np.concatenate(c) for c in zip(*left, strict=True))
    plain = {n: float(n not in ("layer_us", "step_us")) for n in NAMES}
    bare = np.concatenate([ours(r, plain)[r.place >= 500] for r in found])
    what = [w for r in found for w, p in zip(r.what, r.place, strict=True) if p >= 500]
    off = np.log(seen / said)
    order = np.argsort(-np.abs(off))[:4]
    error = conformal(off)
    half = np.arange(len(off)) % 2 == 0
    covered = float(np.mean(np.abs(off[~half]) <= Z80 * conformal(off[half])))
    each = max(budget // len(found), 1)
    return Result(
        name=name, checkpoint=checkpoint, constants=constants,
        fitted=sum(min(int((r.place < 500).sum()), each) for r in found), counted=Errors.of(said, seen),
        unseen=Errors.of(unseen, truth), bare=Errors.of(bare, seen), error=error,
        unseen_error=conformal(np.log(truth / unseen)), covered=covered,
        worst=[f"{what[i]}: {seen[i]:.4g} s, predicted {said[i]:.4g}" for i in order],
    )  # fmt: skip


def results(folder: Path) -> Iterator[Result]:
    """One node, where small networks wait for the host, and several; each has constants of its own."""
    for name, budget, checkpoint, stiff in (
        ("single_node", SINGLE, "none", 1.0),
        ("multi_node", MULTI, "full", 1.0),
    ):
        found = runs(folder, name, checkpoint)
        if found:
            yield trial(name, found, budget, START, checkpoint, stiff)


def aims(found: list[Result]) -> str:
    """Rows of the table of aims."""
    return "".join(
        f"| training steps, {r.name.replace('_', ' ')}, {r.counted.count} rows | 12% | {r.counted.mean:.1%} | "
        f"{'met' if r.counted.mean <= 0.12 else 'missed'} |\n"
        for r in found
    )


NOTE = """GPT networks built as our own decoders with stored attention scores, costed kernel by kernel, collective by collective and byte
by byte; seven constants (kernels, host, three kinds of traffic, update, step) are fitted on at most 200 rows of one node and 54 of
several, of the lower half of a hash of the layout, and the upper half is counted. "Networks left out whole" are predicted from the
constants of the other networks. Whether layers run again is not told: one node fits alike with and without it, several fit
better with it (and without it their activations would not fit). On one node small networks wait for the host, and 8 tensor-parallel processes on it
wait longest (the worst rows).

"""


def section(found: list[Result]) -> str:
    """Text for docs/accuracy.md."""
    lines = [
        NOTE.rstrip("\n"),
        "",
        "| runs | fitted | counted | mean / median / p90 | networks left out whole | kernels and links alone | in band |",
        "|---|---:|---:|---|---|---:|---:|",
    ]
    for r in found:
        c, u = r.counted, r.unseen
        lines.append(
            f"| {r.name.replace('_', ' ')}, checkpointing {r.checkpoint} | {r.fitted} | {c.count} | {c.mean:.1%} / {c.median:.1%} / "
            f"{c.p90:.1%} | {u.mean:.1%} / {u.median:.1%} of {u.count} | {r.bare.mean:.1%} | {r.covered:.0%} |"
        )
    lines += ["", "Worst counted rows:", ""]
    lines += [f"- {w}" for r in found for w in r.worst]
    return "\n".join(lines) + "\n"


def write_facts(found: list[Result]) -> None:
    """Constants of the training stack: of several nodes where there are some, else of one."""
    r = found[-1]
    data = CommentedMap()
    data["id"] = "training"
    data["constants"] = _flow({k: float(f"{v:.4g}") for k, v in r.constants.items()})
    data["error"] = float(f"{max(r.unseen_error, r.error):.3g}")
    data["rows"] = r.fitted
    data["known"] = "fitted"
    data["fitted_on"] = "GPT training on A100s with Megatron (vTrain)"
    data["held_out"] = (
        f"{r.counted.count} rows of other layouts on several nodes: {r.counted.mean:.1%} mean; networks left out whole {r.unseen.mean:.1%}"
    )
    data["sources"] = [
        "VIA-Research/vTrain, MIT-style licence, snapshot of 2024-09-26: iterations of GPT training on A100"
    ]
    yaml = YAML()
    yaml.width = 10**6
    data.yaml_set_start_comment(
        "What a training stack costs beside kernels and wires: constants of plan/step.py's Stack, from measured iterations."
    )
    path = Path(str(files("pharos.facts"))) / "stacks" / "training.yaml"
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(data, file)


def main() -> None:
    """Prints the table; with --facts writes the constants."""
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "../shared/field")
    parser.add_argument("--facts", action="store_true", help="write src/pharos/facts/stacks/training.yaml")
    asked = parser.parse_args()
    found = list(results(asked.data))
    print(section(found))
    for r in found:
        print(r.name, {k: f"{v:.3g}" for k, v in r.constants.items()})
    if asked.facts:
        write_facts(found)


if __name__ == "__main__":
    main()
