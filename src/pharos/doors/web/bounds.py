"""Bounds: what a page may ask for at most, so that no request takes hours or the machine's memory."""

from typing import Any

from pharos.quantity.errors import InputError

# Characters of a query, of one of its values, and of a name of a model with its hyperparameters.
LONGEST_QUERY, LONGEST_VALUE, LONGEST_MODEL = 8192, 2000, 300
# Samples or sequences, and tokens of one.
MOST_BATCH, MOST_CONTEXT = 2**24, 2**24
# Machines beside each other: while one model is explored, and in a comparison.
MOST_BESIDE, MOST_COMPARED = 3, 12
# A hyperparameter that repeats parts of a network, and any other.
MOST_REPEATS, MOST_SIZE = 1024, 10**10
REPEATS = ("layer", "depth", "block", "stage", "repeat")
# Numbers of a list of sizes.
MOST_SIZES = 64
# Bytes of an upload, of all that are kept, and of any other body; seconds until a body must be there.
LARGEST_UPLOAD, LARGEST_KEPT, LARGEST_BODY = 128 * 10**6, 512 * 10**6, 64 * 2**10
BODY_S = 60.0
# Bytes of address space of a process that does sums, and of one that reads uploads.
WORKER_BYTES, READER_BYTES = 4 * 2**30, 6 * 2**30
# Tables and devices of a sharding problem, and seconds of its solver.
MOST_TABLES, MOST_DEVICES, SOLVER_S = 200, 1024, 5.0


def check_hyperparameters(name: str, given: dict[str, Any]) -> None:
    """Refuses sizes beyond what any network has.

    Raises:
        InputError: naming the hyperparameter and what is allowed.
    """
    for key, value in given.items():
        most = MOST_REPEATS if any(word in key for word in REPEATS) else MOST_SIZE
        each = value if isinstance(value, (list, tuple)) else [value]
        numbers = [v for v in each if isinstance(v, (int, float)) and not isinstance(v, bool)]
        if len(each) > MOST_SIZES or (most == MOST_REPEATS and sum(numbers) > most):
            raise InputError(f"is larger than the page takes: at most {most:,} in {MOST_SIZES} parts",
                             where=f"{name}.{key}", hint="the command line has no such bound")  # fmt: skip
        if any(not -MOST_SIZE <= v <= most for v in numbers):
            raise InputError(f"must be at most {most:,} here", where=f"{name}.{key}",
                             hint="the command line has no such bound")  # fmt: skip
