"""Kernel distance (KID): the unbiased squared MMD with a cubic kernel (Bińkowski et al. 2018, arXiv 1801.01401).

Unlike the Fréchet distance its expectation does not depend on the number of images, so it is the second opinion for
small sets; it can be slightly negative where two sets are alike.
"""

from __future__ import annotations

import torch
from torch import Tensor

from topcoat.errors import UsageError


def kernel_distance(a: Tensor, b: Tensor, *, chunk: int = 1024) -> float:
    """Unbiased KID of features ``(N, D)`` and ``(M, D)``, N and M >= 2, kernel ``(u.v / D + 1)^3``.

    Works in float64 on blocks of ``chunk`` rows, so memory is ``chunk * max(N, M)`` whatever N and M are.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise UsageError(f"features must have shapes (N, D) and (M, D), not {tuple(a.shape)} and {tuple(b.shape)}")
    if len(a) < 2 or len(b) < 2:
        raise UsageError(f"a kernel distance needs 2 or more images on each side, not {len(a)} and {len(b)}")
    a, b = a.detach().to("cpu", torch.float64), b.detach().to("cpu", torch.float64)
    within_a = (_kernel_sum(a, a, chunk) - _kernel_diagonal(a)) / (len(a) * (len(a) - 1))
    within_b = (_kernel_sum(b, b, chunk) - _kernel_diagonal(b)) / (len(b) * (len(b) - 1))
    return within_a + within_b - 2 * _kernel_sum(a, b, chunk) / (len(a) * len(b))


def _kernel_sum(a: Tensor, b: Tensor, chunk: int) -> float:
    return sum(float((rows @ b.T / a.shape[1] + 1).pow(3).sum()) for rows in a.split(chunk))


def _kernel_diagonal(a: Tensor) -> float:
    return float((a.square().sum(dim=1) / a.shape[1] + 1).pow(3).sum())
