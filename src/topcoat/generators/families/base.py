"""What a family has to say about its pipeline: how it is called, how img2img starts, what its denoiser reads."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.generators.base import GeneratorSpec, StepCache
from topcoat.prompts.clip import CLIP_TOKENS

TYPICAL_TOKENS = 64
"""Text tokens of a typical prompt, counted where a denoiser reads no padding: a portrait's 44 words, as the photo style
writes them."""

Configs = Mapping[str, Mapping[str, Any]]
"""The parts of a pipeline by folder name (transformer or unet, vae, text_encoder, ...), each with its config.json.

``model_index`` is model_index.json, which names the pipeline's class.
"""


@dataclass(frozen=True, slots=True)
class Img2ImgRequest:
    """Images to start from, as latents ``(N, C, h, w)`` float32 on the CPU, laid out as `Family.normalised` does."""

    pipeline: Any
    spec: GeneratorSpec
    latents: Tensor
    noise: Sequence[torch.Generator]
    strength: float
    steps: int

    @property
    def dtype(self) -> torch.dtype:
        """That of the networks."""
        return getattr(torch, self.spec.dtype)


@dataclass(frozen=True, slots=True)
class OneImage:
    """What the denoiser reads in one pass: ``height`` x ``width`` latents of one image, and its text.

    ``ones(*shape)`` makes the tensors, so that the same call is counted on the meta device and timed on a real one.
    """

    configs: Configs
    height: int
    width: int
    text_tokens: int
    ones: Callable[..., Tensor]

    @property
    def config(self) -> Mapping[str, Any]:
        """The denoiser's config."""
        return self.configs["unet" if "unet" in self.configs else "transformer"]


