"""Attention with tiles: blocks of queries in prefill, split and streamed keys in decode."""

from typing import Any

from pharos.predict.kernels.base import Constants, Device, Form, Parts, Sizes, joined, octaves, waves

# Rows of a block of queries in decode, to which the heads that share keys are padded.
DECODE_ROWS = 64
# Keys that a block of decode reads at once.
DECODE_KEYS = 64
# Rows that a matrix instruction multiplies at least.
LEAST_ROWS = 16

PREFILL_CONSTANTS = {
    "launch_us": (10.0, 0.8),
    "peak": (0.7, 0.8, 1.0),  # share of the peak at a head of 128
    "peak_64": (0.8, 0.8, 1.0),  # narrower heads, of that
    "peak_256": (0.7, 0.8, 1.0),  # wider heads
    "bandwidth": (0.7, 0.8, 1.0),
    "sharpness": (2.5, 0.8),
    "block_us": (1.0, 0.8),  # start and end of a block
    "chain": (1.0, 0.4),  # time of the longest block in that of its work
    "key_us": (0.15, 0.8),  # one block of keys that nothing overlaps
    "wave": (2.0, 1.0),
}
DECODE_CONSTANTS = {
    "launch_us": (6.0, 0.8),
    "peak": (0.3, 0.8, 1.0),
    "bandwidth": (0.85, 0.3, 1.0),
    "stream": (1.5, 0.8),
    "sharpness": (2.5, 0.8),
    "block_us": (0.8, 0.8),
    "split_us": (2.0, 0.8),
    "resident": (1.0, 0.8),  # blocks that a unit holds at once
    "cache": (2.0, 0.8),
}


def prefill(c: Constants, sizes: Sizes, device: Device) -> Parts:
    """Seconds of attention over new queries, causal or not.

    A block takes `rows` queries of one head, or of the heads that share keys where the kernel packs them.
    Its time is 4 rows x keys x width / (P / units x peak) + block_us, keys the mean over blocks, in blocks
    of `keys` of them; waves of blocks join with the longest block and with the bytes by a p-norm.

    Sizes are batch, queries, keys (seen by the last query), heads, kv_heads, width, window (keys that a
    query sees at most), causal (1 or 0), moved (bytes).

    Source: the schedule of FlashAttention, Dao 2023, arXiv:2307.08691, and Shah et al. 2024,
    arXiv:2407.08608.
    """
    import numpy as np

    batch, queries, heads, groups = sizes["batch"], sizes["queries"], sizes["heads"], sizes["kv_heads"]
    width, everything = sizes["width"], sizes["keys"]
    window = np.minimum(sizes["window"], everything)
    older = everything - queries
    shared = heads / groups
    block = c["keys"]
    fits = np.where(width <= 64, c["peak_64"], np.where(width > 128, c["peak_256"], 1.0))
    key = 4 * c["rows"] * width / (device.ops_per_s / device.units * c["peak"] * fits)
    best = work = None
    for pack in (0, 1) if c["packs"] else (0,):
        rows = queries * shared if pack else queries
        blocks = np.ceil(rows / c["rows"])
        count = batch * (groups if pack else heads) * blocks
        span = c["rows"] / (shared if pack else 1.0)
        most = np.ceil(np.minimum(window + span, block * np.ceil(everything / block)) / block) * block
        # causal blocks see more keys one after the other, until the window or all of them
        rising = np.clip((most - older) / span, 0, blocks)
        first = older + span
        mean = (rising * (first + (rising - 1) * span / 2) + (blocks - rising) * most) / blocks
        # blocks of keys are read whole, so that narrow blocks of queries see half of one more in the mean
        mean = np.minimum(mean + np.maximum(block - span, 0) / 2, most)
        mean = np.where(sizes["causal"] > 0, mean, most)
        start = 1e-6 * c["block_us"] * np.sqrt(width / 128)
        rounds = waves(count, device.units, c["wave"])
        chain = c["chain"] * key * most + 1e-6 * c["key_us"] * width / 128 * most / block
        took = joined(c["sharpness"], rounds * (key * mean + start), chain)
        best = took if best is None else np.minimum(best, took)
        done = count / device.units * key * mean
        work = done if work is None else np.minimum(work, done)
    data = sizes["moved"] / (device.bytes_per_s * c["bandwidth"])
    launch = 1e-6 * c["launch_us"]
    return Parts(work, data, launch, launch + joined(c["sharpness"], best, data))


