"""Gathers: rows of a table by index, in the sectors that memory hands out."""

from typing import Any

from pharos.predict.kernels.base import Constants, Device, Form, Parts, Sizes, joined, octaves

# Bytes that memory hands out at once.
SECTOR = 32

CONSTANTS = {
    "launch_us": (3.0, 0.7),
    "bandwidth": (0.5, 0.7, 1.0),
    "stream": (0.2, 1.0),  # one unit alone draws so many times its share of the bandwidth
    "cache": (2.5, 0.7),
    "sharpness": (2.0, 0.7),
}


def parts(c: Constants, sizes: Sizes, device: Device) -> Parts:
    """Seconds of gathering `rows` rows of `row` bytes, and of writing what becomes of them.

    A row costs whole sectors of 32 bytes. Rows that the cache already holds (share `hits`) come at its
    rate: with skewed indices (Zipf) that is most of a step's rows. Few rows reach few units. Sizes are
    rows, row, written (bytes), hits (0 to 1).
    """
    import numpy as np

    sectors = SECTOR * np.ceil(sizes["row"] / SECTOR) * sizes["rows"]
    reach = device.bytes_per_s * c["bandwidth"]
    share = np.minimum(1, c["stream"] * sizes["rows"])
    far = sectors * (1 - sizes["hits"]) + sizes["written"]
    data = (far / reach + sectors * sizes["hits"] / (reach * c["cache"])) / np.maximum(share, 1e-9)
    alone = sizes["row"] / (device.bytes_per_s / device.units)
    launch = np.broadcast_to(1e-6 * c["launch_us"], np.shape(data))
    return Parts(0 * data, data, launch, launch + joined(c["sharpness"], data, alone + 0 * data))


def features(sizes: Sizes, device: Device) -> Any:
    """Octaves of rows and their bytes."""
    return octaves(sizes["rows"], sizes["row"])


GATHER = Form(name="gather", sizes=("rows", "row", "written", "hits"), constants=CONSTANTS, parts=parts,
              features=features)  # fmt: skip
