"""The latent head: changes the distilled model's latents, then decodes them with that model's own VAE decoder.

Baseline images come out of a VAE decoder too. What a head makes itself carries marks that no baseline image has - of
its own enlargement, of its borders - too faint to see and plain to a network. An image of the same decoder carries that
decoder's marks and no others. At the size of the latents a position holds 8x8 pixels, so the network costs little; the
decoding is what the distilled model would have done anyway. And its strength is free: 0 is the distilled image.

The change has a gain and a sum: z = l + strength (gain l + sum). In flat areas a distilled model's latents hold
noise that its clipped whites and blacks hide; a gain of -1 takes it away at once, where a sum would have to know its
every value.

The decoder's weights are part of the head and never trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from topcoat.errors import UsageError
from topcoat.generators.vae import Vae, VaeDecoder
from topcoat.heads.layers import icnr, initialise, pixel_shuffle, stage, through_scales
from topcoat.heads.network import LatentHeadConfig, Network, count_flops


class LatentUNetConfig(LatentHeadConfig):
    """Shape of a `LatentUNet`; by default 0.99 M trained parameters, 0.24 GFLOP per 128x128 image without decoding.

    ``channels`` holds one width per scale, from the latents' size on; each scale has half the side of the one before.
    """

    has_strength: ClassVar[bool] = True
    """Without its change it decodes the distilled image."""
    kind: Literal["latent-unet"] = "latent-unet"
    latent_channels: int = Field(default=16, ge=1, le=256)
    channels: Annotated[tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(min_length=1, max_length=6)] = (64, 128)
    blocks_per_stage: int = Field(default=2, ge=1, le=16)
    cbam: bool = True
    vae: Mapping[str, Any] | None = None
    """The settings of the VAE that decodes, as `VaeDecoder.config` has them; training puts in the distilled model's."""
    vae_scale: int = Field(default=8, ge=1, le=64)
    """Pixels per latent along a side."""

    @property
    def latent_part(self) -> LatentUNetConfig:
        """All of it."""
        return self

    def with_vae(self, decoder: VaeDecoder) -> LatentUNetConfig:
        """These settings with ``decoder``'s VAE."""
        vae = {"vae": decoder.config, "latent_channels": decoder.latent_channels, "vae_scale": decoder.scale}
        return self.model_copy(update=vae)

    @property
    def scale(self) -> int:
        """Pixels per latent along a side."""
        return self.vae_scale

    def build(self) -> LatentUNet:
        """See `HeadConfig.build`."""
        return LatentUNet(self)


class LatentUNet(Network):
    """Maps latents ``(N, C, h, w)`` to images ``(N, 3, scale h, scale w)``, about [0, 1] but without bounds."""

    def __init__(self, config: LatentUNetConfig) -> None:
        super().__init__()
        if config.vae is None:
            raise UsageError(
                "this latent-unet does not say which VAE decodes; train it with that VAE, or give head.vae"
            )
        self.config = config
        self.change = _Change(config)
        self.decoder = VaeDecoder(config.vae)

    @property
    def latent_part(self) -> LatentUNet:
        """All of it."""
        return self

    def forward(self, latents: Tensor, strength: float = 1.0) -> Tensor:
        """The images of ``latents`` and of ``strength`` times the change; h and w of any size."""
        return self.decoder(self.changed(latents, strength))

    def adopt(self, vae: Vae, base: Network | None) -> None:
        """Take over the VAE's decoder; raises `UsageError` for a ``base``, which nothing here is."""
        if base is not None:
            raise UsageError(
                f"the head to start from is a {base.config.name()} of other settings than the run's latent-unet; "
                "give a latent-unet, or none"
            )
        self.decoder.load_state_dict(vae.decoder.state_dict())

    def enhance(self, inputs: Tensor, strength: float = 1.0) -> Tensor:
        """`forward`."""
        return self(inputs, strength)

    def changed(self, latents: Tensor, strength: float = 1.0) -> Tensor:
        """The latents that are decoded, of the shape of ``latents``."""
        return latents + strength * self.change(latents)


def change_flops(config: LatentUNetConfig, width_px: int, height_px: int) -> int:
    """FLOP of the change of one image's latents, without their decoding; 2 per multiply-add."""
    with torch.device("meta"):
        change, latents = _Change(config), torch.empty(1, *config.input_shape(width_px, height_px))
    return count_flops(change, latents)


class _Change(nn.Module):
    """What to add to latents: a residual U-Net with CBAM, as `topcoat.heads.unet.UNet` without its stem for pixels."""

    def __init__(self, config: LatentUNetConfig) -> None:
        super().__init__()
        widths, blocks = config.channels, config.blocks_per_stage
        self.stem = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(stage(width, blocks, config.cbam) for width in widths[:-1])
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths))
        self.middle = stage(widths[-1], blocks, config.cbam)
        self.up = nn.ModuleList(nn.Conv2d(coarse, 4 * fine, 1) for fine, coarse in pairwise(widths))
        self.later = nn.ModuleList(stage(width, blocks, config.cbam) for width in widths[:-1])
        self.out = nn.Conv2d(widths[0], 2 * config.latent_channels, 3, padding=1)
        initialise(self)
        icnr(self.up)
        nn.init.zeros_(self.out.weight)

    def forward(self, latents: Tensor) -> Tensor:
        """What to add to ``latents`` ``(N, C, h, w)`` of any size, of the same shape."""
        height, width = latents.shape[-2:]
        multiple = 2 ** len(self.down)
        padded = F.pad(latents, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        hidden = through_scales(
            self.stem(padded),
            self.encoder,
            self.down,
            self.middle,
            reversed(self.up),
            reversed(self.later),
            pixel_shuffle,
        )
        sums, gains = self.out(hidden)[..., :height, :width].chunk(2, dim=1)
        return gains * latents + sums
