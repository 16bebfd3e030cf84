"""The networks of docs/counters.md: how each is built, on what inputs, and where its true count comes from."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

TORCHVISION = {
    "alexnet": 224, "vgg11": 224, "vgg16": 224, "resnet18": 224, "resnet50": 224, "resnet101": 224,
    "resnext50_32x4d": 224, "wide_resnet50_2": 224, "densenet121": 224, "densenet169": 224, "googlenet": 224,
    "inception_v3": 299, "squeezenet1_0": 224, "squeezenet1_1": 224, "mobilenet_v2": 224,
    "mobilenet_v3_small": 224, "mobilenet_v3_large": 224, "mnasnet0_5": 224, "mnasnet1_0": 224,
    "shufflenet_v2_x0_5": 224, "shufflenet_v2_x1_0": 224, "shufflenet_v2_x2_0": 224, "efficientnet_b0": 224,
    "efficientnet_b1": 240, "efficientnet_b3": 300, "efficientnet_v2_s": 384, "regnet_x_400mf": 224,
    "regnet_y_400mf": 224, "regnet_y_3_2gf": 224, "convnext_tiny": 224, "vit_b_16": 224, "vit_b_32": 224,
    "swin_t": 224, "swin_v2_t": 256, "maxvit_t": 224,
}  # fmt: skip
TIMM = [
    "resnet50d", "resnetv2_50", "seresnet50", "res2net50_26w_4s", "dpn68", "inception_v4",
    "mobilenetv4_conv_small", "ghostnet_100", "tf_efficientnet_lite0", "mixnet_s", "hrnet_w18_small", "repvgg_a2",
    "dla34", "convnextv2_nano", "vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224",
    "deit3_small_patch16_224", "swin_tiny_patch4_window7_224", "pvt_v2_b1", "coat_lite_tiny", "cait_xxs24_224",
    "xcit_tiny_12_p16_224", "poolformer_s12", "mixer_b16_224", "gmlp_s16_224", "resmlp_12_224", "mobilevit_s",
    "mobilevitv2_100", "efficientformer_l1", "edgenext_small", "levit_128", "crossvit_9_240", "twins_pcpvt_small",
    "volo_d1_224", "focalnet_tiny_srf", "beit_base_patch16_224", "fastvit_t8", "tiny_vit_5m_224", "davit_tiny",
    "lambda_resnet26t", "eca_nfnet_l0",
]  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A network.

    Args:
        build: the module, made on the device that is the default.
        inputs: shape and type of each input by its name; all that `forward` needs.
        masked: whether the peers are given a mask of four dimensions, without which most of them fail on
            the meta device.
        real: whether the peers run it on the CPU, or on the meta device for its size.
        macs, formula: the hand formula's value and its text, if there is one.
        source: what the truth comes from otherwise.
    """

    name: str
    group: str
    build: Callable[[], Any]
    inputs: dict[str, tuple[tuple[int, ...], str]]
    masked: bool = False
    real: bool = True
    macs: int | None = None
    formula: str = ""
    package: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    def tensors(self, device: str) -> dict[str, Any]:
        """The inputs, without data that matters."""
        import torch

        return {
            k: torch.zeros(s, dtype=getattr(torch, kind), device=device)
            for k, (s, kind) in self.inputs.items()
        }


def image(side: int) -> dict[str, Any]:
    return {"x": ((1, 3, side, side), "float32")}


