"""CycleGAN's generator: the ResNet with instance normalisation (arXiv 1703.10593, appendix 7.2), also with ESA.

The default is that of the authors' published code: 64 filters, 9 residual blocks, reflection padding, biases, instance
normalisation without learned scales. It gives the whole image; the change is that image minus the input, so that
strength works as for every head. The authors' transposed convolutions tend to leave a checkerboard, which
``upsampling="resize"`` (bilinear, then a 3x3 convolution of as many parameters) does not. Statistics are those of the
whole image, so a crop is not treated as the image is.

ESA-CycleGAN, the third head of arXiv 2505.02255, has RFANet's ESA block (CVPR 2020) at the end of every residual
branch; that paper gives no reference, and a method of 2022 with the same name is another one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from topcoat.heads.layers import ESA, ESA_SMALLEST_SIDE, start_small
from topcoat.heads.network import HeadConfig, ImageNetwork

Upsampling = Literal["transposed", "resize"]


class ResNetSettings(HeadConfig):
    """Shape of a `ResNetGenerator` of any kind."""

    base_channels: int = Field(default=64, ge=1, le=512)
    blocks: int = Field(default=9, ge=0, le=32)
    upsampling: Upsampling = "transposed"

    @property
    def size_multiple(self) -> int:
        """The network halves the side twice."""
        return 4


class CycleGANConfig(ResNetSettings):
    """Shape of a `ResNetGenerator`; the default has 11.38 M parameters and 24.8 GFLOP per 128x128 image."""

    kind: Literal["cyclegan"] = "cyclegan"

    @property
    def smallest_px(self) -> int:
        """Reflection needs more than 1 position at a quarter of the size, and normalisation more than one value."""
        return 8

    def build(self) -> ResNetGenerator:
        """See `HeadConfig.build`."""
        return ResNetGenerator(self)


class ESACycleGANConfig(ResNetSettings):
    """Shape of a `ResNetGenerator` with `ESA`; the default has 13.04 M parameters and 25.6 GFLOP per 128x128 image."""

    kind: Literal["esa-cyclegan"] = "esa-cyclegan"

    @property
    def smallest_px(self) -> int:
        """The ESA blocks work at a quarter of the size."""
        return 4 * ESA_SMALLEST_SIDE

    def build(self) -> ResNetGenerator:
        """See `HeadConfig.build`."""
        return ResNetGenerator(self, attention=ESA)


class ResNetGenerator(ImageNetwork):
    """Maps images ``(N, 3, H, W)`` in [0, 1] to the change to add to them; H and W are multiples of 4.

    ``attention`` makes the module that ends every residual branch, from its number of channels.
    """

    def __init__(self, config: ResNetSettings, attention: Callable[[int], nn.Module] | None = None) -> None:
        super().__init__()
        self.config = config
        width = config.base_channels
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7), *_normalised(width)]
        for _ in range(2):
            layers += [nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), *_normalised(2 * width)]
            width *= 2
        layers += [
            ResNetBlock(width, nn.Identity() if attention is None else attention(width)) for _ in range(config.blocks)
        ]
        for _ in range(2):
            layers += [*_twice(width, width // 2, config.upsampling), *_normalised(width // 2)]
            width //= 2
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        start_small(self)

    def forward(self, images: Tensor) -> Tensor:
        """The change to add to ``images`` ``(N, 3, H, W)``, of the same shape."""
        return self.translate(images) - images

    def translate(self, images: Tensor) -> Tensor:
        """The generated images ``(N, 3, H, W)`` in [0, 1]."""
        return (self.layers(images * 2 - 1) + 1) / 2


class ResNetBlock(nn.Module):
    """``x + attention(norm(conv(relu(norm(conv(x))))))`` with reflected borders."""

    def __init__(self, channels: int, attention: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            *_normalised(channels),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
            attention,
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """``hidden`` ``(N, C, H, W)`` plus its branch."""
        return hidden + self.branch(hidden)


def _normalised(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.InstanceNorm2d(channels), nn.ReLU()


def _twice(channels: int, fewer: int, upsampling: Upsampling) -> list[nn.Module]:
    """Layers from ``(N, channels, H, W)`` to ``(N, fewer, 2 H, 2 W)``."""
    if upsampling == "transposed":
        return [nn.ConvTranspose2d(channels, fewer, 3, stride=2, padding=1, output_padding=1)]
    enlarge = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    return [enlarge, nn.ReflectionPad2d(1), nn.Conv2d(channels, fewer, 3)]
