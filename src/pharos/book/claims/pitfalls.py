"""Sections 1.11 and 1.12: fallacies, pitfalls, the 7B exercise, the summary."""

from pharos.book.answer import told, unknown
from pharos.book.chapter import printed
from pharos.book.claims.attention import attention, workspace
from pharos.book.claims.intensity import five_bottlenecks
from pharos.book.claims.mlp import MLP, mnist_cnn, mnist_ratio
from pharos.book.claims.selection import cnn_use, utilisation
from pharos.book.claims.vision import mobile_ratio, mobile_time, network_intensity, told_times
from pharos.book.sums import (
    A100,
    GB,
    MB,
    bandwidth,
    counted,
    devices,
    estimate,
    kv_bytes,
    leads,
    memory,
    scores,
    symbols,
)
from pharos.graph.tensor import Tensor
from pharos.ops.attention import Attention

SEVEN = "llama-2-7b"


def _pair():
    return told(
        [None, mnist_cnn().parameters, None, counted(MLP).parameters, mnist_ratio()],
        "accuracies need training",
    )


def _times(before, after):
    return told(
        [max(a, b) / min(a, b) for a, b in zip(before, after, strict=True)],
        "of the printed pairs; the pairs must be measured",
    )


def _phone(a100_ms, phone_ms):
    gap = bandwidth(A100) / bandwidth("qualcomm_sd8gen3")
    return told(
        phone_ms / a100_ms,
        f"of the printed times; the bandwidths of an A100 and a phone are {gap:.0f}x apart",
    )


def weights(params: float) -> int:
    """Bytes of so many parameters in fp16."""
    return Tensor((int(params),), "fp16").nbytes


def _cache_formula():
    b, layers, h, n, d = symbols("B L H N D")
    x = Tensor((b, h, n, d))
    kept = Attention(causal=True, keep=True).state(x, x, x)
    whole, keys = (layers * sum(Tensor(kept[k]).numel for k in which) for which in (("k", "v"), ("k",)))
    return told(
        str(whole),
        "numbers: keys and values, of the KV heads alone under grouped queries; times the bytes of one",
        of_keys_alone=leads(keys, "B", "L", "H", "N", "D"),
    )


def _one_request():
    whole = kv_bytes(SEVEN, 2048)
    return told(
        whole / MB,
        "keys and values, as footnote 22 and the self-check have it; the printed product leaves the factor"
        " 2 out",
        of_keys_alone=whole / 2 / MB,
    )


def _few_users(users):
    each = kv_bytes(SEVEN, 2048)
    real = counted(SEVEN, precision="fp16").weight_bytes
    return told(
        [n * each / GB for n in users],
        f"with values too; {devices(real, each)} users reach the {real / GB:.1f} GB of weights",
        of_keys_alone=[n * each / 2 / GB for n in users],
    )


def _binds():
    room = memory(A100) - counted(SEVEN, precision="fp16").weight_bytes
    most = int(room // kv_bytes(SEVEN, 2048))
    one, many = (estimate(SEVEN, A100, "decode", n, 2048).fits for n in (1, most + 10))
    return told(
        one is True and many is False,
        f"{most} requests of 2,048 tokens fit beside Llama-2-7B in the 80 GB that are sold; 10 more exceed"
        " what programs see as well",
    )


def _concurrent(users: int, context: int) -> float:
    return users * kv_bytes(SEVEN, context) / GB


def _sixteen():
    return told(
        _concurrent(16, 4096),
        "16 times the rounded 2.2 GB is 35.2",
        of_the_rounded_request=16 * printed("sc-7b-2p2gb"),
    )


def _underestimate():
    real = counted(SEVEN, precision="fp16").weight_bytes / GB

    def times(users: int, context: int) -> float:
        return (real + _concurrent(users, context)) / real

    return told(
        times(8, 2048),
        "at the concurrency and context of the exercise",
        with_8_users_of_4096=times(8, 4096),
        with_16_users_of_4096=times(16, 4096),
    )


def _match():
    found = [mobile_time(batch=b) for b in (1, 32)]
    note = told_times(
        found, "at batch 1 and 32 on an A100; Section 1.3 says slower, the summary that it can be"
    )
    if any(low < 1.25 and high > 0.8 for low, _, high in found):
        return unknown(note)
    return told(False, note)


def _permanent():
    n = symbols("N")
    return told(
        workspace(n, algorithm="tiled") != 0,
        "exact tiled attention stores no scores and moves O(N) bytes, as footnote 36 says; the MACs stay "
        "quadratic",
        of_compute=leads(attention(n, 64).macs, "N") == "O(N^2)",
    )


CLAIMS = {
    "fal1-99-421k": _pair,
    "fal1-5-10x": lambda: unknown("needs training"),
    "fal1-1000-10000": lambda before, after: after / before,
    "pit2-rnn-mlp-util": lambda: unknown(
        "must be measured",
        predicted_for_an_LSTM=utilisation("lstm_tagger", batch=64, context=1000)[1],
        predicted_for_an_MLP=utilisation("mlp", batch=8192)[1],
    ),
    "pit2-16x": lambda: scores(2048) / scores(512),
    "pit2-sla": _times,
    "pit2-2-6-months": lambda: unknown("an anecdote without a source"),
    "fal3-cnn-80-95": lambda: cnn_use("fal3-cnn-80-95"),
    "fal3-40x": _phone,
    "fal3-200ms": lambda phone_ms, limit_ms: phone_ms <= limit_ms,
    "pit4-250-80": lambda before, after: told(before / after, "of the printed rates, which must be measured"),
    "pit5-640gb": lambda devices: devices * memory(A100) / GB,
    "pit5-160x": lambda edge_gb, devices: devices * memory(A100) / GB / edge_gb,
    "pit5-edge-envelope": lambda: unknown("requirements, not results"),
    "pit6-kv-formula": _cache_formula,
    "pit6-537mb": _one_request,
    "pit6-2-4-users": _few_users,
    "pit6-attention-grows": _binds,
    "sc-7b-66gb": lambda params: told(
        (memory(A100) - weights(params)) / GB, "before what a framework and activations take"
    ),
    "sc-7b-1p1gb": lambda: _concurrent(1, 2048),
    "sc-7b-8p5gb": lambda: told(_concurrent(8, 2048), "footnote 22 has 8.6"),
    "sc-7b-2p2gb": lambda: told(
        _concurrent(1, 4096),
        "twice the rounded 1.1 GB is 2.2",
        of_the_rounded_request=2 * printed("sc-7b-1p1gb"),
    ),
    "sc-7b-35gb": _sixteen,
    "sc-7b-2x-underestimate": _underestimate,
    "sc-mnv2-latency-match": _match,
    "sum-quadratic-permanent": _permanent,
    "sum-depth-20": lambda: unknown("needs training: plain and residual stacks of growing depth"),
    "sum-14x": lambda: told(mobile_ratio(), "the same in MACs"),
    "sum-five-bottlenecks": five_bottlenecks,
    "sc-100-plus-resnet": lambda: told(
        network_intensity(), "fp16, batch 1; Table 1 prints 40.2", at_batch_32=network_intensity(32)
    ),
    "sc-lighthouse-pairing": lambda: estimate("gpt2-xl", A100, "decode", context=1024).binding,
}
