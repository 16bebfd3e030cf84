"""How fast grids are searched, and that a worker's death loses nothing; writes docs/search_speed.md.

An evaluation is a full prediction of one point: latency of the whole network, kernel by kernel, and its peak
memory. Leave the machine alone: `python benchmarks/search_speed.py`. `--points` makes the large sweep smaller.
"""

import argparse
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
PAGE = Path(__file__).parents[1] / "docs" / "search_speed.md"
# Figures of an evaluation in the timed searches.
ASKED = ["latency_s", "memory_bytes"]
# Every machine of the catalogue but microcontrollers, whose arenas are placed point by point.
MACHINES = {"kind": ["gpu", "cpu", "tpu", "npu", "mobile_soc"]}
MOBILENET = {
    "name": "mobilenet",
    "models": {"name": "mobilenet_v2", "width": {"start": 0.35, "stop": 1.62, "step": 0.01},
               "resolution": {"start": 96, "stop": 606, "step": 2}},
    "machines": MACHINES,
    "workload": {"precision": ["fp32", "fp16", "int8"]},
    "columns": ASKED,
}  # fmt: skip
DECODE = {
    "name": "decode",
    "models": "llama-3.1-8b",
    "machines": "h100-sxm",
    "workload": {"phase": "decode", "batch": {"start": 1, "stop": 1024, "step": 1},
                 "context": {"start": 8, "stop": 32768, "step": 8}, "precision": ["bf16", "int8", "fp8"]},
    "columns": ASKED,
}  # fmt: skip


