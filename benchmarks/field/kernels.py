"""Kernels of the field folder as rows for the closed forms, by source, device, class and type."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from devices import device
from read import Table, table

from pharos.measure.fit import Rows
from pharos.predict.kernels import FORMS
from pharos.predict.kernels.base import Device, Form
from pharos.predict.kernels.shapes import ENDLESS


@dataclass(frozen=True, kw_only=True)
class Case:
    """Measured kernels of one source, device, class and type.

    Args:
        cost_class: as profiles have it; phase: of attention.
        launch: "kernel" for times of kernels alone or in graphs, "eager" for calls timed one by one.
        note: what was left out, or how the rows are known to be off.
        ships: a profile of the catalogue is made of it, where the catalogue has the device.
    """

    source: str
    device: str
    cost_class: str
    dtype: str
    form: Form
    rows: Rows
    phase: str | None = None
    launch: str = "kernel"
    stack: str = ""
    note: str = ""
    ships: bool = True

    @property
    def figures(self) -> Device:
        """The device's."""
        found = device(self.device, self.dtype)
        assert found is not None
        return found

    @property
    def label(self) -> str:
        """One line."""
        stack = f" ({self.stack})" if self.stack else ""
        return f"{self.source}{stack} {self.device} {self.dtype} {self.cost_class}{' ' + self.phase if self.phase else ''}"


def gemm_rows(
    batch: Any, m: Any, n: Any, k: Any, element: float, seconds: Any, out: float | None = None
) -> Rows:
    """Rows of products; `out` is the bytes of a result's element."""
    batch, m, n, k, seconds = np.broadcast_arrays(*[np.asarray(v, float) for v in (batch, m, n, k, seconds)])
    return Rows(sizes={"batch": batch, "m": m, "n": n, "k": k, "element": np.full(len(m), element),
                       "read": element * batch * (m * k + k * n), "written": (out or element) * batch * m * n},
                seconds=seconds)  # fmt: skip


def stream_rows(rows: Any, row: Any, read: Any, written: Any, seconds: Any) -> Rows:
    """Rows of memory-bound operators."""
    rows, row, read, written, seconds = np.broadcast_arrays(
        *[np.asarray(v, float) for v in (rows, row, read, written, seconds)]
    )
    return Rows(sizes={"rows": rows, "row": row, "read": read, "written": written, "work": np.zeros(len(rows))},
                seconds=seconds)  # fmt: skip


def cases(folder: Path) -> Iterator[Case]:
    """Every case that the folder holds."""
    for source in (
        _aiconfigurator,
        _neusight,
        _pipeweave,
        _apex,
        _vidur,
        _llmservingsim,
        _deepbench,
        _llmcompass,
    ):
        for case in source(folder):
            if device(case.device, case.dtype) is not None and len(case.rows) >= 40:
                yield case


def _aiconfigurator(folder: Path) -> Iterator[Case]:
    names = {"h100_sxm": "h100", "a100_sxm": "a100", "h200_sxm": "h200", "b200_sxm": "nvidia_b200", "gb200": "nvidia_gb200",
             "l40s": "nvidia_l40s"}  # fmt: skip
    for name in ("gemm_sample.csv", "gemm_power_sample.csv"):
        found = table(folder, f"aiconfigurator/{name}")
        for key, part in _by(found, "system", "stack", "gemm_dtype"):
            dtype = {"bfloat16": "bf16", "fp8": "fp8"}.get(key[2])
            if key[0] not in names or dtype is None:
                continue
            rows = gemm_rows(
                1,
                part["m"],
                part["n"],
                part["k"],
                1.0 if dtype == "fp8" else 2.0,
                1e-6 * part["latency_us"],
                2.0,
            )
            note = "with quantisation of activations" if dtype == "fp8" else ""
            yield Case(source="aiconfigurator", device=names[key[0]], cost_class="gemm", dtype=dtype, form=FORMS["gemm"],
                       rows=rows, stack=key[1], note=note)  # fmt: skip
    for phase in ("prefill", "decode"):
        found = table(folder, f"aiconfigurator/attention_{phase}_sample.csv")
        for key, part in _by(found, "system", "stack", "kv_cache_dtype"):
            if key[0] not in names:
                continue
            kept = part["head_dim"] <= 256
            if phase == "prefill":
                kept &= part["isl"] >= 16
            part = part.where(kept)
            rows = attention_rows(part, 1.0 if key[2] == "fp8" else 2.0)
            note = "heads to 256 wide, from 16 queries" if phase == "prefill" else "heads to 256 wide"
            figures = device(names[key[0]], "bf16")
            if phase == "decode" and figures:
                possible = rows.seconds > rows.sizes["cached"] / figures.bytes_per_s
                if not possible.all():
                    note += f"; {int((~possible).sum())} rows faster than the memory left out"
                rows = rows.pick(possible)
            yield Case(source="aiconfigurator", device=names[key[0]], cost_class="attention",
                       dtype="bf16", form=FORMS[phase], rows=rows, phase=phase,
                       stack=f"{key[1]}{', fp8 cache' if key[2] == 'fp8' else ''}", note=note)  # fmt: skip


