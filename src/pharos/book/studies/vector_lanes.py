"""Vector lanes: how much of a vector unit a product fills, by the number type and its sizes."""

from pharos.book.study import study
from pharos.quantity.dtypes import dtype
from pharos.quantity.errors import InputError
from pharos.quantity.evidence import assumed, counted
from pharos.quantity.sizes import ceil_div
from pharos.report.studies import Told

TYPES = {"fp64": 64, "fp32": 32, "bf16": 16, "fp16": 16, "int8": 8}


@study("vector-lanes", "How many lanes of a vector unit does a product fill?", section="1.2")
def vector_lanes(*, outputs: int = 100, bits: int = 512, precision: str = "fp32", units: int = 2) -> Told:
    """Neighbouring outputs of a product lie in the lanes of one vector; the last vector may be part empty.

    Args:
        outputs: of a dense layer, or channels of a convolution. bits: width of a vector: 128 NEON, 256 AVX2,
            512 AVX-512. units: multiply-add units of a core.
    """
    name = dtype(precision)
    if name not in TYPES:
        raise InputError(f"{precision} has no lanes here", where="precision", hint=", ".join(TYPES))
    if bits < TYPES[name] or bits % TYPES[name] or outputs < 1 or units < 1:
        raise InputError(f"a vector holds whole numbers of {TYPES[name]} bits", where="bits, outputs, units")
    rows = []
    for kind, size in TYPES.items():
        lanes = bits // size
        vectors = ceil_div(outputs, lanes) if lanes else 0
        use = outputs / (vectors * lanes) if lanes else 0.0
        rows.append((kind, lanes, vectors, use, outputs / vectors if vectors else 0.0, lanes * units))
    _, lanes, vectors, use, gain, macs = rows[list(TYPES).index(name)]
    return Told(
        answer=f"{outputs:,} outputs fill {use:.1%} of {vectors:,} vectors of {lanes} lanes: at most "
        f"{gain:.3g} times as fast as one at a time",
        numbers={
            "lanes": lanes, "vectors": vectors, "utilisation": use, "speedup_bound": gain,
            "macs_per_cycle": macs, "next_multiple": vectors * lanes,
        },
        reasons=(
            f"{bits} bits hold {lanes} numbers of {TYPES[name]} bits; an instruction takes them all",
            "a bound: memory may be slower, and wide vectors may lower the clock",
            f"a multiple of {lanes} fills every vector: {vectors * lanes:,} outputs in the same time",
        ),
        columns=("type", "lanes", "vectors", "utilisation", "speedup_bound", "macs_per_cycle"),
        rows=tuple(rows),
        evidence=(counted("lanes"), assumed("every vector takes as long, full or not")),
    )  # fmt: skip