class Family:
    """One kind of diffusers pipeline. A subclass sets the class attributes and overrides what is different."""

    pipeline: ClassVar[str]
    """Name of the pipeline's class in diffusers."""
    denoiser: ClassVar[Literal["transformer", "unet"]] = "transformer"
    denoiser_class: ClassVar[str]
    vae_class: ClassVar[str] = "AutoencoderKL"
    packing: ClassVar[int] = 2
    """Latents on one side of a token: 2 where the denoiser reads 2x2 latents at once."""
    guidance_above: ClassVar[float] = 1.0
    """Classifier-free guidance (two passes of the denoiser in a step) runs at a guidance_scale above this value."""
    has_negative_prompt: ClassVar[bool] = True
    has_true_cfg: ClassVar[bool] = False
    has_sequence_length: ClassVar[bool] = True
    """Whether the number of text tokens is a setting."""
    step_caches: ClassVar[tuple[StepCache, ...]] = ()
    """Step caches of diffusers that run with this pipeline: it has to tell the denoiser which of its passes runs."""
    call_arguments: ClassVar[tuple[str, ...]] = ()
    """Further arguments of the pipeline's call that a spec may set."""
    tokenizers: ClassVar[tuple[str, ...]] = ("tokenizer",)
    """Names of the tokenizers that read a prompt."""
    clip_tokenizers: ClassVar[tuple[str, ...]] = ()
    """Those of CLIP, which read what they were made for; the others read `max_sequence_length`."""
    load_arguments: ClassVar[Mapping[str, Any]] = {}
    """Further arguments of the pipeline's `from_pretrained`."""

    @property
    def published(self) -> Mapping[str, Configs]:
        """Hub id -> the parts of that model, from the JSON file beside the family's own file.

        With it a cost is computed without the hub, a licence click or a download. Each entry says where its numbers,
        which are configuration facts, come from.
        """
        path = Path(inspect.getfile(type(self))).with_suffix(".json")
        entries = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        index = {"model_index": {"_class_name": self.pipeline}}
        own = [entry for entry in entries if entry.get("pipeline", self.pipeline) == self.pipeline]
        return {name: index | entry["components"] for entry in own for name in entry["models"]}

    def guided(self, spec: GeneratorSpec) -> bool:
        """Whether classifier-free guidance runs."""
        return spec.guidance_scale > self.guidance_above

    def passes(self, spec: GeneratorSpec) -> int:
        """Runs of the denoiser in one step: 2 with classifier-free guidance, else 1."""
        return 2 if self.guided(spec) else 1

    def text_passes(self, spec: GeneratorSpec) -> int:
        """Texts encoded for one image: 2 where guidance needs a negative one, else 1."""
        return self.passes(spec)

    def check(self, spec: GeneratorSpec) -> None:
        """Raise `UsageError` for a setting that this kind of pipeline does not have."""
        other = "unet" if self.denoiser == "transformer" else "transformer"
        if other in spec.replaced:
            raise UsageError(f"{spec.name}: {self.pipeline} has a {self.denoiser} and no {other}; remove {other}")
        if spec.step_cache is not None and spec.step_cache.name not in self.step_caches:
            allowed = f"use {', '.join(self.step_caches)}" if self.step_caches else "it has none, remove step_cache"
            raise UsageError(f"{spec.name}: {self.pipeline} has no step cache {spec.step_cache.name}; {allowed}")
        for name in spec.call:
            if name not in self.call_arguments:
                allowed = f"use {', '.join(self.call_arguments)}" if self.call_arguments else "it has none, remove call"
                raise UsageError(f"{spec.name}: {self.pipeline} takes no call argument {name!r} from a spec; {allowed}")
        if spec.negative_prompt is not None and not self.has_negative_prompt:
            raise UsageError(
                f"{spec.name}: {self.pipeline} has no negative prompt (it takes an empty text); remove negative_prompt"
            )
        if spec.true_cfg_scale > 1 and not self.has_true_cfg:
            raise UsageError(f"{spec.name}: {self.pipeline} has no true_cfg_scale; set guidance_scale instead")

    def arguments(self, spec: GeneratorSpec, count: int) -> dict[str, Any]:
        """What the pipeline is called with for ``count`` images, besides prompts, steps and noise."""
        arguments: dict[str, Any] = {
            "height": spec.height_px,
            "width": spec.width_px,
            "guidance_scale": spec.guidance_scale,
        }
        if self.has_sequence_length:
            arguments["max_sequence_length"] = spec.max_sequence_length
        if spec.negative_prompt is not None:
            arguments["negative_prompt"] = [spec.negative_prompt] * count
        if self.has_true_cfg:
            arguments["true_cfg_scale"] = spec.true_cfg_scale
        for name, levels in (("sigmas", spec.sigmas), ("timesteps", spec.timesteps)):
            if levels is not None:
                arguments[name] = list(levels)
        return arguments | spec.call

    def normalised(self, output: Tensor, pipeline: Any, spec: GeneratorSpec) -> Tensor:
        """``(N, C, h, w)`` as the denoiser left them, from what the pipeline returned for ``output_type="latent"``."""
        return output

    def is_clip(self, tokenizer: str) -> bool:
        """Whether a tokenizer of that name is CLIP's."""
        return tokenizer in self.clip_tokenizers

    def text_length(self, name: str, tokenizer: Any, spec: GeneratorSpec) -> int:
        """Tokens of a text that are read, by the tokenizer ``name``."""
        return min(tokenizer.model_max_length, CLIP_TOKENS) if self.is_clip(name) else spec.max_sequence_length

    def text_tokens(self, tokenizer: Any, texts: Sequence[str], spec: GeneratorSpec) -> list[int]:
        """Tokens of whole texts, with what the pipeline puts around each before it cuts."""
        whole = [self.whole_text(tokenizer, text) for text in texts]
        return [len(ids) for ids in tokenizer(whole, truncation=False, padding=False).input_ids]

    def whole_text(self, tokenizer: Any, text: str) -> str:
        """What the pipeline gives its tokenizer for a prompt."""
        return text

    def encoder_tokens(self, padded: int) -> int:
        """Tokens that the text encoder reads of one text at a `max_sequence_length` of ``padded``."""
        return padded

    def denoiser_tokens(self, padded: int) -> int:
        """Text tokens that the denoiser reads at a `max_sequence_length` of ``padded``."""
        return padded

    def img2img(self, request: Img2ImgRequest) -> tuple[Any, dict[str, Any]]:
        """The pipeline that runs image-to-image and all its arguments besides the prompts; `UsageError` without one."""
        raise UsageError(f"{request.spec.name}: {self.pipeline} has no image-to-image; use the pairing same-seed")

    def denoiser_inputs(self, image: OneImage) -> dict[str, Any]:
        """What one pass of the denoiser reads for ``image``."""
        raise NotImplementedError


