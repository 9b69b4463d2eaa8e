"""How alike two images are: by their structure, and by what a feature net sees in them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from topcoat.features import FeatureNet
from topcoat.metrics.structure import ssim

WORKING_PX = 128
"""Shorter side at which images are compared: the size that the embedded feature nets know."""


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


def pair_similarity(net: FeatureNet, distilled: Tensor, baseline: Tensor) -> tuple[Tensor, Tensor]:
    """``(N,)`` cosines of the feature vectors and ``(N,)`` structural similarities of two batches, image by image."""
    features = (feature_vectors(net, distilled) * feature_vectors(net, baseline)).sum(dim=1)
    a, b = at_working_size(distilled), at_working_size(baseline)
    structure = torch.cat([ssim(one[None], other[None]) for one, other in zip(a, b, strict=True)])
    return features, structure