def decode(c: Constants, sizes: Sizes, device: Device) -> Parts:
    """Seconds of attention of few queries over a long cache.

    A block takes the heads that share keys, padded to 16 rows, and a part of the keys: they are split until
    blocks fill the machine, `resident` to a unit, and joining the parts costs split_us. A block runs at
    stream x its share of the bandwidth, or at its share of the peak. Where more heads share keys than
    `group_max`, the library falls back to one block a head, which reads the keys again from the cache; a
    library whose `split_alone` is 0 does not split keys that a single head uses.

    Sizes as in `prefill`, with cached (bytes of keys and values).
    """
    import numpy as np

    batch, heads, groups, width = sizes["batch"], sizes["heads"], sizes["kv_heads"], sizes["width"]
    keys = np.minimum(sizes["keys"], sizes["window"])
    shared = heads / groups * sizes["queries"]
    packed = shared <= c["group_max"]
    blocks_of_rows = np.where(packed, np.ceil(shared / DECODE_ROWS), shared)
    rows = np.where(packed, np.minimum(np.ceil(shared / LEAST_ROWS) * LEAST_ROWS, DECODE_ROWS), LEAST_ROWS)
    count = batch * groups * blocks_of_rows
    of_keys = np.ceil(keys / DECODE_KEYS)
    splits = np.clip(device.units * c["resident"] / count, 1, of_keys)
    if not c["split_alone"]:
        splits = np.where(shared > 1, splits, 1.0)
    per = np.ceil(of_keys / splits) * DECODE_KEYS
    drawn = sizes["cached"] / (batch * groups * keys)
    rate = np.maximum(
        drawn / (c["stream"] * device.bytes_per_s / device.units),
        4 * rows * width / (device.ops_per_s / device.units * c["peak"]),
    )
    rounds = np.maximum(count * splits / (device.units * c["resident"]), 1)
    blocks = rounds * (per * rate + 1e-6 * c["block_us"])
    reach = device.bytes_per_s * c["bandwidth"]
    partial = np.where(splits > 1, 8 * batch * heads * width * splits / c["cache"], 0)
    data = (sizes["moved"] + partial) / reach
    again = sizes["cached"] * blocks_of_rows / (reach * c["cache"])
    joining = 1e-6 * c["split_us"] * np.minimum(splits - 1, 1)
    launch = 1e-6 * c["launch_us"]
    compute = 4 * batch * heads * keys * width * sizes["queries"] / (device.ops_per_s * c["peak"])
    total = launch + joining + joined(c["sharpness"], blocks, data, again)
    return Parts(compute, data, launch + joining, total)


def features(sizes: Sizes, device: Device) -> Any:
    """Octaves of batch, length, heads, sharing, width and window."""
    import numpy as np

    window = np.minimum(sizes["window"], 2.0**15)
    shared = sizes["heads"] / sizes["kv_heads"]
    seen = octaves(*(sizes[k] for k in ("batch", "queries", "keys", "heads")), shared, sizes["width"], window)
    return seen * np.array([1, 1, 1, 1, 1, 2, 0.5])


SIZES = ("batch", "queries", "keys", "heads", "kv_heads", "width", "window", "causal", "moved", "cached")
PREFILL = Form(name="prefill", sizes=SIZES, constants=PREFILL_CONSTANTS, parts=prefill, features=features,
               switches={"packs": (0, 1), "rows": (128, 64), "keys": (128, 64)})  # fmt: skip
DECODE = Form(name="decode", sizes=SIZES, constants=DECODE_CONSTANTS, parts=decode, features=features,
              switches={"split_alone": (1, 0), "group_max": (1e9, 32)})  # fmt: skip
