"""What every kind of head has in common: its settings, and how its network is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from topcoat.config import StrictModel
from topcoat.errors import UsageError
from topcoat.images import check_images, crop_to, pad_to_multiple

if TYPE_CHECKING:
    from typing_extensions import Self

    from topcoat.generators.vae import Vae, VaeDecoder
    from topcoat.heads.latent_unet import LatentUNet, LatentUNetConfig

Input = Literal["image", "latent"]
"""What a head is given: a distilled image, or the latents from which the distilled model would decode it."""


class Network(nn.Module):
    """A head's network; each kind says in `enhance` how its output becomes an image."""

    config: Any  # of its own kind

    def enhance(self, inputs: Tensor, strength: float = 1.0) -> Tensor:
        """Images ``(N, 3, H, W)`` of images or latents, about [0, 1] but not clamped; gradients pass through."""
        raise NotImplementedError

    @property
    def latent_part(self) -> LatentUNet | None:
        """What changes latents in it, as `HeadConfig.latent_part`."""
        return None

    def latents_of(self, images: Tensor) -> Tensor:
        """The latents that a kind with `HeadConfig.training_latents` makes by itself of distilled images."""
        raise NotImplementedError

    def adopt(self, vae: Vae, base: Network | None) -> None:
        """Take over the weights that are not trained: of ``vae``, and of the head ``base`` that works before this one.

        Raises `UsageError` for a kind that needs a ``base`` and is given none.
        """
        raise NotImplementedError


class ImageNetwork(Network):
    """Its ``forward`` maps images ``(N, 3, H, W)`` to the change to add: z = x + strength * network(x)."""

    def enhance(self, inputs: Tensor, strength: float = 1.0) -> Tensor:
        """``inputs`` ``(N, 3, H, W)`` of any size plus ``strength`` times their change."""
        padded, size = pad_to_multiple(inputs, self.config.pad_multiple(*inputs.shape[-2:]))
        change = self(padded.contiguous(memory_format=torch.channels_last))
        return inputs + strength * (change if padded is inputs else crop_to(change, size))


class HeadConfig(StrictModel):
    """Settings of a head's network. A kind has a field ``kind`` of one literal, its name, with that as default."""

    input: ClassVar[Input] = "image"
    has_strength: ClassVar[bool] = True
    """Whether the change can be scaled, 0 being the distilled image."""
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """What ``size`` in a settings file stands for."""

    @model_validator(mode="before")
    @classmethod
    def _of_size(cls, data: Any) -> Any:
        if not cls.sizes or not isinstance(data, dict) or "size" not in data:
            return data
        given = {name: value for name, value in data.items() if name != "size"}
        size = data["size"]
        if size not in cls.sizes:
            settings = " and ".join(next(iter(cls.sizes.values())))
            raise ValueError(f"size is {size!r}; use one of {', '.join(cls.sizes)}, or give {settings}")
        return {**cls.sizes[size], **given}

    @classmethod
    def name(cls) -> str:
        """The kind."""
        return cls.model_fields["kind"].default

    @property
    def latent_part(self) -> LatentUNetConfig | None:
        """The settings of what changes latents in this kind."""
        return None

    @property
    def training_latents(self) -> int | None:
        """Channels of the latents that this kind trains on; None where it trains on images."""
        return None

    def with_vae(self, decoder: VaeDecoder) -> Self:
        """These settings with ``decoder``'s VAE in the latent part, where there is one."""
        return self

    @property
    def size_multiple(self) -> int:
        """The network takes images whose height and width are multiples of this; for latents, of its output."""
        raise NotImplementedError

    @property
    def smallest_px(self) -> int:
        """The network needs images with at least this height and width; a multiple of ``size_multiple``."""
        return self.size_multiple

    @property
    def halo_px(self) -> int | None:
        """What a tile needs around it so that its result is the whole picture's; None where only the whole will do."""
        return None

    def build(self) -> Network:
        """A fresh network; its weights come from torch's global generator."""
        raise NotImplementedError

    def checked(self, inputs: Tensor) -> Tensor:
        """``inputs`` unchanged if this kind can be given them; raises `UsageError` saying what they are instead."""
        return check_images(inputs)

    def pad_multiple(self, height_px: int, width_px: int) -> int:
        """The multiple to pad an image of this size to."""
        return self.smallest_px if min(height_px, width_px) < self.smallest_px else self.size_multiple

    def input_shape(self, width_px: int, height_px: int) -> tuple[int, int, int]:
        """``(C, H, W)`` of what the network is given for one image of ``width_px`` x ``height_px``, padded."""
        return (3, self._padded(height_px), self._padded(width_px))

    def _padded(self, side_px: int) -> int:
        least = max(side_px, self.smallest_px)
        return -(-least // self.size_multiple) * self.size_multiple

    def parameters(self) -> int:
        """Number of the network's parameters; no weights are made."""
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in self.build().parameters())

    def flops(self, width_px: int, height_px: int) -> int:
        """FLOP of one image of ``width_px`` x ``height_px``, padded; 2 per multiply-add.

        Counted on the meta device: convolutions and matrix products; activations and normalisation are not.
        """
        with torch.device("meta"):
            network, inputs = self.build().eval(), torch.empty(1, *self.input_shape(width_px, height_px))
        return count_flops(network, inputs)


class LatentHeadConfig(HeadConfig):
    """Settings of a head that decodes latents ``(N, latent_channels, h, w)`` to images ``scale`` times as large."""

    input: ClassVar[Input] = "latent"
    has_strength: ClassVar[bool] = False
    """A head that decodes by itself has no distilled image to go back to."""
    latent_channels: int

    @property
    def training_latents(self) -> int:
        """Those that it is given."""
        return self.latent_channels

    @property
    def scale(self) -> int:
        """Pixels per latent along a side."""
        raise NotImplementedError

    @property
    def size_multiple(self) -> int:
        """One latent."""
        return self.scale

    def input_shape(self, width_px: int, height_px: int) -> tuple[int, int, int]:
        """``(C, h, w)`` of the latents of one image."""
        return (self.latent_channels, self._padded(height_px) // self.scale, self._padded(width_px) // self.scale)

    def checked(self, inputs: Tensor) -> Tensor:
        """``inputs`` unchanged if they are finite floats ``(N, C, h, w)`` with this kind's channels."""
        required = f"(N, {self.latent_channels}, h, w)"
        if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
            given = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
            raise UsageError(f"this head decodes latents, not {given}; give floats {required}")
        shape = tuple(inputs.shape)
        if len(shape) != 4 or 0 in shape:
            raise UsageError(f"this head decodes latents, but was given the shape {shape}; give {required}")
        if shape[1] != self.latent_channels:
            hint = "; these may be images, use a head that takes them" if shape[1] == 3 else ""
            raise UsageError(f"this head decodes latents of {self.latent_channels} channels, not {shape[1]}{hint}")
        if not bool(torch.isfinite(inputs).all()):
            raise UsageError("the latents hold NaN or infinite values; give finite ones, as the denoiser leaves them")
        return inputs


def count_flops(network: nn.Module, inputs: Tensor) -> int:
    """FLOP of ``network`` on ``inputs``, both on the meta device."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(inputs)
    return int(counter.get_total_flops())


def channels_last(network: nn.Module) -> nn.Module:
    """The same network with its weights laid out channels-last, which is twice as fast on a CPU; results stay."""
    for weights in (*network.parameters(), *network.buffers()):
        if weights.ndim == 4:  # those of video VAEs have a dimension more
            weights.data = weights.data.contiguous(memory_format=torch.channels_last)
    return network
