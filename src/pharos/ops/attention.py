"""Scaled dot-product attention: cached keys, shared KV heads, sparse patterns, two algorithms."""

from dataclasses import replace
from typing import Any

from pharos.graph.op import (
    BROADCAST,
    DYNAMIC,
    GATHER,
    MATMUL,
    REDUCE,
    SEQUENTIAL,
    OnnxWriter,
    Op,
    Parallelism,
    Picker,
    Saved,
    Tally,
    Traffic,
    Work,
    operator,
)
from pharos.graph.tensor import Tensor
from pharos.quantity.dtypes import nbytes
from pharos.quantity.errors import unknown
from pharos.quantity.sizes import Size, ceil_div, ceil_log2, floor_div, is_int, maximum, minimum

PATTERNS = ("full", "window", "blocks", "strided")
ALGORITHMS = ("tiled", "materialised")
# Keys that the loop form of the tiled algorithm takes at once.
TILE = 2


def _remainder(n: Size, by: Size) -> Size:
    return n - by * floor_div(n, by)


def _triangle(n: Size) -> Size:
    """0 + 1 + ... + (n - 1)."""
    return floor_div(n * (n - 1), 2)


def _quotients(n: Size, by: Size) -> Size:
    """Sum of floor(p / by) for p < n."""
    whole = floor_div(n, by)
    return by * _triangle(whole) + (n - by * whole) * whole


def _capped(n: Size, cap: Size) -> Size:
    """Sum of min(j, cap) for j from 1 to n."""
    low = minimum(n, cap)
    return _triangle(low + 1) + (n - low) * cap


