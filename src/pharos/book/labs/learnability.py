"""Learnability: an MLP and a CNN that can both represent digits, and what each needs to learn them."""

from typing import Any

from pharos.book.digits import Digits, digits
from pharos.book.lab import Progress, Setting, lab
from pharos.quantity.units import fmt_count
from pharos.report.labs import Agreement, Check, Finding, Outcome

NAME = "learnability"
# Layers of the textbook's example 1.1.
MLP_HIDDEN = (4096, 4096)
# Sample sizes and seeds of the curves; parameters of their members.
SIZES, SEEDS, PARAMETERS = (50, 200, 800), 3, 20_000
SMALL_SIZES, SMALL_PARAMETERS = (40, 120), 6000
# Steps for the textbook's own sizes, enough for validation to level off, and examples of a batch.
STEPS, BATCH = {"mlp": 120, "cnn": 800}, 64
# What becomes of the lead without places -> whether that is what the textbook's argument says.
LOST: dict[str, Agreement] = {"gone": "agrees", "smaller": "partly", "stays": "contradicts"}


@lab(NAME, "an MLP and a CNN on digits: accuracy, parameters, samples; the same with pixels shuffled",
     claims=("mnist-mlp-params", "mnist-cnn-params", "mnist-47x", "mnist-mlp-acc",
             "mnist-cnn-acc"))  # fmt: skip
