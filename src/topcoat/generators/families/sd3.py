"""Stable Diffusion 3 and 3.5: a transformer that reads two CLIP texts and one of T5, one behind the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from topcoat.generators.families.base import FlowFamily, OneImage
from topcoat.prompts.clip import CLIP_TOKENS


class StableDiffusion3(FlowFamily):
    """SD3.5 medium, large and large turbo, and SD3."""

    pipeline = "StableDiffusion3Pipeline"
    tokenizers = ("tokenizer", "tokenizer_2", "tokenizer_3")
    clip_tokenizers = ("tokenizer", "tokenizer_2")
    denoiser_class = "SD3Transformer2DModel"
    call_arguments = ("clip_skip", "mu")

    def denoiser_tokens(self, padded: int) -> int:
        """CLIP's 77 come before those of T5."""
        return CLIP_TOKENS + padded

    def sigmas(self, scheduler: Any, steps: int) -> np.ndarray[Any, Any]:
        """The pipeline leaves them to the scheduler, which goes from its largest to its smallest."""
        return np.linspace(scheduler.sigma_max, scheduler.sigma_min, steps)

    def denoiser_inputs(self, image: OneImage) -> dict[str, Any]:
        """Latents, the joined texts and the pooled texts of both CLIPs."""
        config, ones = image.config, image.ones
        return {
            "hidden_states": ones(1, config["in_channels"], image.height, image.width),
            "encoder_hidden_states": ones(1, image.text_tokens, config["joint_attention_dim"]),
            "pooled_projections": ones(1, config["pooled_projection_dim"]),
            "timestep": ones(1),
        }
