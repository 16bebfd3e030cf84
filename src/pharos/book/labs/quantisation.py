"""Quantisation: a keyword spotter and a MobileNet in int8 by ONNX Runtime: size, time, agreement."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pharos.book.lab import Progress, Setting, lab
from pharos.book.sums import joules, mac_energy
from pharos.book.timed import Span, above, below, drawn, every, ratio, threads, timed
from pharos.graph.count import Count, count
from pharos.graph.graph import Graph
from pharos.graph.workload import Workload
from pharos.measure.timing import Timing
from pharos.models.registry import find
from pharos.quantity.errors import InputError
from pharos.report.labs import Agreement, Check, Finding, Outcome

NAME = "quantisation"
SPOTTER, MOBILE = "ds_cnn_s", "mobilenet_v2(width=0.75, resolution=64, classes=10)"
LITTLE = "mobilenet_v2(width=0.35, resolution=32, classes=10)"
# Made data: samples to learn from, to calibrate with, to compare on.
LEARN, CALIBRATE, COMPARE = {SPOTTER: 720, MOBILE: 320}, 48, 500
# Samples of a step and passes over all of them.
AT_ONCE, EPOCHS, RATE = {SPOTTER: 48, MOBILE: 20}, {SPOTTER: 4, MOBILE: 5}, 3e-3
# Noise on a class's pattern, in its own standard deviations.
NOISE = 1.3
# Share of samples that is little to lose, and that a network must know before it can lose any.
LITTLE_LOSS, KNOWN = 0.02, 0.8
# Largest difference of ONNX Runtime's fp32 from PyTorch's, over the largest value.
TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantised:
    """A network in fp32 and int8.

    Args:
        size: bytes of the files, fp32 and int8; accuracy: on the made data, likewise.
        agreement: share of samples with the same top class; cosine: of the logits, mean.
        apart: fp32 in ONNX Runtime from PyTorch. samples: that were compared.
    """

    size: tuple[int, int]
    accuracy: tuple[float, float]
    agreement: float
    cosine: float
    apart: float
    samples: int
    times: dict[str, Timing]


@lab(NAME, "a keyword spotter and a MobileNet in fp32 and in int8: bytes, time, agreement",
     claims=("kws-envelope",))  # fmt: skip
def quantisation(setting: Setting, progress: Progress) -> Outcome:
    """Static quantisation of our own exports: int8 weights by channel, 8-bit activations by calibration."""
    _needs()
    models = {"DS-CNN": SPOTTER, "MobileNetV2": LITTLE if setting.small else MOBILE}
    found, rows, steps = {}, [], 2 * len(models)
    for i, (name, model) in enumerate(models.items()):
        progress(2 * i, steps, f"{name}: learning")
        with tempfile.TemporaryDirectory(prefix="pharos-lab-") as folder, threads(trains=True) as torch:
            torch.manual_seed(setting.seed)
            graph = graph_of(model)
            learn, rest = made(torch, graph, LEARN.get(model, 40), setting), made(
                torch, graph, 24 if setting.small else COMPARE, setting, first=100_000)  # fmt: skip
            module = trained(torch, model, learn, setting)
            progress(2 * i + 1, steps, f"{name}: int8")
            found[name] = compared(torch, graph, module, learn, rest, Path(folder), setting)
    for name, one in found.items():
        counts = {d: counted_of(models[name], d) for d in ("fp32", "int8")}
        for j, dtype in enumerate(counts):
            asked = counts[dtype]
            rows.append((name, dtype, one.size[j] / 1e3, float(asked.weight_bytes) / 1e3,
                         1e3 * one.times[dtype].median, float(asked.flops / asked.traffic_per_op),
                         one.accuracy[j]))  # fmt: skip
    progress(steps, steps, "done")
    worst = max(one.apart for one in found.values())
    learnt = min(one.accuracy[0] for one in found.values())
    return Outcome(
        name=NAME, summary="what int8 changes of two small networks: bytes, time, agreement with fp32",
        settings={"models": ", ".join(models.values()), "threads": 1, "batch": 1, "seed": setting.seed},
        columns=("model", "type", "file_kB", "weights_kB", "ms", "flop_per_byte", "accuracy"),
        rows=tuple(rows),
        checks=(
            Check(what="fp32 in ONNX Runtime gives what PyTorch gives", holds=worst <= TOLERANCE,
                  found=f"{worst:.0e} of the largest value, {TOLERANCE:.0e} allowed"),
            Check(what="the networks in fp32 know the made classes", holds=setting.small or learnt >= KNOWN,
                  found=f"{learnt:.1%} right at least, {KNOWN:.0%} wanted"
                  + (" in a full run" if setting.small else "")),
        ),
        findings=findings(found, models),
        note="file: as ONNX Runtime loads it; weights, flop_per_byte: counted; accuracy: on made data, "
        "patterns in noise, which says nothing of accuracy on real data",
        figure=picture(found),
        data={"agreement": {n: q.agreement for n, q in found.items()},
              "cosine": {n: q.cosine for n, q in found.items()}},
    )  # fmt: skip


def _needs() -> None:
    from importlib.util import find_spec

    for package in ("torch", "onnx", "onnxruntime"):
        if find_spec(package) is None:
            raise InputError(f"needs {package}", hint="pip install 'pharos-nn[torch,onnx]' onnxruntime")


def graph_of(model: str, batch: int = 1, precision: str = "fp32") -> Graph:
    """A network at a batch."""
    return find(model).graph(Workload(batch=batch, precision=precision))  # type: ignore[arg-type]


def counted_of(model: str, precision: str) -> Count:
    """What a network asks for with weights and activations of a type."""
    return count(graph_of(model, 1, precision))


def made(torch: Any, graph: Graph, samples: int, setting: Setting, first: int = 0) -> tuple[Any, Any]:
    """(inputs, classes): a smooth pattern a class, shifted by up to a tenth of a side, in noise.

    Args:
        first: so many samples are passed over, so that others are drawn.
    """
    shape, classes = tuple(graph.inputs[0].shape[1:]), int(graph.outputs[0].shape[-1])
    patterns = torch.Generator().manual_seed(setting.seed)
    coarse = torch.randn(classes, shape[0], 6, 4, generator=patterns)
    smooth = torch.nn.functional.interpolate(coarse, shape[1:], mode="bilinear")
    smooth = smooth / smooth.std(dim=(1, 2, 3), keepdim=True)
    draws = torch.Generator().manual_seed(setting.seed + 1 + first)
    labels = torch.arange(samples) % classes
    moves = torch.randint(-(shape[1] // 10), shape[1] // 10 + 1, (samples,), generator=draws)
    x = torch.stack([smooth[c].roll(int(m), 1) for c, m in zip(labels, moves, strict=True)])
    return x + NOISE * torch.randn(x.shape, generator=draws), labels


def trained(torch: Any, model: str, data: tuple[Any, Any], setting: Setting) -> Any:
    """The network after some epochs of Adam."""
    from pharos.convert.to_torch import to_torch

    at_once = AT_ONCE.get(model, 12)
    module = to_torch(graph_of(model, at_once)).train()
    optimiser = torch.optim.Adam(module.parameters(), RATE)
    x, labels = (t[: 4 * at_once] for t in data) if setting.small else data
    for _ in range(1 if setting.small else EPOCHS[model]):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(setting.seed))
        for at in range(0, len(x) - at_once + 1, at_once):
            rows = order[at : at + at_once]
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(module(x[rows]), labels[rows]).backward()
            optimiser.step()
    return module.eval()


def compared(
    torch: Any, graph: Graph, module: Any, learn: tuple[Any, Any], rest: tuple[Any, Any], folder: Path,
    setting: Setting,
) -> Quantised:  # fmt: skip
    """Writes the network, quantises the file, runs both on the samples that are left."""
    import numpy as np

    from pharos.convert.to_onnx import to_onnx

    wide, narrow = folder / "fp32.onnx", folder / "int8.onnx"
    to_onnx(graph, wide, module.state_dict())
    name = graph.inputs[0].name
    samples = [x[None].numpy() for x in learn[0][: 8 if setting.small else CALIBRATE]]
    quantise(wide, narrow, name, samples)
    sessions = {d: session(p) for d, p in (("fp32", wide), ("int8", narrow))}
    logits = {d: np.concatenate([s.run(None, {name: x[None].numpy()})[0] for x in rest[0]])
              for d, s in sessions.items()}  # fmt: skip
    labels = rest[1].numpy()
    a, b = logits["fp32"], logits["int8"]
    one = {name: samples[0]}
    times = timed({d: (lambda s=s: s.run(None, one)) for d, s in sessions.items()}, 4.0, small=setting.small)
    with torch.no_grad():
        some = torch.cat([module(x[None]) for x in rest[0][:8]]).numpy()
    right = tuple(float((logits[d].argmax(-1) == labels).mean()) for d in ("fp32", "int8"))
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return Quantised(
        size=(wide.stat().st_size, narrow.stat().st_size), accuracy=(right[0], right[1]),
        agreement=float((a.argmax(-1) == b.argmax(-1)).mean()), cosine=float(cosine.mean()),
        apart=float(abs(some - a[:8]).max() / abs(a[:8]).max()), samples=len(labels),
        times=times,
    )  # fmt: skip


def session(path: Path) -> Any:
    """A file ready to run on one core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def quantise(wide: Path, narrow: Path, name: str, samples: Sequence[Any]) -> None:
    """ONNX Runtime's static quantisation: int8 weights by channel, 8-bit activations by samples' ranges."""
    import logging

    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.left: Iterator[Any] = iter(samples)

        def get_next(self) -> Any:
            found = next(self.left, None)
            return None if found is None else {name: found}

    ready = wide.with_name("ready.onnx")
    before = logging.root.level
    logging.disable(logging.WARNING)
    try:
        quant_pre_process(str(wide), str(ready), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(ready), str(narrow), Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
            activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
        )  # fmt: skip
    finally:
        logging.disable(logging.NOTSET)
        logging.root.setLevel(before)


