"""A small patch discriminator: is this patch from the baseline?"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from topcoat.config import StrictModel


class DiscriminatorConfig(StrictModel):
    """Shape of a `PatchDiscriminator`; the default has 0.17 M parameters and sees patches of 46 px."""

    base_channels: int = Field(default=32, ge=1, le=512)
    layers: int = Field(default=3, ge=1, le=6)


class PatchDiscriminator(nn.Module):
    """PatchGAN (pix2pix, arXiv 1611.07004) with spectral normalisation (arXiv 1802.05957) and no other one.

    It sees images alone, not pairs: the two halves of a pair never agree pixel by pixel, and a discriminator that saw
    both would judge that instead of how real the texture is.
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        width = config.base_channels
        layers: list[nn.Module] = [spectral_norm(nn.Conv2d(3, width, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
        for _ in range(config.layers - 1):
            wider = min(2 * width, 4 * config.base_channels)
            layers += [spectral_norm(nn.Conv2d(width, wider, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
            width = wider
        layers.append(spectral_norm(nn.Conv2d(width, 1, 4, padding=1)))
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Scores ``(N, 1, h, w)``, one per patch of ``images`` ``(N, 3, H, W)`` in [0, 1]; higher is more real."""
        return self.layers(images * 2 - 1)
