"""Rotary positions: pairs of features turned by an angle that grows with the position."""

from collections.abc import Sequence
from math import ceil, floor, log, pi
from typing import Any

from pharos.graph.op import SEQUENTIAL, STRIDED, OnnxWriter, Op, Picker, Saved, Tally, Work, operator
from pharos.graph.tensor import Tensor
from pharos.quantity.errors import unknown
from pharos.quantity.sizes import Size, is_int, prod, same

SCALINGS = ("default", "linear", "dynamic", "llama3", "yarn", "longrope")


def turns(base: float, half: int, tokens: int, scaling: dict[str, Any]) -> tuple[list[float], float]:
    """Angle per position of each of `half` pairs, and the length queries and keys are multiplied by.

    Args:
        tokens: length of the whole context, which "dynamic" and "longrope" look at.
        scaling: see `Rotary`.

    Sources: "linear" and "dynamic": Chen et al. 2023, arXiv:2306.15595, and its NTK-aware successors;
    "llama3": Llama team 2024, arXiv:2407.21783; "yarn": Peng et al. 2023, arXiv:2309.00071; "longrope":
    Ding et al. 2024, arXiv:2402.13753; all in the forms that published configs are written for.
    """
    kind, width = scaling.get("rope_type", "default"), 2 * half
    plain = [base ** (-i / half) for i in range(half)]
    if kind == "default":
        return plain, 1.0
    given: Any = scaling.get("attention_factor")
    trained: Any = scaling.get("original_max_position_embeddings")
    factor: Any = scaling.get("factor")
    if kind == "linear":
        return [turn / factor for turn in plain], 1.0
    if kind == "dynamic":
        limit = scaling["max_position_embeddings"]
        stretched = factor * max(tokens, limit) / limit - (factor - 1)
        grown = base * stretched ** (width / (width - 2))
        return [grown ** (-i / half) for i in range(half)], 1.0
    if kind == "llama3":
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        # rounds that a pair makes within the trained context decide how far it is slowed
        rounds = [trained * turn / (2 * pi) for turn in plain]
        keep = [min(max((r - low) / (high - low), 0.0), 1.0) for r in rounds]
        return [turn * (k + (1 - k) / factor) for turn, k in zip(plain, keep, strict=True)], 1.0
    if factor is None:
        factor = scaling["max_position_embeddings"] / trained
    if kind == "yarn":

        def pair_that_makes(rounds: float) -> float:
            return width * log(trained / (rounds * 2 * pi)) / (2 * log(base))

        first, last = (pair_that_makes(scaling.get(k) or d) for k, d in (("beta_fast", 32), ("beta_slow", 1)))
        if scaling.get("truncate", True):
            first, last = floor(first), ceil(last)
        first, last = max(first, 0), min(last, width - 1)
        last = first + 0.001 if first == last else last
        slowed = [min(max((i - first) / (last - first), 0.0), 1.0) for i in range(half)]
        mixed = [turn * (1 - s + s / factor) for turn, s in zip(plain, slowed, strict=True)]
        if given is None:
            one, every = scaling.get("mscale"), scaling.get("mscale_all_dim")
            given = _longer(factor, one) / _longer(factor, every) if one and every else _longer(factor, 1.0)
        return mixed, given
    each = scaling["long_factor" if tokens > trained else "short_factor"]
    if given is None:
        given = 1.0 if factor <= 1 else (1 + log(factor) / log(trained)) ** 0.5
    return [turn / f for turn, f in zip(plain, each, strict=True)], given


