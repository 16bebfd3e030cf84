"""Hugging Face models that are traced: equal to our own builders, steered by configs, never run as code."""

import importlib
import json
import re
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import pharos
from pharos.convert.from_hf import from_hf_config
from pharos.convert.hf_hub import is_hub_id
from pharos.convert.load import load
from pharos.graph.count import count
from pharos.graph.workload import Workload
from pharos.quantity.errors import InputError, PharosError, UnknownName

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from pharos.convert.hf_bounds import TooLong, bounded  # noqa: E402
from pharos.convert.hf_class import config_of, require_transformers  # noqa: E402
from pharos.convert.hf_trace import build, traced  # noqa: E402

TINY = json.loads(Path(__file__).with_name("tiny_configs.json").read_text())
ENCODERS = {
    "bert": {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128,
             "vocab_size": 1000},
    "t5": {"num_layers": 2, "d_model": 64, "d_kv": 16, "num_heads": 4, "d_ff": 128, "vocab_size": 1000},
    "distilbert": {"n_layers": 2, "dim": 64, "n_heads": 4, "hidden_dim": 128, "vocab_size": 1000},
    "openai-gpt": {"n_layer": 2, "n_embd": 64, "n_head": 4, "vocab_size": 1000},
}  # fmt: skip
ENCODERS |= dict.fromkeys(("roberta", "camembert", "xlm-roberta"), ENCODERS["bert"])
# A window as long as the context hides nothing: what a kernel skips of it and a mask hides is the same then.
WIDE = {"sliding_window": 4096}
# What the reference code does beyond what the model needs, in MACs of 24 tokens; see the tests below.
ALSO = {"mamba", "mamba2", "llama4_text"}
# Its reader takes a context for the answer's length and a source of 512; the trace takes it for both.
APART = {"t5"}


def models(tmp_path, kind, **more):
    data = {"model_type": kind, **(TINY | ENCODERS)[kind], **more}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(data))
    module = build(torch, require_transformers(), config_of(transformers, data, str(path)))
    return from_hf_config(path), traced(torch, module, kind), module


def figures(model, **work):
    counted = count(model.graph(Workload(context=24, **work)))
    assert not counted.uncounted
    return counted.parameters, counted.macs, counted.state_bytes


@pytest.mark.parametrize("kind", sorted(set(TINY | ENCODERS) - ALSO - APART))
def test_a_builder_and_a_trace_of_the_reference_are_equal(tmp_path, kind):
    wide = WIDE if "sliding_window" in TINY.get(kind, {}) else {}
    ours, theirs, module = models(tmp_path, kind, **wide)
    # the router's correction is learned, and a buffer there
    buffers = sum(b.numel() for n, b in module.named_buffers() if n.endswith("correction_bias"))
    for work in ({}, {"batch": 2}):
        parameters, macs, state = figures(theirs, **work)
        assert figures(ours, **work) == (parameters + buffers, macs, state)


def test_a_t5_is_what_a_trace_of_its_source_and_answer_is(tmp_path):
    ours, _, module = models(tmp_path, "t5")
    ids = {n: torch.ones(2, length, dtype=torch.long)
           for n, length in (("input_ids", 512), ("decoder_input_ids", 24))}  # fmt: skip
    theirs = count(pharos.trace(module, **ids).graph())
    assert figures(ours, batch=2) == (theirs.parameters, theirs.macs, theirs.state_bytes)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "qwen3_moe", "gpt_neox", "smollm3", "rwkv"])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_prefill_and_decode_keep_and_compute_the_same(tmp_path, kind, phase):
    wide = WIDE if "sliding_window" in TINY[kind] else {}
    ours, theirs, _ = models(tmp_path, kind, **wide)
    # a step of RWKV's reference mixes the samples of a batch: it computes the square of their number
    for batch in (1,) if (kind, phase) == ("rwkv", "decode") else (1, 2):
        assert figures(ours, phase=phase, batch=batch) == figures(theirs, phase=phase, batch=batch)


@pytest.mark.parametrize("phase", ["forward", "decode"])
def test_mamba_s_reference_also_convolves_beyond_the_end(tmp_path, phase):
    ours, theirs, module = models(tmp_path, "mamba")
    (p, a, s), (q, b, t) = figures(ours, phase=phase), figures(theirs, phase=phase)
    assert (p, s) == (q, t)
    # kernel - 1 positions more in each of the two layers, cut off again; one step multiplies them out alone
    tail = 2 * 3 * module.config.intermediate_size * module.config.conv_kernel
    assert 0 <= b - a <= tail


