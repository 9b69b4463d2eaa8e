"""What every kind of head has in common."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from topcoat.config import StrictModel

Input = Literal["image", "latent"]
"""What a head takes: a distilled image, or the latents from which the distilled model would decode it."""


class HeadConfig(StrictModel):
    """Settings of a head's network. Subclasses narrow ``kind`` to one literal and say what sizes they take."""

    kind: str

    @property
    def takes(self) -> Input:
        """``image`` unless a kind says otherwise."""
        return "image"

    @property
    def has_strength(self) -> bool:
        """Whether its change can be scaled, 0 being the distilled image. True unless a kind says otherwise."""
        return True

    @property
    def size_multiple(self) -> int:
        """The network takes images whose height and width are multiples of this; for latents, of its output."""
        raise NotImplementedError

    @property
    def smallest_px(self) -> int:
        """The network needs images with at least this height and width; a multiple of ``size_multiple``."""
        return self.size_multiple

    def input_shape(self, width_px: int, height_px: int) -> tuple[int, int, int]:
        """``(C, H, W)`` of what the network is given for one image of ``width_px`` x ``height_px``, padded."""
        return (3, self._padded(height_px), self._padded(width_px))

    def _padded(self, side_px: int) -> int:
        least = max(side_px, self.smallest_px)
        return -(-least // self.size_multiple) * self.size_multiple


class LatentHeadConfig(HeadConfig):
    """Settings of a head that decodes latents ``(N, latent_channels, h, w)`` to images ``scale`` times as large."""

    latent_channels: int

    @property
    def takes(self) -> Input:
        """``latent``."""
        return "latent"

    @property
    def has_strength(self) -> bool:
        """False: such a head paints, and has no image to go back to. Where it is True the network takes a strength."""
        return False

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


def channels_last(network: nn.Module) -> nn.Module:
    """The same network with its weights laid out channels-last, which is twice as fast on a CPU; results stay."""
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (missing in torch's stubs)
