"""Energy by architecture: arithmetic and memory by the textbook's prices; measured where a counter exists."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from pharos.book.claims.energy import energy_of
from pharos.book.lab import Progress, Setting, lab
from pharos.book.sums import (
    A100,
    attends,
    counted,
    dram_energy,
    estimate,
    joules,
    layers,
    mac_energy,
)  # fmt: skip
from pharos.book.timed import drawn, every, threads
from pharos.graph.count import Count
from pharos.ops.attention import Attention
from pharos.ops.conv import Conv2d
from pharos.ops.embedding import EmbeddingBag
from pharos.ops.linear import Linear
from pharos.report.labs import Agreement, Check, Finding, Outcome

NAME = "energy"
# Networks of the catalogue: (name, phase, context).
NETWORKS = (("mlp", "forward", None), ("resnet50", "forward", None), ("mobilenet_v2", "forward", None),
            ("lstm_tagger", "forward", 1000), ("gpt2-small", "forward", 1024), ("gpt2-small", "decode", 1024),
            ("dlrm-mlperf", "forward", None))  # fmt: skip
TOKENS, HEAD_DIM = 2048, 64
DENSE, DENSE_MANY = "dense, batch 1", "dense, batch 256"
CONV, UNFOLDED = "3x3 convolution", "the same by im2col"
STORED, TILED, LOOKUP = "attention, stored", "attention, tiled", "lookups"
# A measured product is called for so many seconds, with weights that come from memory.
SECONDS, WIDTH, COPIES = 6.0, 2048, 40


@lab(NAME, "joules of architectures by operation and byte; measured where the processor counts them",
     claims=("energy-mlp-majority", "energy-attention-highest", "energy-im2col-double", "napkin13-reuse",
             "napkin13-attention-energy", "fn31-500x"))  # fmt: skip
def energy(setting: Setting, progress: Progress) -> Outcome:
    """Everything but the last finding is computed, and the same on any machine."""
    progress(0, 3, "operators")
    parts = operators(TOKENS)
    progress(1, 3, "networks")
    networks = [of_network(*one) for one in NETWORKS]
    progress(2, 3, "a counter of energy")
    measured = measure(setting)
    progress(3, 3, "done")
    rows = [*(row(n, c, j) for n, c, j in networks), *(row(n, c) for n, c in parts.items())]
    worst = by_hand()
    return Outcome(
        name=NAME, summary="where the joules of an architecture go: to arithmetic or to memory",
        settings={"dtype": "fp32", "prices": f"{1e12 * mac_energy():.3g} pJ a MAC, "
                  f"{1e12 * dram_energy():.3g} pJ a 32-bit value from DRAM, 45 nm",
                  "counter": "RAPL" if measured else "none that can be read"},
        columns=("what", "MAC_uJ", "DRAM_uJ", "DRAM_share", "pJ_per_flop", "A100_mJ"),
        rows=tuple(rows),
        checks=(
            Check(what="a dense layer of 784 to 100 costs what a sum by hand says", holds=worst <= 1e-9,
                  found=f"{worst:.0e} off"),
        ),
        findings=findings(dict(parts), {r[0]: r for r in rows}, measured),
        note="each operator reads its inputs and weights from DRAM and writes its results there; A100_mJ: of "
        "a step in fp16, as predicted with what the board draws whatever runs",
        figure=picture(rows),
        data={"measured": None if measured is None else
              {"J_per_flop": measured.joules_per_flop, "W": measured.watts}},
    )  # fmt: skip


def operators(tokens: int) -> dict[str, Count]:
    """Single operators in fp32: one of each kind that the chapter weighs."""
    shape = (1, 1, tokens, HEAD_DIM)
    conv = (1, 64, 56, 56)
    return {
        DENSE: layers((1, WIDTH), Linear(WIDTH, WIDTH, False)),
        DENSE_MANY: layers((256, WIDTH), Linear(WIDTH, WIDTH, False)),
        CONV: layers(conv, Conv2d(64, 64, 3, 1, 1, bias=False)),
        UNFOLDED: layers(conv, Conv2d(64, 64, 3, 1, 1, bias=False, algorithm="im2col")),
        STORED: attends(Attention(algorithm="materialised"), shape, shape, shape, precision="fp32"),
        TILED: attends(Attention(), shape, shape, shape, precision="fp32"),
        LOOKUP: layers((256, 26), EmbeddingBag(1_000_000, 64), dtype="int64"),
    }


def of_network(name: str, phase: str, context: int | None) -> tuple[str, Count, float | None]:
    """(its name, its count, joules of a step on an A100)."""
    found = estimate(name, A100, phase, 1, context).energy.value
    shown = name if phase == "forward" else f"{name}, {phase}"
    return shown, counted(name, phase, 1, context), None if found is None else float(found)


def row(name: str, asked: Count, on_a100: float | None = None) -> tuple[Any, ...]:
    """Energies of arithmetic and memory; of what does no MACs none is told a FLOP."""
    work, moved = energy_of(asked)
    flops = float(asked.flops)
    each: Any = 1e12 * (work + moved) / flops if flops else "none"
    return (name, 1e6 * work, 1e6 * moved, moved / (work + moved), each,
            "" if on_a100 is None else 1e3 * on_a100)  # fmt: skip


def by_hand() -> float:
    """How far the rules are from 784 x 100 MACs, and 784 x 100 + 784 + 100 values from DRAM."""
    work, moved = energy_of(layers((1, 784), Linear(784, 100, False)))
    wanted = 78_400 * mac_energy() + (78_400 + 884) * dram_energy()
    return abs((work + moved) / wanted - 1)


@dataclass(frozen=True, slots=True)
class Measured:
    """Joules a FLOP of a dense layer, by rows at once, and the watts while it ran."""

    joules_per_flop: dict[int, float]
    watts: dict[int, float]


def measure(setting: Setting, meter: Any = None) -> Measured | None:
    """Energy of a dense layer at batch 1 and 256 by the processor's counter; None without one."""
    from pharos.measure.meters import EnergyMeter

    meter = meter or EnergyMeter()
    if not meter.exists:
        return None
    seconds, width, copies = (0.05, 64, 2) if setting.small else (SECONDS, WIDTH, COPIES)
    each, watts = {}, {}
    with threads() as torch:
        torch.manual_seed(setting.seed)
        weights = [torch.randn(width, width) for _ in range(copies)]
        for rows in (1, 256):
            x, calls, took = torch.randn(rows, width), [0], [0.0]
            spent = meter.joules(_spinning(x, weights, seconds, calls, took))
            each[rows] = spent / (2 * rows * width**2 * calls[0])
            watts[rows] = spent / took[0]
    return Measured(each, watts)


