"""How good the averaged head is on fixed validation pairs, in figures and as a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from topcoat.files import atomic_path
from topcoat.heads.head import Head
from topcoat.images import contact_sheet
from topcoat.metrics.frechet import GaussianStatistics, frechet_distance
from topcoat.metrics.kernel import kernel_distance
from topcoat.metrics.paired import psnr
from topcoat.training.data import Batch, PairSource, latents_of
from topcoat.training.losses import HasStages, perceptual_loss
from topcoat.training.records import ValidationRecord

BATCH_SIZE = 16
BATCH_PIXELS = 2**20
"""A batch has fewer images where these are large: they are whole, and training may see small crops alone."""
MOST_DB = 100.0
"""PSNR counts no more than this, so that equal images keep the mean finite."""
PICTURED = 8
"""Pairs on the picture."""


@dataclass(frozen=True, slots=True)
class _Score:
    psnr_db: float
    perceptual: float
    embeddings: Tensor | None


class Validator:
    """Scores heads on the first ``limit`` pairs of ``pairs``, whole images, always the same ones."""

    def __init__(
        self,
        pairs: PairSource,
        limit: int,
        features: Callable[[Tensor], HasStages],
        device: torch.device,
        latent_channels: int | None,
    ) -> None:
        """``latent_channels`` are those of `Head.latent_channels`: such a head is given the pairs' latents."""
        chosen = [pairs[index] for index in range(min(limit, len(pairs)))]
        self._images = len(chosen)
        self._features = features
        self._device = device
        self._batches: list[Batch] = []
        # Neighbours of one size share a batch.
        start = 0
        for end in range(1, len(chosen) + 1):
            full = end - start == _batch_size(chosen[start].distilled)
            if end == len(chosen) or full or chosen[end].distilled.shape != chosen[start].distilled.shape:
                group = chosen[start:end]
                x = torch.stack([pair.distilled for pair in group])
                y = torch.stack([pair.baseline for pair in group])
                latents = None
                if latent_channels is not None:
                    latents = torch.stack(
                        [latents_of(pair, start + i, latent_channels) for i, pair in enumerate(group)]
                    )
                self._batches.append(Batch(x, y, latents))
                start = end
        self._no_head = self._score(lambda batch: batch.x)
        self._baseline = self._embeddings(lambda batch: batch.y)
        self._statistics: GaussianStatistics | None = None
        if self._baseline is not None and self._images >= 2:
            self._statistics = GaussianStatistics.of(self._baseline)

    def __call__(self, head: Head) -> ValidationRecord:
        """The scores of ``head``, and of the distilled images, for comparison."""
        score = self._score(lambda batch: _enhanced(head, batch))
        return ValidationRecord(
            images=self._images,
            psnr_db=score.psnr_db,
            perceptual=score.perceptual,
            no_head_psnr_db=self._no_head.psnr_db,
            no_head_perceptual=self._no_head.perceptual,
            set_distance=self._distance(score.embeddings),
            no_head_set_distance=self._distance(self._no_head.embeddings),
            frechet=self._frechet(score.embeddings),
            no_head_frechet=self._frechet(self._no_head.embeddings),
        )

    def picture(self, head: Head, path: Path) -> None:
        """Write the first pairs as rows of distilled, enhanced and baseline images, as PNG."""
        batch = self._batches[0]
        x, z, y = (images[:PICTURED] for images in (batch.x, _enhanced(head, batch).cpu(), batch.y))
        sheet = contact_sheet([("distilled", x), ("enhanced", z), ("baseline", y)])
        with atomic_path(path) as temporary:
            sheet.save(temporary, "PNG")

    @torch.no_grad()
    def _score(self, enhance: Callable[[Batch], Tensor]) -> _Score:
        psnr_db = perceptual = 0.0
        embeddings: list[Tensor] = []
        for batch in self._batches:
            y = batch.y.to(self._device)
            z = enhance(batch).to(self._device)
            psnr_db += float(psnr(z, y).clamp_max(MOST_DB).sum())
            of_z = self._features(z)
            perceptual += float(perceptual_loss(of_z, self._features(y))) * len(z)
            embedding = getattr(of_z, "embedding", None)
            if embedding is not None:
                embeddings.append(embedding.float().cpu())
        return _Score(psnr_db / self._images, perceptual / self._images, torch.cat(embeddings) if embeddings else None)

    @torch.no_grad()
    def _embeddings(self, choose: Callable[[Batch], Tensor]) -> Tensor | None:
        embeddings: list[Tensor] = []
        for batch in self._batches:
            embedding = getattr(self._features(choose(batch).to(self._device)), "embedding", None)
            if embedding is None:
                return None
            embeddings.append(embedding.float().cpu())
        return torch.cat(embeddings)

    def _distance(self, embeddings: Tensor | None) -> float | None:
        if embeddings is None or self._baseline is None or self._images < 2:
            return None
        return kernel_distance(embeddings, self._baseline)

    def _frechet(self, embeddings: Tensor | None) -> float | None:
        if embeddings is None or self._statistics is None:
            return None
        return frechet_distance(self._statistics, GaussianStatistics.of(embeddings))


def _batch_size(image: Tensor) -> int:
    return max(1, min(BATCH_SIZE, BATCH_PIXELS // (image.shape[-2] * image.shape[-1])))


def _enhanced(head: Head, batch: Batch) -> Tensor:
    inputs = batch.x if batch.latents is None else batch.latents
    return head(inputs.to(head.device))
