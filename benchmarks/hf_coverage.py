"""Every model_type of the installed transformers: built without weights, traced, and compared with PyTorch's count.

    python benchmarks/hf_coverage.py [MODEL_TYPE ...] [--jobs 2] [--json rows.jsonl] [--write docs/huggingface.md]

Each type's default config is built as it stands but for its depth: as many layers as show every kind of
layer once. One process a model, so that a crash or a hang costs one row.
"""

import argparse
import json
import logging
import multiprocessing
import os
import re
import sys
import time
import traceback
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

# Rotary positions on half of each head, as the published checkpoints have them.
HALF = {
    "rope_type": "default",
    "rope_theta": 10000.0,
    "partial_rotary_factor": 0.5,
    "mrope_section": [8, 12, 12],
}
# What a default config leaves unset or states against its own parts, so that no model can be built of it.
MENDED: dict[str, dict[str, Any]] = {
    "autoformer": {"prediction_length": 24}, "informer": {"prediction_length": 24},
    "time_series_transformer": {"prediction_length": 24}, "esm": {"vocab_size": 33, "pad_token_id": 1},
    "hunyuan_v1_dense": {"head_dim": 128}, "hunyuan_v1_moe": {"head_dim": 128}, "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8}, "aria": {"vision_config": {"image_size": 490}},
    "qwen2_vl": {"vision_config": {"hidden_size": 8192}}, "bamba": {"attn_layer_indices": [1]}, "xmod": {"default_language": "en_XX"},
    "wav2vec2-bert": {"vocab_size": 32},
    "step3p5": {"sliding_window": 512}, "step3p7": {"text_config": {"sliding_window": 512}},
    "glm4v_text": {"rope_parameters": HALF}, "glm_image_text": {"rope_parameters": HALF},
    "glm4v_moe_text": {"rope_parameters": HALF, "head_dim": 128},
    "glmga": {"text_config": {"rope_parameters": HALF}}, "glm4v": {"text_config": {"rope_parameters": HALF}}, "glm46v": {"text_config": {"rope_parameters": HALF}},
    "glm4v_moe": {"text_config": {"rope_parameters": HALF, "head_dim": 128}},
    "llama4": {"vision_config": {"hidden_size": 1408, "vision_output_dim": 4096}}, "llama4_vision_model": {"hidden_size": 1408}, "blip-2": {"image_token_index": 30000},
    "instructblip": {"image_token_index": 30000}, "instructblipvideo": {"video_token_index": 30000},
    "deepseek_v2": {"n_group": 8, "topk_group": 3, "num_experts_per_tok": 6},
}  # fmt: skip
# Entries of configs that say how many layers there are.
DEPTHS = (
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers",
    "num_decoder_layers", "num_encoder_layers", "depth", "num_blocks", "encoder_num_hidden_layers",
    "decoder_num_hidden_layers",
)  # fmt: skip
CONTEXT = 16


def shrunk(data: dict[str, Any]) -> dict[str, Any]:
    """A config with few layers: enough for every kind that its lists name, the lists cut alike."""
    made = {k: shrunk(v) if isinstance(v, dict) else v for k, v in data.items()}
    for key in DEPTHS:
        full = made.get(key)
        if not isinstance(full, int) or isinstance(full, bool) or full <= 2:
            continue
        lists = {k: v for k, v in made.items() if isinstance(v, list) and len(v) == full}
        keep = 2
        for values in lists.values():
            kinds = [str(v) for v in values]
            keep = max(keep, max(kinds.index(k) for k in set(kinds)) + 1)
        first = made.get("first_k_dense_replace")
        if isinstance(first, int) and first < full:
            keep = max(keep, first + 1)
        keep = min(keep, full)
        made[key] = keep
        made |= {k: v[:keep] for k, v in lists.items()}
    return made


