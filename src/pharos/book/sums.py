"""Sums: short ways to ask Pharos's rules for a count, a time, an energy, a formula or an array."""

from functools import cache
from math import ceil
from typing import TYPE_CHECKING, Any

from pharos.facts.names import find as find_file
from pharos.facts.reading import Document, read_yaml
from pharos.facts.tables import table
from pharos.graph.count import Count, count
from pharos.graph.graph import Builder, Graph, Node
from pharos.graph.op import Op, Tally
from pharos.graph.tensor import Tensor
from pharos.graph.workload import Workload
from pharos.machines.machine import Machine, read_machine
from pharos.models.registry import find
from pharos.ops.conv import Conv2d
from pharos.ops.linear import Linear
from pharos.quantity.sizes import Size
from pharos.quantity.units import parse

if TYPE_CHECKING:
    from pharos.predict.estimate import Estimate

KB, MB, GB, TB = 1e3, 1e6, 1e9, 1e12
KIB, MIB, GIB = 2**10, 2**20, 2**30
# The accelerators that the chapter argues with.
A100, A100_40, H100 = "nvidia_a100_sxm_80gb", "nvidia_a100_sxm_40gb", "nvidia_h100_sxm5"


@cache
def graph(
    name: str, phase: str = "forward", batch: int = 1, context: int | None = None, precision: str = "fp32"
) -> Graph:
    """The graph of a model of the catalogue, by its name with arguments."""
    work = Workload(phase=phase, batch=batch, context=context, precision=precision)  # type: ignore[arg-type]
    return find(name).graph(work)


@cache
def counted(
    name: str, phase: str = "forward", batch: int = 1, context: int | None = None, precision: str = "fp32"
) -> Count:
    """What `graph` of the same arguments asks for."""
    return count(graph(name, phase, batch, context, precision))


def chain(shape: tuple[Size, ...], *ops: Op, precision: str = "fp32", dtype: str | None = None) -> Graph:
    """Operators one after the other on an input of `shape`."""
    g = Builder("chain", precision)
    x = g.input("x", shape, dtype)
    for i, op in enumerate(ops):
        x = g(f"op{i}", op, x)
    return g.finish(x)


def layers(shape: tuple[Size, ...], *ops: Op, precision: str = "fp32", dtype: str | None = None) -> Count:
    """What `chain` asks for."""
    return count(chain(shape, *ops, precision=precision, dtype=dtype))


def dense(n: Size, m: Size, batch: Size = 1, precision: str = "fp32", bias: bool = False) -> Count:
    """A dense layer of n inputs and m outputs."""
    return layers((batch, n), Linear(n, m, bias), precision=precision)