def fourfold(ratios: Sequence[float]) -> Agreement:
    """Of "int8 is four times smaller": to a tenth, of all weights and files, of some or of none."""
    return every(["agrees" if 3.6 <= r <= 4.4 else "contradicts" for r in ratios])


def lost(one: Quantised) -> Span:
    """Accuracy that int8 loses, with two standard errors: only samples whose class changed tell anything."""
    loss = one.accuracy[0] - one.accuracy[1]
    doubt = 2 * ((1 - one.agreement) / one.samples) ** 0.5
    return Span(loss, loss - doubt, loss + doubt)


def little_lost(found: dict[str, Quantised]) -> Agreement:
    """Of "with minimal loss": accuracy falls by `LITTLE_LOSS` at most, in all, some or none."""
    return every([below(lost(q), LITTLE_LOSS) for q in found.values()])


def faster(spans: Sequence[Span]) -> Agreement:
    """Of "int8 is faster"."""
    return every([above(s, 1.0) for s in spans])


def findings(found: dict[str, Quantised], models: dict[str, str]) -> tuple[Finding, ...]:
    """What the chapter expects beside what came out."""
    ratios = {n: q.size[0] / q.size[1] for n, q in found.items()}
    speeds = {n: ratio(q.times["fp32"], q.times["int8"]) for n, q in found.items()}
    counts = {n: [counted_of(m, d) for d in ("fp32", "int8", "int4")] for n, m in models.items()}
    denser = [float(c[1].flops / c[1].traffic_per_op) / float(c[0].flops / c[0].traffic_per_op)
              for c in counts.values()]  # fmt: skip
    weights = [float(c[0].weight_bytes / c[1].weight_bytes) for c in counts.values()]
    narrower = [float(c[0].weight_bytes / c[2].weight_bytes) for c in counts.values()]
    spotter = found["DS-CNN"].size[1]
    cheaper = mac_energy() / joules("arithmetic", 45, op="int8_mac")
    return (
        Finding(
            expected="int8 makes a model four times smaller",
            found=f"weights {_each(weights)} times (counted); files "
            + ", ".join(f"{n} {r:.3g} times" for n, r in ratios.items())
            + ": scales, biases and the graph itself stay as they are",
            agreement=fourfold([*weights, *ratios.values()]), section="1.10",
        ),
        Finding(
            expected="with minimal loss of accuracy",
            found="; ".join(f"{n}: top class the same in {q.agreement:.1%}, cosine of logits {q.cosine:.4f}, "
                            f"{q.accuracy[0]:.1%} right in fp32, {q.accuracy[1]:.1%} in int8"
                            for n, q in found.items()) + " (made data)",
            agreement=little_lost(found), section="1.1",
        ),
        Finding(
            expected="int8 also runs faster",
            found=", ".join(f"{n} {s} times as fast" for n, s in speeds.items()),
            agreement=faster(list(speeds.values())), section="1.10",
        ),
        Finding(
            expected="a keyword spotter fits into kilobytes in int8",
            found=f"{spotter / 1e3:.3g} kB of file, {counts['DS-CNN'][1].weight_bytes / 1e3:.3g} kB of "
            "weights",
            agreement="agrees" if spotter < 256e3 else "contradicts", section="1.1", claims=("kws-envelope",),
        ),
        Finding(
            expected="narrower weights raise the intensity and cut energy in proportion",
            found=f"FLOP a byte {_each(denser)} times, weights in int4 {_each(narrower)} times "
            f"smaller (counted); an int8 MAC takes 1/{cheaper:.3g} of the "
            "energy of an fp32 one",
            agreement="agrees" if min(denser) > 3.5 else "partly", section="1.9",
        ),
    )  # fmt: skip


