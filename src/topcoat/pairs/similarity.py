"""How alike two images are: by their structure, and by what a feature net sees in them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from topcoat.errors import UsageError
from topcoat.features import FeatureNet

WORKING_PX = 128
"""Shorter side at which images are compared: the size that the embedded feature nets know."""

_WINDOW_PX = 11
_SIGMA_PX = 1.5
_C1, _C2 = 0.01**2, 0.03**2  # for a data range of 1


def at_working_size(images: Tensor) -> Tensor:
    """``(N, 3, H, W)`` shrunk (never enlarged) so that the shorter side has `WORKING_PX` pixels."""
    height, width = images.shape[-2:]
    scale = WORKING_PX / min(height, width)
    if scale >= 1:
        return images
    size = (max(WORKING_PX, round(height * scale)), max(WORKING_PX, round(width * scale)))
    return functional.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)


def feature_vectors(net: FeatureNet, images: Tensor) -> Tensor:
    """``(N, D)`` float32 unit vectors on the CPU: the net's embedding of ``images`` ``(N, 3, H, W)`` in [0, 1].

    The embedding, not the identity vector: both sides of a pair share scene, pose and light, and the embedding tells
    pairs from strangers with fewer errors (see `docs/inspecting-pairs.md`). Each image goes through the net alone, so
    that a vector never depends on its batch.
    """
    with torch.no_grad():
        rows = [net(at_working_size(image[None])).embedding for image in images]
    return functional.normalize(torch.cat(rows).float().cpu(), dim=1)


def structural_similarity(a: Tensor, b: Tensor) -> Tensor:
    """``(N,)`` mean structural similarities in [-1, 1] of images ``(N, 3, H, W)`` in [0, 1], sides of 11 px or more.

    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity", equation 13, with its
    11 x 11 Gaussian window of sigma 1.5 and K = (0.01, 0.03); per channel, where the window lies inside the image.
    Raises `UsageError` for other shapes.
    """
    if a.shape != b.shape or a.ndim != 4 or min(a.shape[-2:]) < _WINDOW_PX:
        raise UsageError(
            f"structural similarity needs two batches of one shape (N, 3, H, W) with sides of {_WINDOW_PX} px or more, "
            f"not {tuple(a.shape)} and {tuple(b.shape)}"
        )
    count, channels = a.shape[:2]
    planes = torch.cat([a, b, a * a, b * b, a * b]).flatten(0, 1)[:, None]  # (5 N C, 1, H, W)
    offsets = torch.arange(_WINDOW_PX, dtype=a.dtype, device=a.device) - (_WINDOW_PX - 1) / 2
    weights = torch.exp(-0.5 * (offsets / _SIGMA_PX).square())
    weights = (weights / weights.sum()).view(1, 1, 1, -1)
    means = functional.conv2d(functional.conv2d(planes, weights), weights.mT)
    mean_a, mean_b, aa, bb, ab = means.view(5, count, channels, *means.shape[-2:])
    var_a, var_b, covariance = aa - mean_a**2, bb - mean_b**2, ab - mean_a * mean_b
    top = (2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)
    bottom = (mean_a**2 + mean_b**2 + _C1) * (var_a + var_b + _C2)
    return (top / bottom).mean(dim=(1, 2, 3))


def pair_similarity(net: FeatureNet, distilled: Tensor, baseline: Tensor) -> tuple[Tensor, Tensor]:
    """``(N,)`` cosines of the feature vectors and ``(N,)`` structural similarities of two batches, image by image."""
    features = (feature_vectors(net, distilled) * feature_vectors(net, baseline)).sum(dim=1)
    a, b = at_working_size(distilled), at_working_size(baseline)
    structure = torch.cat([structural_similarity(one[None], other[None]) for one, other in zip(a, b, strict=True)])
    return features, structure
