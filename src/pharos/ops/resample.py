"""Images made larger or smaller, and sampled at places that another tensor says."""

from collections.abc import Sequence
from itertools import product
from math import ceil, floor
from typing import Any

from pharos.graph.op import (
    GATHER,
    RANDOM,
    SEQUENTIAL,
    STRIDED,
    OnnxWriter,
    Op,
    Picker,
    Saved,
    Tally,
    Work,
    operator,
)
from pharos.graph.tensor import Tensor
from pharos.quantity.errors import unknown
from pharos.quantity.sizes import Size, is_int

# Inputs that one output is made of, along each dimension.
TAPS = {"nearest": 1, "linear": 2, "cubic": 4}
COORDINATES = ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel", "half_pixel_symmetric")
ROUNDINGS = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
BORDERS = ("zeros", "border", "reflection")


def _cubic(distance: float, a: float) -> float:
    """Keys' kernel, with slope a at 1. Source: Keys 1981, doi:10.1109/TASSP.1981.1163711."""
    t = abs(distance)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


@operator(
    cost="copy",
    aten="upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d "
    "upsample_trilinear3d upsample_bicubic2d _upsample_nearest_exact2d",
    onnx="Resize Upsample",
)
class Resize(Op):
    """x[B, C, *spatial] interpolated to y[B, C, *size], dimension by dimension.

    Nearest copies. Otherwise each output is a weighted sum of taps^n inputs, n the dimensions that change:
    a product and an addition each. An antialiased one reads 1 / scale times as many when it shrinks.

    Args:
        mode: "nearest", "linear" (2 taps) or "cubic" (4 taps).
        coordinates: how an output's place becomes an input's: see the Resize operator of ONNX.
        rounding: of a nearest place; scales: outputs an input, where not the ratio of the sizes.
        slope: of the cubic kernel at 1.
    """

    size: tuple[Size, ...]
    mode: str = "nearest"
    coordinates: str = "half_pixel"
    rounding: str = "round_prefer_floor"
    scales: tuple[float, ...] | None = None
    antialias: bool = False
    slope: float = -0.75
    exclude_outside: bool = False

    def __post_init__(self) -> None:
        if self.mode not in TAPS:
            raise unknown("interpolation", str(self.mode), TAPS)
        if self.coordinates not in COORDINATES:
            raise unknown("coordinates", str(self.coordinates), COORDINATES)
        if self.rounding not in ROUNDINGS:
            raise unknown("rounding", str(self.rounding), ROUNDINGS)

    def shape(self, x: Tensor) -> Tensor:
        n = len(self.size)
        self.need(x.rank == n + 2, f"needs an input of rank {n + 2}", x)
        self.need(not any(is_int(s) and s < 1 for s in self.size), "leaves nothing", x)
        return x.with_shape(*x.shape[:2], *self.size)

    def _taps(self, x: Tensor) -> Size:
        """Inputs of one output."""
        total: Size = 1
        for n, m in zip(x.shape[2:], self.size, strict=True):
            if is_int(n) and is_int(m) and n == m:
                continue
            wide: Size = TAPS[self.mode]
            if self.antialias and is_int(n) and is_int(m) and m < n:
                wide = ceil(wide * n / m)
            total = total * wide
        return total

    def work(self, x: Tensor, y: Tensor) -> Work:
        if self.mode == "nearest":
            return Work()
        return Work(vector_flops=2 * self._taps(x) * y.numel)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """Every gradient goes back to what it was made of, by the same weights."""
        if not wanted[0]:
            return Work()
        return Work(vector_flops=(1 if self.mode == "nearest" else 2 * self._taps(x)) * y.numel)

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved()

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        return {GATHER: y.numel * self._taps(x), STRIDED: y.numel * self._taps(x), SEQUENTIAL: y.numel}

    def _place(self, i: int, n: int, m: int, scale: float) -> float:
        """Where output i of m falls among n inputs."""
        if self.coordinates == "asymmetric":
            return i / scale
        if self.coordinates == "align_corners":
            # the last output stands on the last input, of a scale that was not rounded too
            last = n * scale - 1 if self.scales is not None else m - 1
            return i * (n - 1) / last if m > 1 else 0.0
        if self.coordinates == "pytorch_half_pixel" and m == 1:
            return 0.0
        if self.coordinates == "half_pixel_symmetric":
            # the middle of the whole output is kept where the scale was rounded
            return n / 2 * (1 - m / (scale * n)) + (i + 0.5) / scale - 0.5
        return (i + 0.5) / scale - 0.5

    def _nearest(self, place: float) -> int:
        if self.rounding == "floor":
            return floor(place)
        if self.rounding == "ceil":
            return ceil(place)
        down = self.rounding == "round_prefer_floor"
        return ceil(place - 0.5) if down else floor(place + 0.5)

    def weights_of(self, i: int, n: int, m: int, scale: float) -> list[tuple[int, float]]:
        """(input, weight) of output i of m over n inputs, places outside moved to the edge."""
        place = self._place(i, n, m, scale)
        if self.mode == "nearest":
            return [(min(max(self._nearest(place), 0), n - 1), 1.0)]
        widen = min(scale, 1.0) if self.antialias else 1.0
        half = TAPS[self.mode] / 2 / widen
        first, last = floor(place - half) + 1, ceil(place + half) - 1
        if self.mode == "linear" and not self.antialias:
            # beyond the edge the edge itself
            place = min(max(place, 0.0), n - 1.0)
            first, last = floor(place), floor(place) + 1
        found = []
        for j in range(first, last + 1):
            distance = (place - j) * widen
            weight = max(1 - abs(distance), 0.0) if self.mode == "linear" else _cubic(distance, self.slope)
            outside = not 0 <= j < n
            if outside and (self.exclude_outside or self.antialias):
                continue
            found.append((min(max(j, 0), n - 1), weight))
        total = sum(weight for _, weight in found)
        return [(j, weight / total) for j, weight in found] if total else [(0, 1.0)]

    def _matrix(self, n: int, d: int) -> Any:
        """Weights [outputs, inputs] of dimension d."""
        import numpy as np

        m = self.size[d]
        scale = m / n if self.scales is None else self.scales[d]
        found = np.zeros((m, n))
        for i in range(m):
            for j, weight in self.weights_of(i, n, m, scale):
                found[i, j] += weight
        return found

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        matrices = [self._matrix(n, d) for d, n in enumerate(x.shape[2:])]
        y = np.zeros((*x.shape[:2], *self.size), x.dtype)
        for at in np.ndindex(self.size):
            rows = [np.nonzero(matrix[i])[0] for matrix, i in zip(matrices, at, strict=True)]
            for place in product(*rows):
                weight = 1.0
                for matrix, i, j in zip(matrices, at, place, strict=True):
                    weight *= matrix[i, j]
                y[:, :, *at] += weight * x[:, :, *place]
        return y

    def _native(self) -> dict[str, Any] | None:
        """The arguments of PyTorch's own function, where it has one."""
        n, corners = len(self.size), self.coordinates == "align_corners"
        if self.scales is not None or self.exclude_outside or n > 3:
            return None
        if self.mode == "nearest":
            if self.coordinates == "asymmetric" and self.rounding == "floor":
                return {"mode": "nearest"}
            exact = self.coordinates == "half_pixel" and self.rounding == "round_prefer_ceil"
            return {"mode": "nearest-exact"} if exact else None
        if self.coordinates not in ("half_pixel", "align_corners"):
            return None
        if self.mode == "cubic" or self.antialias:
            plain = n == 2 and (self.slope == -0.75 or (self.mode == "linear")) and not self.antialias
            return {"mode": "bicubic", "align_corners": corners} if plain and self.mode == "cubic" else None
        return {"mode": {1: "linear", 2: "bilinear", 3: "trilinear"}[n], "align_corners": corners}

    def torch(self, torch: Any) -> Any:
        native = self._native()
        if native is not None:
            return lambda x: torch.nn.functional.interpolate(x, self.size, **native)

        def resize(x: Any) -> Any:
            for d, n in enumerate(x.shape[2:]):
                matrix = torch.tensor(self._matrix(n, d), dtype=x.dtype)
                x = torch.movedim(torch.movedim(x, d + 2, -1) @ matrix.T, -1, d + 2)
            return x

        return resize

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        import numpy as np

        shape = w.node.ins[0].shape
        extra: dict[str, Any] = {"mode": self.mode, "coordinate_transformation_mode": self.coordinates}
        if self.mode == "nearest":
            extra["nearest_mode"] = self.rounding
        if self.mode == "cubic":
            extra |= {"cubic_coeff_a": self.slope, "exclude_outside": int(self.exclude_outside)}
        if self.antialias:
            extra["antialias"] = 1
        if self.scales is not None:
            return w("Resize", x, "", w.table(np.array([1.0, 1.0, *self.scales], np.float32)), **extra)
        return w("Resize", x, "", "", w.ints(*shape[:2], *self.size), **extra)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        # no dimension keeps its size, so that symbols answer what numbers answer
        mode, n = pick.choice(list(TAPS)), pick.int(1, 2)
        forms = [("asymmetric", "floor"), ("half_pixel", "round_prefer_ceil")]
        place, rounding = pick.choice(
            forms if mode == "nearest" else [("half_pixel", ""), ("align_corners", "")]
        )
        n = 2 if mode == "cubic" else n
        size = tuple(pick.size(5, 7) for _ in range(n))
        shape = (pick.size(1, 2), pick.size(1, 2), *[pick.size(2, 4) for _ in range(n)])
        return cls(size, mode, place, rounding or "round_prefer_floor"), [Tensor(shape)]


