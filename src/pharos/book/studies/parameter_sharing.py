"""Parameter sharing: the weights of one layer over an image if it is dense, local, or local and shared."""

from pharos.book.study import study
from pharos.graph.count import count
from pharos.graph.graph import Builder, Graph
from pharos.ops.conv import Conv2d
from pharos.ops.linear import Linear
from pharos.quantity.evidence import counted
from pharos.quantity.sizes import Size
from pharos.report.studies import Told


@study(
    "parameter-sharing",
    "How many weights do locality and sharing save in a layer over an image?",
    section="1.1",
)
def parameter_sharing(*, side: int = 224, kernel: int = 3, channels: int = 3, outputs: int = 1) -> Told:
    """Dense: every output position sees every input. Local: a window of its own each. Shared: one window."""
    places, inputs = side * side, side * side * channels
    dense = _of(Linear(inputs, outputs * places, bias=False), (1, inputs))
    shared = _of(
        Conv2d(channels, outputs, kernel, padding=kernel // 2, bias=False), (1, channels, side, side)
    )
    window = _of(Linear(kernel * kernel * channels, outputs, bias=False), (1, kernel * kernel * channels))
    rows = []
    for name, weights, macs in (
        ("dense", dense.parameters, dense.macs),
        ("locally connected", places * window.parameters, places * window.macs),
        ("shared (convolution)", shared.parameters, shared.macs),
    ):
        rows.append((name, weights, macs, macs / weights, dense.parameters / weights))
    unit = inputs / (kernel * kernel * channels)
    return Told(
        answer=f"one unit of a dense layer has {unit:,.0f} times the weights of a {kernel}x{kernel} filter; "
        f"over all positions sharing saves {dense.parameters / shared.parameters:,.0f} times",
        numbers={
            "dense_parameters": dense.parameters,
            "local_parameters": places * window.parameters,
            "shared_parameters": shared.parameters,
            "per_unit_ratio": unit,
        },
        reasons=(
            f"locality alone: a unit sees {kernel * kernel * channels:,} inputs of {inputs:,}",
            f"sharing alone: {places:,} positions use one filter, so each weight is used {places:,} times",
        ),
        columns=("layer", "weights", "macs", "uses_of_a_weight", "times_fewer"),
        rows=tuple(rows),
        evidence=(counted("weights and MACs of Pharos's operators"),),
        note="macs: multiply-accumulates, 2 FLOPs each; zero padding, stride 1",
    )


class _Counts:
    """Weights and MACs of one operator."""

    def __init__(self, graph: Graph) -> None:
        found = count(graph)
        self.parameters: Size = found.parameters
        self.macs: Size = found.macs


def _of(op: Linear | Conv2d, shape: tuple[Size, ...]) -> _Counts:
    g = Builder("layer")
    return _Counts(g.finish(g("layer", op, g.input("x", shape))))