@operator(cost="attention", aten="scaled_dot_product_attention")
class Attention(Op):
    """softmax(q k^T scale) v for q[B, H, T, d], k[B, G, T', d], v[B, G, T', dv]; G divides H.

    The T' new keys follow `cached` older ones, S = cached + T' in all; each of the G key heads serves
    H / G query heads. Further inputs, in this order: a bias [B or 1, H or 1, T, S] added to the scores,
    and sinks [H], a logit a head that takes part in the softmax and has no value.

    macs = B H (pairs scored) (d + dv). Full attention scores T x S pairs, of which a causal kernel may
    skip the `masked_macs` above the diagonal. A pattern scores fewer, tile by tile:

    - "window": key s from query p if 0 <= p - s < span, T x min(span, S) pairs with those masked at the
      start; and the first `anchors` keys. Not causal: |p - s| < span. Source: Beltagy et al. 2020,
      arXiv:2004.05150; with anchors Xiao et al. 2023, arXiv:2309.17453.
    - "blocks": the query's own block of `span` positions and `before` blocks before it (and after it,
      if not causal): block-sparse, or chunked attention with before = 0. Source: Zaheer et al. 2020,
      arXiv:2007.14062, without its random blocks.
    - "strided": the last `span` keys and every span-th before them. Source: Child et al. 2019,
      arXiv:1904.10509.

    Args:
        causal: a query sees keys up to its own position (T = T' then).
        cached: tokens whose K and V are held from earlier calls.
        keep: K and V are kept for later calls (the KV cache); a window or block pattern keeps the
            tokens it can still see and forgets the others.
        algorithm: "tiled" never stores the T x S scores (online softmax, Dao et al. 2022,
            arXiv:2205.14135); "materialised" writes and reads them all, twice, as unfused attention
            does, whatever the pattern hides.
        scale: factor of the scores; None means 1 / sqrt(d).
        latent: v is the first `latent` features of k: v is not given, and only k is kept.
        softcap: scores become softcap tanh(score / softcap); 0 leaves them.
        alibi: scores fall by slope (p - s), the slope by head. Source: Press et al. 2021, arXiv:2108.12409.
        page: the cache is handed out in pages of so many tokens, the last one partly empty. Source:
            Kwon et al. 2023, arXiv:2309.06180.
    """

    causal: bool = False
    cached: Size = 0
    keep: bool = False
    algorithm: str = "tiled"
    scale: float | None = None
    pattern: str = "full"
    span: Size = 0
    before: int = 0
    anchors: Size = 0
    latent: Size = 0
    softcap: float = 0.0
    alibi: bool = False
    page: int = 1
    state_precision = "kv_cache"

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise unknown("attention algorithm", str(self.algorithm), ALGORITHMS)
        if self.pattern not in PATTERNS:
            raise unknown("attention pattern", str(self.pattern), PATTERNS)
        if self.pattern == "full":
            return
        if is_int(self.span) and self.span < 1:
            raise self.refuse(f"needs a span of 1 or more for the pattern {self.pattern}")
        uncached = is_int(self.cached) and self.cached == 0
        plain = is_int(self.anchors) and self.anchors == 0
        if not self.causal and (self.pattern == "strided" or not uncached or not plain):
            raise self.refuse("looks both ways: no strided pattern, cache or anchors")

    def shape(self, q: Tensor, k: Tensor, *more: Tensor) -> Tensor:
        given = (q, k, *more)
        self.need(len(given) >= self._operands, f"takes {self._operands} tensors or more", *given)
        v = self._v(k, more)
        self.need(q.rank == k.rank == v.rank == 4, "needs q, k, v of rank 4", *given)
        self.match(k.shape[3], q.shape[3], "head_dim of k", *given)
        self.match(v.shape[1], k.shape[1], "KV heads of v", *given)
        self.match(v.shape[2], k.shape[2], "tokens of v", *given)
        self.match(k.shape[0], q.shape[0], "batch of k", *given)
        heads, kv_heads = q.shape[1], k.shape[1]
        if is_int(heads) and is_int(kv_heads) and heads % kv_heads:
            raise self.refuse(f"cannot share {kv_heads} KV heads among {heads} heads", *given)
        if self.causal or self.pattern != "full":
            self.match(k.shape[2], q.shape[2], "as many new keys as queries,", *given)
        extra = given[self._operands :]
        self.need([t.rank for t in extra] in ([], [4], [1], [4, 1]), "takes a bias, then sinks", *given)
        for t in extra:
            if t.rank == 1:
                self.match(t.shape[0], heads, "sinks for heads", *given)
            else:
                self.match(t.shape[3], self.cached + k.shape[2], "keys of the bias", *given)
        return q.with_last(v.shape[3])

    @property
    def _operands(self) -> int:
        """Tensors before bias and sinks: q, k, v, or q and k that holds v."""
        return 3 if is_int(self.latent) and self.latent == 0 else 2

    def _v(self, k: Tensor, more: tuple[Tensor, ...]) -> Tensor:
        return more[0] if self._operands == 3 else k.with_last(self.latent)

    def state(self, q: Tensor, k: Tensor, *more: Tensor) -> dict[str, tuple[Size, ...]]:
        if not self.keep:
            return {}
        batch, heads, new, _ = k.shape
        held = minimum(self.cached + new, self._reach()) if self._forgets else self.cached + new
        if self.page > 1:
            held = self.page * ceil_div(held, self.page)
        kept: dict[str, tuple[Size, ...]] = {"k": (batch, heads, held, k.shape[3])}
        if self._operands == 3:
            kept["v"] = (batch, heads, held, more[0].shape[3])
        return kept

    @property
    def _forgets(self) -> bool:
        return self.pattern in ("window", "blocks")

    def _reach(self) -> Size:
        """Tokens that a later query can still see, at most."""
        return self.span + self.anchors if self.pattern == "window" else (self.before + 1) * self.span

    def pairs(self, queries: Size, keys: Size) -> tuple[Size, Size]:
        """Query-key pairs that are scored, and those among them that are masked.

        Args:
            queries: T; keys: the T' new ones.
        """
        held, everything = self.cached, self.cached + keys
        if self.pattern == "full" or self.algorithm == "materialised":
            scored = queries * everything
            return scored, scored - self._visible(queries, keys)
        if not self.causal:
            visible = self._visible(queries, keys)
            if self.pattern == "blocks":
                return visible, 0
            scored = queries * minimum(2 * self.span - 1, everything)
            return scored, scored - visible
        if self.pattern == "blocks":
            # rows and columns of one block, of which the causal mask hides those above the diagonal
            first = minimum(queries, self.span - _remainder(held, self.span))
            rest = queries - first
            masked = (
                _triangle(first)
                + floor_div(rest, self.span) * _triangle(self.span)
                + _triangle(_remainder(rest, self.span))
            )
        else:
            masked = _triangle(maximum(minimum(self.span, everything) - held, 1))
        return self._visible(queries, keys) + masked, masked

    def _visible(self, queries: Size, keys: Size) -> Size:
        """Query-key pairs that the pattern and the causal mask let through."""
        held, everything, span = self.cached, self.cached + keys, self.span
        if not self.causal:
            if self.pattern == "full":
                return queries * everything
            if self.pattern == "window":
                far = maximum(everything - span, 0)
                return everything * everything - far * (far + 1)
            whole = floor_div(everything, span)
            rest = everything - span * whole
            off = minimum(self.before, maximum(whole - 1, 0))
            near = whole + 2 * off * whole - off * (off + 1)
            return span * span * near + 2 * rest * span * minimum(self.before, whole) + rest * rest
        triangle = queries * everything - _triangle(queries)
        if self.pattern == "full":
            return triangle
        if self.pattern == "blocks":
            return self._in_blocks(everything) - self._in_blocks(held)
        local = queries * minimum(span, everything) - _triangle(maximum(minimum(span, everything) - held, 1))
        if self.pattern == "strided":
            return local + _quotients(everything, span) - _quotients(held, span)
        reached = _capped(maximum(everything - span, 0), self.anchors)
        return local + reached - _capped(maximum(held - span, 0), self.anchors)

    def _in_blocks(self, n: Size) -> Size:
        """Pairs visible to the first n queries, causal."""
        whole = floor_div(n, self.span)
        beyond = maximum(whole - self.before, 0)
        hidden = self.span * self.span * _triangle(beyond) + (n - self.span * whole) * self.span * beyond
        return _triangle(n + 1) - hidden

    def _read_from_cache(self, queries: Size) -> Size:
        """Cached tokens that at least one query sees."""
        held, span = self.cached, self.span
        if self.pattern == "full" or self.algorithm == "materialised":
            return held
        if self.pattern == "blocks":
            return minimum(held, _remainder(held, span) + self.before * span)
        near = minimum(held, span - 1)
        if self.pattern == "window":
            return near + minimum(self.anchors, held - near)
        # every span-th key before the first query, then those before each later one that are not near
        rows = minimum(queries, span)
        later = _quotients(maximum(held + rows - span, 0), span) - _quotients(
            maximum(held + 1 - span, 0), span
        )
        return near + floor_div(held, span) + later

    def _scores(self, q: Tensor, k: Tensor) -> Size:
        return q.shape[0] * q.shape[1] * self.pairs(q.shape[2], k.shape[2])[0]

    def _vector_per_score(self, extra: tuple[Tensor, ...]) -> int:
        # scale, running maximum, subtraction and sum; a bias adds, a slope multiplies and adds
        biased = any(t.rank == 4 for t in extra)
        return 4 + (1 if biased else 0) + (2 if self.alibi else 0) + (2 if self.softcap else 0)

    def work(self, q: Tensor, k: Tensor, *more: Tensor) -> Work:
        y, v = more[-1], self._v(k, more)
        scored, masked = self.pairs(q.shape[2], k.shape[2])
        rows, width = q.shape[0] * q.shape[1], q.shape[3] + v.shape[3]
        scores = rows * scored
        # one exponential per score and, per element of the output, one division by the sum
        sinks = 1 if any(t.rank == 1 for t in more) else 0
        return Work(
            macs=scores * width,
            vector_flops=self._vector_per_score(more[self._operands - 2 : -1]) * scores
            + 2 * sinks * rows * q.shape[2],
            transcendentals=scores * (2 if self.softcap else 1) + y.numel + sinks * rows * q.shape[2],
            masked_macs=rows * masked * width,
        )

    def gradient(self, wanted: Any, q: Tensor, k: Tensor, *more: Tensor) -> Work:
        """Five products tile by tile (the scores again, dP, dV, dQ, dK), four from stored probabilities."""
        v = self._v(k, more)
        scores, d, dv = self._scores(q, k), q.shape[3], v.shape[3]
        of_v = wanted[2] if self._operands == 3 else wanted[1]
        inside = any(wanted[:2]) or any(wanted[self._operands :])
        tiled = self.algorithm == "tiled"
        width = (d if tiled else 0) + (dv if inside else 0) + (dv if of_v else 0)
        width = width + (d if wanted[0] else 0) + (d if wanted[1] else 0)
        # scale and subtraction to have the probabilities again; P (dP - row sum of dO O), scale
        return Work(
            macs=scores * width,
            vector_flops=scores * (5 if tiled else 3) + 2 * more[-1].numel,
            transcendentals=scores if tiled else 0,
        )

    def saved(self, q: Tensor, k: Tensor, *more: Tensor) -> Saved:
        """Tiled: inputs, output and a logarithm of the sum a row; materialised: the probabilities."""
        rows = (q.shape[0], q.shape[1], q.shape[2])
        inputs = tuple(range(1 + len(more)))
        if self.algorithm == "materialised":
            scores = Tensor((*rows, self.cached + k.shape[2]), q.dtype)
            return Saved(inputs[: self._operands], (), {"probabilities": scores})
        return Saved(inputs, (0,), {"logsumexp": Tensor(rows, "fp32")})

    def traffic(self, node: Any) -> Traffic:
        q, k, *more = node.ins
        read = write = workspace = 0
        if self.keep:
            width = k.shape[3] + (more[0].shape[3] if self._operands == 3 else 0)
            row, kept = k.shape[0] * k.shape[1] * width, node.state["k"].dtype
            read = nbytes(row * self._read_from_cache(q.shape[2]), kept)
            write = nbytes(row * k.shape[2], kept)
        if self.algorithm == "materialised":
            # scores written and read by the softmax, probabilities written and read by the product
            workspace = 4 * nbytes(self._scores(q, k), q.dtype)
        return Traffic(
            inputs=sum(t.nbytes for t in node.ins),
            outputs=node.outs[0].nbytes,
            state=read + write,
            workspace=workspace,
        )

    def workspace(self, q: Tensor, k: Tensor, *more: Tensor) -> Size:
        """The score matrix; nothing of that order when tiled."""
        return nbytes(self._scores(q, k), q.dtype) if self.algorithm == "materialised" else 0

    def primitives(self, q: Tensor, k: Tensor, *more: Tensor) -> dict[str, Size]:
        scores = self._scores(q, k)
        products = scores * (q.shape[3] + self._v(k, more).shape[3])
        return {
            MATMUL: products,
            DYNAMIC: products,
            SEQUENTIAL: q.numel + k.numel + sum(t.numel for t in more),
            BROADCAST: q.numel,
            GATHER: products,
            REDUCE: scores,
        }

    def parallelism(self, q: Tensor, k: Tensor, *more: Tensor) -> Parallelism:
        # every score can be worked on at once: kernels split long keys among processors too
        return Parallelism(width=self._scores(q, k), tree=ceil_log2(self.cached + k.shape[2]))

    def mask(self, p: Any, s: Any) -> Any:
        """Whether a query at position p sees the key at position s; arrays or tensors that broadcast."""
        back = p - s
        sees = back >= 0 if self.causal else back == back
        if self.pattern == "window":
            near = (back < self.span) & (back > -self.span)
            sees = sees & (near | (s < self.anchors))
        elif self.pattern == "blocks":
            apart = p // self.span - s // self.span
            sees = sees & (apart <= self.before) & (apart >= -self.before)
        elif self.pattern == "strided":
            sees = sees & ((back < self.span) | (back % self.span == 0))
        return sees

    def _kept_from(self, given: int) -> tuple[int, int]:
        """Of `given` cached tokens, how many are anchors, and the position of the next one."""
        if given == self.cached:
            return 0, 0
        anchors = int(self.anchors)
        return anchors, int(self.cached) - (given - anchors)

    def positions(self, np: Any, past: int, new: int) -> Any:
        """Positions of `past` cached and `new` keys: a cache that forgets holds the last and the anchors."""
        anchors, start = self._kept_from(past)
        return np.concatenate([np.arange(anchors), np.arange(start, int(self.cached) + new)])

    def _keep(self, torch: Any, rows: Any) -> Any:
        """What the cache holds afterwards of all keys or values [B, G, S, d]."""
        reach = int(self._reach()) if self._forgets else rows.shape[2]
        if rows.shape[2] <= reach:
            return rows
        anchors = int(self.anchors)
        return torch.cat([rows[:, :, :anchors], rows[:, :, rows.shape[2] - (reach - anchors) :]], 2)

    def _slopes(self, heads: int) -> list[float]:
        """Slopes of the heads: powers of 2^(-8 / n), for other than powers of two every second of 2n."""
        whole = 2 ** (heads.bit_length() - 1)
        first = [2 ** (-8 * (i + 1) / whole) for i in range(whole)]
        return first + [2 ** (-4 * (2 * i + 1) / whole) for i in range(heads - whole)]

    def _scored_keys(self, p: int, positions: Any, sees: Any) -> list[int]:
        """Columns that a query at p scores: all, or those its tiles hold."""
        everything = int(self.cached) + (len(positions) - sum(1 for s in positions if s < self.cached))
        if self.pattern == "full" or self.algorithm == "materialised":
            return list(range(len(positions)))
        span = int(self.span)
        if self.pattern == "blocks":
            last = min(everything, (p // span + 1) * span) if self.causal else everything
            return [i for i, s in enumerate(positions) if sees[i] or (s > p and s < last and self.causal)]
        wide = min(span if self.causal else 2 * span - 1, everything)
        start = min(max(0, p - span + 1), everything - wide)
        return [i for i, s in enumerate(positions) if sees[i] or start <= s < start + wide]

    def loops(self, tally: Tally, q: Any, k: Any, *more: Any, past_k: Any = None, past_v: Any = None) -> Any:
        import numpy as np

        v, extra = (more[0], more[1:]) if self._operands == 3 else (k[..., : int(self.latent)], more)
        past = 0 if past_k is None else past_k.shape[2]
        if past_k is not None:
            k = np.concatenate([past_k, k], 2)
            v = np.concatenate([past_v, v], 2) if past_v is not None else k[..., : v.shape[3]]
        bias = next((t for t in extra if t.ndim == 4), np.zeros((1, 1, 1, 1)))
        sinks = next((t for t in extra if t.ndim == 1), None)
        batch, heads, queries, width = q.shape
        group, where = heads // k.shape[1], self.positions(np, past, k.shape[2] - past)
        bias = np.broadcast_to(bias, (batch, heads, queries, int(self.cached) + k.shape[2] - past))
        scale = width**-0.5 if self.scale is None else self.scale
        y = np.zeros((*q.shape[:3], v.shape[3]), q.dtype)
        for b, h, t in np.ndindex(batch, heads, queries):
            p = int(self.cached) + t
            sees = self.mask(p, where)
            # the sink is a key that is always seen and has no value
            top, total, row = (-np.inf, 0.0, np.zeros(v.shape[3]))
            if sinks is not None:
                top, total = sinks[h], 1.0
            keys = self._scored_keys(p, where, sees)
            step = len(keys) if self.algorithm == "materialised" else TILE
            for at in range(0, len(keys), step):
                tile = keys[at : at + step]
                scores = np.full(len(tile), -np.inf)
                for i, s in enumerate(tile):
                    dot = 0.0
                    for d in range(width):
                        dot += q[b, h, t, d] * k[b, h // group, s, d]
                        tally.macs += 1
                    dot = dot * scale
                    if self.softcap:
                        dot = self.softcap * np.tanh(dot / self.softcap)
                    if self.alibi:
                        dot -= self._slopes(heads)[h] * (p - where[s])
                    if sees[s]:
                        scores[i] = dot + bias[b, h, t, where[s]]
                higher = max(top, scores.max())
                shrink = np.exp(top - higher) if np.isfinite(top) else 0.0
                weights = np.exp(scores - higher) if np.isfinite(higher) else np.zeros(len(tile))
                row, total, top = row * shrink, total * shrink + weights.sum(), higher
                for i, s in enumerate(tile):
                    for d in range(v.shape[3]):
                        row[d] += weights[i] * v[b, h // group, s, d]
                        tally.macs += 1
            y[b, h, t] = row / total
        return y

    def torch(self, torch: Any) -> Any:
        simple = not self.softcap

        def attend(
            q: Any, k: Any, *more: Any, state: Any = None, past_k: Any = None, past_v: Any = None
        ) -> Any:
            v, extra = (more[0], more[1:]) if self._operands == 3 else (k[..., : int(self.latent)], more)
            if state:
                past_k, past_v = state["k"], state.get("v")
            past = 0 if past_k is None else past_k.shape[2]
            if past_k is not None:
                k = torch.cat([past_k, k], 2)
                v = torch.cat([past_v, v], 2) if past_v is not None else k[..., : v.shape[3]]
            if state is not None:
                state["k"] = self._keep(torch, k)
                if self._operands == 3:
                    state["v"] = self._keep(torch, v)
            bias = next((t for t in extra if t.ndim == 4), None)
            sinks = next((t for t in extra if t.ndim == 1), None)
            where = self.positions(torch, past, k.shape[2] - past).to(q.device)
            place = torch.arange(q.shape[2], device=q.device)[:, None] + int(self.cached)
            add = None
            if self.causal or self.pattern != "full":
                add = torch.zeros(q.shape[2], k.shape[2], dtype=q.dtype, device=q.device)
                add = add.masked_fill(~self.mask(place, where), float("-inf"))
            if bias is not None:
                given = bias[..., where]
                add = given if add is None else add + given
            if self.alibi:
                slopes = torch.tensor(self._slopes(q.shape[1]), dtype=q.dtype, device=q.device)
                fall = -slopes[:, None, None] * (place - where)
                add = fall if add is None else add + fall
            if simple and sinks is None:
                return torch.nn.functional.scaled_dot_product_attention(
                    q, k, v, attn_mask=add, scale=self.scale, enable_gqa=q.shape[1] != k.shape[1]
                )
            group = q.shape[1] // k.shape[1]
            k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
            scores = q @ k.transpose(-1, -2) * (q.shape[3] ** -0.5 if self.scale is None else self.scale)
            if self.softcap:
                scores = self.softcap * torch.tanh(scores / self.softcap)
            scores = scores if add is None else scores + add
            if sinks is not None:
                scores = torch.cat([scores, sinks[:, None, None].expand(*scores.shape[:3], 1)], -1)
            return scores.softmax(-1)[..., : k.shape[2]] @ v

        return attend

    def to_onnx(self, w: OnnxWriter, q: str, k: str, *more: str) -> str:
        """Unfused: two products and a softmax over all scores, whatever a pattern hides."""
        w.stands_for(replace(self, algorithm="materialised"))
        tensors = w.node.ins
        v = more[0] if self._operands == 3 else ""
        extra = dict(
            zip([t.rank for t in tensors[self._operands :]], more[self._operands - 2 :], strict=True)
        )
        (batch, heads, tokens, _), groups, new = tensors[0].shape, tensors[1].shape[1], tensors[1].shape[2]
        width = w.node.outs[0].shape[3]
        past = self._held_before()
        if past:
            old = (batch, groups, past)
            k = w("Concat", w.past("k", (*old, tensors[1].shape[3])), k, axis=2)
            v = v and w("Concat", w.past("v", (*old, width)), v, axis=2)
        keys = past + new
        if w.node.state:
            self._present_onnx(w, "k", k, (batch, groups, keys, tensors[1].shape[3]))
            if v:
                self._present_onnx(w, "v", v, (batch, groups, keys, width))
        v = v or w("Slice", k, w.ints(0), w.ints(self.latent), w.ints(-1))

        def by_group(rows: str, last: Size) -> str:
            return w("Reshape", rows, w.ints(batch, groups, -1, last)) if groups != heads else rows

        def by_head(rows: str, last: Size) -> str:
            return w("Reshape", rows, w.ints(batch, heads, tokens, last)) if groups != heads else rows

        turned = w("Transpose", k, perm=(0, 1, 3, 2))
        scores = by_head(w("MatMul", by_group(q, tensors[0].shape[3]), turned), keys)
        scale = tensors[0].shape[3] ** -0.5 if self.scale is None else self.scale
        scores = w("Mul", scores, w.number(scale))
        if self.softcap:
            cap = w.number(self.softcap)
            scores = w("Mul", w("Tanh", w("Div", scores, cap)), cap)
        for added in self._added_onnx(w, past, extra.get(4, "")):
            scores = w("Add", scores, added)
        if 1 in extra:
            sinks = w(
                "Expand", w("Reshape", extra[1], w.ints(1, heads, 1, 1)), w.ints(batch, heads, tokens, 1)
            )
            scores = w("Concat", scores, sinks, axis=-1)
        shares = w("Softmax", scores, axis=-1)
        if 1 in extra:
            shares = w("Slice", shares, w.ints(0), w.ints(keys), w.ints(-1))
        return by_head(w("MatMul", by_group(shares, keys), v), width)

    def _held_before(self) -> int:
        """Tokens in the cache that this call is given."""
        return int(minimum(self.cached, self._reach()) if self._forgets else self.cached)

    def _present_onnx(self, w: OnnxWriter, key: str, rows: str, shape: tuple[Size, ...]) -> None:
        """Keeps of all rows what `_keep` keeps."""
        held = int(minimum(shape[2], self._reach())) if self._forgets else shape[2]
        if held < shape[2]:
            first = int(self.anchors)
            late = w("Slice", rows, w.ints(shape[2] - (held - first)), w.ints(shape[2]), w.ints(2))
            early = [w("Slice", rows, w.ints(0), w.ints(first), w.ints(2))] if first else []
            rows = w("Concat", *early, late, axis=2) if early else late
        w.present(key, rows, (*shape[:2], held, shape[3]))

    def _added_onnx(self, w: OnnxWriter, past: int, bias: str) -> list[str]:
        """What is added to the scores: the mask, the bias, the fall with distance."""
        import numpy as np

        _, heads, tokens, _ = w.node.ins[0].shape
        new = w.node.ins[1].shape[2]
        where = self.positions(np, past, new)
        place = np.arange(tokens)[:, None] + int(self.cached)
        key = (where.tobytes(), place.tobytes(), w.node.ins[0].dtype)
        found = []

        def mask() -> str:
            sees = self.mask(w.expression(w.table(place)), w.expression(w.table(where[None])))
            return w("Where", sees.name, w.number(0), w.number(-np.inf))

        if not self.mask(place, where).all():
            found.append(
                w.shared((self.causal, self.pattern, self.span, self.before, self.anchors, key), mask)
            )
        if bias:
            every = len(where) == int(self.cached) + new
            found.append(bias if every else w("Gather", bias, w.ints(*where), axis=3))
        if self.alibi:
            falls = w.table(-np.array(self._slopes(heads))[:, None, None])
            found.append(
                w.shared(
                    ("alibi", heads, key),
                    lambda: w("Mul", falls, w.table((place - where).astype(np.float64))),
                )
            )
        return found

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        batch, groups, width = pick.size(1, 2), pick.size(1, 2), pick.size(2, 3)
        heads, queries = groups * pick.int(1, 2), pick.size(1, 5)
        pattern = pick.choice(PATTERNS)
        causal = pick.choice([True, False]) or pattern == "strided"
        keys = queries if causal or pattern != "full" else pick.size(1, 4)
        keep = pick.choice([True, False]) and (causal or pattern == "full")
        cached: Size = pick.size(1, 5) if keep else 0
        latent: Size = pick.size(1, 2) if pick.choice([False, False, True]) else 0
        op = cls(
            causal, cached, keep, pick.choice(ALGORITHMS), pick.choice([None, 0.5]), pattern,
            0 if pattern == "full" else pick.size(1, 4), pick.int(0, 2) if pattern == "blocks" else 0,
            pick.size(1, 2) if pattern == "window" and causal else 0, latent,
            pick.choice([0.0, 0.0, 2.0]), pick.choice([False, False, True]), pick.choice([1, 4]),
        )  # fmt: skip
        k = Tensor((batch, groups, keys, width))
        given = [Tensor((batch, heads, queries, width)), k]
        if op._operands == 3:
            given.append(k.with_last(pick.size(1, 3)))
        if pick.choice([False, True]):
            given.append(Tensor((1, heads, queries, cached + keys)))
        if pick.choice([False, True]):
            given.append(Tensor((heads,)))
        return op, given
