"""Blocks that several heads are built from."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from topcoat.heads.cbam import CBAM


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
