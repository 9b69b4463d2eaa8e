"""Layers that several heads are built from: residual blocks, CBAM and ESA attention, ICNR and the U-Net's way.

Attention is CBAM, the Convolutional Block Attention Module (Woo et al., ECCV 2018, arXiv 1807.06521), or ESA, Enhanced
Spatial Attention, the block of RFANet (Liu et al., CVPR 2020, section 3.3). Two choices differ from the authors' CBAM,
both so that one image gives the same result alone and in a batch:

- Their 7x7 convolution is followed by a BatchNorm of one channel. At batch size 1 its statistics are those of a single
  image, and exported graphs have to freeze them. At inference that layer is one scale and one shift, which are the
  convolution's own weight and bias; so here the convolution has a bias and nothing follows it.
- Their hidden layer has C/16 units, which is none for fewer than 16 channels; here it has at least one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ESA_SMALLEST_SIDE = 15
"""Below this the strided convolution of `ESA` leaves less than one window of the 7x7 pooling."""


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
    """Which positions matter: M_s(F) = sigmoid(conv7x7([AvgPool(F); MaxPool(F)])), eq. 3 of the paper."""

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


class ESA(nn.Module):
    """Weights every position by a wide, coarse view of the features; the shape ``(N, C, H, W)`` stays.

    A narrow copy of the features (C/4 channels) is shrunk by a strided convolution and a 7x7 pooling, which makes the
    field of view large at little cost, then enlarged again. H and W are at least `ESA_SMALLEST_SIDE`.
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


class ResidualBlock(nn.Module):
    """``x + CBAM(conv(relu(conv(x))))`` at a fixed width; the attention sits on the branch, before the sum."""

    def __init__(self, channels: int, cbam: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.attention = CBAM(channels) if cbam else nn.Identity()

    def forward(self, hidden: Tensor) -> Tensor:
        """``hidden`` ``(N, C, H, W)`` plus its branch."""
        return hidden + self.attention(self.second(F.relu(self.first(hidden))))


def stage(channels: int, blocks: int, cbam: bool) -> nn.Sequential:
    """``blocks`` residual blocks of one width."""
    return nn.Sequential(*(ResidualBlock(channels, cbam) for _ in range(blocks)))


def through_scales(
    hidden: Tensor,
    encoder: Sequence[nn.Module] | nn.ModuleList,
    down: nn.ModuleList,
    middle: nn.Module,
    up: Iterable[nn.Module],
    decoder: Iterable[nn.Module],
    enlarge: Callable[[Tensor], Tensor],
) -> Tensor:
    """The way of a U-Net, down and up, with skips that are added; ``up`` and ``decoder`` start at the coarsest."""
    skips: list[Tensor] = []
    for encode, reduce in zip(encoder, down, strict=True):
        hidden = encode(hidden)
        skips.append(hidden)
        hidden = reduce(hidden)  # half the side
    hidden = middle(hidden)
    for decode, expand, skip in zip(decoder, up, reversed(skips), strict=True):
        hidden = decode(enlarge(expand(hidden)) + skip)  # twice the side
    return hidden


def pixel_shuffle(hidden: Tensor) -> Tensor:
    """``(N, 4 C, H, W)`` to ``(N, C, 2 H, 2 W)``."""
    return F.pixel_shuffle(hidden, 2)


@torch.no_grad()
def initialise(network: nn.Module) -> None:
    """Kaiming-normal convolutions without bias, residual branches scaled down by the root of their number.

    Branches that start small train without normalisation (the idea of Fixup, arXiv 1901.09321).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    branches = [module for module in network.modules() if isinstance(module, ResidualBlock)]
    for branch in branches:
        branch.second.weight.mul_(len(branches) ** -0.5)


@torch.no_grad()
def icnr(convolutions: Iterable[nn.Module]) -> None:
    """Start convolutions before a pixel shuffle of 2 with equal weights for the 4 pixels of a block (ICNR).

    So their output begins as nearest-neighbour enlargement, without a checkerboard (arXiv 1707.02937).
    """
    for convolution in convolutions:
        assert isinstance(convolution, nn.Conv2d)
        quarter = convolution.weight[::4]
        convolution.weight.copy_(quarter.repeat_interleave(4, dim=0))
