"""Alignment: products whose sizes fill this processor's vectors and tiles, and those one off them."""

from collections.abc import Sequence
from functools import partial
from math import gcd
from typing import Any

from pharos.book.lab import Progress, Setting, lab
from pharos.book.sums import A100, chain, machine
from pharos.book.timed import Span, above, drawn, every, ratio, scaled, threads, timed
from pharos.decide.alignment import multiple_of, up_to
from pharos.measure.here import here
from pharos.measure.timing import Timing
from pharos.ops.linear import Linear
from pharos.report.labs import Agreement, Check, Finding, Outcome

NAME = "alignment"
ROWS, BASES, FEW = 256, (128, 256, 512, 1024), (32, 64)
OFF = (-1, 0, 1, 8)
DTYPES = ("fp32", "bf16")
# The chapter's layer, and its outputs filled up to the multiple of eight.
REFERENCE, PADDED, BATCH = (784, 100), (784, 104), 64
# A product off the multiple that takes less than this longer a FLOP is as good as on it.
WORTH = 1.05


@lab(NAME, "products one off the width of this processor's vectors and tiles against those that fill them",
     claims=("fn9-multiple-of-8", "sc-784-not-multiple-of-8"))  # fmt: skip
def alignment(setting: Setting, progress: Progress) -> Outcome:
    """Square weights of each size, 256 rows, on one core; sizes around one base are timed in turn."""
    bases = FEW if setting.small else BASES
    steps = len(bases) * len(DTYPES) + 1
    rows, found = [], {}
    with threads() as torch:
        torch.manual_seed(setting.seed)
        for i, (dtype, base) in enumerate((d, b) for d in DTYPES for b in bases):
            progress(i, steps, f"{base} in {dtype}")
            sizes = [base + off for off in OFF]
            calls = {str(n): product(torch, ROWS, n, n, dtype) for n in sizes}
            times = timed(calls, 3.0, small=setting.small)
            found[dtype, base] = times
            rows += [(dtype, n, gcd(n, 2**10), 1e6 * times[str(n)].median,
                      2 * ROWS * n * n / times[str(n)].median / 1e9,
                      per_flop(times, n, base).value) for n in sizes]  # fmt: skip
        progress(steps - 1, steps, "784 to 100")
        layer = timed({str(n): product(torch, BATCH, k, n, "fp32") for k, n in (REFERENCE, PADDED)}, 2.0,
                      small=setting.small)  # fmt: skip
        worst = padded(torch, setting.seed)
    progress(steps, steps, "done")
    return Outcome(
        name=NAME, summary="what sizes that do not fill vectors and tiles cost on this processor",
        settings={"rows": ROWS, "threads": 1, "seed": setting.seed,
                  "instructions": " ".join(here().instructions) or "none of note"},
        columns=("dtype", "size", "power_of_two", "us", "gflop_per_s", "per_flop"), rows=tuple(rows),
        checks=(
            Check(what="a layer filled up with zeros gives the same, and more of it", holds=worst <= 1e-6,
                  found=f"largest difference {worst:.0e} of the largest value, 1e-06 allowed"),
        ),
        findings=findings(found, layer),
        note="size: of inputs and outputs; power_of_two: the largest that divides it; per_flop: time a FLOP "
        "over that of the size without the odd one",
        figure=picture(rows),
    )  # fmt: skip


def product(torch: Any, rows: int, inputs: int, outputs: int, dtype: str) -> Any:
    """A call of a dense layer."""
    from pharos.convert.to_torch import to_torch

    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    layer = to_torch(chain((rows, inputs), Linear(inputs, outputs, False))).to(kind)
    return partial(layer, torch.randn(rows, inputs).to(kind))


def padded(torch: Any, seed: int) -> float:
    """Largest difference of the layer's results when its weights are filled up with rows of zeros."""
    torch.manual_seed(seed)
    (k, n), (_, wide) = REFERENCE, PADDED
    x, weight = torch.randn(BATCH, k), torch.randn(n, k)
    filled = torch.nn.functional.pad(weight, (0, 0, 0, wide - n))
    wanted = x @ weight.T
    more = x @ filled.T
    apart = float((more[:, :n] - wanted).abs().max() / wanted.abs().max())
    return max(apart, float(more[:, n:].abs().max()))


