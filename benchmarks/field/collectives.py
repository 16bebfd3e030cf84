"""Collectives in the field: rows by link, fitted on one half of the sizes, counted on the other; facts and a section."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from read import Table, table
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from trial import Errors

from pharos.measure.fit import Fitted, Rows, bucket, conformal, fit, predicted
from pharos.plan.collectives import find_collective
from pharos.plan.link_form import COLLECTIVE, NO_DEVICE
from pharos.quantity.evidence import Z80

# Sizes that the aim speaks of.
FROM = 64 * 1024
# No error below this is stated: another node of the same kind differs by as much.
LEAST_ERROR = 0.06
NAMES = {"alltoall": "all-to-all", "sendrecv": "send-recv", "send_recv": "send-recv"}
# Links by (source, system): id, bytes a second of a device and direction, whether its switch adds.
LINKS = {
    ("aiconfigurator", "h100_sxm"): ("nvlink-4", 450e9, True),
    ("aiconfigurator", "a100_sxm"): ("nvlink-3", 300e9, False),
    ("pipeweave", "A100"): ("nvlink-3", 300e9, False),
    ("pipeweave", "H20"): ("nvlink-4", 450e9, True),
    ("pipeweave", "H800"): ("nvlink-4 of the H800", 200e9, True),
    ("vidur", "a100_dgx"): ("nvlink-3", 300e9, False),
    ("vidur", "a100_pairwise_nvlink"): ("nvlink-3", 300e9, False),
    # four devices in two pairs: what goes from pair to pair goes through the host
    ("vidur", "a100_pairwise_nvlink, 4"): ("pcie-4", 31.5e9, False),
    ("vidur", "a40_pairwise_nvlink"): ("pcie-4 of the A40", 31.5e9, False),
    ("apex_plus", "V100-PCIE-16GB"): ("pcie-3", 15.75e9, False),
}
# Networks by the same key: id, bytes a second of a node, which all its devices share. Read off the largest
# transfers, as the sources do not name them.
NETWORKS = {
    ("vidur", "a100_dgx"): ("ethernet-100", 12.5e9),
    ("vidur", "a100_pairwise_nvlink"): ("unnamed, of pairs", 12.5e9),
    ("vidur", "a40_pairwise_nvlink"): ("unnamed, of A40s", 12.5e9),
    ("apex_plus", "V100-PCIE-16GB"): ("ethernet-10", 1.25e9),
}
# Fits that go into the facts; of several benchmarks of a link, those launched from a graph.
SHIPS = {("aiconfigurator", "h100_sxm"), ("aiconfigurator", "a100_sxm"), ("apex_plus", "V100-PCIE-16GB"),
         ("vidur", "a100_pairwise_nvlink, 4")}  # fmt: skip
SOURCES = {
    "aiconfigurator": "ai-dynamo/aiconfigurator, Apache-2.0, snapshot of 2026-08-21: NCCL in CUDA graphs",
    "vidur": "microsoft/vidur, MIT, snapshot of 2024-11-19: NCCL through PyTorch",
    "apex_plus": "microsoft/apex_plus, MIT, snapshot of 2025-05-01: NCCL",
    "pipeweave": "zksainx/pipeweave, Apache-2.0, snapshot of 2025-09-11: NCCL",
}


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows of one collective on one link or network, by one benchmark."""

    source: str
    system: str
    name: str
    network: bool
    rows: Rows

    @property
    def link(self) -> str:
        """What carries it."""
        return (NETWORKS if self.network else LINKS)[self.source, self.system][0]


@dataclass(frozen=True, kw_only=True)
class Result:
    """A group fitted on at most 300 rows and counted on the other sizes."""

    group: Group
    fitted: Fitted
    large: Errors | None
    all: Errors
    plain: Errors
    covered: float
    error: float
    count: int


