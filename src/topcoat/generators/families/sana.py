"""Sana: linear attention over the latents of a deep VAE, 32 pixels to a side; Sprint needs 1 to 4 steps."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from topcoat.generators.base import GeneratorSpec
from topcoat.generators.families.base import Family, OneImage

_INSTRUCTION_TOKENS = 250
"""About as many as the pipeline's own instruction, which comes before the prompt, has in Gemma's tokenizer: its 1,100
characters at 4.4 a token. The tokenizer is not here, so this is an estimate; the text encoder reads it, the denoiser
does not."""


class Sana(Family):
    """Sana 0.6B and 1.6B. Images have exactly the size asked for: none is generated in another and cut."""

    pipeline = "SanaPipeline"
    denoiser_class = "SanaTransformer2DModel"
    vae_class = "AutoencoderDC"
    packing = 1
    call_arguments = ("complex_human_instruction", "eta")

    def arguments(self, spec: GeneratorSpec, count: int) -> dict[str, Any]:
        """See `Family.arguments`."""
        return {**super().arguments(spec, count), "use_resolution_binning": False}

    def text_tokens(self, tokenizer: Any, texts: Sequence[str], spec: GeneratorSpec) -> list[int]:
        """See `Family.text_tokens`; the instruction before the prompt has room of its own."""
        import diffusers

        call = inspect.signature(getattr(diffusers, self.pipeline).__call__).parameters
        lines: Any = spec.call.get("complex_human_instruction", call["complex_human_instruction"].default) or ()
        instruction = "\n".join(lines)
        whole = [instruction + text.lower().strip() for text in texts]
        before = len(tokenizer.encode(instruction)) - 2 if instruction else 0
        return [len(ids) - before for ids in tokenizer(whole, truncation=False, padding=False).input_ids]

    def encoder_tokens(self, padded: int) -> int:
        """The instruction comes before the text."""
        return padded + _INSTRUCTION_TOKENS

    def denoiser_inputs(self, image: OneImage) -> dict[str, Any]:
        """Latents and the text of Gemma 2."""
        config, ones = image.config, image.ones
        return {
            "hidden_states": ones(1, config["in_channels"], image.height, image.width),
            "encoder_hidden_states": ones(1, image.text_tokens, config["caption_channels"]),
            "timestep": ones(1),
            "guidance": ones(1) if config.get("guidance_embeds") else None,
        }


class SanaSprint(Sana):
    """Sana-Sprint: `guidance_scale` is an input of the transformer."""

    pipeline = "SanaSprintPipeline"
    has_negative_prompt = False
    call_arguments = ("complex_human_instruction", "max_timesteps", "intermediate_timesteps")

    def guided(self, spec: GeneratorSpec) -> bool:
        """Never: one pass a step."""
        return False

    def arguments(self, spec: GeneratorSpec, count: int) -> dict[str, Any]:
        """See `Family.arguments`; the pipeline's own step between two is for 2 steps alone."""
        own = {} if spec.steps == 2 else {"intermediate_timesteps": None}
        return own | super().arguments(spec, count)
