"""How far the ratio of two networks' predicted times errs, beside each alone: `python benchmarks/differences.py [FOLDER]`.

Residuals log(measured / predicted) of networks that no fit saw, by what they have in common: the board, or the device and
the family. Half the mean square of the difference of two of a group is the variance of the part that is each network's own;
"in band" counts ratios inside the 80% band that this part gives where it is taken from the other devices or cores.
`OWN_KIN` and `OWN_STRANGERS` of `pharos.decide.diff` are its roots.
"""

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pharos.quantity.evidence import Z80

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks/field"))


def pairs_of(groups: Iterable[list[float]]) -> np.ndarray:
    """Every two residuals of a group."""
    return np.array([(a, b) for g in groups for i, a in enumerate(g) for b in g[i + 1 :]])


def own(groups: Iterable[list[float]]) -> float:
    """Standard deviation of the part of a residual that the others of its group do not share."""
    pairs = pairs_of(groups)
    return float(np.mean((pairs[:, 0] - pairs[:, 1]) ** 2) ** 0.5 / 2**0.5)


def line(groups: list[list[float]], others: list[list[float]]) -> str:
    """Rows, groups, pairs, errors, and how many ratios lie in the 80% band that the other sources' own part gives."""
    kept, pairs = [np.array(g) for g in groups if len(g) > 1], pairs_of(groups)
    alone = np.mean(np.concatenate(kept) ** 2) ** 0.5
    inside = "-"
    if others:
        inside = f"{np.mean(np.abs(pairs[:, 0] - pairs[:, 1]) <= Z80 * 2**0.5 * own(others)):.0%}"
    return (f"{sum(map(len, kept))} | {len(kept)} | {len(pairs)} | {alone:.3f} | {own(groups) * 2**0.5:.3f} | "
            f"{own(groups):.3f} | {inside} |")  # fmt: skip


def table(what: str, whole: str, found: dict[str, list[list[float]]]) -> None:
    """A line a source, and one of all."""
    for name, groups in found.items():
        print(f"| {what}{name} | {line(groups, [g for n, gs in found.items() if n != name for g in gs])}")
    print(f"| {whole} | {line([g for gs in found.values() for g in gs], [])}")


def main() -> int:
    """Prints a table of every source."""
    folder = Path(
        sys.argv[1] if len(sys.argv) > 1 else os.environ.get("PHAROS_FIELD", ROOT / "../shared/field")
    )
    from whole import boards, vision

    print(
        "| networks | rows | groups | pairs | a network's error | of a ratio of two | each one's own | in band |"
    )
    print("|---|---|---|---|---|---|---|---|")
    by_core = {}
    for core, found in boards(folder).items():
        by: dict[str, list[float]] = {}
        for run, seconds in found["boards"]:
            by.setdefault(f"{run.board} {run.threads}", []).append(float(np.log(run.seconds / seconds)))
        if by:
            by_core[core] = list(by.values())
    table("any two on a board never fitted, Cortex-", "any two on a board never fitted", by_core)
    by_device = {}
    for device, runs in vision(folder).items():
        by = {}
        for run, seconds in runs:
            family = re.sub(r"[0-9_.].*", "", run.label.replace("tf_", ""))
            by.setdefault(family, []).append(float(np.log(run.seconds / seconds)))
        by_device[device] = list(by.values())
    table("two of a family left out of the fit, ", "two of a family left out of the fit", by_device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
