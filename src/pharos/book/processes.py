"""Processes: workers of a lab on this machine that talk through torch.distributed, and the bytes they send.

Run as a module it is one worker: ``python -m pharos.book.processes FOLDER RANK``.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pharos.plan.shard_layouts import cuts
from pharos.quantity.errors import InputError


def spawn(worker: str, processes: int, settings: Mapping[str, Any], timeout_s: float) -> list[dict[str, Any]]:
    """Runs ``module:function`` as `processes` workers and gives what each returned, by rank.

    The function takes (`Wire`, settings) and returns plain data. Workers meet over a file in a folder of
    their own, which goes with them; all are stopped as soon as one fails.

    Raises:
        InputError: PyTorch is missing, a worker failed (its last words are told), or time ran out.
    """
    if find_spec("torch") is None:
        raise InputError("needs PyTorch", hint="pip install 'pharos-nn[torch]'")
    with tempfile.TemporaryDirectory(prefix="pharos-lab-") as name:
        folder = Path(name)
        told = {"worker": worker, "processes": processes, "timeout_s": timeout_s, "settings": dict(settings)}
        (folder / "job.json").write_text(json.dumps(told), encoding="utf-8")
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if sys.platform == "linux":
            environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
        running: list[subprocess.Popen[bytes]] = []
        try:
            for rank in range(processes):
                with (folder / f"{rank}.log").open("wb") as log:
                    running.append(subprocess.Popen(
                        [sys.executable, "-m", "pharos.book.processes", name, str(rank)], env=environment,
                        stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                    ))  # fmt: skip
            _wait(running, folder, timeout_s)
        finally:
            for process in running:
                if process.poll() is None:
                    process.kill()
            for process in running:
                process.wait()
        return [json.loads((folder / f"{r}.json").read_text(encoding="utf-8")) for r in range(processes)]


def _wait(running: Sequence["subprocess.Popen[bytes]"], folder: Path, timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while any(process.poll() is None for process in running):
        for rank, process in enumerate(running):
            if process.poll():
                raise InputError(f"process {rank} failed: {_last_words(folder / f'{rank}.log')}")
        if time.monotonic() > end:
            raise InputError(f"was not done after {timeout_s:g} s", hint="--timeout gives it longer")
        time.sleep(0.02)
    for rank, process in enumerate(running):
        if process.returncode:
            raise InputError(f"process {rank} failed: {_last_words(folder / f'{rank}.log')}")


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "without a word"


class Wire:
    """Messages between workers, each counted where it is handed over to be sent.

    Collectives are made of sends and receives, so that what is counted is what goes out: payloads, without
    the headers of the transport.
    """

    def __init__(self, rank: int, size: int, group: int | None = None) -> None:
        self.rank, self.size, self.group = rank, size, group or size
        self.sent: dict[str, int] = {}
        self._posted: list[tuple[Any, Any]] = []

    def post(self, name: str, target: int, tensor: Any) -> None:
        """Sends a tensor on its way without waiting for it to be taken; `settle` waits."""
        import torch.distributed as dist

        tensor = tensor.detach().contiguous()
        self.sent[name] = self.sent.get(name, 0) + tensor.numel() * tensor.element_size()
        self._posted.append((dist.isend(tensor, target), tensor))

    def settle(self) -> None:
        """Waits until all that was posted has been taken."""
        for request, _ in self._posted:
            if request is not None:
                request.wait()
        self._posted.clear()

    def exchange(
        self, name: str, out: Mapping[int, Any], into: Mapping[int, tuple[tuple[int, ...], Any]]
    ) -> dict[int, Any]:
        """Sends a tensor to each rank of `out`, and gives one of (shape, dtype) from each rank of `into`.

        One's own is handed over without a message.
        """
        import torch
        import torch.distributed as dist

        waiting, found = [], {}
        for source in sorted(into):
            shape, dtype = into[source]
            if source == self.rank:
                found[source] = out[source]
                continue
            found[source] = torch.empty(shape, dtype=dtype)
            if found[source].numel():
                waiting.append(dist.irecv(found[source], source))
        held = []
        for target in sorted(out):
            tensor = out[target].detach().contiguous()
            if target == self.rank or not tensor.numel():
                continue
            held.append(tensor)
            self.sent[name] = self.sent.get(name, 0) + tensor.numel() * tensor.element_size()
            waiting.append(dist.isend(tensor, target))
        for request in waiting:
            if request is not None:
                request.wait()
        return found

    def all_reduce(self, name: str, flat: Any) -> Any:
        """The sum of a vector over all: each adds up its part and hands it round, in the node and then, for
        its part of the node's sum, with its like in other nodes."""
        node, place = divmod(self.rank, self.group)
        mates = [node * self.group + i for i in range(self.group)]
        rail = [place + i * self.group for i in range(self.size // self.group)]
        mine = self._reduce_scatter(name, flat, mates)
        if len(rail) > 1:
            part = self._reduce_scatter(name, mine, rail)
            mine = self._all_gather(name, part, rail, len(mine))
        return self._all_gather(name, mine, mates, len(flat))

    def _reduce_scatter(self, name: str, flat: Any, ranks: list[int]) -> Any:
        at = cuts(len(flat), len(ranks))
        me = ranks.index(self.rank)
        own = (at[me + 1] - at[me],)
        parts = self.exchange(name, {r: flat[at[i] : at[i + 1]] for i, r in enumerate(ranks)},
                              dict.fromkeys(ranks, (own, flat.dtype)))  # fmt: skip
        return sum(parts[r] for r in ranks)

    def _all_gather(self, name: str, part: Any, ranks: list[int], whole: int) -> Any:
        import torch

        at = cuts(whole, len(ranks))
        into = {r: ((at[i + 1] - at[i],), part.dtype) for i, r in enumerate(ranks)}
        parts = self.exchange(name, dict.fromkeys(ranks, part), into)
        return torch.cat([parts[r] for r in ranks])


def _work(folder: Path, rank: int) -> None:
    import torch
    import torch.distributed as dist

    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=job["processes"],
        timeout=timedelta(seconds=job["timeout_s"]),
    )  # fmt: skip
    module, _, function = job["worker"].partition(":")
    wire = Wire(rank, job["processes"], job["settings"].get("group"))
    found = getattr(import_module(module), function)(wire, job["settings"])
    dist.barrier()
    dist.destroy_process_group()
    (folder / f"{rank}.json").write_text(json.dumps(found | {"sent": wire.sent}), encoding="utf-8")


if __name__ == "__main__":
    _work(Path(sys.argv[1]), int(sys.argv[2]))
