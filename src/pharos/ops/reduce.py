"""Reductions along one or several dimensions, places of extremes, running sums, the largest few."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pharos.graph.op import (
    REDUCE,
    SEQUENTIAL,
    STRIDED,
    OnnxWriter,
    Op,
    Parallelism,
    Picker,
    Saved,
    Tally,
    Work,
    operator,
)
from pharos.graph.tensor import Tensor
from pharos.quantity.errors import unknown
from pharos.quantity.sizes import Size, ceil_log2, is_int, minimum, prod


@dataclass(frozen=True, slots=True)
class Reduction:
    """A function of many numbers: operations as (vector, transcendental), an input and an output each.

    Args:
        of_input, of_output: forward; back_input, back_output: for the gradient.
        keeps: what the gradient is computed from: "input", "output", "both" or nothing.
        onnx: ONNX's name behind "Reduce"; "" where it takes several nodes.
    """

    of_input: tuple[int, int]
    of_output: tuple[int, int]
    back_input: tuple[int, int]
    back_output: tuple[int, int]
    keeps: str
    numpy: Callable[[Any, Any], Any]
    onnx: str = ""


REDUCTIONS = {
    "mean": Reduction((1, 0), (0, 1), (0, 0), (0, 1), "", lambda np, row: sum(row) / len(row), "Mean"),
    "sum": Reduction((1, 0), (0, 0), (0, 0), (0, 0), "", lambda np, row: sum(row), "Sum"),
    "max": Reduction((1, 0), (0, 0), (2, 0), (0, 0), "both", lambda np, row: max(row), "Max"),
    "min": Reduction((1, 0), (0, 0), (2, 0), (0, 0), "both", lambda np, row: min(row), "Min"),
    "prod": Reduction((1, 0), (0, 0), (1, 1), (1, 0), "both", lambda np, row: np.prod(row), "Prod"),
    "norm1": Reduction((2, 0), (0, 0), (2, 0), (0, 0), "input", lambda np, row: sum(abs(row)), "L1"),
    "norm2": Reduction((2, 0), (0, 1), (1, 0), (0, 1), "both", lambda np, row: sum(row * row) ** 0.5, "L2"),
    "sum_square": Reduction((2, 0), (0, 0), (2, 0), (0, 0), "input",
                            lambda np, row: sum(row * row), "SumSquare"),
    "log_sum": Reduction((1, 0), (0, 1), (0, 0), (0, 2), "output",
                         lambda np, row: np.log(sum(row)), "LogSum"),
    "log_sum_exp": Reduction((3, 1), (1, 1), (2, 1), (0, 0), "both",
                             lambda np, row: max(row) + np.log(sum(np.exp(row - max(row)))), "LogSumExp"),
    "var": Reduction((4, 0), (0, 2), (3, 0), (0, 2), "input", lambda np, row: np.var(row)),
    "std": Reduction((4, 0), (0, 3), (3, 0), (0, 3), "both", lambda np, row: np.std(row)),
    "any": Reduction((1, 0), (0, 0), (0, 0), (0, 0), "", lambda np, row: np.any(row)),
    "all": Reduction((1, 0), (0, 0), (0, 0), (0, 0), "", lambda np, row: np.all(row)),
}  # fmt: skip


@operator(
    cost="pool",
    aten="mean sum amax amin prod var std logsumexp any all norm linalg_vector_norm",
    onnx="ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum "
    "ReduceLogSumExp",
)
class Reduce(Op):
    """y = one of REDUCTIONS of x along `dim`; operations per input and per output are listed there.

    Args:
        dim: one dimension or several.
        correction: of a variance or deviation: it divides by the count less this.
    """

    dim: int | tuple[int, ...] = -1
    keepdim: bool = False
    function: str = "mean"
    correction: int = 0

    def __post_init__(self) -> None:
        if self.function not in REDUCTIONS:
            raise unknown("reduction", str(self.function), REDUCTIONS)

    def _dims(self, x: Tensor) -> list[int]:
        given = (self.dim,) if isinstance(self.dim, int) else self.dim
        for d in given:
            self.need(-x.rank <= d < x.rank, f"has no dimension {d}", x)
        found = sorted({d % x.rank for d in given})
        self.need(len(found) == len(given), "names a dimension twice", x)
        return found

    def _length(self, x: Tensor) -> Size:
        """Inputs of one output."""
        return prod([x.shape[d] for d in self._dims(x)])

    def shape(self, x: Tensor) -> Tensor:
        dims = self._dims(x)
        kept = [1 if i in dims else s for i, s in enumerate(x.shape) if self.keepdim or i not in dims]
        return Tensor(tuple(kept), "bool" if self.function in ("any", "all") else x.dtype)

    def work(self, x: Tensor, y: Tensor) -> Work:
        f = REDUCTIONS[self.function]
        return Work(
            vector_flops=f.of_input[0] * x.numel + f.of_output[0] * y.numel,
            transcendentals=f.of_input[1] * x.numel + f.of_output[1] * y.numel,
        )

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """Spread over what was reduced, times the derivative."""
        if not wanted[0]:
            return Work()
        f = REDUCTIONS[self.function]
        return Work(
            vector_flops=f.back_input[0] * x.numel + f.back_output[0] * y.numel,
            transcendentals=f.back_input[1] * x.numel + f.back_output[1] * y.numel,
        )

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        keeps = REDUCTIONS[self.function].keeps
        return Saved((0,) if keeps in ("input", "both") else (), (0,) if keeps in ("output", "both") else ())

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        return {SEQUENTIAL: x.numel + y.numel, REDUCE: x.numel}

    def parallelism(self, x: Tensor, y: Tensor) -> Parallelism:
        return Parallelism(width=prod(y.shape), tree=ceil_log2(self._length(x)))

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        out, dims = self.shape(Tensor(x.shape)), self._dims(Tensor(x.shape))
        rest = [d for d in range(x.ndim) if d not in dims]
        rows = x.transpose(*rest, *dims).reshape(prod(x.shape[d] for d in rest), -1)
        y = np.empty(len(rows), bool if out.dtype == "bool" else x.dtype)
        # the logarithm of a negative sum is not a number, silently, as in PyTorch
        with np.errstate(divide="ignore", invalid="ignore"):
            for i, row in enumerate(rows):
                y[i] = REDUCTIONS[self.function].numpy(np, row)
                if self.function in ("var", "std"):
                    more = len(row) / (len(row) - self.correction)
                    y[i] *= more if self.function == "var" else more**0.5
        return y.reshape(out.shape)

    def torch(self, torch: Any) -> Any:
        dims, keep = (
            (self.dim,) if isinstance(self.dim, int) else self.dim,
            self.keepdim,
        )

        def product(x: Any) -> Any:
            for d in sorted((d % x.dim() for d in dims), reverse=True):
                x = torch.prod(x, d, keepdim=keep)
            return x

        return {
            "mean": lambda x: torch.mean(x, dims, keepdim=keep),
            "sum": lambda x: torch.sum(x, dims, keepdim=keep),
            "max": lambda x: torch.amax(x, dims, keepdim=keep),
            "min": lambda x: torch.amin(x, dims, keepdim=keep),
            "prod": product,
            "norm1": lambda x: torch.sum(torch.abs(x), dims, keepdim=keep),
            "norm2": lambda x: torch.linalg.vector_norm(x, 2, dims, keepdim=keep),
            "sum_square": lambda x: torch.sum(torch.square(x), dims, keepdim=keep),
            "log_sum": lambda x: torch.log(torch.sum(x, dims, keepdim=keep)),
            "log_sum_exp": lambda x: torch.logsumexp(x, dims, keepdim=keep),
            "var": lambda x: torch.var(x, dims, correction=self.correction, keepdim=keep),
            "std": lambda x: torch.std(x, dims, correction=self.correction, keepdim=keep),
            "any": lambda x: torch.any(x, dims, keepdim=keep),
            "all": lambda x: torch.all(x, dims, keepdim=keep),
        }[self.function]

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        given, dims, keep = w.node.ins[0], self._dims(w.node.ins[0]), int(self.keepdim)
        if self.function in ("any", "all"):
            kind = "ReduceMax" if self.function == "any" else "ReduceMin"
            # whole numbers, for runtimes that reduce no truths
            return w("Cast", w(kind, w("Cast", x, to=6), w.ints(*dims), keepdims=keep), to=9)
        if self.function in ("var", "std"):
            off = w("Sub", x, w("ReduceMean", x, w.ints(*dims), keepdims=1))
            over = w.number(self._length(given) - self.correction)
            y = w("Div", w("ReduceSumSquare", off, w.ints(*dims), keepdims=keep), over)
            return y if self.function == "var" else w("Sqrt", y)
        return w(f"Reduce{REDUCTIONS[self.function].onnx}", x, w.ints(*dims), keepdims=keep)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        function = pick.choice(list(REDUCTIONS))
        shape = tuple(pick.size(2, 4) for _ in range(pick.int(2, 3)))
        dim = pick.choice([0, -1, (0, 1), (-1, 0)])
        kind = "bool" if function in ("any", "all") else "fp32"
        op = cls(
            dim, pick.choice([True, False]), function, pick.int(0, 1) if function in ("var", "std") else 0
        )
        return op, [Tensor(shape, kind)]


@operator(cost="pool", aten="argmax argmin", onnx="ArgMax ArgMin")
class ArgReduce(Op):
    """y = where along `dim` the largest (or smallest) of x stands; one comparison an input.

    Args:
        last: of equals the last one counts, not the first.
    """

    dim: int = -1
    keepdim: bool = False
    function: str = "max"
    last: bool = False

    def __post_init__(self) -> None:
        if self.function not in ("max", "min"):
            raise unknown("extreme", str(self.function), ("max", "min"))

    def shape(self, x: Tensor) -> Tensor:
        self.need(-x.rank <= self.dim < x.rank, f"has no dimension {self.dim}", x)
        at = self.dim % x.rank
        return Tensor((*x.shape[:at], *((1,) if self.keepdim else ()), *x.shape[at + 1 :]), "int64")

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(vector_flops=x.numel)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """None: places are whole numbers."""
        return Work()

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved()

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        return {SEQUENTIAL: x.numel + y.numel, REDUCE: x.numel}

    def parallelism(self, x: Tensor, y: Tensor) -> Parallelism:
        return Parallelism(width=prod(y.shape), tree=ceil_log2(x.shape[self.dim]))

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        moved = np.moveaxis(x, self.dim, -1)
        y = np.zeros(moved.shape[:-1], np.int64)
        for at in np.ndindex(y.shape):
            best = moved[at][0]
            for i, value in enumerate(moved[at]):
                better = value > best if self.function == "max" else value < best
                if better or (self.last and value == best):
                    best, y[at] = value, i
        return np.expand_dims(y, self.dim) if self.keepdim else y

    def torch(self, torch: Any) -> Any:
        find = torch.argmax if self.function == "max" else torch.argmin
        if not self.last:
            return lambda x: find(x, self.dim, keepdim=self.keepdim)
        return lambda x: x.shape[self.dim] - 1 - find(x.flip(self.dim), self.dim, keepdim=self.keepdim)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        return w(f"Arg{self.function.title()}", x, axis=self.dim, keepdims=int(self.keepdim),
                 select_last_index=int(self.last))  # fmt: skip

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        shape = tuple(pick.size(1, 4) for _ in range(pick.int(2, 3)))
        op = cls(pick.choice([0, 1, -1]), pick.choice([True, False]), pick.choice(["max", "min"]),
                 pick.choice([True, False]))  # fmt: skip
        return op, [Tensor(shape)]


@operator(cost="pool", aten="cumsum cumprod", onnx="CumSum CumProd")
class Cumulate(Op):
    """y[i] = x[0] + ... + x[i] along `dim`, or the product; one operation an element.

    Args:
        exclusive: without x[i] itself; reverse: from the end.
    """

    dim: int = -1
    function: str = "sum"
    exclusive: bool = False
    reverse: bool = False

    def __post_init__(self) -> None:
        if self.function not in ("sum", "prod"):
            raise unknown("running reduction", str(self.function), ("sum", "prod"))

    def shape(self, x: Tensor) -> Tensor:
        self.need(-x.rank <= self.dim < x.rank, f"has no dimension {self.dim}", x)
        return x

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(vector_flops=x.numel)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """The running sum from the other end; of a product, of y dy, divided by x."""
        if not wanted[0]:
            return Work()
        if self.function == "sum":
            return Work(vector_flops=x.numel)
        return Work(vector_flops=2 * x.numel, transcendentals=x.numel)

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved() if self.function == "sum" else Saved((0,), (0,))

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        return {SEQUENTIAL: x.numel + y.numel, REDUCE: x.numel}

    def parallelism(self, x: Tensor, y: Tensor) -> Parallelism:
        return Parallelism(width=y.numel, tree=ceil_log2(x.shape[self.dim]))

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        moved = np.moveaxis(x, self.dim, -1)
        y = np.empty(moved.shape, x.dtype)
        for at in np.ndindex(moved.shape[:-1]):
            total = 0 if self.function == "sum" else 1
            order = range(moved.shape[-1])
            for i in reversed(order) if self.reverse else order:
                after = total + moved[at][i] if self.function == "sum" else total * moved[at][i]
                y[at][i] = total if self.exclusive else after
                total = after
        return np.moveaxis(y, -1, self.dim)

    def torch(self, torch: Any) -> Any:
        run = torch.cumsum if self.function == "sum" else torch.cumprod

        def cumulate(x: Any) -> Any:
            x = x.flip(self.dim) if self.reverse else x
            if self.exclusive:
                first = torch.full_like(x.narrow(self.dim, 0, 1), float(self.function == "prod"))
                x = torch.cat([first, x.narrow(self.dim, 0, x.shape[self.dim] - 1)], self.dim)
            y = run(x, self.dim)
            return y.flip(self.dim) if self.reverse else y

        return cumulate

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        import numpy as np

        if self.function == "prod":
            return self._products(w, x)
        at = w.table(np.array(self.dim, np.int64))
        return w("CumSum", x, at, exclusive=int(self.exclusive), reverse=int(self.reverse))

    def _products(self, w: OnnxWriter, x: str) -> str:
        """Step by step: the standard has running products only from opset 26 on."""
        import numpy as np

        given = w.node.ins[0]
        at = self.dim % given.rank
        row = given.with_shape(*given.shape[:at], *given.shape[at + 1 :])

        def turned(value: str) -> str:
            return w("Slice", value, w.ints(-1), w.ints(-given.shape[at] - 1), w.ints(at), w.ints(-1))

        def step(total: str, value: str) -> list[str]:
            after = w("Mul", total, value)
            return [after, total if self.exclusive else w("Identity", after)]

        first = w.table(np.ones(row.shape))
        y = w.scan(step, [(first, row)], [(turned(x) if self.reverse else x, row)], [row], at)[1]
        return turned(y) if self.reverse else y

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        shape = tuple(pick.size(1, 4) for _ in range(pick.int(2, 3)))
        return cls(pick.choice([0, -1]), pick.choice(["sum", "sum", "prod"]), pick.choice([True, False]),
                   pick.choice([True, False])), [Tensor(shape)]  # fmt: skip


@operator(cost="pool", aten="topk sort", onnx="TopK")
class TopK(Op):
    """The `k` largest (or smallest) along `dim` and where they stood, in order; k None sorts them all.

    A tournament: n + k log2 n comparisons for k of n.
    """

    k: Size | None = None
    dim: int = -1
    largest: bool = True

    def shape(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.need(-x.rank <= self.dim < x.rank, f"has no dimension {self.dim}", x)
        at = self.dim % x.rank
        kept = x.shape[at] if self.k is None else self.k
        if is_int(kept) and is_int(x.shape[at]):
            self.need(0 < kept <= x.shape[at], f"takes {kept} of {x.shape[at]}", x)
        shape = (*x.shape[:at], kept, *x.shape[at + 1 :])
        return Tensor(shape, x.dtype), Tensor(shape, "int64")

    def work(self, x: Tensor, *outs: Tensor) -> Work:
        return Work(vector_flops=x.numel + outs[0].numel * ceil_log2(x.shape[self.dim]))

    def gradient(self, wanted: Sequence[bool], x: Tensor, *outs: Tensor) -> Work:
        """Gradients are put back where the values came from."""
        return Work()

    def saved(self, x: Tensor, *outs: Tensor) -> Saved:
        return Saved(outputs=(1,))

    def gradient_traffic(self, wanted: Sequence[bool], node: Any) -> Any:
        from pharos.graph.op import Traffic

        if not wanted[0]:
            return Traffic()
        return Traffic(inputs=sum(t.nbytes for t in node.outs), outputs=node.ins[0].nbytes)

    def primitives(self, x: Tensor, *outs: Tensor) -> dict[str, Size]:
        kept = outs[0].numel
        return {SEQUENTIAL: x.numel + 2 * kept, STRIDED: kept, REDUCE: x.numel}

    def parallelism(self, x: Tensor, *outs: Tensor) -> Parallelism:
        return Parallelism(width=outs[0].numel, tree=ceil_log2(x.shape[self.dim]))

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        moved = np.moveaxis(x, self.dim, -1)
        n = moved.shape[-1]
        kept = n if self.k is None else self.k
        values = np.empty((*moved.shape[:-1], kept), x.dtype)
        places = np.empty(values.shape, np.int64)
        for at in np.ndindex(moved.shape[:-1]):
            # of equals the first comes first
            order = sorted(range(n), key=lambda i: (-moved[at][i] if self.largest else moved[at][i], i))[
                :kept
            ]
            values[at], places[at] = moved[at][order], order
        return np.moveaxis(values, -1, self.dim), np.moveaxis(places, -1, self.dim)

    def torch(self, torch: Any) -> Any:
        def pick(x: Any) -> Any:
            if self.k is None:
                return tuple(torch.sort(x, dim=self.dim, descending=self.largest, stable=True))
            return tuple(torch.topk(x, self.k, self.dim, self.largest))

        return pick

    def to_onnx(self, w: OnnxWriter, x: str) -> list[str]:
        kept = w.node.outs[0].shape[self.dim]
        return w("TopK", x, w.ints(kept), outputs=2, axis=self.dim, largest=int(self.largest))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        n, k, form = pick.size(3, 5), pick.size(1, 3), pick.choice(["k", "all"])
        other, first = pick.size(1, 3), pick.choice([True, False])
        op = cls(None if form == "all" else minimum(k, n), 0 if first else -1, pick.choice([True, False]))
        return op, [Tensor((n, other) if first else (other, n))]
