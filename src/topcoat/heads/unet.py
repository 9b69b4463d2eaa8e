"""The paired head: a residual U-Net with CBAM (the head of arXiv 2505.02255, whose exact layout is not published).

The choices made here, and why:

- A pixel-unshuffle stem moves 2x2 pixels into channels, so the costly fine stage works on a quarter of the positions.
- No normalisation anywhere. Statistics over the image wash out its overall colour and contrast, which are exactly what
  a head must keep, and statistics over the batch would make an image depend on its neighbours. Residual branches that
  start small (the idea of Fixup, arXiv 1901.09321) train without it.
- Upsampling is a convolution with pixel shuffle, initialised so that the four pixels of a block start equal (ICNR,
  arXiv 1707.02937), or a convolution with bilinear enlargement, which has no checkerboard at all and carries less
  detail. Never a transposed convolution. Skips are added, not concatenated: half the cost.
- The last convolution starts at zero: an untrained head changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from topcoat.heads.layers import icnr, initialise, pixel_shuffle, stage, through_scales
from topcoat.heads.network import HeadConfig, ImageNetwork


class UNetConfig(HeadConfig):
    """Shape of a `UNet`; the default has 1.00 M parameters and 0.48 GFLOP per 128x128 image.

    ``channels`` holds one width per scale, finest first; each scale has half the side of the one before. A settings
    file may say ``size: small``, ``base`` or ``large`` instead of ``channels`` and ``blocks_per_stage``.
    """

    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "small": {"channels": (16, 24, 32, 96), "blocks_per_stage": 1},
        "base": {"channels": (24, 32, 64, 192), "blocks_per_stage": 1},
        "large": {"channels": (32, 48, 80, 160), "blocks_per_stage": 2},
    }
    """What ``size`` in a settings file stands for: 0.27 M, 1.00 M and 1.79 M parameters."""
    kind: Literal["unet"] = "unet"
    channels: Annotated[tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(min_length=1, max_length=8)] = (
        24,
        32,
        64,
        192,
    )
    blocks_per_stage: int = Field(default=1, ge=1, le=16)
    unshuffle: Literal[1, 2, 4] = 2
    cbam: bool = True
    upsampling: Literal["pixel-shuffle", "resize"] = "pixel-shuffle"

    @property
    def depth(self) -> int:
        """Number of scales."""
        return len(self.channels)

    @property
    def size_multiple(self) -> int:
        """Every scale halves the side, after the unshuffle."""
        return self.unshuffle * 2 ** (self.depth - 1)

    def build(self) -> UNet:
        """See `HeadConfig.build`."""
        return UNet(self)


class UNet(ImageNetwork):
    """Maps images ``(N, 3, H, W)`` in [0, 1] to the change to add to them, of the same shape and without bounds.

    H and W are multiples of ``config.size_multiple``.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, blocks = config.channels, config.blocks_per_stage
        pixels = 3 * config.unshuffle**2
        self.stem = nn.Conv2d(pixels, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(stage(width, blocks, config.cbam) for width in widths[:-1])
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths))
        self.middle = stage(widths[-1], blocks, config.cbam)
        self._shuffles = config.upsampling == "pixel-shuffle"
        wider = 4 if self._shuffles else 1
        self.up = nn.ModuleList(nn.Conv2d(coarse, wider * fine, 1) for fine, coarse in pairwise(widths))
        self.decoder = nn.ModuleList(stage(width, blocks, config.cbam) for width in widths[:-1])
        self.out = nn.Conv2d(widths[0], pixels, 3, padding=1)
        initialise(self)
        if self._shuffles:
            icnr(self.up)
        nn.init.zeros_(self.out.weight)

    def forward(self, images: Tensor) -> Tensor:
        """The change to add to ``images`` ``(N, 3, H, W)``, of the same shape."""
        factor = self.config.unshuffle
        hidden = F.pixel_unshuffle(images * 2 - 1, factor)  # (N, 3 f f, H/f, W/f)
        hidden = through_scales(
            self.stem(hidden),  # (N, C0, H/f, W/f)
            self.encoder,
            self.down,
            self.middle,
            reversed(self.up),
            reversed(self.decoder),
            pixel_shuffle if self._shuffles else _resize,
        )
        return F.pixel_shuffle(self.out(hidden), factor)  # (N, 3, H, W)


def _resize(hidden: Tensor) -> Tensor:
    return F.interpolate(hidden, scale_factor=2, mode="bilinear", align_corners=False)
