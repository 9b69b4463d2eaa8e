"""How good the averaged head is on fixed validation pairs, in figures and as a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from topcoat.features import FeatureNetLike, whole
from topcoat.files import atomic_path
from topcoat.heads.head import Head
from topcoat.images import contact_sheet
from topcoat.metrics.frechet import GaussianStatistics, frechet_distance
from topcoat.metrics.kernel import kernel_distance
from topcoat.metrics.paired import MOST_DECIBELS, psnr
from topcoat.training.data import Batch, batch_of
from topcoat.training.decoded import CachedPairs
from topcoat.training.losses import HasStages, perceptual_loss
from topcoat.training.records import ValidationRecord

if TYPE_CHECKING:
    from topcoat.pairs.dataset import Pair

BATCH_SIZE = 16
BATCH_PIXELS = 2**20
"""A batch has fewer images where these are large: they are whole, and training may see small crops alone."""
PICTURED = 8
"""Pairs on the picture."""


class Validator:
    """Scores heads on the first ``limit`` pairs of ``pairs``, whole images, always the same ones."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        limit: int,
        features: Callable[[Tensor], HasStages],
        device: torch.device,
        latent_channels: int | None,
        cache_mebibytes: int = 2_048,
        judge: FeatureNetLike | None = None,
        paired: bool = True,
    ) -> None:
        """``features`` are those of the net for losses; ``judge`` takes its place for the distances of sets.

        Unless ``paired``, the images of a pair show different subjects, and only the distances of sets are measured.

        ``latent_channels`` are those of `Head.latent_channels`: such a head is given the pairs' latents.

        The pairs are kept as 8-bit pixels if they fit in ``cache_mebibytes``, else read each time; only one batch is
        held as floats.
        """
        self._pairs = CachedPairs(pairs, cache_mebibytes, latent_channels, limit=limit)
        self._images = len(self._pairs)
        self._features, self._judge = features, judge
        self._device, self._paired = device, paired
        *_, self._baseline = self._score(lambda batch: batch.y)
        self._no_head = self._scores(lambda batch: batch.x)

    def __call__(self, head: Head) -> ValidationRecord:
        """The scores of ``head``, and of the distilled images, for comparison."""
        scores = self._scores(lambda batch: _enhanced(head, batch))
        no_head = {f"no_head_{name}": score for name, score in self._no_head.items()}
        return ValidationRecord(images=self._images, **scores, **no_head)

    def picture(self, head: Head, path: Path) -> None:
        """Write the first pairs as rows of distilled, enhanced and baseline images, as PNG."""
        batch = next(self._batches())
        x, z, y = (images[:PICTURED] for images in (batch.x, _enhanced(head, batch).cpu(), batch.y))
        sheet = contact_sheet([("distilled", x), ("enhanced", z), ("baseline", y)])
        with atomic_path(path) as temporary:
            sheet.save(temporary, "PNG")

    def _batches(self) -> Iterator[Batch]:
        """All pairs in their order; a batch has neighbours of one size."""
        everything = map(self._pairs.__getitem__, range(self._images))
        for shape, neighbours in groupby(everything, key=lambda pair: pair.pixels.shape):
            while group := list(islice(neighbours, _batch_size(shape))):
                yield batch_of(group)

    def _scores(self, enhance: Callable[[Batch], Tensor]) -> dict[str, Any]:
        """By their names in `ValidationRecord`."""
        psnr_db, perceptual, embeddings = self._score(enhance)
        scores: dict[str, Any] = {"psnr_db": psnr_db, "perceptual": perceptual} if self._paired else {}
        if embeddings is not None and self._baseline is not None and self._images >= 2:
            scores["set_distance"] = kernel_distance(embeddings, self._baseline)
            of_y, of_z = (GaussianStatistics.of(rows) for rows in (self._baseline, embeddings))
            scores["frechet"] = frechet_distance(of_y, of_z)
        return scores

    @torch.no_grad()
    def _score(self, enhance: Callable[[Batch], Tensor]) -> tuple[float, float, Tensor | None]:
        """PSNR and perceptual distance to the baseline, and the embeddings of a net that has them."""
        psnr_db = perceptual = 0.0
        embeddings: list[Tensor] = []
        for batch in self._batches():
            y = batch.y.to(self._device)
            z = enhance(batch).to(self._device)
            psnr_db += float(psnr(z, y).clamp_max(MOST_DECIBELS).sum())
            of_z = self._features(z)
            perceptual += float(perceptual_loss(of_z, self._features(y))) * len(z)
            embedding = getattr(of_z if self._judge is None else whole(self._judge, z), "embedding", None)
            if embedding is not None:
                embeddings.append(embedding.float().cpu())
        return psnr_db / self._images, perceptual / self._images, torch.cat(embeddings) if embeddings else None


def _batch_size(shape: tuple[int, ...]) -> int:
    return max(1, min(BATCH_SIZE, BATCH_PIXELS // (shape[-2] * shape[-1])))


def _enhanced(head: Head, batch: Batch) -> Tensor:
    inputs = batch.x if batch.latents is None else batch.latents
    return head(inputs.to(head.device))
