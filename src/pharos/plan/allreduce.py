"""All-reduce: what the sum of a tensor over devices takes, by the latency and rate of their link."""

from pharos.facts.tables import table
from pharos.machines.machine import Machine
from pharos.quantity.evidence import Evidence, assumed
from pharos.quantity.sizes import Size, ceil_log2, minimum

# Share of a link's rate that collectives reach. Measured: 0.70 to 0.91 (`links` table, nvlink_measured).
EFFICIENCY = 0.8
# Standard deviation of the log of such a time. Assumed, until collectives are fitted.
ERROR = 0.35


def all_reduce_s(nbytes: Size, devices: int, machine: Machine) -> Size | None:
    """Seconds to sum `nbytes` over devices of a node; None where the link is not known.

    The faster of a tree with flags in the data, base + 2 log2(n) hop + bytes over half of the link, and a
    ring, base + 2 (n - 1) hop + 2 (n - 1) / n bytes over the link. Base and hop: the constants of NCCL's own
    model, see the `links` table.
    """
    if devices == 1:
        return 0.0 * nbytes
    link = machine.link_bytes_per_s.value
    if not link:
        return None
    model = table("links")["nccl_model"]
    base, hop = model["base_latency_s"], model["hop_latency_s"]["nvlink"]
    rate = link * EFFICIENCY
    tree = base["tree"][0] + 2 * ceil_log2(devices) * hop["tree"][0] + 2 * nbytes / (rate / 2)
    ring = base["ring"][2] + 2 * (devices - 1) * hop["ring"][2] + 2 * (devices - 1) / devices * nbytes / rate
    return minimum(tree, ring)


def evidence() -> Evidence:
    """How such a time is known."""
    return assumed("all-reduce by NCCL's own constants at 80% of the link", ERROR)
