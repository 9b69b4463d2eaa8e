"""What training reports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ValidationRecord:
    """The averaged head on fixed validation pairs, with the do-nothing score (the distilled images) beside it."""

    images: int
    psnr_db: float
    """Mean over images, of the head's output against the baseline."""
    perceptual: float
    """`perceptual_loss` of the head's output against the baseline; lower is closer."""
    do_nothing_psnr_db: float
    do_nothing_perceptual: float


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
    """So far in this run, because something was not finite."""
    validation: ValidationRecord | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON values; a loss that is not finite becomes None."""
        data = asdict(self)
        data["loss"] = self.loss if math.isfinite(self.loss) else None
        return data
