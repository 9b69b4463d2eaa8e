"""FLUX.2: latents are normalised and noise is drawn in patches of 2x2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from topcoat.generators.base import GeneratorSpec
from topcoat.generators.families.base import FlowFamily, OneImage
from topcoat.generators.latents import from_vae


class Flux2Klein(FlowFamily):
    """FLUX.2 klein, distilled and base."""

    pipeline = "Flux2KleinPipeline"
    denoiser_class = "Flux2Transformer2DModel"
    vae_class = "AutoencoderKLFlux2"
    step_caches = ("TaylorSeerCacheConfig", "FasterCacheConfig", "PyramidAttentionBroadcastConfig")
    has_negative_prompt = False

    def normalised(self, output: Tensor, pipeline: Any, spec: GeneratorSpec) -> Tensor:
        """The latents normalised again: the pipeline has already undone its VAE's batch norm."""
        return from_vae(output, pipeline.vae)

    def whole_text(self, tokenizer: Any, text: str) -> str:
        """The prompt in the chat template of the language model."""
        messages = [{"role": "user", "content": text}]
        return tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )

    def shift(self, scheduler: Any, tokens: int, steps: int) -> float:
        """The shift fitted by FLUX.2's authors."""
        from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

        return compute_empirical_mu(image_seq_len=tokens, num_steps=steps)

    def noise_layout(self, latents: Tensor) -> Tensor:
        """2x2 patches laid into channels."""
        return functional.pixel_unshuffle(latents, 2)

    def denoiser_inputs(self, image: OneImage) -> dict[str, Any]:
        """Image tokens and the text of the language model."""
        config, tokens, ones = image.config, (image.width // 2) * (image.height // 2), image.ones
        return {
            "hidden_states": ones(1, tokens, config["in_channels"]),
            "encoder_hidden_states": ones(1, image.text_tokens, config["joint_attention_dim"]),
            "timestep": ones(1),
            "img_ids": ones(1, tokens, 4),
            "txt_ids": ones(1, image.text_tokens, 4),
            "guidance": ones(1) if config.get("guidance_embeds", True) else None,
        }


class Flux2(Flux2Klein):
    """FLUX.2 dev: guidance is an input of the transformer, and the pipeline gives latents as tokens."""

    pipeline = "Flux2Pipeline"
    step_caches = ()
    call_arguments = ("text_encoder_out_layers",)

    def guided(self, spec: GeneratorSpec) -> bool:
        """Never: one pass a step."""
        return False

    def text_tokens(self, tokenizer: Any, texts: Sequence[str], spec: GeneratorSpec) -> list[int]:
        """See `Family.text_tokens`; the pipeline's own system message comes first."""
        from diffusers.pipelines.flux2.pipeline_flux2 import SYSTEM_MESSAGE, format_input

        chats = format_input(prompts=list(texts), system_message=SYSTEM_MESSAGE)
        encoded = tokenizer.apply_chat_template(chats, add_generation_prompt=False, tokenize=True, return_dict=True)
        return [len(ids) for ids in encoded["input_ids"]]

    def normalised(self, output: Tensor, pipeline: Any, spec: GeneratorSpec) -> Tensor:
        """The tokens laid out as latents; the VAE's batch norm is not undone yet."""
        rows = spec.height_px // (pipeline.vae_scale_factor * 2)
        return functional.pixel_shuffle(output.transpose(1, 2).unflatten(2, (rows, -1)), 2)