def torchvision_row(name: str, side: int) -> Row:
    def build() -> Any:
        import torchvision

        options = (
            {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
        )
        return torchvision.models.get_model(name, weights=None, **options)

    return Row(name, "torchvision", build, image(side), package="torchvision")


def timm_row(name: str) -> Row:
    side = {"inception_v4": 299, "mobilevit_s": 256, "mobilevitv2_100": 256, "crossvit_9_240": 240,
            "fastvit_t8": 256, "lambda_resnet26t": 256, "edgenext_small": 256}.get(name, 224)  # fmt: skip

    def build() -> Any:
        import timm

        return timm.create_model(name, num_classes=1000)

    return Row(name, "timm", build, image(side), package="timm")


def text(context: int, name: str = "input_ids") -> dict[str, Any]:
    return {name: ((1, context), "int64")}


def of_config(title: str, kind: str, cls: str, inputs: Any, masked: bool = False, real: bool = False,
              macs: int | None = None, formula: str = "", **sizes: Any) -> Row:  # fmt: skip
    def build() -> Any:
        import transformers

        return getattr(transformers, cls)._from_config(getattr(transformers, f"{kind}Config")(**sizes))

    return Row(title, "transformers", build, inputs, masked, real, macs, formula, "transformers")


def decoder(title: str, kind: str, context: int = 2048, cls: str = "", **sizes: Any) -> Row:
    return of_config(title, kind, cls or f"{kind}ForCausalLM", text(context), masked=True, **sizes)


LLAMA = "L n (2 d² + 2 d kv hd + 3 d ff) + 2 L n² d + n d V"
LANGUAGE = [
    decoder("GPT-2 small, 1024 tokens", "GPT2", 1024, "GPT2LMHeadModel", macs=145_824_153_600,
            formula="L (12 n d² + 2 n² d) + n d V"),
    decoder("GPT-2 XL, 1024 tokens", "GPT2", 1024, "GPT2LMHeadModel", n_embd=1600, n_layer=48, n_head=25,
            macs=1_753_351_782_400, formula="L (12 n d² + 2 n² d) + n d V"),
    decoder("Llama-2-7B, 2048 tokens", "Llama", macs=14_630_806_093_824, formula=LLAMA),
    decoder("Llama-3-70B, 2048 tokens", "Llama", hidden_size=8192, intermediate_size=28672, num_hidden_layers=80,
            num_attention_heads=64, num_key_value_heads=8, vocab_size=128256, macs=147_837_069_295_616, formula=LLAMA),
    decoder("Mixtral 8x7B, 2048 tokens", "Mixtral", macs=27_208_617_820_160,
            formula="Llama's with 3 d ff for each of 2 experts and a router of d E"),
    decoder("DeepSeek-V3, 2048 tokens", "DeepseekV3"),
    decoder("Qwen3-30B-A3B, 2048 tokens", "Qwen3Moe", hidden_size=2048, intermediate_size=6144, num_hidden_layers=48,
            num_attention_heads=32, num_key_value_heads=4, head_dim=128, moe_intermediate_size=768, num_experts=128,
            num_experts_per_tok=8, vocab_size=151936),
    decoder("Qwen3-8B, 2048 tokens", "Qwen3", hidden_size=4096, intermediate_size=12288, num_hidden_layers=36,
            num_attention_heads=32, num_key_value_heads=8, head_dim=128),
    decoder("OLMoE-1B-7B, 2048 tokens", "Olmoe", num_hidden_layers=16, intermediate_size=1024),
    decoder("Mistral-7B, 2048 tokens", "Mistral"),
    decoder("Phi-3-mini, 2048 tokens", "Phi3", hidden_size=3072, intermediate_size=8192, num_hidden_layers=32),
    decoder("Gemma-2-2B, 2048 tokens", "Gemma2", hidden_size=2304, intermediate_size=9216, num_hidden_layers=26,
            num_attention_heads=8, num_key_value_heads=4, head_dim=256),
    of_config("OPT-125M, 128 tokens", "OPT", "OPTForCausalLM", text(128), real=True),
    decoder("GPT-J-6B, 2048 tokens", "GPTJ"),
    decoder("Pythia-1.4B, 2048 tokens", "GPTNeoX", hidden_size=2048, intermediate_size=8192, num_hidden_layers=24,
            num_attention_heads=16),
    decoder("Falcon-7B, 2048 tokens", "Falcon"),
    decoder("StarCoder2-3B, 2048 tokens", "Starcoder2"),
    of_config("Mamba-130M, 64 tokens", "Mamba", "MambaForCausalLM", text(64), num_hidden_layers=24),
    of_config("BERT-base, 128 tokens", "Bert", "BertModel", text(128), real=True, macs=11_174_215_680,
              formula="L (12 n d² + 2 n² d) + d²"),
    of_config("RoBERTa-base, 128 tokens", "Roberta", "RobertaModel", text(128), real=True),
    of_config("DistilBERT, 128 tokens", "DistilBert", "DistilBertModel", text(128), real=True),
    of_config("ALBERT-base, 128 tokens", "Albert", "AlbertModel", text(128), real=True, hidden_size=768,
              num_attention_heads=12, intermediate_size=3072),
    of_config("DeBERTa-v3-base, 128 tokens", "DebertaV2", "DebertaV2Model", text(128), real=True, hidden_size=768,
              num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072),
    of_config("T5-small, 512 and 128 tokens", "T5", "T5ForConditionalGeneration",
              text(512) | text(128, "decoder_input_ids"), real=True),
    of_config("BART-base, 512 and 128 tokens", "Bart", "BartForConditionalGeneration",
              text(512) | text(128, "decoder_input_ids"), real=True, d_model=768, encoder_layers=6, decoder_layers=6,
              encoder_attention_heads=12, decoder_attention_heads=12, encoder_ffn_dim=3072, decoder_ffn_dim=3072),
    of_config("Whisper-base, 30 s and 64 tokens", "Whisper", "WhisperForConditionalGeneration",
              {"input_features": ((1, 80, 3000), "float32")} | text(64, "decoder_input_ids"), real=True, d_model=512,
              encoder_layers=6, decoder_layers=6, encoder_attention_heads=8, decoder_attention_heads=8,
              encoder_ffn_dim=2048, decoder_ffn_dim=2048),
    of_config("wav2vec 2.0 base, 2 s", "Wav2Vec2", "Wav2Vec2Model", {"input_values": ((1, 32000), "float32")},
              real=True),
    of_config("CLIP ViT-B/32", "CLIP", "CLIPModel", text(77) | {"pixel_values": ((1, 3, 224, 224), "float32")},
              real=True),
    of_config("SigLIP base", "Siglip", "SiglipModel", text(64) | {"pixel_values": ((1, 3, 224, 224), "float32")},
              real=True),
    of_config("ViT-B/16 of transformers", "ViT", "ViTForImageClassification",
              {"pixel_values": ((1, 3, 224, 224), "float32")}, real=True, macs=17_563_828_224, num_labels=1000,
              formula="14² 3 16² d + L (12 n d² + 2 n² d) + 1000 d"),
    of_config("DINOv2 base", "Dinov2", "Dinov2Model", {"pixel_values": ((1, 3, 224, 224), "float32")}, real=True,
              image_size=224, patch_size=14),
    of_config("Swin-tiny of transformers", "Swin", "SwinModel", {"pixel_values": ((1, 3, 224, 224), "float32")},
              real=True),
    of_config("SegFormer-B0", "Segformer", "SegformerForSemanticSegmentation",
              {"pixel_values": ((1, 3, 512, 512), "float32")}, real=True, num_labels=150),
]  # fmt: skip


def plain(name: str) -> Callable[[], Any]:
    def build() -> Any:
        import torch_nets

        return getattr(torch_nets, name)()

    return build


OTHERS = [
    Row("LSTM, 1000 steps", "others", plain("Recurrent"), {"x": ((1000, 1, 100), "float32")}, macs=116_736_000,
        formula="T 4 h (i + h)"),
    Row("DLRM-like, batch 128", "others", plain("DLRM"),
        {"dense": ((128, 13), "float32")} | {f"bag{i}": ((128, 4), "int64") for i in range(26)}, macs=298_229_760,
        formula="B (bottom + top MLP) + B 27² 64"),
    Row("DS-CNN, 49 x 10", "others", plain("ds_cnn"), {"x": ((1, 1, 49, 10), "float32")}, macs=2_656_768,
        formula="320,000 + 4 (72,000 + 512,000) + 768"),
]  # fmt: skip

ROWS = {row.name: row for row in (*(torchvision_row(n, s) for n, s in TORCHVISION.items()),
                                  *map(timm_row, TIMM), *LANGUAGE, *OTHERS)}  # fmt: skip
# A name that torchvision and timm or transformers share is told apart by its group.
assert len(ROWS) == len(TORCHVISION) + len(TIMM) + len(LANGUAGE) + len(OTHERS)
