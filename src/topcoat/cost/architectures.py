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
    """FLUX.1's 11.9 B transformer; dev has a guidance embedding, schnell has none."""
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


ARCHITECTURES: Mapping[str, Architecture] = {
    "black-forest-labs/FLUX.1-dev": _flux1("black-forest-labs/FLUX.1-dev", guidance_embeds=True),
    "black-forest-labs/FLUX.1-schnell": _flux1("black-forest-labs/FLUX.1-schnell", guidance_embeds=False),
}
"""Published models that can be counted by hub id; any other model is counted from its local folder."""
