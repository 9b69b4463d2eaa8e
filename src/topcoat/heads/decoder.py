"""The decoder head: latents of the distilled model straight to the enhanced image, in place of the VAE decoder.

So a pipeline with it costs less than the distilled model alone. It fits any VAE by its number of latent channels and
its scale; latents are as the denoiser leaves them, before ``z / scaling_factor + shift_factor``. A linear path from
latents to image gives colour and light from the first step of training.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from topcoat.heads.layers import icnr, initialise, stage
from topcoat.heads.network import LatentHeadConfig, Network
from topcoat.heads.window import Window, window_field


class DecoderConfig(LatentHeadConfig):
    """Shape of a `Decoder`; the default has 0.21 M parameters and 0.20 GFLOP per 128x128 image.

    ``channels`` and ``blocks`` hold one number per scale, from the latents' size on. Each scale doubles the side, so
    three fit a VAE of 8x.
    """

    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "small": {"channels": (64, 40, 16), "blocks": (2, 1, 1)},
        "base": {"channels": (192, 96, 48), "blocks": (4, 2, 2)},
    }
    """0.21 M and 3.22 M parameters, 0.20 and 2.9 GFLOP per 128x128 image."""
    kind: Literal["decoder"] = "decoder"
    latent_channels: int = Field(default=16, ge=1, le=256)
    channels: Annotated[tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(min_length=1, max_length=6)] = (
        64,
        40,
        16,
    )
    blocks: tuple[Annotated[int, Field(ge=0, le=32)], ...] = (2, 1, 1)
    cbam: bool = True
    attention_window_px: int = window_field()
    """CBAM's pooling looks so far, half of it to each side, see `topcoat.heads.window`."""

    @model_validator(mode="after")
    def _blocks_for_every_scale(self) -> DecoderConfig:
        if len(self.blocks) != len(self.channels):
            raise ValueError(
                f"channels has {len(self.channels)} scales and blocks {len(self.blocks)}; give both the same number"
            )
        return self

    @property
    def scale(self) -> int:
        """Pixels per latent along a side: every scale doubles it."""
        return 2 ** len(self.channels)

    def build(self) -> Decoder:
        """See `HeadConfig.build`."""
        return Decoder(self)


class Decoder(Network):
    """Maps latents ``(N, C, h, w)`` to images ``(N, 3, scale h, scale w)``, about [0, 1] but without bounds."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.channels
        self.colour = nn.Conv2d(config.latent_channels, 3, 1)
        self.stem = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        windows: list[Window | None] = [None] * len(widths)
        if config.cbam:  # a position of the finest stage has 2 px
            scales, side = range(len(widths) - 1, -1, -1), config.attention_window_px / 2
            windows = [Window.at(scale, len(widths), side) for scale in scales]
        self.stages = nn.ModuleList(
            stage(width, blocks, window) for width, blocks, window in zip(widths, config.blocks, windows, strict=True)
        )
        self.up = nn.ModuleList(nn.Conv2d(coarse, 4 * fine, 1) for coarse, fine in pairwise(widths))
        self.out = nn.Conv2d(widths[-1], 12, 3, padding=1)
        initialise(self)
        icnr(self.up)
        for layer, start in ((self.out, 0.0), (self.colour, 0.5)):
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.constant_(layer.bias, start)  # an untrained decoder gives grey

    def forward(self, latents: Tensor) -> Tensor:
        """The images ``(N, 3, scale h, scale w)`` of ``latents`` ``(N, C, h, w)``."""
        colour = F.interpolate(
            self.colour(latents), scale_factor=self.config.scale, mode="bilinear", align_corners=False
        )
        hidden = self.stages[0](self.stem(latents))  # (N, C0, h, w)
        for up, later in zip(self.up, self.stages[1:], strict=True):
            hidden = later(F.pixel_shuffle(up(hidden), 2))  # twice the side
        return colour + F.pixel_shuffle(self.out(hidden), 2)

    def enhance(self, inputs: Tensor, strength: float = 1.0) -> Tensor:
        """The images of latents ``inputs``; there is no strength but 1."""
        return self(inputs)