def per_flop(times: dict[str, Timing], size: int, base: int) -> Span:
    """Time a FLOP at a size over that at its base."""
    return scaled(ratio(times[str(size)], times[str(base)]), (base / size) ** 2)


def slower(spans: Sequence[Span]) -> Agreement:
    """Of "sizes off the multiple are slower": some dearly, all, or none."""
    told = [above(s, WORTH) for s in spans]
    if "agrees" in told:
        return "agrees" if told.count("agrees") > len(told) / 2 else "partly"
    return "cannot tell" if "cannot tell" in told else "contradicts"


def findings(
    found: dict[tuple[str, int], dict[str, Timing]], layer: dict[str, Timing]
) -> tuple[Finding, ...]:
    """What the chapter expects beside what came out."""
    beyond = {key: per_flop(times, key[1] + 1, key[1]) for key, times in found.items()}
    under = {key: per_flop(times, key[1] - 1, key[1]) for key, times in found.items()}
    worst = {d: max((s for k, s in (*beyond.items(), *under.items()) if k[0] == d), key=lambda s: s.value)
             for d in DTYPES}  # fmt: skip
    gain = ratio(layer[str(REFERENCE[1])], layer[str(PADDED[1])])
    known = multiple_of(machine(A100), "fp16")
    wanted = known[0] if known else 8
    off = [n for n in REFERENCE if n % wanted]
    return (
        Finding(
            expected="sizes off the multiple of the unit that multiplies are slower",
            found="a FLOP takes, one beyond it, "
            + "; ".join(", ".join(f"{s.value:.3g} at {b + 1}" for (d, b), s in beyond.items() if d == dtype)
                        + f" times as long in {dtype}" for dtype in DTYPES)
            + "; one off it at most " + ", ".join(f"{s} in {d}" for d, s in worst.items()),
            agreement=slower([*beyond.values(), *under.values()]), section="1.2",
        ),
        Finding(
            expected="Tensor Cores work only on multiples of eight; other sizes fall back silently",
            found=f"not measured: it is a GPU's unit. An A100 wants multiples of {wanted} in fp16 by the "
            "catalogue; this processor computes any size",
            agreement="cannot tell", section="1.2", claims=("fn9-multiple-of-8",),
        ),
        Finding(
            expected="both sizes of the layer from 784 to 100 are no multiples of eight",
            found=f"{', '.join(map(str, off))} is none, 784 is 98 times 8; filled up to {up_to(100, 8)} the "
            f"layer takes 1/{gain} of the time here",
            agreement=every(["contradicts" if 784 % wanted == 0 else "agrees",
                             "agrees" if 100 % wanted else "contradicts"]),
            section="1.2", claims=("sc-784-not-multiple-of-8",),
        ),
    )  # fmt: skip


def picture(rows: Sequence[tuple[Any, ...]]) -> Any:
    """Time a FLOP by size, beside the base of each."""
    bases = sorted({r[1] for r in rows if r[5] == 1.0})
    data = [{"dtype": r[0], "size": str(r[1]), "per_flop": r[5]} for r in rows]

    def draw(alt: Any) -> Any:
        return alt.Chart(alt.Data(values=data)).mark_bar().encode(
            x=alt.X("size:N", sort=None, title="size", axis=alt.Axis(labelAngle=-60)),
            xOffset="dtype:N", y=alt.Y("per_flop:Q", title="time a FLOP over that at the base"),
            color=alt.Color("dtype:N", title=None, legend=alt.Legend(orient="top")),
            tooltip=["dtype:N", "size:N", alt.Tooltip("per_flop:Q", format=".3g")],
        )  # fmt: skip

    return drawn(draw, name=NAME, title="Products one off the width of vectors and tiles",
                 alt=f"Time a FLOP of sizes around {', '.join(map(str, bases))}, over that at them.",
                 source="measured on this machine, one core, 256 rows")  # fmt: skip
