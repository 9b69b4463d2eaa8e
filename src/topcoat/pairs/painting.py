"""What is painted of every prompt: how the two images are paired, at which step counts, with or without latents."""

from __future__ import annotations

from typing import Any, Literal

import pydantic

from topcoat.config import StrictModel
from topcoat.errors import UsageError
from topcoat.generators.base import MAX_STEPS, GeneratorSpec
from topcoat.pairs.records import BASELINE_LATENTS, distilled_column, latents_column

Pairing = Literal["same-seed", "rerender"]
"""``same-seed``: both models paint the prompt from the same noise. ``rerender``: the baseline re-renders the distilled
image by image-to-image."""


class Painting(StrictModel):
    """What is painted of every prompt. It is part of a dataset's identity: one folder holds one kind.

    The paper (arXiv 2505.02255) says that both images of a pair show the same subject and not how that was done;
    `pairing` offers the two ways there are. `strength` in (0, 1] belongs to ``rerender`` alone: how much of the
    distilled image is noised away before the baseline paints on. `distilled_steps` are step counts that the distilled
    model paints beside its spec's own, each into a column of its own. `latents` keeps the distilled latents as float16,
    `baseline_latents` those of the baseline: what a VAE makes of an 8-bit image again is near them and not the same.
    """

    pairing: Pairing = "same-seed"
    strength: float | None = pydantic.Field(default=None, gt=0, le=1)
    distilled_steps: tuple[int, ...] = ()
    latents: bool = False
    baseline_latents: bool = False

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Painting:
        if self.pairing == "rerender" and self.strength is None:
            raise ValueError("pairing rerender needs a strength above 0 and at most 1; 0.5 is a start")
        if self.pairing == "same-seed" and self.strength is not None:
            raise ValueError("a strength belongs to the pairing rerender; leave it out, or choose that pairing")
        if self.pairing == "rerender" and self.baseline_latents:
            raise ValueError("baseline_latents belongs to the pairing same-seed; leave it out, or choose that pairing")
        for steps in self.distilled_steps:
            if not 1 <= steps <= MAX_STEPS:
                raise ValueError(f"{steps} distilled steps are not possible; use 1 to {MAX_STEPS}")
        return self

    def extra_steps(self, distilled: GeneratorSpec) -> tuple[int, ...]:
        """The step counts beside the spec's own, ascending, each once."""
        return tuple(sorted(set(self.distilled_steps) - {distilled.steps}))

    def image_columns(self, distilled: GeneratorSpec) -> tuple[str, ...]:
        """The image columns of a shard: ``distilled``, one for each further step count, ``baseline``."""
        extra = self.extra_steps(distilled)
        return (distilled_column(None), *(distilled_column(steps) for steps in extra), "baseline")

    def latents_columns(self, distilled: GeneratorSpec) -> tuple[str, ...]:
        """The latents columns of a shard: one for each distilled step count, that of the baseline; each if kept."""
        extra = self.extra_steps(distilled)
        ours = (latents_column(None), *(latents_column(steps) for steps in extra)) if self.latents else ()
        return (*ours, BASELINE_LATENTS) if self.baseline_latents else ours

    def identity(self, distilled: GeneratorSpec) -> dict[str, Any]:
        """What of it decides the rows of a dataset, in plain JSON values."""
        return {
            "pairing": self.pairing,
            "strength": self.strength,
            "distilled_steps": list(self.extra_steps(distilled)),
            "latents": self.latents,
            "baseline_latents": self.baseline_latents,
        }


def painting_of(identity: dict[str, Any]) -> Painting:
    """The painting that a manifest's identity tells of; a folder of before these settings is ``same-seed``."""
    return Painting(
        pairing=identity.get("pairing", "same-seed"),
        strength=identity.get("strength"),
        distilled_steps=tuple(identity.get("distilled_steps", ())),
        latents=identity.get("latents", False),
        baseline_latents=identity.get("baseline_latents", False),
    )


def parse_steps(text: str) -> tuple[int, ...]:
    """Step counts from ``1,2,4``; raises `UsageError` for anything else."""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UsageError(f"step counts {text!r} are no numbers; give them as in 1,2,4") from None
