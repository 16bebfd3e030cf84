"""Facts about data: modality, sizes and structure, each with how it is known; and the levels they come to."""

from dataclasses import dataclass, field, fields, replace
from math import exp, log
from typing import Any

from pharos.quantity.evidence import Figure

# Kind of data -> what one example is, for the cards of families.
KINDS = {"tabular": "vector", "images": "grid", "audio": "grid", "text": "sequence", "sequence": "sequence",
         "interactions": "ids", "graph": "set"}  # fmt: skip
STRUCTURES = ("local", "stationary", "ordered", "far", "recall", "unbounded", "columns", "ids", "varies")


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """One data set, as measured or as told.

    Args:
        kind: a key of KINDS.
        examples, labels, classes: how many; labels is the number of labelled examples.
        features: numbers of a table's row or a sequence's step.
        resolution, channels: of images, in pixels of the shorter side.
        length, longest: steps or tokens of an example, the median and the longest; rate_hz: steps a second.
        unbounded: the sequence does not end.
        vocabulary: distinct tokens.
        tables: rows of each categorical column; zipf: the exponent of the most skewed one.
        dependence: steps over which elements still tell about each other.
        neighbours: correlation of neighbouring elements, -1 to 1; reach: elements until it falls to 1/e.
        order_p: p of a permutation test that order does not matter.
        translation, rotation: 0 to 1, how little statistics depend on place and on direction.
        known: field -> how it is known: "measured: ...", "told: ..." or "assumed: ...".
        notes: what a reader should hear: bad rows, sampling and its error.
        skew: share of the rarest class.
        learnt: family -> accuracy that a small member of it reached on these data, by a probe.
    """

    kind: str
    path: str = ""
    examples: int | None = None
    labels: int | None = None
    classes: int | None = None
    features: int | None = None
    resolution: int | None = None
    channels: int | None = None
    length: int | None = None
    longest: int | None = None
    rate_hz: float | None = None
    unbounded: bool = False
    vocabulary: int | None = None
    tables: tuple[int, ...] = ()
    zipf: float | None = None
    dependence: float | None = None
    neighbours: float | None = None
    reach: float | None = None
    order_p: float | None = None
    translation: float | None = None
    rotation: float | None = None
    skew: float | None = None
    learnt: dict[str, Figure] = field(default_factory=dict)
    known: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def over(self) -> str:
        """What one example is: vector, grid, sequence, ids or set; endless sound is a sequence."""
        return "sequence" if self.kind == "audio" and self.unbounded else KINDS[self.kind]

    def with_told(self, told: dict[str, Any], where: str) -> "Data":
        """The same data with what a person told, which goes before what was measured."""
        given = {k: v for k, v in told.items() if v is not None}
        known = self.known | dict.fromkeys(given, f"told: {where}")
        return replace(self, **given, known=known)

    def row(self) -> dict[str, Any]:
        """Every field that is known, as plain data."""
        found = {
            f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("known", "notes", "learnt")
        }
        shown = {
            k: list(v) if isinstance(v, tuple) else v for k, v in found.items() if v not in (None, "", ())
        }
        return {**shown, "known": dict(self.known), "notes": list(self.notes)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """How far a structure is there, 0 to 1; None when it is not known.

    Args:
        says: the figures it comes from.
        known: measured, told or assumed.
    """

    value: float | None
    says: str
    known: str


def structure(data: Data) -> dict[str, Level]:
    """The levels of STRUCTURES; a kind's usual ones, marked assumed, stand in for what was not measured."""
    return {name: globals()[f"_{name}"](data) for name in STRUCTURES}


def _how(data: Data, *names: str) -> str:
    found = [data.known.get(n, "") for n in names]
    return next((k.partition(":")[0] for k in found if k), "assumed")


def _local(data: Data) -> Level:
    if data.over in ("vector", "ids", "set"):
        return Level(value=0.0, says="columns have no neighbours", known="assumed")
    if data.over == "sequence" and data.dependence is not None and (data.unbounded or not data.length):
        says = f"elements depend on each other over {data.dependence:,.3g} steps"
        value = _falling(data.dependence, 16, 1024, log_scale=True)
        return Level(value=value, says=says, known=_how(data, "dependence"))
    if data.over == "sequence" and data.dependence is not None and data.length:
        share = min(1.0, data.dependence / data.length)
        says = f"elements depend on each other over {data.dependence:.3g} of {data.length:,} steps"
        # short against the whole is local; a stream's whole is taken to be long
        return Level(value=_falling(share, 0.1, 0.8), says=says, known=_how(data, "dependence"))
    if data.neighbours is not None:
        says = f"neighbours correlate by {data.neighbours:.2f}"
        if data.reach is not None:
            says += f", over {data.reach:.3g} elements"
        value = min(1.0, max(0.0, data.neighbours / 0.5))
        return Level(value=value, says=says, known=_how(data, "neighbours"))
    if data.over == "grid":
        what = "pixels" if data.kind == "images" else "times and frequencies"
        return Level(value=1.0, says=f"neighbouring {what} usually belong together", known="assumed")
    return Level(value=None, says="how far dependence reaches is not known", known="unknown")


def _stationary(data: Data) -> Level:
    if data.over in ("vector", "ids", "set"):
        return Level(value=0.0, says="a column means one thing", known="assumed")
    if data.translation is not None:
        says = f"statistics depend on the place by {1 - data.translation:.0%}"
        return Level(value=data.translation, says=says, known=_how(data, "translation"))
    return Level(value=0.9, says="a pattern usually means the same wherever it occurs", known="assumed")


def _ordered(data: Data) -> Level:
    if data.order_p is not None:
        says = f"shuffled order is told from the true one with p = {data.order_p:.2g}"
        return Level(value=1.0 if data.order_p <= 0.05 else 0.0, says=says, known=_how(data, "order_p"))
    if data.over == "sequence" or data.kind == "audio":
        return Level(value=1.0, says="order usually matters in a sequence", known="assumed")
    return Level(value=0.0, says="nothing follows anything", known="assumed")


def _far(data: Data) -> Level:
    if data.over != "sequence":
        return Level(value=0.0, says="no distance to bridge", known="assumed")
    if data.dependence is None:
        return Level(value=None, says="how far dependence reaches is not known", known="unknown")
    share = 1.0 if data.unbounded or not data.length else min(1.0, data.dependence / data.length)
    # far is a large share of what is long enough for windows to be many layers deep
    far = (1 - _falling(share, 0.1, 0.8)) * (1 - _falling(data.dependence, 16, 1024, log_scale=True))
    says = f"dependence reaches {data.dependence:,.3g} steps"
    return Level(value=far, says=says, known=_how(data, "dependence"))


def _recall(data: Data) -> Level:
    if data.kind != "text":
        return Level(value=0.0, says="nothing names what is to be found", known="assumed")
    far = _far(data)
    # a word that comes again far away is found by what it is, not by where it stands
    return Level(value=far.value, says="tokens far apart are found by what they are", known=far.known)


def _unbounded(data: Data) -> Level:
    says = "the sequence does not end" if data.unbounded else "every example ends"
    return Level(value=float(data.unbounded), says=says, known=_how(data, "unbounded"))


def _columns(data: Data) -> Level:
    if data.over == "vector":
        says = f"{data.features or 'some'} columns, each with a meaning of its own"
        return Level(value=1.0, says=says, known=_how(data, "features"))
    return Level(value=0.0, says="elements are alike", known="assumed")


def _ids(data: Data) -> Level:
    total = sum(data.tables)
    if not total:
        return Level(value=0.0, says="no identifiers", known="assumed")
    says = f"{total:,} values of {len(data.tables)} categorical columns"
    if data.zipf is not None:
        says += f", Zipf exponent {data.zipf:.2f}"
    # one-hot columns do up to some thousands of values; a table of rows is needed beyond
    return Level(value=1 - _falling(total, 1e3, 1e5, log_scale=True), says=says, known=_how(data, "tables"))


def _varies(data: Data) -> Level:
    if data.over != "sequence":
        return Level(value=0.0, says="examples are of one size", known="assumed")
    if data.unbounded:
        return Level(value=1.0, says="no length is the last", known=_how(data, "unbounded"))
    if data.length and data.longest:
        says = f"median {data.length:,} steps, longest {data.longest:,}"
        value = min(1.0, data.longest / data.length - 1)
        return Level(value=value, says=says, known=_how(data, "longest", "length"))
    return Level(value=0.5, says="lengths usually differ", known="assumed")


def _falling(x: float, low: float, high: float, log_scale: bool = False) -> float:
    """1 up to `low`, 0 from `high`, straight between (on a log scale if told)."""
    if log_scale:
        x, low, high = log(max(x, 1e-12)), log(low), log(high)
    return min(1.0, max(0.0, (high - x) / (high - low)))


def e_folding(steps: float) -> float:
    """The lag-1 correlation of an AR(1) process whose correlation falls to 1/e in so many steps."""
    return exp(-1 / steps)
