"""Does the gain survive JPEG? A head that hides its signal in faint high frequencies loses it there.

CycleGAN-like heads learn to do that (Chu et al. 2017, arXiv 1712.02950), and the web re-compresses everything.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.images import check_images, from_pil, to_pil
from topcoat.metrics.base import Flag, Metric, Score, score_of
from topcoat.metrics.embed import embed
from topcoat.metrics.frechet import GaussianStatistics, frechet_distance

QUALITY = 90
JPEG_SHARE = 0.5
"""Less of the gain after JPEG is flagged, where the gain is above `SMALLEST_GAIN`."""
SMALLEST_GAIN = 0.05
_JPEG_IMAGES = 500


def jpeg_round_trip(images: Tensor, quality: int = QUALITY) -> Tensor:
    """Images ``(N, 3, H, W)`` in [0, 1] as they come back from JPEG files of this quality (colour at half size)."""
    if not 1 <= quality <= 100:
        raise UsageError(f"JPEG quality {quality} is not possible; use 1 to 100")
    decoded: list[Tensor] = []
    for image in check_images(images):
        buffer = io.BytesIO()
        to_pil(image).save(buffer, "JPEG", quality=quality)
        with Image.open(buffer) as picture:
            decoded.append(from_pil(picture))
    return torch.stack(decoded)


def gain(features: Sequence[Tensor]) -> float | None:
    """The share of the distance to the baseline that a head removes, ``1 - d(z, y) / d(x, y)``; None without distance.

    d is the Fréchet distance; ``features`` ``(N, D)`` are those of distilled, enhanced and baseline images x, z, y. Not
    the share of the gap closed, which knows the floor.
    """
    x, z, y = (GaussianStatistics.of(part) for part in features)
    before = frechet_distance(x, y)
    return 1 - frechet_distance(z, y) / before if before > 1e-12 else None


class JpegMetric(Metric):
    """The gain of the head before and after JPEG, on the first images."""

    name, family, label, better = "gain", "artefacts", "gain", "high"
    unit = "share"
    needs = frozenset({"distilled", "pairs"})
    in_features = keeps_pixels = True

    def compute(self) -> list[Score]:
        context, arms = self.context, ("distilled", "enhanced", "reference")
        pixels = [context.pixels(arm)[:_JPEG_IMAGES] for arm in arms]
        n = len(pixels[0])
        before = gain([context.embeddings(arm).embedding[:n] for arm in arms])
        compressed = [(jpeg_round_trip(batch / 255) for batch in part.split(32)) for part in pixels]
        after = gain([embed(part, context.net, cache=context.cache).embedding for part in compressed])
        if before is None or after is None:
            return []
        label, detail = "gain after JPEG", f"quality {QUALITY}"
        return [
            self.score("enhanced", before, n),
            self.score("enhanced", after, n, "gain_after_jpeg", label, detail=detail),
        ]

    def flags(self, scores: Sequence[Score]) -> list[Flag]:
        before, after = score_of(scores, "gain"), score_of(scores, "gain_after_jpeg")
        if before is None or after is None or before.value <= SMALLEST_GAIN:
            return []
        if after.value >= JPEG_SHARE * before.value:
            return []
        change = f"the gain falls from {before.value * 100:.0f} % to {after.value * 100:.0f} %"
        return [Flag("lost in JPEG", f"{change} after JPEG of {after.detail}")]
