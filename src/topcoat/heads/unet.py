"""The paired head: a residual U-Net with CBAM (the head of arXiv 2505.02255, whose exact layout is not published).

- A pixel-unshuffle stem moves 2x2 pixels into channels, so the fine stage works on a quarter of the positions.
- No normalisation: statistics over the image wash out its colour and contrast, those over the batch make an image
  depend on its neighbours. Residual branches that start small train without it (Fixup, arXiv 1901.09321).
- Upsampling is a convolution with pixel shuffle, initialised without a checkerboard (ICNR, arXiv 1707.02937), or with
  bilinear enlargement, which carries less detail. Skips are added, not concatenated: half the cost.
- The last convolution starts at zero: an untrained head changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from topcoat.heads.layers import ResidualUNet
from topcoat.heads.network import HeadConfig, ImageNetwork
from topcoat.heads.window import halo_px, window_field


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
    attention_window_px: int = window_field()
    """CBAM's pooling looks so far, half of it to each side, see `topcoat.heads.window`."""
    upsampling: Literal["pixel-shuffle", "resize"] = "pixel-shuffle"

    @property
    def depth(self) -> int:
        """Number of scales."""
        return len(self.channels)

    @property
    def size_multiple(self) -> int:
        """Every scale halves the side, after the unshuffle."""
        return self.unshuffle * 2 ** (self.depth - 1)

    @property
    def halo_px(self) -> int:
        """See `HeadConfig.halo_px`."""
        return halo_px(self.size_multiple, self.attention_window_px if self.cbam else 0)

    def build(self) -> UNet:
        """See `HeadConfig.build`."""
        return UNet(self)


class UNet(ResidualUNet, ImageNetwork):
    """Maps images ``(N, 3, H, W)`` in [0, 1] to the change to add to them, of the same shape and without bounds.

    H and W are multiples of ``config.size_multiple``.
    """

    decoder: nn.ModuleList

    def __init__(self, config: UNetConfig) -> None:
        pixels, shuffle = 3 * config.unshuffle**2, config.upsampling == "pixel-shuffle"
        window = config.attention_window_px / config.unshuffle if config.cbam else None
        super().__init__(pixels, pixels, config.channels, config.blocks_per_stage, cbam=window, shuffle=shuffle)
        self.config = config

    def forward(self, images: Tensor) -> Tensor:
        """The change to add to ``images`` ``(N, 3, H, W)``, of the same shape."""
        factor = self.config.unshuffle
        hidden = F.pixel_unshuffle(images * 2 - 1, factor)  # (N, 3 f f, H/f, W/f)
        return F.pixel_shuffle(self.through(hidden), factor)  # (N, 3, H, W)
