"""Stable Diffusion XL: a U-Net that reads 77 tokens of two CLIP encoders."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from topcoat.generators.base import GeneratorSpec
from topcoat.generators.families.base import Configs, Family, Published
from topcoat.generators.families.text_encoders import CLIP_BIG_G, CLIP_L, CLIP_TOKENS

_BASE = Published(
    source=(
        "config.json files of huggingface.co/stabilityai/stable-diffusion-xl-base-1.0: unet (2.6 B), vae, text_encoder "
        "(CLIP ViT-L/14 text), text_encoder_2 (OpenCLIP ViT-bigG/14 text)"
    ),
    components={
        "unet": {
            "_class_name": "UNet2DConditionModel",
            "sample_size": 128,
            "in_channels": 4,
            "out_channels": 4,
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            "block_out_channels": [320, 640, 1280],
            "layers_per_block": 2,
            "transformer_layers_per_block": [1, 2, 10],
            "attention_head_dim": [5, 10, 20],
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        "vae": {
            "_class_name": "AutoencoderKL",
            "down_block_types": ["DownEncoderBlock2D"] * 4,
            "up_block_types": ["UpDecoderBlock2D"] * 4,
            "block_out_channels": [128, 256, 512, 512],
            "layers_per_block": 2,
            "latent_channels": 4,
            "norm_num_groups": 32,
            "sample_size": 1024,
            "scaling_factor": 0.13025,
            "force_upcast": True,
        },
        "text_encoder": CLIP_L,
        "text_encoder_2": CLIP_BIG_G,
    },
)


class StableDiffusionXL(Family):
    """SDXL and what is distilled from it, such as SDXL-Lightning."""

    pipeline = "StableDiffusionXLPipeline"
    denoiser = "unet"
    denoiser_class = "UNet2DConditionModel"
    packing = 1
    has_sequence_length = False
    published: ClassVar = {"stabilityai/stable-diffusion-xl-base-1.0": _BASE}

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
