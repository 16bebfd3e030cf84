"""Encoders and encoder-decoders: numbers of transformers, of a hand-written Transformer, MACs by hand."""

import json

import pytest

from pharos.convert.from_hf import from_hf_config
from pharos.convert.to_torch import to_torch
from pharos.graph.count import count
from pharos.graph.workload import Workload
from pharos.models.encoder_decoder import EncoderDecoder, encoder_decoder
from pharos.models.registry import find
from pharos.quantity.errors import PharosError

torch = pytest.importorskip("torch")
WIDE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
KINDS = {
    "bert": WIDE | {"vocab_size": 90, "max_position_embeddings": 20},
    "roberta": WIDE | {"vocab_size": 90, "max_position_embeddings": 20, "type_vocab_size": 1},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "vocab_size": 90,
                   "max_position_embeddings": 20},
    "openai-gpt": {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 90, "n_positions": 20},
    "t5": {"d_model": 32, "d_kv": 6, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": 90},
    "t5_gated": {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_decoder_layers": 2,
                 "num_heads": 4, "vocab_size": 90, "feed_forward_proj": "gated-gelu",
                 "tie_word_embeddings": False, "relative_attention_num_buckets": 8,
                 "relative_attention_max_distance": 12},
}  # fmt: skip
TINY = EncoderDecoder(
    encoder_layers=2, decoder_layers=3, hidden_size=16, heads=2, head_dim=8, ffn_size=24, vocabulary=50,
    placement="post", mlp_bias=True, embedding_scale=True, default_source=7,
)  # fmt: skip


def written(tmp_path, kind):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(KINDS[kind] | {"model_type": kind.removesuffix("_gated")}))
    return from_hf_config(path)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_outputs_are_those_of_transformers(tmp_path, kind):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    name = kind.removesuffix("_gated")
    config = transformers.AutoConfig.for_model(name, **KINDS[kind], attn_implementation="eager")
    make = {"t5": transformers.AutoModelForSeq2SeqLM, "openai-gpt": transformers.AutoModelForCausalLM}
    theirs = make.get(name, transformers.AutoModel).from_config(config).double().eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model = written(tmp_path, kind)
    graph = model.graph(Workload(batch=2, context=9))
    # where the published head has a matrix of its own, transformers 5 begins with a shared one all the same
    own_head = 32 * 90 if kind == "t5_gated" else 0
    assert count(graph).parameters == sum(p.numel() for p in theirs.parameters()) + own_head
    ours = to_torch(graph).double().eval()
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    # constants that older checkpoints carry: 0, 1, 2, ...
    assert not missing
    assert not [name for name in unexpected if not name.endswith(("position_ids", "token_type_ids"))]
    tokens, source = torch.randint(3, 90, (2, 9)), torch.randint(3, 90, (2, 512))
    with torch.no_grad():
        if name == "t5":
            expected = theirs(input_ids=source, decoder_input_ids=tokens).logits
            found = ours(source, tokens)
        else:
            first = 2 if name == "roberta" else 0
            types = [torch.zeros(2, 9, dtype=torch.int64)] if name in ("bert", "roberta") else []
            found = ours(tokens, torch.arange(first, first + 9)[None], *types)
            answer = theirs(tokens)
            expected = answer.logits if name == "openai-gpt" else answer.last_hidden_state
            if types:
                torch.testing.assert_close(found[1], answer.pooler_output, rtol=1e-9, atol=1e-9)
                found = found[0]
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def run(sizes_or_model, work, weights, inputs, state=None):
    """Builds, loads and runs; encoder weights are left out where there is no encoder."""
    build = getattr(sizes_or_model, "graph", None) or (lambda w: encoder_decoder("tiny", w, sizes_or_model))
    module = to_torch(build(work)).double().eval()
    if not weights:
        weights.update({k: torch.randn_like(v) * 0.3 for k, v in module.state_dict().items()})
        for key in weights:
            if key.endswith(("embed_tokens.weight", "lm_head.weight")) and "shared.weight" in weights:
                weights[key] = weights["shared.weight"]
    module.load_state_dict({k: weights[k] for k in module.state_dict()})
    with torch.no_grad():
        return module(*inputs, state=state)


