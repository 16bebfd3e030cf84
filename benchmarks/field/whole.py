"""Vision networks on GPUs and CPUs, boards and microcontrollers: totals from our graphs, one rate a class of operators."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from classes import CLASSES, Run, fit_runs, left_out, network, seconds_of
from networks import Total
from read import table

from pharos.facts.reading import read_yaml
from pharos.measure.fit import conformal
from pharos.models.registry import names
from pharos.quantity.errors import PharosError
from pharos.quantity.evidence import Z80

# MACs of a row and of our graph may differ by so much for the network to be the same.
SAME_NETWORK = 0.04

_REGNET = {
    "004": "400mf",
    "008": "800mf",
    "016": "1_6gf",
    "032": "3_2gf",
    "080": "8gf",
    "160": "16gf",
    "320": "32gf",
}
TIMM = {
    **{f"regnet{a}_{k}{tv}": f"regnet_{a}_{v}" for a in "xy" for k, v in _REGNET.items() for tv in ("", "_tv")},
    **{f"mobilenetv2_{w}": f"mobilenet_v2(width={int(w) / 100})" for w in ("050", "075", "140")},
    **{f"tf_efficientnet_b{i}": f"efficientnet_b{i}" for i in range(8)},
    "mnasnet_050": "mnasnet0_5", "mnasnet_075": "mnasnet0_75", "mnasnet_100": "mnasnet1_0", "mobilenetv2_100": "mobilenet_v2",
    "mobilenetv1_100": "mobilenet_v1", "mobilenetv1_125": "mobilenet_v1(width=1.25)", "convnext_tiny_hnf": "convnext_tiny",
    "swin_tiny_patch4_window7_224": "swin_t", "swin_small_patch4_window7_224": "swin_s", "swin_base_patch4_window7_224": "swin_b",
    "efficientnetv2_s": "efficientnet_v2_s", "efficientnetv2_m": "efficientnet_v2_m", "tf_efficientnetv2_l": "efficientnet_v2_l",
    "tf_mobilenetv3_large_100": "mobilenet_v3_large", "mobilenetv3_large_100": "mobilenet_v3_large",
    "mobilenetv3_small_100": "mobilenet_v3_small",
}  # fmt: skip
# run: (device, precision, fused, where rates begin in FLOP/s, bandwidth in B/s, vector rate)
TIMM_RUNS = {
    "amp-nchw-pt240-cu124-rtx4090": ("rtx4090", "fp16", False, 100e12, 0.8e12, 20e12),
    "amp-nhwc-pt240-cu124-rtx3090": ("rtx3090", "fp16", False, 45e12, 0.75e12, 20e12),
    "fp32-nchw-pt240-cpu-i9_10940x-dynamo": ("i9-10940X", "fp32", True, 1e12, 60e9, 300e9),
}
# Half of a processor's caches, in which activations stay: 19.25 MB of the third level, 1 MB of the second a core.
WARM = {"i9-10940X": 0.5 * 33e6}
_LOOSE = np.array([1.0] * len(CLASSES) + [0.7, 1.0, 1.0, 0.01, 0.01])


def vision(folder: Path) -> dict[str, list[tuple[Run, float]]]:
    """timm's runs, by device: each network predicted from a profile that no network of its family was in."""
    rows = table(folder, "timm/vision_end_to_end_inference.csv")
    found: dict[str, list[tuple[Run, float]]] = {}
    if rows is None:
        return found
    known = {alias: name for name, aliases in names().items() for alias in (name, *aliases)}
    for key, (device, precision, fused, rate, bandwidth, vector) in TIMM_RUNS.items():
        runs = []
        for i in np.flatnonzero(rows["run"] == key):
            model = str(rows["model"][i])
            name = known.get(model) or TIMM.get(model)
            run = name and _vision_run(rows, i, model, name, precision, fused, device)
            if run:
                runs.append(run)
        if runs:
            start = np.log([rate] * len(CLASSES) + [bandwidth, 1e-5, vector, 1.0, 1.0])
            found[device] = list(
                left_out(runs, lambda r: re.sub(r"[0-9_.].*", "", r.label.replace("tf_", "")), start, _LOOSE)
            )
    return found