def config_for(kind: str, small: bool = True) -> Any:
    """The config of a type, with its defaults."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config = CONFIG_MAPPING[kind](**MENDED.get(kind, {}))
    if not small:
        return config
    return CONFIG_MAPPING[kind].from_dict(shrunk(config.to_dict()))


def made(kind: str, small: bool, row: dict[str, Any]) -> Any:
    """The model of a type without weights; the row says how far it got."""
    import torch

    from pharos.convert.hf_class import class_of, require_transformers
    from pharos.convert.hf_trace import build

    transformers = require_transformers()
    row["stage"] = "config"
    config = config_for(kind, small)
    row["stage"] = "class"
    row["class"] = class_of(transformers, config).__name__
    row["stage"] = "build"
    return build(torch, transformers, config)


def measured(kind: str) -> dict[str, Any]:
    """One row: what was built, what Pharos counts and what PyTorch counts."""
    import torch

    from pharos.convert.hf_class import require_transformers
    from pharos.convert.hf_trace import filled, traced
    from pharos.graph.count import count
    from pharos.graph.workload import Workload

    row: dict[str, Any] = {"type": kind, "stage": "config"}
    require_transformers()
    try:
        small = True
        try:
            module = made(kind, small, row)
        except Exception:
            if row["stage"] == "class":
                raise
            small = False
            module = made(kind, small, row)
        row |= {"stage": "trace", "theirs": sum(p.numel() for p in module.parameters())}
        began = time.perf_counter()
        context = CONTEXT
        try:
            graph = traced(torch, module, kind).graph(Workload(context=context))
        except Exception:
            if not small:
                raise
            # the cut may have left no layer of a kind that the model asks for
            module = made(kind, False, row)
            row["stage"] = "trace"
            row["theirs"] = sum(p.numel() for p in module.parameters())
            graph = traced(torch, module, kind).graph(Workload(context=context))
        counted = count(graph)
        row |= {"stage": "traced", "seconds": round(time.perf_counter() - began, 2),
                "parameters": counted.parameters, "macs": counted.macs,
                "nodes": len(graph.nodes),
                "uncounted": dict(_uncounted(graph)), "unused": len(graph.meta.get("unused") or ())}  # fmt: skip
        row["reasons"] = dict(graph.meta.get("reasons") or {})
        try:
            if graph.meta.get("one_run"):
                module, row["one_run"] = filled(torch, module, kind, ""), True
            shapes = sorted(tuple(v.shape) for v in graph.inputs)
            row["flops"] = counted_by_torch(torch, module, context, kind, shapes)
        except Exception as error:
            row["flop_error"] = f"{type(error).__name__}: {str(error)[:200]}"
    except Exception as error:
        row["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
        row["trace"] = traceback.format_exc()[-3000:]
        cause = error
        while cause.__context__ is not None:
            cause = cause.__context__
        row["cause"] = "".join(traceback.format_exception(cause))[-2500:]
    return row


def counted_by_torch(
    torch: Any, module: Any, context: int | None, name: str, shapes: list[tuple[int, ...]]
) -> dict[str, int]:
    """MACs by operator as PyTorch's own counter sees the same run, unfused.

    Args:
        shapes: of the inputs that Pharos ran on.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    from pharos.convert.hf_trace import run
    from pharos.convert.torch_known import following, numbers_kept
    from pharos.convert.torch_record import tensors_in
    from pharos.convert.torch_run import drawing, experts_by, home_of, one_device

    def halves(flops: Any) -> dict[str, int]:
        return {str(k): v // 2 for k, v in flops.get_flop_counts().get("Global", {}).items()}

    # its counter follows modules by their gradients, and refuses a parameter as an argument
    module.requires_grad_(False)

    def call(given: dict[str, Any]) -> dict[str, int]:
        found = counted(given)
        if sorted(tuple(t.shape) for t in tensors_in(torch, given) if t.numel()) != shapes:
            raise ValueError("it runs on other inputs")
        return found

    def counted(given: dict[str, Any]) -> dict[str, int]:
        mode, follow = FakeTensorMode(allow_non_fake_inputs=True), following(torch)
        follow.device = device = home_of(torch, module)

        def fake(t: Any) -> Any:
            if isinstance(t, list):
                return [fake(x) for x in t]
            if not isinstance(t, torch.Tensor):
                return t
            with mode:
                made = torch.empty(tuple(t.shape), dtype=t.dtype, device=device)
            if t.device.type != "meta" and not t.is_floating_point():
                follow.learn(made, t.clone())
            return made

        if device.type != "meta":
            # what depends on data is run on the same numbers
            draw = drawing(torch, module)
            real = {
                k: draw(v, tuple(v.shape)) if isinstance(v, torch.Tensor) else v for k, v in given.items()
            }
            with torch.random.fork_rng(devices=[]), torch.no_grad(), FlopCounterMode(display=False) as flops:
                torch.manual_seed(0)
                module(**real)
            return halves(flops)
        inputs = {k: fake(v) for k, v in given.items()}
        # its counter wants the numbers of a grouped product; a product a token is the same work
        counter = FlopCounterMode(display=False)
        with (
            one_device(torch, device),
            experts_by(module, "batched_mm"),
            torch.no_grad(),
            mode,
            follow,
            numbers_kept(torch),
            counter as flops,
        ):
            module(**inputs)
        return halves(flops)

    return run(torch, module, name, 1, context, None, call)


def _uncounted(graph: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for node, _, _ in graph.walk():
        if node.op.kind == "unknown":
            found[node.op.name] = found.get(node.op.name, 0) + 1
    return found


def _child(kind: str, pipe: Any) -> None:
    with open(os.devnull, "w") as nowhere:
        sys.stdout = sys.stderr = nowhere
        pipe.send(measured(kind))
    pipe.close()


def rows(kinds: list[str], jobs: int, timeout: float, tell: Any) -> list[dict[str, Any]]:
    """One process a model, at most `jobs` at once."""
    context = multiprocessing.get_context("fork")
    waiting, running, done = list(kinds), [], []
    while waiting or running:
        while waiting and len(running) < jobs:
            kind = waiting.pop(0)
            mine, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_child, args=(kind, theirs))
            process.start()
            theirs.close()
            running.append((kind, process, mine, time.monotonic()))
        still = []
        for kind, process, pipe, began in running:
            late = time.monotonic() - began > timeout
            if pipe.poll(0.02):
                try:
                    row = pipe.recv()
                except EOFError:
                    row = {"type": kind, "stage": "died", "error": f"process ended with {process.exitcode}"}
            elif late:
                process.kill()
                row = {"type": kind, "stage": "timeout", "error": f"took over {timeout:g} s"}
            else:
                still.append((kind, process, pipe, began))
                continue
            process.join()
            row["wall"] = round(time.monotonic() - began, 1)
            done.append(row)
            tell(row)
        running = still
    return done


def main() -> None:
    """Runs the types that are asked for, all of them by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=120)
    parser.add_argument("--json", default="", help="rows are added here, and those there are not run again")
    parser.add_argument("--write", default="", help="the page to write, docs/huggingface.md")
    options = parser.parse_args()

    import torch

    from pharos.convert.hf_class import require_transformers

    require_transformers()
    torch.set_num_threads(1)
    logging.disable(logging.ERROR)
    # what every model's process needs is loaded once, before they part
    for kind in ("llama", "clip", "whisper"):
        measured(kind)
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kinds = options.kinds or list(CONFIG_MAPPING.keys())
    found = {}
    if options.json and Path(options.json).exists():
        found = {r["type"]: r for r in map(json.loads, Path(options.json).read_text().splitlines())}
    kinds = [k for k in kinds if options.kinds or k not in found]

    def tell(row: dict[str, Any]) -> None:
        found[row["type"]] = row
        if options.json:
            with Path(options.json).open("a") as out:
                out.write(json.dumps(row) + "\n")
        print(*told(row), sep="  ", flush=True)

    rows(kinds, options.jobs, options.timeout, tell)
    order = [k for k in list(CONFIG_MAPPING.keys()) if k in found]
    text = page([found[k] for k in order])
    if options.write:
        Path(options.write).write_text(text)
    print(*(f"{name}: {n}" for name, n in totals(list(found.values())).items()), sep="\n")


def reason(row: dict[str, Any]) -> str:
    """Why there is no count; empty where there is one."""
    if "error" not in row:
        return ""
    if "only a config" in row["error"]:
        return "a config without a model of its own"
    need = re.search(r"requires the (\w+) library", row["error"])
    if need:
        return f"needs {need[1]}, which is not installed here"
    if row["stage"] in ("timeout", "died"):
        return row["error"]
    last = re.split(r"cannot (?:run on [^:]*|be built): ", row["error"])[-1]
    if 'missing the required "forward"' in last:
        return "its class has no forward: only its parts are models that run"
    # a row of a table is one line, and bars part its cells
    return last.removeprefix("InputError: ").replace("|", "/").replace("`", "")[:160]


def is_built(row: dict[str, Any]) -> bool:
    """Whether transformers makes a model of a type here."""
    return row["stage"] not in ("config", "class", "build")


def is_exact(row: dict[str, Any]) -> bool:
    """Whether a row was counted with no operator left out and every parameter."""
    return "error" not in row and not row["uncounted"] and row["parameters"] == row["theirs"]


def remark(row: dict[str, Any]) -> str:
    """What is to be said of a row beside its figures; empty where all is exact and equal."""
    if "error" in row:
        return reason(row)
    said = []
    if row["uncounted"]:
        names = ", ".join(f"{n.partition('::')[2]} x{c}" for n, c in sorted(row["uncounted"].items()))
        said.append(f"at least: no rule for {names}")
    if row["parameters"] != row["theirs"]:
        said.append(f"PyTorch holds {row['theirs']:,}")
    if "flops" in row and sum(row["flops"].values()) != row["macs"]:
        said.append(f"its counter: {sum(row['flops'].values()):,}")
    if "flop_error" in row:
        said.append("its counter fails")
    if row.get("unused"):
        said.append(f"{row['unused']} tensors not run")
    if row.get("one_run"):
        said.append("depends on data: one run on random weights")
    return "; ".join(said)


def told(row: dict[str, Any]) -> list[str]:
    """A row as text."""
    figures = [f"{row[k]:,}" if k in row else "" for k in ("parameters", "macs")]
    return [row["type"], row.get("class", ""), *figures, str(row.get("seconds", "")), remark(row)]


def totals(found: list[dict[str, Any]]) -> dict[str, int]:
    """What the page says of all rows, by name."""
    built = [r for r in found if is_built(r)]
    runs = [r for r in built if "error" not in r]
    whole = [r for r in runs if is_exact(r)]
    both = [r for r in whole if "flops" in r]
    return {
        "types": len(found),
        "buildable": len(built),
        "traced": len(runs),
        "wholly exact": len(whole),
        "wholly exact, every tensor run": sum(not r.get("unused") for r in whole),
        "at least": sum(bool(r["uncounted"]) for r in runs),
        "with other parameters": sum(r["parameters"] != r["theirs"] for r in runs),
        "with tensors not run": sum(bool(r.get("unused")) for r in runs),
        "counted by PyTorch too": len(both),
        "with equal MACs": sum(sum(r["flops"].values()) == r["macs"] for r in both),
    }


def page(found: list[dict[str, Any]]) -> str:
    """`docs/huggingface.md`."""
    import torch
    import transformers

    counts = totals(found)
    share = counts["wholly exact"] / max(counts["buildable"], 1)
    left = [r for r in found if is_built(r) and not is_exact(r)]
    unbuilt = [r for r in found if not is_built(r)]
    mended = [k for k in MENDED if any(r["type"] == k for r in found)]
    lines = [
        "# Hugging Face architectures",
        "",
        f"Every `model_type` of transformers {transformers.__version__}, built without weights and traced on "
        f"PyTorch {torch.__version__.partition('+')[0]} by",
        "`python benchmarks/hf_coverage.py --json rows.jsonl --write docs/huggingface.md`, which writes this "
        "page.",
        "",
        "A type is buildable if transformers makes a model of its default config with the packages that are "
        "installed. The",
        "config is taken as it stands but for its depth, which is cut to as many layers as show every kind of "
        "layer; texts",
        f"have {CONTEXT} tokens. A row is wholly exact if no operator is without a rule and the parameters are "
        "those of PyTorch's own",
        "`parameters()`. MACs are compared with PyTorch's `FlopCounterMode` on the same inputs, which knows "
        "nothing of Pharos;",
        "it does not count products of a matrix with a vector, triangular solves, distances and the fused "
        "attention of the",
        "CPU, which Pharos does: where the two differ, it is by these. Tensors that",
        "are not run belong to parts that the inputs do not reach (an image tower without an image, say): "
        "they are counted as",
        "parameters, and their MACs are not part of the figure. `pharos show config.json` builds the families "
        "it has readers",
        "for from its own blocks instead; a test holds those equal to the trace.",
        "",
        "| | |",
        "|---|---:|",
        *(f"| {name} | {n} |" for name, n in counts.items()),
        f"| wholly exact of the buildable | {share:.1%} |",
        "",
        f"The default configs of {len(mended)} types leave unset, or contradict, what their own models need; "
        "they were completed:",
        f"{', '.join(f'`{k}`' for k in sorted(mended))}.",
        "",
        "## Buildable and not wholly exact",
        "",
        "| type | class | why |",
        "|---|---|---|",
        *(f"| {r['type']} | {r.get('class', '')} | {remark(r)} |" for r in left),
        "",
        "## Not buildable here",
        "",
        "| type | why |",
        "|---|---|",
        *(f"| {r['type']} | {reason(r)} |" for r in unbuilt),
        "",
        "## All that are traced",
        "",
        "| type | class | parameters | MACs | seconds | remark |",
        "|---|---|---:|---:|---:|---|",
        *(f"| {' | '.join(told(r))} |" for r in found if is_built(r) and "error" not in r),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
