"""Reader: what every importer keeps: values, constants, owners of parameters, and the graph so far."""

from dataclasses import dataclass
from typing import Any

from pharos.graph.graph import Builder, Value
from pharos.graph.op import Op
from pharos.graph.tensor import ACTIVATIONS, Tensor
from pharos.ops.stored import Stored
from pharos.quantity.errors import InputError

FLOATS = ("fp64", "fp32", "bf16", "fp16", "fp8", "fp4")


@dataclass(frozen=True, slots=True)
class Constant:
    """A value known without running: an initialiser, or what follows from such and from shapes.

    Args:
        data: its numbers, if they are few.
        origins: initialisers that it is made of, in order; none for a constant that is no parameter.
        turned: it is the transpose of the one it is made of.
    """

    tensor: Tensor
    data: Any = None
    origins: tuple[str, ...] = ()
    turned: bool = False


class Reader:
    """The state of one import: what each name of the source stands for, and the graph being written."""

    def __init__(self, g: Builder, path: str) -> None:
        self.g, self.path = g, path
        self.values: dict[str, Value] = {}
        self.constants: dict[str, Constant] = {}
        self.used: set[str] = set()
        self._tried: dict[str, int] = {}
        # initialiser -> the full name that a parameter of the graph has for it
        self.owners: dict[str, str] = {}

    def origin(self, name: str) -> str:
        """The first initialiser that a constant is made of; "" for what is none."""
        found = self.constants.get(name)
        return found.origins[0] if found is not None and found.origins else ""

    def free(self, base: str) -> str:
        """`base`, or with a number if that is taken."""
        made, i = base, self._tried.get(base, 1)
        while made in self.used:
            made, i = f"{base}_{i}", i + 1
        # thousands of nodes may have one name
        self._tried[base] = i
        self.used.add(made)
        return made

    def place(
        self,
        path: str,
        op: Op,
        *values: Value,
        origins: dict[str, str],
        home: str | None = None,
        **how: Any,
    ) -> Any:
        """Appends an operator under a name; `origins` are the constants its parameters come from.

        Args:
            how: what else a Builder takes: element types of parameters and outputs.
        """
        tied, found = {}, {key: self.origin(origins.get(key, "")) for key in op.weights()}
        if home is None:
            # a parameter that the file calls otherwise than its node keeps its name
            stems = [o.removesuffix(key) for key, o in found.items() if o and o not in self.owners]
            if stems and stems[0].endswith(".") and stems[0] != f"{path}.":
                home = stems[0].removesuffix(".")
        stem = f"{path}." if home is None else f"{home}." if home else ""
        for key, origin in found.items():
            if origin in self.owners:
                tied[key] = self.owners[origin]
            elif origin:
                self.owners[origin] = f"{stem}{key}"
        return self.g(path, op, *values, tied=tied or None, home=home, **how)

    def value(self, name: str) -> Value:
        """An activation; a constant that is used as one is stored in the graph."""
        if name in self.values:
            return self.values[name]
        if self.written(name):
            return self.values[name]
        if name in self.constants:
            self.values[name] = self._stored(name, self.constants[name])
            return self.values[name]
        raise InputError(f"{name!r} is used before anything makes it", where=self.path)

    def written(self, name: str) -> bool:
        """Writes the operators that make a constant of others, if it is known how."""
        return False

    def _stored(self, name: str, constant: Constant) -> Value:
        """A constant as a value: trainable if it is an initialiser with more than one number."""
        tensor = constant.tensor
        floating = tensor.dtype in FLOATS
        trainable = floating and tensor.numel > 1 and bool(constant.origins)
        # a function of one parameter goes under that parameter's name
        called = constant.origins[0] if len(constant.origins) == 1 else name
        path = called.strip("/").replace("/", ".")
        stem, _, key = path.rpartition(".")
        op = Stored(tensor.shape, trainable, ACTIVATIONS if floating else tensor.dtype, key)
        return self.place(self.free(path), op, origins={key: name}, home=stem)

    def holds(self, name: str) -> bool:
        """Whether a name is an activation or a parameter, not a constant or a value inside a loop."""
        found = self.constants.get(name)
        return name in self.values or (found is not None and bool(found.origins) and found.tensor.numel > 1)

    def tensor(self, name: str) -> Tensor:
        """Shape and dtype of a value or constant."""
        return self.constants[name].tensor if name in self.constants else self.value(name).tensor

    def data(self, name: str) -> list[Any] | None:
        """A small constant's numbers, None when it is not one."""
        found = self.constants.get(name)
        return None if found is None or found.data is None else list(found.data)
