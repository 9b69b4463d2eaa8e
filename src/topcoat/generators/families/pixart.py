"""PixArt-Sigma: a diffusion transformer that reads T5, with SDXL's VAE."""

from __future__ import annotations

from typing import Any

from topcoat.generators.base import GeneratorSpec
from topcoat.generators.families.base import Family, OneImage


class PixArtSigma(Family):
    """PixArt-Sigma. Images have exactly the size asked for, and the text is given as it is (in lower case)."""

    pipeline = "PixArtSigmaPipeline"
    denoiser_class = "PixArtTransformer2DModel"
    call_arguments = ("eta",)

    def arguments(self, spec: GeneratorSpec, count: int) -> dict[str, Any]:
        """See `Family.arguments`; cleaning captions depends on whether two further packages are installed."""
        return {**super().arguments(spec, count), "use_resolution_binning": False, "clean_caption": False}

    def whole_text(self, tokenizer: Any, text: str) -> str:
        """The prompt in lower case."""
        return text.lower().strip()

    def denoiser_inputs(self, image: OneImage) -> dict[str, Any]:
        """Latents and the text of T5."""
        config, ones = image.config, image.ones
        return {
            "hidden_states": ones(1, config["in_channels"], image.height, image.width),
            "encoder_hidden_states": ones(1, image.text_tokens, config["caption_channels"]),
            "timestep": ones(1),
            "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
        }