@pytest.mark.parametrize("kind", ["t5", "transformer"])
def test_decoding_with_kept_source_is_recomputing_everything(tmp_path, kind):
    torch.manual_seed(0)
    model = written(tmp_path, "t5") if kind == "t5" else TINY
    source, tokens = torch.randint(0, 50, (2, 512 if kind == "t5" else 7)), torch.randint(0, 50, (2, 8))
    weights, state = {}, {}
    steps = [
        run(model, Workload(phase="prefill", context=3, batch=2), weights, (source, tokens[:, :3]), state)
    ]
    for n in range(4, 9):
        work = Workload(phase="decode", context=n, batch=2)
        steps.append(run(model, work, weights, (tokens[:, n - 1 : n],), state))
    whole = run(model, Workload(context=8, batch=2), weights, (source, tokens))
    torch.testing.assert_close(torch.cat(steps, 1), whole[:, 2:], rtol=1e-9, atol=1e-9)


def test_the_transformer_computes_what_its_paper_writes():
    """Post-norm layers, sinusoids and shared embeddings, with PyTorch's own attention and norms."""
    F = torch.nn.functional
    torch.manual_seed(0)
    weights, source, tokens = {}, torch.randint(0, 50, (2, 7)), torch.randint(0, 50, (2, 5))
    found = run(TINY, Workload(batch=2, context=5), weights, (source, tokens))
    at = torch.arange(7, dtype=torch.float64)[:, None]
    angle = at / 10000 ** (torch.arange(0, 16, 2, dtype=torch.float64) / 16)
    places = torch.zeros(7, 16, dtype=torch.float64)
    places[:, 0::2], places[:, 1::2] = angle.sin(), angle.cos()

    def embed(ids):
        return weights["shared.weight"][ids] * 4 + places[: ids.shape[1]]

    def attend(x, memory, name, causal):
        q, k, v = (
            (y @ weights[f"{name}.{p}_proj.weight"].T).unflatten(2, (2, 8)).transpose(1, 2)
            for y, p in ((x, "q"), (memory, "k"), (memory, "v"))
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)
        return y @ weights[f"{name}.out_proj.weight"].T

    def normed(x, name):
        return F.layer_norm(x, (16,), weights[f"{name}.weight"], weights[f"{name}.bias"])

    def feed(x, name):
        one, two = ((weights[f"{name}.linear{i}.weight"], weights[f"{name}.linear{i}.bias"]) for i in (1, 2))
        return F.linear(F.relu(F.linear(x, *one)), *two)

    memory, y = embed(source), embed(tokens)
    for i in range(2):
        at = f"encoder.layers.{i}"
        memory = normed(memory + attend(memory, memory, f"{at}.self_attn", False), f"{at}.norm1")
        memory = normed(memory + feed(memory, f"{at}.feed_forward"), f"{at}.norm2")
    for i in range(3):
        at = f"decoder.layers.{i}"
        y = normed(y + attend(y, y, f"{at}.self_attn", True), f"{at}.norm1")
        y = normed(y + attend(y, memory, f"{at}.cross_attn", False), f"{at}.norm2")
        y = normed(y + feed(y, f"{at}.feed_forward"), f"{at}.norm3")
    torch.testing.assert_close(found, y @ weights["shared.weight"].T, rtol=1e-9, atol=1e-9)


def test_macs_by_hand():
    n, d = 512, 768
    layer = n * (4 * d * d + 2 * d * 3072) + 2 * n * n * d
    assert count(find("bert-base").graph()).macs == 12 * layer + d * d
    # T5: 384 source and 128 target tokens; the decoder adds attention to the source
    s, t = 384, 128
    feed = 2 * d * 3072
    encoder = s * (4 * d * d + feed) + 2 * s * s * d
    decoder = t * (6 * d * d + feed) + s * 2 * d * d + 2 * t * t * d + 2 * t * s * d
    counted = count(find("t5-base(source=384)").graph(Workload(context=128)))
    assert counted.macs == 12 * (encoder + decoder) + t * d * 32128


def test_a_decode_step_reads_the_source_and_does_not_make_it_again():
    model = find("t5-base(source=100)")
    d, v = 768, 32128
    step = count(model.graph(Workload(phase="decode", context=11)))
    layer = 6 * d * d + 2 * d * 3072 + 2 * 11 * d + 2 * 100 * d
    assert step.macs == 12 * layer + d * v


@pytest.mark.parametrize("name", ["bert-base", "gpt-1"])
def test_beyond_the_positions_is_refused(name):
    with pytest.raises(PharosError, match="at most 512"):
        find(name).graph(Workload(context=513))
