"""FLUX.1: guidance is an input of the transformer; latents travel as tokens of 2x2."""

from __future__ import annotations

from typing import Any, get_args

from torch import Tensor

from topcoat.generators.base import GeneratorSpec, StepCache
from topcoat.generators.families.base import FlowFamily, OneImage
from topcoat.generators.latents import pack, unpack


class Flux(FlowFamily):
    """FLUX.1 schnell and dev; a true_cfg_scale above 1 adds classifier-free guidance."""

    pipeline = "FluxPipeline"
    tokenizers = ("tokenizer", "tokenizer_2")
    clip_tokenizers = ("tokenizer",)
    denoiser_class = "FluxTransformer2DModel"
    has_true_cfg = True
    step_caches = get_args(StepCache)

    def guided(self, spec: GeneratorSpec) -> bool:
        """Whether classifier-free guidance runs; `guidance_scale` is an input of the network."""
        return spec.true_cfg_scale > 1

    def normalised(self, output: Tensor, pipeline: Any, spec: GeneratorSpec) -> Tensor:
        """The tokens laid out as latents."""
        return unpack(output, spec.height_px // (pipeline.vae_scale_factor * 2) * 2)

    def token_layout(self, latents: Tensor) -> Tensor:
        """The latents laid into tokens."""
        return pack(latents)

    def denoiser_inputs(self, image: OneImage) -> dict[str, Any]:
        """Image tokens, the text of T5 and the pooled text of CLIP."""
        config, tokens, ones = image.config, (image.width // 2) * (image.height // 2), image.ones
        return {
            "hidden_states": ones(1, tokens, config["in_channels"]),
            "encoder_hidden_states": ones(1, image.text_tokens, config["joint_attention_dim"]),
            "pooled_projections": ones(1, config["pooled_projection_dim"]),
            "timestep": ones(1),
            "img_ids": ones(tokens, 3),
            "txt_ids": ones(image.text_tokens, 3),
            "guidance": ones(1) if config.get("guidance_embeds") else None,
        }
