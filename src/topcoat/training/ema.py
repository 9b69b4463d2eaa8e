"""An exponential moving average of weights, with its half-life in images."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

RAMP_UP = 0.05


def ema_decay(images_seen: int, step_images: int, halflife_images: float) -> float:
    """The factor of the old average for a step of ``step_images`` that ends at ``images_seen``.

    decay = 0.5^(step / halflife). Early on the half-life is at most 5 % of the images seen, so that the first weights
    are soon forgotten (the ramp-up of EDM, arXiv 2206.00364, appendix F.2).
    """
    halflife = min(halflife_images, images_seen * RAMP_UP)
    return 0.5 ** (step_images / max(halflife, 1e-8))


N = TypeVar("N", bound=nn.Module)


class Ema(Generic[N]):
    """Keeps ``network``, a frozen copy whose weights trail those of the trained network."""

    def __init__(self, network: N) -> None:
        self.network: N = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module, decay: float) -> None:
        """average <- decay * average + (1 - decay) * network; buffers are copied."""
        averages: list[Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(averages, list(network.parameters()), 1 - decay)
        for average, current in zip(self.network.buffers(), network.buffers(), strict=True):
            average.copy_(current)