def attention_rows(part: Table, cache_bytes: float) -> Rows:
    """Rows of causal attention whose queries follow `step` older keys."""
    batch, queries, heads, width = (part[k] for k in ("batch_size", "isl", "num_heads", "head_dim"))
    groups = np.where(part["num_key_value_heads"] == 0, heads, part["num_key_value_heads"])
    keys = part["step"] + queries
    window = np.where(part["window_size"] > 0, part["window_size"], ENDLESS)
    cached = 2 * cache_bytes * batch * groups * width * np.minimum(keys, window + queries - 1)
    sizes = {"batch": batch, "queries": queries, "keys": keys, "heads": heads, "kv_heads": groups, "width": width,
             "window": window, "causal": np.ones(len(batch)), "cached": cached,
             "moved": cached + 4 * batch * queries * heads * width}  # fmt: skip
    return Rows(sizes={k: sizes[k] for k in FORMS["prefill"].sizes}, seconds=1e-6 * part["latency_us"])


NEUSIGHT = {"A100-PCIE-40G": "a100_40", "V100-PCIE-32G": "v100_pcie", "P100-PCIE-16G": "p100", "T4": "t4", "P4": "p4",
            "MI100": "mi100", "H100-SXM": "h100", "L4": "nvidia_l4", "A100-PCIE-80G": "nvidia_a100_pcie_80gb"}  # fmt: skip


def _neusight(folder: Path) -> Iterator[Case]:
    shared = {"source": "neusight", "dtype": "fp32", "launch": "eager"}
    products = [
        table(folder, f"neusight/{name}")
        for name in ("linear_fp32_test.csv", "linear_fp32_train_sample.csv", "bmm_fp32_test_sample.csv",
                     "bmm_fp32_train_sample.csv", "amd_linear_bmm_fp32_test_sample.csv")
    ]  # fmt: skip
    both: dict[str, list[Rows]] = {}
    for op in ("linear", "bmm"):
        found: dict[str, list[Rows]] = {}
        for one in products:
            for key, part in _by(one, "op", "device"):
                if key[0] == op and key[1] in NEUSIGHT:
                    rows = gemm_rows(
                        part["B"], part["M"], part["K"], part["N"], 4.0, 1e-3 * part["latency_ms"]
                    )
                    if op == "linear":
                        rows = gemm_rows(
                            1, part["B"] * part["M"], part["K"], part["N"], 4.0, 1e-3 * part["latency_ms"]
                        )
                    found.setdefault(key[1], []).append(rows)
        for name, parts in found.items():
            both.setdefault(name, []).extend(parts)
            yield Case(device=NEUSIGHT[name], cost_class="gemm", form=FORMS["gemm"], rows=together(parts), stack=op,
                       ships=False, **shared)  # fmt: skip
    for name, parts in both.items():
        yield Case(device=NEUSIGHT[name], cost_class="gemm", form=FORMS["gemm"], rows=together(parts), stack="linear and bmm",
                   **shared)  # fmt: skip
    for key, part in _by(table(folder, "neusight/conv_fp32_train_sample.csv"), "device"):
        size, batch, c_in, c_out = (part[k] for k in ("Input_Size", "B", "Input_Channel", "Output_Channel"))
        taps = part["kernel_size"]
        out = np.floor((size + 2 * part["Padding"] - taps) / part["Stride"]) + 1
        yield Case(device=NEUSIGHT[key[0]], cost_class="conv", form=FORMS["conv"],
                   rows=conv_rows(batch, c_in, c_out, size, size, out, out, taps, taps, part["Stride"], 4.0,
                                  1e-3 * part["latency_ms"]), **shared)  # fmt: skip
    kinds = {"ln": "norm", "softmax": "softmax"}
    streams: dict[tuple[str, str], list[Rows]] = {}
    for key, part in _by(table(folder, "neusight/elementwise_norm_softmax_fp32_sample.csv"), "op", "device"):
        operands = 2 if key[0] in ("add", "mul", "div", "pow") else 1
        moved = 4.0 * part["B"] * part["H"]
        rows = stream_rows(part["B"], part["H"], operands * moved, moved, 1e-3 * part["latency_ms"])
        streams.setdefault((key[1], kinds.get(key[0], "elementwise")), []).append(rows)
    for (name, kind), parts in streams.items():
        yield Case(device=NEUSIGHT[name], cost_class=kind, form=FORMS["stream"], rows=together(parts),
                   stack=f"{len(parts)} operators" if len(parts) > 1 else "", **shared)  # fmt: skip