def _each(values: Sequence[float]) -> str:
    return " and ".join(f"{v:.3g}" for v in values)


def picture(found: dict[str, Quantised]) -> Any:
    """Bytes and time in int8 over fp32, by network."""
    data = [{"model": n, "what": what, "share": share} for n, q in found.items()
            for what, share in (("file", q.size[1] / q.size[0]),
                                ("time", q.times["int8"].median / q.times["fp32"].median),
                                ("top class the same", q.agreement))]  # fmt: skip

    def draw(alt: Any) -> Any:
        return alt.Chart(alt.Data(values=data)).mark_bar().encode(
            x=alt.X("what:N", sort=None, title=None, axis=alt.Axis(labelAngle=0)), xOffset="model:N",
            y=alt.Y("share:Q", title="int8 over fp32", axis=alt.Axis(format="%")),
            color=alt.Color("model:N", title=None, legend=alt.Legend(orient="top")),
            tooltip=["model:N", "what:N", alt.Tooltip("share:Q", format=".3g")],
        )  # fmt: skip

    return drawn(draw, name=NAME, title="Two networks in int8, beside fp32",
                 alt="File size, time and agreement in int8 as shares of fp32, of two small networks.",
                 source="measured on this machine, ONNX Runtime, one core; made data")  # fmt: skip
