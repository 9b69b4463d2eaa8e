"""Layers that several heads are built from: residual blocks, CBAM and ESA attention, and the residual U-Net.

CBAM is the Convolutional Block Attention Module (Woo et al., ECCV 2018, arXiv 1807.06521), ESA is Enhanced Spatial
Attention, the block of RFANet (Liu et al., CVPR 2020, section 3.3). Here CBAM's 7x7 convolution has a bias and no
BatchNorm after it, so one image gives the same result alone and in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from topcoat.heads.window import Window

ESA_SMALLEST_SIDE = 15
"""Below this the strided convolution of `ESA` leaves less than one window of the 7x7 pooling."""


def start_small(network: nn.Module) -> None:
    """Draw the weights of all convolutions from N(0, 0.02), as CycleGAN does; biases begin at 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
            assert module.bias is not None
            nn.init.zeros_(module.bias)


class ChannelAttention(nn.Module):
    """M_c(F) = sigmoid(MLP(AvgPool(F)) + MLP(MaxPool(F))), eq. 2 of CBAM; the MLP has at least one hidden unit.

    The pools are over a window around each position, see `topcoat.heads.window`.
    """

    def __init__(self, channels: int, window: Window, reduction: int = 16) -> None:
        super().__init__()
        self.window = window
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)

    def forward(self, hidden: Tensor) -> Tensor:
        """Weights in (0, 1) for ``hidden`` ``(N, C, H, W)``, of its shape, or ``(N, C, 1, 1)`` if it is one window."""
        if not self.window.covers(hidden):
            pooled = (self.window.mean(hidden), self.window.largest(hidden))
            average, largest = (self.excite(F.relu(self.squeeze(each.movedim(1, 3)))) for each in pooled)
            return self.window.spread(torch.sigmoid(average + largest).movedim(3, 1))
        flat = hidden.flatten(2)  # amax over one axis: four times as fast on a CPU as over two axes at once
        average, largest = (self.excite(F.relu(self.squeeze(pooled))) for pooled in (flat.mean(2), flat.amax(2)))
        return torch.sigmoid(average + largest)[:, :, None, None]


class SpatialAttention(nn.Module):
    """M_s(F) = sigmoid(conv7x7([AvgPool(F); MaxPool(F)])), eq. 3 of CBAM."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size=7, padding=3)

    def forward(self, hidden: Tensor) -> Tensor:
        """Weights ``(N, 1, H, W)`` in (0, 1) for ``hidden`` ``(N, C, H, W)``."""
        pooled = torch.cat([hidden.mean(1, keepdim=True), hidden.amax(1, keepdim=True)], dim=1)
        return torch.sigmoid(self.conv(pooled))


class CBAM(nn.Module):
    """Channel attention, then spatial attention; the shape ``(N, C, H, W)`` stays."""

    def __init__(self, channels: int, window: Window, reduction: int = 16) -> None:
        super().__init__()
        self.channel = ChannelAttention(channels, window, reduction)
        self.spatial = SpatialAttention()

    def forward(self, hidden: Tensor) -> Tensor:
        """``hidden`` ``(N, C, H, W)``, weighted by both."""
        hidden = hidden * self.channel(hidden)
        return hidden * self.spatial(hidden)


class ESA(nn.Module):
    """Weights every position by a wide, coarse view of the features; the shape ``(N, C, H, W)`` stays.

    A narrow copy of the features (C/4 channels) is shrunk by a strided convolution and a 7x7 pooling, then enlarged
    again. H and W are at least `ESA_SMALLEST_SIDE`.
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
    """``x + CBAM(conv(relu(conv(x))))`` at a fixed width; the attention sits on the branch, before the sum.

    ``cbam`` is the window that it pools over, None for none.
    """

    def __init__(self, channels: int, cbam: Window | None) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.attention = nn.Identity() if cbam is None else CBAM(channels, cbam)

    def forward(self, hidden: Tensor) -> Tensor:
        """``hidden`` ``(N, C, H, W)`` plus its branch."""
        return hidden + self.attention(self.second(F.relu(self.first(hidden))))


def stage(channels: int, blocks: int, cbam: Window | None) -> nn.Sequential:
    """``blocks`` residual blocks of one width."""
    return nn.Sequential(*(ResidualBlock(channels, cbam) for _ in range(blocks)))


def pixel_shuffle(hidden: Tensor) -> Tensor:
    """``(N, 4 C, H, W)`` to ``(N, C, 2 H, 2 W)``."""
    return F.pixel_shuffle(hidden, 2)


def _resize(hidden: Tensor) -> Tensor:
    return F.interpolate(hidden, scale_factor=2, mode="bilinear", align_corners=False)


def through_scales(
    hidden: Tensor,
    encoder: Iterable[nn.Module],
    down: nn.ModuleList,
    middle: nn.Module,
    up: Iterable[nn.Module],
    decoder: Iterable[nn.Module],
    enlarge: Callable[[Tensor], Tensor] = pixel_shuffle,
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


class ResidualUNet(nn.Module):
    """Maps ``(N, inputs, H, W)`` to ``(N, outputs, H, W)``, zero before it is trained; no normalisation.

    ``widths`` are the channels of each scale, finest first; each has half the side of the one before, and so H and W
    are multiples of ``2 ** (len(widths) - 1)``. Enlarging is a pixel shuffle that starts without a checkerboard, or
    bilinear (``shuffle`` False). ``cbam`` is the side of its window in positions of the finest scale, None for none.
    ``later`` names the blocks of the way back in saved weights.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        widths: Sequence[int],
        blocks: int,
        *,
        cbam: float | None,
        shuffle: bool = True,
        later: str = "decoder",
    ) -> None:
        super().__init__()
        self._later, self._enlarge = later, pixel_shuffle if shuffle else _resize
        windows = [None if cbam is None else Window.at(scale, len(widths), cbam) for scale in range(len(widths))]
        finer = list(zip(widths[:-1], windows, strict=False))
        self.stem = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(stage(width, blocks, window) for width, window in finer)
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths))
        self.middle = stage(widths[-1], blocks, windows[-1])
        wider = 4 if shuffle else 1
        self.up = nn.ModuleList(nn.Conv2d(coarse, wider * fine, 1) for fine, coarse in pairwise(widths))
        self.add_module(later, nn.ModuleList(stage(width, blocks, window) for width, window in finer))
        self.out = nn.Conv2d(widths[0], outputs, 3, padding=1)
        initialise(self)
        if shuffle:
            icnr(self.up)
        nn.init.zeros_(self.out.weight)

    def through(self, inputs: Tensor) -> Tensor:
        """The outputs ``(N, outputs, H, W)``."""
        later = self.get_submodule(self._later)
        assert isinstance(later, nn.ModuleList)
        hidden = self.stem(inputs)
        up, decoder = reversed(self.up), reversed(later)
        return self.out(through_scales(hidden, self.encoder, self.down, self.middle, up, decoder, self._enlarge))


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
