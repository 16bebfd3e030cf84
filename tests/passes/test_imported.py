"""Traced modules: the same operators, counts and blocks however a network was written."""

import pytest
import torch
from torch import nn

from pharos.convert.from_torch import trace
from pharos.convert.to_torch import to_torch
from pharos.graph.count import count
from pharos.graph.graph import Repeat
from pharos.graph.workload import Workload
from pharos.passes.recognise import recognise

transformers = pytest.importorskip("transformers")
IDS, IMAGE = torch.zeros(2, 16, dtype=torch.long), torch.zeros(2, 3, 32, 32)
SMALL = {"num_hidden_layers": 4, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
WORDS = {"vocab_size": 100, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
CONFIGS = {
    "llama": ({**SMALL, **WORDS, "num_key_value_heads": 2, "use_cache": False},
              ("pre-norm transformer block", "GQA 2:1, causal, SwiGLU", 4)),
    "gpt2": ({"n_embd": 64, "n_layer": 4, "n_head": 4, "use_cache": False, **WORDS},
             ("pre-norm transformer block", "causal", 4)),
    "gptj": ({"n_embd": 64, "n_layer": 4, "n_head": 4, "rotary_dim": 8, "use_cache": False, **WORDS},
             ("pre-norm transformer block", "causal, parallel", 4)),
    "gpt_neox": ({**SMALL, **WORDS, "use_cache": False}, ("pre-norm transformer block", "causal, parallel", 4)),
    "bert": ({**SMALL, **WORDS}, ("post-norm transformer block", "", 4)),
    "vit": ({**SMALL, "image_size": 32, "patch_size": 8}, ("pre-norm transformer block", "", 4)),
    "t5": ({"d_model": 64, "d_ff": 128, "num_layers": 4, "num_heads": 4, "d_kv": 16, "use_cache": False, **WORDS},
           ("pre-norm transformer block with cross attention", "causal", 4)),
    "bart": ({"d_model": 64, "encoder_layers": 4, "decoder_layers": 4, "encoder_ffn_dim": 128,
              "decoder_ffn_dim": 128, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
              "use_cache": False, **WORDS},
             ("post-norm transformer block with cross attention", "causal", 4)),
}  # fmt: skip


def built(kind, way):
    config = transformers.AutoConfig.for_model(kind, **CONFIGS[kind][0])
    with torch.device("meta"):
        module = transformers.AutoModel.from_config(config, attn_implementation=way).eval()
    if kind == "vit":
        return module, (IMAGE,), {}
    if kind in ("t5", "bart"):
        return module, (), {"input_ids": IDS, "decoder_input_ids": IDS}
    return module, (IDS,), {}


def kinds(graph):
    return [n.op.kind for n in graph.expanded().nodes]


@pytest.mark.parametrize("kind", sorted(CONFIGS))
def test_attention_is_one_operator_however_it_was_written(kind):
    graphs = {}
    for way in ("eager", "sdpa"):
        module, args, more = built(kind, way)
        graphs[way] = trace(module, *args, **more).graph()
    eager, sdpa = graphs["eager"], graphs["sdpa"]
    assert count(eager).macs == count(sdpa).macs
    assert count(eager).work.masked_macs == count(sdpa).work.masked_macs
    assert count(eager).parameters == sum(p.numel() for p in module.parameters())
    assert eager.parameter_names() == sdpa.parameter_names()
    attentions = [[n.op for n in g.expanded().nodes if n.op.kind == "attention"] for g in (eager, sdpa)]
    assert len(attentions[0]) == len(attentions[1]) >= 4
    for one, two in zip(*attentions, strict=True):
        assert (one.causal, one.softcap) == (two.causal, two.softcap)
        assert (one.algorithm, two.algorithm) == ("materialised", "tiled")
    for kind_ in ("softmax", "mat_mul"):
        assert kind_ not in kinds(eager)
    block, detail, number = CONFIGS[kind][1]
    for graph in (eager, sdpa):
        rows = [(r["block"], r["detail"], r["count"]) for r in recognise(graph).rows() if not r["part"]]
        # a first layer that makes the bias of the others stands alone
        assert sum(n for b, d, n in rows if (b, d) == (block, detail)) == number
        assert any(isinstance(n, Repeat) and n.count >= 3 for n in graph.nodes)


class ByHand(nn.Module):
    """Multi-head attention as textbooks write it, masked by a filled triangle."""

    def __init__(self, causal):
        super().__init__()
        self.qkv, self.out, self.causal = nn.Linear(32, 96), nn.Linear(32, 32), causal

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, 4, 8).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1)) * 8**-0.5
        if self.causal:
            hidden = torch.triu(torch.ones(t, t, dtype=torch.bool, device=x.device), 1)
            scores = scores.masked_fill(hidden, float("-inf"))
        y = scores.softmax(-1) @ v
        return self.out(y.transpose(1, 2).reshape(b, t, 32))


