"""Every model_type of the installed transformers: built without weights, traced, and compared with PyTorch's count.

    python benchmarks/hf_coverage.py [MODEL_TYPE ...] [--jobs 2] [--timeout 120] [--write docs/huggingface.md]

Each type's default config is built as it stands but for its depth: as many layers as show every kind of
layer once. One process a model, so that a crash or a hang costs one row.
"""

import argparse
import json
import logging
import multiprocessing
import os
import sys
import time
import traceback
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

# Entries of configs that say how many layers there are.
DEPTHS = (
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers",
    "num_decoder_layers", "num_encoder_layers", "depth", "num_blocks", "encoder_num_hidden_layers",
    "decoder_num_hidden_layers",
)  # fmt: skip
CONTEXT = 32


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

    config = CONFIG_MAPPING[kind]()
    if not small:
        return config
    return CONFIG_MAPPING[kind].from_dict(shrunk(config.to_dict()))


def measured(kind: str) -> dict[str, Any]:
    """One row: what was built, what Pharos counts and what PyTorch counts."""
    import torch

    from pharos.convert.hf_class import class_of, require_transformers
    from pharos.convert.hf_trace import build, traced
    from pharos.graph.count import count
    from pharos.graph.workload import Workload

    row: dict[str, Any] = {"type": kind, "stage": "config"}
    transformers = require_transformers()
    try:
        for small in (True, False):
            try:
                config = config_for(kind, small)
                row |= {"stage": "class", "class": class_of(transformers, config).__name__}
                row["stage"] = "build"
                module = build(torch, transformers, config)
                break
            except Exception:
                if not small or row["stage"] == "class":
                    raise
        row |= {"stage": "trace", "theirs": sum(p.numel() for p in module.parameters())}
        began = time.perf_counter()
        context = CONTEXT
        model = traced(torch, module, kind)
        graph = model.graph(Workload(context=context))
        counted = count(graph)
        row |= {"stage": "traced", "seconds": round(time.perf_counter() - began, 2),
                "parameters": counted.parameters, "macs": counted.macs,
                "nodes": len(graph.nodes),
                "uncounted": dict(_uncounted(graph)), "unused": len(graph.meta.get("unused") or ())}  # fmt: skip
        row["reasons"] = dict(graph.meta.get("reasons") or {})
        try:
            row["flops"] = counted_by_torch(torch, module, context, kind)
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


def counted_by_torch(torch: Any, module: Any, context: int | None, name: str) -> dict[str, int]:
    """MACs by operator as PyTorch's own counter sees the same run, unfused."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    from pharos.convert.hf_trace import run
    from pharos.convert.torch_known import following, numbers_kept
    from pharos.convert.torch_run import experts_by, home_of, one_device

    def call(given: dict[str, Any]) -> dict[str, int]:
        mode, follow = FakeTensorMode(allow_non_fake_inputs=True), following(torch)
        follow.device = device = home_of(torch, module)

        def fake(t: Any) -> Any:
            if not isinstance(t, torch.Tensor):
                return t
            with mode:
                made = torch.empty(tuple(t.shape), dtype=t.dtype, device=device)
            if t.device.type != "meta" and not t.is_floating_point():
                follow.learn(made, t.clone())
            return made

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
        return {str(k): v // 2 for k, v in flops.get_flop_counts().get("Global", {}).items()}

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
    parser.add_argument("--json", default="")
    options = parser.parse_args()

    import torch

    from pharos.convert.hf_class import require_transformers

    require_transformers()
    torch.set_num_threads(1)
    logging.disable(logging.ERROR)
    # what every model's process needs is loaded once, before they part
    for kind in ("llama", "clip", "whisper"):
        measured(kind)
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    kinds = options.kinds or list(CONFIG_MAPPING_NAMES)
    out = open(options.json, "w") if options.json else None  # noqa: SIM115

    def tell(row: dict[str, Any]) -> None:
        if out:
            out.write(json.dumps(row) + "\n")
            out.flush()
        theirs = sum((row.get("flops") or {}).values())
        print(
            row["type"],
            row.get("class", ""),
            row["stage"],
            row.get("parameters"),
            row.get("theirs"),
            row.get("macs"),
            theirs,
            row.get("uncounted"),
            row.get("seconds"),
            row.get("error", ""),
            row.get("flop_error", ""),
            flush=True,
        )

    rows(kinds, options.jobs, options.timeout, tell)


if __name__ == "__main__":
    main()
