from __future__ import annotations

import pytest
import torch
from torch import Tensor

from topcoat.features import FeatureNet


@pytest.fixture(scope="session")
def net() -> FeatureNet:
    return FeatureNet.tiny(0)


def smooth_images(count: int, seed: int, size_px: int = 32) -> Tensor:
    """``count`` coloured blobs with fine noise: enough structure for gradients and features."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=(size_px, size_px), mode="bicubic", align_corners=False)
    return (images + 0.08 * torch.randn(count, 3, size_px, size_px, generator=generator)).clamp(0, 1)


@pytest.fixture(scope="session")
def images() -> Tensor:
    return smooth_images(24, seed=1)


@pytest.fixture(scope="session")
def other_images() -> Tensor:
    """As many of the same kind, of other subjects."""
    return smooth_images(24, seed=9)
