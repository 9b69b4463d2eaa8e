"""The latent head: changes the distilled model's latents, then decodes them with that model's own VAE decoder.

Baseline images come out of a VAE decoder too, so an image of the same decoder carries no marks that they lack, as a
head's own enlargement leaves them. The change is z = l + strength (gain l + sum): in flat areas a distilled model's
latents hold noise that clipped whites and blacks hide, and a gain of -1 takes it away where a sum would have to know
its every value. Strength 0 is the distilled image. The decoder's weights are part of the head and never trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from topcoat.errors import UsageError
from topcoat.generators.vae import Vae, VaeDecoder
from topcoat.heads.layers import ResidualUNet
from topcoat.heads.network import LatentHeadConfig, Network, count_flops
from topcoat.heads.window import window_field


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
    attention_window_px: int = window_field()
    """CBAM's pooling looks so far, half of it to each side, see `topcoat.heads.window`."""
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


class _Change(ResidualUNet):
    """What to add to latents."""

    def __init__(self, config: LatentUNetConfig) -> None:
        channels = config.latent_channels
        window = config.attention_window_px / config.vae_scale if config.cbam else None
        super().__init__(channels, 2 * channels, config.channels, config.blocks_per_stage, cbam=window, later="later")

    def forward(self, latents: Tensor) -> Tensor:
        """What to add to ``latents`` ``(N, C, h, w)`` of any size, of the same shape."""
        height, width = latents.shape[-2:]
        multiple = 2 ** len(self.down)
        padded = F.pad(latents, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        sums, gains = self.through(padded)[..., :height, :width].chunk(2, dim=1)
        return gains * latents + sums
