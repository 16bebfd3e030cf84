"""Section 1.9: energy and bandwidth, footnotes 31 to 34, scaling out, the self-check."""

from pharos.book.answer import told, unknown
from pharos.book.claims.attention import attention
from pharos.book.claims.mlp import energy_ratio
from pharos.book.claims.primitives import patches_double
from pharos.book.studies.performance_per_watt import per_watt
from pharos.book.sums import (
    A100,
    GB,
    H100,
    KIB,
    MB,
    bandwidth,
    conv,
    dense,
    dram_energy,
    estimate,
    figure,
    grows,
    joules,
    mac_energy,
    machine,
    peak,
    per_byte,
    ridge,
    symbols,
)
from pharos.graph.tensor import Tensor

REFERENCE = (784, 100)
T4, RTX3090, TPU, K80, EPYC = "nvidia_t4", "nvidia_rtx3090", "google_tpu_v1", "nvidia_k80", "amd_epyc_7763"


def _against_dram(op: str) -> float:
    return dram_energy() / joules("arithmetic", 45, op=op)


def _off_chip():
    return told(
        dram_energy() / mac_energy(),
        "640 pJ over the 4.6 pJ of an fp32 MAC, as the section prints; footnote 7 says 200",
        over_an_fp32_addition=_against_dram("fp32_add"),
        over_an_int8_MAC=_against_dram("int8_mac"),
    )


def energy_of(count) -> tuple[float, float]:
    """Joules of arithmetic and of traffic to DRAM, fp32 at 45 nm."""
    return float(count.macs * mac_energy()), float(count.traffic.total / 4 * dram_energy())


def _majority():
    work, moved = energy_of(dense(*REFERENCE))
    return told(
        moved > work,
        f"{100 * moved / (work + moved):.1f}% at batch 1: {1e6 * moved:.1f} uJ of traffic, {1e6 * work:.2f}"
        " uJ of MACs",
    )


def _per_flop(count) -> float:
    return sum(energy_of(count)) / float(count.flops)


def _highest():
    found = {
        "a dense layer at batch 1": _per_flop(dense(2048, 2048)),
        "attention with stored scores": _per_flop(
            attention(4096, 64, algorithm="materialised", precision="fp32")
        ),
        "a 3x3 convolution": _per_flop(conv(64, 64, side=56)),
    }
    shown = ", ".join(f"{what} {1e12 * j:.1f} pJ" for what, j in found.items())
    return told(
        max(found, key=lambda k: found[k]) == "attention with stored scores",
        f"a FLOP of {shown}, fp32 at 45 nm",
    )


def _sequential():
    return told(
        bandwidth(A100) / GB,
        "an A100's HBM reaches thousands, as footnote 33 says itself",
        of_GDDR_boards=[bandwidth(T4) / GB, bandwidth(RTX3090) / GB],
    )


def _tpu():
    tpu, gpu = machine(TPU), machine(K80)
    return told(
        [peak(TPU, "int8") / 1e12, tpu.max_W.value, peak(K80, "fp32") / 1e12, gpu.max_W.value],
        "75 W is the chip's limit; 40 W is what the paper measured at work, and is not read here",
    )


def _per_watt(tops, watts, tflops, gpu_watts):
    tpu, gpu = per_watt(machine(TPU), "int8"), per_watt(machine(K80), "fp32")
    assert tpu
    assert gpu
    return told(
        tpu / gpu,
        "peaks over power limits, int8 against fp32; the paper reports 30 to 80",
        of_the_printed_figures=(tops / watts) / (tflops / gpu_watts),
    )


def _server():
    return told(
        bandwidth(A100) / bandwidth(EPYC),
        "A100 against eight channels of DDR4-3200",
        against_two_channels=bandwidth(A100) / (bandwidth(EPYC) / 4),
    )


def _scratchpad():
    each = figure(A100, "B", "memory", "scratchpad", "bytes_per_core")
    usable = figure(A100, "B", "memory", "scratchpad", "usable_bytes_per_core")
    return told(
        each / 1e3,
        f"192 KiB, shared with the L1 cache; programs can use {usable / KIB:.0f} KiB as scratchpad",
        KiB=each / KIB,
    )


