"""Configs of encoders, of T5, and of GPT-1: BertModel and its like, T5ForConditionalGeneration."""

from pharos.convert.from_hf import Config, reader
from pharos.models.encoder import Encoder, encoder
from pharos.models.encoder_decoder import EncoderDecoder, encoder_decoder
from pharos.models.registry import Model
from pharos.models.transformer import Decoder, decoder

# What the classes of transformers 5.23 take when a config leaves a key out.
BERT = {
    "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072, "hidden_act": "gelu", "max_position_embeddings": 512, "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}  # fmt: skip


@reader("bert", **BERT)
def _bert(name: str, config: Config) -> Model:
    return _encoder(name, config, 0)


@reader("camembert", "xlm-roberta", **BERT)
@reader("roberta", **BERT | {"vocab_size": 50265})
def _roberta(name: str, config: Config) -> Model:
    # positions count from the padding token's number on: the first rows of the table are never used
    return _encoder(name, config, config.count("pad_token_id") + 1 if "pad_token_id" in config.data else 2)


def _encoder(name: str, config: Config, unused: int) -> Model:
    config.refuse(is_decoder=(False,), add_cross_attention=(False,))
    sizes = Encoder(
        layers=config.whole("num_hidden_layers"), hidden_size=config.whole("hidden_size"),
        heads=config.whole("num_attention_heads"), ffn_size=config.whole("intermediate_size"),
        vocabulary=config.whole("vocab_size"), extra_positions=unused,
        max_context=config.whole("max_position_embeddings") - unused,
        activation=config.activation("hidden_act"), token_types=config.count("type_vocab_size"),
        norm_eps=config.number("layer_norm_eps") or 1e-12,
    )  # fmt: skip
    return Model(name=name, family="transformer", build=lambda work: encoder(name, work, sizes))


@reader("distilbert", vocab_size=30522, dim=768, n_layers=6, n_heads=12, hidden_dim=3072, activation="gelu",
        max_position_embeddings=512)  # fmt: skip
def _distilbert(name: str, config: Config) -> Model:
    config.refuse(sinusoidal_pos_embds=(False,))
    sizes = Encoder(
        layers=config.whole("n_layers"), hidden_size=config.whole("dim"), heads=config.whole("n_heads"),
        ffn_size=config.whole("hidden_dim"), vocabulary=config.whole("vocab_size"),
        max_context=config.whole("max_position_embeddings"), activation=config.activation("activation"),
        token_types=0, pooler=False, style="distilbert",
    )  # fmt: skip
    return Model(name=name, family="transformer", build=lambda work: encoder(name, work, sizes))


@reader("t5", vocab_size=32128, d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_heads=8,
        relative_attention_num_buckets=32, relative_attention_max_distance=128, layer_norm_epsilon=1e-6,
        feed_forward_proj="relu", tie_word_embeddings=True)  # fmt: skip
def _t5(name: str, config: Config) -> Model:
    form = str(config.get("feed_forward_proj"))
    act = "gelu_new" if form == "gated-gelu" else form.removeprefix("gated-")
    config.data["dense_act_fn"] = act
    # the head of later checkpoints has a matrix of its own, and is given unscaled vectors
    tied = config.flag("tie_word_embeddings")
    sizes = EncoderDecoder(
        encoder_layers=config.whole("num_layers"),
        decoder_layers=config.whole("num_decoder_layers", config.whole("num_layers")),
        hidden_size=config.whole("d_model"), heads=config.whole("num_heads"), head_dim=config.whole("d_kv"),
        ffn_size=config.whole("d_ff"), vocabulary=config.whole("vocab_size"), norm="rms",
        gated=form.startswith("gated-"), activation=config.activation("dense_act_fn"), position="buckets",
        norm_eps=config.number("layer_norm_epsilon"), tied=tied, head_scale=tied, attention_scale=1.0,
        buckets=config.whole("relative_attention_num_buckets"),
        max_distance=config.whole("relative_attention_max_distance"), style="t5",
    )  # fmt: skip
    return Model(name=name, family="transformer", build=lambda work: encoder_decoder(name, work, sizes))


@reader("openai-gpt", vocab_size=40478, n_positions=512, n_embd=768, n_layer=12, n_head=12, afn="gelu",
        layer_norm_epsilon=1e-5)  # fmt: skip
def _gpt1(name: str, config: Config) -> Model:
    config.refuse(afn=("gelu", "gelu_new"))
    width, heads = config.whole("n_embd"), config.whole("n_head")
    if width % heads:
        raise config.wrong("n_head", f"must divide n_embd {width}, not {heads}")
    sizes = Decoder(
        layers=config.whole("n_layer"), hidden_size=width, heads=heads, kv_heads=heads,
        head_dim=width // heads, ffn_size=4 * width, vocabulary=config.whole("vocab_size"),
        max_context=config.whole("n_positions"), gated=False, activation="gelu_tanh", norm="layer",
        position="learned", attention_bias="qkvo", mlp_bias=True, tied=True, norm_sums=True, style="gpt1",
        norm_eps=config.number("layer_norm_epsilon"),
    )  # fmt: skip
    return Model(name=name, family="transformer", build=lambda work: decoder(name, work, sizes))
