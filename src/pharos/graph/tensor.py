"""Tensor: the shape and element type of a value that flows through a graph."""

from dataclasses import dataclass

from pharos.quantity.dtypes import BITS, nbytes
from pharos.quantity.sizes import Size, prod

# Stands for the element type of a graph's activations until a Builder puts it in: what an operator
# answers when none of its inputs has the type of its output, as a table lookup's indices have not.
ACTIVATIONS = "activations"


@dataclass(frozen=True, slots=True)
class Tensor:
    """Shape and dtype; no data.

    Args:
        shape: sizes, outermost first (ints, arrays or symbols).
        dtype: canonical element type, see `quantity.dtypes`.
    """

    shape: tuple[Size, ...]
    dtype: str = "fp32"

    @property
    def numel(self) -> Size:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> Size:
        """Bytes, packed."""
        count = prod(self.shape)
        bits = BITS[self.dtype]
        return count * (bits >> 3) if bits >= 8 else nbytes(count, self.dtype)

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def with_shape(self, *shape: Size) -> "Tensor":
        """Another shape, the same dtype."""
        return Tensor(shape, self.dtype)

    def with_last(self, last: Size) -> "Tensor":
        """The same tensor with another size in the last dimension."""
        return Tensor((*self.shape[:-1], last), self.dtype)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


def shape_text(shape: tuple[Size, ...]) -> str:
    """A shape as people write it: 1x3x224x224, or () for a scalar."""
    return "x".join(map(str, shape)) if shape else "()"