def _spinning(
    x: Any, weights: Sequence[Any], seconds: float, calls: list[int], took: list[float]
) -> Callable[[], None]:
    """A call that multiplies by one matrix after the other until the time is up."""

    def spin() -> None:
        start = perf_counter()
        while perf_counter() - start < seconds:
            for w in weights:
                _ = x @ w
                calls[0] += 1
        took[0] = perf_counter() - start

    return spin


def growth(of: Callable[[int], Count]) -> tuple[float, float]:
    """By what arithmetic and memory grow when the tokens double."""
    once, twice = energy_of(of(TOKENS)), energy_of(of(2 * TOKENS))
    return twice[0] / once[0], twice[1] / once[1]


def dearest(per_flop: dict[str, float]) -> Agreement:
    """Of "attention takes the most energy an operation": stored scores, or any form of it."""
    most = max(per_flop, key=lambda n: per_flop[n])
    return "agrees" if most in (STORED, TILED) else "contradicts"


def doubles(times: float) -> Agreement:
    """Of "im2col doubles energy": to a quarter."""
    return "agrees" if 1.5 <= times <= 2.5 else "contradicts"


def quadratic(stored: tuple[float, float], tiled: tuple[float, float]) -> Agreement:
    """Of "attention is quadratic in compute and energy": in both parts of both forms."""
    return every(["agrees" if 3.5 <= x <= 4.2 else "contradicts" for x in (*stored, *tiled)])


def by_movement(measured: Measured | None) -> Agreement:
    """Of "moving data takes more than computing", by the counter: batch 1 against many rows a FLOP."""
    if measured is None:
        return "cannot tell"
    once, many = measured.joules_per_flop[1], measured.joules_per_flop[256]
    return "agrees" if once > 2 * many else "contradicts"