def _read(folder: Path) -> Iterator[tuple[str, str, str, Any, Any, Any, Any]]:
    """(source, system, collective, bytes, devices, devices a node, seconds) of every source."""
    rows = table(folder, "aiconfigurator/nccl_collectives.csv")
    if rows is not None:
        # sizes count elements: half and int8 take the same time at the same bytes
        width = np.where(rows["nccl_dtype"] == "half", 2, 1)
        for system, name in _pairs(rows, "system", "op_name"):
            at = (rows["system"] == system) & (rows["op_name"] == name)
            n = rows["num_gpus"][at]
            yield (
                "aiconfigurator",
                system,
                name,
                (rows["message_size"] * width)[at],
                n,
                n,
                1e-6 * rows["latency_us"][at],
            )
    rows = table(folder, "pipeweave/all_reduce_sample.csv")
    if rows is not None:
        for (gpu,) in _pairs(rows, "gpu"):
            at = rows["gpu"] == gpu
            yield ("pipeweave", gpu, "all_reduce", rows["size_bytes"][at], rows["num_workers"][at],
                   rows["devices_per_node"][at], 1e-3 * rows["median_ms"][at])  # fmt: skip
    rows = table(folder, "vidur/network_collectives_sample.csv")
    if rows is not None:
        for system, name in _pairs(rows, "topology", "collective"):
            at = (rows["topology"] == system) & (rows["collective"] == name)
            paired = system == "a100_pairwise_nvlink" and name == "all_reduce"
            for n in sorted({*rows["num_workers"][at]}) if paired else [0]:
                some = at & (rows["num_workers"] == n) if paired else at
                label = f"{system}, {n:g}" if n > 2 else system
                yield ("vidur", label, name, rows["size_bytes"][some], rows["num_workers"][some],
                       rows["devices_per_node"][some], 1e-3 * rows["median_ms"][some])  # fmt: skip
    rows = table(folder, "apex_plus/collectives.csv")
    if rows is not None:
        # some rows hold the size where devices a node should stand
        rows = rows.where(rows["num_gpus_per_node"] <= 8)
        for gpu, name in _pairs(rows, "gpu", "collective"):
            at = (rows["gpu"] == gpu) & (rows["collective"] == name)
            per = rows["num_gpus_per_node"][at]
            yield (
                "apex_plus",
                gpu,
                name,
                1024 * rows["size(kb)"][at],
                rows["num_nodes"][at] * per,
                per,
                1e-6 * rows["time(us)"][at],
            )


def _pairs(rows: Table, *columns: str) -> list[tuple[str, ...]]:
    return sorted({tuple(map(str, cells)) for cells in zip(*(rows[c] for c in columns), strict=True)})


def groups(folder: Path, network: bool = False, inside: dict[Any, Result] | None = None) -> list[Group]:
    """Rows of the field by link and collective, of one node, or of several.

    Args:
        inside: results of one node, by source, system and collective: what a node's own links take first.
    """
    found = []
    for source, system, raw, size, devices, per, seconds in _read(folder):
        name = NAMES.get(raw, raw.replace("_", "-"))
        nodes = devices / per
        # a measurement of 0 is none
        at = (seconds > 0) & (size > 0) & ((nodes > 1) == network)
        if at.sum() < 25:
            continue
        near = (inside or {}).get((source, system, name))
        rows = _columns(name, size[at], devices[at], per[at], (source, system), network, near)
        found.append(Group(source=source, system=system, name=name, network=network,
                           rows=Rows(sizes=rows, seconds=seconds[at])))  # fmt: skip
    return found


def _columns(
    name: str, size: Any, devices: Any, per: Any, key: tuple[str, str], network: bool, near: Result | None
) -> dict[str, Any]:
    """The columns of the form, by the algorithm that libraries run."""
    how = find_collective(name)
    nodes = devices / per
    _, rate, adds = LINKS[key]
    if not network:
        flat = how.moves("direct" if "direct" in how.algorithms else "ring", devices, size, devices)
        ideal, steps, before = flat.serial() / rate, flat.steps(), 0 * size
        switch = size / rate if adds and name == "all-reduce" else 0 * size
    else:
        moves = how.moves("direct" if name == "send-recv" else "hierarchical", devices, size, per)
        # the node's adapter carries what all its devices send
        share = 1 if name == "send-recv" else per
        ideal, steps = moves.serial("across") * share / NETWORKS[key][1], moves.steps("across")
        switch = before = 0 * size
        if near is not None:
            own = {"bytes": size, "devices": per, "nodes": 1, "steps": moves.steps("inside"),
                   "ideal": moves.serial("inside") / rate, "switch": 0 * size, "before": 0 * size}  # fmt: skip
            own = {k: np.broadcast_to(np.asarray(v, float), size.shape) for k, v in own.items()}
            before = np.where(own["steps"] > 0, near.fitted.predict(own, NO_DEVICE), 0)
    columns = {"bytes": size, "devices": devices, "nodes": nodes, "steps": steps, "ideal": ideal,
               "switch": switch, "before": before}  # fmt: skip
    return {k: np.broadcast_to(np.asarray(v, float), size.shape) for k, v in columns.items()}