def conv_rows(
    batch: Any, c_in: Any, c_out: Any, high: Any, wide: Any, out_h: Any, out_w: Any, kh: Any, kw: Any, stride: Any,
    element: float, seconds: Any,
) -> Rows:  # fmt: skip
    """Rows of convolutions without groups."""
    sizes = {"batch": batch, "out_h": out_h, "out_w": out_w, "c_in": c_in, "c_out": c_out, "groups": 1, "kh": kh, "kw": kw,
             "stride": stride, "element": element,
             "read": element * (batch * c_in * high * wide + c_in * c_out * kh * kw),
             "written": element * batch * c_out * out_h * out_w}  # fmt: skip
    columns = np.broadcast_arrays(*[np.asarray(v, float) for v in sizes.values()])
    return Rows(sizes=dict(zip(sizes, columns, strict=True)), seconds=np.asarray(seconds, float))


def _pipeweave(folder: Path) -> Iterator[Case]:
    names = {"NVIDIA H20": "h20", "NVIDIA H800": "h800", "NVIDIA H100": "h100", "NVIDIA H200": "h200"}
    for key, part in _by(table(folder, "pipeweave/gemm_fp8_hopper_sample.csv"), "hardware"):
        if key[0] in names:
            rows = gemm_rows(1, part["M"], part["N"], part["K"], 1.0, 1e-6 * part["duration_us"], 2.0)
            yield Case(
                source="pipeweave",
                device=names[key[0]],
                cost_class="gemm",
                dtype="fp8",
                form=FORMS["gemm"],
                rows=rows,
            )


def _apex(folder: Path) -> Iterator[Case]:
    found = table(folder, "apex_plus/v100_gemm_fp16_sample.csv")
    if found is not None:
        seconds = 1e-6 * found["time(us)"]
        clear = seconds > 30e-6
        rows = gemm_rows(1, found["m"], found["n"], found["k"], 2.0, seconds).pick(clear)
        yield Case(source="apex_plus", device="v100_pcie", cost_class="gemm", dtype="fp16", form=FORMS["gemm"], rows=rows,
                   launch="eager", note="above 30 us: whole microseconds, 14 of them launch")  # fmt: skip


def _vidur(folder: Path) -> Iterator[Case]:
    for key, part in _by(table(folder, "vidur/transformer_layer_ops_fp16_sample.csv"), "device"):
        if key[0] not in ("a100", "a40"):
            continue
        tokens, wide, tp = part["num_tokens"], part["n_embd"], part["tp"]
        head = wide / part["n_head"]
        inner = part["n_expanded_embd"] / tp
        gates = np.where(part["use_gated_mlp"] == "True", 2.0, 1.0)
        shapes = {
            "attn_pre_proj_ms": (wide, (part["n_head"] + 2 * part["n_kv_head"]) * head / tp),
            "attn_post_proj_ms": (wide / tp, wide),
            "mlp_up_proj_ms": (wide, gates * inner),
            "mlp_down_proj_ms": (inner, wide),
        }
        products = [gemm_rows(1, tokens, n, k, 2.0, 1e-3 * part[c]) for c, (k, n) in shapes.items()]
        shared = {"source": "vidur", "device": key[0], "dtype": "fp16"}
        yield Case(cost_class="gemm", form=FORMS["gemm"], rows=_sane(together(products)), **shared)
        moved = 2.0 * tokens * wide
        streams = {
            ("norm", "input_layernorm_ms"): (wide, moved, moved),
            ("elementwise", "add_ms"): (wide, 2 * moved, moved),
            ("elementwise", "mlp_act_ms"): (inner, 2.0 * tokens * inner * gates, 2.0 * tokens * inner),
        }
        for (kind, column), (row, read, written) in streams.items():
            rows = stream_rows(tokens, row, read, written, 1e-3 * part[column])
            yield Case(cost_class=kind, form=FORMS["stream"], rows=_sane(rows), stack=column[:-3],
                       ships=column != "add_ms", note="whole microseconds", **shared)  # fmt: skip
        gathered = {"rows": tokens, "row": 2.0 * wide, "written": moved, "hits": 0.0 * tokens}
        yield Case(cost_class="gather", form=FORMS["gather"],
                   rows=_sane(Rows(sizes=gathered, seconds=1e-3 * part["emb_ms"])), note="whole microseconds", **shared)  # fmt: skip


