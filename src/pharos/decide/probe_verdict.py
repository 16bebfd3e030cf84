"""What a probe says: who learns from fewest examples, by how much, how surely; and without places."""

from dataclasses import dataclass

from pharos.decide.curves import Advantage, Range
from pharos.decide.probe import Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeVerdict:
    """Findings in words with what they rest on.

    Args:
        best: the family that learns from fewest examples; None if none learns.
        clear: whether its lead over the next family is larger than chance of seeds allows.
        gap: "gone", "smaller", "stays" or "" (not asked, or no lead): the lead once places are shuffled.
        words: sentences, most important first.
    """

    best: str | None
    clear: bool
    gap: str
    words: tuple[str, ...]


def verdict_of(found: Probe) -> ProbeVerdict:
    """The verdict of a probe."""
    order, words = found.ranked(), []
    best = order[0]
    largest = found.curves[best].sizes[-1]
    if not found.curves[best].learns:
        words.append(
            f"no family comes clearly below chance ({found.chance:.1%}) with {largest:,} examples: nothing "
            "can be told about them"
        )
        words += _baseline(found, best)
        return ProbeVerdict(best=None, clear=False, gap="", words=tuple(words))
    leads = found.advantages()
    clear = bool(leads) and leads[0].clear and leads[0].ratio.value > 1
    for lead in leads:
        words.append(lead_words(lead, found.curves[lead.first].sizes[-1], found.asked.seeds))
    if not leads:
        words.append(f"{best} errs by {found.curves[best].means[-1]:.1%} after {largest:,} examples")
    words += _baseline(found, best)
    gap = ""
    if found.shuffled and leads:
        gap, sentence = _shuffled(found, leads)
        words.append(sentence)
    return ProbeVerdict(best=best, clear=clear, gap=gap, words=tuple(words))


def times(ratio: Range) -> str:
    """A ratio in words with its interval."""
    bound = "at least " if ratio.least and ratio.value >= 1 else ""
    return f"{bound}{ratio.value:.3g} times (80%: {ratio.low:.3g} to {ratio.high:.3g})"


def lead_words(lead: Advantage, largest: int, seeds: int) -> str:
    """One family beside another."""
    spread = "" if lead.gap_spread is None else f" (spread of seeds {100 * lead.gap_spread:.1f})"
    less = "less" if lead.gap >= 0 else "more"
    gap = f"after {largest:,} it errs by {abs(100 * lead.gap):.1f} points {less}{spread}"
    if lead.few == lead.many and lead.ratio.least:
        return f"{lead.first} and {lead.second} are not told apart by samples among the sizes tried; {gap}"
    if not lead.clear:
        why = "with one seed no spread is known" if seeds < 2 else "seeds differ as much"
        return (f"{lead.first} and {lead.second} cannot be told apart by samples: {lead.second} takes "
                f"{times(lead.ratio)} as many to an error of {lead.error:.1%}, {why}; {gap}")  # fmt: skip
    verb = "learns from fewer examples than" if lead.ratio.value > 1 else "needs more examples than"
    return (f"{lead.first} {verb} {lead.second}: to an error of {lead.error:.1%} it takes {lead.few:,.0f}, "
            f"{lead.second} {times(lead.ratio)} as many; {gap}")  # fmt: skip


def _baseline(found: Probe, best: str) -> list[str]:
    words = []
    for name, curve in found.curves.items():
        if name in found.families:
            continue
        common = [n for n in curve.sizes if n in found.curves[best].sizes]
        if not common:
            continue
        n = common[-1]
        mine = float(found.curves[best].means[found.curves[best].sizes.index(n)])
        other = float(curve.means[curve.sizes.index(n)])
        if other < mine:
            words.append(
                f"without a network: {name} errs by {other:.1%} after {n:,} examples, {best} by {mine:.1%}"
            )
    return words


def _shuffled(found: Probe, leads: list[Advantage]) -> tuple[str, str]:
    """What becomes of the lead over what assumes least, the MLP where it is there, without places."""
    lead = next((a for a in leads if a.second == "mlp"), leads[0])
    after = next(
        a for a in [*found.advantages(True, lead.first), None] if a is None or a.second == lead.second
    )
    head = f"with {found.places} shuffled"
    gap = 100 * lead.gap
    if after is None:
        return (
            "gone",
            f"{head} neither {lead.first} nor {lead.second} learns: what they used was where things lie",
        )
    now = 100 * after.gap
    told = (
        f"the lead of {lead.first} over {lead.second} goes from {gap:.1f} to {now:.1f} points, samples from "
        f"{times(lead.ratio)} to {times(after.ratio)}"
    )
    own = float(found.shuffled[lead.first].means[-1]) - float(found.curves[lead.first].means[-1])
    if not lead.clear:
        return "", f"{head} {told}; there was no clear lead to lose"
    if not after.clear or after.ratio.value <= 1:
        return (
            "gone",
            f"{head} the gap is gone: {told}; {lead.first} itself errs by {100 * own:.1f} points more",
        )
    if after.gap < lead.gap / 2 or after.ratio.value < lead.ratio.value**0.5:
        return (
            "smaller",
            f"{head} the gap is smaller: {told}; {lead.first} errs by {100 * own:.1f} points more",
        )
    return "stays", f"{head} the gap stays: {told}: it does not rest on where things lie"
