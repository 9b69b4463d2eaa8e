"""What training reports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ValidationRecord:
    """The averaged head on fixed validation pairs, with the do-nothing score (the distilled images) beside it.

    All of it in the features of the net for losses: for following a run, never for judging a head.
    """

    images: int
    psnr_db: float
    """Mean over images, of the head's output against the baseline."""
    perceptual: float
    """`perceptual_loss` of the head's output against the baseline; lower is closer."""
    do_nothing_psnr_db: float
    do_nothing_perceptual: float
    set_distance: float | None = None
    """`kernel_distance` of the embeddings of outputs and baseline images; None where the net has no embedding."""
    do_nothing_set_distance: float | None = None
    frechet: float | None = None
    """Fréchet distance of the same embeddings: what evaluation measures, in another net and on few images."""
    do_nothing_frechet: float | None = None

    @property
    def gap_closed(self) -> float | None:
        """Share of the do-nothing set distance that the head removes; None where it is not known or not above 0."""
        if self.set_distance is None or self.do_nothing_set_distance is None or self.do_nothing_set_distance <= 0:
            return None
        return 1 - self.set_distance / self.do_nothing_set_distance

    @property
    def score(self) -> float:
        """What the best checkpoint has least of: set distance, or where there is none perceptual distance."""
        return self.perceptual if self.set_distance is None else self.set_distance


@dataclass(frozen=True, slots=True)
class TrainRecord:
    """One step of training."""

    images_seen: int
    step: int
    loss: float
    """Weighted sum of ``parts`` without the discriminator's own loss; NaN if the step was skipped."""
    parts: Mapping[str, float]
    """Each loss by name, without its weight; empty if the step was skipped."""
    learning_rate: float
    images_per_second: float
    """Smoothed; time that the caller takes is not counted."""
    skipped_steps: int
    """So far in this run, because a gradient was not finite or exploded."""
    validation: ValidationRecord | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON values; a loss that is not finite becomes None."""
        data = asdict(self)
        data["loss"] = self.loss if math.isfinite(self.loss) else None
        return data
