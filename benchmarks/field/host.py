"""Eager's host: the same operators timed by events and by kernel on one H800; the difference is the host's part."""

from collections import defaultdict
from pathlib import Path

import numpy as np
from read import table

# Operators of the rows that PyTorch has as such; those of attention and of its cache are another library's.
CLASSES = {
    "attn_pre_proj": "gemm", "attn_post_proj": "gemm", "mlp_up_proj": "gemm", "mlp_down_proj": "gemm",
    "input_layernorm": "norm", "post_attention_layernorm": "norm", "mlp_act": "elementwise", "attn_rope": "elementwise",
    "emb": "gather",
}  # fmt: skip
ROWS = "frontier/h800_llama2_7b_eager_event_vs_kernel_only.csv"


def pairs(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """(kernel, event) seconds of each case, by operator."""
    rows = table(folder, ROWS)
    found: dict[tuple[str, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for i in range(len(rows) if rows else 0):
        if str(rows["op"][i]) in CLASSES:
            key = tuple(
                str(rows[c][i])
                for c in ("op", "tp", "num_tokens", "batch_size", "prefill_chunk_size", "kv_cache_size")
            )
            found[key][str(rows["timing"][i])].append(1e-3 * float(rows["median_ms"][i]))
    by: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for (op, *_), times in found.items():
        if len(times) == 2:
            by[op].append((float(np.median(times["kernel_only"])), float(np.median(times["cuda_event"]))))
    return dict(by)


def parts(by: dict[str, list[tuple[float, float]]]) -> dict[str, float]:
    """The host's seconds of each operator: the median of event less kernel."""
    return {op: float(np.median([event - kernel for kernel, event in each])) for op, each in by.items()}


def constants(own: dict[str, float]) -> dict[str, float]:
    """By class: the median of its operators."""
    kinds = {CLASSES[op] for op in own}
    return {k: float(np.median([s for op, s in own.items() if CLASSES[op] == k])) for k in sorted(kinds)}


def left_out(by: dict[str, list[tuple[float, float]]]) -> list[tuple[str, float, float, float]]:
    """(operator, its host's seconds, those of the class without it, error of its event times)."""
    own = parts(by)
    found = []
    for op in sorted(own):
        rest = [s for other, s in own.items() if other != op and CLASSES[other] == CLASSES[op]]
        if rest:
            told = float(np.median(rest))
            error = float(np.mean([abs(kernel + told - event) / event for kernel, event in by[op]]))
            found.append((op, own[op], told, error))
    return found


if __name__ == "__main__":
    import sys

    seen = pairs(Path(sys.argv[1]))
    print({k: f"{1e6 * v:.1f} us" for k, v in constants(parts(seen)).items()})
    rows_out = left_out(seen)
    for op, own_s, told_s, error in rows_out:
        print(f"{op}: {1e6 * own_s:.1f} us, from the others {1e6 * told_s:.1f} us, event times {error:.1%}")
    logs = [np.log(o / t) for _, o, t, _ in rows_out]
    print(
        f"mean error of event times {np.mean([r[3] for r in rows_out]):.1%}; log error of the host's part {np.std(logs):.2f}"
    )
