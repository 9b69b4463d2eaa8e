"""Qwen-Image: latents of a video VAE as tokens of 2x2, guided by true classifier-free guidance alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from topcoat.errors import UsageError
from topcoat.generators.base import GeneratorSpec
from topcoat.generators.families.base import TYPICAL_TOKENS, OneImage
from topcoat.generators.families.flux import Flux

_TEMPLATE_TOKENS = 34
"""Of the chat template before the prompt: read by the text encoder, then dropped (prompt_template_encode_start_idx)."""


class QwenImage(Flux):
    """Qwen-Image and its Lightning LoRAs; `true_cfg_scale` above 1 with a negative prompt guides."""

    pipeline = "QwenImagePipeline"
    tokenizers = ("tokenizer",)
    clip_tokenizers = ()
    denoiser_class = "QwenImageTransformer2DModel"
    vae_class = "AutoencoderKLQwenImage"

    def check(self, spec: GeneratorSpec) -> None:
        """See `Family.check`; no published model takes `guidance_scale` as an input."""
        super().check(spec)
        if spec.guidance_scale > 1:
            raise UsageError(
                f"{spec.name}: {self.pipeline} passes over guidance_scale; set it to 1, and true_cfg_scale with a "
                "negative_prompt to guide"
            )

    def arguments(self, spec: GeneratorSpec, count: int) -> dict[str, Any]:
        """See `Family.arguments`."""
        arguments = super().arguments(spec, count)
        del arguments["guidance_scale"]
        return arguments

    def text_tokens(self, tokenizer: Any, texts: Sequence[str], spec: GeneratorSpec) -> list[int]:
        """See `Family.text_tokens`; of the chat template what comes before the prompt is dropped."""
        import diffusers

        empty: Any = dict.fromkeys(("scheduler", "vae", "text_encoder", "tokenizer", "transformer"))
        template = diffusers.QwenImagePipeline(**empty).prompt_template_encode
        encoded = tokenizer([template.format(text) for text in texts], truncation=False, padding=False)
        return [len(ids) - _TEMPLATE_TOKENS for ids in encoded.input_ids]

    def encoder_tokens(self, padded: int) -> int:
        """Texts are not padded, so a typical one is counted, with the chat template around it."""
        return min(padded, TYPICAL_TOKENS) + _TEMPLATE_TOKENS

    def denoiser_tokens(self, padded: int) -> int:
        """See `encoder_tokens`; the template is dropped."""
        return min(padded, TYPICAL_TOKENS)

    def denoiser_inputs(self, image: OneImage) -> dict[str, Any]:
        """Image tokens, the text of Qwen2.5-VL, and the image's size in tokens."""
        config, ones, rows, columns = image.config, image.ones, image.height // 2, image.width // 2
        return {
            "hidden_states": ones(1, rows * columns, config["in_channels"]),
            "encoder_hidden_states": ones(1, image.text_tokens, config["joint_attention_dim"]),
            "timestep": ones(1),
            "img_shapes": [[(1, rows, columns)]],
        }
