"""Stable Diffusion XL: a U-Net that reads 77 tokens of two CLIP encoders."""

from __future__ import annotations

from typing import Any

from topcoat.generators.base import GeneratorSpec
from topcoat.generators.families.base import OneImage, UNetFamily
from topcoat.prompts.clip import CLIP_TOKENS


class StableDiffusionXL(UNetFamily):
    """SDXL and what is distilled from it, such as SDXL-Lightning."""

    pipeline = "StableDiffusionXLPipeline"
    tokenizers = clip_tokenizers = ("tokenizer", "tokenizer_2")
    call_arguments = ("clip_skip", "crops_coords_top_left", "eta", "guidance_rescale", "original_size", "target_size")

    def text_passes(self, spec: GeneratorSpec) -> int:
        """Texts encoded for one image; guidance without a negative prompt takes zeros, not an encoded empty text."""
        return 1 if spec.negative_prompt is None else self.passes(spec)

    def denoiser_inputs(self, image: OneImage) -> dict[str, Any]:
        """Latents, the text of both encoders, and the sizes that SDXL is conditioned on."""
        config, ones, pooled = image.config, image.ones, image.configs["text_encoder_2"]["projection_dim"]
        return {
            "sample": ones(1, config["in_channels"], image.height, image.width),
            "timestep": ones(1),
            "encoder_hidden_states": ones(1, CLIP_TOKENS, config["cross_attention_dim"]),
            "added_cond_kwargs": {"text_embeds": ones(1, pooled), "time_ids": ones(1, 6)},
        }