class FlowFamily(Family):
    """A rectified-flow transformer: noise is mixed in as ``(1 - sigma) latents + sigma noise``."""

    noise_dtype: ClassVar[torch.dtype | None] = None
    """The dtype in which the pipeline draws its noise; None is that of the spec."""

    def img2img(self, request: Img2ImgRequest) -> tuple[Any, dict[str, Any]]:
        """The pipeline itself, started late on its own schedule from the latents mixed with noise.

        This is what the image-to-image pipelines of diffusers do. They are not used because they support fewer VAEs
        than the text-to-image pipelines, and FLUX.2 klein has none.
        """
        from diffusers.utils.torch_utils import randn_tensor

        steps, scheduler = request.steps, request.pipeline.scheduler
        own_levels = request.spec.sigmas
        levels = self.sigmas(scheduler, steps) if own_levels is None else np.array(own_levels)
        sigmas = levels[int(max(steps - steps * request.strength, 0)) :]
        tokens = request.latents.shape[2] * request.latents.shape[3] // self.packing**2
        scheduler.set_timesteps(sigmas=list(sigmas), mu=self.shift(scheduler, tokens, steps))
        sigma = float(scheduler.sigmas[0])  # after the scheduler's own shift
        latents = self.noise_layout(request.latents)
        dtype = self.noise_dtype or request.dtype
        drawn = randn_tensor(latents.shape, generator=list(request.noise), device=torch.device("cpu"), dtype=dtype)
        start = self.token_layout((1 - sigma) * latents + sigma * drawn.float()).to(dtype)
        own = {"num_inference_steps": steps, "sigmas": sigmas.tolist(), "latents": start}
        return request.pipeline, self.arguments(request.spec, len(latents)) | own

    def sigmas(self, scheduler: Any, steps: int) -> np.ndarray[Any, Any]:
        """The noise levels of a whole schedule, before the scheduler shifts them."""
        return np.linspace(1.0, 1 / steps, steps)

    def shift(self, scheduler: Any, tokens: int, steps: int) -> float:
        """``mu``, by which the scheduler shifts its noise levels for an image of ``tokens`` tokens."""
        from diffusers.pipelines.flux.pipeline_flux import calculate_shift

        defaults = {"base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15}
        return calculate_shift(tokens, *(scheduler.config.get(name, value) for name, value in defaults.items()))

    def noise_layout(self, latents: Tensor) -> Tensor:
        """``(N, C, h, w)`` in the layout in which the pipeline draws its noise."""
        return latents

    def token_layout(self, latents: Tensor) -> Tensor:
        """What `noise_layout` gave, in the layout in which the pipeline takes its first latents."""
        return latents


class UNetFamily(Family):
    """A U-Net that reads the 77 tokens of CLIP, from before the flow models."""

    denoiser = "unet"
    clip_tokenizers = ("tokenizer",)
    denoiser_class = "UNet2DConditionModel"
    packing = 1
    has_sequence_length = False
    call_arguments = ("clip_skip", "eta", "guidance_rescale")

    def img2img(self, request: Img2ImgRequest) -> tuple[Any, dict[str, Any]]:
        """The family's own image-to-image pipeline, made of the same parts."""
        import diffusers

        img2img_class = getattr(diffusers, self.pipeline.replace("Pipeline", "Img2ImgPipeline"))
        known = inspect.signature(img2img_class.__init__).parameters
        parts = {**request.pipeline.config, **request.pipeline.components}
        arguments = self.arguments(request.spec, len(request.latents))
        del arguments["height"], arguments["width"]  # they follow from the latents
        return img2img_class(**{name: part for name, part in parts.items() if name in known}), arguments | {
            "image": request.latents.to(request.dtype),  # four channels: taken as latents, not encoded again
            "strength": request.strength,
            "num_inference_steps": request.steps,
            "generator": list(request.noise),
        }
