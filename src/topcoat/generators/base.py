"""What a generator is: the settings that name one, the protocols it follows and the checks of a request."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

import pydantic

from topcoat.config import StrictModel
from topcoat.errors import UsageError
from topcoat.prompts import MAX_WORDS
from topcoat.seeds import MAX_SEED

if TYPE_CHECKING:
    from torch import Tensor

MAX_STEPS = 1000
"""Most denoising steps: the models have 1000 noise levels, so more would only repeat some."""
Dtype = Literal["float32", "bfloat16", "float16"]
Offload = Literal["none", "model", "group", "sequential"]
OFFLOADS: tuple[Offload, ...] = get_args(Offload)
"""From the most memory and the fastest to the least memory and the slowest."""
TextQuantisation = Literal["none", "bitsandbytes-8bit", "bitsandbytes-4bit", "torchao-int8"]
Quantisation = Literal[TextQuantisation, "layerwise-float8"]
"""How weights are held: as `dtype`, in 8 or 4 bit by bitsandbytes, in 8 bit by torchao, or in float8 (e4m3) from which
each layer is cast when it runs."""
StepCache = Literal[
    "FirstBlockCacheConfig", "TaylorSeerCacheConfig", "FasterCacheConfig", "PyramidAttentionBroadcastConfig"
]
CallValue = bool | int | float | str | None
SOURCES = ("model", "transformer", "unet", "vae")
"""The settings that may name a folder, a file or a hub id."""
WEIGHT_FILES = (".safetensors", ".gguf")


class Licence(StrictModel):
    """The terms of a model: what to call them, where to read them and what a user of this project must know.

    `name` is the SPDX identifier where the licence has one, and what its author calls it otherwise.
    """

    name: str = pydantic.Field(min_length=1)
    url: str
    note: str = ""


class SchedulerSpec(StrictModel):
    """Another noise schedule: a scheduler class of diffusers and what it changes in the model's own settings."""

    name: str = pydantic.Field(min_length=1)
    config: dict[str, bool | int | float | str | None] = pydantic.Field(default_factory=dict)


class WeightsSpec(StrictModel):
    """Other weights for one network: those of a folder or hub id, or one file of them.

    In a folder or repository they are those in `subfolder`, by default the one named for the network. `weight_name` is
    a file there, ``.safetensors`` or ``.gguf``; `model` may be such a file too. A file has no settings: the network has
    those of the one that it replaces.
    """

    model: str = pydantic.Field(min_length=1)
    weight_name: str | None = None
    subfolder: str | None = None
    revision: str | None = None

    @property
    def file(self) -> str | None:
        """Name of the one file of weights, if it is one."""
        return self.weight_name or (Path(self.model).name if Path(self.model).suffix in WEIGHT_FILES else None)

    @pydantic.model_validator(mode="after")
    def _is_no_pickle(self) -> WeightsSpec:
        name = self.weight_name or (Path(self.model).name if Path(self.model).is_file() else None)
        if name is not None and Path(name).suffix not in WEIGHT_FILES:
            raise ValueError(f"{name} is no file of weights; use one that ends with {' or '.join(WEIGHT_FILES)}")
        return self


class StepCacheSpec(StrictModel):
    """Networks' outputs that are used again in later steps: a cache of diffusers, by its class, and its settings."""

    name: StepCache
    config: dict[str, CallValue | tuple[CallValue, ...]] = pydantic.Field(default_factory=dict)


class LoraSpec(StrictModel):
    """Low-rank weights added to the model: a folder, a ``.safetensors`` file or a hub id, and their scale."""

    model: str = pydantic.Field(min_length=1)
    weight_name: str | None = None
    """The file in that folder or repository, where there are several."""
    revision: str | None = None
    scale: float = 1.0


