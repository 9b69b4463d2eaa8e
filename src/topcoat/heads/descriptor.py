"""What a caller may need to know of a head without running it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from topcoat.heads.network import HeadConfig, Input, LatentHeadConfig
from topcoat.heads.registry import build_network


@dataclass(frozen=True, slots=True)
class HeadDescriptor:
    """What a caller may need to know of a head."""

    config: HeadConfig
    """The network's settings."""
    parameters: int

    @property
    def name(self) -> str:
        """Its kind, as in `topcoat.heads.registry.KINDS`."""
        return self.config.kind

    @property
    def takes(self) -> Input:
        """Images, or latents in place of the VAE decoder."""
        return self.config.takes

    @property
    def has_strength(self) -> bool:
        """Whether the change can be scaled, 0 being the distilled image."""
        return self.config.has_strength

    @property
    def size_multiple(self) -> int:
        """The network's own granularity in pixels; `Head` pads, so callers need not care."""
        return self.config.size_multiple

    @property
    def latent_channels(self) -> int | None:
        """Channels of the latents that a head takes; None for images."""
        return self.config.latent_channels if isinstance(self.config, LatentHeadConfig) else None

    def flops(self, width_px: int, height_px: int) -> int:
        """FLOP of one image of ``width_px`` x ``height_px``, padded as `Head` pads; 2 per multiply-add.

        Counted on the meta device: convolutions and matrix products; activations and normalisation are not.
        """
        with torch.device("meta"):
            network = build_network(self.config).eval()
            inputs = torch.empty(1, *self.config.input_shape(width_px, height_px))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(inputs)
        return int(counter.get_total_flops())


def describe(config: HeadConfig) -> HeadDescriptor:
    """The descriptor of what ``config`` would build."""
    with torch.device("meta"):
        network = build_network(config)
    return HeadDescriptor(config, sum(parameter.numel() for parameter in network.parameters()))