def _scratchpad_rate():
    cores, clock = machine(A100).cores.value, machine(A100).clock_hz.value
    assert cores is not None
    assert clock is not None
    return told(
        128 * cores * clock / 1e12,
        f"128 B a cycle on {cores:.0f} multiprocessors; measured "
        f"{figure(A100, 'B/s', 'measured', 'l1_shared_bandwidth_sustained_bytes_per_s') / 1e12:.1f}",
    )


def _tiles():
    rows, columns = Tensor((128, 64), "fp16"), Tensor((64, 64), "fp16")
    held = 2 * rows.nbytes + 2 * columns.nbytes
    usable = figure(A100, "B", "memory", "scratchpad", "usable_bytes_per_core")
    return told(
        held <= usable,
        f"queries and results of 128 rows, keys and values of 64, heads of 64 in fp16: {held / KIB:.0f} of "
        f"{usable / KIB:.0f} KiB",
    )


def _rounds():
    from pharos.plan.communication import collective_cost
    from pharos.plan.topology import topology_of

    cost = collective_cost("broadcast", 1_000_000, topology_of(machine(A100), 64, 64), "tree")
    return told(cost.moves.steps(), "a tree over 64 devices; the printed O(log N) is the order")


def _only_flops():
    cases = [
        estimate("resnet50", A100, batch=32),
        estimate("gpt2-xl", A100, "decode", context=1024),
        estimate("mobilenet_v2", A100),
        estimate("mlp", A100),
        estimate("lstm_tagger", A100, context=1000),
    ]
    helped = [e.shares["compute"] > 0.5 * sum(e.shares.values()) for e in cases]
    return told(
        sum(helped) > len(cases) / 2,
        f"of five networks on an A100, {sum(helped)} spend most of their predicted time on compute",
    )


CLAIMS = {
    "fn31-500x": _off_chip,
    "napkin13-missing": lambda: unknown("its numbers are not in the text"),
    "napkin13-attention-energy": lambda: told(
        grows(attention(symbols("N"), 64).macs, symbols("N")),
        "of compute always; of DRAM only while scores are stored",
    ),
    "sequential-hundreds-gbs": _sequential,
    "l2-several-mb": lambda: told(
        [
            figure(m, "B", "memory", "cache", "capacity_bytes") / MB
            for m in ("nvidia_v100_sxm2_16gb", A100, H100)
        ],
        "V100, A100, H100",
    ),
    "fn32-tpu-92-40": _tpu,
    "fn32-25-30x": _per_watt,
    "fn33-hbm-2-3tbs": lambda: told([bandwidth(A100) / 1e12, bandwidth(H100) / 1e12], "A100 and H100"),
    "fn33-20x-server-ram": _server,
    "fn33-5x-cost": lambda: unknown("a market's price"),
    "fn34-192kb": _scratchpad,
    "fn34-19tbs": _scratchpad_rate,
    "fn34-2tbs-hbm": lambda: bandwidth(A100) / 1e12,
    "energy-mac-4p6": lambda: told(mac_energy() * 1e12, "a multiplication and an addition at 45 nm"),
    "energy-dram-640": lambda: told(dram_energy() * 1e12, "the low end of the DDR of its time"),
    "energy-mlp-majority": _majority,
    "energy-mlp-excellent-ai": lambda: told(
        per_byte(dense(*REFERENCE)) >= ridge(A100, "fp32"),
        f"{per_byte(dense(*REFERENCE)):.2f} FLOP/B at batch 1, against {ridge(A100, 'fp32'):.1f}"
        " for the vector units of an A100; Napkin Math 1.3 of the section says low reuse",
    ),
    "energy-im2col-double": patches_double,
    "energy-attention-highest": _highest,
    "sc-200x-energy": energy_ratio,
    "sc-broadcast-64": _rounds,
    "sc-flops-only-false": _only_flops,
    "fn32-thousands-macs": lambda: told(
        peak(TPU, "int8") / 2 / (machine(TPU).clock_hz.value or 1),
        "its peak over its clock; the array is 256 x 256",
    ),
    "fn34-flash-scratchpad": _tiles,
}
