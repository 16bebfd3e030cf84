"""PyTorch rules for calls that have no operator of ours that runs: their work follows from their shapes."""

from typing import Any

from pharos.convert.reader import FLOATS
from pharos.convert.torch_record import TorchReader, tensors_in
from pharos.convert.torch_rules import rule
from pharos.graph.graph import Value
from pharos.graph.tensor import ACTIVATIONS
from pharos.ops.activation import Activation
from pharos.ops.copies import Full
from pharos.ops.elementwise import Clamp, Mul
from pharos.ops.linear import MatMul
from pharos.ops.priced import Priced
from pharos.ops.reduce import Reduce
from pharos.ops.shape_ops import Concat, Transpose
from pharos.quantity.sizes import Size, ceil_log2, floor_div, prod


def priced(r: TorchReader, name: str, *given: Any, macs: Size = 0, vector_flops: Size = 0,
           transcendentals: Size = 0, cost: str = "elementwise") -> Any:  # fmt: skip
    """Appends a call of stated work, with the outputs that PyTorch gave it."""
    outs = list(tensors_in(r.torch, r.out))
    kinds = tuple(ACTIVATIONS if r.dtype(t.dtype) in FLOATS else r.dtype(t.dtype) for t in outs)
    op = Priced(f"aten::{name}", tuple(r.sizes(t.shape) for t in outs), kinds, macs, vector_flops,
                transcendentals, cost=cost)  # fmt: skip
    return r.put(name, op, *[g if isinstance(g, Value) else r.of(g) for g in given])


@rule("linalg_solve_triangular")
def _solve_triangular(r: TorchReader, self: Any, right: Any, *, upper: bool, left: bool = True,
                      unitriangular: bool = False) -> Any:  # fmt: skip
    """By substitution: n (n - 1) / 2 products a column, and a division an element unless the diagonal is one.

    Source: Golub and Van Loan, Matrix Computations, 4th edition, section 3.1.
    """
    n, out = r.size(self.shape[-1]), r.sizes(r.out.shape)
    products = floor_div(prod(out) * (n - 1), 2)
    return priced(r, "linalg_solve_triangular", self, right, macs=products,
                  vector_flops=0 if unitriangular else prod(out), cost="matmul")  # fmt: skip


@rule("cummax", "cummin")
def _running_extreme(r: TorchReader, self: Any, dim: int) -> Any:
    """A comparison an element."""
    return priced(r, "cummax", self, vector_flops=prod(r.sizes(self.shape)), cost="pool")


@rule("unique_consecutive")
def _unique_consecutive(r: TorchReader, self: Any, *_: Any, **__: Any) -> Any:
    """Each element is compared with the one before."""
    return priced(r, "unique_consecutive", self, vector_flops=prod(r.sizes(self.shape)), cost="gather")


@rule("_unique2", "unique_dim", "_unique")
def _unique(r: TorchReader, self: Any, *_: Any, **__: Any) -> Any:
    """Sorted by comparisons, n log2 n of them, then each is compared with the one before."""
    n = prod(r.sizes(self.shape))
    return priced(r, "unique", self, vector_flops=n * (ceil_log2(n) + 1), cost="gather")


@rule("multinomial")
def _drawn(r: TorchReader, self: Any, num_samples: int, *_: Any, **__: Any) -> Any:
    """A running sum of the weights, and a search in it for each that is drawn."""
    n, drawn = prod(r.sizes(self.shape)), prod(r.sizes(r.out.shape))
    steps = ceil_log2(r.size(self.shape[-1])) + 1
    return priced(
        r, "multinomial", self, vector_flops=n + drawn * steps, transcendentals=drawn, cost="gather"
    )


@rule("erfinv", "lgamma", "digamma", "special_ndtri", "i0")
def _special(r: TorchReader, self: Any) -> Any:
    """One transcendental function an element."""
    return priced(r, "special", self, transcendentals=prod(r.sizes(self.shape)))


@rule("median", "nanmedian", "kthvalue", "mode")
def _ranked(r: TorchReader, self: Any, *arguments: Any, dim: Any = None, **_: Any) -> Any:
    """By sorting: log2 of their number comparisons an element."""
    whole = [a for a in arguments if isinstance(a, int) and not isinstance(a, bool)]
    at = dim if dim is not None else whole[-1] if whole else None
    n = prod(r.sizes(self.shape))
    length = n if at is None or not self.dim() else r.size(self.shape[at])
    return priced(r, "median", self, vector_flops=n * ceil_log2(length), cost="pool")


@rule("_euclidean_dist")
def _distances(r: TorchReader, x1: Any, x2: Any) -> Any:
    """Root of |a|^2 + |b|^2 - 2ab: PyTorch multiplies rows that carry both squares, d + 2 products a pair."""
    parts = [r.of(x1), r.of(x2)]
    for i, x in enumerate(parts):
        squares = r.put("sum", Reduce(x.tensor.rank - 1, True, "sum"), r.put("square", Mul(), x, x))
        ones = r.put("full", Full(squares.shape, 1.0, ACTIVATIONS))
        rows = r.put("mul", Mul(scalar=-2.0), x) if i == 0 else x
        joined = (rows, squares, ones) if i == 0 else (rows, ones, squares)
        parts[i] = r.put("cat", Concat(x.tensor.rank - 1), *joined)
    rank = parts[1].tensor.rank
    turned = r.put("transpose", Transpose((*range(rank - 2), rank - 1, rank - 2), view=True), parts[1])
    kept = r.put("clamp", Clamp(0.0, None), r.put("matmul", MatMul(), parts[0], turned))
    return r.put("sqrt", Activation("sqrt"), kept)
