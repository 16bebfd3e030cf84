"""Systolic array: cycles and use of an R x C grid of multipliers for a matrix product."""

from math import ceil

from pharos.book.study import Hertz, study
from pharos.book.sums import dense
from pharos.quantity.errors import InputError
from pharos.quantity.evidence import counted
from pharos.quantity.units import fmt
from pharos.report.studies import Told


@study("systolic", "How well does a matrix product fill a systolic array?", section="1.9")
def systolic(
    *,
    batch: int = 256,
    inputs: int = 784,
    outputs: int = 100,
    rows: int = 256,
    columns: int = 256,
    clock: Hertz = 700e6,
) -> Told:
    """Weights stay, samples stream: a tile of rows x columns takes batch + rows + columns - 2 cycles.

    The next tile's weights are loaded meanwhile, so that only the first load counts.

    Args:
        clock: cycles a second.
    """
    if min(batch, inputs, outputs, rows, columns) < 1:
        raise InputError("sizes are at least 1", where="rows")
    table = []
    for n in sorted({1, 16, batch, 16 * batch, 256 * batch}):
        table.append((n, *_runs(n, inputs, outputs, rows, columns, clock)))
    cycles, use, seconds = _runs(batch, inputs, outputs, rows, columns, clock)
    tiles = ceil(inputs / rows) * ceil(outputs / columns)
    filled = inputs * outputs / (tiles * rows * columns)
    return Told(
        answer=f"{use:.1%} of the array's multiplications are used: {cycles:,} cycles, {fmt(seconds, 's')}",
        numbers={
            "cycles": cycles,
            "utilisation": use,
            "seconds": seconds,
            "macs_per_cycle": rows * columns,
            "peak_flops_per_s": 2 * rows * columns * clock,
            "filled": filled,
        },
        reasons=(
            f"{inputs} x {outputs} weights fill {filled:.1%} of {tiles} tiles of {rows} x {columns}",
            f"samples stream in and out for {rows + columns - 2} cycles more than there are samples",
        ),
        columns=("batch", "cycles", "utilisation", "seconds"),
        rows=tuple(table),
        evidence=(counted("cycles of an array whose weights stay"),),
        note=f"at most {rows * columns:,} MACs a cycle, {fmt(2 * rows * columns * clock, 'FLOP/s')}",
    )


def _runs(
    n: int, inputs: int, outputs: int, rows: int, columns: int, clock: float
) -> tuple[int, float, float]:
    tiles = ceil(inputs / rows) * ceil(outputs / columns)
    cycles = rows + tiles * (n + rows + columns - 2)
    macs = float(dense(inputs, outputs, n).macs)
    return cycles, macs / (cycles * rows * columns), cycles / clock
