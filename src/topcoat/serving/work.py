"""What the models are asked for and what they give: the records between the engine and the models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from topcoat.errors import UsageError
from topcoat.pictures.formats import Format

if TYPE_CHECKING:
    from topcoat.gates import GateDecision
    from topcoat.generators.base import ModelPair

Side = Literal["distilled", "baseline"]


@dataclass(frozen=True, slots=True)
class Gating:
    """The gates of `topcoat.gates` that a request asks for."""

    identity_floor: float | Literal["calibrated"] | None = None
    never_worse: bool = False

    def __bool__(self) -> bool:
        return self.never_worse or self.identity_floor is not None


@dataclass(frozen=True, slots=True)
class GenerateSettings:
    """How images are made of prompts; images with equal settings may be made in one batch. None: the model's own."""

    side: Side = "distilled"
    head: str | None = None
    """Name of a served head; None leaves the model's images."""
    strength: float = 1.0
    steps: int | None = None
    size_px: tuple[int, int] | None = None
    """Width and height."""
    guidance_scale: float | None = None
    negative_prompt: str | None = None
    gating: Gating = Gating()
    with_distilled: bool = False
    """Whether the images before the head are wanted too."""


@dataclass(frozen=True, slots=True)
class EnhanceSettings:
    """How pictures are enhanced."""

    head: str
    strength: float = 1.0
    gating: Gating = Gating()


@dataclass(frozen=True, slots=True)
class Subject:
    """One image to generate."""

    prompt: str
    seed: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One image as it leaves the models."""

    image: np.ndarray
    """``(H, W, 3)``, sRGB: uint8, or float32 in [0, 1] where the input was that."""
    distilled: np.ndarray | None
    """Before the head, where that was asked for."""
    decision: GateDecision | None
    batch_images: int
    """How many images were made together."""
    generator_seconds: float
    """Of the whole batch, like those of the head."""
    head_seconds: float

    def used_strength(self, asked: float) -> float:
        """Of the ``asked`` one: gates may have lowered it."""
        return asked if self.decision is None else self.decision.strength


@dataclass(frozen=True, slots=True)
class Cost:
    """Computed TFLOP of one image, and of one of the baseline at its own steps."""

    tflop: float
    baseline_tflop: float
    saving: float
    """Share of the baseline's TFLOP that is saved; negative where more are spent."""
    sentence: str
    """The saving with both step counts, the size and what is counted."""


@dataclass(frozen=True, slots=True)
class HeadFacts:
    """A served head."""

    name: str
    digest: str
    kind: str
    licence: str
    has_strength: bool
    generates: bool
    """Whether it stands behind the distilled model."""
    edits: bool
    """Whether it enhances pictures that are sent."""
    gates: Mapping[str, Any] | None
    """Its calibrated gates."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What a server has: names that a request may use, and how they are described."""

    pair: ModelPair | None
    heads: tuple[HeadFacts, ...]
    """The first is the default."""
    sizes_px: tuple[tuple[int, int], ...]
    """Width and height of images that can be generated, the pair's own first."""
    baseline: bool
    runtime: str
    """What runs heads on uploads, for a person."""

    def head(self, name: str | None, *, to: Literal["generate", "edit"]) -> HeadFacts | None:
        """The head of that name, the first that can do it where none is named, None for ``none``.

        Raises `UsageError` for another name, and for a head that cannot do it.
        """
        able = {each.name: each for each in self.heads if (each.generates if to == "generate" else each.edits)}
        if name is None:
            return next(iter(able.values()), None)
        if name == "none":
            return None
        if name not in able:
            known = ", ".join([*able, "none"] if to == "generate" else able) or "there is none"
            raise UsageError(f"no head {name[:60]!r} is served to {to}; use one of: {known}")
        return able[name]


@dataclass(frozen=True, slots=True)
class Made:
    """One finished picture file."""

    content: bytes
    format: Format
    size_px: tuple[int, int]
    """Width and height."""
    seed: int | None
    """None for an enhanced upload."""
    strength: float
    """As used: gates may have lowered it."""
    decision: GateDecision | None
    distilled: bytes | None
    """The picture before the head, as a file of the same format, where that was asked for."""
    notes: tuple[str, ...]
    """What the file does not have of the upload, each the end of the sentence "in the result ..."."""


@dataclass(frozen=True, slots=True)
class Seconds:
    """Where the time of a request went; the models' times are those of the slowest batch that it was in."""

    queued: float
    generator: float
    head: float
    total: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request comes back with."""

    images: tuple[Made, ...]
    head: HeadFacts | None
    settings: GenerateSettings | EnhanceSettings
    steps: int | None
    """Of the generator."""
    batch_images: int
    """The largest batch that its images were in."""
    seconds: Seconds
    cost: Cost | None
    """None for uploads, and where the sizes of a model's networks are not known."""
