"""Fréchet distance between two sets of features, each summed up as one Gaussian.

``d(a, b) = |mean_a - mean_b|^2 + trace(S_a + S_b - 2 (S_a^1/2 S_b S_a^1/2)^1/2)`` (Heusel et al. 2017,
arXiv 1706.08500): the *squared* 2-Wasserstein distance of the two Gaussians, as FID reports it. The matrix root is
taken by symmetric eigendecomposition, which stays real where a general matrix square root drifts into complex numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from topcoat.errors import DataError, UsageError
from topcoat.metrics.base import SetMetric, feature_sets
from topcoat.metrics.context import Context

_SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_DRAWS = 4


@dataclass(frozen=True, slots=True)
class GaussianStatistics:
    """Mean ``(D,)`` and unbiased covariance ``(D, D)`` of a set of features, float64."""

    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, features: Tensor) -> GaussianStatistics:
        """Statistics of ``(N, D)`` features, N >= 2; raises `UsageError` for others, `DataError` if not finite."""
        if features.ndim != 2:
            raise UsageError(f"features must have shape (N, D), not {tuple(features.shape)}")
        n = len(features)
        if n < 2:
            raise UsageError(f"a Fréchet distance needs 2 or more images on each side, not {n}; add images")
        if not torch.isfinite(features).all():
            raise DataError("features hold NaN or infinity, so there is no distance; check the images they come from")
        rows = features.detach().to("cpu", torch.float64)
        mean = rows.mean(dim=0)
        centred = rows - mean
        return cls(mean, centred.T @ centred / (n - 1))


def frechet_distance(a: GaussianStatistics, b: GaussianStatistics) -> float:
    """The Fréchet distance (squared, never negative) of two sets; 0 if their means and covariances are equal."""
    if a.mean.shape != b.mean.shape:
        raise UsageError(f"features of {len(a.mean)} and {len(b.mean)} dimensions cannot be compared; use one net")
    with one_thread():
        return float(gaussian_distance(a.mean, covariance_root(a.covariance), b.mean, b.covariance))


@dataclass(frozen=True, slots=True)
class FrechetInfinity:
    """A Fréchet distance extrapolated to endlessly many images, and what it was extrapolated from."""

    value: float
    """The intercept; it may fall slightly below 0 for sets that are alike."""
    sizes: tuple[int, ...]
    distances: tuple[float, ...]
    """Mean distance at each number of images."""


def frechet_infinity(a: Tensor, b: Tensor, *, seed: int = 0) -> FrechetInfinity:
    """FD-infinity (Chong and Forsyth 2020, arXiv 1911.07023, section 3) of features ``(N, D)`` and ``(M, D)``.

    The distance at n images is biased by a term in 1/n, so it is taken at 8 sizes from 30 to 100 % of the smaller set,
    4 times each on images drawn without repeats, and a line in 1/n is carried on to 0. Sets of one length are drawn
    with the same rows, because they are of the same subjects. Seeded; raises `UsageError` for fewer than 10 images.
    """
    a, b = feature_sets(a, b)
    most = min(len(a), len(b))
    if most < 10:
        raise UsageError(f"FD-infinity needs 10 or more images on each side, not {len(a)} and {len(b)}; add images")
    chosen = sorted({round(share * most) for share in _SHARES})
    generator = torch.Generator().manual_seed(seed)
    means: list[float] = []
    for size in chosen:
        distances: list[float] = []
        for _ in range(1 if size == len(a) == len(b) else _DRAWS):
            rows_a = torch.randperm(len(a), generator=generator)[:size]
            rows_b = rows_a if len(a) == len(b) else torch.randperm(len(b), generator=generator)[:size]
            distances.append(frechet_distance(GaussianStatistics.of(a[rows_a]), GaussianStatistics.of(b[rows_b])))
        means.append(sum(distances) / len(distances))
    inverse = torch.tensor([1 / size for size in chosen], dtype=torch.float64)
    design = torch.stack([torch.ones_like(inverse), inverse], dim=1)
    line = torch.linalg.lstsq(design, torch.tensor(means, dtype=torch.float64).unsqueeze(1)).solution
    return FrechetInfinity(float(line[0]), tuple(chosen), tuple(means))


@contextmanager
def one_thread() -> Iterator[None]:
    """Do small linear algebra on one thread: threads that wait for each other may cost 100 times more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def covariance_root(covariance: Tensor) -> Tensor:
    """Symmetric square root of ``(..., D, D)`` covariances; rounding below zero is cut."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp_min(0).sqrt().unsqueeze(-2)) @ vectors.mT


def gaussian_distance(mean_a: Tensor, root_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> Tensor:
    """Fréchet distances of batches of Gaussians: means ``(..., D)``, matrices ``(..., D, D)``, result ``(...)``.

    The first Gaussian is given by the root of its covariance, because a bootstrap compares one set with many.
    """
    product = root_a @ covariance_b @ root_a
    product = (product + product.mT) / 2
    cross = torch.linalg.eigvalsh(product).clamp_min(0).sqrt().sum(dim=-1)
    traces = root_a.square().sum(dim=(-2, -1)) + covariance_b.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
    return ((mean_a - mean_b).square().sum(dim=-1) + traces - 2 * cross).clamp_min(0)


class FrechetInfinityMetric(SetMetric):
    """FD-infinity of every arm; the distances that it is extrapolated from are in the settings."""

    name, family, label, better = "frechet_infinity", "distances", "FD-infinity", "low"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._results: list[FrechetInfinity] = []

    def measure(self, images: Tensor, reference: Tensor) -> float:
        self._results.append(frechet_infinity(images, reference, seed=self.context.seed))
        return self._results[-1].value

    def settings(self) -> Mapping[str, Any]:
        by_arm = zip(self.context.arms, self._results, strict=False)
        return {self.name: {arm: {"sizes": list(one.sizes), "distances": list(one.distances)} for arm, one in by_arm}}