def _vision_run(
    rows: Any, i: int, model: str, name: str, precision: str, fused: bool, device: str
) -> Run | None:
    size, batch = int(rows["infer_img_size"][i]), int(rows["infer_batch_size"][i])
    sized = f"{name[:-1]}, resolution={size})" if name.endswith(")") else f"{name}(resolution={size})"
    for spelled in (sized, name):
        try:
            net = network(spelled, batch, precision, fused, WARM.get(device, 0.0))
        except PharosError:
            continue
        if abs(net.macs / batch / 1e9 / float(rows["infer_gmacs"][i]) - 1) < SAME_NETWORK:
            return Run(
                net=net,
                seconds=1e-3 * float(rows["infer_step_time"][i]),
                units=1.0,
                board=device,
                label=model,
            )
    return None


NCNN = {
    "squeezenet": "squeezenet1_1(resolution=227)", "mobilenet": "mobilenet_v1", "mobilenet_v2": "mobilenet_v2",
    "mobilenet_v3": "mobilenet_v3_large", "shufflenet_v2": "shufflenet_v2_x1_0", "mnasnet": "mnasnet1_0", "googlenet": "googlenet",
    "resnet18": "resnet18", "resnet50": "resnet50", "alexnet": "alexnet_two_towers", "efficientnet_b0": "efficientnet_b0",
    "vision_transformer": "vit_b_16",
}  # fmt: skip
# Cores that run 16-bit arithmetic, which ncnn then picks.
HALF = ("A55", "A76")
CORES = ("A53", "A55", "A72", "A73", "A76")
_CLUSTERS = (
    re.compile(r"Cortex-(A\d+) (\d+\.\d+) ?GHz (?:x|\*) (\d)"),
    re.compile(r"(A\d+) \((?:ARMv\d+)\) \((\d+\.\d+) ?GHz x (\d)"),
)
# Where rates begin, for a clock and a core; prior spreads of what a core shares and of what a board differs by.
_BOARD_START = np.array([*np.log([4.0] * len(CLASSES) + [3e9, 1e-4, 1.0]), 0.8, 0.4])
_CORE = np.array([0.7] * len(CLASSES) + [0.7, 1.5, 1.0, 0.15, 0.3])
_BOARD = np.array([0.15] * len(CLASSES) + [0.5, 0.7, 0.2, 0.1, 0.2])


def board_runs(folder: Path) -> dict[str, list[Run]]:
    """ncnn's runs on one cluster of known Arm cores, by core; the fastest of each loop."""
    rows = table(folder, "ncnn/edge_cpu_gpu_end_to_end.csv")
    found: dict[str, list[Run]] = {}
    for i in range(len(rows) if rows else 0):
        told, model, threads = str(rows["device"][i]), str(rows["model"][i]), int(rows["threads"][i])
        clusters = sorted(
            {(c, float(g), int(n)) for p in _CLUSTERS for c, g, n in p.findall(told)}, key=lambda c: -c[1]
        )
        # the clusters of the OrangePi 5 cannot be told apart
        if rows["gpu_device"][i] != -1 or model not in NCNN or not clusters or "OrangePi5" in told:
            continue
        save = int(rows["powersave"][i])
        if len(clusters) > 1 and save == 0:
            continue
        core, clock, count = clusters[-1] if save == 1 and len(clusters) > 1 else clusters[0]
        if core in CORES and threads <= count:
            net = network(NCNN[model], 1, "fp16" if core in HALF else "fp32", True)
            found.setdefault(core, []).append(
                Run(net=net, seconds=1e-3 * float(rows["min_ms"][i]), units=1e9 * clock, threads=threads,
                    board=re.sub(r"[(;].*", "", told).strip() + f" {clock:g} GHz", label=model)
            )  # fmt: skip
    return found


def boards(folder: Path) -> dict[str, dict[str, list[tuple[Run, float]]]]:
    """By core: networks left out on boards that were fitted, and boards that were never fitted."""
    found: dict[str, dict[str, list[tuple[Run, float]]]] = {}
    for core, runs in sorted(board_runs(folder).items()):
        networks_out = []
        for board in sorted({r.board for r in runs}):
            others, mine = [r for r in runs if r.board != board], [r for r in runs if r.board == board]
            near = fit_runs(others, _BOARD_START, _CORE) if others else _BOARD_START
            networks_out += left_out(mine, lambda r: r.net.name, near, _BOARD if others else _CORE)
        boards_out = (
            list(left_out(runs, lambda r: r.board, _BOARD_START, _CORE))
            if len({r.board for r in runs}) > 1
            else []
        )
        found[core] = {"networks": networks_out, "boards": boards_out}
    return found