class GeneratorSpec(StrictModel):
    """Everything that decides a generator's images, apart from prompt and seed.

    `transformer` or `unet` is a folder or hub id whose network of that name (and ``scheduler/``, where it has one)
    replaces that of `model`, so that two models can share text encoders and VAE; `vae` replaces the VAE. Each may be a
    `WeightsSpec` instead. `sigmas` or `timesteps` are the noise levels of the steps, one for each. `fuse_loras` adds
    LoRAs to the weights themselves. `call` sets further arguments of the pipeline's call, those that its family allows.
    `quantisation` is the denoiser's, `text_quantisation` the text encoders'. `attention_backend`, `compile` and
    `step_cache` are those of diffusers; they are faster and change images a little.

    `variant` picks the weight files of that name (such as ``fp16``) in a hub repository. `device` and `offload` say
    where to run, `decode_batch` how many images the VAE takes at a time (by default what 4 megapixels are); they do not
    change the images. `vae_tiling` decodes a large image in tiles that overlap, which needs less memory and changes
    pixels a little.

    `guidance_scale` is whatever the model's own pipeline calls so: an input of FLUX.1, classifier-free guidance of the
    others. `true_cfg_scale` above 1 together with a negative prompt gives FLUX.1 that too, at twice the cost.
    """

    name: str = pydantic.Field(min_length=1)
    model: str = pydantic.Field(min_length=1)
    revision: str | None = None
    variant: str | None = None
    transformer: str | WeightsSpec | None = None
    unet: str | WeightsSpec | None = None
    vae: str | WeightsSpec | None = None
    scheduler: SchedulerSpec | None = None
    sigmas: tuple[float, ...] | None = None
    timesteps: tuple[float, ...] | None = None
    loras: tuple[LoraSpec, ...] = ()
    fuse_loras: bool = False
    steps: int = pydantic.Field(ge=1, le=MAX_STEPS)
    guidance_scale: float = pydantic.Field(ge=0)
    negative_prompt: str | None = None
    true_cfg_scale: float = pydantic.Field(default=1.0, ge=1)
    max_sequence_length: int = pydantic.Field(ge=1, le=512)
    width_px: int = pydantic.Field(ge=16, le=8192)
    height_px: int = pydantic.Field(ge=16, le=8192)
    dtype: Dtype
    quantisation: Quantisation = "none"
    text_quantisation: TextQuantisation = "none"
    attention_backend: str | None = None
    compile: bool = False
    step_cache: StepCacheSpec | None = None
    call: dict[str, CallValue | tuple[CallValue, ...]] = pydantic.Field(default_factory=dict)
    device: str = "auto"
    offload: Offload = "none"
    decode_batch: int | None = pydantic.Field(default=None, ge=1)
    vae_tiling: bool = False
    licence: Licence

    @property
    def replaced(self) -> dict[str, WeightsSpec]:
        """Name of each network that other weights replace -> those."""
        given = {"transformer": self.transformer, "unet": self.unet, "vae": self.vae}
        return {
            name: WeightsSpec(model=weights) if isinstance(weights, str) else weights
            for name, weights in given.items()
            if weights is not None
        }

    @property
    def sources(self) -> list[tuple[str, str | None]]:
        """Folder or hub id and revision of the model, and after it of all that replaces or is added to its weights."""
        parts = (self, *self.replaced.values(), *self.loras)
        return [(part.model, part.revision) for part in parts]

    @pydantic.model_validator(mode="after")
    def _noise_levels_are_one_for_each_step(self) -> GeneratorSpec:
        if self.sigmas is not None and self.timesteps is not None:
            raise ValueError("sigmas and timesteps are two ways to say one thing; give one of them")
        levels = self.sigmas or self.timesteps
        if levels is not None and len(levels) != self.steps:
            raise ValueError(f"{len(levels)} noise levels came with {self.steps} steps; give one for each step")
        return self

    @pydantic.model_validator(mode="after")
    def _guidance_has_its_prompt(self) -> GeneratorSpec:
        if self.true_cfg_scale > 1 and self.negative_prompt is None:
            raise ValueError(
                f"true_cfg_scale {self.true_cfg_scale:g} needs a negative_prompt (it may be empty); add one or leave "
                "true_cfg_scale at 1"
            )
        return self

    def image_settings(self) -> dict[str, Any]:
        """The settings that decide the images, as plain values: all but where the model runs.

        A setting at its default is left out, so that a setting added by a later version changes nothing in what an
        older version recorded.
        """
        return self.model_dump(mode="json", exclude={"device", "offload", "decode_batch"}, exclude_defaults=True)


class ModelPair(StrictModel):
    """A distilled model and its baseline, with images of one size."""

    name: str = pydantic.Field(min_length=1)
    distilled: GeneratorSpec
    baseline: GeneratorSpec

    @property
    def sides(self) -> dict[str, GeneratorSpec]:
        """Both specs by name, the distilled model's first."""
        return {"distilled": self.distilled, "baseline": self.baseline}

    def on(self, device: str) -> ModelPair:
        """The same pair with both models on ``device``."""
        return self._with({"device": device})

    def offloaded(self, offload: Offload | None) -> ModelPair:
        """The same pair with both models offloaded so; None leaves each as its spec says."""
        return self if offload is None else self._with({"offload": offload})

    def _with(self, change: dict[str, str]) -> ModelPair:
        return self.model_copy(update={name: spec.model_copy(update=change) for name, spec in self.sides.items()})

    @pydantic.model_validator(mode="after")
    def _same_size(self) -> ModelPair:
        distilled, baseline = self.distilled, self.baseline
        if (distilled.width_px, distilled.height_px) != (baseline.width_px, baseline.height_px):
            raise ValueError(
                f"distilled has the size {distilled.width_px}x{distilled.height_px} but baseline "
                f"{baseline.width_px}x{baseline.height_px}; give both the same width_px and height_px"
            )
        return self


