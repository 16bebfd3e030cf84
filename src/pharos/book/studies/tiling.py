"""Tiling: the largest square tiles of a matrix product that a cache holds, and what they save."""

from math import floor, sqrt

from pharos.book.study import Bytes, study
from pharos.decide.alignment import multiple_of
from pharos.graph.tensor import Tensor
from pharos.machines.machine import find_machine
from pharos.quantity.errors import InputError
from pharos.quantity.evidence import Evidence, counted, spec
from pharos.quantity.units import fmt
from pharos.report.studies import Told


@study(
    "tiling", "Which tiles of a matrix product fit a cache, and how much traffic do they save?", section="1.9"
)
def tiling(
    *,
    rows: int = 4096,
    columns: int = 4096,
    inner: int = 4096,
    precision: str = "fp32",
    cache: Bytes = 48 * 1024.0,
    on: str = "a100-sxm-80gb",
) -> Told:
    """Three tiles (of both factors and of the product) held at once; traffic by how often each is read again.

    Args:
        cache: bytes of the level; 0 for the machine's last level in the catalogue.
    """
    machine = find_machine(on)
    known: Evidence = spec("cache as given") if cache else machine.cache_bytes.evidence
    held = cache or machine.cache_bytes.value
    if held is None:
        raise InputError(
            f"the cache of {machine.id} is not in the catalogue", where="on", hint="write cache=..."
        )
    found = multiple_of(machine, precision)
    step = found[0] if found else 1
    table = []
    for side in (16, 32, 64, 128, 256, 512, 1024):
        table.append(
            (
                side,
                three(side, precision),
                three(side, precision) <= held,
                moved(rows, columns, inner, side, precision),
            )
        )
    best = _largest(held, precision, step)
    if best == 0:
        raise InputError(
            f"{fmt(held, 'B', binary=True)} hold no three tiles of {step} x {step}", where="cache"
        )
    once = moved(rows, columns, inner, max(rows, columns, inner), precision)
    mine, untiled = (moved(rows, columns, inner, side, precision) for side in (best, 1))
    return Told(
        answer=f"tiles of {best} x {best} ({fmt(three(best, precision), 'B', binary=True)} of "
        f"{fmt(held, 'B', binary=True)}): {fmt(mine, 'B')} moved, "
        f"{untiled / mine:.3g} times less than untiled",
        numbers={
            "tile": best,
            "tile_bytes": three(best, precision),
            "moved_bytes": mine,
            "untiled_bytes": untiled,
            "least_bytes": once,
        },
        reasons=(
            f"each element of a tile is used {best} times while it is held",
            f"sides are multiples of {step}, as the matrix unit wants them"
            if step > 1
            else "no multiple is asked for by this machine's units",
        ),
        columns=("tile", "three_tiles_bytes", "fits", "moved_bytes"),
        rows=tuple(table),
        evidence=(counted("bytes of tiles and of reads"), known),
        note="every read of a tile counted, the product written once",
    )


def three(side: int, precision: str) -> int:
    """Bytes of a tile of each factor and of the product."""
    return 3 * int(Tensor((side, side), precision).nbytes)


def moved(rows: int, columns: int, inner: int, side: int, precision: str) -> int:
    """Bytes to and from memory with square tiles: each factor is read once per tile of the other's side."""
    across, down = -(-columns // side), -(-rows // side)
    left, right, product = ((rows, inner), (inner, columns), (rows, columns))
    a, b, c = (int(Tensor(shape, precision).nbytes) for shape in (left, right, product))
    return across * a + down * b + c


def _largest(held: float, precision: str, step: int) -> int:
    element = float(Tensor((1,), precision).nbytes)
    side = floor(sqrt(held / (3 * element)))
    return side // step * step
