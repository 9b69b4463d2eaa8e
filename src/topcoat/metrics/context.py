"""What the metrics of one evaluation share: one pass over the images, their features, and the settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TypeVar

import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.features import QualityNet
from topcoat.metrics.base import Metric
from topcoat.metrics.embed import (
    Batch,
    Embeddings,
    FeatureCache,
    FeatureNetLike,
    GrowingTensor,
    ImageBatch,
    Images,
    batches,
)

ARMS = ("enhanced", "reference", "distilled", "gated")
"""Arms of the same subjects, which are read in step."""
MOST_PIXEL_IMAGES = 1000
"""Images of each arm that are kept as bytes: for those who read them more add time, not certainty."""
_MOST_NUMBERS = 2**29
"""Bytes of each arm that are kept at most: 512 MiB."""

_Result = TypeVar("_Result")


@dataclass
class Context:
    """Settings, and what `read` collects: features of every image, and the first images as bytes.

    With ``features`` given, metrics that need no images can do without `read`; ``net`` must have made them.
    """

    net: FeatureNetLike
    net_name: str
    cache: FeatureCache | None = None
    quality: Sequence[QualityNet] = ()
    prompts: Sequence[str] | None = None
    """Of the subjects; filled as they are read, where they come from a dataset."""
    seed: int = 0
    notes: list[str] = field(default_factory=list[str])
    """What was left out, and why."""
    size_px: tuple[int, int] = (0, 0)
    """Height and width."""
    features: dict[str, list[Embeddings]] = field(default_factory=dict[str, list[Embeddings]], repr=False)
    """By arm, in parts."""
    _pixels: dict[str, GrowingTensor] = field(default_factory=dict[str, GrowingTensor], repr=False)

    def read(self, images: dict[str, Images], batch_size: int, metrics: list[Metric]) -> None:
        """Read every arm once and give the batches to the metrics; ``floor`` is read after the others.

        Raises `UsageError` where images are not images, mix sizes, or are fewer than 2.
        """
        for arms in ([name for name in ARMS if name in images], [name for name in images if name not in ARMS]):
            for batch in self._batches({name: batches(images[name], batch_size, name) for name in arms}):
                for metric in metrics:
                    self.attempt(lambda metric=metric, batch=batch: metric.update(batch))
                if any(metric.keeps_pixels for metric in metrics):
                    self._keep_pixels(batch)
        for name in images:
            if self.count(name) < 2:
                raise UsageError(f"{name} hold {'1 image' if self.count(name) else 'no images'}; give 2 or more")

    def attempt(self, measure: Callable[[], _Result]) -> _Result | None:
        """What ``measure`` gives, or None and a note where it needs other or more images."""
        try:
            return measure()
        except UsageError as error:
            self.note(str(error))
            return None

    def note(self, sentence: str) -> None:
        """Say once what was left out."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    @property
    def arms(self) -> list[str]:
        """The arms that are compared with the reference, the identity baseline first."""
        return [name for name in ("distilled", "enhanced", "gated", "floor") if name in self.features]

    @property
    def paired(self) -> bool:
        """Whether enhanced and reference images are of the same subjects: whether there are as many."""
        return self.count("enhanced") == self.count("reference")

    def count(self, arm: str) -> int:
        """Number of images that were read."""
        return sum(map(len, self.features.get(arm, ())))

    def embeddings(self, arm: str) -> Embeddings:
        """Features of all images of an arm that was read."""
        parts = self.features[arm]
        if len(parts) > 1:
            parts[:] = [Embeddings.join(parts)]
        return parts[0]

    def pixels(self, arm: str) -> Tensor:
        """The first ``(K, 3, H, W)`` images of an arm as bytes, at most 1,000; for metrics with `keeps_pixels`."""
        return self._pixels[arm].rows

    def _batches(self, streams: dict[str, Iterator[Tensor]]) -> Iterator[Batch]:
        for images in zip_longest(*streams.values()):
            batch = {
                name: ImageBatch(part, self.net, self.cache)
                for name, part in zip(streams, images, strict=True)
                if part is not None
            }
            for name, part in batch.items():
                if "reference" in batch:
                    (height, width), own = batch["reference"].images.shape[-2:], part.images.shape[-2:]
                    self.size_px = height, width
                    if own != self.size_px:
                        raise UsageError(
                            f"{name} and reference images are of different sizes ({own[1]}x{own[0]} and "
                            f"{width}x{height} px); resize them to one size first"
                        )
                self.features.setdefault(name, []).append(part.embeddings)
            yield batch

    def _keep_pixels(self, batch: Batch) -> None:
        for name, part in batch.items():
            column = self._pixels.setdefault(name, GrowingTensor())
            room = min(MOST_PIXEL_IMAGES, _MOST_NUMBERS // part.images[0].numel()) - len(column)
            if room > 0:
                column.add((part.images[:room].clamp(0, 1) * 255).round().to(torch.uint8))
