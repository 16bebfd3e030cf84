"""Batching: continuous batching of a request trace, event by event: chunked prompts, a paged cache."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf, isnan, nan
from typing import TYPE_CHECKING

from pharos.plan.outcome import Result
from pharos.plan.traces import Trace
from pharos.quantity.errors import unknown

if TYPE_CHECKING:
    from pharos.plan.steps import Steps

# What happens to a sequence that must make room.
PREEMPTIONS = ("recompute", "swap")
# Answers between two tellings of progress.
TOLD_EVERY = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Room for caches of one device, in blocks.

    Args:
        blocks: in all.
        tokens: of a block; 0 where a request holds the same however long it is.
        fixed: blocks that a request of so many tokens holds beside those of its tokens: states and windows.
        block_bytes: of one block, for what a swap moves.
    """

    blocks: int
    tokens: int
    fixed: Callable[[int], int] = lambda tokens: 0
    block_bytes: float = 0.0

    def of(self, tokens: int) -> int:
        """Blocks that tokens take, without the fixed ones."""
        return -(-tokens // self.tokens) if self.tokens and tokens > 0 else 0


@dataclass(slots=True)
class _Request:
    """A request on its way.

    Args:
        prompt: tokens to take in before the next one comes out, `done` of which are in.
        left: tokens still to come out.
        shared: tokens at its start that are kept once for all.
        fixed: its blocks beside those of its tokens.
        base, end: while it decodes: its context less the count of decode steps; the count at which it ends.
    """

    index: int
    prompt: int
    left: int
    shared: int
    done: int = 0
    fixed: int = 0
    base: int = 0
    end: int = -1
    live: bool = False
    decodes: bool = False
    swapped: bool = False


def simulate(
    steps: "Steps",
    pool: Pool,
    trace: Trace,
    *,
    preemption: str = "recompute",
    concurrency: int | None = None,
    swap_bytes_per_s: float = inf,
    progress: Callable[[int], None] | None = None,
) -> Result:
    """Serves a trace, first come first served.

    A step takes a token from every decoding sequence and fills what is left of `chunk` with prompts, in the
    order of admission; a request is admitted when its whole prompt finds room. A prompt that ends gives the
    first token. When decoding finds no block, the sequence that was admitted last makes room. Without
    chunked prompts a step is of whole prompts or of decoding, prompts first. Steps that are alike are taken
    at once, until the next that ends, arrives or needs a block that is not there.
    Source of the rules: the scheduler of vLLM; Agrawal et al. 2024, arXiv:2403.02310.

    Args:
        steps: step times.
        concurrency: so many users, each asking again as soon as it is answered; arrivals are then ignored.
        preemption: "recompute" takes the tokens in again, "swap" moves the cache to the host and back.
        swap_bytes_per_s: of the link to the host.
        progress: told how many requests are answered, now and then.

    Raises:
        UnknownName: an unknown way of preemption.
    """
    if preemption not in PREEMPTIONS:
        raise unknown("preemption", preemption, PREEMPTIONS)
    server = _Server(steps, pool, trace, preemption == "swap", concurrency, swap_bytes_per_s)
    told = 0
    while server.step():
        if progress and server.answered - told >= TOLD_EVERY:
            told = server.answered
            progress(told)
    if progress:
        progress(len(trace))
    return server.result()


class _Server:
    """The state between steps.

    Every decoding sequence gains a token a step, so that one count of decode steps, `clock`, stands for all
    of their progress: contexts are kept as their difference to it, ends in a heap by its value, and the
    sequences that need a block at the next step by that difference modulo the block.
    """

    def __init__(
        self, steps: "Steps", pool: Pool, trace: Trace, swaps: bool, users: int | None, swap_rate: float
    ) -> None:
        made, n = steps.deployment, len(trace)
        self.steps, self.pool, self.swaps, self.users, self.swap_rate = steps, pool, swaps, users, swap_rate
        self.most, self.chunk, self.chunked = made.sequences, made.chunk, made.chunked
        self.prompts, self.outputs = trace.prompt.tolist(), trace.output.tolist()
        self.arrivals: list[float] = [0.0] * n if users else trace.arrival.tolist()
        self.admitted, self.first, self.finish = [nan] * n, [nan] * n, [nan] * n
        self.shared = made.shared_prefix // pool.tokens * pool.tokens if pool.tokens else 0
        self.total = self.free = pool.blocks - pool.of(self.shared)
        # a prompt that is no longer than the prefix is taken not to begin with it
        self.requests = [
            _Request(i, p, o, self.shared if p > self.shared else 0)
            for i, (p, o) in enumerate(zip(self.prompts, self.outputs, strict=True))
        ]
        self.waiting: deque[_Request] = deque()
        # admitted and still taking their prompts in; all admitted, the last on top, with some that are gone
        self.going: list[_Request] = []
        self.order: list[_Request] = []
        self.ends: list[tuple[int, int, _Request]] = []
        self.phase = [0] * max(pool.tokens, 1)
        self.next, self.clock, self.now = 0, 0, 0.0
        self.alive = self.decoding = self.contexts = self.answered = 0
        self.gaps: list[float] = []
        self.gap_tokens: list[int] = []
        self.stall = self.busy = self.area = 0.0
        self.tokens = self.taken = self.preempted = self.refused = self.peak_blocks = self.peak_sequences = 0
        if users:
            for _ in range(min(users, n)):
                self._next_user()

    def step(self) -> bool:
        """Takes the next step, or several that are alike; False when nothing is left to do."""
        if not self.users:
            self._arrive()
        if not self.alive and not self.waiting:
            if self.next >= len(self.requests):
                return False
            self.now = max(self.now, self.arrivals[self.next])
            return True
        parts, fed, extra, blocked = self._fill()
        if not self.alive:
            return True
        alone = bool(parts) and not self.chunked
        if self.decoding and not alone:
            while self.decoding and self._needed(1) > self.free:
                extra += self._make_room(parts, fed)
        count = 0 if alone else self.decoding
        if not count and not parts:
            # sequences moved back and have not decoded yet
            return True
        k = 1
        mean = self.contexts / count if count else 0.0
        if parts:
            over = sum([one.done + part >= one.prompt for one, part in fed])
            seconds = self.steps.mixed(parts, over, count, mean)
        else:
            k = self._alike(mean, blocked)
            seconds = k * self.steps.decoding(count, mean + (k - 1) / 2)
        self._advance(k, count, seconds + extra)
        self._took_in(fed)
        self._ended()
        return True

    def _arrive(self) -> None:
        while self.next < len(self.requests) and self.arrivals[self.next] <= self.now:
            self.waiting.append(self.requests[self.next])
            self.next += 1

    def _next_user(self) -> None:
        """Who was answered asks again."""
        if self.next < len(self.requests):
            self.arrivals[self.next] = self.now
            self.waiting.append(self.requests[self.next])
            self.next += 1

    def _fill(self) -> tuple[list[tuple[int, int]], list[tuple[_Request, int]], float, bool]:
        """Prompts of this step: (tokens, tokens before) and whose; seconds of swaps; whether any wait."""
        budget = self.chunk - self.decoding if self.chunked else self.chunk
        parts: list[tuple[int, int]] = []
        fed: list[tuple[_Request, int]] = []
        extra = 0.0
        for one in self.going:
            if budget <= 0:
                break
            part = min(one.prompt - one.done, budget)
            budget -= part
            parts.append((part, one.done))
            fed.append((one, part))
        while self.waiting:
            one = self.waiting[0]
            if self.alive >= self.most or (budget <= 0 and not one.swapped):
                return parts, fed, extra, True
            longest = one.prompt + one.left - one.shared
            one.fixed = self.pool.fixed(longest)
            need = self.pool.of(one.prompt - one.shared) + one.fixed
            if self.pool.of(longest) + one.fixed > self.total:
                self.waiting.popleft()
                self.refused += 1
                if self.users:
                    self._next_user()
                continue
            if need > self.free or (not self.chunked and parts and one.prompt > budget):
                return parts, fed, extra, True
            self._admit(one, need)
            if one.swapped:
                one.swapped = False
                extra += need * self.pool.block_bytes / self.swap_rate
                self._decode(one)
                continue
            one.done = min(one.shared, one.prompt - 1)
            part = one.prompt - one.done
            part = min(part, budget) if self.chunked else part
            budget -= part
            self.going.append(one)
            parts.append((part, one.done))
            fed.append((one, part))
        return parts, fed, extra, False

    def _admit(self, one: _Request, need: int) -> None:
        self.waiting.popleft()
        self.free -= need
        one.live = True
        self.alive += 1
        self.order.append(one)
        if isnan(self.admitted[one.index]):
            self.admitted[one.index] = self.now
        self.peak_sequences = max(self.peak_sequences, self.alive)

    def _decode(self, one: _Request) -> None:
        """The prompt is in: from now on a token a step."""
        one.decodes, one.base, one.end = True, one.prompt - self.clock, self.clock + one.left
        self.decoding += 1
        self.contexts += one.prompt
        if self.pool.tokens:
            self.phase[(one.base - one.shared) % self.pool.tokens] += 1
        heappush(self.ends, (one.end, one.index, one))

    def _release(self, one: _Request) -> None:
        """Its blocks are free again, and it is no longer among the decoding."""
        tokens = one.prompt
        if one.decodes:
            tokens = one.base + self.clock
            self.decoding -= 1
            self.contexts -= tokens
            if self.pool.tokens:
                self.phase[(one.base - one.shared) % self.pool.tokens] -= 1
            one.decodes = False
        self.free += self.pool.of(tokens - one.shared) + one.fixed
        one.live = False
        self.alive -= 1

    def _needed(self, k: int) -> int:
        """Blocks that k decode steps ask for."""
        size = self.pool.tokens
        if not size:
            return 0
        whole, rest = divmod(k, size)
        return whole * self.decoding + sum([self.phase[-(self.clock + j) % size] for j in range(rest)])

    def _make_room(self, parts: list[tuple[int, int]], fed: list[tuple[_Request, int]]) -> float:
        """The last admitted waits again, in front of all others; seconds of a swap."""
        one = self.order.pop()
        while not one.live:
            one = self.order.pop()
        self.preempted += 1
        was, tokens = one.decodes, one.base + self.clock
        before = self.free
        self._release(one)
        self.waiting.appendleft(one)
        if not was:
            self.going.remove(one)
            if fed and fed[-1][0] is one:
                fed.pop()
                parts.pop()
            one.done = 0
            return 0.0
        one.left, one.end, one.done = one.end - self.clock, -1, 0
        if self.swaps:
            one.prompt, one.swapped = tokens, True
            return (self.free - before) * self.pool.block_bytes / self.swap_rate
        # the last token that came out is not in the cache yet
        one.prompt = tokens + 1
        return 0.0

    def _alike(self, mean: float, blocked: bool) -> int:
        """Decode steps until the next end, arrival that can be let in, or missing block."""
        while self._is_stale(*self.ends[0]):
            heappop(self.ends)
        k = self.ends[0][0] - self.clock
        if not blocked and not self.users and self.next < len(self.requests):
            each = self.steps.decoding(self.decoding, mean)
            k = min(k, max(1, int((self.arrivals[self.next] - self.now) / each) + 1))
        if self._needed(k) > self.free:
            low, high = 1, k
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if self._needed(middle) <= self.free else (low, middle)
            k = low
        return k

    @staticmethod
    def _is_stale(end: int, _: int, one: _Request) -> bool:
        """Whether an entry of the heap is of a sequence that made room since."""
        return not one.decodes or one.end != end

    def _advance(self, k: int, count: int, seconds: float) -> None:
        if count:
            self.free -= self._needed(k)
            each = seconds / k
            if self.stall:
                self.gaps.append(each + self.stall)
                self.gap_tokens.append(count)
                self.stall = 0.0
                k_left = k - 1
            else:
                k_left = k
            if k_left:
                self.gaps.append(each)
                self.gap_tokens.append(count * k_left)
            self.tokens += count * k
            self.contexts += count * k
            self.clock += k
        elif self.decoding:
            # decoding waits: the next token of each comes later by so much
            self.stall += seconds
        self.peak_blocks = max(self.peak_blocks, self.total - self.free)
        self.area += (self.alive + len(self.waiting)) * seconds
        self.now += seconds
        self.busy += seconds
        self.taken += k

    def _took_in(self, fed: list[tuple[_Request, int]]) -> None:
        for one, part in fed:
            one.done += part
            if one.done < one.prompt:
                continue
            self.going.remove(one)
            self.tokens += 1
            one.left -= 1
            if isnan(self.first[one.index]):
                self.first[one.index] = self.now
            if one.left:
                self._decode(one)
            else:
                self._answer(one)

    def _ended(self) -> None:
        while self.ends and (self.ends[0][0] <= self.clock or self._is_stale(*self.ends[0])):
            entry = heappop(self.ends)
            if not self._is_stale(*entry):
                self._answer(entry[2])

    def _answer(self, one: _Request) -> None:
        self._release(one)
        self.answered += 1
        self.finish[one.index] = self.now
        if self.users:
            self._next_user()

    def result(self) -> Result:
        """What became of it all."""
        import numpy as np

        return Result(
            arrival=np.array(self.arrivals),
            admitted=np.array(self.admitted),
            first=np.array(self.first),
            finish=np.array(self.finish),
            prompt=np.array(self.prompts),
            output=np.array(self.outputs),
            gaps_s=np.array(self.gaps),
            gap_tokens=np.array(self.gap_tokens),
            tokens=self.tokens,
            steps=self.taken,
            preemptions=self.preempted,
            refused=self.refused,
            peak_blocks=self.peak_blocks,
            peak_sequences=self.peak_sequences,
            busy_s=self.busy,
            in_system=self.area / self.now if self.now else 0.0,
            blocks_left=self.total - self.free,
        )