@pytest.mark.parametrize("kind", ["olmo2", "granite", "vit", "clip", "qwen2_vl"])
def test_what_has_no_reader_is_traced_with_every_parameter(tmp_path, kind):
    sizes = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128}
    text = sizes | {"num_key_value_heads": 2, "vocab_size": 1000, "pad_token_id": 0}
    sections = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    data = {"olmo2": text, "granite": text, "vit": sizes,
            "clip": {"text_config": sizes, "vision_config": sizes, "architectures": ["CLIPModel"]},
            "qwen2_vl": {"text_config": text | {"rope_parameters": sections}, "vision_config": {"depth": 2, "embed_dim": 32, "num_heads": 2,
                                                               "hidden_size": 64}, "image_token_id": 7},
            }[kind]  # fmt: skip
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": kind, **data}))
    graph = load(str(path)).graph(Workload(context=16))
    module = build(torch, transformers, config_of(transformers, {"model_type": kind, **data}, ""))
    assert count(graph).parameters == sum(p.numel() for p in module.parameters())
    assert not count(graph).uncounted
    assert not graph.meta.get("unused")
    assert type(module).__name__ in graph.meta["notes"][0]


def test_a_text_with_an_image_holds_a_token_for_each_of_its_pieces(tmp_path):
    text = {"num_hidden_layers": 1, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
            "intermediate_size": 128, "vocab_size": 1000}  # fmt: skip
    vision = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64,
              "image_size": 56, "patch_size": 14}  # fmt: skip
    data = {"model_type": "llava", "text_config": text | {"model_type": "llama"}, "image_token_index": 7,
            "vision_config": vision | {"model_type": "clip_vision_model"}}  # fmt: skip
    path = tmp_path / "config.json"
    path.write_text(json.dumps(data))
    graph = load(str(path)).graph(Workload(context=40, batch=2))
    shapes = {v.name: v.tensor.shape for v in graph.inputs}
    assert shapes["input_ids"] == (2, 40)
    assert shapes["pixel_values"] == (2, 3, 56, 56)


def test_code_that_a_config_points_to_is_left_alone(tmp_path):
    (tmp_path / "modeling_own.py").write_text("raise SystemExit('ran')")
    data = {"model_type": "olmo2", "num_hidden_layers": 1, "hidden_size": 64, "num_attention_heads": 4,
            "intermediate_size": 128, "vocab_size": 1000, "pad_token_id": 0,
            "architectures": ["OwnForCausalLM"], "auto_map": {"AutoModelForCausalLM": "modeling_own.Own"},
            }  # fmt: skip
    path = tmp_path / "config.json"
    path.write_text(json.dumps(data))
    notes = load(str(path)).graph(Workload(context=8)).meta["notes"]
    assert "Olmo2ForCausalLM" in notes[0]
    assert any("never run" in note for note in notes)
    assert any("OwnForCausalLM" in note for note in notes)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"model_type": "resnett"}, "resnet"),
        ({"model_type": "olmo2", "num_attention_heads": "many"}, "config.json"),
        ({"model_type": "olmo2", "hidden_size": 0}, "config.json"),
    ],
)
def test_a_config_that_makes_no_model_is_told_in_a_line(tmp_path, data, told):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(data))
    with pytest.raises(PharosError) as caught:
        load(str(path)).graph(Workload(context=8))
    assert told in str(caught.value)


def test_decoding_is_refused_by_what_makes_no_tokens(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "resnet", "depths": [1, 1, 1, 1]}))
    with pytest.raises(PharosError, match="does not make one token"):
        load(str(path)).graph(Workload(phase="decode"))


def test_a_hub_id_fetches_the_config_alone(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **TINY["llama"]}))
    asked = []
    hub: Any = ModuleType("huggingface_hub")

    def download(name, file, local_files_only):
        asked.append((name, file, local_files_only))
        if name == "org/none":
            raise OSError("no such host")
        return str(tmp_path / file)

    hub.hf_hub_download = download
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.chdir(tmp_path)
    assert count(load("org/name").graph()).parameters == 138048
    assert load("org/name").name == "org/name"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="offline"):
        load("org/none")
    assert asked == [("org/name", "config.json", False)] * 2 + [("org/none", "config.json", True)]


def test_a_path_is_no_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    assert is_hub_id("meta-llama/Llama-3.1-8B")
    for text in ("folder/model", "models/x.onnx", "a/b/c", "./a", "../a/b", "a/config.json", "/a/b", "resnet50",
                 "m.n:f", "a\\b"):  # fmt: skip
        assert not is_hub_id(text), text


