"""Inputs of transformers models that are parts of others, and of those with inputs of shapes of their own."""

from typing import Any

from pharos.convert.hf_inputs import FRAMES, SAMPLES, Asked, kind


@kind("qwen2_5_omni_audio_encoder", "qwen3_omni_moe_audio_encoder")
def _packed_sound(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """Frames of all sounds side by side, and how many each has."""
    frames = 2 * FRAMES
    made = {"input_features": asked.empty(asked.config.num_mel_bins, frames * asked.batch),
            "feature_lens": asked.whole(asked.batch, value=frames),
            "aftercnn_lens": asked.whole(asked.batch, value=frames // 2)}  # fmt: skip
    return {k: v for k, v in made.items() if k in asked.parameters}


@kind("qwen2_5_omni_thinker", "qwen3_omni_moe_thinker")
def _masked_sound(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    bins = asked.number("num_mel_bins", near=("audio",)) or 128
    found["input_features"] = asked.empty(asked.batch, bins, 2 * FRAMES)
    found["feature_attention_mask"] = asked.whole(asked.batch, 2 * FRAMES, value=1)
    return found


@kind("qwen3_asr_encoder")
def _whole_windows(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    frames = 2 * int(asked.config.n_window)
    bins = asked.number("num_mel_bins", "n_mels") or 128
    return {"input_features": asked.empty(asked.batch, bins, frames),
            "input_features_mask": asked.whole(asked.batch, frames, value=1)}  # fmt: skip


@kind("blt_local_encoder")
def _bytes_in_patches(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """Bytes of a text in patches of four."""
    belongs = asked.torch.arange(asked.tokens).div(4, rounding_mode="floor").expand(asked.batch, -1)
    return {
        "input_ids": found["input_ids"],
        "num_patches": -(-asked.tokens // 4),
        "patch_ids": belongs.clone(),
    }


@kind("blt_local_decoder")
def _patches_of_bytes(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    config, count = asked.config, -(-asked.tokens // 4)
    return {"inputs_embeds": asked.empty(asked.batch, asked.tokens, config.hidden_size),
            "patch_embeds": asked.empty(asked.batch, count, config.hidden_size_global)}  # fmt: skip


@kind("blt", "granitemoehybrid")
def _uncached(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """Their caches want layers of a kind that a config need not have."""
    return {**found, "use_cache": False}


@kind("deepseek_ocr2_encoder")
def _half_image(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """Pieces of an image, and as many learned queries behind them."""
    return {"inputs_embeds": found["inputs_embeds"], "num_patches": asked.tokens // 2}


@kind("dia", "dia_decoder", "kyutai_speech_to_text")
def _channels_of_codes(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """A code for each channel at each step."""
    channels = asked.number("num_channels", near=("decoder",)) or int(asked.config.num_codebooks) + 1
    codes = asked.whole(asked.batch, asked.tokens, channels)
    if asked.kind == "dia":
        return {**found, "decoder_input_ids": codes}
    if asked.kind == "dia_decoder":
        width = asked.config.cross_hidden_size
        return {"input_ids": codes, "encoder_hidden_states": asked.empty(asked.batch, asked.tokens, width)}
    return {"input_ids": codes}


@kind("fun_asr_nano_encoder", "granite_speech5_ctc", "granite_speech5_encoder")
def _stacked_frames(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """Several frames of sound in one vector."""
    width = asked.width("input_linear", "layers.0.input_layernorm") or 80
    made = {**found, "input_features": asked.empty(asked.batch, FRAMES, width)}
    if "input_features_mask" in asked.parameters:
        made["input_features_mask"] = asked.true(asked.batch, FRAMES)
    return made


@kind("granite_speech_encoder", "granite_speech_plus_encoder")
def _sound_states(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    return {"hidden_states": asked.empty(asked.batch, FRAMES, asked.config.input_dim)}


@kind("gemma3n_audio")
def _spectrum(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """A spectrum and where it is only padding."""
    return {"audio_mel": asked.empty(asked.batch, FRAMES, asked.config.input_feat_size),
            "audio_mel_mask": asked.torch.zeros(asked.batch, FRAMES, dtype=asked.torch.bool)}  # fmt: skip


@kind("gemma4_audio")
def _wide_spectrum(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    return {"input_features": asked.empty(asked.batch, FRAMES, 128),
            "attention_mask": asked.true(asked.batch, FRAMES)}  # fmt: skip


@kind("gemma4_vision")
def _placed_patches(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """Patches of a square image with their columns and rows."""
    pool, patch = int(asked.config.pooling_kernel_size), int(asked.config.patch_size)
    side = max(12 // pool, 1) * pool
    places = [[x, y] for y in range(side) for x in range(side)]
    return {"pixel_values": asked.empty(asked.batch, side * side, 3 * patch * patch),
            "pixel_position_ids": asked.torch.tensor([places] * asked.batch)}  # fmt: skip


@kind("idefics")
def _seen_by_all(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "image_attention_mask": asked.whole(asked.batch, asked.tokens, 1, value=1)}


@kind("inkling2_vision")
def _merged_patches(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """An image of ten by ten pieces."""
    side = int(asked.config.patch_size) * int(asked.config.spatial_merge_size)
    return {"pixel_values": asked.empty(100 * asked.batch, side, side, 3),
            "image_grid_thw": asked.torch.tensor([[1, 10, 10]] * asked.batch)}  # fmt: skip


@kind("inkling_audio")
def _levels(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    bins = asked.number("n_mel_bins", "num_mel_bins") or 80
    return {"audio_input_ids": asked.whole(asked.batch, FRAMES, bins)}


@kind("inkling_vision")
def _blocks(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """Blocks of frames, rows, columns and colours."""
    deep, side = asked.number("temporal_patch_size") or 1, asked.number("patch_size") or 16
    return {"pixel_values": asked.empty(16 * asked.batch, deep, side, side, 3)}


@kind("janus_vqgan")
def _square(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    halvings = len(asked.config.channel_multiplier) - 1
    side = round(asked.config.num_patches) * 2**halvings
    return {"pixel_values": asked.empty(asked.batch, 3, side, side)}


@kind("kosmos-2")
def _latent_queries(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """The front of the text stands for the image."""
    count = int(asked.config.latent_query_num)
    length = max(asked.tokens, count + 8)
    mask = asked.whole(asked.batch, length)
    mask[:, :count] = 1
    return {
        **found,
        "input_ids": asked.whole(asked.batch, length, value=1),
        "image_embeds_position_mask": mask,
    }


@kind("kosmos_2_5_vision_model")
def _embedded_patches(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    return {"hidden_states": asked.empty(asked.batch, 1024, asked.config.hidden_size),
            "attention_mask": asked.whole(asked.batch, 1024, value=1)}  # fmt: skip


@kind("minicpm_ocr_vision", "minicpmv4_6_vision", "minicpmv4_7_vision")
def _sized(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """Patches of an image in one row, and how many rows and columns they make."""
    patch = int(asked.config.patch_size)
    return {"pixel_values": asked.empty(1, 3, patch, patch * 256 * asked.batch),
            "target_sizes": asked.torch.tensor([[16, 16]] * asked.batch).int()}  # fmt: skip


@kind("molmo2_adapter")
def _pooled(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """Features of 27 by 27 patches, pooled by four."""
    width = asked.width("image_pooling_2d.q_proj") or int(asked.config.hidden_size)
    places = asked.torch.arange(4 * 169).reshape(169, 4)
    return {"image_features": asked.empty(asked.batch, 729, width), "pooled_patches_idx": places}


@kind("molmo2_vision")
def _rows_of_patches(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    count = next(p.shape[0] for n, p in asked.module.named_parameters() if n == "positional_embedding")
    return {"pixel_values": asked.empty(asked.batch, count, asked.width("patch_embedding"))}


@kind("moshi_depth")
def _a_code_each(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    return {"input_ids": asked.whole(asked.batch, int(asked.config.num_codebooks)),
            "last_hidden_state": asked.empty(asked.batch, 1, asked.config.input_size)}  # fmt: skip


@kind("phi4_multimodal_audio")
def _frames(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    return {"hidden_states": asked.empty(asked.batch, FRAMES, asked.config.input_size),
            "mask": asked.true(asked.batch, FRAMES)}  # fmt: skip


@kind("qwen2_5_omni_bigvgan")
def _mels(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    return {"mel_spectrogram": asked.empty(asked.batch, asked.config.mel_dim, FRAMES)}


@kind("qwen2_5_omni_dit")
def _denoised(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    config, frames = asked.config, FRAMES
    return {"hidden_states": asked.empty(asked.batch, frames, config.mel_dim),
            "condition_vector": asked.empty(asked.batch, frames, config.mel_dim),
            "speaker_embedding": asked.empty(asked.batch, frames, config.enc_emb_dim),
            "quantized_code": asked.whole(asked.batch, frames // config.repeats),
            "time_step": asked.empty(1)}  # fmt: skip


@kind("rag")
def _documents(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """As many documents as it looks up for a question, as long as that."""
    count = int(asked.config.n_docs)
    return {**found, "context_input_ids": asked.whole(count * asked.batch, asked.tokens, value=1),
            "context_attention_mask": asked.whole(count * asked.batch, asked.tokens, value=1),
            "doc_scores": asked.empty(asked.batch, count)}  # fmt: skip


@kind("rf_detr")
def _windows(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """A side of whole windows of patches."""
    patch = asked.number("patch_size", near=("backbone",)) or 14
    each = patch * (asked.number("num_windows", near=("backbone",)) or 4)
    side = max(asked.sides()[0] // each, 1) * each
    return {"pixel_values": asked.empty(asked.batch, 3, side, side)}


@kind("seggpt")
def _prompted(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """An image, an example and the example's mask, each half of what the model sees."""
    height, width = asked.sides()
    shape = (asked.batch, 3, height // 2, width)
    return {n: asked.empty(*shape) for n in ("pixel_values", "prompt_pixel_values", "prompt_masks")}


@kind("speech-encoder-decoder")
def _heard(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    return {"input_values": asked.empty(asked.batch, SAMPLES),
            "decoder_input_ids": asked.whole(asked.batch, asked.tokens, value=1)}  # fmt: skip


@kind("timesfm", "timesfm2_5")
def _series(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """A list of series."""
    length = min(int(asked.config.context_length), 128)
    return {"past_values": [asked.empty(length) for _ in range(asked.batch)]}


@kind("tvp")
def _clip_and_text(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    side, frames = int(asked.config.max_img_size), int(asked.config.num_frames)
    return {**found, "pixel_values": asked.empty(asked.batch, frames, 3, side, side),
            "attention_mask": asked.whole(asked.batch, asked.tokens, value=1)}  # fmt: skip


@kind("udop")
def _real_boxes(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """Corners of words between 0 and 1."""
    return {**found, "bbox": asked.empty(asked.batch, asked.tokens, 4)}


@kind("vibevoice_acoustic_tokenizer_decoder")
def _latents_first(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    return {next(iter(asked.required)): asked.empty(asked.batch, asked.config.hidden_size, asked.tokens)}


@kind("vibevoice_acoustic_tokenizer_encoder")
def _one_row(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    return {next(iter(asked.required)): asked.empty(asked.batch, 1, SAMPLES)}


@kind("muse_glimmer_assistant")
def _drafted(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """A block to be denoised behind a context of the larger model's states."""
    config, width = asked.config, asked.width("encoder.fc", "encoder") or asked.config.hidden_size
    return {"noise_embeds": asked.empty(asked.batch, config.block_size, config.hidden_size),
            "context_hidden_states": asked.empty(asked.batch, asked.tokens, width)}  # fmt: skip


@kind("unlimited_ocr_vision_encoder")
def _embedded_grid(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    side = int(asked.config.image_size) // int(asked.config.patch_size)
    return {"patch_embeds": asked.empty(asked.batch, asked.config.hidden_size, side, side)}


@kind("sam3_detr_decoder", "sam3_lite_text_detr_decoder")
def _seen_and_told(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """Features of 72 by 72 places and of a text."""
    wide = (asked.batch, 72 * 72, asked.config.hidden_size)
    return {"vision_features": asked.empty(*wide), "vision_pos_encoding": asked.empty(*wide),
            "text_features": asked.empty(asked.batch, 32, asked.config.hidden_size),
            "spatial_shapes": asked.torch.tensor([[72, 72]])}  # fmt: skip


@kind("sam3_detr_encoder", "sam3_lite_text_detr_encoder")
def _one_level(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    wide = (asked.batch, asked.config.hidden_size, 72, 72)
    return {"vision_features": [asked.empty(*wide)], "vision_pos_embeds": [asked.empty(*wide)],
            "text_features": asked.empty(asked.batch, 32, asked.config.hidden_size)}  # fmt: skip


@kind("sam3_mask_decoder", "sam3_lite_text_mask_decoder")
def _pyramid(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """Queries, and features of three sizes of which the smallest is the encoder's."""
    width = asked.config.hidden_size
    sides = (288, 144, 72)
    return {"decoder_queries": asked.empty(asked.batch, 200, width),
            "backbone_features": [asked.empty(asked.batch, width, side, side) for side in sides],
            "encoder_hidden_states": asked.empty(asked.batch, 72 * 72, width)}  # fmt: skip


@kind("idefics2_perceiver")
def _attended(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    context = found["context"]
    return {"context": context, "attention_mask": asked.whole(*context.shape[:2], value=1)}


@kind("depth_pro")
def _largest_scale(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """A side of which the smallest scale still holds a patch."""
    side = round(int(asked.config.patch_size) / min(asked.config.scaled_images_ratios))
    return {"pixel_values": asked.empty(asked.batch, 3, side, side)}


@kind("omniasr_audio", "omniasr_ctc")
def _raw(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    return {"input_values": asked.empty(asked.batch, 1, SAMPLES)}


@kind("xcodec2")
def _both_forms(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    """Samples, and the frames of 20 ms that they make."""
    return {**found, "input_values": asked.empty(asked.batch, 1, SAMPLES),
            "input_features": asked.empty(asked.batch, SAMPLES // 320, 160),
            "input_features_mask": asked.true(asked.batch, SAMPLES // 320)}  # fmt: skip


@kind("dots3_note_audio_encoder")
def _chunks(asked: Asked, found: dict[str, Any]) -> dict[str, Any]:
    bins = asked.number("num_mel_bins") or 128
    return {"input_features": asked.empty(asked.batch, bins, 2 * FRAMES),
            "chunk_sample_lengths": asked.whole(asked.batch, value=2 * FRAMES * 160)}  # fmt: skip
