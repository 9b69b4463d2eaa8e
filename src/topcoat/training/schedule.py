"""How the learning rate and the adversary's say go with the images seen."""

from __future__ import annotations

import math
from typing import Literal

ScheduleKind = Literal["cosine", "constant-linear"]


def learning_rate_factor(
    images_seen: int, warmup_images: int, total_images: int, kind: ScheduleKind = "cosine"
) -> float:
    """Linear rise from 0 to 1 over the warm-up, then a fall to 0 at ``total_images``.

    ``cosine`` is half a cosine (arXiv 1608.03983, eq. 5); ``constant-linear`` stays at 1 for half of the run and then
    falls along a line (CycleGAN, arXiv 1703.10593). ``images_seen`` is the count at the end of the step, so that no
    step has a rate of 0 but the last.
    """
    if images_seen < warmup_images:
        return images_seen / warmup_images
    span = max(1, total_images - warmup_images)
    progress = min(1.0, (images_seen - warmup_images) / span)
    if kind == "constant-linear":
        return min(1.0, 2 * (1 - progress))
    return 0.5 * (1 + math.cos(math.pi * progress))


def adversarial_factor(images_seen: int, after_images: int, warmup_images: int) -> float:
    """0 up to ``after_images``, then a linear rise to 1 over the next ``warmup_images``."""
    if images_seen <= after_images:
        return 0.0
    if warmup_images == 0:
        return 1.0
    return min(1.0, (images_seen - after_images) / warmup_images)
