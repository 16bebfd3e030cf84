"""Fuzz: mutated ONNX files and Hugging Face configs; every one is read or refused with one clear error.

    python benchmarks/fuzz.py --inputs 20000 --seed 0 --keep failures

Each input is read and counted in a worker process with bounded memory. A crash, a hang or any exception but
PharosError is a failure; its input is saved. The last line sums up; the exit code is 1 if anything failed.
"""

import argparse
import json
import multiprocessing
import os
import random
import resource
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIMIT_S, MEMORY = 5.0, 4 << 30
ROOT = Path(__file__).resolve().parents[1]
ABSURD = (0, -1, 1, 2**31 - 1, 2**31, 2**63 - 1, -(2**63), 10**9, 10**12, 65_536)
WORDS = (
    "",
    "x",
    "\0",
    "../../etc/passwd",
    "a" * 10_000,
    "\ud7ff",
    "Loop",
    "If",
    "com.microsoft",
    "float16",
    "NaN",
)


# Seeds: small files of many kinds, written here, so that no data set is needed.


def onnx_seeds() -> list[bytes]:
    """Serialised models: the standard's own small ones, up to six forms an operator, and graphs of ours."""
    from onnx.backend.test.case.node import collect_testcases

    found: dict[str, bytes] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in collect_testcases(None):
            if case.model is not None and case.model.ByteSize() < 20_000:
                kind = case.model.graph.node[0].op_type
                key = f"{kind}{sum(k.startswith(kind) for k in found) % 6}"
                found[key] = case.model.SerializeToString()
    return [*found.values(), *graph_seeds()]


def graph_seeds() -> list[bytes]:
    """A few of our own graphs as ONNX files, with marks."""
    import tempfile

    import onnx

    from pharos.convert.load import load
    from pharos.convert.to_onnx import to_onnx

    found = []
    with tempfile.TemporaryDirectory() as folder:
        for i, name in enumerate(("lenet5", "mlp(widths=[8, 16, 4])", "espcn", "lstm_tagger(vocabulary=20)",
                                  "vit_t_16(resolution=32, classes=10)")):  # fmt: skip
            path = to_onnx(load(name).graph(), Path(folder) / f"{i}.onnx", "zeros")
            model = onnx.load(str(path))
            for tensor in model.graph.initializer:
                if len(tensor.raw_data) > 2000:
                    tensor.ClearField("raw_data")
            found.append(model.SerializeToString())
    return found


def config_seeds() -> list[bytes]:
    """Small configs of every kind of model that is read from one."""
    tiny = json.loads((ROOT / "tests" / "convert" / "tiny_configs.json").read_text())
    return [json.dumps(row | {"model_type": kind}).encode() for kind, row in tiny.items()]


# Mutations of bytes, of protobuf fields, of JSON.


def flipped(rng: random.Random, data: bytes) -> bytes:
    """A few bytes changed, taken out, repeated, or the end cut off."""
    made = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(made)) if made else 0
        how = rng.randrange(5)
        if not made:
            break
        if how == 0:
            made[at] = rng.randrange(256)
        elif how == 1:
            made[at] ^= 1 << rng.randrange(8)
        elif how == 2:
            del made[at : at + rng.randint(1, 20)]
        elif how == 3:
            made[at:at] = made[at : at + rng.randint(1, 40)]
        else:
            del made[rng.randrange(len(made)) :]
    return bytes(made)


def remodelled(rng: random.Random, data: bytes) -> bytes:
    """A model changed field by field: dimensions, names, kinds, attributes, order, nesting."""
    import onnx

    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception:
        return data
    for _ in range(rng.randint(1, 4)):
        rng.choice(_CHANGES)(rng, model, onnx)
    try:
        return model.SerializeToString()
    except Exception:
        return data


def _node(rng: random.Random, model: Any) -> Any:
    nodes = model.graph.node
    return rng.choice(list(nodes)) if nodes else model.graph.node.add()


def _dims(rng: random.Random, model: Any, onnx: Any) -> None:
    held = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    if held and rng.random() < 0.6:
        dims = rng.choice(held).type.tensor_type.shape.dim
        if dims:
            dim = rng.choice(list(dims))
            if rng.random() < 0.2:
                dim.dim_param = rng.choice(("N", "batch", "", "x" * 100))
            else:
                dim.dim_value = rng.choice(ABSURD)
    elif model.graph.initializer:
        tensor = rng.choice(list(model.graph.initializer))
        if tensor.dims and rng.random() < 0.7:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(ABSURD)
        else:
            tensor.dims.append(rng.choice(ABSURD))


def _names(rng: random.Random, model: Any, onnx: Any) -> None:
    node = _node(rng, model)
    known = [n for m in model.graph.node for n in (*m.input, *m.output)] + [v.name for v in model.graph.input]
    side = rng.choice((node.input, node.output))
    name = rng.choice(known or ["x"])
    if side and rng.random() < 0.8:
        side[rng.randrange(len(side))] = rng.choice((name, "", "nowhere"))
    else:
        side.append(name)


