"""The time of a collective on one level of links: latency, steps and bytes in two regimes of protocol."""

from typing import Any

from pharos.predict.kernels.base import Constants, Device, Form, Parts, Sizes, octaves

# No figure of a machine enters: the columns are seconds at the link's full rate already.
NO_DEVICE = Device(units=1.0, ops_per_s=1.0, bytes_per_s=1.0)

CONSTANTS = {
    "quick_us": (6.0, 0.7),  # launch with flags beside every few bytes (NCCL's LL and LL128)
    "quick_hop_us": (0.7, 0.7),
    "quick_rate": (0.15, 1.0, 1.0),  # share of the link's bandwidth that this protocol reaches
    "bulk_us": (12.0, 0.7),  # launch with whole chunks and one flag each (Simple)
    "hop_us": (1.5, 0.7),
    "rate": (0.8, 0.3, 1.0),
    "switch_us": (15.0, 0.7),  # launch where the switch adds
    "switch_rate": (0.8, 0.3, 1.0),
    "sharpness": (4.0, 0.7),  # how abruptly one protocol gives way to the next
}


def parts(c: Constants, sizes: Sizes, device: Device) -> Parts:
    """Seconds of one collective.

    For each protocol, launch + steps x hop + ideal / rate, `ideal` the seconds that the bytes through the
    busiest port would take at the link's full bandwidth; the library is taken to choose the faster, and
    where the switch can add, `switch` likewise: t = (sum of t_i^-p)^(-1/p). `before` is what other levels of
    links take first. Source of the three protocols: the tuning model of NCCL (see `nccl_model` of the facts).
    """
    import numpy as np

    steps, ideal, before = (np.asarray(sizes[k], float) for k in ("steps", "ideal", "before"))
    switch = np.asarray(sizes["switch"], float)
    quick = 1e-6 * (c["quick_us"] + c["quick_hop_us"] * steps), ideal / c["quick_rate"]
    bulk = 1e-6 * (c["bulk_us"] + c["hop_us"] * steps), ideal / c["rate"]
    ways = [quick, bulk]
    if c["in_network"]:
        never = np.where(switch > 0, 0.0, np.inf)
        ways.append((1e-6 * c["switch_us"] + never, switch / c["switch_rate"]))
    times = np.stack([np.broadcast_to(a + b, np.broadcast_shapes(a.shape, b.shape)) for a, b in ways])
    best = np.argmin(times, axis=0)
    least = np.min(times, axis=0)
    p = c["sharpness"]
    total = least * ((times / least) ** -p).sum(0) ** (-1 / p)
    fixed = np.choose(best, [np.broadcast_to(a, least.shape) for a, _ in ways])
    data = np.choose(best, [np.broadcast_to(b, least.shape) for _, b in ways])
    return Parts(0 * total, data + 0 * before, fixed + 0 * before, total + before)


def features(sizes: Sizes, device: Device) -> Any:
    """Octaves of bytes, devices and nodes."""
    return octaves(sizes["bytes"], 2 * sizes["devices"], 2 * sizes["nodes"])


COLLECTIVE = Form(
    name="collective", sizes=("bytes", "devices", "nodes", "steps", "ideal", "switch", "before"),
    constants=CONSTANTS, parts=parts, features=features, switches={"in_network": (0.0, 1.0)},
)  # fmt: skip