def conv(
    cin: Size, cout: Size, kernel: int = 3, side: Size = 224, batch: Size = 1, precision: str = "fp32",
    stride: int = 1, groups: Size = 1, same: bool = True,
) -> Count:  # fmt: skip
    """A convolution without bias over a square map, padded to keep its size unless not `same`."""
    op = Conv2d(cin, cout, kernel, stride, kernel // 2 if same else 0, groups=groups, bias=False)
    return layers((batch, cin, side, side), op, precision=precision)


def intensities(counts: Count, kernel: int | None = None, **fields: Any) -> dict[str, float]:
    """FLOP per byte of every convolution by its name, each tensor moved once.

    Args:
        kernel: only those with a square kernel of this side; `fields` likewise, and only those of a class.
    """
    only_class = fields.get("cost_class")
    return {
        line.name: float(line.work.flops / line.traffic.total)
        for line in counts.lines
        if isinstance(line.node.op, Conv2d)
        and (kernel is None or line.node.op.axes()[0][0] == kernel)
        and (only_class is None or line.cost_class == only_class)
    }


def weight_layers(name: str) -> int:
    """Layers with weights in a row, as networks are named after: convolutions and dense layers, without
    those on a shortcut."""
    return sum(
        line.times for line in counted(name).lines
        if isinstance(line.node.op, (Conv2d, Linear)) and "downsample" not in line.name
    )  # fmt: skip


def attends(op: Op, *shapes: tuple[Size, ...], precision: str = "fp16") -> Count:
    """What an operator of several inputs asks for."""
    g = Builder("attends", precision)
    values = [g.input(f"x{i}", shape) for i, shape in enumerate(shapes)]
    return count(g.finish(g("op", op, *values)))


def out(op: Op, *shape: Size) -> tuple[Size, ...]:
    """Shape of an operator's output."""
    made = op.shape(Tensor(shape))
    return made[0].shape if isinstance(made, tuple) else made.shape


def per_byte(counts: Count, bound: str = "per_op") -> float:
    """FLOP per byte under a traffic bound; see `Count.intensity`."""
    found = counts.intensity(bound)
    assert found is not None
    return float(found)


def result(op: Op, x: Tensor) -> Tensor:
    """The output of an operator that has one."""
    made = op.shape(x)
    assert isinstance(made, Tensor)
    return made


def only(counts: Count) -> Node:
    """The node of a graph of one operator."""
    return counts.lines[0].node


def run(op: Op, *arrays: Any, **weights: Any) -> Any:
    """What the operator's explicit loops give."""
    import numpy as np

    return op.loops(Tally(), *[np.asarray(a, float) for a in arrays],
                    **{k: np.asarray(w, float) for k, w in weights.items()})  # fmt: skip


def executed(op: Op, *arrays: Any, **weights: Any) -> int:
    """MACs that the operator's explicit loops execute."""
    tally = Tally()
    op.loops(tally, *arrays, **weights)
    return tally.macs


def close(a: Any, b: Any, within: float = 1e-9) -> bool:
    """Whether two arrays are the same up to rounding."""
    import numpy as np

    return np.shape(a) == np.shape(b) and bool(np.allclose(a, b, rtol=within, atol=within))


def draw(*shape: int, seed: int = 0) -> Any:
    """Standard normal numbers, the same ones every time."""
    import numpy as np

    return np.random.default_rng(seed).standard_normal(shape)


@cache
def machine(name: str) -> Machine:
    """A machine of the catalogue."""
    return read_machine(_document(name))


def peak(name: str, dtype: str = "fp16") -> float:
    """Dense operations per second."""
    return _known(machine(name).peak(dtype))


def vector_peak(name: str, dtype: str = "fp32") -> float:
    """Operations per second of the vector units."""
    return _known(machine(name).vector_peak(dtype))


def bandwidth(name: str) -> float:
    """Bytes per second of main memory."""
    return _known(machine(name).bandwidth_bytes_per_s)


def memory(name: str) -> float:
    """Bytes of main memory as sold."""
    return _known(machine(name).memory_sold_bytes)


def ridge(name: str, dtype: str = "fp16") -> float:
    """FLOP per byte at which peak and bandwidth meet."""
    return peak(name, dtype) / bandwidth(name)


def figure(name: str, unit: str, *keys: str) -> float:
    """Any figure of a machine's file, by its keys, in SI units."""
    at = machine_file(name)
    for key in keys:
        at = at[key]
    return parse(at, unit)


def machine_file(name: str) -> Any:
    """A machine's file as it stands."""
    return _document(name).data


@cache
def _document(name: str) -> Document:
    return read_yaml(find_file("machines", "machine", name))


def _known(known: Any) -> float:
    if known.value is None:
        raise ValueError("a figure that a claim needs is not in the catalogue")
    return known.value


def joules(section: str, node_nm: int | None = None, **row: Any) -> float:
    """Energy of the one row of a section of the energy table that has these fields."""
    wanted = row | ({"node_nm": node_nm} if node_nm else {})
    hits = [r for r in table("energy")[section] if all(r.get(k) == v for k, v in wanted.items())]
    (found,) = hits
    return found["energy_J"]


def mac_energy() -> float:
    """Joules of an fp32 MAC at 45 nm."""
    return joules("arithmetic", 45, op="fp32_mul") + joules("arithmetic", 45, op="fp32_add")


def dram_energy() -> float:
    """Joules of 32 bits from DRAM in the time of 45 nm."""
    return joules("dram", type="DDR (generic)", per="access_32b")


@cache
def estimate(
    name: str, on: str, phase: str = "forward", batch: int = 1, context: int | None = None,
    precision: str = "fp16",
) -> "Estimate":  # fmt: skip
    """The prediction for a model of the catalogue on a machine of the catalogue."""
    from pharos.predict.estimate import predict

    work = Workload(phase=phase, batch=batch, context=context, precision=precision)  # type: ignore[arg-type]
    return predict(graph(name, phase, batch, context, precision), machine(on), work, model=name)


def as_run(found: "Estimate") -> float:
    """FLOP per byte of the kernels as the runtime fuses them."""
    intensity = found.roofline()["as_run"][0]
    assert intensity is not None
    return float(intensity)


@cache
def kv_bytes(name: str, context: int, precision: str = "fp16") -> int:
    """Bytes of the KV cache of one request."""
    from pharos.plan.kv import kept

    return int(kept(find(name).build, precision).bytes_at(context))


def scores(tokens: int, heads: int = 1, precision: str = "fp16", batch: int = 1) -> int:
    """Bytes of the scores that attention without tiling writes for one layer."""
    from pharos.ops.attention import Attention

    shape = (batch, heads, tokens, 64)
    node = only(attends(Attention(algorithm="materialised"), shape, shape, shape, precision=precision))
    return int(node.op.workspace(*node.io))


def devices(needed: float, each: float) -> int:
    """How many hold so many bytes."""
    return ceil(needed / each)


def symbols(names: str) -> Any:
    """Positive whole sizes as symbols."""
    import sympy

    return sympy.symbols(names, positive=True, integer=True)


def leads(formula: Any, *names: str) -> str:
    """The O-expression of a formula in sizes; see `passes.asymptotic`."""
    from pharos.passes.asymptotic import leading

    return leading(formula, names)


def grows(formula: Any, symbol: Any) -> float:
    """By what a formula grows when a large size doubles; other sizes are 64."""
    at = dict.fromkeys(formula.free_symbols, 64)
    large = 2**40
    return float(formula.subs(at | {symbol: 2 * large}) / formula.subs(at | {symbol: large}))


def band(found: "Estimate") -> tuple[float, float, float]:
    """Predicted seconds: low, central, high."""
    low, value, high = found.latency.low, found.latency.value, found.latency.high
    assert low is not None
    assert value is not None
    assert high is not None
    return float(low), float(value), float(high)