@pytest.mark.parametrize("causal", [False, True])
def test_attention_of_a_textbook(causal):
    module = ByHand(causal).eval()
    x = torch.randn(2, 5, 32)
    graph = trace(module, x).graph(Workload(batch=2))
    (op,) = [n.op for n in graph.nodes if n.op.kind == "attention"]
    assert op.causal is causal
    again = to_torch(graph)
    again.load_state_dict(module.state_dict())
    with torch.no_grad():
        assert torch.allclose(again(x), module(x), atol=1e-6)


@pytest.mark.parametrize("layer", [
    lambda: nn.MultiheadAttention(32, 4, batch_first=True),
    lambda: nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True),
])  # fmt: skip
def test_attention_of_torch(layer):
    module = layer().eval()
    args = (torch.zeros(2, 5, 32),) * (3 if isinstance(module, nn.MultiheadAttention) else 1)
    more = {"need_weights": False} if len(args) == 3 else {}
    graph = trace(module, *args, **more).graph()
    assert kinds(graph).count("attention") == 1
    assert count(graph).parameters == sum(p.numel() for p in module.parameters())
    # three projections and one back, scores and their product with values; and the feed-forward part
    macs = 2 * 5 * 4 * 32 * 32 + 2 * 2 * 5 * 5 * 32
    assert count(graph).macs == macs + (0 if len(args) == 3 else 2 * 2 * 5 * 32 * 64)


class Loop(nn.Module):
    """A recurrence as a loop over cells."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell(8, 12)

    def forward(self, x):
        h = x.new_zeros(x.shape[0], 12)
        state = (h, h) if isinstance(self.cell, nn.LSTMCell) else h
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
        return state


@pytest.mark.parametrize(
    ("cell", "whole", "name"),
    [(nn.LSTMCell, nn.LSTM, "LSTM layer"), (nn.GRUCell, nn.GRU, "GRU layer"),
     (nn.RNNCell, nn.RNN, "recurrent layer")],
)  # fmt: skip
def test_a_loop_over_cells_is_a_recurrence(cell, whole, name):
    x = torch.zeros(2, 6, 8)
    loop, layer = trace(Loop(cell), x).graph(), trace(whole(8, 12, batch_first=True), x).graph()
    assert count(loop).macs == count(layer).macs
    assert count(loop).parameters == count(layer).parameters
    found = recognise(loop)
    assert (found.family, found.count(name)) == ("rnn", 1)
    assert [b.block for b in found.blocks] == [name]
    assert recognise(layer).count(name) == 1


@pytest.mark.parametrize("scale", ["q", "scores"])
@pytest.mark.parametrize("kind", ["add", "fill"])
def test_masks_of_an_input_stay(scale, kind):
    """A mask that is not known before the run is a bias."""

    class Masked(nn.Module):
        def forward(self, q, k, v, mask):
            q = q * 0.5 if scale == "q" else q
            scores = q @ k.mT
            scores = scores if scale == "q" else scores * 0.5
            scores = scores + mask if kind == "add" else scores.masked_fill(mask > 0, -1e9)
            return scores.softmax(-1) @ v

    inputs = [torch.randn(2, 3, 5, 4) for _ in range(3)]
    inputs.append(torch.randn(2, 1, 5, 5))
    graph = trace(Masked(), *inputs).graph(Workload(batch=2))
    (node,) = [n for n in graph.nodes if n.op.kind == "attention"]
    assert (len(node.inputs), node.op.causal) == (4, False)
    assert torch.allclose(to_torch(graph)(*inputs), Masked()(*inputs), atol=1e-6)
