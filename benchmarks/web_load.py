"""How the page bears many at once: users move sliders, each answer is timed; prints a table, or writes it into docs/page.md.

``python benchmarks/web_load.py --users 50 --seconds 60 --write docs/page.md``
"""

import argparse
import http.client
import os
import platform
import random
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlencode

MODELS = ("resnet50", "mobilenet_v2", "vit_b_16", "llama-3.1-8b", "llama-3.1-70b", "gpt2-xl", "bert-base", "dlrm", "convnext_tiny",
          "mixtral-8x7b", "deepseek-v3", "lenet5")  # fmt: skip
MACHINES = (
    "nvidia_h100_sxm5",
    "nvidia_a100_sxm_80gb",
    "nvidia_t4",
    "nvidia_l4",
    "rpi3_cortex_a53",
    "amd_mi300x",
)
BATCHES, CONTEXTS = [2**i for i in range(13)], [64 * 2**i for i in range(5)]
DECODERS = ("llama", "gpt2", "mixtral", "deepseek")
MARK = re.compile(r"(<!-- load -->\n).*?(<!-- end of load -->)", re.S)


class User(threading.Thread):
    """Someone who drags a slider a stop at a time, looks, and now and then takes another model.

    Args:
        pause_s: seconds between two moves on average, drawn exponentially.
    """

    def __init__(self, address: tuple[str, int], seed: int, until: float, pause_s: float) -> None:
        super().__init__(daemon=True)
        self.address, self.until, self.pause_s = address, until, pause_s
        self.random = random.Random(seed)
        self.times: list[float] = []
        self.own: list[float] = []
        self.wrong: list[str] = []

    def run(self) -> None:
        link = http.client.HTTPConnection(*self.address, timeout=60)
        while time.monotonic() < self.until:
            decodes, asked, page = self._question()
            stops, name = (
                (CONTEXTS, "context") if decodes and self.random.random() < 0.5 else (BATCHES, "batch")
            )
            at = self.random.randrange(len(stops))
            for _ in range(self.random.randint(3, 12)):
                if time.monotonic() >= self.until:
                    break
                time.sleep(self.random.expovariate(1 / self.pause_s))
                at = min(max(at + self.random.choice((-1, 1, 1)), 0), len(stops) - 1)
                self._ask(link, page, asked | {name: stops[at]})
        link.close()

    def _question(self) -> tuple[bool, dict[str, object], str]:
        model = self.random.choice(MODELS)
        decodes = model.startswith(DECODERS)
        asked: dict[str, object] = {
            "model": model,
            "on": self.random.choice(MACHINES[:4] if decodes else MACHINES),
        }
        asked["precision"] = "bf16" if decodes else "fp32"
        if self.random.random() < 0.2:
            asked["limit.latency"] = "20 ms"
        page = "/serve/result" if decodes and self.random.random() < 0.2 else "/explore/result"
        return decodes, asked, page

    def _ask(self, link: http.client.HTTPConnection, page: str, asked: dict[str, object]) -> None:
        start = time.perf_counter()
        try:
            link.request("GET", f"{page}?{urlencode(asked)}", headers={"Accept-Encoding": "identity"})
            answer = link.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.wrong.append(repr(error))
            link.close()
            return
        self.times.append(time.perf_counter() - start)
        told = re.search(r"dur=([\d.]+)", answer.headers.get("server-timing", ""))
        self.own.append(float(told[1]) / 1e3 if told else 0.0)
        if answer.status != 200 or b"data-summary" not in body:
            self.wrong.append(f"{answer.status} {page}?{urlencode(asked)}")


def percentile(values: list[float], p: float) -> float:
    """The value that p percent do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * p / 100))]


def main() -> int:
    """Starts a server, lets users loose on it, and tells what they saw; 1 if one saw an error."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--users", type=int, default=50)
    asked.add_argument("--seconds", type=float, default=60.0)
    asked.add_argument("--pause", type=float, default=1.0, help="seconds between a user's moves on average")
    asked.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    asked.add_argument("--write", type=Path, help="a page with the marks of this table")
    given = asked.parse_args()
    server = subprocess.Popen([sys.executable, "-m", "pharos", "ui", "--port", "0", "--workers", str(given.workers)],
                              stdout=subprocess.PIPE, text=True)  # fmt: skip
    try:
        assert server.stdout is not None
        found = re.search(r"http://([\d.]+):(\d+)/", server.stdout.readline())
        if found is None:
            print("the server did not start", file=sys.stderr)
            return 1
        address = (found[1], int(found[2]))
        first = User(address, 0, 0.0, 1.0)
        link = http.client.HTTPConnection(*address, timeout=120)
        for _ in range(given.workers):
            # workers import while nobody waits
            first._ask(link, "/explore/result", {"model": "lenet5", "on": "nvidia_t4"})
        until = time.monotonic() + given.seconds
        users = [User(address, seed + 1, until, given.pause) for seed in range(given.users)]
        for user in users:
            user.start()
        for user in users:
            user.join()
    finally:
        server.terminate()
        server.wait(20)
    times = [t for u in users for t in u.times]
    made = [t for u in users for t in u.own if t]
    wrong = [w for u in users for w in u.wrong]
    text = table(given, times, made, wrong)
    print(text)
    for line in wrong[:10]:
        print(line, file=sys.stderr)
    if given.write:
        page = given.write.read_text(encoding="utf-8")
        given.write.write_text(MARK.sub(lambda m: m[1] + text + "\n" + m[2], page), encoding="utf-8")
    return 1 if wrong else 0


def table(given: argparse.Namespace, times: list[float], made: list[float], wrong: list[str]) -> str:
    """What was seen, as Markdown."""
    ms = {p: (1e3 * percentile(times, p), 1e3 * percentile(made, p)) for p in (50, 95, 99)}
    rows = [f"| p{p} | {a:.0f} ms | {b:.0f} ms |" for p, (a, b) in ms.items()]
    return "\n".join([
        f"{given.users} users for {given.seconds:.0f} s on {os.cpu_count()} cores ({platform.machine()}), a move every "
        f"{given.pause:g} s each: {len(times):,} answers, {len(times) / given.seconds:.0f} a second, {len(wrong)} errors.",
        "", "| | as a user waits | in the worker |", "|---|---|---|", *rows,
    ])  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
