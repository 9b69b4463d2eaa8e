"""NAFNet, the restoration network without activation functions (Chen et al., ECCV 2022, arXiv 2204.04676).

Layer normalisation is over the channels of one position, so an image depends neither on its batch nor on its own size;
the attention pools over a window (`topcoat.heads.window`).
Unlike the authors' it has a pixel-unshuffle stem and a last convolution that starts at zero, as `topcoat.heads.unet`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from topcoat.heads.layers import icnr, through_scales
from topcoat.heads.network import HeadConfig, ImageNetwork
from topcoat.heads.window import Window, halo_px, window_field

Blocks = Annotated[int, Field(ge=0, le=32)]


class NAFNetConfig(HeadConfig):
    """Shape of a `NAFNet`; the default has 1.24 M parameters and 0.40 GFLOP per 128x128 image.

    ``width`` doubles with every scale; ``encoder`` holds the blocks of each scale, finest first, ``decoder`` the same
    on the way back.
    """

    kind: Literal["nafnet"] = "nafnet"
    width: int = Field(default=24, ge=1, le=512)
    encoder: Annotated[tuple[Blocks, ...], Field(min_length=1, max_length=6)] = (1, 1, 2)
    middle: Blocks = 3
    decoder: Annotated[tuple[Blocks, ...], Field(min_length=1, max_length=6)] = (1, 1, 1)
    unshuffle: Literal[1, 2, 4] = 2
    attention_window_px: int = window_field()
    """SCA's pooling looks so far, half of it to each side, see `topcoat.heads.window`."""

    @model_validator(mode="after")
    def _as_many_up_as_down(self) -> NAFNetConfig:
        if len(self.encoder) != len(self.decoder):
            raise ValueError(
                f"encoder has {len(self.encoder)} scales and decoder {len(self.decoder)}; give both the same number"
            )
        return self

    @property
    def size_multiple(self) -> int:
        """Every scale halves the side, after the unshuffle."""
        return self.unshuffle * 2 ** len(self.encoder)

    @property
    def halo_px(self) -> int:
        """See `HeadConfig.halo_px`."""
        return halo_px(self.size_multiple, self.attention_window_px)

    def build(self) -> NAFNet:
        """See `HeadConfig.build`."""
        return NAFNet(self)


class NAFNet(ImageNetwork):
    """Maps images ``(N, 3, H, W)`` in [0, 1] to the change to add to them, of the same shape and without bounds."""

    def __init__(self, config: NAFNetConfig) -> None:
        super().__init__()
        self.config = config
        side, scales = config.attention_window_px / config.unshuffle, len(config.encoder) + 1
        windows = [Window.at(scale, scales, side) for scale in range(scales)]
        pixels, width = 3 * config.unshuffle**2, config.width
        self.stem = nn.Conv2d(pixels, width, 3, padding=1)
        self.out = nn.Conv2d(width, pixels, 3, padding=1)
        self.encoder, self.down = nn.ModuleList(), nn.ModuleList()
        for blocks, window in zip(config.encoder, windows, strict=False):
            self.encoder.append(_stage(width, blocks, window))
            self.down.append(nn.Conv2d(width, 2 * width, 2, stride=2))
            width *= 2
        self.middle = _stage(width, config.middle, windows[-1])
        self.up, self.decoder = nn.ModuleList(), nn.ModuleList()
        for blocks, window in zip(config.decoder, windows[-2::-1], strict=True):
            self.up.append(nn.Conv2d(width, 2 * width, 1, bias=False))
            width //= 2
            self.decoder.append(_stage(width, blocks, window))
        icnr(self.up)
        nn.init.zeros_(self.out.weight)
        assert self.out.bias is not None
        nn.init.zeros_(self.out.bias)

    def forward(self, images: Tensor) -> Tensor:
        """The change to add to ``images`` ``(N, 3, H, W)``, of the same shape."""
        hidden = self.stem(F.pixel_unshuffle(images * 2 - 1, self.config.unshuffle))  # (N, C, H/f, W/f)
        # twice the channels on the way down, half on the way up
        hidden = through_scales(hidden, self.encoder, self.down, self.middle, self.up, self.decoder)
        return F.pixel_shuffle(self.out(hidden), self.config.unshuffle)  # (N, 3, H, W)


class NAFBlock(nn.Module):
    """The block of figure 3c: depthwise convolution, SimpleGate and SCA, then a gated 1x1 pair; both residual."""

    def __init__(self, channels: int, window: Window) -> None:
        super().__init__()
        self.window = window
        self.norm = ChannelNorm(channels)
        self.widen = nn.Conv2d(channels, 2 * channels, 1)
        self.depthwise = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.attention = nn.Conv2d(channels, channels, 1)
        self.narrow = nn.Conv2d(channels, channels, 1)
        self.second_norm = ChannelNorm(channels)
        self.second_widen = nn.Conv2d(channels, 2 * channels, 1)
        self.second_narrow = nn.Conv2d(channels, channels, 1)
        self.scale = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.second_scale = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, hidden: Tensor) -> Tensor:
        """``hidden`` ``(N, C, H, W)`` plus its two branches."""
        branch = _gate(self.depthwise(self.widen(self.norm(hidden))))
        if self.window.covers(branch):
            branch = branch * self.attention(branch.mean((2, 3), keepdim=True))  # SCA, eq. 8
        else:
            branch = branch * self.window.spread(self.attention(self.window.mean(branch)))
        hidden = hidden + self.narrow(branch) * self.scale
        branch = _gate(self.second_widen(self.second_norm(hidden)))
        return hidden + self.second_narrow(branch) * self.second_scale


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each position, with a learned scale and shift."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, hidden: Tensor) -> Tensor:
        """``hidden`` ``(N, C, H, W)``, normalised."""
        last = hidden.permute(0, 2, 3, 1)  # a view: channels-last tensors lie like this already
        return F.layer_norm(last, (last.shape[-1],), self.weight, self.bias, 1e-6).permute(0, 3, 1, 2)


def _gate(hidden: Tensor) -> Tensor:
    """SimpleGate (eq. 7): half the channels times the other half."""
    first, second = hidden.chunk(2, dim=1)
    return first * second


def _stage(channels: int, blocks: int, window: Window) -> nn.Sequential:
    return nn.Sequential(*(NAFBlock(channels, window) for _ in range(blocks)))