def _order(rng: random.Random, model: Any, onnx: Any) -> None:
    nodes = list(model.graph.node)
    how = rng.randrange(3)
    if how == 0:
        rng.shuffle(nodes)
    elif how == 1 and nodes:
        nodes += [rng.choice(nodes)] * rng.randint(1, 20)
    else:
        nodes = nodes[: len(nodes) // 2]
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def _kind(rng: random.Random, model: Any, onnx: Any) -> None:
    node = _node(rng, model)
    schema = rng.choice(onnx.defs.get_all_schemas())
    node.op_type, node.domain = schema.name, schema.domain
    if rng.random() < 0.3:
        node.domain = rng.choice(("", "com.microsoft", "ai.onnx.ml", "nowhere"))


def _attributes(rng: random.Random, model: Any, onnx: Any) -> None:
    node = _node(rng, model)
    if not node.attribute or rng.random() < 0.3:
        names = [a for s in onnx.defs.get_all_schemas()[:200] for a in s.attributes]
        attribute = node.attribute.add()
        attribute.name = rng.choice(names)
        attribute.type = rng.choice((1, 2, 3, 6, 7, 8))
    else:
        attribute = rng.choice(list(node.attribute))
    number = rng.choice(ABSURD)
    if rng.random() < 0.2:
        attribute.type = rng.randrange(12)
    if attribute.ints and rng.random() < 0.7:
        attribute.ints[rng.randrange(len(attribute.ints))] = number
    else:
        attribute.ints.extend([number] * rng.randint(0, 5))
    attribute.i, attribute.f = number, float(rng.choice((number, float("nan"), float("inf"))))
    attribute.s = rng.choice(WORDS).encode("utf-8", "surrogatepass")


def _types(rng: random.Random, model: Any, onnx: Any) -> None:
    held = [v.type.tensor_type for v in (*model.graph.input, *model.graph.output)]
    tensors = list(model.graph.initializer)
    if held and rng.random() < 0.5:
        rng.choice(held).elem_type = rng.randrange(30)
    elif tensors:
        rng.choice(tensors).data_type = rng.randrange(30)


def _opset(rng: random.Random, model: Any, onnx: Any) -> None:
    for entry in model.opset_import:
        entry.version = rng.choice((0, 1, 7, 8, 9, 10, 12, 13, 17, 18, 20, 22, 24, 27, 2**40))


def _data(rng: random.Random, model: Any, onnx: Any) -> None:
    if not model.graph.initializer:
        return
    tensor = rng.choice(list(model.graph.initializer))
    tensor.ClearField("raw_data")
    if rng.random() < 0.5:
        tensor.int64_data.extend([rng.choice(ABSURD) for _ in range(rng.randint(0, 6))])
        tensor.data_type = 7
        del tensor.dims[:]
        tensor.dims.append(len(tensor.int64_data))
    else:
        tensor.data_location = 1
        tensor.external_data.add(key="location", value=rng.choice(WORDS).replace("\ud7ff", "u"))


def _functions(rng: random.Random, model: Any, onnx: Any) -> None:
    """A function that calls itself, or twice another."""
    function = model.functions.add(name="f", domain="local")
    function.input.append("a")
    function.output.append("b")
    for _ in range(rng.randint(1, 3)):
        function.node.add(op_type=rng.choice(("f", "Relu", "g")), domain=rng.choice(("local", "")),
                          input=["a"], output=["b"])  # fmt: skip
    node = _node(rng, model)
    node.op_type, node.domain = "f", "local"


def _nested(rng: random.Random, model: Any, onnx: Any) -> None:
    """The graph inside a branch or a loop of itself."""
    inner = onnx.GraphProto.FromString(model.graph.SerializeToString())
    kind = rng.choice(("If", "Loop", "Scan"))
    node = model.graph.node.add(op_type=kind, name="nested")
    given = [v.name for v in model.graph.input] or ["x"]
    node.input.extend(given[: rng.randint(0, 3)])
    node.output.extend([f"nested{i}" for i in range(rng.randint(1, 3))])
    for name in ("then_branch", "else_branch") if kind == "If" else ("body",):
        attribute = node.attribute.add(name=name, type=5)
        attribute.g.CopyFrom(inner)
    if kind == "Scan":
        node.attribute.add(name="num_scan_inputs", type=2, i=rng.choice((0, 1, 2, -1, 99)))


_CHANGES: tuple[Callable[..., None], ...] = (
    _dims, _names, _order, _kind, _attributes, _types, _opset, _data, _functions, _nested, _attributes, _dims, _names,
)  # fmt: skip


def reconfigured(rng: random.Random, data: bytes) -> bytes:
    """A config changed key by key."""
    row = json.loads(data)
    for _ in range(rng.randint(1, 4)):
        at: Any = row
        key = rng.choice(list(at)) if at else "x"
        while isinstance(at.get(key), dict) and at[key] and rng.random() < 0.5:
            at = at[key]
            key = rng.choice(list(at))
        how = rng.randrange(6)
        if how == 0:
            at.pop(key, None)
        elif how == 1:
            at[key] = rng.choice((*ABSURD, 0.5, -0.5, 1e308, float("nan"), float("inf"), 10**30, 7, 3))
        elif how == 2:
            at[key] = rng.choice((None, True, False, [], {}, "", [None], [[]], {"a": 1}, "x" * 5000))
        elif how == 3:
            at[key] = rng.choice(WORDS)
        elif how == 4:
            at[key] = [at.get(key)] * rng.choice((1, 3, 1000))
        else:
            other = rng.choice(list(at)) if at else key
            at[key] = at.get(other)
    text = json.dumps(row).encode()
    return flipped(rng, text) if rng.random() < 0.15 else text


# Workers.


def attempt(path: Path) -> str:
    """How reading one input ends: "read", "refused", or a traceback."""
    from pharos.convert.load import load
    from pharos.graph.count import count
    from pharos.quantity.errors import PharosError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            count(load(str(path)).graph())
        return "read"
    except PharosError as error:
        return "refused" if len(str(error)) < 20_000 else f"an error of {len(str(error))} characters"
    except MemoryError:
        return f"MemoryError\n{traceback.format_exc()[-2000:]}"
    except BaseException:
        return traceback.format_exc()[-3000:]


def _work(pipe: Any, path: str) -> None:
    """Reads every input that it is sent, until told to stop."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.environ["PHAROS_CACHE"] = "off"
    while (data := pipe.recv()) is not None:
        suffix, content = data
        target = Path(path).with_suffix(suffix)
        target.write_bytes(content)
        pipe.send(attempt(target))


class Worker:
    """A process that reads inputs; replaced when it dies or hangs."""

    def __init__(self, folder: Path, number: int) -> None:
        self.path = folder / f"input{number}"
        self.start()

    def start(self) -> None:
        """A fresh process."""
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=_work, args=(theirs, str(self.path)), daemon=True)
        self.process.start()
        theirs.close()

    def read(self, suffix: str, content: bytes) -> str:
        """How one input ends."""
        self.pipe.send((suffix, content))
        try:
            if self.pipe.poll(LIMIT_S):
                return self.pipe.recv()
            verdict = f"hang: more than {LIMIT_S} s"
        except EOFError:
            self.process.join(1)
            verdict = f"crash: exit code {self.process.exitcode}"
        self.process.kill()
        self.process.join()
        self.start()
        return verdict


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    parser.add_argument("--configs", type=float, default=0.35, help="share of inputs that are configs")
    args = parser.parse_args()
    import tempfile

    rng, began = random.Random(args.seed), time.perf_counter()
    models, configs = onnx_seeds(), config_seeds()
    print(f"{len(models)} ONNX seeds, {len(configs)} configs", flush=True)
    tally: Counter[str] = Counter()
    slowest, kinds = 0.0, Counter()
    with tempfile.TemporaryDirectory() as folder:
        # one worker: what it is sent next depends on nothing that ran before
        worker = Worker(Path(folder), 0)
        for i in range(args.inputs):
            if rng.random() < args.configs:
                suffix, content = ".json", reconfigured(rng, rng.choice(configs))
            else:
                seed = rng.choice(models)
                content = flipped(rng, seed) if rng.random() < 0.3 else remodelled(rng, seed)
                suffix = ".onnx"
            start = time.perf_counter()
            verdict = worker.read(suffix, content)
            slowest = max(slowest, time.perf_counter() - start)
            kind = verdict if verdict in ("read", "refused") else "failed"
            tally[kind] += 1
            if kind == "failed":
                args.keep.mkdir(parents=True, exist_ok=True)
                (args.keep / f"{args.seed}-{i}{suffix}").write_bytes(content)
                last = verdict.strip().splitlines()[-1][:200]
                kinds[last] += 1
                if kinds[last] <= 2:
                    print(f"{args.seed}-{i}{suffix}: {verdict}", flush=True)
            if i % 2000 == 1999:
                print(f"{i + 1} inputs, {tally['failed']} failures", flush=True)
        worker.pipe.send(None)
    spent = time.perf_counter() - began
    print(
        f"fuzz: {args.inputs} inputs, {tally['read']} read, {tally['refused']} refused, {tally['failed']} failed; "
        f"slowest {slowest:.2f} s; {spent:.0f} s in all"
    )
    for text, times in kinds.most_common(20):
        print(f"  {times} x {text}")
    return 1 if tally["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