def learnability(setting: Setting, progress: Progress) -> Outcome:
    """The textbook's layers trained once, then members of one size by sample size and seed."""
    import numpy as np

    from pharos.decide.data.arrays import from_array
    from pharos.decide.data.labelled import Labelled
    from pharos.decide.probe import Asked, probe_examples
    from pharos.decide.probe_verdict import times, verdict_of

    data = digits(setting.seed)
    examples = Labelled(
        kind="images", form="grid", path=data.source, inputs=(data.images[:, None],), y=data.labels,
        classes=tuple("0123456789"), label="digit", total=len(data.labels),
    )  # fmt: skip
    sizes = SMALL_SIZES if setting.small else SIZES
    seeds = 1 if setting.small else SEEDS
    runs = 2 * 2 * seeds * len(sizes) + 6
    done = 0

    def told(words: str) -> None:
        nonlocal done
        done += words != "loading"
        progress(min(done, runs), runs + 4, words)

    found = probe_examples(
        examples, from_array(data.images, data.source, np.random.default_rng(setting.seed)),
        Asked(families=("cnn", "mlp"), budget=SMALL_PARAMETERS if setting.small else PARAMETERS, seeds=seeds,
              time_s=float("1e9"), shuffle=True, sizes=sizes, seed=setting.seed), told=told,
    )  # fmt: skip
    own = _own_sizes(data, setting, lambda i, words: progress(runs + i, runs + 4, words))
    verdict = verdict_of(found)
    rows: list[tuple[Any, ...]] = []
    for m in found.matched.members:
        for condition, curves in (("as they are", found.curves), ("shuffled", found.shuffled)):
            curve = curves[m.family]
            for n, errors in zip(curve.sizes, curve.errors, strict=True):
                spread = float(np.std(errors, ddof=1)) if len(errors) > 1 else 0.0
                rows.append((f"{m.family} of one size", condition, m.parameters, n,
                             round(1 - float(np.mean(errors)), 4), round(spread, 4)))  # fmt: skip
    for o in own:
        rows.append((f"{o['family']} of the textbook", o["pixels"], o["parameters"], o["examples"],
                     round(o["accuracy"], 4), 0.0))  # fmt: skip
    as_is = {o["family"]: o for o in own if o["pixels"] == "as they are"}
    mixed = {o["family"]: o for o in own if o["pixels"] == "shuffled"}
    lead, shuffled = found.advantages(first="cnn")[0], found.advantages(True, "cnn")
    whole = counts(28)
    gap = as_is["cnn"]["accuracy"] - as_is["mlp"]["accuracy"]
    gap_mixed = mixed["cnn"]["accuracy"] - mixed["mlp"]["accuracy"]
    cnn, mlp = as_is["cnn"], as_is["mlp"]
    told_gap = (f"with the textbook's layers on {cnn['examples']:,} digits: CNN {cnn['accuracy']:.1%}, MLP "
                f"{mlp['accuracy']:.1%} of {cnn['tested']} held out (one seed)")  # fmt: skip
    # what two shares of so many held-out digits differ by, in 80% of draws
    slack = 1.28 * (2 * 0.03 * 0.97 / cnn["tested"]) ** 0.5
    ratio = whole["mlp"] / whole["cnn"]
    size = fmt_count(found.matched.members[0].parameters)
    findings = [
        Finding(expected="the CNN has 47 times fewer parameters than the MLP, 421 k against 20 M, on 28 x 28",
                found=f"counted: {fmt_count(whole['cnn'])} against {fmt_count(whole['mlp'])}, {ratio:.1f} "
                f"times; on these {data.side} x {data.side} digits "
                f"{mlp['parameters'] / cnn['parameters']:.0f} times",
                agreement="agrees" if 46.5 <= ratio < 48.5 else "contradicts", section="1.2",
                claims=("mnist-47x", "mnist-mlp-params", "mnist-cnn-params")),
        Finding(expected="with the same training data the CNN is the more accurate", found=told_gap,
                agreement="agrees" if gap > slack else "cannot tell" if gap > -slack else "contradicts",
                section="1.2"),
        Finding(expected="the CNN's bias lowers the samples that it needs, by far",
                found=f"members of {size} parameters: to an error of {lead.error:.1%} the MLP needs "
                f"{times(lead.ratio)} the samples ({seeds} seeds)",
                agreement=_agreement(lead.clear, lead.ratio.value), section="1.2"),
        Finding(expected="it is the match of bias and data that helps: data that break it take the help away",
                found=_shuffled_words(verdict.gap, found, shuffled, gap, gap_mixed), section="1.2",
                agreement=LOST.get(verdict.gap, "cannot tell")),
        _mnist(data, as_is),
    ]  # fmt: skip
    checks = (
        Check(what="members compared by samples have one size", holds=found.matched.holds,
              found=f"{found.matched.apart:.1%} apart in parameters"),
        Check(what="every size was learnt with every seed",
              found=f"{found.runs} of {found.planned} trainings", holds=found.runs == found.planned),
        Check(what="the MLP does not care where pixels lie", holds=_same(found, setting.small),
              found=_mlp_words(found)),
    )  # fmt: skip
    return Outcome(
        name=NAME, summary="an MLP and a CNN learn digits, as they are and with their pixels shuffled",
        settings={"seed": setting.seed, "digits": data.source, "seeds": seeds, "sizes": str(sizes)},
        columns=("network", "pixels", "parameters", "examples", "accuracy", "spread"), rows=tuple(rows),
        checks=checks, findings=tuple(findings), figure=_figure(found),
        note="accuracy on held-out digits, mean over seeds; spread: their standard deviation, 0 of one seed",
        data={"curves": {c.name: {"sizes": list(c.sizes), "errors": [list(e) for e in c.errors]}
                         for c in found.curves.values()},
              "shuffled": {c.name: {"sizes": list(c.sizes), "errors": [list(e) for e in c.errors]}
                           for c in found.shuffled.values()}, "textbook_sizes": own, "real": data.real},
    )  # fmt: skip


def counts(side: int) -> dict[str, int]:
    """Parameters of the textbook's two networks for images of a side."""
    from pharos.graph.count import count
    from pharos.models.registry import find

    return {family: int(count(find(name).graph()).parameters) for family, name in names(side).items()}


def names(side: int) -> dict[str, str]:
    """The textbook's two networks for images of a side."""
    return {"mlp": f"mlp(widths={(side * side, *MLP_HIDDEN, 10)!r})", "cnn": f"small_cnn(side={side})"}


