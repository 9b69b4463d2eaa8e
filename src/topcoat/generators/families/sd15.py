"""Stable Diffusion 1 and 2: a U-Net that reads 77 tokens of one CLIP encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from topcoat.generators.families.base import OneImage, UNetFamily
from topcoat.prompts.clip import CLIP_TOKENS


class StableDiffusion(UNetFamily):
    """SD 1.5 and 2.1. The safety checker is neither loaded nor run: it blacks out images, which are no pairs."""

    pipeline = "StableDiffusionPipeline"
    load_arguments: ClassVar[Mapping[str, Any]] = {"safety_checker": None, "requires_safety_checker": False}

    def denoiser_inputs(self, image: OneImage) -> dict[str, Any]:
        """Latents and the text of CLIP."""
        config, ones = image.config, image.ones
        return {
            "sample": ones(1, config["in_channels"], image.height, image.width),
            "timestep": ones(1),
            "encoder_hidden_states": ones(1, CLIP_TOKENS, config["cross_attention_dim"]),
        }
