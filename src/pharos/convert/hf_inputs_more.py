"""Inputs of transformers models whose argument names do not tell their shapes: one entry a kind."""

from typing import Any

from pharos.convert.hf_inputs import FRAMES, MAKERS, SAMPLES, Asked, kind, maker


@maker("image_sizes")
def _image_sizes(asked: Asked) -> Any:
    return asked.torch.tensor([asked.sides("vision")] * asked.batch)


@maker("spatial_shapes")
def _spatial_shapes(asked: Asked) -> Any:
    """Rows and columns of patches: a square of as many as the position table has."""
    side = int((asked.number("num_patches", "max_num_patches", near=("vision",)) or 256) ** 0.5)
    return asked.torch.tensor([[side, side]] * asked.batch)


@maker("pixel_attention_mask")
def _pixel_mask(asked: Asked) -> Any:
    rows, columns = MAKERS["spatial_shapes"](asked)[0].tolist()
    return asked.whole(asked.batch, rows * columns, value=1)


@kind("siglip2", "siglip2_vision_model", "lfm2_vl")
def _naflex(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """Images as rows of patches, padded to a common number."""
    count = MAKERS["pixel_attention_mask"](asked).shape[1]
    patch = asked.number("patch_size", near=("vision",)) or 16
    found["pixel_values"] = asked.empty(asked.batch, count, asked.channels() * patch * patch)
    return found


@kind("llava_next", "llava_next_video", "llava_onevision", "granite4_vision")
def _anyres(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """An image and the tiles that its best grid cuts it in."""
    from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

    height, width = asked.sides("vision")
    grids = asked.get("image_grid_pinpoints", of=asked.config)
    count = image_size_to_num_patches((height, width), grids, height)
    found["pixel_values"] = asked.empty(asked.batch, count, asked.channels(), height, width)
    return found


@kind("kimi_k25", "kimi_k25_vision", "paddleocr_vl", "paddleocr_vl_vision")
def _square_patches(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """Patches as small images."""
    patch = asked.number("patch_size", near=("vision",)) or 14
    flat = found.get("pixel_values")
    if flat is None:
        return found
    rows = flat.shape[0] if flat.dim() == 2 else asked.batch * (224 // patch) ** 2
    shape = (rows, asked.channels(), patch, patch)
    found["pixel_values"] = asked.empty(*((1, *shape) if asked.kind.startswith("paddle") else shape))
    if asked.kind == "paddleocr_vl_vision":
        found["grid_thw"] = found["image_grid_thw"] = MAKERS["grid_thw"](asked)
        found = {k: v for k, v in found.items() if k in asked.parameters}
    return found


@kind("clap", "clap_audio_model")
def _clap(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    bins = asked.number("num_mel_bins", near=("audio",)) or 64
    found["input_features"] = asked.empty(asked.batch, 1, 1001, bins)
    found["is_longer"] = asked.torch.zeros(asked.batch, 1, dtype=asked.torch.bool)
    return found


@kind("clvp", "glmasr", "glmasr_encoder", "voxtral_realtime", "voxtral_realtime_encoder")
def _bins_first(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    made = found["input_features"]
    if made.shape[1] == FRAMES:
        frames = 3000 if asked.kind.startswith("glmasr") else FRAMES
        found["input_features"] = asked.empty(asked.batch, made.shape[2], frames)
        if "input_features_mask" in found:
            found["input_features_mask"] = asked.true(asked.batch, frames)
    return found


@kind("decision_transformer")
def _decisions(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    config, batch, steps = asked.config, asked.batch, 20
    return {
        "states": asked.empty(batch, steps, config.state_dim),
        "actions": asked.empty(batch, steps, config.act_dim),
        "rewards": asked.empty(batch, steps, 1), "returns_to_go": asked.empty(batch, steps, 1),
        "timesteps": asked.whole(batch, steps), "attention_mask": asked.whole(batch, steps, value=1),
    }  # fmt: skip


@kind("lxmert")
def _regions(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    config = asked.config
    found["visual_feats"] = asked.empty(asked.batch, 36, config.visual_feat_dim)
    found["visual_pos"] = asked.empty(asked.batch, 36, config.visual_pos_dim)
    return found


@kind("musicgen", "musicgen_decoder", "musicgen_melody", "musicgen_melody_decoder")
def _codebooks(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """A row of codes for each codebook of a sample."""
    books = asked.number("num_codebooks", near=("decoder",)) or 4
    codes = asked.whole(asked.batch * books, asked.tokens)
    if asked.kind.endswith("_decoder"):
        return {"input_ids": codes}
    return {"input_ids": found["input_ids"], "decoder_input_ids": codes}


@kind("blip_2_qformer")
def _qformer(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    found["encoder_hidden_states"] = asked.empty(asked.batch, 257, asked.config.encoder_hidden_size)
    return found


@kind("pix2struct", "pix2struct_vision_model", "kosmos-2.5", "kosmos_2_5_vision_model")
def _flattened(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """Rows of pixels of patches, each behind its row and column."""
    patch = asked.number("patch_size", near=("vision",)) or 16
    count = asked.number("seq_len", "max_num_patches", near=("vision",)) or 1024
    found["flattened_patches"] = asked.empty(asked.batch, min(count, 1024), 2 + 3 * patch * patch)
    if "vision_model" in asked.kind:
        mask = asked.empty(asked.batch, min(count, 1024))
        return {"flattened_patches": found["flattened_patches"], "attention_mask": mask}
    if asked.kind == "pix2struct":
        found.pop("input_ids", None)
        found["decoder_input_ids"] = asked.whole(asked.batch, asked.tokens, value=1)
    return found


@kind("mllama_vision_model")
def _tiles(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    side, tiles = asked.sides()[0], asked.config.max_num_tiles
    return {
        "pixel_values": asked.empty(asked.batch, 1, tiles, 3, side, side),
        "aspect_ratio_ids": asked.whole(asked.batch, 1, value=1),
        "aspect_ratio_mask": asked.whole(asked.batch, 1, tiles, value=1),
    }  # fmt: skip


@kind("florence_vision")
def _pixels(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    return {"hidden_states": asked.empty(asked.batch, 3, 768, 768)}


@kind("muse_spark_audio")
def _samples(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    return {"input_values": asked.empty(asked.batch, SAMPLES // 1920 * 1920)}


@kind("omniasr")
def _one_channel(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "input_values": asked.empty(asked.batch, SAMPLES, 1)}


@kind("nemo_speechlm", "nemotron3_5_transcribe_audio")
def _whole_frames(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    bins = found["input_features"].shape[-1]
    found["input_features"] = asked.empty(asked.batch, 104, bins)
    if "input_features_mask" in found:
        found["input_features_mask"] = asked.true(asked.batch, 104)
    return found


@kind("deepseek_vl_hybrid")
def _both_resolutions(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    found["high_res_pixel_values"] = asked.empty(asked.batch, 3, 1024, 1024)
    return found


@kind("perceiver")
def _bytes(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    return {"inputs": asked.empty(asked.batch, asked.tokens, asked.config.d_model)}


@kind("xclip", "xclip_vision_model")
def _clips(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """Frames of a clip, as a dimension of their own or in the batch."""
    frames, (height, width) = asked.number("num_frames", near=("vision",)) or 8, asked.sides("vision")
    lead = (asked.batch * frames,) if asked.kind.endswith("vision_model") else (asked.batch, frames)
    found["pixel_values"] = asked.empty(*lead, asked.channels(), height, width)
    return found


@kind("video_llama_3_vision", "video_llama_3")
def _merge_sizes(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    for name in ("merge_sizes", "image_merge_sizes"):
        if name in asked.parameters:
            found[name] = asked.whole(asked.batch, value=2)
    return found


@kind("mimi_decoder", "pocket_tts_audio_tokenizer_decoder")
def _latents(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    return {"latents": asked.empty(asked.batch, asked.config.hidden_size, asked.tokens)}


@kind("xcodec")
def _mono(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    return {"input_values": asked.empty(asked.batch, 1, SAMPLES)}