def benchmark():
    """The script that writes the page."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    try:
        return importlib.import_module("hf_coverage")
    finally:
        sys.path.pop(0)


def tables():
    """The tables of the page, by what is above them."""
    found = {}
    for part in (Path(__file__).parents[2] / "docs" / "huggingface.md").read_text().split("\n## "):
        lines = [line for line in part.splitlines() if line.startswith("| ")]
        found[part.partition("\n")[0]] = [[c.strip() for c in line.split("|")[1:-1]] for line in lines]
    return found


def test_the_totals_of_the_page_are_those_of_its_rows():
    page = tables()
    said = {name: int(n) for name, n in page["# Hugging Face architectures"][1:] if n.isdigit()}
    left, unbuilt, traced_rows = (page[title][1:] for title in list(page)[1:])
    names = {row[0] for row in left + unbuilt + traced_rows}
    remarks = [row[-1] for row in traced_rows]
    assert said["types"] == len(names)
    assert said["buildable"] == len(names) - len(unbuilt)
    assert said["traced"] == len(traced_rows)
    assert said["wholly exact"] == said["buildable"] - len(left)
    assert said["wholly exact, every tensor run"] == said["wholly exact"] - said["with tensors not run"]
    assert said["at least"] == sum("at least" in r for r in remarks)
    assert said["with other parameters"] == sum("PyTorch holds" in r for r in remarks)
    assert said["with tensors not run"] == sum("tensors not run" in r for r in remarks)
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if transformers.__version__ in (Path(__file__).parents[2] / "docs" / "huggingface.md").read_text():
        assert names == set(CONFIG_MAPPING.keys())
    assert all(row[-1] for row in left + unbuilt)


@pytest.mark.parametrize("kind", ["albert", "beit", "bart", "biogpt", "convnext", "fnet"])
def test_rows_of_the_page_are_what_a_run_gives(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        row = benchmark().measured(kind)
    rows = {row[0]: row for row in tables()["All that are traced"]}
    made = benchmark().told(row)
    assert [*made[:4], made[5]] == [*rows[kind][:4], rows[kind][5]]


ABSURD = [
    {"num_hidden_layers": 10**9}, {"hidden_size": 10**12}, {"hidden_size": 10**30}, {"num_attention_heads": 10**9},
    {"vocab_size": 10**12}, {"intermediate_size": -(10**12)}, {"layer_types": [[10**9]] * 3},
    {"max_position_embeddings": 10**15}, {"rope_scaling": {"n_layers": 10**9}}, {"num_hidden_layers": 1e300},
]  # fmt: skip


ENTRIES = {k for d in ABSURD for k in d} | {"n_layers"}


@pytest.mark.parametrize("absurd", ABSURD, ids=str)
def test_sizes_that_no_network_has_are_refused_before_anything_is_built(tmp_path, absurd, monkeypatch):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "nystromformer", **absurd}))
    monkeypatch.setattr("pharos.convert.hf_trace.build", lambda *_: pytest.fail("it is built"))
    with pytest.raises(InputError, match="beyond what any network has|at most 10000") as caught:
        load(str(path))
    assert re.search("|".join(ENTRIES), str(caught.value))


def test_a_model_of_too_many_modules_is_not_built_to_the_end():
    made = []

    class Deep(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = torch.nn.ModuleList()
            while True:
                made.append(1)
                self.parts.append(torch.nn.Identity())

    with pytest.raises(TooLong, match="50 modules"), bounded(torch, most=50):
        Deep()
    assert len(made) <= 52


def test_what_takes_too_long_to_build_is_stopped():
    def endless():
        while True:
            pass

    with pytest.raises(TooLong), bounded(torch, seconds=0.05):
        endless()
    # and nothing comes after it
    with bounded(torch, seconds=0.05):
        pass
    sum(range(10**5))


def test_entries_of_the_wrong_kind_are_told_or_passed_over(tmp_path):
    path = tmp_path / "config.json"
    sizes = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32,
             "image_size": 32, "patch_size": 16}  # fmt: skip
    path.write_text(json.dumps({"model_type": "vit", **sizes, "architectures": -1}))
    assert count(load(str(path)).graph()).parameters > 0
    for wrong in ({"num_hidden_layers": "x"}, {"hidden_size": []}, {"image_size": {}}, {"patch_size": 0}):
        path.write_text(json.dumps({"model_type": "vit", **sizes, **wrong}))
        with pytest.raises(PharosError):
            load(str(path)).graph()


def test_what_depends_on_data_is_run_once_on_random_weights_the_same_each_time(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "superpoint", "encoder_hidden_sizes": [8, 8, 8, 8],
                                "decoder_hidden_size": 16, "descriptor_decoder_dim": 16}))  # fmt: skip
    before = torch.random.get_rng_state()
    graphs = [load(str(path)).graph(Workload(context=8)) for _ in range(2)]
    assert torch.equal(before, torch.random.get_rng_state())
    assert count(graphs[0]).macs == count(graphs[1]).macs > 0
    assert not count(graphs[0]).uncounted
    assert "random weights" in " ".join(graphs[0].meta["notes"])


def test_an_unknown_type_names_the_nearest(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"model_type": "lama"}')
    with pytest.raises(UnknownName, match="did you mean"):
        from_hf_config(path)