def trial(group: Group) -> Result:
    """Calibrates on one half of the sizes, counts the other."""
    seen = Rows(
        sizes={k: group.rows.sizes[k] for k in ("bytes", "devices", "nodes")}, seconds=group.rows.seconds
    )
    place = bucket(*seen.sizes.values())
    pool = np.flatnonzero(place < 500)[:300]
    out = np.flatnonzero(place >= 500)
    rows, counted = group.rows.pick(pool), group.rows.pick(out)
    start = {"bulk_us": 40.0, "quick_us": 30.0} if group.source in ("pipeweave", "vidur") else {}
    if group.network:
        start = {"quick_us": 40.0, "quick_hop_us": 10.0, "bulk_us": 100.0, "hop_us": 30.0}
    found = fit(
        COLLECTIVE, rows, NO_DEVICE, start=start, points=40, switches=bool(rows.sizes["switch"].any())
    )
    ours = found.predict(counted.sizes, NO_DEVICE)
    large = counted.sizes["bytes"] > FROM
    off = np.log(counted.seconds / ours)
    bare = predicted(COLLECTIVE, found.constants, None, counted.sizes, NO_DEVICE)
    return Result(
        group=group, fitted=found, all=Errors.of(ours, counted.seconds),
        large=Errors.of(ours[large], counted.seconds[large]) if large.any() else None,
        plain=Errors.of(bare[large], counted.seconds[large]) if large.any() else Errors.of(bare, counted.seconds),
        covered=float(np.mean(np.abs(off) <= Z80 * found.errors["all"])), error=conformal(off), count=len(counted),
    )  # fmt: skip


def results(folder: Path) -> list[Result]:
    """Every group of the folder, tried."""
    near = [trial(g) for g in groups(folder)]
    inside = {(r.group.source, r.group.system, r.group.name): r for r in near}
    return near + [trial(g) for g in groups(folder, True, inside)]


def aims(found: list[Result]) -> str:
    """Rows of the table of aims."""
    near, near_rows, far, far_rows = aim(found)
    if not near_rows:
        return ""
    lines = []
    for what, reached in ((f"collectives above 64 KiB inside a node, {near_rows} rows", near),
                          (f"collectives above 64 KiB between nodes, {far_rows} rows", far)):  # fmt: skip
        lines.append(f"| {what} | 15% | {100 * reached:.1f}% | {'met' if reached <= 0.15 else 'missed'} |")
    return "\n".join(lines) + "\n"


NOTE = """Each collective on each link by each benchmark is fitted on at most 300 rows of one half of the sizes (by a hash of bytes, devices
and nodes) and counted on the other half, by the algorithm that libraries run; "between nodes" takes the time inside nodes from the fit
of one node. Sizes of aiconfigurator count elements: half and int8 take the same time at the same bytes. Rows whose columns are
swapped (14 of apex_plus) are left out. Networks between nodes are not named by their sources; their rate is read off the largest
transfers. Send and receive between nodes of paired A100s is missed by far: its rate falls from 8 to 2 GB/s beyond 4 MB, which no
protocol of the form does.

"""


def section(found: list[Result]) -> str:
    """Text for docs/accuracy.md."""
    lines = [
        NOTE.rstrip("\n"),
        "",
        "| source | system | collective | over | fitted | counted | above 64 KiB, mean / median | closed form alone | all sizes, mean | in band |",
        "|---|---|---|---|---:|---:|---|---:|---:|---:|",
    ]
    for r in found:
        g, large = r.group, r.large
        lines.append(
            f"| {g.source} | {g.system} | {g.name} | {g.link}{' (between nodes)' if g.network else ''} | {r.fitted.rows} | "
            f"{r.count} | {f'{100 * large.mean:.1f}% / {100 * large.median:.1f}%' if large else '-'} | "
            f"{100 * r.plain.mean:.1f}% | {100 * r.all.mean:.1f}% | {100 * r.covered:.0f}% |"
        )
    return "\n".join(lines) + "\n"


