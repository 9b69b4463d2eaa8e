from __future__ import annotations

import pytest
import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.features import FeatureNet, Features
from topcoat.images import gaussian_blur
from topcoat.metrics.embed import FeatureNetLike, embed
from topcoat.metrics.jpeg import gain, jpeg_round_trip


def test_jpeg_changes_little_and_less_at_a_higher_quality(images: Tensor) -> None:
    soft = gaussian_blur(images, 1.5)
    errors = [float((jpeg_round_trip(soft, quality) - soft).abs().mean()) for quality in (30, 90)]
    assert 0 < errors[1] < errors[0] < 0.1
    with pytest.raises(UsageError, match="quality 0"):
        jpeg_round_trip(soft, 0)


class FineNet:
    """Sees the finest grid alone, as a head that hides its signal would like."""

    digest = "fine"

    def __call__(self, images: Tensor) -> Features:
        board = (torch.arange(32).view(-1, 1) + torch.arange(32)).remainder(2) * 2.0 - 1
        blue = (images[:, 2] * board).mean(dim=(1, 2))
        embedding = torch.stack([blue, torch.zeros_like(blue)], dim=1)
        return Features((), embedding, embedding)


def gain_of(x: Tensor, z: Tensor, y: Tensor, net: FeatureNetLike) -> float | None:
    return gain([embed(part, net).embedding for part in (x, z, y)])


def test_a_signal_hidden_in_a_fine_grid_is_lost(images: Tensor, net: FeatureNet) -> None:
    board = (torch.arange(32).view(-1, 1) + torch.arange(32)).remainder(2) * 2.0 - 1
    x = gaussian_blur(images, 2.0) * 0.8 + 0.1
    hidden = torch.tensor([0, 0, 1.0]).view(1, 3, 1, 1) * board * 0.05
    assert gain_of(x, x + hidden, x + 2 * hidden, FineNet()) == pytest.approx(0.75, abs=0.05)
    assert gain_of(x, images, images, net) == pytest.approx(1, abs=1e-6)
    assert gain_of(images, images, images, net) is None
    after = jpeg_round_trip(x + hidden, 50) - jpeg_round_trip(x, 50)
    assert float((after * hidden.sign()).mean(dim=(2, 3))[:, 2].mean()) < 0.01  # 0.05 before
