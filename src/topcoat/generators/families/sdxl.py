"""Stable Diffusion XL: a U-Net that reads 77 tokens of two CLIP encoders."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from topcoat.generators.base import GeneratorSpec
from topcoat.generators.families.base import Configs, Family

CLIP_TOKENS = 77
"""The length to which CLIP pads every text."""


class StableDiffusionXL(Family):
    """SDXL and what is distilled from it, such as SDXL-Lightning."""

    pipeline = "StableDiffusionXLPipeline"
    denoiser = "unet"
    denoiser_class = "UNet2DConditionModel"
    packing = 1
    has_sequence_length = False

    def text_passes(self, spec: GeneratorSpec) -> int:
        """Texts encoded for one image; guidance without a negative prompt takes zeros, not an encoded empty text."""
        return 1 if spec.negative_prompt is None else self.passes(spec)

    def img2img(
        self,
        pipeline: Any,
        spec: GeneratorSpec,
        latents: Tensor,
        noise: Sequence[torch.Generator],
        strength: float,
        steps: int,
    ) -> tuple[Any, dict[str, Any]]:
        """SDXL's own image-to-image pipeline, made of the same parts."""
        import diffusers

        img2img_class = diffusers.StableDiffusionXLImg2ImgPipeline
        known = inspect.signature(img2img_class.__init__).parameters
        parts = {name: part for name, part in {**pipeline.config, **pipeline.components}.items() if name in known}
        arguments = self.arguments(spec, len(latents))
        del arguments["height"], arguments["width"]  # they follow from the latents
        return img2img_class(**parts), arguments | {
            "image": latents.to(getattr(torch, spec.dtype)),  # four channels: taken as latents, not encoded again
            "strength": strength,
            "num_inference_steps": steps,
            "generator": list(noise),
        }

    def denoiser_inputs(
        self, configs: Configs, height: int, width: int, text_tokens: int, ones: Callable[..., Tensor]
    ) -> dict[str, Any]:
        """Latents, the text of both encoders, and the sizes that SDXL is conditioned on."""
        config, pooled = configs["unet"], configs["text_encoder_2"]["projection_dim"]
        return {
            "sample": ones(1, config["in_channels"], height, width),
            "timestep": ones(1),
            "encoder_hidden_states": ones(1, CLIP_TOKENS, config["cross_attention_dim"]),
            "added_cond_kwargs": {"text_embeds": ones(1, pooled), "time_ids": ones(1, 6)},
        }