def _own_sizes(data: Digits, setting: Setting, told: Any) -> list[dict[str, Any]]:
    """The textbook's layer sizes on all digits but a quarter, once, as they are and shuffled."""
    import numpy as np

    from pharos.decide.probe import split
    from pharos.graph.count import count
    from pharos.graph.workload import Workload
    from pharos.measure.training import Recipe, train
    from pharos.models.registry import find

    rng = np.random.default_rng([setting.seed, 23])
    classes = tuple("0123456789")
    pool, test = split(data.labels, classes, 0.25, 2000, rng)
    learnt, held = split(data.labels[pool], classes, 0.1, 200, rng)
    learnt, held = pool[learnt], pool[held]
    flat = data.images.reshape(len(data.images), -1)
    flat = (flat - flat[learnt].mean()) / flat[learnt].std()
    mixed = flat[:, rng.permutation(flat.shape[1])]
    models = {family: find(name) for family, name in names(data.side).items()}
    if setting.small:
        models["mlp"] = find(f"mlp(widths={(data.side**2, 256, 256, 10)!r})")
    found = []
    for i, (pixels, x) in enumerate((("as they are", flat), ("shuffled", mixed))):
        for j, (family, model) in enumerate(models.items()):
            told(2 * i + j, f"{family} of the textbook, {pixels}")
            given = x if family == "mlp" else x.reshape(-1, 1, data.side, data.side)
            made = train(
                lambda batch, model=model: model.graph(Workload(batch=batch)), "classes", (given[learnt],),
                data.labels[learnt], (given[held],), data.labels[held],
                Recipe(rate=1e-3, steps=40 if setting.small else STEPS[family], batch=BATCH, looks=6),
                seed=setting.seed,
            )  # fmt: skip
            assert made is not None
            right = float((made.predict((given[test],)) == data.labels[test]).mean())
            found.append({"family": family, "pixels": pixels, "examples": len(pool), "tested": len(test),
                          "accuracy": right, "parameters": int(count(model.graph()).parameters),
                          "steps": made.steps})  # fmt: skip
    return found


def _agreement(clear: bool, ratio: float) -> Any:
    if not clear:
        return "cannot tell"
    return "agrees" if ratio >= 2 else "partly" if ratio > 1 else "contradicts"


def _shuffled_words(gap: str, found: Any, leads: Any, own: float, own_mixed: float) -> str:
    at = found.curves["cnn"].sizes[-1]
    now = f"{100 * leads[0].gap:.1f}" if leads else "none"
    before = 100 * float(found.curves["mlp"].means[-1] - found.curves["cnn"].means[-1])
    words = {"gone": "the lead is gone", "smaller": "the lead shrinks", "stays": "the lead stays"}.get(
        gap, "no lead"
    )
    return (f"pixels shuffled: {words}, {before:.1f} points at {at:,} examples become {now}; with the "
            f"textbook's layers {100 * own:.1f} become {100 * own_mixed:.1f}")  # fmt: skip


def _mnist(data: Digits, own: dict[str, Any]) -> Finding:
    expected = "on MNIST's 60,000 digits the MLP reaches 97 to 98%, the CNN 99% or more"
    claims = ("mnist-mlp-acc", "mnist-cnn-acc")
    reached = f"MLP {own['mlp']['accuracy']:.1%}, CNN {own['cnn']['accuracy']:.1%} on {data.source}"
    return Finding(expected=expected, found=f"not these data or not so many: {reached}",
                   agreement="cannot tell", section="1.2", claims=claims)  # fmt: skip


def _mlp_words(found: Any) -> str:
    as_is, mixed = (100 * float(c["mlp"].means[-1]) for c in (found.curves, found.shuffled))
    return f"errors {as_is:.1f}% and {mixed:.1f}% at the largest size, 3 points allowed"


def _same(found: Any, small: bool) -> bool:
    as_is, mixed = (float(c["mlp"].means[-1]) for c in (found.curves, found.shuffled))
    return abs(as_is - mixed) <= (0.15 if small else 0.03)


def _figure(found: Any) -> Any:
    from pharos.quantity.errors import InputError
    from pharos.report.probes import probe_figure

    try:
        return probe_figure(found)
    except InputError:
        return None
