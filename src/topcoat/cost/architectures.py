"""Facts: the sizes of models that are counted without their weights.

Each entry holds a pipeline's parts as their public ``config.json`` files describe them, so that a cost can be computed
with no hub, no licence click and no download. The numbers are configuration facts; the source of each is beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Architecture:
    """A published model's parts by folder name, and where the numbers come from."""

    source: str
    components: Mapping[str, Mapping[str, Any]]


def _flux1_transformer(*, guidance_embeds: bool) -> dict[str, Any]:
    """FLUX.1's transformer of 11.9 B weights; dev has a guidance embedding, schnell has none."""
    return {
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
    }


_FLUX1_VAE: Mapping[str, Any] = {
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

_CLIP_L: Mapping[str, Any] = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "projection_dim": 768,
}

_T5_XXL: Mapping[str, Any] = {
    "architectures": ["T5EncoderModel"],
    "model_type": "t5",
    "vocab_size": 32128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}


def _flux1(repository: str, *, guidance_embeds: bool) -> Architecture:
    return Architecture(
        source=(
            f"config.json files of huggingface.co/{repository}: transformer, vae, text_encoder (CLIP ViT-L/14 text), "
            "text_encoder_2 (T5 v1.1 XXL encoder)"
        ),
        components={
            "transformer": _flux1_transformer(guidance_embeds=guidance_embeds),
            "vae": _FLUX1_VAE,
            "text_encoder": _CLIP_L,
            "text_encoder_2": _T5_XXL,
        },
    )


# FLUX.2 klein 4B and its base have one shape.
_KLEIN_TRANSFORMER: Mapping[str, Any] = {
    "_class_name": "Flux2Transformer2DModel",
    "patch_size": 1,
    "in_channels": 128,
    "num_layers": 5,
    "num_single_layers": 20,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 7680,
    "timestep_guidance_channels": 256,
    "mlp_ratio": 3.0,
    "axes_dims_rope": [32, 32, 32, 32],
    "rope_theta": 2000,
    "guidance_embeds": False,
}

_FLUX2_VAE: Mapping[str, Any] = {
    "_class_name": "AutoencoderKLFlux2",
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 32,
    "norm_num_groups": 32,
    "sample_size": 1024,
}


def _qwen3_4b(kind: str) -> dict[str, Any]:
    """Qwen3 4B; FLUX.2 runs it with its language head, Z-Image without."""
    return {
        "architectures": [kind],
        "model_type": "qwen3",
        "vocab_size": 151936,
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "tie_word_embeddings": True,
    }


def _klein(repository: str) -> Architecture:
    return Architecture(
        source=(
            "transformer: klein-4b in huggingface/diffusers scripts/convert_flux2_to_diffusers.py; vae: defaults of "
            "diffusers AutoencoderKLFlux2; text_encoder: model_index.json and text_encoder/config.json (Qwen3 4B) of "
            f"huggingface.co/{repository}"
        ),
        components={
            "transformer": _KLEIN_TRANSFORMER,
            "vae": _FLUX2_VAE,
            "text_encoder": _qwen3_4b("Qwen3ForCausalLM"),
        },
    )


_SDXL = Architecture(
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
        "text_encoder": _CLIP_L,
        "text_encoder_2": {
            "architectures": ["CLIPTextModelWithProjection"],
            "model_type": "clip_text_model",
            "vocab_size": 49408,
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "num_attention_heads": 20,
            "max_position_embeddings": 77,
            "projection_dim": 1280,
            "hidden_act": "gelu",
        },
    },
)


def _z_image(repository: str) -> Architecture:
    return Architecture(
        source=(
            f"config.json files of huggingface.co/{repository}: transformer (6.15 B), vae (FLUX.1's shape), "
            "text_encoder (Qwen3 4B without its language head, as model_index.json says)"
        ),
        components={
            "transformer": {
                "_class_name": "ZImageTransformer2DModel",
                "all_patch_size": [2],
                "all_f_patch_size": [1],
                "in_channels": 16,
                "dim": 3840,
                "n_layers": 30,
                "n_refiner_layers": 2,
                "n_heads": 30,
                "n_kv_heads": 30,
                "norm_eps": 1e-5,
                "qk_norm": True,
                "cap_feat_dim": 2560,
                "rope_theta": 256.0,
                "t_scale": 1000.0,
                "axes_dims": [32, 48, 48],
                "axes_lens": [1536, 512, 512],
            },
            "vae": _FLUX1_VAE,
            "text_encoder": _qwen3_4b("Qwen3Model"),
        },
    )


ARCHITECTURES: Mapping[str, Architecture] = {
    "black-forest-labs/FLUX.1-dev": _flux1("black-forest-labs/FLUX.1-dev", guidance_embeds=True),
    "black-forest-labs/FLUX.1-schnell": _flux1("black-forest-labs/FLUX.1-schnell", guidance_embeds=False),
    "black-forest-labs/FLUX.2-klein-4B": _klein("black-forest-labs/FLUX.2-klein-4B"),
    "black-forest-labs/FLUX.2-klein-base-4B": _klein("black-forest-labs/FLUX.2-klein-base-4B"),
    "stabilityai/stable-diffusion-xl-base-1.0": _SDXL,
    "Tongyi-MAI/Z-Image-Turbo": _z_image("Tongyi-MAI/Z-Image-Turbo"),
    "Tongyi-MAI/Z-Image": _z_image("Tongyi-MAI/Z-Image"),
}
"""Published models that can be counted by hub id; any other model is counted from its local folder."""
