"""Kernel distances: squared maximum mean discrepancies (MMD) of two sets of features.

Unlike the Fréchet distance their expectation does not depend on the number of images, so they are the second opinion
for small sets; being unbiased, they can be slightly negative where two sets are alike.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from topcoat.errors import UsageError
from topcoat.metrics.base import SetMetric, feature_sets

CMMD_SIGMA = 10.0
CMMD_SCALE = 1000.0
"""Both as in section 4 of the paper: a wide kernel, and a factor that only makes the figures readable."""

Kernel = Callable[[Tensor, Tensor], Tensor]
"""From ``(B, D)`` and ``(M, D)`` features to the ``(B, M)`` kernel values."""


def kernel_distance(a: Tensor, b: Tensor, *, chunk: int = 1024) -> float:
    """Unbiased KID of features ``(N, D)`` and ``(M, D)``, N and M >= 2, kernel ``(u.v / D + 1)^3``.

    Bińkowski et al. 2018 (arXiv 1801.01401), eq. 4. Works in float64 on blocks of ``chunk`` rows, so memory is
    ``chunk * max(N, M)`` whatever N and M are.
    """
    a, b = feature_sets(a, b)
    return _discrepancy(a, b, lambda u, v: (u @ v.T / u.shape[1] + 1).pow(3), chunk)


def cmmd(a: Tensor, b: Tensor, *, chunk: int = 1024) -> float:
    """1,000 times the squared MMD of features ``(N, D)`` and ``(M, D)``, N and M >= 2, with a Gaussian kernel.

    Jayasumana et al. 2024 (arXiv 2401.09603), eq. 4, unbiased: features are scaled to unit length, the kernel is
    ``exp(-|u - v|^2 / (2 sigma^2))`` with sigma 10. It is CMMD proper where the features are CLIP's; with others it is
    the same distance in another space. Memory as in `kernel_distance`.
    """

    def gaussian(u: Tensor, v: Tensor) -> Tensor:
        squares = u.square().sum(dim=1, keepdim=True) + v.square().sum(dim=1) - 2 * u @ v.T
        return torch.exp(-squares.clamp_min(0) / (2 * CMMD_SIGMA**2))

    a, b = (functional.normalize(part, dim=1) for part in feature_sets(a, b))
    return CMMD_SCALE * _discrepancy(a, b, gaussian, chunk)


def _discrepancy(a: Tensor, b: Tensor, kernel: Kernel, chunk: int) -> float:
    if len(a) < 2 or len(b) < 2:
        raise UsageError(f"a kernel distance needs 2 or more images on each side, not {len(a)} and {len(b)}")

    def total(u: Tensor, v: Tensor) -> float:
        return sum(float(kernel(rows, v).sum()) for rows in u.split(chunk))

    def within(u: Tensor) -> float:
        with_itself = sum(float(kernel(rows, rows).diagonal().sum()) for rows in u.split(64))
        return (total(u, u) - with_itself) / (len(u) * (len(u) - 1))

    return within(a) + within(b) - 2 * total(a, b) / (len(a) * len(b))


class KernelMetric(SetMetric):
    """KID of every arm."""

    name, family, label, better = "kernel", "distances", "KID", "low"
    always = True

    def measure(self, images: Tensor, reference: Tensor) -> float:
        return kernel_distance(reference, images)


class CmmdMetric(SetMetric):
    """CMMD of every arm."""

    name, family, label, better = "cmmd", "distances", "CMMD", "low"

    def measure(self, images: Tensor, reference: Tensor) -> float:
        return cmmd(images, reference)
