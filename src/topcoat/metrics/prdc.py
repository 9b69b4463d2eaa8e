"""Fidelity and diversity apart: is an image like some real one, and is every real one met by some image?

Precision falls for images unlike any of the reference's; recall and coverage fall where part of its variety is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.metrics.base import Flag, Score, SetMetric, feature_sets, score_of

PRECISION_NEIGHBOURS = 3
"""k of precision and recall (Kynkäänniemi et al. 2019, section 2.2)."""
DENSITY_NEIGHBOURS = 5
"""k of density and coverage (Naeem et al. 2020, section 5)."""
DIVERSITY_SHARE = 0.5
"""Recall or coverage below this share of the distilled images' is flagged as mode collapse."""


def precision_recall(
    images: Tensor, reference: Tensor, *, k: int = PRECISION_NEIGHBOURS, chunk: int = 512
) -> dict[str, float]:
    """Improved precision and recall (arXiv 1904.06991, eq. 1 to 3) of features ``(N, D)`` and ``(M, D)``, N, M > k.

    Shares in [0, 1]: of images inside the reference's manifold, and of the reference inside the images'. Float64, on
    blocks of ``chunk`` rows: memory is ``chunk * max(N, M)``. Compare only at equal N and M.
    """
    images, reference = _checked(images, reference, k, "precision and recall")
    radii, reference_radii = _radii(images, k, chunk), _radii(reference, k, chunk)
    return {
        "precision": _inside(images, reference, reference_radii, chunk),
        "recall": _inside(reference, images, radii, chunk),
    }


def density_coverage(
    images: Tensor, reference: Tensor, *, k: int = DENSITY_NEIGHBOURS, chunk: int = 512
) -> dict[str, float]:
    """Density and coverage (arXiv 2002.09797, eq. 4 and 5) of features ``(N, D)`` and ``(M, D)``, N, M > k.

    Density is 0 or more, with 1 as the expected value of equal sets; coverage is a share in [0, 1]. Only the
    reference's balls are used, so one odd image cannot inflate either as it can recall.
    """
    images, reference = _checked(images, reference, k, "density and coverage")
    radii = _radii(reference, k, chunk)
    hits, nearest = 0, torch.full((len(reference),), torch.inf, dtype=torch.float64)
    for rows in images.split(chunk):
        distances = _distances(rows, reference)  # (B, M)
        hits += int((distances < radii).sum())
        nearest = torch.minimum(nearest, distances.amin(dim=0))
    return {"density": hits / (k * len(images)), "coverage": float((nearest < radii).double().mean())}


def _checked(images: Tensor, reference: Tensor, k: int, what: str) -> tuple[Tensor, Tensor]:
    images, reference = feature_sets(images, reference)
    if k < 1:
        raise UsageError(f"{what} with {k} neighbours are not possible; use 1 or more")
    if min(len(images), len(reference)) <= k:
        counts = f"{len(images)} and {len(reference)}"
        raise UsageError(f"{what} with {k} neighbours need {k + 1} or more images on each side, not {counts}")
    return images, reference


def _distances(a: Tensor, b: Tensor) -> Tensor:
    # Not by the matrix product: its rounding would put a point outside a ball whose edge it is.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _radii(features: Tensor, k: int, chunk: int) -> Tensor:
    """Distance of each point to its k-th nearest neighbour; the point itself is the one at distance 0."""
    return torch.cat([_distances(rows, features).kthvalue(k + 1, dim=1).values for rows in features.split(chunk)])


def _inside(points: Tensor, centres: Tensor, radii: Tensor, chunk: int) -> float:
    parts = [(_distances(rows, centres) <= radii).any(dim=1) for rows in points.split(chunk)]
    return float(torch.cat(parts).double().mean())


class _DiversityMetric(SetMetric):
    """Flags mode collapse by one of its scores, ``watched``."""

    family, better = "diversity", "high"
    watched: ClassVar[str]

    def flags(self, scores: Sequence[Score]) -> list[Flag]:
        before, after = score_of(scores, self.watched, "distilled"), score_of(scores, self.watched)
        if before is None or after is None or before.value <= 0.1 or after.value >= DIVERSITY_SHARE * before.value:
            return []
        sentence = f"{self.watched} of the baseline's variety falls from {before.value:.2f} to {after.value:.2f}"
        return [Flag("mode collapse", sentence)]


class PrecisionRecallMetric(_DiversityMetric):
    """Precision and recall of every arm."""

    name, watched = "precision_recall", "recall"

    def measure(self, images: Tensor, reference: Tensor) -> Mapping[str, float]:
        return precision_recall(images, reference)


class DensityCoverageMetric(_DiversityMetric):
    """Density and coverage of every arm."""

    name, watched = "density_coverage", "coverage"

    def measure(self, images: Tensor, reference: Tensor) -> Mapping[str, float]:
        return density_coverage(images, reference)