@operator(cost="gather", aten="grid_sampler grid_sampler_2d grid_sampler_3d grid_sample", onnx="GridSample")
class GridSample(Op):
    """y[b, c, *at] = x[b, c, *spatial] at the place grid[b, *at] says, -1 to 1 across each dimension.

    Per place and dimension 2 operations for its coordinate; per output a product and an addition for each
    of taps^n inputs.

    Args:
        mode: "nearest", "linear" or "cubic"; padding: what lies outside: "zeros", "border", "reflection".
        align_corners: -1 and 1 are the middles of the outermost elements, not their far edges.
    """

    mode: str = "linear"
    padding: str = "zeros"
    align_corners: bool = False

    def __post_init__(self) -> None:
        if self.mode not in TAPS:
            raise unknown("interpolation", str(self.mode), TAPS)
        if self.padding not in BORDERS:
            raise unknown("border", str(self.padding), BORDERS)

    def shape(self, x: Tensor, grid: Tensor) -> Tensor:
        n = x.rank - 2
        self.need(n >= 1 and grid.rank == x.rank, "needs an image and a grid of one rank", x, grid)
        self.match(grid.shape[-1], n, "coordinates", x, grid)
        self.match(grid.shape[0], x.shape[0], "batch of the grid", x, grid)
        return x.with_shape(*x.shape[:2], *grid.shape[1:-1])

    def _taps(self, x: Tensor) -> int:
        return TAPS[self.mode] ** (x.rank - 2)

    def work(self, x: Tensor, grid: Tensor, y: Tensor) -> Work:
        of_outputs = 0 if self.mode == "nearest" else 2 * self._taps(x) * y.numel
        return Work(vector_flops=2 * grid.numel + of_outputs)

    def gradient(self, wanted: Sequence[bool], x: Tensor, grid: Tensor, y: Tensor) -> Work:
        """For x the same weights again, added where they came from; for the grid differences of the taps."""
        one = 2 * self._taps(x) * y.numel
        of_grid = one * (x.rank - 2) if wanted[1] and self.mode != "nearest" else 0
        if not any(wanted):
            return Work()
        return Work(vector_flops=2 * grid.numel + (one if wanted[0] else 0) + of_grid)

    def saved(self, x: Tensor, grid: Tensor, y: Tensor) -> Saved:
        return Saved(inputs=(0, 1))

    def primitives(self, x: Tensor, grid: Tensor, y: Tensor) -> dict[str, Size]:
        read = y.numel * self._taps(x)
        return {GATHER: read, RANDOM: read, SEQUENTIAL: grid.numel + y.numel}

    def _inside(self, place: float, n: int) -> float:
        """A place moved inside by the border's rule."""
        if self.padding == "zeros":
            return place
        if self.padding == "reflection":
            low, span = (0.0, n - 1.0) if self.align_corners else (-0.5, float(n))
            if span == 0:
                return 0.0
            off = abs(place - low) % (2 * span)
            place = low + (off if off <= span else 2 * span - off)
        return min(max(place, 0.0), n - 1.0)

    def _weights(self, place: float, n: int) -> list[tuple[int, float]]:
        if self.mode == "cubic":
            first = floor(place)
            taps = [(j, _cubic(place - j, -0.75)) for j in range(first - 1, first + 3)]
            if self.padding != "zeros":
                return [(int(self._inside(float(j), n)), weight) for j, weight in taps]
        else:
            place = self._inside(place, n)
            if self.mode == "nearest":
                # halves to the even neighbour, as PyTorch rounds
                taps = [(round(place), 1.0)]
            else:
                first = floor(place)
                taps = [(first, 1 - (place - first)), (first + 1, place - first)]
        return [(j, weight) for j, weight in taps if 0 <= j < n]

    def loops(self, tally: Tally, x: Any, grid: Any) -> Any:
        import numpy as np

        y = np.zeros((*x.shape[:2], *grid.shape[1:-1]), x.dtype)
        for b, *at in np.ndindex(grid.shape[:-1]):
            rows = []
            # the last coordinate is of the first spatial dimension
            for n, place in zip(x.shape[2:], grid[b, *at][::-1], strict=True):
                at_input = (place + 1) / 2 * (n - 1) if self.align_corners else ((place + 1) * n - 1) / 2
                rows.append(self._weights(float(at_input), n))
            for taps in product(*rows):
                weight = 1.0
                for _, w in taps:
                    weight *= w
                y[b, :, *at] += weight * x[b, :, *[j for j, _ in taps]]
        return y

    def torch(self, torch: Any) -> Any:
        mode = {"linear": "bilinear", "cubic": "bicubic"}.get(self.mode, self.mode)
        sample = torch.nn.functional.grid_sample
        return lambda x, grid: sample(x, grid, mode, self.padding, self.align_corners)

    def to_onnx(self, w: OnnxWriter, x: str, grid: str) -> str:
        return w("GridSample", x, grid, mode=self.mode, padding_mode=self.padding,
                 align_corners=int(self.align_corners))  # fmt: skip

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        mode, batch = pick.choice(list(TAPS)), pick.size(1, 2)
        op = cls(mode, pick.choice(BORDERS), pick.choice([True, False]))
        x = Tensor((batch, pick.size(1, 2), pick.size(3, 4), pick.size(3, 4)))
        return op, [x, Tensor((batch, pick.size(1, 3), pick.size(1, 3), 2))]
