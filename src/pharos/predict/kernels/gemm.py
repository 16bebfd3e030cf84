"""Matrix products: tiles in waves, split sums, cache and memory; the best of the kernels a library has."""

from functools import cache
from typing import Any

from pharos.predict.kernels.base import Constants, Device, Form, Parts, Sizes, joined, octaves, waves

# Output tiles of the kernels that libraries ship for matrix units, and the ways they split the sum.
TILES = ((256, 128), (128, 256), (128, 128), (64, 256), (256, 64), (128, 64), (64, 128), (64, 64), (32, 64),
         (16, 64), (64, 32), (32, 32))  # fmt: skip
SPLITS = (1, 2, 3, 4, 6, 8, 16, 32)
# Long splits are built for small tiles only.
SMALL = 64 * 128

CONSTANTS = {
    "launch_us": (2.2, 0.7),
    "peak": (0.95, 0.3, 1.0),  # share of the peak that an unboundedly large tile would reach
    "tile_half": (12.0, 0.7),  # a b / (a + b) of the tile a x b that reaches half of it
    "bandwidth": (0.85, 0.3, 1.0),  # share of the memory bandwidth that large products reach
    "stream": (2.0, 0.7),  # one unit alone draws so many times its share of the bandwidth
    "write": (1.0, 0.3),  # a byte written costs so many read ones
    "cache": (4.0, 0.7),  # bandwidth of the last cache in those of the memory
    "cache_stream": (2.0, 0.7),
    "sharpness": (3.0, 0.7),
    "tile_us": (0.7, 0.7),  # start and end of a tile
    "step_us": (0.03, 0.7),  # one step of a sum that nothing overlaps
    "split_us": (1.5, 0.7),
    "wave": (2.0, 1.0),  # see `waves`
}


@cache
def _kernels() -> tuple[Any, Any, Any]:
    import numpy as np

    kept = [(a, b, s) for a, b in TILES for s in SPLITS if s < 16 or a * b <= SMALL]
    columns = np.array(kept, float).T[:, None, :]
    return columns[0], columns[1], columns[2]


def parts(c: Constants, sizes: Sizes, device: Device) -> Parts:
    """Seconds of batch x (m x k) @ (k x n).

    For an output tile of a x b whose sum is split s ways, with u units, peak P and bandwidth W:

    - tiles = batch ceil(m / a) ceil(n / b) s, in waves of u;
    - compute = waves (2 a b k' / (P / u x peak / (1 + tile_half (a + b) / (a b))) + tile_us), k' the padded
      part of k;
    - data = (read + write x written + partial sums) / (W x bandwidth x min(1, stream tiles / u));
    - cache = every tile's operands / (W x cache x min(1, cache_stream tiles / u)).

    Sums advance by `step` products, and what is left of k is padded. The terms join by a p-norm, plus step_us
    for each 64 of k and split_us where the sum is split. The library is taken to choose the fastest. Sizes
    are batch, m, n, k, element (bytes of an operand), read and written (bytes in all).

    Source: the tile and wave arithmetic of cuBLAS and CUTLASS kernels as their documentation describes it.
    """
    import numpy as np

    def column(name: str) -> Any:
        return np.asarray(sizes[name], float).reshape(-1, 1)

    batch, m, n, k = column("batch"), column("m"), column("n"), column("k")
    element, read, written = column("element"), column("read"), column("written")
    a, b, s = _kernels()
    outputs = batch * np.ceil(m / a) * np.ceil(n / b)
    tiles = outputs * s
    step = c["step"]
    steps = np.ceil(k / (step * s))
    reached = c["peak"] / (1 + c["tile_half"] * (a + b) / (a * b))
    one = 2 * a * b * step * steps / (device.ops_per_s / device.units * reached) + 1e-6 * c["tile_us"]
    compute = waves(tiles, device.units, c["wave"]) * one
    partial = np.where(s > 1, 8 * batch * m * n * s / c["cache"], 0)
    share = tiles / device.units
    width = device.bytes_per_s * c["bandwidth"] * np.minimum(1, c["stream"] * share)
    operands = element * outputs * (a + b) * k
    near = device.bytes_per_s * c["cache"] * np.minimum(1, c["cache_stream"] * share)
    cached = operands / near
    data = (read + c["write"] * written + partial) / width
    late = 1e-6 * (c["step_us"] * steps * step / 64 + np.where(s > 1, c["split_us"] * (1 + s / 10), 0))
    total = joined(c["sharpness"], compute, data, cached) + late
    total = np.where((s > 1) & (steps * step < 128), np.inf, total)
    best = np.argmin(total, axis=1)
    rows = np.arange(len(best))
    launch = 1e-6 * c["launch_us"]
    chosen_late = np.broadcast_to(late, total.shape)[rows, best]
    return Parts(
        compute[rows, best],
        data[rows, best],
        launch + chosen_late,
        launch + total[rows, best],
    )


def features(sizes: Sizes, device: Device) -> Any:
    """Octaves of sizes and outputs, how full the last waves are, odd rows and rows off 16 bytes."""
    import numpy as np

    m, n, batch = sizes["m"], sizes["n"], sizes["batch"]
    plain = octaves(m, n, sizes["k"], batch, batch * m * n)
    odd = (np.asarray(m) % 8 > 0) * 1.0 + (np.asarray(m) == 1)
    ragged = [(np.asarray(v) * sizes["element"] % 16 > 0) * 1.0 for v in (n, sizes["k"])]
    lost = []
    for a, b in ((128, 256), (128, 128), (64, 64)):
        rounds = batch * np.ceil(m / a) * np.ceil(n / b) / device.units
        lost.append(np.where(rounds > 1, 4 * np.log2(np.ceil(rounds) / rounds), 0.0))
    return np.concatenate([plain, np.stack(np.broadcast_arrays(odd, *ragged, *lost), 1)], 1)


GEMM = Form(whole=True, name="gemm", sizes=("batch", "m", "n", "k", "element", "read", "written"),
            constants=CONSTANTS, parts=parts, features=features, switches={"step": (64, 8)})  # fmt: skip