def findings(
    parts: dict[str, Count], rows: dict[str, tuple[Any, ...]], measured: Measured | None
) -> tuple[Finding, ...]:
    """What the chapter expects beside what comes out."""
    per_flop = {n: rows[n][4] for n in (DENSE, DENSE_MANY, CONV, STORED, TILED)}
    totals = {n: sum(energy_of(c)) for n, c in parts.items()}
    stored, tiled = (
        growth(lambda n, op=op: attends(op, *[(1, 1, n, HEAD_DIM)] * 3, precision="fp32"))
        for op in (Attention(algorithm="materialised"), Attention())
    )
    times = totals[UNFOLDED] / totals[CONV]
    mlp, cnn = rows["mlp"], rows["resnet50"]
    adds = dram_energy() / joules("arithmetic", 45, op="fp32_add")
    counter = (
        "no counter of the processor can be read here: nothing was measured" if measured is None else
        ", ".join(f"{1e12 * j:.3g} pJ a FLOP at batch {b} ({measured.watts[b]:.3g} W)"
                  for b, j in measured.joules_per_flop.items())
    )  # fmt: skip
    return (
        Finding(
            expected="an MLP at batch 1 spends most of its energy on moving data",
            found=f"{mlp[3]:.1%} of it", agreement="agrees" if mlp[3] > 0.5 else "contradicts",
            section="1.9", claims=("energy-mlp-majority",),
        ),
        Finding(
            expected="a CNN uses a weight at every position, so that it spends less of it so",
            found=f"ResNet-50 {cnn[3]:.1%}, {cnn[4]:.3g} pJ a FLOP, the MLP {mlp[4]:.3g}",
            agreement="agrees" if cnn[4] < mlp[4] else "contradicts", section="1.9",
            claims=("napkin13-reuse",),
        ),
        Finding(
            expected="attention takes the most energy an operation",
            found=", ".join(f"{n} {j:.3g} pJ a FLOP" for n, j in per_flop.items()),
            agreement=dearest(per_flop), section="1.9", claims=("energy-attention-highest",),
        ),
        Finding(
            expected="convolution through a matrix of patches often doubles energy",
            found=f"{times:.3g} times, as patches are written and read again: {rows[UNFOLDED][2]:.3g} uJ of "
            f"memory instead of {rows[CONV][2]:.3g}, beside {rows[CONV][1]:.3g} of arithmetic",
            agreement=doubles(times), section="1.9", claims=("energy-im2col-double",),
        ),
        Finding(
            expected="long attention is quadratic in compute and in energy",
            found=f"twice the tokens: arithmetic {stored[0]:.3g} times, memory {stored[1]:.3g} times with "
            f"stored scores; {tiled[0]:.3g} and {tiled[1]:.3g} times tiled",
            agreement=quadratic(stored, tiled), section="1.9", claims=("napkin13-attention-energy",),
        ),
        Finding(
            expected="one access off the chip costs more than 500 times the arithmetic on what it brings",
            found=f"{dram_energy() / mac_energy():.3g} times an fp32 MAC, {adds:.3g} times an fp32 addition",
            agreement="agrees" if dram_energy() > 500 * mac_energy() else
            "partly" if adds > 500 else "contradicts",
            section="1.9", claims=("fn31-500x",),
        ),
        Finding(
            expected="moving weights for one row takes more energy than computing with them",
            found=counter, agreement=by_movement(measured), section="1.9",
        ),
    )  # fmt: skip


def picture(rows: Sequence[tuple[Any, ...]]) -> Any:
    """Joules a FLOP of each, in two parts."""
    data = [{"what": r[0], "part": part, "pJ": r[4] * share}
            for r in rows if not isinstance(r[4], str)
            for part, share in (("arithmetic", 1 - r[3]), ("memory", r[3]))]  # fmt: skip

    def draw(alt: Any) -> Any:
        return alt.Chart(alt.Data(values=data)).mark_bar().encode(
            y=alt.Y("what:N", sort=None, title=None, axis=alt.Axis(labelLimit=200)),
            x=alt.X("pJ:Q", title="pJ a FLOP"),
            color=alt.Color("part:N", title=None, legend=alt.Legend(orient="top")),
            tooltip=["what:N", "part:N", alt.Tooltip("pJ:Q", format=".3g")],
        )  # fmt: skip

    return drawn(draw, name=NAME, title="Energy of an operation, by architecture",
                 alt="Picojoules a FLOP spent on arithmetic and on memory, most at batch 1.",
                 source="4.6 pJ a MAC and 640 pJ a 32-bit value from DRAM; computed")  # fmt: skip
