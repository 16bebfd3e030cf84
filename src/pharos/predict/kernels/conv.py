"""Convolution: implicit product or Winograd, whichever is faster; depthwise is memory, see `stream`."""

from typing import Any

from pharos.predict.kernels.base import Constants, Device, Form, Parts, Sizes, joined, octaves, waves

# Pixels x channels of the output tiles that libraries ship, for the implicit product and for batched
# products.
TILES = ((128, 128), (128, 64), (128, 32), (64, 64), (256, 64), (256, 128))
BATCHED = ((128, 128), (128, 64), (64, 64), (32, 128), (32, 32))
# Winograd F(2x2, 3x3) multiplies 16 numbers for 4 outputs, F(4x4, 3x3) 36 for 16.
FUSED, APART = (2, 16), (4, 36)
# Products that a sum advances by.
STEP = 8

CONSTANTS = {
    "launch_us": (4.0, 0.7),
    "direct": (0.8, 0.4, 1.0),  # share of the peak that the implicit product reaches
    "fused": (0.7, 0.5, 1.0),  # and Winograd's products inside one kernel
    "apart": (0.8, 0.5, 1.0),  # and as products of their own
    "tile_half": (12.0, 0.7),
    "bandwidth": (0.7, 0.5, 1.0),
    "stream": (2.0, 0.7),
    "transform": (0.6, 0.5, 1.0),  # bandwidth of Winograd's transforms
    "tile_us": (1.5, 0.7),
    "split_us": (6.0, 0.7),
    "sharpness": (3.0, 0.7),
    "wave": (2.0, 1.0),
}
# Ways that the sum of an implicit product is split where pixels are few.
SPLITS = (1, 4)


def parts(c: Constants, sizes: Sizes, device: Device) -> Parts:
    """Seconds of a convolution of batch images to out_h x out_w, by groups of c_in to c_out channels.

    - direct: a product of batch out_h out_w pixels by c_out over c_in kh kw, in tiles and waves as `gemm`
      has them;
    - fused: Winograd F(2x2, 3x3), 16 products of c_in x c_out for each 2 x 2 outputs, in one kernel;
    - apart: Winograd F(4x4, 3x3), 36 products for each 4 x 4, with both transforms through memory.

    Winograd is for 3 x 3 of stride 1 without groups, where the library has it. The fastest is taken.
    Sizes are batch, out_h, out_w, c_in, c_out, groups, kh, kw, stride, element, read and written (bytes).

    Source: Lavin and Gray 2016, arXiv:1509.09308; cuDNN's list of forward algorithms.
    """
    import numpy as np

    def column(name: str) -> Any:
        return np.asarray(sizes[name], float).reshape(-1, 1)

    batch, high, wide, c_in, c_out = (column(k) for k in ("batch", "out_h", "out_w", "c_in", "c_out"))
    groups, taps = column("groups"), column("kh") * column("kw")
    moved = column("read") + column("written")
    rate = device.ops_per_s / device.units
    reach = device.bytes_per_s * c["bandwidth"]
    start = 1e-6 * c["tile_us"]

    def product(
        count: Any, m: Any, n: Any, k: Any, tiles: Any, reached: float, through: Any, split: int
    ) -> Any:
        a, b = np.array(tiles, float).T[:, None, :]
        outputs = count * np.ceil(m / a) * np.ceil(n / b) * split
        steps = np.ceil(k / (STEP * split)) * STEP
        speed = rate * reached / (1 + c["tile_half"] * (a + b) / (a * b))
        compute = waves(outputs, device.units, c["wave"]) * (2 * a * b * steps / speed + start)
        data = (through + (8 * count * m * n * split if split > 1 else 0)) / (
            reach * np.minimum(1, c["stream"] * outputs / device.units)
        )
        total = joined(c["sharpness"], compute, data) + (1e-6 * c["split_us"] if split > 1 else 0)
        return [np.broadcast_to(v, total.shape) for v in (compute, data, total)]

    pixels = batch * high * wide
    found = [product(groups, pixels, c_out, c_in * taps, TILES, c["direct"], moved, s) for s in SPLITS]
    if c["winograd"]:
        can = (column("kh") == 3) & (column("kw") == 3) & (column("stride") == 1) & (groups == 1)
        for (edge, count), name in ((FUSED, "fused"), (APART, "apart")):
            spots = batch * np.ceil(high / edge) * np.ceil(wide / edge)
            between = 4.0 * count * (spots * (c_in + c_out) + c_in * c_out) if name == "apart" else 0.0
            took = product(count, spots, c_out, c_in, BATCHED, c[name], moved, 1)
            extra = 2 * between / (device.bytes_per_s * c["transform"]) + (
                2e-6 * c["launch_us"] if name == "apart" else 0
            )
            compute, data, total = took[0], took[1] + extra, took[2] + extra
            found.append([compute, data, np.where(can, total, np.inf)])
    compute, data, total = (np.concatenate([f[i] for f in found], 1) for i in range(3))
    best = np.argmin(total, 1)
    rows = np.arange(len(best))
    launch = 1e-6 * c["launch_us"]
    return Parts(
        compute[rows, best], data[rows, best], np.full(len(rows), launch), launch + total[rows, best]
    )


def features(sizes: Sizes, device: Device) -> Any:
    """Octaves of pixels, channels, taps and groups, of the image, and of products by output."""
    import numpy as np

    pixels = sizes["batch"] * sizes["out_h"] * sizes["out_w"]
    taps = sizes["kh"] * sizes["kw"]
    seen = octaves(
        pixels, *(sizes[k] for k in ("c_in", "c_out", "out_h")), taps, sizes["groups"], sizes["stride"]
    )
    ragged = [np.ceil(sizes[k] / 32) * 32 / sizes[k] for k in ("c_out", "c_in")]
    aligned = [np.where(np.asarray(sizes[k]) % 4 == 0, 1.0, 0.0) for k in ("c_out", "c_in")]
    edges = np.ceil(sizes["out_h"] / 4) * np.ceil(sizes["out_w"] / 4) * 16 / (sizes["out_h"] * sizes["out_w"])
    return np.concatenate([seen, octaves(*ragged, edges) * 4, np.stack(np.broadcast_arrays(*aligned), 1)], 1)


SIZES = (
    "batch",
    "out_h",
    "out_w",
    "c_in",
    "c_out",
    "groups",
    "kh",
    "kw",
    "stride",
    "element",
    "read",
    "written",
)
CONV = Form(whole=True, name="conv", sizes=SIZES, constants=CONSTANTS, parts=parts, features=features,
            switches={"winograd": (1, 0)})  # fmt: skip
