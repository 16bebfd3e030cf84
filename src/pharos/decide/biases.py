"""Biases: what each family assumes, held against what data has; candidates with reasons on both sides."""

from dataclasses import dataclass
from functools import cache
from math import log10
from typing import Any

from pharos.decide.data.facts import Data, Level, structure
from pharos.facts.tables import families, family_card

# How much each structure counts. Assumed; a stream's end and identifiers decide what can run at all.
WEIGHTS = {
    "local": 2.0,
    "stationary": 1.0,
    "ordered": 1.0,
    "far": 2.0,
    "recall": 1.5,
    "unbounded": 3.0,
    "columns": 2.0,
    "ids": 3.0,
    "varies": 0.5,
}
LABELS_WEIGHT = 2.0
# Structures that labels teach a family that does not assume them. What a bias is worth halves with every
# tenfold labels beyond enough. Assumed, so that networks on images order as in Dosovitskiy et al. 2020,
# arXiv:2010.11929, figure 3: CNNs ahead at 1.3 M, close at 14 M, behind at 300 M.
LEARNT = ("local", "stationary")
# A spectrogram read as a sequence: locality holds in time, not between bands.
ONE_AXIS = 0.75
# Rows up to which trees lead on tables: Grinsztajn et al. 2022, arXiv:2207.08815 (to 50,000 rows); beyond,
# networks come level: McElfresh et al. 2023, arXiv:2305.02997.
TREES_LEAD, TREES_LEVEL = 50_000, 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bias:
    """What a family assumes about data, each 0 (not at all) to 1.

    Args:
        strength: the rank of the family by how much it assumes, 4 the most.
        lookback: how far back what was seen still tells; streams: its state does not grow with the input;
            varies: any length fits the same weights.
        published_weights: kinds of data that weights can be had for.
        labels: what an example is -> (labels below which it fails, labels that are enough, source).
    """

    family: str
    locality: float
    weight_sharing: float
    equivariance: tuple[str, ...]
    recurrence: float
    permutation: float
    all_pairs: float
    sparse_lookup: float
    strength: int
    lookback: float
    streams: float
    varies: float
    published_weights: tuple[str, ...]
    labels: dict[str, tuple[float, float, str]]


@cache
def bias(family: str) -> Bias:
    """A family's biases, from its card."""
    card = family_card(family)
    found: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in card["bias"].items()}
    labels = {row["over"]: (float(row["few"]), float(row["enough"]), row["source"]) for row in card["labels"]}
    return Bias(family=family, labels=labels, **found)


