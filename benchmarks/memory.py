"""Memory: Pharos beside PyTorch's own tracker, for inference and training. `python benchmarks/memory.py`.

Needs torch, torchvision and transformers (no weights are downloaded: everything runs on tensors without
data). ``--out docs/memory.md`` writes the page; names of models as arguments run those alone.
"""

import argparse
import gc
import sys
from functools import partial
from pathlib import Path

import pharos
import pharos.models
from pharos.convert.factory import import_mended
from pharos.convert.to_torch import to_torch
from pharos.graph.workload import Workload
from pharos.models.registry import find
from pharos.passes.eager import eager
from pharos.passes.held import held_of
from pharos.passes.training import training

PAGE = """# Memory beside PyTorch's own accounting

Written by `python benchmarks/memory.py --out docs/memory.md`; nothing here is fitted. MemTracker is
`torch.distributed._tools.mem_tracker.MemTracker` of torch {torch} on tensors without data, CPU kernels.
*Traced* is Pharos on the reference module (`pharos.trace`), *graph* is Pharos on its own catalogue graph,
which never sees the module. MB are 1e6 bytes; errors are relative to MemTracker. A dash: the catalogue has no
such model, or the reference repeats no layer. Kernels' own workspaces are in no column.

## Inference, eager, without gradients

| model | batch | MemTracker MB | traced, bytes off | graph MB | graph error | peak at |
|---|---|---|---|---|---|---|
{inference}

{inference_said}

## Training: the second step, sum of the outputs as loss

Training mode with dropout 0, which the catalogue's graphs do not have. Checkpointing: each layer under
`torch.utils.checkpoint`. bf16 has fp32 copies that the optimiser updates.

| model | batch | optimizer | checkpointing | precision | MemTracker MB | traced, bytes off | graph MB | graph error | peak at |
|---|---|---|---|---|---|---|---|---|---|
{training}

{training_said}

GPT-2 as transformers writes it computes its GELU in eight calls of Python and keeps what each needs; the
graph's GELU is PyTorch's own, which `activation_function="gelu_pytorch_tanh"` gives: both rows are shown.
"""


