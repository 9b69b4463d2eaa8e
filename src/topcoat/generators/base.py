"""What a generator is: the settings that name one, the protocol it follows and the checks every one makes."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import pydantic

from topcoat.config import StrictModel
from topcoat.errors import UsageError
from topcoat.prompts import MAX_WORDS

if TYPE_CHECKING:
    from torch import Tensor

MAX_SEED = 2**63 - 1
"""Largest seed: the largest integer that a dataset column holds."""

MAX_STEPS = 1000
"""Most denoising steps: the models know 1000 noise levels, so more would only repeat some."""


class Licence(StrictModel):
    """The terms of a model: what to call them, where to read them and what a user of this project must know."""

    name: str = pydantic.Field(min_length=1)
    url: str
    note: str = ""


class GeneratorSpec(StrictModel):
    """Everything that decides a generator's images, apart from prompt and seed.

    `transformer` is a folder or hub id whose ``transformer/`` (and ``scheduler/``, where it has one) replace those of
    `model`, so that two models can share text encoders and VAE. `device` and `offload` say where to run; they do not
    change what is painted.
    """

    name: str = pydantic.Field(min_length=1)
    model: str = pydantic.Field(min_length=1)
    revision: str | None = None
    transformer: str | None = None
    steps: int = pydantic.Field(ge=1, le=MAX_STEPS)
    guidance_scale: float = pydantic.Field(ge=0)
    max_sequence_length: int = pydantic.Field(ge=1, le=512)
    width_px: int = pydantic.Field(ge=16, le=8192)
    height_px: int = pydantic.Field(ge=16, le=8192)
    dtype: Literal["float32", "bfloat16", "float16"]
    device: str = "auto"
    offload: Literal["none", "model", "sequential"] = "none"
    licence: Licence


class ModelPair(StrictModel):
    """A distilled model and its baseline, painting the same size."""

    name: str = pydantic.Field(min_length=1)
    distilled: GeneratorSpec
    baseline: GeneratorSpec

    @pydantic.model_validator(mode="after")
    def _same_size(self) -> ModelPair:
        distilled, baseline = self.distilled, self.baseline
        if (distilled.width_px, distilled.height_px) != (baseline.width_px, baseline.height_px):
            raise ValueError(
                f"distilled paints {distilled.width_px}x{distilled.height_px} but baseline "
                f"{baseline.width_px}x{baseline.height_px}; give both the same width_px and height_px"
            )
        return self


@runtime_checkable
class Generator(Protocol):
    """Paints images. Image ``i`` depends on ``prompts[i]``, ``seeds[i]`` and the steps alone."""

    @property
    def spec(self) -> GeneratorSpec:
        """The settings it was made from."""
        ...

    def generate(self, prompts: Sequence[str], seeds: Sequence[int], *, steps: int | None = None) -> Tensor:
        """``(N, 3, H, W)`` float32 in [0, 1] on the CPU; ``steps`` defaults to the spec's."""
        ...

    def latents(self, prompts: Sequence[str], seeds: Sequence[int], *, steps: int | None = None) -> Tensor:
        """``(N, C, h, w)`` float32 on the CPU: the denoised latents, before decoding (C is 16 for FLUX.1)."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """``(N, 3, H, W)`` float32 in [0, 1] on the CPU, from what `latents` gave."""
        ...


def check_request(prompts: Sequence[str], seeds: Sequence[int]) -> tuple[list[str], list[int]]:
    """Prompts and seeds as plain lists, if they can be painted.

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
            raise UsageError(f"prompt {position} is empty; say what to paint")
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
    return steps


def _seed(seed: int) -> int:
    try:
        value = operator.index(seed)  # numpy's integers are integers too; floats are not
    except TypeError:
        raise UsageError(f"seed {seed!r} is not an integer; use 0 to {MAX_SEED}") from None
    if not 0 <= value <= MAX_SEED:
        raise UsageError(f"seed {value} is out of range; use 0 to {MAX_SEED}")
    return value
