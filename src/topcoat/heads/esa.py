"""ESA, the Enhanced Spatial Attention block of RFANet (Liu et al., CVPR 2020, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALLEST_SIDE = 15
"""Below this the strided convolution leaves less than one window of the 7x7 pooling."""


class ESA(nn.Module):
    """Weights every place by what a wide, coarse look at the features says of it; the shape ``(N, C, H, W)`` stays.

    A narrow copy of the features (C/4 channels) is shrunk by a strided convolution and a 7x7 pooling, which makes the
    field of view large at little cost, then enlarged again. H and W are at least `SMALLEST_SIDE`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = max(1, channels // 4)
        self.squeeze = nn.Conv2d(channels, narrow, 1)
        self.shortcut = nn.Conv2d(narrow, narrow, 1)
        self.shrink = nn.Conv2d(narrow, narrow, 3, stride=2)
        self.first = nn.Conv2d(narrow, narrow, 3, padding=1)
        self.second = nn.Conv2d(narrow, narrow, 3, padding=1)
        self.third = nn.Conv2d(narrow, narrow, 3, padding=1)
        self.excite = nn.Conv2d(narrow, channels, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """``hidden`` ``(N, C, H, W)``, weighted."""
        squeezed = self.squeeze(hidden)  # (N, C/4, H, W)
        wide = F.max_pool2d(self.shrink(squeezed), kernel_size=7, stride=3)
        wide = self.third(F.relu(self.second(F.relu(self.first(wide)))))
        wide = F.interpolate(wide, size=hidden.shape[-2:], mode="bilinear", align_corners=False)
        return hidden * torch.sigmoid(self.excite(wide + self.shortcut(squeezed)))