TINY = {"kws": "ds_cnn_s", "vww": "mobilenet_vww", "ic": "resnet8", "ad": "anomaly_autoencoder"}


def tiny_runs(facts: Path) -> list[Run]:
    """MLPerf Tiny's closed single-stream int8 results on Arm Cortex-M, units in clocks."""
    path = facts / "audio_tiny_models.yaml"
    if not path.is_file():
        return []
    runs = []
    for row in read_yaml(path).data["mlperf_tiny_results"]:
        core = re.search(r"Cortex-M\d+", str(row.get("processor") or ""))
        if not core or not row.get("clock_mhz") or row.get("precision") != "int8" or row["model"] not in TINY:
            continue
        # visual wake words was another network before v1.1, and Krai still ran that one: with the same library, its
        # time halves from one round to the next while the other networks' stays
        if row["model"] == "vww" and (
            row["round"] in ("v0.5", "v0.7", "v1.0") or row["submitter"] in ("Krai", "cTuning")
        ):
            continue
        library = re.sub(r" v?\d.*", "", str(row.get("framework") or row["submitter"]))
        if library == "X-CUBE-AI" and row["round"] >= "v1.2":
            library += " 9"
        runs.append(Run(net=network(TINY[row["model"]], 1, "int8", True), seconds=1e-3 * float(row["latency_ms"]),
                        units=1e6 * float(row["clock_mhz"]), board=str(row["board"]),
                        label=f"{core[0]}, {library}"))  # fmt: skip
    return runs


_TINY_START = np.array([*np.log([1.0] * len(CLASSES) + [1e12, 1e-9, 0.2]), 0.0, 0.0])
_TINY_LOOSE = np.array([1.0] * len(CLASSES) + [0.01, 0.01, 0.7, 0.01, 0.01])
_TINY_TIGHT = np.array([0.35] * len(CLASSES) + [0.01, 0.01, 0.35, 0.01, 0.01])


def micro(facts: Path) -> dict[str, list[tuple[Run, float]]]:
    """Boards never fitted: from other boards with the same core and kernel library; and networks left out."""
    runs = tiny_runs(facts)
    boards_out, networks_out = [], []
    for label in sorted({r.label for r in runs}):
        mine, others = (
            [r for r in runs if r.label == label],
            [r for r in runs if r.label.split(",")[0] == label.split(",")[0]],
        )
        near = fit_runs(others, _TINY_START, _TINY_LOOSE, True)
        if len({r.board for r in mine}) > 1:
            boards_out += left_out(mine, lambda r: r.board, _TINY_START, _TINY_LOOSE, alone=True)
        if len({r.net.name for r in mine}) > 2:
            for name in sorted({r.net.name for r in mine}):
                rest = [
                    r for r in runs if r.net.name != name and r.label.split(",")[0] == label.split(",")[0]
                ]
                around = fit_runs(rest, _TINY_START, _TINY_LOOSE, True) if rest else near
                kept = [r for r in mine if r.net.name != name]
                x = fit_runs(kept, around, _TINY_TIGHT, True)
                # one network of the four has long convolutions: without it they are taken to run as pointwise ones
                conv, pointwise = CLASSES.index("conv"), CLASSES.index("pointwise")
                if not any((r.net.kind == conv).any() for r in kept):
                    x[conv] = x[pointwise]
                networks_out += [(r, seconds_of(x, r, True)) for r in mine if r.net.name == name]
    return {"boards": boards_out, "networks": networks_out}


def totals(
    source: str, found: list[tuple[Run, float]], what: Callable[[Run], str] = lambda r: r.label
) -> Iterator[Total]:
    """Runs with the band that the residuals of all the other boards or networks imply."""
    logs = np.array([np.log(r.seconds / s) for r, s in found])
    for run, seconds in found:
        others = np.delete(logs, [j for j, (r, _) in enumerate(found) if r.net.name == run.net.name])
        sigma = conformal(others if len(others) else logs)
        factor = np.exp(Z80 * sigma)
        yield Total(source=source, device=run.board, what=what(run), measured_s=run.seconds, ours_s=seconds,
                    low_s=seconds / factor, high_s=seconds * factor)  # fmt: skip
