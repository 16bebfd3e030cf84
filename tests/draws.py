"""What the tests over the operator registry share: random configurations, arrays for them, their figures."""

import numpy as np
import sympy
from hypothesis import strategies as st

from pharos.graph.graph import Builder, Value
from pharos.graph.tensor import Tensor


class Draws:
    """Draws from hypothesis and remembers the answers."""

    def __init__(self, data):
        self.data, self.sizes, self.choices = data, [], []

    def size(self, low, high):
        self.sizes.append((self.data.draw(st.integers(low, high)), low, high))
        return self.sizes[-1][0]

    def int(self, low, high):
        self.choices.append(self.data.draw(st.integers(low, high)))
        return self.choices[-1]

    def choice(self, options):
        self.choices.append(self.data.draw(st.sampled_from(list(options))))
        return self.choices[-1]


class Replay:
    """The same structure again, with `size` answered by a list of one's own."""

    def __init__(self, sizes, choices):
        self._sizes, self._choices = iter(sizes), iter(choices)

    def size(self, low, high):
        return next(self._sizes)

    def int(self, low, high):
        return next(self._choices)

    def choice(self, options):
        return next(self._choices)


def node_of(op, tensors):
    g = Builder("test")
    values = []
    for i, t in enumerate(tensors):
        values.append(Value(f"in{i}", t))
    g("op", op, *values)
    return g._nodes[0]


def figures(op, tensors):
    """Everything a rule answers, flat, by name."""
    node = node_of(op, tensors)
    work, traffic = op.work(*node.io), op.traffic(node)
    parallel = op.parallelism(*node.io)
    found = {
        f"work.{k}": getattr(work, k) for k in ("macs", "vector_flops", "transcendentals", "masked_macs")
    }
    found |= {
        f"traffic.{k}": getattr(traffic, k) for k in ("weights", "inputs", "outputs", "state", "workspace")
    }
    found |= {"width": parallel.width, "depth": parallel.depth, "workspace": op.workspace(*node.io)}
    for i, t in enumerate(node.outs):
        found |= {f"out{i}.{j}": s for j, s in enumerate(t.shape)}
    for group in (op.weights(), op.buffers(), op.state(*node.io)):
        found |= {f"{k}.{j}": s for k, shape in group.items() for j, s in enumerate(shape)}
    found |= {f"primitive.{k}": v for k, v in op.primitives(*node.io).items()}
    return found


def arrays(op, tensors, seed):
    rng = np.random.default_rng(seed)
    rows = getattr(op, "num_embeddings", getattr(op, "num_experts", 4))
    inputs = [
        rng.integers(0, rows, t.shape)
        if t.dtype.startswith("int")
        else rng.random(t.shape) < 0.5
        if t.dtype == "bool"
        else rng.normal(size=t.shape)
        for t in tensors
    ]
    stored = {k: rng.normal(size=s) for k, s in op.weights().items()}
    stored |= {k: rng.uniform(0.5, 2, size=s) for k, s in op.buffers().items()}
    return inputs, stored


def floating(tensor):
    """Whether a tensor can take gradients."""
    return tensor.dtype != "bool" and not tensor.dtype.startswith("int")


def past(op, inputs):
    """What earlier tokens left, for an operator that continues from it."""
    if not getattr(op, "cached", 0):
        return {}
    rng = np.random.default_rng(1)
    held = op.state(*map(Tensor, [x.shape for x in inputs]))
    shapes = held
    if not isinstance(op.cached, bool):
        shapes = {name: (*shape[:2], op.cached, shape[3]) for name, shape in held.items()}
    return {f"past_{name}": rng.normal(size=shape) for name, shape in shapes.items()}


def tuple_of(x):
    return x if isinstance(x, tuple) else (x,)


def readings_agree(cls, draws, more, told):
    """Checks that arrays and symbols answer what ints answer, for a configuration drawn before.

    Args:
        more: further rows of sizes to check it at; told: what is read of an operator and its tensors.
    """
    rows = [[value for value, _, _ in draws.sizes], *more]
    by_ints = [told(*cls.sample(Replay(row, draws.choices))) for row in rows]
    columns = [np.array(column, dtype=float) for column in zip(*rows, strict=True)]
    by_arrays = told(*cls.sample(Replay(columns, draws.choices)))
    symbols = [sympy.Symbol(f"n{i}", integer=True, positive=True) for i in range(len(draws.sizes))]
    by_symbols = told(*cls.sample(Replay(symbols, draws.choices)))
    assert set(by_ints[0]) == set(by_arrays) == set(by_symbols)
    for name, reading in by_arrays.items():
        expected = [found[name] for found in by_ints]
        assert np.broadcast_to(reading, (len(rows),)).tolist() == expected, name
        formula = sympy.sympify(by_symbols[name])
        for row, want in zip(rows, expected, strict=True):
            assert int(formula.subs(dict(zip(symbols, row, strict=True)))) == want, name
