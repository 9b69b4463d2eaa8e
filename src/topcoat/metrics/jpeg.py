"""Does the gain survive JPEG? A head that hides its signal in faint high frequencies loses it there.

CycleGAN-like heads learn to do that (Chu et al. 2017, arXiv 1712.02950), and the web re-compresses everything.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.images import check_images, from_pil, to_pil
from topcoat.metrics.cache import FeatureCache
from topcoat.metrics.embed import FeatureNetLike, embed
from topcoat.metrics.frechet import GaussianStatistics, frechet_distance

QUALITY = 90


@dataclass(frozen=True, slots=True)
class JpegRobustness:
    """The share of the distance to the baseline that a head removes, before and after JPEG; None without distance."""

    n: int
    quality: int
    gain: float | None
    """``1 - d(z, y) / d(x, y)`` with the Fréchet distance d; not the share of the gap closed, which knows the floor."""
    gain_after: float | None
    """The same with x, z and y compressed."""


def jpeg_round_trip(images: Tensor, quality: int = QUALITY) -> Tensor:
    """Images ``(N, 3, H, W)`` in [0, 1] as they come back from JPEG files of this quality (colour at half size)."""
    if not 1 <= quality <= 100:
        raise UsageError(f"JPEG quality {quality} is not possible; use 1 to 100")
    found: list[Tensor] = []
    for image in check_images(images):
        buffer = io.BytesIO()
        to_pil(image).save(buffer, "JPEG", quality=quality)
        with Image.open(buffer) as picture:
            found.append(from_pil(picture))
    return torch.stack(found)


def jpeg_robustness(
    distilled: Tensor,
    enhanced: Tensor,
    baseline: Tensor,
    net: FeatureNetLike,
    *,
    quality: int = QUALITY,
    seen: Sequence[Tensor] | None = None,
    cache: FeatureCache | None = None,
) -> JpegRobustness:
    """Both gains, from images ``(N, 3, H, W)`` of the same N >= 2 subjects, uint8 or floats in [0, 1].

    ``seen`` are the three sets' embeddings ``(N, D)``, where they are known. ``cache`` (of this net) spares images that
    were seen before, the compressed ones too.
    """
    if len({tuple(part.shape) for part in (distilled, enhanced, baseline)}) != 1 or len(distilled) < 2:
        raise UsageError("JPEG robustness needs 2 or more images of the same subjects from each of the three sets")
    sets = [part.float() / 255 if part.dtype == torch.uint8 else part for part in (distilled, enhanced, baseline)]
    before = _gain(seen or [embed(part, net, cache=cache).embedding for part in sets])
    squeezed = [(jpeg_round_trip(batch, quality) for batch in part.split(32)) for part in sets]
    after = _gain([embed(part, net, cache=cache).embedding for part in squeezed])
    return JpegRobustness(len(distilled), quality, before, after)


def _gain(features: Sequence[Tensor]) -> float | None:
    x, z, y = (GaussianStatistics.of(part) for part in features)
    nothing = frechet_distance(x, y)
    return 1 - frechet_distance(z, y) / nothing if nothing > 1e-12 else None
