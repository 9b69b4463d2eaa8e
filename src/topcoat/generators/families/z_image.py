"""Z-Image: a single-stream transformer that reads lists of latents, with FLUX.1's VAE."""

from __future__ import annotations

from typing import Any

import torch

from topcoat.generators.families.base import TYPICAL_TOKENS, FlowFamily, OneImage


class ZImage(FlowFamily):
    """Z-Image-Turbo and its base; any guidance_scale above 0 guides."""

    pipeline = "ZImagePipeline"
    denoiser_class = "ZImageTransformer2DModel"
    guidance_above = 0.0
    noise_dtype = torch.float32
    call_arguments = ("cfg_normalization", "cfg_truncation")

    def whole_text(self, tokenizer: Any, text: str) -> str:
        """The prompt in the chat template of the language model."""
        messages = [{"role": "user", "content": text}]
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=True)

    def denoiser_tokens(self, padded: int) -> int:
        """The text encoder's padding is dropped and the transformer pads to 32, so a typical text is counted."""
        return min(padded, TYPICAL_TOKENS)

    def denoiser_inputs(self, image: OneImage) -> dict[str, Any]:
        """Lists of latents ``(C, frames, h, w)`` and of texts, one entry for each image."""
        config, ones = image.config, image.ones
        return {
            "x": [ones(config["in_channels"], 1, image.height, image.width)],
            "t": ones(1),
            "cap_feats": [ones(image.text_tokens, config["cap_feat_dim"])],
        }
