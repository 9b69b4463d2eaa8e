"""The paired head: a residual U-Net with CBAM (the head of arXiv 2505.02255, whose exact layout is not published).

The choices made here, and why:

- A pixel-unshuffle stem moves 2x2 pixels into channels, so the costly fine stage works on a quarter of the positions.
- No normalisation anywhere. Statistics over the image wash out its overall colour and contrast, which are exactly what
  a head must keep, and statistics over the batch would make an image depend on its neighbours. Residual branches that
  start small (the idea of Fixup, arXiv 1901.09321) train without it.
- Upsampling is a convolution with pixel shuffle, initialised so that the four pixels of a block start equal (ICNR,
  arXiv 1707.02937), which keeps checkerboards out. Skips are added, not concatenated: half the cost.
- The last convolution starts at zero: an untrained head changes nothing.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from topcoat.heads.cbam import CBAM
from topcoat.heads.network import HeadConfig


class UNetConfig(HeadConfig):
    """Shape of a `UNet`; the default has 1.00 M parameters and 0.48 GFLOP per 128x128 image.

    ``channels`` holds one width per scale, finest first; each scale has half the side of the one before.
    """

    kind: Literal["unet"] = "unet"  # pyright: ignore[reportIncompatibleVariableOverride] - frozen, so narrowing is safe
    channels: Annotated[tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(min_length=1, max_length=8)] = (
        24,
        32,
        64,
        192,
    )
    blocks_per_stage: int = Field(default=1, ge=1, le=16)
    unshuffle: Literal[1, 2, 4] = 2
    cbam: bool = True

    @property
    def depth(self) -> int:
        """Number of scales."""
        return len(self.channels)

    @property
    def size_multiple(self) -> int:
        """Every scale halves the side, after the unshuffle."""
        return self.unshuffle * 2 ** (self.depth - 1)


class UNet(nn.Module):
    """Maps images ``(N, 3, H, W)`` in [0, 1] to the change to add to them, of the same shape and without bounds.

    H and W are multiples of ``config.size_multiple``.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, blocks = config.channels, config.blocks_per_stage
        pixels = 3 * config.unshuffle**2
        self.stem = nn.Conv2d(pixels, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(_stage(width, blocks, config.cbam) for width in widths[:-1])
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths))
        self.middle = _stage(widths[-1], blocks, config.cbam)
        self.up = nn.ModuleList(nn.Conv2d(coarse, 4 * fine, 1) for fine, coarse in pairwise(widths))
        self.decoder = nn.ModuleList(_stage(width, blocks, config.cbam) for width in widths[:-1])
        self.out = nn.Conv2d(widths[0], pixels, 3, padding=1)
        self._initialise(residual_blocks=blocks * (2 * config.depth - 1))

    def forward(self, images: Tensor) -> Tensor:
        """The change to add to ``images`` ``(N, 3, H, W)``, of the same shape."""
        factor = self.config.unshuffle
        hidden = F.pixel_unshuffle(images * 2 - 1, factor)  # (N, 3 f f, H/f, W/f)
        hidden = self.stem(hidden)  # (N, C0, H/f, W/f)
        skips: list[Tensor] = []
        for stage, down in zip(self.encoder, self.down, strict=True):
            hidden = stage(hidden)
            skips.append(hidden)
            hidden = down(hidden)  # half the side
        hidden = self.middle(hidden)
        for stage, up, skip in zip(reversed(self.decoder), reversed(self.up), reversed(skips), strict=True):
            hidden = stage(F.pixel_shuffle(up(hidden), 2) + skip)  # twice the side
        return F.pixel_shuffle(self.out(hidden), factor)  # (N, 3, H, W)

    @torch.no_grad()
    def _initialise(self, residual_blocks: int) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                module.second.weight.mul_(residual_blocks**-0.5)
        for up in self.up:
            assert isinstance(up, nn.Conv2d)
            quarter = up.weight[::4]
            up.weight.copy_(quarter.repeat_interleave(4, dim=0))  # ICNR: equal weights for the 4 pixels of a block
        nn.init.zeros_(self.out.weight)


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


def _stage(channels: int, blocks: int, cbam: bool) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels, cbam) for _ in range(blocks)))