def decode(points: int) -> dict:
    """A decode grid of about so many points."""
    step = 8 if points <= 1024 * 4096 * 3 else 1
    batches = max(1, min(1024, points * step // (32768 * 3)))
    workload = DECODE["workload"] | {"batch": {"start": 1, "stop": batches, "step": 1},
                                     "context": {"start": step, "stop": 32768, "step": step}}  # fmt: skip
    return DECODE | {"workload": workload}


def search(grid: dict, numbers: list[int]) -> tuple[int, float, float]:
    """Evaluates slabs of a grid in this process, and the best of each: points, seconds of CPU, peak MB."""
    import numpy as np

    from pharos.decide.sweep.grid_file import read_grid
    from pharos.decide.sweep.plan import plan
    from pharos.decide.sweep.points import Told, blocks

    planned = plan(read_grid(grid))
    slabs = [s for part in planned.parts for s in part]
    told, start, known = Told(), time.process_time(), 0
    for number in numbers:
        for block in blocks(planned, slabs[number], told):
            latency = block.columns["latency_s"]
            if latency is None:
                # a machine without a peak or a bandwidth: no prediction, not counted
                continue
            # what a search does with them: the fastest, and what it holds
            best = int(np.argmin(latency))
            assert np.broadcast_to(block.columns["memory_bytes"], block.rows)[best] > 0
            known += block.rows
    return known, time.process_time() - start, peak()


def peak() -> float:
    """Peak resident MB of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def ready() -> int:
    """Imports, so that timing does not pay for them."""
    import pharos.decide.sweep
    from pharos.machines.machine import find_machine

    pharos.predict("resnet18", on=find_machine("h100-sxm"))
    time.sleep(0.2)
    return os.getpid()


def timed(grid: dict, workers: int) -> dict:
    """A search over processes: points, wall seconds, rate, and the rate of a core."""
    from pharos.decide.sweep.grid_file import read_grid
    from pharos.decide.sweep.plan import plan

    planned = plan(read_grid(grid))
    count = sum(len(part) for part in planned.parts)
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        [f.result() for f in [pool.submit(ready) for _ in range(4 * workers)]]
        start = time.perf_counter()
        # dealt in turn, a few slabs at a time
        chunk = max(1, count // (8 * workers))
        runs = [
            pool.submit(search, grid, list(range(i, min(i + chunk, count)))) for i in range(0, count, chunk)
        ]
        found = [r.result() for r in runs]
        wall = time.perf_counter() - start
    points = sum(f[0] for f in found)
    assert 0.5 * planned.points < points <= planned.points
    return {"points": points, "wall": wall, "rate": points / wall,
            "core": points / sum(f[1] for f in found), "peak": max(f[2] for f in found)}  # fmt: skip


class Watch(threading.Thread):
    """The largest resident memory of this process and its children, looked at ten times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self.going = 0.0, True

    def run(self) -> None:
        while self.going:
            self.most = max(self.most, *self._each())
            time.sleep(0.1)

    @staticmethod
    def _each() -> list[float]:
        found = [0.0]
        me = os.getpid()
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                fields = (folder / "stat").read_text().rpartition(") ")[2].split()
                if int(folder.name) == me or int(fields[1]) == me:
                    found.append(int(fields[21]) * resource.getpagesize() / 1e6)
            except (OSError, IndexError, ValueError):
                continue
        return found


def large(points: int, folder: Path) -> dict:
    """A sweep of so many points to Parquet through the command line."""
    import json

    grid = folder / "large.yaml"
    grid.write_text(json.dumps(decode(points)))
    watch = Watch()
    watch.start()
    from pharos.decide.sweep import sweep

    start = time.perf_counter()
    found = sweep(grid, folder / "large")
    wall = time.perf_counter() - start
    watch.going = False
    size = sum(p.stat().st_size for p in (folder / "large").glob("part-*"))
    shutil.rmtree(folder / "large")
    return {"rows": found.rows, "wall": wall, "rate": found.rows / wall, "bytes": size, "parts": found.parts,
            "peak": watch.most}  # fmt: skip


CLUSTER_ROWS = 200_000


def sorted_digest(path: Path) -> tuple[int, str]:
    """Rows of a folder of parts, and one number of all of them in sorted order."""
    from pharos.decide.sweep.parts import duckdb

    with duckdb().connect() as db:
        columns = [r[0] for r in db.execute(f"DESCRIBE SELECT * FROM '{path}/part-*.parquet'").fetchall()]
        row = ", ".join(f'"{c}"' for c in columns)
        asked = (f"SELECT count(*), md5(string_agg(h, '' ORDER BY h)) FROM "
                 f"(SELECT md5(CAST(row({row}) AS VARCHAR)) AS h FROM '{path}/part-*.parquet')")  # fmt: skip
        return db.execute(asked).fetchone()


def killer(victim, parts: int):
    """A tick that kills a worker when so many parts are written."""
    seen = []

    def tick(progress) -> None:
        seen.append(progress)
        if len(seen) == parts + 1:
            os.kill(victim(), signal.SIGKILL)

    return tick


def on_dask(grid: dict, out: Path, rows: int):
    """A sweep on a Dask cluster of two workers, one of which is killed midway."""
    from distributed import LocalCluster

    from pharos.decide.sweep import sweep

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
        address = cluster.scheduler_address.replace("tcp://", "dask://")

        def victim() -> int:
            return next(iter(cluster.workers.values())).pid

        return sweep(grid, out, engine=address, rows=rows, tick=killer(victim, 3))


def on_ray(grid: dict, out: Path, rows: int):
    """A sweep on a Ray cluster of two nodes with one core each; a node's process is killed midway."""
    import ray
    from ray.cluster_utils import Cluster

    from pharos.decide.sweep import sweep

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    node = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:

        def kill() -> int:
            raylets = node.all_processes["raylet"]
            return raylets[0].process.pid

        return sweep(grid, out, engine="ray", rows=rows, tick=killer(kill, 3))
    finally:
        ray.shutdown()
        cluster.shutdown()


def clusters(points: int, folder: Path) -> list[dict]:
    """The same sweep here, on Dask and on Ray, a worker killed midway in both."""
    from pharos.decide.sweep import sweep

    grid = decode(points)
    rows = max(1, points // 24)
    found = []
    for name, run in (
        ("local, undisturbed", lambda out: sweep(grid, out, rows=rows)),
        ("Dask, 2 workers, one killed", lambda out: on_dask(grid, out, rows)),
        ("Ray, 2 nodes, one killed", lambda out: on_ray(grid, out, rows)),
    ):
        out = folder / name.split(",")[0]
        start = time.perf_counter()
        swept = run(out)
        wall = time.perf_counter() - start
        count, digest = sorted_digest(out)
        found.append({"name": name, "rows": count, "digest": digest, "wall": wall, "parts": swept.parts,
                      "workers": swept.workers, "retried": swept.retried})  # fmt: skip
        print(found[-1], flush=True)
        shutil.rmtree(out)
    return found


def by_machine() -> list[tuple[str, float]]:
    """Evaluations a second of one core on single machines of the MobileNetV2 grid."""
    found = []
    for name in ("cortex-a53", "apple-m1", "h100-sxm"):
        grid = MOBILENET | {"machines": [name]}
        search(grid, [0])
        points, seconds, _ = search(grid, [0])
        found.append((name, points / seconds))
    return found


def page(results: dict) -> str:
    """docs/search_speed.md."""
    m, d, big = results["mobilenet"], results["decode"], results["large"]
    same = len({c["digest"] for c in results["clusters"]}) == 1
    lines = [
        "# How fast grids are searched",
        "",
        f"Written by `python benchmarks/search_speed.py` on {results['where']}. An evaluation is a full prediction of",
        "one point: the latency of the whole network, kernel by kernel, and its peak memory. Equal kernels are timed",
        "once and their times used at every point that has them; that is counted as no fewer evaluations, since every",
        "point gets its own latency and memory, equal to what `pharos predict` says of it alone.",
        "",
        "| search | points | seconds | points a second, two cores | of one core | wanted | peak MB a process |",
        "|---|---:|---:|---:|---:|---:|---:|",
        f"| MobileNetV2 width x resolution x precision x machine | {m['points']:,} | {m['wall']:.1f} | {m['rate']:,.0f} | {m['core']:,.0f} | 1,000,000 | {m['peak']:.0f} |",
        f"| Llama 3.1 8B decode, batch x context x precision | {d['points']:,} | {d['wall']:.1f} | {d['rate']:,.0f} | {d['core']:,.0f} | 5,000,000 | {d['peak']:.0f} |",
        "",
        "MobileNetV2: 128 widths from 0.35 to 1.62, 256 resolutions from 96 to 606, fp32, fp16 and int8, every machine",
        "of the catalogue but microcontrollers; machines whose figures give no latency are not counted. Widths round to",
        "channels in steps of 8, so that many layers of neighbours are the same. Machines whose products have a closed form",
        "of tiles and waves (large GPUs) cost more than those with a roofline; one core, one machine of that grid alone,",
        "the networks being counted already, as they are for all but the first machine:",
        "",
        "| machine | points a second, one core |",
        "|---|---:|",
        *(f"| {name} | {rate:,.0f} |" for name, rate in results["machines"]),
        "",
        "Llama 3.1 8B: batches 1 to 1,024, contexts 8 to 32,768 in steps of 8, bf16, int8 and fp8 on one H100.",
        "",
        "## A large sweep",
        "",
        f"{big['rows']:,} rows into {big['parts']} Parquet parts, {big['bytes'] / 1e9:.2f} GB, in {big['wall']:.0f} s: "
        f"{big['rate']:,.0f} rows a second with writing; the largest process held {big['peak']:.0f} MB.",
        "",
        "## Clusters, a worker killed midway",
        "",
        "| engine | rows | parts | seconds | computed again by Pharos | workers that wrote | rows in sorted order, MD5 |",
        "|---|---:|---:|---:|---:|---:|---|",
        *(f"| {c['name']} | {c['rows']:,} | {c['parts']} | {c['wall']:.1f} | {c['retried']} | {len(c['workers'])} | {c['digest'][:12]} |"
          for c in results["clusters"]),
        "",
        "All rows are identical." if same else "**The rows differ.**",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs everything and writes the page."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--points", type=int, default=100_663_296, help="of the large sweep")
    options.add_argument("--cluster-points", type=int, default=5_000_000, help="of the sweep on clusters")
    options.add_argument("--search-points", type=int, default=12_582_912, help="of the decode search")
    options.add_argument("--out", type=Path, default=PAGE)
    options.add_argument("--folder", type=Path, help="where parts are written; a temporary folder by default")
    given = options.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="pharos-"))
    folder.mkdir(parents=True, exist_ok=True)
    processor = subprocess.run(["sh", "-c", "grep -m1 'model name' /proc/cpuinfo | cut -d: -f2"],
                               capture_output=True, text=True).stdout.strip()  # fmt: skip
    results: dict = {
        "where": f"two cores ({processor or platform.processor()}, Python {platform.python_version()})"
    }
    begun = time.perf_counter()
    results["decode"] = timed(decode(given.search_points), 2)
    print("decode", results["decode"], flush=True)
    mobile = MOBILENET if given.points >= 10**8 else MOBILENET | {"machines": ["cortex-a53", "rtx-3090"]}
    results["mobilenet"] = timed(mobile, 2)
    print("mobilenet", results["mobilenet"], flush=True)
    results["machines"] = by_machine()
    print(results["machines"], flush=True)
    results["clusters"] = clusters(given.cluster_points, folder)
    results["large"] = large(given.points, folder)
    print("large", results["large"], flush=True)
    if given.folder is None:
        shutil.rmtree(folder)
    given.out.write_text(page(results), encoding="utf-8")
    print(f"{time.perf_counter() - begun:.0f} s in all; wrote {given.out}")


if __name__ == "__main__":
    sys.exit(main())