def _longer(factor: float, scale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * scale * log(factor) + 1.0


@operator(cost="elementwise", onnx="RotaryEmbedding")
class Rotary(Op):
    """y = x cos(t w) + rotate_half(x) sin(t w) for x[B, H, T, d] at positions offset .. offset + T - 1.

    Two multiplications and an addition an element; the tables of T x d sines and cosines are small
    and stay in the cache. Source: Su et al. 2021, arXiv:2104.09864, in the half-split form of Llama.

    Args:
        width: only the first `width` features are turned, None means all.
        interleaved: features 2i and 2i + 1 turn together; they leave half-split, as the others do, which
            no product of a query and a key can tell.
        scaling: how turns were slowed for longer contexts than those trained on, as configs write it:
            (("rope_type", "llama3"), ("factor", 8.0), ...); one of SCALINGS.
    """

    base: float = 10000.0
    offset: Size = 0
    width: Size | None = None
    interleaved: bool = False
    scaling: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        kind = dict(self.scaling).get("rope_type", "default")
        if kind not in SCALINGS:
            raise unknown("scaling of positions", str(kind), SCALINGS)

    def _turned(self, x: Tensor) -> Size:
        return x.shape[3] if self.width is None else self.width

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank == 4, "needs an input of rank 4", x)
        turned = self._turned(x)
        self.need(not is_int(turned) or turned % 2 == 0, "needs an even number of features to turn", x)
        if is_int(turned) and is_int(x.shape[3]):
            self.need(0 < turned <= x.shape[3], f"cannot turn {turned} features", x)
        return x

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(vector_flops=3 * prod(x.shape[:3]) * self._turned(x))

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """The same turns backwards."""
        return self.work(x, y) if wanted[0] else Work()

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved()

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        return {SEQUENTIAL: y.numel, STRIDED: x.numel}

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        y = x.copy()
        half = self._turned(Tensor(x.shape)) // 2
        speed, size = turns(self.base, half, self.offset + x.shape[2], dict(self.scaling))
        for t in range(x.shape[2]):
            for i in range(half):
                angle = (self.offset + t) * speed[i]
                cos, sin = size * np.cos(angle), size * np.sin(angle)
                at, other = (2 * i, 2 * i + 1) if self.interleaved else (i, i + half)
                y[:, :, t, i] = x[:, :, t, at] * cos - x[:, :, t, other] * sin
                y[:, :, t, i + half] = x[:, :, t, other] * cos + x[:, :, t, at] * sin
        return y

    def torch(self, torch: Any) -> Any:
        def rotate(whole: Any) -> Any:
            turned_width = self._turned(Tensor(tuple(whole.shape)))
            x, rest = whole[..., :turned_width], whole[..., turned_width:]
            half = turned_width // 2
            if self.interleaved:
                x = torch.cat([x[..., ::2], x[..., 1::2]], -1)
            # bf16 cannot tell position 257 from 256
            wide = torch.promote_types(x.dtype, torch.float32)
            place = torch.arange(x.shape[2], dtype=wide, device=x.device) + self.offset
            speed, size = turns(self.base, half, int(self.offset) + x.shape[2], dict(self.scaling))
            turn = torch.tensor(speed, dtype=wide, device=x.device)
            angle = (place[:, None] * turn).repeat(1, 2)
            cos, sin = (size * angle.cos()).to(x.dtype), (size * angle.sin()).to(x.dtype)
            turned = torch.cat([-x[..., half:], x[..., :half]], -1)
            return torch.cat([x * cos + turned * sin, rest], -1)

        return rotate

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        import numpy as np

        given = w.node.ins[0]
        turned, tokens = self._turned(given), given.shape[2]
        half = turned // 2
        speed, size = turns(self.base, half, int(self.offset) + tokens, dict(self.scaling))
        angle = (np.arange(tokens) + int(self.offset))[:, None] * np.array(speed)
        cos, sin = w.table(size * np.cos(angle)), w.table(size * np.sin(angle))

        def part(start: int, stop: int, step: int = 1) -> str:
            return w("Slice", x, w.ints(start), w.ints(stop), w.ints(-1), w.ints(step))

        if self.interleaved:
            a, b = part(0, turned, 2), part(1, turned, 2)
        else:
            a, b = part(0, half), part(half, turned)
        first = w("Sub", w("Mul", a, cos), w("Mul", b, sin))
        second = w("Add", w("Mul", b, cos), w("Mul", a, sin))
        rest = [part(turned, given.shape[3])] if turned < given.shape[3] else []
        return w("Concat", first, second, *rest, axis=-1)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        turned = 2 * pick.size(1, 3)
        part = pick.choice([True, False])
        op = cls(
            pick.choice([10000.0, 500.0]), pick.choice([0, 1]) * pick.size(1, 4), turned if part else None,
            pick.choice([True, False]),
        )  # fmt: skip
        width = turned + 2 * pick.size(1, 2) if part else turned
        return op, [Tensor((pick.size(1, 2), pick.size(1, 2), pick.size(1, 4), width))]


LAYOUTS = ("halves", "neighbours")


