"""Identity: is the person in two images the same? Cosine of L2-normalised identity vectors, per image.

What a cosine means depends on the feature net, so a figure is always shown beside two distributions of the same net:
distilled and baseline at the same seed (the same subject, by construction), and of different subjects.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from topcoat.errors import UsageError


@dataclass(frozen=True, slots=True)
class Identity:
    """Cosines of enhanced and distilled images: how well a head keeps the person."""

    mean: float
    p05: float


@dataclass(frozen=True, slots=True)
class IdentityPairs:
    """Cosines of distilled and baseline: the same subject (one seed) against different subjects."""

    same_mean: float
    same_p05: float
    different_mean: float
    different_p95: float


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """``(N,)`` float64 cosines in [-1, 1] of the rows of two ``(N, D)`` tensors of identity vectors."""
    if a.shape != b.shape or a.ndim != 2:
        raise UsageError(f"identity vectors must have one shape (N, D), not {tuple(a.shape)} and {tuple(b.shape)}")
    if len(a) == 0:
        raise UsageError("identity needs 1 or more images on each side; none were given")
    a, b = (functional.normalize(part.detach().to("cpu", torch.float64), dim=1) for part in (a, b))
    return (a * b).sum(dim=1).clamp(-1, 1)


def identity(distilled: Tensor, enhanced: Tensor) -> Identity:
    """Identity kept by a head, from the ``(N, D)`` identity vectors of its inputs and outputs."""
    values = cosine(distilled, enhanced)
    return Identity(mean=float(values.mean()), p05=float(values.quantile(0.05)))


def different_subjects(distilled: Tensor, baseline: Tensor) -> Tensor:
    """``(N,)`` cosines of subject i (distilled) with subject i + 1 (baseline), the last with the first."""
    if len(baseline) < 2:
        raise UsageError(f"different subjects can only be compared among 2 or more, not {len(baseline)}")
    return cosine(distilled, baseline.roll(-1, dims=0))


def identity_pairs(distilled: Tensor, baseline: Tensor) -> IdentityPairs:
    """Both distributions, from the ``(N, D)`` identity vectors of distilled and baseline, N >= 2."""
    same, different = cosine(distilled, baseline), different_subjects(distilled, baseline)
    return IdentityPairs(
        same_mean=float(same.mean()),
        same_p05=float(same.quantile(0.05)),
        different_mean=float(different.mean()),
        different_p95=float(different.quantile(0.95)),
    )