def references():
    """Name -> (makes the module, shape of its input, catalogue's name, context)."""
    tv, tf = import_mended("torchvision.models"), __import__("transformers")
    image = (3, 224, 224)
    gpt = {"use_cache": False, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    bert = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    found = {name: (getattr(tv, name), image, name, None) for name in (
        "resnet50", "mobilenet_v2", "vgg16", "vit_b_16", "densenet121", "efficientnet_b0", "convnext_tiny",
        "swin_t")}  # fmt: skip
    found["bert-base 128"] = (lambda: tf.BertModel(tf.BertConfig(**bert)), 128, "bert-base", 128)
    found["gpt2 1024"] = (lambda: tf.GPT2LMHeadModel(tf.GPT2Config(**gpt)), 1024, "gpt2-small", 1024)
    torch_gelu = gpt | {"activation_function": "gelu_pytorch_tanh"}
    found["gpt2 1024, torch's GELU"] = (
        lambda: tf.GPT2LMHeadModel(tf.GPT2Config(**torch_gelu)), 1024, "gpt2-small", 1024,
    )  # fmt: skip
    for name, context in (("lstm_tagger", 50), ("dlrm", None), ("ds_cnn_s", None)):
        found[name] = (lambda name=name, context=context: to_torch(find(name).graph(Workload(context=context))),
                       None, name, context)  # fmt: skip
    return found


def inputs_of(torch, shape, name, batch, context, device):
    """Example inputs, shapes only."""
    if shape is None:
        graph = find(name).graph(Workload(batch=batch, context=context))
        return [torch.zeros(tuple(v.shape), dtype=torch.int64 if v.tensor.dtype == "int64" else torch.float32,
                            device=device) for v in graph.inputs]  # fmt: skip
    if isinstance(shape, int):
        return [torch.zeros(batch, shape, dtype=torch.int64, device=device)]
    return [torch.zeros(batch, *shape, device=device)]


def built(torch, make):
    """The module without data on the CPU; inside a mode for such tensors."""
    from torch._subclasses.fake_tensor import DataDependentOutputException

    try:
        return make()
    except DataDependentOutputException:
        # some make lists of rates by asking tensors for their numbers
        with torch._subclasses.fake_tensor.unset_fake_temporarily(), torch.device("meta"):
            module = make()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        return module.to_empty(device="cpu")


def tracked_inference(torch, make, inputs):
    """Peak bytes of a forward pass that MemTracker sees."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        module, given = built(torch, make).eval(), inputs()
        tracker = MemTracker()
        tracker.track_external(module, *given)
        with tracker:
            out = module(*given)
        del out
    return sum(v["Total"] for v in tracker.get_tracker_snapshot("peak").values())


def tracked_training(torch, make, inputs, optimizer, checkpointing, precision):
    """Peak bytes of the second of two training steps that MemTracker sees, written as users write it."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker
    from torch.utils.checkpoint import checkpoint

    from pharos.convert.torch_training import repeated_layers

    makers = {
        "adam": torch.optim.Adam,
        "sgd": partial(torch.optim.SGD, lr=0.01),
        "momentum": partial(torch.optim.SGD, lr=0.01, momentum=0.9),
    }
    with FakeTensorMode(allow_non_fake_inputs=True):
        module = built(torch, make).train()
        narrow = precision == "bf16"
        if narrow:
            module = module.bfloat16()
        given = [t.bfloat16() if narrow and t.dtype.is_floating_point else t for t in inputs()]
        if checkpointing == "layers":
            for layer in repeated_layers(torch, module):
                layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
        own = list(module.parameters())
        copies = [p.detach().float() for p in own] if narrow else own
        rule = makers[optimizer](copies)

        def step():
            rule.zero_grad()
            out = module(*given)
            first = out if isinstance(out, torch.Tensor) else None
            outputs = (
                [first]
                if first is not None
                else [
                    t
                    for t in (out.to_tuple() if hasattr(out, "to_tuple") else out)
                    if isinstance(t, torch.Tensor) and t.requires_grad
                ]
            )
            loss = outputs[0].sum()
            for t in outputs[1:]:
                loss = loss + t.sum()
            loss.backward()
            if narrow:
                for p, copy in zip(own, copies, strict=True):
                    copy.grad, p.grad = p.grad.float(), None
            rule.step()
            if narrow:
                with torch.no_grad():
                    for p, copy in zip(own, copies, strict=True):
                        p.copy_(copy)

        step()
        rule.zero_grad()
        tracker = MemTracker()
        tracker.track_external(module, rule, *given, *(copies if narrow else ()))
        with tracker:
            step()
    return sum(v["Total"] for v in tracker.get_tracker_snapshot("peak").values())


def inference_rows(names):
    """One row a model and batch: (cells, bytes off, graph's error)."""
    import torch

    for name, (make, shape, known, context) in references().items():
        if names and name not in names:
            continue
        for batch in (1, 8):
            truth = tracked_inference(
                torch, make, partial(inputs_of, torch, shape, known, batch, context, "cpu")
            )
            with torch.device("meta"):
                module = make().eval()
            held = held_of(
                pharos.trace(module, *inputs_of(torch, shape, known, batch, context, "meta")).graph()
            )
            ours = eager(find(known).graph(Workload(batch=batch, context=context))).peak
            yield _inference_cells(name, batch, truth, held, ours)
            gc.collect()


def _inference_cells(name, batch, truth, held, ours):
    off, error = held.peak - truth, ours / truth - 1
    cells = [name, batch, f"{truth / 1e6:.2f}", off, f"{ours / 1e6:.2f}", f"{error:+.2%}", held.peak_step]
    return cells, off, error


CASES = ((1, "adam", "none", "fp32"), (8, "momentum", "none", "fp32"), (8, "sgd", "layers", "fp32"),
         (1, "adam", "none", "bf16"))  # fmt: skip


def training_rows(names):
    """One row a model and case."""
    import torch

    for name, (make, shape, known, context) in references().items():
        if names and name not in names:
            continue
        for batch, optimizer, checkpointing, precision in CASES:
            with torch.device("meta"):
                module = make()
            from pharos.convert.torch_training import repeated_layers

            if checkpointing == "layers" and not repeated_layers(torch, module):
                continue
            work = Workload(batch=batch, context=context, precision=precision)
            try:
                truth = tracked_training(torch, make, partial(inputs_of, torch, shape, known, batch, context, "cpu"),
                                         optimizer, checkpointing, precision)  # fmt: skip
                traced = pharos.trace(module, *inputs_of(torch, shape, known, batch, context, "meta"))
                seen = traced.training_memory(
                    work.but(batch=1, context=None), optimizer, checkpointing, "sum"
                )
            except Exception as error:
                print(
                    f"{name} {batch} {optimizer} {checkpointing} {precision}: {error!r}"[:300],
                    file=sys.stderr,
                )
                continue
            try:
                ours = training(find(known).graph(work), optimizer, checkpointing).peak
            except pharos.PharosError:
                ours = None
            off, error = seen.peak - truth, None if ours is None else ours / truth - 1
            yield [name, batch, optimizer, checkpointing, precision, f"{truth / 1e6:.2f}", off,
                   "-" if ours is None else f"{ours / 1e6:.2f}", "-" if error is None else f"{error:+.2%}",
                   seen.peak_step], off, error  # fmt: skip
            gc.collect()


def said(rows):
    """What a table comes to."""
    offs = [abs(off) for _, off, _ in rows]
    errors = sorted(abs(e) for _, _, e in rows if e is not None)
    mean = sum(errors) / len(errors)
    within = sum(e <= 0.03 for e in errors)
    return (
        f"Traced: {sum(o == 0 for o in offs)} of {len(offs)} rows to the byte, {max(offs)} bytes off at most. "
        f"Graph: {mean:.2%} mean error, {errors[len(errors) // 2]:.2%} median, {errors[-1]:.1%} worst; "
        f"{within} of {len(errors)} within 3%."
    )


def main():
    """Prints both tables, or writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--path", help="folder to import torchvision from")
    given = parser.parse_args()
    if given.path:
        sys.path.insert(0, given.path)
    found = []
    for rows in (inference_rows(given.models), training_rows(given.models)):
        kept = []
        for row in rows:
            print("| " + " | ".join(map(str, row[0])) + " |", flush=True)
            kept.append(row)
        found.append(kept)
    if given.out:
        import torch

        texts = [
            "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells, _, _ in rows) for rows in found
        ]
        given.out.write_text(PAGE.format(
            torch=torch.__version__, inference=texts[0], training=texts[1], inference_said=said(found[0]),
            training_said=said(found[1]),
        ))  # fmt: skip
    for rows in found:
        if rows:
            print(said(rows))


if __name__ == "__main__":
    main()
