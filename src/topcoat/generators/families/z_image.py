"""Z-Image: a single-stream transformer that reads lists of latents, with FLUX.1's VAE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from topcoat.generators.families.base import Configs, FlowFamily, Published
from topcoat.generators.families.flux import FLUX1_VAE
from topcoat.generators.families.text_encoders import qwen3_4b


def _published(repository: str) -> Published:
    return Published(
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
            "vae": FLUX1_VAE,
            "text_encoder": qwen3_4b("Qwen3Model"),
        },
    )


class ZImage(FlowFamily):
    """Z-Image-Turbo and its base; any guidance_scale above 0 guides."""

    pipeline = "ZImagePipeline"
    denoiser_class = "ZImageTransformer2DModel"
    guidance_above = 0.0
    noise_dtype = torch.float32
    published: ClassVar = {name: _published(name) for name in ("Tongyi-MAI/Z-Image-Turbo", "Tongyi-MAI/Z-Image")}

    def denoiser_inputs(
        self, configs: Configs, height: int, width: int, text_tokens: int, ones: Callable[..., Tensor]
    ) -> dict[str, Any]:
        """Lists of latents ``(C, frames, h, w)`` and of texts, one entry for each image."""
        config = configs["transformer"]
        return {
            "x": [ones(config["in_channels"], 1, height, width)],
            "t": ones(1),
            "cap_feats": [ones(text_tokens, config["cap_feat_dim"])],
        }
