"""Pairs whose latents are those that a refiner is to change: of what its painter makes of the distilled image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from topcoat.heads.refiner import Refiner
from topcoat.training.batches import ChangedPairs, ImagePair, PairSource


@dataclass(frozen=True, slots=True)
class PaintedPair:
    """A pair with the latents of the painter's image in the place of the distilled model's."""

    distilled: Tensor
    baseline: Tensor
    latents: Tensor
    baseline_latents: Tensor | None


class PaintedPairs(ChangedPairs):
    """``pairs`` as ``refiner`` paints them, which is not trained meanwhile; a pair is painted whenever it is read."""

    def __init__(self, pairs: PairSource, refiner: Refiner) -> None:
        super().__init__(pairs)
        self._refiner = refiner

    @torch.no_grad()
    def __getitem__(self, index: int, /) -> PaintedPair:
        pair: ImagePair = self._pairs[index]
        device = next(self._refiner.parameters()).device
        images = pair.distilled[None].to(device).contiguous(memory_format=torch.channels_last)
        latents = self._refiner.painted(images)[0].float().cpu()
        return PaintedPair(pair.distilled, pair.baseline, latents, getattr(pair, "baseline_latents", None))
