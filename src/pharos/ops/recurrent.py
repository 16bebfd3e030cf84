"""Recurrences: Elman RNN, LSTM and GRU; a chain of steps over a state of fixed size."""

from collections.abc import Sequence
from typing import Any, ClassVar

from pharos.graph.op import (
    BROADCAST,
    MATMUL,
    REDUCE,
    SEQUENTIAL,
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
from pharos.quantity.sizes import Size, ceil_log2


class _Recurrent(Op):
    """What the cells share: x[B, T, I] -> y[B, T, H * directions], batch first.

    Each layer and direction has weight_ih[g H, in], weight_hh[g H, H] and two biases, g gates;
    macs = B T g H (in + H) each. Only the state is kept between calls, whatever T. With `final` the
    states after the last step, [layers * directions, B, H], are outputs too.
    """

    __slots__ = ()
    gates = 1
    # Vector and transcendental operations of one step beyond the products and biases, per unit.
    vector_per_unit = 0
    transcendental_per_unit = 1
    # The same on the way back, and numbers kept for it: gates, cell state, what the gates gate.
    vector_back = 3
    transcendental_back = 0
    kept_per_unit = 0
    states = ("h",)
    # PyTorch's number of each gate, in the order of ONNX.
    onnx_order: ClassVar[tuple[int, ...]] = (0,)
    input_size: Size
    hidden_size: Size
    num_layers: int
    bias: bool
    bidirectional: bool
    final: bool

    @property
    def directions(self) -> int:
        """1, or 2 when bidirectional."""
        return 2 if self.bidirectional else 1

    def shape(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        self.need(self.num_layers >= 1, "needs at least one layer", x)
        self.need(x.rank == 3, "needs an input of rank 3", x)
        self.match(x.shape[2], self.input_size, "input_size", x)
        y = x.with_last(self.hidden_size * self.directions)
        last = x.with_shape(self.num_layers * self.directions, x.shape[0], self.hidden_size)
        return (y, *[last for _ in self.states]) if self.final else y

    def _cells(self) -> list[tuple[str, Size]]:
        """(name suffix, input width) of every layer and direction."""
        return [
            (f"l{layer}{suffix}", self.input_size if layer == 0 else self.hidden_size * self.directions)
            for layer in range(self.num_layers)
            for suffix in ("", "_reverse")[: self.directions]
        ]

    def weights(self) -> dict[str, tuple[Size, ...]]:
        rows, found = self.gates * self.hidden_size, {}
        for name, width in self._cells():
            found[f"weight_ih_{name}"] = (rows, width)
            found[f"weight_hh_{name}"] = (rows, self.hidden_size)
            if self.bias:
                found[f"bias_ih_{name}"] = (rows,)
                found[f"bias_hh_{name}"] = (rows,)
        return found

    def state(self, x: Tensor, y: Tensor, *finals: Tensor) -> dict[str, tuple[Size, ...]]:
        held = (self.num_layers * self.directions, x.shape[0], self.hidden_size)
        return dict.fromkeys(self.states, held)

    def work(self, x: Tensor, y: Tensor, *finals: Tensor) -> Work:
        steps = x.shape[0] * x.shape[1]
        total = Work()
        for _, width in self._cells():
            rows = self.gates * self.hidden_size
            # the sum of the two products, and a bias each
            vector = rows * (3 if self.bias else 1) + self.vector_per_unit * self.hidden_size
            total = total + Work(
                macs=steps * rows * (width + self.hidden_size),
                vector_flops=steps * vector,
                transcendentals=steps * self.transcendental_per_unit * self.hidden_size,
            )
        return total

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor, *finals: Tensor) -> Work:
        """Back through time: for each step and cell products with both matrices, and with both inputs.

        The way back to the input of a first layer is left out where its gradient is not wanted, and that
        to the state before the first step. Biases sum their gates; `vector_back` operations a unit go
        through the gates.
        """
        steps, later = x.shape[0] * x.shape[1], x.shape[0] * (x.shape[1] - 1)
        total = Work()
        for at, (_, width) in enumerate(self._cells()):
            rows = self.gates * self.hidden_size
            into = width if at >= self.directions or wanted[0] else 0
            total = total + Work(
                macs=rows * (steps * (width + into + self.hidden_size) + later * self.hidden_size),
                vector_flops=steps * (self.vector_back * self.hidden_size + (2 * rows if self.bias else 0)),
                transcendentals=steps * self.transcendental_back * self.hidden_size,
            )
        return total

    def saved(self, x: Tensor, y: Tensor, *finals: Tensor) -> Saved:
        """Input and output; the gates (and cell states) of every step, and the layers in between."""
        batch, steps, _ = x.shape
        cells, between = self.num_layers * self.directions, (self.num_layers - 1) * self.directions
        extra = {"gates": x.with_shape(cells, batch, steps, self.kept_per_unit * self.hidden_size)}
        if between:
            extra["layers"] = x.with_shape(between, batch, steps, self.hidden_size)
        return Saved((0,), (0,), extra)

    def primitives(self, x: Tensor, y: Tensor, *finals: Tensor) -> dict[str, Size]:
        macs = self.work(x, y).macs
        return {MATMUL: macs, SEQUENTIAL: x.numel + y.numel, BROADCAST: macs, REDUCE: macs}

    def parallelism(self, x: Tensor, y: Tensor, *finals: Tensor) -> Parallelism:
        # the two directions run side by side, layers and steps one after the other
        return Parallelism(
            width=x.shape[0] * self.gates * self.hidden_size * self.directions,
            depth=x.shape[1] * self.num_layers,
            tree=ceil_log2(self.input_size + self.hidden_size),
        )

    def _step(self, np: Any, gi: Any, gh: Any, h: Any, c: Any) -> tuple[Any, Any]:
        raise NotImplementedError

    def loops(self, tally: Tally, x: Any, **weights: Any) -> Any:
        import numpy as np

        layer_input, outputs = x, []
        cells = self._cells()
        last = np.zeros((len(self.states), len(cells), len(x), self.hidden_size), x.dtype)
        for at, (name, _) in enumerate(cells):
            w_ih, w_hh = weights[f"weight_ih_{name}"], weights[f"weight_hh_{name}"]
            b_ih = weights.get(f"bias_ih_{name}", np.zeros(len(w_ih)))
            b_hh = weights.get(f"bias_hh_{name}", np.zeros(len(w_ih)))
            y = np.zeros((*x.shape[:2], self.hidden_size), x.dtype)
            times = range(x.shape[1])
            for b in range(x.shape[0]):
                h = c = np.zeros(self.hidden_size, x.dtype)
                for t in reversed(times) if name.endswith("_reverse") else times:
                    gi, gh = b_ih.copy(), b_hh.copy()
                    for row in range(len(w_ih)):
                        for k in range(w_hh.shape[1]):
                            gh[row] += w_hh[row, k] * h[k]
                            tally.macs += 1
                        for k in range(w_ih.shape[1]):
                            gi[row] += w_ih[row, k] * layer_input[b, t, k]
                            tally.macs += 1
                    h, c = self._step(np, gi, gh, h, c)
                    y[b, t] = h
                last[:, at, b] = [h, c][: len(self.states)]
            outputs.append(y)
            if (at + 1) % self.directions == 0:
                layer_input, outputs = np.concatenate(outputs, 2), []
        return (layer_input, *last) if self.final else layer_input

    def torch(self, torch: Any) -> Any:
        made = getattr(torch.nn, type(self).__name__)

        names, final = self.states, self.final

        class First(made):
            def forward(self, x: Any, state: Any = None) -> Any:
                past: Any = tuple(state[n] for n in names) if state else None
                y, kept = super().forward(x, past[0] if past and len(names) == 1 else past)
                each = kept if len(names) > 1 else (kept,)
                if state is not None:
                    state.update(zip(names, each, strict=True))
                return (y, *each) if final else y

        extra = {"nonlinearity": self.nonlinearity} if isinstance(self, RNN) else {}
        return First(self.input_size, self.hidden_size, self.num_layers, bias=self.bias, batch_first=True,
                     bidirectional=self.bidirectional, **extra)  # fmt: skip

    def to_onnx(self, w: OnnxWriter, x: str) -> str | list[str]:
        """One ONNX node a layer, time first, over gates in ONNX's order."""
        batch, steps, _ = w.node.ins[0].shape

        def gates(name: str) -> str:
            if self.gates == 1:
                return w.parameter(name)
            parts = w("Split", w.parameter(name), outputs=self.gates, axis=0, num_outputs=self.gates)
            return w("Concat", *[parts[i] for i in self.onnx_order], axis=0)

        def stacked(*kinds: str) -> str:
            rows = []
            for cell in cells:
                parts = [gates(f"{kind}_{cell}") for kind in kinds]
                row = parts[0] if len(parts) == 1 else w("Concat", *parts, axis=0)
                rows.append(w("Unsqueeze", row, w.ints(0)))
            return rows[0] if len(rows) == 1 else w("Concat", *rows, axis=0)

        y, last = w("Transpose", x, perm=(1, 0, 2)), []
        for layer in range(self.num_layers):
            cells = [name for name, _ in self._cells()][layer * self.directions :][: self.directions]
            weights = [stacked("weight_ih"), stacked("weight_hh")]
            full, *ends = w(
                type(self).__name__, y, *weights, *([stacked("bias_ih", "bias_hh")] if self.bias else []),
                hidden_size=self.hidden_size,
                direction="bidirectional" if self.bidirectional else "forward", outputs=1 + len(self.states),
                **self._onnx_form(),
            )  # fmt: skip
            last.append(ends)
            # [T, directions, B, H]
            if self.bidirectional:
                full = w("Transpose", full, perm=(0, 2, 1, 3))
            y = w("Reshape", full, w.ints(steps, batch, self.hidden_size * self.directions))
        y = w("Transpose", y, perm=(1, 0, 2))
        if not self.final:
            return y
        return [y, *[w("Concat", *[ends[i] for ends in last], axis=0) for i in range(len(self.states))]]

    def _onnx_form(self) -> dict[str, Any]:
        """Attributes by which ONNX computes what PyTorch does."""
        return {}

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        width = pick.size(1, 3)
        make: Any = cls
        extra = {"nonlinearity": pick.choice(["tanh", "relu"])} if cls is RNN else {}
        op = make(
            width, pick.size(1, 3), pick.int(1, 2), pick.choice([True, False]), pick.choice([True, False]),
            final=pick.choice([True, False]), **extra,
        )  # fmt: skip
        return op, [Tensor((pick.size(1, 2), pick.size(1, 4), width))]


def _sigmoid(np: Any, x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


@operator(cost="recurrence", aten="rnn_tanh rnn_relu", onnx="RNN")
class RNN(_Recurrent):
    """h_t = f(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh), f tanh or relu.

    Per unit and step, beyond the gate sum: 1 transcendental operation for tanh, 1 comparison for relu.
    """

    input_size: Size
    hidden_size: Size
    num_layers: int = 1
    bias: bool = True
    bidirectional: bool = False
    nonlinearity: str = "tanh"
    final: bool = False

    def __post_init__(self) -> None:
        if self.nonlinearity not in ("tanh", "relu"):
            raise unknown("nonlinearity", str(self.nonlinearity), ("tanh", "relu"))

    def work(self, x: Tensor, y: Tensor, *finals: Tensor) -> Work:
        work = _Recurrent.work(self, x, y, *finals)
        if self.nonlinearity == "tanh":
            return work
        return Work(macs=work.macs, vector_flops=work.vector_flops + work.transcendentals)

    def _step(self, np: Any, gi: Any, gh: Any, h: Any, c: Any) -> tuple[Any, Any]:
        total = gi + gh
        return (np.tanh(total) if self.nonlinearity == "tanh" else np.maximum(total, 0)), c

    def _onnx_form(self) -> dict[str, Any]:
        return {"activations": [self.nonlinearity.title()] * self.directions}


@operator(cost="recurrence", aten="lstm", onnx="LSTM")
class LSTM(_Recurrent):
    """i, f, o = sigmoid, g = tanh of four gate sums; c_t = f c + i g; h_t = o tanh(c_t).

    Per unit and step, beyond the gate sums: 3 products, 1 addition and an addition in each of 3
    sigmoids, 7 vector operations; an exponential and a division a sigmoid and 2 tanh, 8 transcendental.
    """

    input_size: Size
    hidden_size: Size
    num_layers: int = 1
    bias: bool = True
    bidirectional: bool = False
    final: bool = False
    gates = 4
    vector_per_unit = 7
    transcendental_per_unit = 8
    # four derivatives of four operations each, the cell state's five and its tanh again
    vector_back = 21
    transcendental_back = 1
    kept_per_unit = 5
    states = ("h", "c")
    # i, o, f, c
    onnx_order = (0, 3, 1, 2)

    def _step(self, np: Any, gi: Any, gh: Any, h: Any, c: Any) -> tuple[Any, Any]:
        i, f, g, o = np.split(gi + gh, 4)
        c = _sigmoid(np, f) * c + _sigmoid(np, i) * np.tanh(g)
        return _sigmoid(np, o) * np.tanh(c), c


@operator(cost="recurrence", aten="gru", onnx="GRU")
class GRU(_Recurrent):
    """r, z = sigmoid of gate sums; n = tanh(gi_n + r gh_n); h_t = (1 - z) n + z h.

    Per unit and step, beyond the gate sums: r gh_n, 1 - z, two products and their sum, and an addition
    in each of 2 sigmoids, 7 vector operations; an exponential and a division a sigmoid and 1 tanh,
    5 transcendental.
    """

    input_size: Size
    hidden_size: Size
    num_layers: int = 1
    bias: bool = True
    bidirectional: bool = False
    final: bool = False
    gates = 3
    vector_per_unit = 7
    transcendental_per_unit = 5
    # n 4, z 5, r 4, the gated sum 1, the state 2
    vector_back = 16
    kept_per_unit = 4
    # z, r, h
    onnx_order = (1, 0, 2)

    def _step(self, np: Any, gi: Any, gh: Any, h: Any, c: Any) -> tuple[Any, Any]:
        ir, iz, inn = np.split(gi, 3)
        hr, hz, hn = np.split(gh, 3)
        r, z = _sigmoid(np, ir + hr), _sigmoid(np, iz + hz)
        n = np.tanh(inn + r * hn)
        return (1 - z) * n + z * h, c

    def _onnx_form(self) -> dict[str, Any]:
        return {"linear_before_reset": 1}
