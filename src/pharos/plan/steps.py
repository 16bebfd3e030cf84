"""Steps: seconds of any mix of prompt tokens and decoding sequences, from tables made once."""

from bisect import bisect_right
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pharos.graph.count import Line, count
from pharos.graph.workload import Workload
from pharos.machines.profile import profile_of
from pharos.ops.attention import Attention
from pharos.passes.fuse import Kernel, kernels
from pharos.plan.allreduce import all_reduce_s
from pharos.plan.deployment import Deployment
from pharos.predict.kernel import kernel_time
from pharos.quantity.dtypes import BITS
from pharos.quantity.errors import InputError, SizeError

if TYPE_CHECKING:
    import numpy as np

# Lengths at which tables of attention stand: so many to each doubling.
PER_DOUBLING = 2
# Points of a table of a model that gives a graph for numbers only, traced anew for each.
COARSE = 5


class Steps:
    """Step times of a deployment.

    A step with n tokens in all, of which prompts bring parts of t tokens behind p earlier ones, and D
    sequences decode at a mean context S, takes

    dense(n) + head(rows) + decode(D, S) + sum of prefill(t, p) + all-reduces(n) + host,

    each table made by the kernel times of `predict` once and read between its points.

    Args:
        longest: the longest context asked for.
        sequences: decoding at once at most.

    Raises:
        InputError: the machine has not the figures that times need.
    """

    def __init__(self, deployment: Deployment, longest: int, sequences: int | None = None) -> None:
        import numpy as np

        self.deployment = deployment
        self.sequences = min(sequences or deployment.sequences, 4096)
        limit = deployment.max_context
        self.longest = max(16, min(longest, limit) if limit else longest)
        self.tokens = max(deployment.chunk, self.longest if not deployment.chunked else 1) + self.sequences
        self.profile = profile_of(deployment.runner, "compiled")
        self.host_s = deployment.stack.step_s
        self.per_sequence_s = deployment.stack.sequence_s
        self.per_prompt_s = deployment.stack.prompt_s
        try:
            self._tables(np)
        except SizeError:
            if not deployment.is_traced:
                raise
            self._coarse_tables(np)

    def _tables(self, np: Any) -> None:
        """Tables whose sizes are arrays: contexts on a grid, numbers of tokens where tiles begin and end."""
        top = min(self.tokens, self.longest)
        self.contexts, rows = _grid(np, 1, self.longest), _edges(np, self.sequences)
        every, each = np.arange(1, self.tokens + 1), np.arange(1, self.sequences + 1)
        n = _edges(np, self.tokens)
        self._dense = [0.0, *np.interp(every, n, self._time("decode", n, 2, "dense")).tolist()]
        n = np.maximum(_edges(np, max(top, 2)), 2)
        found = self._time("prefill", n, 1, "dense")
        beyond = found[-1] * np.maximum(every / top, 1.0)
        self._dense_prompt = [0.0, *np.where(every > top, beyond, np.interp(every, n, found)).tolist()]
        self._head = [0.0, *np.interp(each, rows, self._time("decode", rows, 2, "head")).tolist()]
        d, s = (a.ravel() for a in np.meshgrid(rows, np.maximum(self.contexts, 2), indexing="ij"))
        decode = self._time("decode", d, s, "sequence").reshape(len(rows), -1)
        columns = np.stack([np.interp(each, rows, column) for column in decode.T], 1)
        self._decode = [[0.0] * len(self.contexts), *columns.tolist()]
        self.parts = _grid(np, 1, top)
        self.pasts = np.concatenate([[0], _grid(np, 16, self.longest)])
        t, p = (a.ravel() for a in np.meshgrid(self.parts, self.pasts, indexing="ij"))
        prefill = self._time("prefill", np.maximum(t, 2), 1, "sequence", past=p)
        self._prefill = prefill.reshape(len(self.parts), -1)
        self._finish(np)

    def _coarse_tables(self, np: Any) -> None:
        """The same from few graphs: of a model that is traced, each takes seconds."""
        n = np.unique(np.geomspace(1, self.tokens, COARSE).round())
        rows = np.unique(np.geomspace(1, self.sequences, COARSE).round())
        self.contexts = np.unique(np.geomspace(8, self.longest, 3).round())
        every = np.arange(1, self.tokens + 1)

        def each(phase: str, batches: Any, contexts: Any, part: str) -> Any:
            return np.array(
                [[float(self._time(phase, int(b), int(c), part)) for c in contexts] for b in batches]
            )

        self._dense = [0.0, *np.interp(every, n, each("decode", n, [8], "dense")[:, 0]).tolist()]
        self._dense_prompt = self._dense
        self._head = [
            0.0,
            *np.interp(np.arange(1, self.sequences + 1), rows, each("decode", rows, [8], "head")[:, 0]),
        ]
        decode = each("decode", rows, self.contexts, "sequence")
        columns = [np.interp(np.arange(1, self.sequences + 1), rows, column) for column in decode.T]
        self._decode = [[0.0] * len(self.contexts), *np.stack(columns, 1).tolist()]
        self.parts = np.unique(np.geomspace(8, min(self.tokens, self.longest), 3).round())
        self.pasts = np.array([0.0, float(self.longest)])
        first = np.array([float(self._time("prefill", 1, int(t), "sequence")) for t in self.parts])
        # a later part meets every earlier key, of which a first part of as many meets half
        more = first[:, None] * (1 + 2 * self.pasts[None, :] / self.parts[:, None])
        self._prefill = more
        self._finish(np)

    def _finish(self, np: Any) -> None:
        n = np.arange(0, self.tokens + 1, dtype=float)
        made, bits = self.deployment, BITS[self.deployment.precision.activations]
        each = all_reduce_s(n * made.width * bits / 8, made.devices, made.machine)
        if each is None:
            raise InputError(
                f"the link of {made.machine.id} is not in the catalogue, so what {made.devices} devices "
                "say to each other takes unknown time",
                hint="ask for one device",
            )
        self.reduce_each = each
        self._reduce = (each * made.reductions).tolist()
        self._grid_s = self.contexts.tolist()
        self._grid_t, self._grid_p = self.parts.tolist(), self.pasts.tolist()
        # what a launch takes however few tokens it has is paid once a step
        self.floor = float(self._prefill[0, 0])
        self._prefill = (self._prefill - self.floor).clip(min=0.0).tolist()

    def _time(self, phase: str, batch: Any, context: Any, part: str, past: Any = None) -> Any:
        """Seconds of the kernels of one part of the graph: "dense", "head" or "sequence"."""
        if (phase == "prefill" and past is None and _is_array(batch)) or (
            phase == "prefill" and past is not None
        ):
            batch, context = context, batch
        work = Workload(phase=phase, batch=batch, context=context, precision=self.deployment.precision)
        graph = self.deployment.graph(work)
        found = kernels(count(graph), fused=True)
        head = head_of(found)
        total: Any = 0.0
        for kernel in found:
            kind = "head" if kernel is head else "sequence" if is_sequence(kernel) else "dense"
            if kind != part:
                continue
            if past is not None and isinstance(kernel.lead.node.op, Attention):
                kernel = _behind(kernel, past)
            time = kernel_time(kernel, self.deployment.runner, self.profile, graph.precision, phase)
            if time is None:
                machine = self.deployment.machine
                raise InputError(
                    f"bandwidth or {graph.precision.activations} peak of {machine.id} is not known",
                    hint="capacity can be told, times cannot",
                )
            total = total + kernel.times * time.latency_s
        size = next((a for a in (batch, context, past) if _is_array(a)), None)
        return total if size is None else total + 0.0 * size

    def prefill_s(self, tokens: int, past: int) -> float:
        """Attention of a part of a prompt beyond the launch, between the points of the table."""
        table, grid, pasts = self._prefill, self._grid_t, self._grid_p
        i, j = bisect_right(grid, tokens) - 1, bisect_right(pasts, past) - 1
        i, j = min(max(i, 0), len(grid) - 2), min(max(j, 0), len(pasts) - 2)
        x = (tokens - grid[i]) / (grid[i + 1] - grid[i])
        y = (past - pasts[j]) / (pasts[j + 1] - pasts[j])
        low, high = table[i], table[i + 1]
        a, b = low[j] + y * (low[j + 1] - low[j]), high[j] + y * (high[j + 1] - high[j])
        return max(a + x * (b - a), 0.0)

    def decode_s(self, sequences: int, context: float) -> float:
        """What reads the cache, for sequences at a mean context."""
        row, grid = self._decode[sequences], self._grid_s
        j = min(max(bisect_right(grid, context) - 1, 0), len(grid) - 2)
        x = (context - grid[j]) / (grid[j + 1] - grid[j])
        return max(row[j] + x * (row[j + 1] - row[j]), 0.0)

    def decoding(self, sequences: int, context: float) -> float:
        """Seconds of a step in which `sequences` decode and nothing else happens."""
        return (
            self._dense[sequences]
            + self._head[sequences]
            + self.decode_s(sequences, context)
            + self._reduce[sequences]
            + self.host_s
            + self.per_sequence_s * sequences
        )

    def mixed(self, parts: list[tuple[int, int]], ends: int, sequences: int, context: float) -> float:
        """Seconds of a step with parts (tokens, earlier tokens) of prompts, `ends` of which end there."""
        tokens = sequences + sum(t for t, _ in parts)
        last = len(self._dense) - 1
        more = tokens / last if tokens > last else 1.0
        tokens = min(tokens, last)
        seconds = (self._dense_prompt[tokens] + self._reduce[tokens]) * more + self.floor
        for t, p in parts:
            seconds += self.prefill_s(t, p)
        if sequences:
            seconds += self.decode_s(sequences, context)
        rows = min(sequences + ends, self.sequences)
        return (
            seconds
            + self._head[rows]
            + self.host_s
            + self.per_sequence_s * sequences
            + self.per_prompt_s * len(parts)
        )

    def prompt_s(self, tokens: int) -> float:
        """Seconds to the first token of a prompt alone on the device, without host time of the request."""
        chunk = self.deployment.chunk if self.deployment.chunked else tokens
        shared = min(self.deployment.shared_prefix, tokens - 1)
        done, seconds = shared, 0.0
        while done < tokens:
            part = min(chunk, tokens - done)
            seconds += self.mixed([(part, done)], int(done + part == tokens), 0, 0)
            done += part
        return seconds

    @cached_property
    def request_s(self) -> float:
        """Host time of a request outside steps."""
        return self.deployment.stack.request_s


