"""How far the ratio of two networks' predicted times errs, beside each alone: `python benchmarks/differences.py [FOLDER]`.

Residuals log(measured / predicted) of networks that no fit saw, by what they have in common: the board, or the device and
the family. Half the mean square of the difference of two of a group is the variance of the part that is each network's own.
`OWN_KIN` and `OWN_STRANGERS` of `pharos.decide.diff` are its roots.
"""

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks/field"))


def split(groups: Iterable[list[float]]) -> str:
    """Rows, groups, pairs, error of a network, of a ratio of two, and the part that is its own, as a line of a table."""
    kept = [np.array(g) for g in groups if len(g) > 1]
    pairs = np.array([(a, b) for g in kept for i, a in enumerate(g) for b in g[i + 1 :]])
    alone = np.mean(np.concatenate(kept) ** 2) ** 0.5
    ratio = np.mean((pairs[:, 0] - pairs[:, 1]) ** 2) ** 0.5
    return (f"{sum(map(len, kept))} | {len(kept)} | {len(pairs)} | {alone:.3f} | {ratio:.3f} | "
            f"{ratio / 2**0.5:.3f} |")  # fmt: skip


def main() -> int:
    """Prints a table of every source."""
    folder = Path(
        sys.argv[1] if len(sys.argv) > 1 else os.environ.get("PHAROS_FIELD", ROOT / "../shared/field")
    )
    from whole import boards, vision

    print("| networks | rows | groups | pairs | rms of the log error | of a ratio of two | each one's own |")
    print("|---|---|---|---|---|---|---|")
    whole: list[list[float]] = []
    for core, found in boards(folder).items():
        by: dict[str, list[float]] = {}
        for run, seconds in found["boards"]:
            by.setdefault(f"{run.board} {run.threads}", []).append(float(np.log(run.seconds / seconds)))
        if by:
            print(f"| any two on a Cortex-{core} never fitted | {split(by.values())}")
            whole += by.values()
    print(f"| any two on a board never fitted | {split(whole)}")
    whole = []
    for device, runs in vision(folder).items():
        by = {}
        for run, seconds in runs:
            family = re.sub(r"[0-9_.].*", "", run.label.replace("tf_", ""))
            by.setdefault(family, []).append(float(np.log(run.seconds / seconds)))
        print(f"| two of a family left out, {device} | {split(by.values())}")
        whole += by.values()
    print(f"| two of a family left out | {split(whole)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