@runtime_checkable
class Generator(Protocol):
    """Makes images. Image ``i`` depends on ``prompts[i]``, ``seeds[i]`` and the steps alone."""

    @property
    def spec(self) -> GeneratorSpec:
        """The settings it was made from."""
        ...

    def generate(self, prompts: Sequence[str], seeds: Sequence[int], *, steps: int | None = None) -> Tensor:
        """``(N, 3, H, W)`` float32 in [0, 1] on the CPU; ``steps`` defaults to the spec's."""
        ...


@runtime_checkable
class LatentGenerator(Generator, Protocol):
    """A generator that can stop before decoding: ``generate(...) == decode(generate_latents(...))``."""

    def generate_latents(self, prompts: Sequence[str], seeds: Sequence[int], *, steps: int | None = None) -> Tensor:
        """``(N, C, H/8, W/8)`` float32 on the CPU, unpacked and normalised, as the denoiser leaves them.

        C is 16 for FLUX.1 and Z-Image, 32 for FLUX.2, 4 for SDXL.
        """
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """``(N, 3, H, W)`` float32 in [0, 1] on the CPU, from what `generate_latents` gave."""
        ...


@runtime_checkable
class StagedGenerator(LatentGenerator, Protocol):
    """A generator whose networks can take turns on a device, so that many batches pass through one at a time."""

    def encode_texts(self, prompts: Sequence[str]) -> None:
        """Encode the texts of a batch now and remember them, until `forget_texts`, for all that generates from them."""
        ...

    def forget_texts(self) -> None:
        """Drop what `encode_texts` remembered."""
        ...

    def resident(self) -> AbstractContextManager[None]:
        """Within it the network that ran last stays on the device for the next call; at its end it leaves."""
        ...


@runtime_checkable
class Img2ImgGenerator(Generator, Protocol):
    """A generator that can start from an image and keeps more of it at a lower strength."""

    def img2img(
        self,
        images: Tensor,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        strength: float,
        steps: int | None = None,
    ) -> Tensor:
        """Image-to-image (SDEdit, arXiv 2108.01073): ``(N, 3, H, W)`` in [0, 1] to the same shape and range.

        Noise of share ``strength`` in (0, 1] is added, and the last ``steps * strength`` steps are run. Image ``i``
        depends on ``images[i]``, ``prompts[i]``, ``seeds[i]``, the strength and the steps alone.
        """
        ...


def check_request(prompts: Sequence[str], seeds: Sequence[int]) -> tuple[list[str], list[int]]:
    """Prompts and seeds as plain lists.

    Raises `UsageError` for a single text, no prompts, an empty or over-long prompt, a seed that is negative, too large
    or not an integer, or unequal counts.
    """
    if isinstance(prompts, str):
        raise UsageError("prompts must be a list of texts, not one text; put it in brackets: [prompt]")
    texts = list(prompts)
    if not texts:
        raise UsageError("there are no prompts; give at least one")
    if len(texts) != len(seeds):
        raise UsageError(f"{len(texts)} prompts came with {len(seeds)} seeds; give one seed for each prompt")
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise UsageError(f"prompt {position} is {type(text).__name__}; give texts")
        if not text.strip():
            raise UsageError(f"prompt {position} is empty; describe a picture")
        count = len(text.split())
        if count > MAX_WORDS:
            raise UsageError(f"prompt {position} has {count} words; at most {MAX_WORDS} are allowed, shorten it")
    return texts, [_seed(seed) for seed in seeds]


def check_steps(steps: int | None, spec: GeneratorSpec) -> int:
    """``steps``, or the spec's where it is None; raises `UsageError` outside 1 to `MAX_STEPS`."""
    if steps is None:
        return spec.steps
    if not 1 <= steps <= MAX_STEPS:
        raise UsageError(f"{steps} steps are not possible; use 1 to {MAX_STEPS} ({spec.name} uses {spec.steps})")
    if steps != spec.steps and (spec.sigmas or spec.timesteps):
        raise UsageError(f"{spec.name} has noise levels of its own for {spec.steps} steps, so {steps} are not possible")
    return steps


def check_strength(strength: float, steps: int) -> float:
    """``strength``, if it is in (0, 1] and leaves at least one of ``steps`` to run; raises `UsageError` otherwise."""
    if not 0 < strength <= 1:
        raise UsageError(f"strength {strength:g} is not possible; use more than 0 and at most 1")
    if steps * strength < 1:
        raise UsageError(
            f"strength {strength:g} of {steps} steps leaves no step to run; use {1 / steps:g} or more, or more steps"
        )
    return strength


def _seed(seed: int) -> int:
    try:
        value = operator.index(seed)  # numpy's integers are integers too; floats are not
    except TypeError:
        raise UsageError(f"seed {seed!r} is not an integer; use 0 to {MAX_SEED}") from None
    if not 0 <= value <= MAX_SEED:
        raise UsageError(f"seed {value} is out of range; use 0 to {MAX_SEED}")
    return value
