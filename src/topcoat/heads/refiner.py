"""The refiner: another head's image is sent through the distilled model's VAE, and its latents are corrected there.

Encoded and decoded again, an image carries the marks of the VAE's decoder, as the baseline's own do, and none of that
head's up-sampling and borders. What the VAE loses of the baseline's look, a small network changes in the latents
between. It takes any image: pairs without latents are enough to train it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.generators.vae import Vae, VaeDecoder, VaeEncoder
from topcoat.heads.latent_unet import LatentUNet, LatentUNetConfig
from topcoat.heads.nafnet import NAFNetConfig
from topcoat.heads.network import HeadConfig, ImageNetwork, Network
from topcoat.heads.unet import UNetConfig
from topcoat.images import crop_to, pad_to_multiple


class RefinerConfig(HeadConfig):
    """Shape of a `Refiner`: ``painter``, the head of images before it, and what changes its latents and decodes them.

    Of the default 0.99 M parameters are trained; the 1.00 M of ``painter`` and both halves of the VAE are not.
    """

    kind: Literal["refiner"] = "refiner"
    painter: Annotated[UNetConfig | NAFNetConfig, Field(discriminator="kind")] = UNetConfig()
    latent: LatentUNetConfig = LatentUNetConfig()

    @property
    def latent_part(self) -> LatentUNetConfig:
        """What changes the latents."""
        return self.latent

    @property
    def training_latents(self) -> int:
        """Of what the painter makes."""
        return self.latent.latent_channels

    def with_vae(self, decoder: VaeDecoder) -> RefinerConfig:
        """These settings with ``decoder``'s VAE."""
        return self.model_copy(update={"latent": self.latent.with_vae(decoder)})

    @property
    def size_multiple(self) -> int:
        """The side of a latent; what the painter needs beyond it is padded inside."""
        return self.latent.vae_scale

    @property
    def smallest_px(self) -> int:
        """What the painter needs, in whole latents."""
        return -(-self.painter.smallest_px // self.size_multiple) * self.size_multiple

    def build(self) -> Refiner:
        """See `HeadConfig.build`."""
        return Refiner(self)


class Refiner(ImageNetwork):
    """Maps images ``(N, 3, H, W)`` in [0, 1] to the change to add to them, of the same shape and without bounds.

    H and W are multiples of ``config.size_multiple``. Strength 0 is the image itself, not the VAE's idea of it.
    """

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        if config.latent.vae is None:
            raise UsageError(
                "this refiner does not say which VAE it works with; train it with that VAE, or give head.latent.vae"
            )
        self.config = config
        self.painter = config.painter.build()
        self.encoder = VaeEncoder(config.latent.vae)
        self.latent = LatentUNet(config.latent)

    @property
    def latent_part(self) -> LatentUNet:
        """What changes the latents, and decodes them."""
        return self.latent

    def forward(self, images: Tensor) -> Tensor:
        """The change to add to ``images`` ``(N, 3, H, W)``, of the same shape."""
        return self.latent(self.latents_of(images)) - images

    def latents_of(self, images: Tensor) -> Tensor:
        """The latents ``(N, C, H / scale, W / scale)`` of what the painter makes of ``images``; these are changed."""
        padded, size = pad_to_multiple(images, self.config.painter.size_multiple)
        return self.encoder((images + crop_to(self.painter(padded), size)).clamp(0, 1))

    def adopt(self, vae: Vae, base: Network | None) -> None:
        """Take over the painter, which is ``base``, and both halves of the VAE."""
        if base is None:
            raise UsageError(
                "a refiner needs a trained head of images to start from; give its folder (--init-from, or init_from in "
                "Python)"
            )
        if base.config != self.config.painter:
            raise UsageError(
                f"the head to start from is a {base.config.name()} of other settings than the run's head.painter; give "
                "head.painter the settings in that head's config.json"
            )
        self.painter.load_state_dict(base.state_dict())
        self.encoder.load_state_dict(vae.encoder.state_dict())
        self.latent.adopt(vae, None)
