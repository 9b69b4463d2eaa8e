"""Pairs whose target is what another head makes of the distilled image: one head learns from another.

A head that changes latents finds its way from a good head of images sooner than from baseline images: what the teacher
makes of x follows from x, while y has details that x says nothing of.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from topcoat.heads.head import Head
from topcoat.heads.network import LatentHeadConfig
from topcoat.training.batches import ChangedPairs, ImagePair, PairSource, latents_of


@dataclass(frozen=True, slots=True)
class TaughtPair:
    """A pair with the teacher's image in place of the baseline's."""

    distilled: Tensor
    baseline: Tensor
    latents: Tensor | None


class TaughtPairs(ChangedPairs):
    """``pairs`` as ``teacher`` would have them; a pair is enhanced whenever it is read.

    A teacher that takes latents needs pairs with latents: `DataError` where they have none.
    """

    def __init__(self, pairs: PairSource, teacher: Head) -> None:
        super().__init__(pairs)
        self._teacher = teacher

    def __getitem__(self, index: int, /) -> TaughtPair:
        pair: ImagePair = self._pairs[index]
        config = self._teacher.config
        given = (
            latents_of(pair, index, config.latent_channels) if isinstance(config, LatentHeadConfig) else pair.distilled
        )
        return TaughtPair(pair.distilled, self._teacher(given[None])[0], getattr(pair, "latents", None))
