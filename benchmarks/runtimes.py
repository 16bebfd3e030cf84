"""Writes docs/runtimes.md: what each runtime's model is, its constants, and where they come from."""

from pathlib import Path

from pharos.facts.names import folder
from pharos.facts.reading import read_yaml
from pharos.passes.fusions import FUSIONS
from pharos.predict.runtimes import CALLS, DEFAULTS, GRAPH, OTHER_RUNTIME_ERROR, RACE, RUNTIMES

HEAD = """# Runtimes

A runtime says which kernels are made of a graph, and how they are launched. `pharos predict --runtime NAME` takes one;
`pharos.predict(model, on=machine, runtime=NAME)` does too. One that does not run on a machine is refused, with those
that do. Without a name it is the one that the machine's efficiencies were fitted with, or its kind's.

```console
$ pharos predict resnet50 --on h100 --runtime tflm
error: runtime tflm does not run on nvidia_h100_sxm5, a GPU (there: compiled, eager, cudagraph, tensorrt)
```

The host and the device of an eager call, and what a recorded graph of the same kernels would take:

```python
import pharos

eager = pharos.predict("gpt2-small", on="h100", phase="decode", precision="fp16", runtime="eager")
graph = pharos.predict("gpt2-small", on="h100", phase="decode", precision="fp16", runtime="cudagraph")
assert eager.host_s > eager.device_s  # dispatch takes longer than the kernels,
assert eager.idle_s / eager.latency.value > 0.5  # so that the GPU idles most of the time,
assert eager.relieved_s == graph.latency.value  # and recording the launches relieves it
```

"""
LAUNCHES = {
    RACE: "a host dispatches ahead of the device",
    GRAPH: "launches recorded once",
    CALLS: "one kernel after the other",
}
FORMULAS = """## How launches add up

- *A host dispatches ahead of the device* (on a GPU): operator i costs the host h_i and the device k_i, and
  c_i = c_{i-1} + h_i, g_i = max(g_{i-1}, c_i + wait) + k_i; a call ends at the last g, and a synchronisation. Views cost
  the host alone. Repeated layers are composed in closed form (`pharos.predict.timeline`), tested against a loop.
- *Launches recorded once* (on a GPU): guards + the graph's start + the sum of kernels. The gap between dependent kernels is
  in their fitted launches, which were timed in graphs.
- *One kernel after the other* (processors): the sum of kernels, each with the launch of its efficiency curve.

"""


def page() -> str:
    """The text of docs/runtimes.md."""
    text = HEAD + "| runtime | machines | kernels | launches |\n|---|---|---|---|\n"
    for r in RUNTIMES.values():
        kinds = [f"**{k}**" if DEFAULTS[k] == r.name else k for k in r.kinds]
        text += f"| {r.name} | {', '.join(kinds)} | {r.fusion} | {LAUNCHES[r.composes]} |\n"
    text += "\nBold: taken by default on machines of the kind.\n\n" + FORMULAS
    text += "## What each is taken to do\n\n"
    for r in RUNTIMES.values():
        text += f"- **{r.name}**: {r.says}." + "".join(f" Assumed: {a}." for a in r.assumes) + "\n"
    text += "\n## Kernels\n\nRules are in `pharos.passes.fusions`; the first one that fits an operator decides.\n\n"
    for name, rules in FUSIONS.items():
        text += f"- **{name}**: " + ("; ".join(r.says for r in rules) or "a kernel an operator") + ".\n"
    text += (
        "\nThe rules of ONNX Runtime give as many kernels of each kind as the graphs that it writes with all optimisations, "
        "over CNNs, BERT, GPT-2 and an LSTM (tests/passes/test_fusions.py). Those of ncnn, TensorFlow Lite, TensorRT and "
        "torch.compile follow their documentation and were not compared with their graphs. Boards fitted with ncnn's own rules, "
        "in which additions stay apart, would have 17.9% error on networks left out in place of 18.4%, and 25.6% in place of "
        "25.1% on boards left out.\n\n## Constants\n\n"
        "Assumed in these ranges where the machine's profile has none:\n\n"
        "| runtime | constant | on | value | 80% range | what | from |\n|---|---|---|---|---|---|---|\n"
    )
    for r in RUNTIMES.values():
        for name, c in r.constants.items():
            scale, unit = (1e6, "us") if name.endswith("_s") else (1.0, "")
            text += (
                f"| {r.name} | `{name}` | {', '.join(c.on)} | {scale * c.value:g} {unit} | {scale * c.low:g} to "
                f"{scale * c.high:g} | {c.says} | {c.where} |\n"
            )
    text += "\nGiven by profiles (`runtime:` in `src/pharos/facts/profiles/`):\n\n"
    for path, _ in folder("profiles").values():
        data = read_yaml(path).data
        for name, given in (data.get("runtime") or {}).items():
            by_class = ", ".join(
                f"{k} {1e6 * float(v):g}" for k, v in (given.get("op_s_by_class") or {}).items()
            )
            text += (
                f"- {data['id']}, {name}: {1e6 * float(given['op_s']):g} us an operator; by class, us: {by_class}. "
                f"{str(given['known']).capitalize()}: {given['source']}; {float(given['error']):.0%} error.\n"
            )
    cpu = read_yaml(folder("profiles")["cpu"][0]).data["threads"]
    text += (
        "\nOf operators left out in turn, event times on that host are told with 8.6% mean error (`benchmarks/field/host.py`): "
        "0.9 to 4% for norms, activation, rotary and two projections, 27 and 28% for the two projections whose wrappers differ "
        "most.\n\n"
        f"On a CPU without a calibration, a launch costs {1e6 * float(cpu['fork_s']):g} us more each time the number of threads "
        f"doubles, from {cpu['cores']} cores on which it was fitted (assumed). Activations that fit in half of its cache come 2.5 times faster than weights, which other layers have pushed out: "
        "fitted, families of networks left out have 13% error with it and 17% without. An eager call also touches the pages of "
        "fresh results, by the C library's rules (`pharos.passes.heap`), at `page_s` each over as many threads, up to 8. "
        f"Efficiencies fitted with another runtime than the one asked for add {OTHER_RUNTIME_ERROR:.0%} to the error.\n"
    )
    return text


if __name__ == "__main__":
    Path(__file__).parents[1].joinpath("docs/runtimes.md").write_text(page(), encoding="utf-8")