def _is_array(x: Any) -> bool:
    return hasattr(x, "shape") and getattr(x, "ndim", 0) > 0


def _grid(np: Any, low: int, high: int) -> "np.ndarray":
    """Whole numbers from low to high, some to each doubling; at least two."""
    high = max(high, low + 1)
    points = int(np.ceil(PER_DOUBLING * np.log2(high / low))) + 1
    return np.unique(np.geomspace(low, high, max(points, 2)).round())


def _edges(np: Any, most: int) -> "np.ndarray":
    """Whole numbers from 1 to `most`: all small ones, then both sides of where tiles of a product end."""
    small = np.arange(1, min(most, 16) + 1)
    tiles = np.concatenate(
        [np.arange(24, 129, 8), np.arange(128, 1025, 64), np.arange(1024, most + 256, 256)]
    )
    return np.unique(np.concatenate([small, tiles, tiles + 1, [most]]).clip(1, most)).astype(float)


def head_of(found: tuple[Kernel, ...]) -> Kernel | None:
    """The kernel that makes logits: the last matrix product, which runs once."""
    once = [k for k in found if k.lead.cost_class == "gemm" and k.times == 1]
    return once[-1] if once else None


def is_sequence(kernel: Kernel) -> bool:
    """Whether its work depends on earlier tokens, and not only on how many there are now."""
    return kernel.lead.cost_class in ("attention", "recurrence") or any(n.node.state for n in kernel.lines)


def _behind(kernel: Kernel, past: Any) -> Kernel:
    """The kernel of a part of a prompt with `past` tokens before it."""
    lead = kernel.lead
    was = lead.node.op
    assert isinstance(was, Attention)
    op = replace(was, cached=past)
    node = replace(lead.node, op=op)
    line = Line(node, lead.name, lead.times, op.work(*node.io), op.traffic(node), lead.cost_class)
    if len(kernel.lines) > 1:
        return replace(kernel, lines=(line, *kernel.lines[1:]))
    return Kernel((line,), kernel.times, line.work, line.traffic)
