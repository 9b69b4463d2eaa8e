"""What training reports: a record of each step, and the scores of the averaged head."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ValidationRecord:
    """The averaged head on fixed validation pairs, and the distilled images themselves (no head) for comparison.

    All of it in the features of the net for losses, unless ``validation_features`` names one for the distances of sets:
    for following a run, never for evaluating a head.
    """

    images: int
    psnr_db: float | None = None
    """Mean over images, of the head's output against the baseline; None where those show other subjects."""
    perceptual: float | None = None
    """`perceptual_loss` of the head's output against the baseline; lower is closer. None as above."""
    no_head_psnr_db: float | None = None
    no_head_perceptual: float | None = None
    set_distance: float | None = None
    """`kernel_distance` of the embeddings of outputs and baseline images; None where the net has no embedding."""
    no_head_set_distance: float | None = None
    frechet: float | None = None
    """Fréchet distance of the same embeddings: what evaluation measures, in another net and on few images."""
    no_head_frechet: float | None = None

    @property
    def gap_closed(self) -> float | None:
        """Share of the distilled images' set distance that the head removes; None if unknown or not above 0."""
        if self.set_distance is None or self.no_head_set_distance is None or self.no_head_set_distance <= 0:
            return None
        return 1 - self.set_distance / self.no_head_set_distance

    @property
    def score(self) -> float:
        """What the best checkpoint has least of: set distance, or where there is none perceptual distance, or 0."""
        return (self.perceptual or 0.0) if self.set_distance is None else self.set_distance

    def figures(self, net: str = "loss_net") -> dict[str, float | None]:
        """The figures for a head's card, which say what net they are of; ``net`` made the distances of sets."""
        return {
            "validation_images": self.images,
            "psnr_db": self.psnr_db,
            "psnr_db_without_head": self.no_head_psnr_db,
            "perceptual_distance_(loss_net)": self.perceptual,
            "perceptual_distance_without_head_(loss_net)": self.no_head_perceptual,
            f"frechet_distance_({net})": self.frechet,
            f"frechet_distance_without_head_({net})": self.no_head_frechet,
            f"gap_closed_(kernel_distance,_{net})": self.gap_closed,
        }


@dataclass(frozen=True, slots=True)
class TrainRecord:
    """One step of training."""

    images_seen: int
    """By all stages of the run so far."""
    step: int
    """Of the stage."""
    loss: float
    """Weighted sum of ``parts`` without the discriminator's own loss; NaN if the step was skipped."""
    parts: Mapping[str, float]
    """Each loss by name, without its weight; empty if the step was skipped."""
    learning_rate: float
    images_per_second: float
    """Smoothed; time that the caller takes is not counted."""
    skipped_steps: int
    """So far in this stage, because a gradient was not finite or a spike."""
    validation: ValidationRecord | None = None
    stage: str = ""
    """Its name."""

    def as_dict(self) -> dict[str, Any]:
        """JSON values; a loss that is not finite becomes None."""
        data = asdict(self)
        data["loss"] = self.loss if math.isfinite(self.loss) else None
        return data