def _llmservingsim(folder: Path) -> Iterator[Case]:
    names = {"H100": "h100", "A6000": "a6000", "RTX3090": "rtx3090"}
    shapes = {"q_proj": (4096, 4096), "k_proj": (4096, 1024), "v_proj": (4096, 1024), "o_proj": (4096, 4096),
              "gate_proj": (4096, 14336), "up_proj": (4096, 14336), "down_proj": (14336, 4096), "lm_head": (4096, 128256)}  # fmt: skip
    for key, part in _by(table(folder, "llmservingsim/llama31_8b_hf_layers_v0_tp1.csv"), "hw"):
        if key[0] not in names:
            continue
        seconds = 1e-9 * part["latency(ns)"]
        shared = {"source": "llmservingsim", "device": names[key[0]], "dtype": "bf16"}
        products = [gemm_rows(1, part["input"][at], n, k, 2.0, seconds[at])
                    for layer, (k, n) in shapes.items() if (at := part["layer_name"] == layer).any()]  # fmt: skip
        yield Case(cost_class="gemm", form=FORMS["gemm"], rows=together(products), **shared)


def _deepbench(folder: Path) -> Iterator[Case]:
    names = {
        ("V100", "FP32"): ("v100_pcie", "fp32"),
        ("V100", "FP16"): ("v100_pcie", "fp16"),
        ("P100", "FP32"): ("p100", "fp32"),
    }
    for key, part in _by(table(folder, "deepbench/gemm.csv"), "device", "precision_sheet"):
        kind = (key[0], "FP16" if "FP16 ip" in key[1] else "FP32" if "FP32" in key[1] else "")
        if kind in names:
            name, dtype = names[kind]
            rows = gemm_rows(
                1, part["M"], part["N"], part["K"], 2.0 if dtype == "fp16" else 4.0, 1e-3 * part["time_ms"]
            )
            yield Case(source="deepbench", device=name, cost_class="gemm", dtype=dtype, form=FORMS["gemm"], rows=rows,
                       launch="eager")  # fmt: skip
    for key, part in _by(table(folder, "deepbench/conv.csv"), "device", "precision_sheet"):
        kind = (key[0], "FP16" if "FP16 ip" in key[1] else "FP32" if "FP32" in key[1] else "")
        if kind in names:
            name, dtype = names[kind]
            high = np.floor((part["H"] + 2 * part["pad_h"] - part["R"]) / part["stride_vertical"]) + 1
            wide = np.floor((part["W"] + 2 * part["pad_w"] - part["S"]) / part["stride_horizontal"]) + 1
            rows = conv_rows(part["N"], part["C"], part["K"], part["H"], part["W"], high, wide, part["R"], part["S"],
                             part["stride_vertical"], 2.0 if dtype == "fp16" else 4.0, 1e-3 * part["fwd_ms"])  # fmt: skip
            yield Case(source="deepbench", device=name, cost_class="conv", dtype=dtype, form=FORMS["conv"], rows=_sane(rows),
                       launch="eager")  # fmt: skip


def _llmcompass(folder: Path) -> Iterator[Case]:
    found = table(folder, "llmcompass/operators_fp16_a100_mi210.csv")
    if found is not None:
        part = found.where((found["op"] == "matmul") & (found["gpu"] == "A100"))
        rows = gemm_rows(1, part["M"], part["N"], part["K"], 2.0, 1e-6 * part["latency_us"])
        yield Case(
            source="llmcompass", device="a100", cost_class="gemm", dtype="fp16", form=FORMS["gemm"], rows=rows
        )


def together(parts: list[Rows]) -> Rows:
    """One after the other."""
    return Rows(sizes={k: np.concatenate([p.sizes[k] for p in parts]) for k in parts[0].sizes},
                seconds=np.concatenate([p.seconds for p in parts]))  # fmt: skip


def _sane(rows: Rows) -> Rows:
    return rows.pick(np.isfinite(rows.seconds) & (rows.seconds > 0))


def _by(found: Table | None, *columns: str) -> Iterator[tuple[tuple[str, ...], Table]]:
    if found is None or not len(found):
        return
    keys = list(zip(*[found[c] for c in columns], strict=True))
    for key in sorted(set(keys)):
        yield tuple(map(str, key)), found.where(np.array([k == key for k in keys]))
