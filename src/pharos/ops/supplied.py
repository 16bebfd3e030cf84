"""Supplied: an operator whose weights another operator computes, as normalised or sliced ones are."""

from collections.abc import Sequence
from typing import Any

from pharos.graph.op import Op, Parallelism, Picker, Saved, Tally, Work, op_class, operator
from pharos.graph.tensor import Tensor
from pharos.quantity.sizes import Size


@operator(cost="elementwise")
class Supplied(Op):
    """The operator `of` with some of its weights given as further inputs, after its own.

    Args:
        of, fields: kind and hyperparameters of that operator.
        inputs: how many inputs it has of its own.
        keys: the weights that are given, in the order they are.
    """

    of: str
    fields: tuple[tuple[str, Any], ...]
    inputs: int
    keys: tuple[str, ...]

    @classmethod
    def around(cls, op: Op, keys: Sequence[str], inputs: int = 1) -> "Supplied":
        """`op` with the weights `keys` as inputs."""
        from dataclasses import fields

        held = tuple((f.name, getattr(op, f.name)) for f in fields(op))  # type: ignore[arg-type]
        return cls(op.kind, held, inputs, tuple(keys))

    @property
    def op(self) -> Op:
        """The operator itself."""
        return op_class(self.of)(**dict(self.fields))

    def _own(self, io: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (*io[: self.inputs], *io[self.inputs + len(self.keys) :])

    def shape(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        self.need(len(inputs) == self.inputs + len(self.keys), "lacks weights", *inputs)
        expected = self.op.weights()
        for key, given in zip(self.keys, inputs[self.inputs :], strict=True):
            for got, want in zip(given.shape, expected[key], strict=True):
                self.match(got, want, f"a size of {key}", *inputs)
        return self.op.shape(*inputs[: self.inputs])

    def weights(self) -> dict[str, tuple[Size, ...]]:
        return {k: v for k, v in self.op.weights().items() if k not in self.keys}

    def buffers(self) -> dict[str, tuple[Size, ...]]:
        return self.op.buffers()

    def work(self, *io: Tensor) -> Work:
        return self.op.work(*self._own(io))

    def workspace(self, *io: Tensor) -> Size:
        return self.op.workspace(*self._own(io))

    def gradient(self, wanted: Sequence[bool], *io: Tensor) -> Work:
        return self.op.gradient(wanted[: self.inputs], *self._own(io))

    def saved(self, *io: Tensor) -> Saved:
        """What the operator keeps, and the weights it was given."""
        kept = self.op.saved(*self._own(io))
        given = range(self.inputs, self.inputs + len(self.keys))
        return Saved((*kept.inputs, *given), kept.outputs, kept.extra, kept.held)

    def class_of(self, *io: Tensor) -> str:
        return self.op.class_of(*self._own(io))

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        return self.op.primitives(*self._own(io))

    def parallelism(self, *io: Tensor) -> Parallelism:
        return self.op.parallelism(*self._own(io))

    def loops(self, tally: Tally, *arrays: Any, **weights: Any) -> Any:
        given = dict(zip(self.keys, arrays[self.inputs :], strict=True))
        return self.op.loops(tally, *arrays[: self.inputs], **weights, **given)

    def torch(self, torch: Any) -> Any:
        keys, inputs, made = self.keys, self.inputs, self.op.torch(torch)

        class Given(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                for name, tensor in made.named_parameters():
                    if name not in keys:
                        self.register_parameter(name, tensor)
                for name, tensor in made.named_buffers():
                    self.register_buffer(name, tensor)
                # outside the module tree: its parameters are this module's, or inputs
                object.__setattr__(self, "_call", made)

            def forward(self, *given: Any) -> Any:
                held = dict(self.named_parameters()) | dict(self.named_buffers())
                held |= dict(zip(keys, given[inputs:], strict=True))
                return torch.func.functional_call(self._call, held, given[:inputs])

        return Given()

    def to_onnx(self, w: Any, *inputs: str) -> Any:
        given = dict(zip(self.keys, inputs[self.inputs :], strict=True))
        writer: Any = _Writer(w, given)
        return self.op.to_onnx(writer, *inputs[: self.inputs])

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        inside = op_class(pick.choice(["linear", "conv1d"]))
        op, tensors = inside.sample(pick)
        keys = ["weight"]
        return cls.around(op, keys, len(tensors)), [*tensors, *[Tensor(op.weights()[k]) for k in keys]]


class _Writer:
    """A writer that answers for the weights that are given."""

    def __init__(self, w: Any, given: dict[str, str]) -> None:
        self._w, self._given = w, given

    def __getattr__(self, name: str) -> Any:
        return getattr(self._w, name)

    def __call__(self, *arguments: Any, **attributes: Any) -> Any:
        return self._w(*arguments, **attributes)

    def parameter(self, key: str) -> str:
        """The name of a weight: of the input that it is, or as usual."""
        return self._given[key] if key in self._given else self._w.parameter(key)
