"""FLUX.1: guidance is an input of the transformer; latents travel as tokens of 2x2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor

from topcoat.generators.base import GeneratorSpec
from topcoat.generators.families.base import Configs, FlowFamily, Published
from topcoat.generators.families.text_encoders import CLIP_L, T5_XXL
from topcoat.generators.latents import pack, unpack

FLUX1_VAE: Mapping[str, Any] = {
    "_class_name": "AutoencoderKL",
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 16,
    "norm_num_groups": 32,
    "sample_size": 1024,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}


def _published(repository: str, *, guidance_embeds: bool) -> Published:
    """FLUX.1 of 11.9 B weights; dev has a guidance embedding, schnell has none."""
    return Published(
        source=(
            f"config.json files of huggingface.co/{repository}: transformer, vae, text_encoder (CLIP ViT-L/14 text), "
            "text_encoder_2 (T5 v1.1 XXL encoder)"
        ),
        components={
            "transformer": {
                "_class_name": "FluxTransformer2DModel",
                "patch_size": 1,
                "in_channels": 64,
                "num_layers": 19,
                "num_single_layers": 38,
                "attention_head_dim": 128,
                "num_attention_heads": 24,
                "joint_attention_dim": 4096,
                "pooled_projection_dim": 768,
                "guidance_embeds": guidance_embeds,
            },
            "vae": FLUX1_VAE,
            "text_encoder": CLIP_L,
            "text_encoder_2": T5_XXL,
        },
    )


class Flux(FlowFamily):
    """FLUX.1 schnell and dev; a true_cfg_scale above 1 adds classifier-free guidance."""

    pipeline = "FluxPipeline"
    denoiser_class = "FluxTransformer2DModel"
    has_true_cfg = True
    published: ClassVar = {
        name: _published(name, guidance_embeds=name.endswith("dev"))
        for name in ("black-forest-labs/FLUX.1-dev", "black-forest-labs/FLUX.1-schnell")
    }

    def guided(self, spec: GeneratorSpec) -> bool:
        """Whether classifier-free guidance runs; `guidance_scale` is an input of the network."""
        return spec.true_cfg_scale > 1

    def normalised(self, output: Tensor, pipeline: Any, spec: GeneratorSpec) -> Tensor:
        """The tokens laid out as latents."""
        return unpack(output, spec.height_px // (pipeline.vae_scale_factor * 2) * 2)

    def token_layout(self, latents: Tensor) -> Tensor:
        """The latents laid into tokens."""
        return pack(latents)

    def denoiser_inputs(
        self, configs: Configs, height: int, width: int, text_tokens: int, ones: Callable[..., Tensor]
    ) -> dict[str, Any]:
        """Image tokens, the text of T5 and the pooled text of CLIP."""
        config, tokens = configs["transformer"], (width // 2) * (height // 2)
        return {
            "hidden_states": ones(1, tokens, config["in_channels"]),
            "encoder_hidden_states": ones(1, text_tokens, config["joint_attention_dim"]),
            "pooled_projections": ones(1, config["pooled_projection_dim"]),
            "timestep": ones(1),
            "img_ids": ones(tokens, 3),
            "txt_ids": ones(text_tokens, 3),
            "guidance": ones(1) if config.get("guidance_embeds") else None,
        }
