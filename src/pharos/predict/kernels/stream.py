"""Memory-bound operators: elementwise, norms, softmax, pooling, copies and depthwise convolution."""

from typing import Any

from pharos.predict.kernels.base import Constants, Device, Form, Parts, Sizes, joined, octaves

CONSTANTS = {
    "launch_us": (3.0, 0.7),
    "bandwidth": (0.8, 0.4, 1.0),  # share of the memory bandwidth that large tensors reach
    "write": (1.0, 0.3),  # a byte written costs so many read ones
    "cache": (2.5, 0.7),  # bandwidth of the last cache in those of the memory
    "resident": (0.1, 1.0, 1.0),  # share of the cache that a tensor is still found in
    "row_ns": (1.0, 1.5),  # start of a row, on one unit
    "sharpness": (3.0, 0.7),
}


def parts(c: Constants, sizes: Sizes, device: Device) -> Parts:
    """Seconds of an operator that reads and writes tensors of `rows` rows.

    Bytes beyond resident x the cache come at the memory's rate, those within at the cache's; rows start at
    row_ns each on one of the units. Sizes are rows, row (elements), read and written (bytes), work (seconds
    that arithmetic on the vector units takes).
    """
    import numpy as np

    moved = sizes["read"] + c["write"] * sizes["written"]
    far = np.maximum(moved - c["resident"] * device.cache_bytes, 0)
    data = far / (device.bytes_per_s * c["bandwidth"]) + (moved - far) / (
        device.bytes_per_s * np.maximum(c["cache"], c["bandwidth"])
    )
    started = 1e-9 * c["row_ns"] * np.ceil(sizes["rows"] / device.units)
    launch = np.broadcast_to(1e-6 * c["launch_us"], np.shape(moved))
    compute = np.broadcast_to(sizes["work"], np.shape(moved))
    return Parts(compute, data, launch, launch + joined(c["sharpness"], compute + 0 * data, data, started))


def features(sizes: Sizes, device: Device) -> Any:
    """Octaves of rows, of their length, and of bytes read by bytes written."""
    return octaves(sizes["rows"], sizes["row"], 2 * sizes["read"] / sizes["written"])


STREAM = Form(
    name="stream",
    sizes=("rows", "row", "read", "written", "work"),
    constants=CONSTANTS,
    parts=parts,
    features=features,
)
