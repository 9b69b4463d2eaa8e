"""The kinds of diffusers pipeline that can be run: what each reads of a spec, and how often it runs its network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from topcoat.errors import UsageError
from topcoat.generators.base import GeneratorSpec


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of pipeline, by the name of its diffusers class.

    `guidance` says what ``guidance_scale`` does: ``input`` of the network (one pass a step), or classifier-free
    guidance (two passes a step) from that value upwards, exclusive.
    """

    pipeline: str
    denoiser: Literal["transformer", "unet"]
    denoiser_class: str
    packing: int
    """Latents on one side of a token: 2 where the network reads 2x2 latents at once."""
    guidance: Literal["input"] | float
    negative_prompt: bool
    sequence_length: bool
    """Whether the length of the text is a setting; SDXL's encoders always read 77 tokens."""
    flow: bool
    """Whether noise is mixed in by rectified flow, ``(1 - sigma) x + sigma noise``."""

    def passes(self, spec: GeneratorSpec) -> int:
        """Runs of the network in one denoising step: 2 with classifier-free guidance, else 1."""
        guided = spec.true_cfg_scale > 1 if self.guidance == "input" else spec.guidance_scale > self.guidance
        return 2 if guided else 1

    def text_passes(self, spec: GeneratorSpec) -> int:
        """Texts encoded for one image: 2 where guidance needs a negative one, else 1.

        SDXL's guidance without a negative prompt takes zeros instead of an encoded empty text.
        """
        if self.passes(spec) == 1 or (self.denoiser == "unet" and spec.negative_prompt is None):
            return 1
        return 2

    def check(self, spec: GeneratorSpec) -> None:
        """Raise `UsageError` for a setting that this kind of pipeline does not have."""
        if spec.negative_prompt is not None and not self.negative_prompt:
            raise UsageError(
                f"{spec.name}: {self.pipeline} has no negative prompt (it takes an empty text); remove negative_prompt"
            )
        if spec.true_cfg_scale > 1 and self.guidance != "input":
            raise UsageError(f"{spec.name}: {self.pipeline} has no true_cfg_scale; set guidance_scale instead")

    def arguments(self, spec: GeneratorSpec, count: int) -> dict[str, Any]:
        """What the pipeline is called with for ``count`` images, beside prompts, steps and noise."""
        given: dict[str, Any] = {
            "height": spec.height_px,
            "width": spec.width_px,
            "guidance_scale": spec.guidance_scale,
        }
        if self.sequence_length:
            given["max_sequence_length"] = spec.max_sequence_length
        if spec.negative_prompt is not None:
            given["negative_prompt"] = [spec.negative_prompt] * count
        if self.guidance == "input":
            given["true_cfg_scale"] = spec.true_cfg_scale
        return given


_FAMILIES = (
    Family("FluxPipeline", "transformer", "FluxTransformer2DModel", 2, "input", True, True, True),
    Family("Flux2KleinPipeline", "transformer", "Flux2Transformer2DModel", 2, 1.0, False, True, True),
    Family("StableDiffusionXLPipeline", "unet", "UNet2DConditionModel", 1, 1.0, True, False, False),
    Family("ZImagePipeline", "transformer", "ZImageTransformer2DModel", 2, 0.0, True, True, True),
)
FAMILIES: Mapping[str, Family] = {family.pipeline: family for family in _FAMILIES}
"""Name of the pipeline class -> how it is called."""

BY_DENOISER: Mapping[str, Family] = {family.denoiser_class: family for family in _FAMILIES}
"""Name of the denoiser's class -> how its pipeline is called."""
