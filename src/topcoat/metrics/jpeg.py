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
from topcoat.metrics.embed import FeatureCache, FeatureNetLike, embed
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


def jpeg_robustness(
    distilled: Tensor,
    enhanced: Tensor,
    baseline: Tensor,
    net: FeatureNetLike,
    *,
    quality: int = QUALITY,
    embeddings: Sequence[Tensor] | None = None,
    cache: FeatureCache | None = None,
) -> tuple[float | None, float | None]:
    """The share of the distance to the baseline that a head removes, before and after JPEG; None without distance.

    ``1 - d(z, y) / d(x, y)`` with the Fréchet distance d; not the share of the gap closed, which knows the floor. From
    images ``(N, 3, H, W)`` of the same N >= 2 subjects, uint8 or floats in [0, 1]; all three sets are compressed.
    ``embeddings`` are those of the three sets, each ``(N, D)``, where they are known. ``cache`` (of this net) spares
    images that were embedded before, the compressed ones too.
    """
    if len({tuple(part.shape) for part in (distilled, enhanced, baseline)}) != 1 or len(distilled) < 2:
        raise UsageError("JPEG robustness needs 2 or more images of the same subjects from each of the three sets")
    sets = [part.float() / 255 if part.dtype == torch.uint8 else part for part in (distilled, enhanced, baseline)]
    before = _gain(embeddings or [embed(part, net, cache=cache).embedding for part in sets])
    compressed = [(jpeg_round_trip(batch, quality) for batch in part.split(32)) for part in sets]
    after = _gain([embed(part, net, cache=cache).embedding for part in compressed])
    return before, after


def _gain(features: Sequence[Tensor]) -> float | None:
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
        x, z, y = (context.pixels(arm)[:_JPEG_IMAGES] for arm in arms)
        known = [context.embeddings(arm).embedding[: len(x)] for arm in arms]
        gain, gain_after = jpeg_robustness(x, z, y, context.net, embeddings=known, cache=context.cache)
        if gain is None or gain_after is None:
            return []
        detail = f"quality {QUALITY}"
        after = self.score("enhanced", gain_after, len(x), "gain_after_jpeg", "gain after JPEG", detail=detail)
        return [self.score("enhanced", gain, len(x)), after]

    def flags(self, scores: Sequence[Score]) -> list[Flag]:
        before, after = score_of(scores, "gain"), score_of(scores, "gain_after_jpeg")
        if before is None or after is None or before.value <= SMALLEST_GAIN:
            return []
        if after.value >= JPEG_SHARE * before.value:
            return []
        change = f"the gain falls from {before.value * 100:.0f} % to {after.value * 100:.0f} %"
        return [Flag("lost in JPEG", f"{change} after JPEG of {after.detail}")]
