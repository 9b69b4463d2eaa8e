"""How good the averaged head is on fixed validation pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from topcoat.heads.base import Head
from topcoat.training.batches import PairSource
from topcoat.training.losses import HasStages, perceptual_loss
from topcoat.training.records import ValidationRecord

BATCH_SIZE = 16


@dataclass(frozen=True, slots=True)
class _Score:
    psnr_db: float
    perceptual: float


class Validator:
    """Scores heads on the first ``limit`` pairs of ``pairs``, whole images, always the same ones."""

    def __init__(
        self, pairs: PairSource, limit: int, features: Callable[[Tensor], HasStages], device: torch.device
    ) -> None:
        chosen = [pairs[index] for index in range(min(limit, len(pairs)))]
        self._images = len(chosen)
        self._features = features
        self._device = device
        self._batches: list[tuple[Tensor, Tensor]] = []
        # Neighbours of one size share a batch.
        start = 0
        for end in range(1, len(chosen) + 1):
            full = end - start == BATCH_SIZE
            if end == len(chosen) or full or chosen[end].distilled.shape != chosen[start].distilled.shape:
                group = chosen[start:end]
                x = torch.stack([pair.distilled for pair in group])
                self._batches.append((x, torch.stack([pair.baseline for pair in group])))
                start = end
        self._do_nothing = self._score(lambda x: x)

    def __call__(self, head: Head) -> ValidationRecord:
        """The scores of ``head``, with those of doing nothing beside them."""
        score = self._score(head)
        return ValidationRecord(
            images=self._images,
            psnr_db=score.psnr_db,
            perceptual=score.perceptual,
            do_nothing_psnr_db=self._do_nothing.psnr_db,
            do_nothing_perceptual=self._do_nothing.perceptual,
        )

    @torch.no_grad()
    def _score(self, enhance: Callable[[Tensor], Tensor]) -> _Score:
        psnr_db = perceptual = 0.0
        for x, y in self._batches:
            x, y = x.to(self._device), y.to(self._device)
            z = enhance(x)
            # 10 log10(1 / MSE) per image, with at most 100 dB so that equal images keep the mean finite.
            error = (z - y).double().square().mean(dim=(1, 2, 3)).clamp_min(1e-10)
            psnr_db += float((-10 * torch.log10(error)).sum())
            perceptual += float(perceptual_loss(self._features(z), self._features(y))) * len(x)
        return _Score(psnr_db / self._images, perceptual / self._images)
