"""Inputs of a transformers model: tensors without data for what its `forward` takes."""

from typing import Any


def inputs_of(torch: Any, module: Any, tokens: int = 128) -> dict[str, Any]:
    """Inputs by name, from the model's main input and its config."""
    name = module.main_input_name
    config = module.config
    if name == "pixel_values":
        vision = getattr(config, "vision_config", config)
        side = getattr(vision, "image_size", 224)
        sides = tuple(side) if isinstance(side, (list, tuple)) else (side, side)
        channels = getattr(vision, "num_channels", 3)
        return {name: torch.empty(1, channels, *sides, device="meta")}
    found = {"input_ids": torch.zeros(1, tokens, dtype=torch.long, device="meta")}
    if getattr(config, "is_encoder_decoder", False):
        found["decoder_input_ids"] = torch.zeros(1, tokens, dtype=torch.long, device="meta")
    return found