def aim(found: list[Result]) -> tuple[float, int, float, int]:
    """(mean error above 64 KiB inside nodes, its rows, between nodes, its rows); each row alike."""
    told: list[float] = []
    for network in (False, True):
        some = [r.large for r in found if r.large and r.group.network == network]
        count = sum(e.count for e in some)
        told += [sum(e.mean * e.count for e in some) / max(count, 1), count]
    return told[0], int(told[1]), told[2], int(told[3])


def write_facts(found: list[Result]) -> None:
    """Constants of the links that ship, one file each in `facts/collectives`."""
    root = Path(str(files("pharos.facts"))) / "collectives"
    by_link: dict[tuple[str, bool], list[Result]] = {}
    for r in found:
        g = r.group
        if (g.source, g.system) in SHIPS or (g.system == "a100_dgx" and (g.network or g.name == "send-recv")):
            by_link.setdefault((g.link, g.network), []).append(r)
    for (link, network), mine in sorted(by_link.items()):
        key = (mine[0].group.source, mine[0].group.system)
        data = CommentedMap()
        data["id"] = link
        data["kind"] = link.partition("-")[0]
        data["generation"] = link.partition("-")[2]
        data["bytes_per_s"] = NETWORKS[key][1] if network else LINKS[key][1]
        data["collectives"] = CommentedMap()
        for r in mine:
            data["collectives"][r.group.name] = _entry(r)
        data["sources"] = sorted({SOURCES[r.group.source] for r in mine})
        yaml = YAML()
        yaml.width = 10**6
        data.yaml_set_start_comment(
            f"Collectives over {link}: constants of the form in plan/link_form.py, fitted from measured rows; no rows."
        )
        with (root / f"{link.replace('-', '_')}.yaml").open("w", encoding="utf-8") as file:
            yaml.dump(data, file)


def _entry(r: Result) -> CommentedMap:
    g = r.group
    entry = CommentedMap()
    entry["form"] = "collective"
    entry["constants"] = _flow({k: float(f"{v:.4g}") for k, v in r.fitted.constants.items()})
    found = r.fitted.residual
    if found is not None:
        columns = {"scales": found.scales, "weights": found.weights} | {
            f"x{i}": found.points[:, i] for i in range(found.points.shape[1])
        }
        entry["correction"] = _flow(
            {k: " ".join(f"{v:.4g}" for v in column) for k, column in columns.items()}
        )
    entry["error"] = float(f"{max(r.error, LEAST_ERROR):.3g}")
    entry["rows"] = r.fitted.rows
    entry["devices"] = _flow_list([int(g.rows.sizes["devices"].min()), int(g.rows.sizes["devices"].max())])
    entry["known"] = "fitted"
    entry["fitted_on"] = f"{g.name} of {g.system} ({g.source})"
    large = r.large or r.all
    entry["held_out"] = (
        f"{r.count} rows of other sizes: {100 * large.mean:.1f}% mean, {100 * large.median:.1f}% median above 64 KiB"
    )
    return entry


def _flow(data: dict[str, Any]) -> CommentedMap:
    made = CommentedMap(data)
    made.fa.set_flow_style()
    return made


def _flow_list(data: list[Any]) -> CommentedSeq:
    made = CommentedSeq(data)
    made.fa.set_flow_style()
    return made


def main() -> None:
    """Prints the table; with --facts writes the constants."""
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "../shared/field")
    parser.add_argument("--facts", action="store_true", help="write src/pharos/facts/collectives")
    asked = parser.parse_args()
    found = results(asked.data)
    print(section(found))
    print("above 64 KiB: inside nodes {:.1%} of {} rows, between nodes {:.1%} of {}".format(*aim(found)))
    if asked.facts:
        write_facts(found)


if __name__ == "__main__":
    main()