def by_strength() -> list[Bias]:
    """Every family, those that assume most first."""
    return sorted(map(bias, families()), key=lambda b: (-b.strength, b.family))


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A family held against data.

    Args:
        score: the sum of what speaks for it less what speaks against it.
        reasons, counters: in words, heaviest first.
        labels_level: 0 to 1, how far the labels suffice.
    """

    family: str
    score: float
    reasons: tuple[str, ...]
    counters: tuple[str, ...]
    labels_level: float | None


def overs(data: Data) -> tuple[str, ...]:
    """What an example may be taken as: sound is a grid and a sequence."""
    return ("grid", "sequence") if data.kind == "audio" and not data.unbounded else (data.over,)


def _provided(name: str, b: Bias, data: Data, over: str) -> tuple[float, str]:
    """How far a family provides for a structure, and by what."""
    if name == "local":
        scale = ONE_AXIS if over == "sequence" and data.over == "grid" else 1.0
        return scale * b.locality, "its windows are local" if b.locality > 0.5 else "it has no windows"
    if name == "stationary":
        shared = 1.0 if "translation" in b.equivariance else 0.5 * b.weight_sharing
        return shared, "it uses the same weights everywhere" if shared > 0.5 else "it learns each place anew"
    if name == "ordered":
        if b.recurrence:
            return 1.0, "it takes steps in their order"
        if b.locality and over == "sequence":
            return 0.8, "its windows keep order"
        return (0.6, "positions are added") if b.permutation else (0.5, "every place has weights of its own")
    if name == "far":
        says = "any two elements meet" if b.lookback >= 1 else "what is far back fades or lies outside"
        return b.lookback, says
    if name == "recall":
        # a state of fixed size copies only so much: Jelassi et al. 2024, arXiv:2402.01032
        return (
            b.all_pairs,
            "all pairs are compared" if b.all_pairs else "no state of fixed size holds them all",
        )
    if name == "unbounded":
        says = "its state does not grow" if b.streams == 1 else "what it keeps grows, or ends at a window"
        return b.streams, says
    if name == "columns":
        free = 1.0 - max(b.locality, b.recurrence, 0.5 * b.permutation)
        return free, "it assumes nothing of columns" if free > 0.5 else "it assumes what columns do not have"
    if name == "ids":
        return b.sparse_lookup, "a row is looked up" if b.sparse_lookup else "every value is an input"
    return b.varies, "any length fits" if b.varies else "it takes one length"


# A structure -> what a family pays for that assumes it where it is not there, and in what words.
_ASSUMED = {"local": ("locality", "assumes that neighbours belong together"),
            "ordered": ("recurrence", "goes step by step where nothing follows anything"),
            "ids": ("sparse_lookup", "keeps tables for identifiers that are not there"),
            "far": ("all_pairs", "pays for all pairs where few matter")}  # fmt: skip


def match(data: Data, family: str, *, pretrained: bool = False) -> Match | None:
    """A family held against data; None where it cannot take such examples."""
    b = bias(family)
    over = next((o for o in overs(data) if o in b.labels), None)
    if over is None:
        return None
    suffices, beyond, words = _labels(data, b, over, pretrained)
    found: list[tuple[float, str]] = []
    for name, level in structure(data).items():
        if level.value is None:
            continue
        for value, why in _weighed(name, level, b, data, over):
            if name in LEARNT or (name == "far" and value < 0):
                # what labels teach need not be built in, and what is built in is worth less
                value *= 1 - (suffices or 0.0) if value < 0 else 0.5**beyond
            found.append((value, why))
    if suffices is not None:
        found.append((LABELS_WEIGHT * (2 * suffices - 1), words))
    if beyond:
        free = (4 - b.strength) / 4
        found.append((free * beyond, f"labels are {10**beyond:,.0f} times enough: it is bound by little"))
    for_, against = [f for f in found if f[0] > 0.05], [f for f in found if f[0] < -0.05]
    return Match(
        family=family, score=round(sum(v for v, _ in found), 3), labels_level=suffices,
        reasons=tuple(s for _, s in sorted(for_, reverse=True)),
        counters=tuple(s for _, s in sorted(against)),
    )  # fmt: skip


def _weighed(name: str, level: Level, b: Bias, data: Data, over: str) -> list[tuple[float, str]]:
    weight, there = WEIGHTS[name], level.value or 0.0
    given, by = _provided(name, b, data, over)
    found = [(weight * there * (2 * given - 1), f"{level.says} [{level.known}]: {by}")]
    if name in _ASSUMED:
        field, words = _ASSUMED[name]
        held = getattr(b, field)
        scale = 0.25 if name == "far" else 0.5
        found.append((-weight * scale * (1 - there) * held, f"{level.says} [{level.known}]: it {words}"))
    return found


def _labels(data: Data, b: Bias, over: str, pretrained: bool) -> tuple[float | None, float, str]:
    """How far labels suffice, the tens by which they are more than enough, and both in words."""
    labels = data.labels if data.labels is not None else data.examples
    few, enough, source = b.labels[over]
    if labels is None:
        return None, 0.0, ""
    level = min(1.0, max(0.0, log10(max(labels, 1) / few) / log10(enough / few)))
    words = f"{labels:,} labelled examples against {few:,.0f} (few) to {enough:,.0f} (enough): {source}"
    if pretrained and data.kind in b.published_weights and level < 0.8:
        return 0.8, 0.0, f"{labels:,} labelled examples, and weights trained on other data may be used"
    return level, max(0.0, log10(max(labels, 1) / enough)), words


def candidates(data: Data, *, pretrained: bool = False) -> list[Match]:
    """Families that can take the data, the best match first; of equals the stronger bias."""
    found = [m for f in families() if (m := match(data, f, pretrained=pretrained)) is not None]
    return sorted(found, key=lambda m: (-m.score, -bias(m.family).strength, m.family))


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """What may do without a neural network."""

    name: str
    reason: str
    leads: bool


def without_network(data: Data) -> Alternative | None:
    """Gradient-boosted trees for tables of modest size; None where they are no match."""
    if data.over != "vector" or data.kind == "interactions":
        return None
    rows = data.labels or data.examples
    name = "gradient-boosted trees"
    if rows is None or rows <= TREES_LEVEL:
        lead = rows is None or rows <= TREES_LEAD
        many = "tables of this kind" if rows is None else f"{rows:,} rows"
        return Alternative(
            name=name,
            leads=lead,
            reason=f"no neural network may be needed: on {many} trees are "
            f"{'ahead of' if lead else 'level with'} networks and cheaper to tune (Grinsztajn et al. 2022, "
            "arXiv:2207.08815; McElfresh et al. 2023, arXiv:2305.02997)",
        )
    return Alternative(
        name=name, leads=False, reason=f"on {rows:,} rows networks and trees are close: try both "
        "(McElfresh et al. 2023, arXiv:2305.02997)",
    )  # fmt: skip


def bias_row(b: Bias) -> dict[str, Any]:
    """A family's biases as plain data."""
    return {f: getattr(b, f) for f in Bias.__dataclass_fields__ if f != "labels"} | {
        "labels": {k: {"few": v[0], "enough": v[1], "source": v[2]} for k, v in b.labels.items()}
    }
