"""Probe: small members of the candidate families learn from a person's own data, by sample size and seed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

import numpy as np

from pharos.decide.biases import bias, candidates
from pharos.decide.curves import Advantage, Curve, Range, advantage
from pharos.decide.data.facts import Data
from pharos.decide.data.inspect import inspect
from pharos.decide.data.labelled import Labelled, read_labelled
from pharos.decide.data.sample import Tick, nothing
from pharos.decide.data.views import Views
from pharos.decide.members import Matched, Member, matched, takes
from pharos.facts.tables import families as known_families
from pharos.quantity.errors import InputError, unknown

# Families that are probed where nobody names them, with the MLP beside them as what assumes least.
PROBED = 3
# Share of the examples that is held out, at most so many; share of a sample that stops training early.
TESTED, MOST_TESTED, HELD = 0.25, 2000, 0.2
# Rates tried for each family, on the validation part of one sample of about so many examples.
RATES, TUNED_ON = (1e-3, 3e-3, 1e-2), 128
USUAL_RATE = 3e-3
# Passes over a sample, and steps at least and at most; share of the time that trying rates may take.
PASSES, STEPS, TUNING = 25, (160, 1200), 0.3
# Examples of a batch, in samples below and from so many.
SMALL_BATCH, BATCH, MANY = 16, 32, 512
# Share of the rarer of two classes below which accuracy says little, and ranking is looked at instead.
SKEWED = 0.2
# Not trained unless named: its scan runs step by step on a CPU.
SLOW = ("ssm",)
# Ratios of sample sizes that are tried, so that the largest sample fits the time; sizes at least.
RATIOS, SIZES = (2.0, 2.5, 3.0, 4.0), 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked of a probe.

    Args:
        families: to train; the best matches and the MLP if empty.
        by: "parameters" or "macs", of which all members have as many; budget: how many.
        seeds: repetitions, each with its own sample, weights and order; time_s: in all.
        shuffle: the same again with places exchanged.
        target: an error to reach (1 - accuracy); size: samples to extrapolate to, all labels if None.
        sizes: of samples, if not the usual ones.
    """

    families: tuple[str, ...] = ()
    by: str = "parameters"
    budget: float | None = None
    seeds: int = 3
    time_s: float = 120.0
    shuffle: bool = False
    label: str | None = None
    target: float | None = None
    size: int | None = None
    sizes: tuple[int, ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What was learnt of how data are learnt.

    Args:
        pool, tested: examples to draw samples from, and held out.
        curves, shuffled: by family and baseline, as the data are and with places exchanged.
        metric: what an error is.
        chance: the error of the most frequent answer.
        rates: that were picked for each family; empty where there was no time to try them.
        full: labelled examples that errors are extrapolated to.
        runs, planned: networks trained, and that all sizes and seeds would take.
    """

    asked: Asked
    data: Data
    kind: str
    form: str
    label: str
    classes: tuple[str, ...]
    places: str
    pool: int
    tested: int
    full: int
    matched: Matched
    metric: str
    curves: dict[str, Curve]
    shuffled: dict[str, Curve]
    chance: float
    rates: dict[str, float]
    runs: int
    planned: int
    seconds: float
    notes: tuple[str, ...]
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def families(self) -> tuple[str, ...]:
        """Those that were trained."""
        return tuple(m.family for m in self.matched.members)

    def ranked(self, shuffled: bool = False) -> list[str]:
        """Families, fewest samples first for the error that all which learn reach; then the least error."""
        curves = {f: c for f, c in (self.shuffled if shuffled else self.curves).items() if f in self.families}
        learners = [c for c in curves.values() if c.learns]
        common = max((float(c.means.min()) for c in learners), default=0.0)
        # of equals the one that assumes most comes first
        return sorted(curves, key=lambda f: (not curves[f].learns, curves[f].needs(common)[0],
                                             float(curves[f].means[-1]), -bias(f).strength))  # fmt: skip

    def advantages(self, shuffled: bool = False, first: str | None = None) -> list[Advantage]:
        """The best family (or `first`) against every other."""
        curves = self.shuffled if shuffled else self.curves
        order = self.ranked(shuffled)
        best = first or order[0]
        found = (advantage(curves[best], curves[f], self.asked.seed) for f in order if f != best)
        return [a for a in found if a is not None]

    def at_full(self, name: str) -> tuple[Range | None, str]:
        """The error of a family or baseline when it learns from all labels, or why it cannot be told."""
        curve = self.curves[name]
        if curve.sizes[-1] >= self.full:
            spread = curve.draws(np.random.default_rng(self.asked.seed))[:, -1]
            low, high = np.quantile(spread, (0.1, 0.9))
            mean = float(curve.means[-1])
            return Range(value=mean, low=min(float(low), mean), high=max(float(high), mean)), ""
        return curve.extrapolated(self.full, self.asked.seed)

    def to_target(self, name: str) -> tuple[Range | None, str]:
        """Samples that a family needs to the error that was asked for, or why it cannot be told."""
        assert self.asked.target is not None
        curve = self.curves[name]
        found, side = curve.needs(self.asked.target)
        rng = np.random.default_rng(self.asked.seed)
        if side <= 0:
            drawn = [curve.needs(self.asked.target, d)[0] for d in curve.draws(rng)]
            low, high = np.quantile(drawn, (0.1, 0.9))
            return Range(value=found, low=min(float(low), found), high=max(float(high), found)), ""
        law, why = curve.law()
        if law is None:
            return None, why
        needed = law.needs(self.asked.target)
        if not needed < 1e4 * curve.sizes[-1]:
            return None, f"{self.asked.target:.1%} lies beyond its law, or far beyond the sizes tried"
        needs = [one.needs(self.asked.target) for one in curve.laws(rng)]
        drawn = np.minimum(needs, 1e6 * curve.sizes[-1])
        low, high = np.quantile(drawn, (0.1, 0.9))
        return Range(value=needed, low=min(float(low), needed), high=max(float(high), needed)), ""


def probe(
    path: str, asked: Asked, tick: Tick = nothing, told: Callable[[str], None] = lambda _: None
) -> Probe:
    """Trains and compares; see `Asked` and `Probe`.

    Of the data a stratified part is held out and never trained on. Every sample size is drawn anew for
    each seed, and all families learn from the same sample; a fifth of it stops training early. A sample
    size enters with all families or not at all.

    Args:
        tick: called with seconds that have passed and that may pass; told: with what is being trained.

    Raises:
        InputError: no labels, too few examples, families that take no such data, a budget below the
            smallest member, torch missing, or too little time for a single size.
    """
    began = monotonic()
    _sound(asked)
    told("reading")
    data = inspect(path, asked.seed)
    found = read_labelled(path, data, asked.label, asked.seed)
    return probe_examples(found, data, asked, tick, told, began)


def probe_examples(
    found: Labelled, data: Data, asked: Asked, tick: Tick = nothing,
    told: Callable[[str], None] = lambda _: None, began: float | None = None,
) -> Probe:  # fmt: skip
    """A probe of examples that have been read; see `probe`.

    Args:
        began: when the time started to run, on the monotonic clock; now if None.
    """
    began = monotonic() if began is None else began
    rng = np.random.default_rng([asked.seed, 7])
    pool, test = split(found.y, found.classes, TESTED, MOST_TESTED, rng)
    views = {False: Views(found, pool)}
    if asked.shuffle:
        views[True] = Views(found.shuffled(asked.seed), pool)
    chosen = families_for(data, found, views[False], asked.families)
    loss = "classes" if found.classes else "number"
    members = matched(chosen, views[False].shape, found.kind, loss, asked.by, asked.budget)
    trial = _Trial(asked, found, views, members.members, pool, test, began, tick, told)
    trial.run()
    sizes = [n for n in trial.sizes if trial.rows_of(n)]
    if not sizes:
        hint = f"give --time more than {asked.time_s:.3g} s, or fewer families"
        raise InputError("not a single sample size was finished", where="--time", hint=hint)
    notes = list(found.notes)
    if not members.holds:
        notes.append(f"members lie {members.apart:.0%} apart in {asked.by}: no widths bring them nearer")
    if len(sizes) < len(trial.sizes):
        notes.append(f"time was over after {sizes[-1]:,} of {trial.sizes[-1]:,} examples; --time gives more")
    if not trial.rates:
        notes.append(f"no time to try rates: all families learn at {USUAL_RATE:g}")
    full = asked.size or max(data.labels or 0, len(found))
    return Probe(
        asked=asked, data=data, kind=found.kind, form=found.form, label=found.label, classes=found.classes,
        places=found.places, pool=len(pool), tested=len(test), full=full, matched=members,
        curves=trial.curves(False), shuffled=trial.curves(True) if asked.shuffle else {},
        chance=trial.chance, metric=trial.metric,
        rates=trial.rates, runs=trial.done, planned=trial.planned, seconds=monotonic() - began,
        notes=tuple(notes),
    )  # fmt: skip


def _sound(asked: Asked) -> None:
    if asked.seeds < 1:
        raise InputError(f"must be at least 1, not {asked.seeds}", where="--seeds")
    if not asked.time_s > 0:
        raise InputError(f"must be above 0, not {asked.time_s:g} s", where="--time")
    if asked.target is not None and not 0 < asked.target < 1:
        raise InputError("must lie between 0 and 1 (or 0% and 100%)", where="--target")


def families_for(data: Data, found: Labelled, views: Views, named: tuple[str, ...]) -> list[str]:
    """The families to train: those named, or the best matches that have a small member, and the MLP.

    Raises:
        InputError: one that is not known or takes no such data, or none.
    """
    shape, kind = views.shape, found.kind
    if named:
        for family in named:
            if family not in known_families():
                raise unknown("family", family, known_families(), where="--families")
            if not takes(family, shape, kind):
                able = [f for f in known_families() if takes(f, shape, kind)]
                raise InputError(
                    f"{family} takes no {kind}", where="--families", hint=f"one of {', '.join(able)}"
                )
        return list(dict.fromkeys(named))
    able = [m.family for m in candidates(data) if m.family not in SLOW and takes(m.family, shape, kind)]
    found_families = able[:PROBED]
    if takes("mlp", shape, kind) and "mlp" not in found_families:
        found_families.append("mlp")
    if not found_families:
        raise InputError(f"no family here takes {kind}", where=found.path)
    return found_families


def split(y: Any, classes: tuple[str, ...], share: float, most: int, rng: Any) -> tuple[Any, Any]:
    """Rows to keep and rows to hold out; of every class the same share, and at least one of each stays."""
    n = len(y)
    count = max(1, min(most, round(share * n)))
    order = stratified(y, classes, rng)
    # an order in which every stretch has classes in their shares: its head is a stratified sample
    held = order[:count]
    return np.sort(order[count:]), np.sort(held)


def stratified(y: Any, classes: tuple[str, ...], rng: Any) -> Any:
    """Rows in a random order whose every head has the classes in their shares, as near as can be."""
    order = rng.permutation(len(y))
    if not classes:
        return order
    codes = y[order]
    place = np.empty(len(y))
    for code in np.unique(codes):
        at = np.flatnonzero(codes == code)
        # evenly over the whole, from a random start, so that no class always comes first
        place[at] = (np.arange(len(at)) + rng.random()) / len(at)
    return order[np.argsort(place, kind="stable")]


class _Trial:
    """The runs of a probe, size after size, until all are done or the time is over."""

    def __init__(
        self, asked: Asked, data: Labelled, views: dict[bool, Views], members: tuple[Member, ...], pool: Any,
        test: Any, began: float, tick: Tick, told: Callable[[str], None],
    ) -> None:  # fmt: skip
        from pharos.measure import baselines

        self.asked, self.data, self.views, self.members = asked, data, views, members
        self.pool, self.test, self.began, self.tick, self.told = pool, test, began, tick, told
        self.base = baselines
        self.others = baselines.names(bool(data.classes), data.form in ("vector", "ids"))
        if views[False].seen_as("bag" if data.form == "tokens" else "flat", pool[:2], pool[:2])[0].shape[
            1
        ] > (baselines.MOST_INPUTS):
            self.others = []
        self.sizes: list[int] = []
        self.errors: dict[tuple[bool, str, int], dict[int, float]] = {}
        self.pace: dict[tuple[bool, str], float] = {}
        self.took: dict[tuple[str, int], float] = {}
        self.rates: dict[str, float] = {}
        self.done = self.planned = 0
        self.metric = metric_of(data)
        self.chance = 0.5 if self.metric == RANKING else (
            baselines.always(data.y[pool], data.y[test], bool(data.classes)))  # fmt: skip

    def _ladder(self, ratio: float) -> list[int]:
        """Sample sizes from the least that shows every class to the whole pool."""
        most = len(self.pool)
        least = min(max(16, 4 * len(self.data.classes)), most // 2)
        ratio = max(1.3, min(ratio, (most / least) ** (1 / SIZES)))
        found, n = [], float(least)
        while n < most / ratio**0.5:
            found.append(round(n))
            n *= ratio
        return [*found, most]

    def _plan(self) -> list[int]:
        """Sizes that were asked for; or the finest ladder that the time that is left is enough for."""
        most = len(self.pool)
        if self.asked.sizes:
            if max(self.asked.sizes) > most or min(self.asked.sizes) < 8:
                raise InputError(
                    f"must lie between 8 and the {most:,} that are not held out", where="--sizes"
                )
            return sorted(set(self.asked.sizes))
        left = 0.9 * (self.ends - monotonic())
        for ratio in RATIOS:
            sizes = self._ladder(ratio)
            if len(sizes) >= SIZES and self.asked.seeds * sum(map(self._needs, sizes)) <= left:
                return sizes
        return self._ladder(RATIOS[0])

    @property
    def ends(self) -> float:
        return self.began + self.asked.time_s

    def over(self) -> bool:
        now = monotonic()
        self.tick(round(now - self.began), round(self.asked.time_s))
        return now >= self.ends

    def sample(self, n: int, seed: int) -> tuple[Any, Any]:
        """Rows to learn from and rows that stop early, n in all; of one seed, fewer are part of more."""
        rng = np.random.default_rng([self.asked.seed, 11, seed])
        rows = self.pool[stratified(self.data.y[self.pool], self.data.classes, rng)[:n]]
        part = np.random.default_rng([self.asked.seed, 13, seed, n])
        kept, held = split(self.data.y[rows], self.data.classes, HELD, n, part)
        return rows[kept], rows[held]

    def steps(self, n: int) -> int:
        """Steps of training for a sample."""
        return 20 * round(min(max(PASSES * n / self.batch(n), STEPS[0]), STEPS[1]) / 20)

    @staticmethod
    def batch(n: int) -> int:
        """Examples of a batch for a sample."""
        return BATCH if n >= MANY else SMALL_BATCH

    def train(self, member: Member, shuffled: bool, n: int, seed: int, rate: float, until: float) -> Any:
        """A network, or None if time was over; its pace is noted."""
        from pharos.measure.training import Recipe, train

        learnt_from, held = self.sample(n, seed)
        views, y = self.views[shuffled], self.data.y
        inputs = views.of(member.family, learnt_from, learnt_from)
        held_inputs = views.of(member.family, learnt_from, held)
        recipe = Recipe(rate=rate, steps=self.steps(n), batch=self.batch(n))
        began = monotonic()
        made = train(
            member.graph, member.loss, inputs, y[learnt_from], held_inputs, y[held], recipe,
            seed=1000 * self.asked.seed + seed, stop=lambda: self.over() or monotonic() >= until,
        )  # fmt: skip
        if made is not None:
            self.done += 1
            key = shuffled, member.family
            self.pace[key] = max(
                self.pace.get(key, 0.0) * 0.7, (monotonic() - began) / max(made.steps * recipe.batch, 1)
            )
        return made

    def run(self) -> None:
        """Rates first, then every size with every seed."""
        from pharos.measure import training

        self.told("loading")
        training.warm()
        if self.others:
            self.base.warm()
        self._tune()
        self.sizes = self._plan()
        self.done = 0
        self.planned = len(self.sizes) * self.asked.seeds * len(self.members) * len(self.views)
        for n in self.sizes:
            for seed in range(self.asked.seeds):
                if monotonic() + self._needs(n) > self.ends or not self._row(n, seed):
                    return

    def _needs(self, n: int) -> float:
        """Seconds that a size with one seed may take."""
        # before anything ran on shuffled data, they are taken to cost as much
        scale = 1 if any(s for s, _ in self.pace) else len(self.views)
        seconds = scale * sum(p * self.steps(n) * self.batch(n) for p in self.pace.values())
        for name in self.others:
            known = [(size, t) for (other, size), t in self.took.items() if other == name]
            if known:
                size, t = max(known)
                seconds += t * max(1.0, n / size) ** 1.2
        return seconds

    def _tune(self) -> None:
        n = min(TUNED_ON, len(self.pool))
        until = monotonic() + TUNING * (self.ends - monotonic())
        found: dict[str, float] = {}
        for member in self.members:
            seen: dict[float, float] = {}
            for rate in RATES:
                self.told(f"{member.family}, rate {rate:g}")
                made = self.train(member, False, n, 0, rate, until)
                if made is None:
                    return
                seen[rate] = made.best
            found[member.family] = min(seen, key=lambda r: seen[r])
        self.rates = found

    def _row(self, n: int, seed: int) -> bool:
        """Every family and baseline from one sample; False, and nothing kept, if time was over."""
        row: dict[tuple[bool, str], float] = {}
        for shuffled, views in self.views.items():
            for member in self.members:
                self.told(
                    f"{member.family}{' shuffled' if shuffled else ''}, {n:,} examples, seed {seed + 1}"
                )
                rate = self.rates.get(member.family, USUAL_RATE)
                made = self.train(member, shuffled, n, seed, rate, self.ends)
                if made is None:
                    return False
                learnt_from, _ = self.sample(n, seed)
                told = made.scores if self.metric == RANKING else made.predict
                out = told(views.of(member.family, learnt_from, self.test))
                row[shuffled, member.family] = self._error(out)
        for name in self.others:
            self.told(f"{name}, {n:,} examples, seed {seed + 1}")
            began = monotonic()
            rows = np.concatenate(self.sample(n, seed))
            if self.data.classes and len(np.unique(self.data.y[rows])) < 2:
                continue
            view = "bag" if self.data.form == "tokens" else "flat"
            made = self.base.fit(
                name, self.views[False].seen_as(view, rows, rows)[0], self.data.y[rows], seed
            )
            x = self.views[False].seen_as(view, rows, self.test)[0]
            out = made.predict_proba(x)[:, 1] if self.metric == RANKING else made.predict(x)
            row[False, name] = self._error(out)
            self.took[name, n] = monotonic() - began
        for (shuffled, name), error in row.items():
            self.errors.setdefault((shuffled, name, n), {})[seed] = error
        return True

    def _error(self, out: Any) -> float:
        wanted = self.data.y[self.test]
        if self.metric == RANKING:
            return 1 - area(out, wanted)
        if self.data.classes:
            return float((out != wanted).mean())
        return float(((out - wanted) ** 2).mean() / max(float(np.var(wanted)), 1e-12))

    def rows_of(self, n: int) -> int:
        """Seeds that a size was finished with."""
        return len(self.errors.get((False, self.members[0].family, n), {}))

    def curves(self, shuffled: bool) -> dict[str, Curve]:
        """Errors by sample size."""
        return dict(self._curves(shuffled))

    def _curves(self, shuffled: bool) -> Iterator[tuple[str, Curve]]:
        names = [m.family for m in self.members] + ([] if shuffled else self.others)
        for name in names:
            sizes = [n for n in self.sizes if (shuffled, name, n) in self.errors]
            if sizes:
                errors = tuple(tuple(self.errors[shuffled, name, n].values()) for n in sizes)
                yield name, Curve(name=name, sizes=tuple(sizes), errors=errors, chance=self.chance,
                                  tested=len(self.test), counts=self.metric == SHARE)  # fmt: skip


# What an error is: of two classes one of which is rare, of classes, of numbers.
RANKING, SHARE, VARIANCE = "1 - area under ROC", "1 - accuracy", "share of variance left"


def metric_of(data: Labelled) -> str:
    """What errors are: of ranking where one of two classes is rare, of classes, or of numbers."""
    if not data.classes:
        return VARIANCE
    if len(data.classes) == 2 and min(np.mean(data.y == 0), np.mean(data.y == 1)) < SKEWED:
        return RANKING
    return SHARE


def area(scores: Any, wanted: Any) -> float:
    """Area under the ROC curve: how often one of class 1 scores above one of class 0, ties as halves.

    Source: Hanley and McNeil 1982, Radiology 143.
    """
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    ones = int((wanted == 1).sum())
    zeros = len(wanted) - ones
    if not ones or not zeros:
        return 0.5
    return float((ranks[wanted == 1].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def with_size(found: Probe, size: int) -> Probe:
    """The same probe, extrapolated to another number of labels."""
    return replace(found, full=size)
