"""Recurrences on a GPU: one product over all steps for the inputs, then a chain of steps over the state."""

from typing import Any

from pharos.predict.kernels.base import Constants, Device, Form, Parts, Sizes, joined, octaves

# Registers of one unit in bytes. Source: NVIDIA's tuning guides: 64 Ki of 32 bits an SM, since Pascal.
REGISTERS = 2**18
# Rows and columns of the tiles that a step's product is cut into, and rows that a unit takes at once.
TILE, ROWS = 32, 8

CONSTANTS = {
    "launch_us": (10.0, 0.7),
    "step_us": (6.0, 0.5),  # a step of its own launches: product, then gates
    "sync_us": (2.5, 0.5),  # a step inside one kernel: all units wait for each other
    "peak": (0.6, 0.4, 1.0),  # share of the peak that products reach
    "bandwidth": (0.8, 0.3, 1.0),
    "cache": (2.5, 0.7),  # bandwidth of the last cache in those of the memory
    "resident": (0.6, 0.5, 1.0),  # share of the cache that weights stay in
    "held": (0.5, 0.5, 1.0),  # share of the registers that hold weights
    "sharpness": (3.0, 0.7),
}


def parts(c: Constants, sizes: Sizes, device: Device) -> Parts:
    """Seconds of `layers` layers of a recurrence over `steps` steps, as cuDNN runs it for PyTorch.

    With B rows, g gates, H hidden and D directions side by side, W the memory's bandwidth:

    - inputs: 2 B steps g H input operations of all steps at once, beside every tensor's bytes once;
    - a step: 2 B g H^2 D operations, B padded to 8, on as many units as it has tiles of 32 x 32; the weights
      g H^2 D come again each step from the memory, or at `cache` times its rate where they fit in
      resident x cache, or not at all where one kernel holds them in registers for all steps;
    - a step costs step_us more, or sync_us inside one kernel; layers run one after the other.

    One kernel runs all steps where PyTorch asks for it: up to 192 hidden (RNN 384), or fp16 in one layer and
    direction of up to 1024 hidden in 128s and up to 128 rows in 8s, no GRU, if registers hold the weights.
    Source: PyTorch, aten/src/ATen/native/cudnn/RNN.cpp (get_algo). Sizes are rows, steps, layers, directions,
    input, hidden, gates, small (hidden up to which a small kernel serves), halves (1 for fp16, no GRU),
    element, moved (bytes in all), products (macs that do not depend on the state), work (seconds of vector
    arithmetic).
    """
    import numpy as np

    rows, hidden, gates = sizes["rows"], sizes["hidden"], sizes["gates"]
    directions, chain = sizes["directions"], sizes["steps"] * sizes["layers"]
    weights = sizes["element"] * directions * gates * hidden**2
    fits = weights <= c["held"] * REGISTERS * device.units
    static = (sizes["halves"] > 0) & (sizes["layers"] * directions == 1) & (hidden <= 1024)
    static = static & (hidden % 128 == 0) & (sizes["input"] % 128 == 0) & (rows % 8 == 0) & (rows <= 128)
    one = fits & ((hidden <= sizes["small"]) | static)

    rate, memory = device.ops_per_s * c["peak"], device.bytes_per_s * c["bandwidth"]
    at_once = np.minimum(1, _tiles(rows * sizes["steps"], gates * hidden) / device.units)
    inputs = 2 * sizes["products"] / (rate * at_once) + sizes["work"]
    tiles = directions * _tiles(rows, gates * hidden)
    padded = ROWS * np.ceil(rows / ROWS)
    step = 2 * padded * gates * hidden**2 * directions / (rate * np.minimum(1, tiles / device.units))
    near = weights <= c["resident"] * device.cache_bytes
    again = weights / np.where(near, np.maximum(device.bytes_per_s * c["cache"], memory), memory)
    again = np.where(one, 0.0, again)
    fixed = 1e-6 * c["launch_us"] + 0 * step
    serial = 1e-6 * np.where(one, c["sync_us"], c["step_us"]) * chain
    moved = sizes["moved"] / memory
    sharpness = c["sharpness"]
    total = fixed + serial + joined(sharpness, inputs, moved) + chain * joined(sharpness, step, again)
    return Parts(inputs + chain * step, moved + chain * again, fixed, total, serial)


def _tiles(rows: Any, columns: Any) -> Any:
    import numpy as np

    return np.ceil(rows / TILE) * np.ceil(columns / TILE)


def features(sizes: Sizes, device: Device) -> Any:
    """Octaves of rows, steps, hidden and input width."""
    return octaves(sizes["rows"], sizes["steps"], sizes["hidden"], sizes["input"])


RECURRENCE = Form(
    name="recurrence",
    sizes=("rows", "steps", "layers", "directions", "input", "hidden", "gates", "small", "halves", "element",
           "moved", "products", "work"),
    constants=CONSTANTS,
    parts=parts,
    features=features,
)  # fmt: skip