@operator(cost="elementwise")
class Turn(Op):
    """y = x cos + turned(x) sin, cosines and sines given: rotary positions as code that is read writes them.

    x[..., d]; the tables broadcast to x, or hold a number a pair, [..., d / 2]. turned(x) is (-b, a) of
    the pairs (a, b). Two multiplications and an addition an element. Source: Su et al. 2021,
    arXiv:2104.09864, equation 34.

    Args:
        layout: pairs are features i and i + d / 2 ("halves") or 2i and 2i + 1 ("neighbours").
    """

    layout: str = "halves"

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise unknown("layout of pairs", str(self.layout), LAYOUTS)

    def shape(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        given = (x, cos, sin)
        self.need(x.rank >= 1, "needs an input of rank 1 or more", *given)
        width = x.shape[-1]
        self.need(not is_int(width) or width % 2 == 0, "needs an even number of features to turn", *given)
        for table in (cos, sin):
            self.need(1 <= table.rank <= x.rank, "needs tables of no more dimensions", *given)
            if not same(2 * table.shape[-1], width):
                self.match(table.shape[-1], width, "width of the tables", *given)
            for have, want in zip(table.shape[-2::-1], x.shape[-2::-1], strict=False):
                if not (is_int(have) and have == 1):
                    self.match(have, want, "size of the tables", *given)
        return x

    def work(self, x: Tensor, cos: Tensor, sin: Tensor, y: Tensor) -> Work:
        return Work(vector_flops=3 * y.numel)

    def gradient(self, wanted: Sequence[bool], x: Tensor, cos: Tensor, sin: Tensor, y: Tensor) -> Work:
        """The same turns backwards; a table's gradient is a product an element, and a sum."""
        tables = 2 * y.numel * (bool(wanted[1]) + bool(wanted[2]))
        return Work(vector_flops=(3 * y.numel if wanted[0] else 0) + tables)

    def saved(self, x: Tensor, cos: Tensor, sin: Tensor, y: Tensor) -> Saved:
        return Saved(inputs=(0, 1, 2))

    def primitives(self, x: Tensor, cos: Tensor, sin: Tensor, y: Tensor) -> dict[str, Size]:
        return {SEQUENTIAL: y.numel + cos.numel + sin.numel, STRIDED: x.numel}

    def _wide(self, np: Any, table: Any, width: int) -> Any:
        """A number a feature of a table that holds one a pair, of NumPy arrays or tensors."""
        if table.shape[-1] == width:
            return table
        if self.layout == "halves":
            return np.concatenate([table, table], -1)
        return np.stack([table, table], -1).reshape((*table.shape[:-1], width))

    def loops(self, tally: Tally, x: Any, cos: Any, sin: Any) -> Any:
        import numpy as np

        width = x.shape[-1]
        cos, sin = (np.broadcast_to(self._wide(np, t, width), x.shape) for t in (cos, sin))
        y = np.empty_like(x)
        for at in np.ndindex(*x.shape[:-1]):
            for i in range(width // 2):
                a, b = (i, i + width // 2) if self.layout == "halves" else (2 * i, 2 * i + 1)
                y[*at, a] = x[*at, a] * cos[*at, a] - x[*at, b] * sin[*at, a]
                y[*at, b] = x[*at, b] * cos[*at, b] + x[*at, a] * sin[*at, b]
        return y

    def torch(self, torch: Any) -> Any:
        def turn(x: Any, cos: Any, sin: Any) -> Any:
            width = x.shape[-1]
            if self.layout == "halves":
                turned = torch.cat([-x[..., width // 2 :], x[..., : width // 2]], -1)
            else:
                turned = torch.stack([-x[..., 1::2], x[..., ::2]], -1).reshape(x.shape)
            return x * self._wide(torch, cos, width) + turned * self._wide(torch, sin, width)

        return turn

    def to_onnx(self, w: OnnxWriter, x: str, cos: str, sin: str) -> str:
        given = w.node.ins
        width = given[0].shape[-1]
        half = width // 2

        def wide(table: str, tensor: Tensor) -> str:
            if tensor.shape[-1] == width:
                return table
            if self.layout == "halves":
                return w("Concat", table, table, axis=-1)
            each = w("Unsqueeze", table, w.ints(-1))
            return w("Reshape", w("Concat", each, each, axis=-1), w.ints(*tensor.shape[:-1], width))

        def part(start: int, stop: int, step: int = 1) -> str:
            return w("Slice", x, w.ints(start), w.ints(stop), w.ints(-1), w.ints(step))

        if self.layout == "halves":
            turned = w("Concat", w("Neg", part(half, width)), part(0, half), axis=-1)
        else:
            pair = (w("Neg", part(1, width, 2)), part(0, width, 2))
            pair = [w("Unsqueeze", each, w.ints(-1)) for each in pair]
            turned = w("Reshape", w("Concat", *pair, axis=-1), w.ints(*given[0].shape))
        cos, sin = wide(cos, given[1]), wide(sin, given[2])
        return w("Add", w("Mul", x, cos), w("Mul", turned, sin))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        tokens, half = pick.size(1, 4), pick.size(1, 3)
        x = Tensor((pick.size(1, 2), pick.size(1, 2), tokens, 2 * half))
        width = 2 * half if pick.choice([True, False]) else half
        table = Tensor((tokens, width) if pick.choice([True, False]) else (1, 1, tokens, width))
        return cls(pick.choice(LAYOUTS)), [x, table, table]
