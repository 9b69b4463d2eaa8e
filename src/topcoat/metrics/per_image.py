"""Metrics that are means over images, with their bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.metrics.base import Interval, Metric, Score
from topcoat.metrics.context import Context
from topcoat.metrics.embed import Batch, ImageBatch
from topcoat.metrics.growing import GrowingTensor

LEVEL = 0.95
RESAMPLES = 1000
_BLOCK_NUMBERS = 2**22


def mean_interval(values: Tensor, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The mean of ``(N,)`` values with its 95 % percentile bootstrap interval, seeded; N >= 2.

    In blocks of resamples, so that memory does not grow with N as that of `scipy.stats.bootstrap` does.
    """
    values = values.detach().to("cpu", torch.float64)
    if values.ndim != 1 or len(values) < 2:
        raise UsageError(f"an interval needs 2 or more values (N,), not {tuple(values.shape)}")
    generator = torch.Generator().manual_seed(seed)
    means: list[Tensor] = []
    block = max(1, _BLOCK_NUMBERS // len(values))
    for start in range(0, resamples, block):
        picks = torch.randint(len(values), (min(block, resamples - start), len(values)), generator=generator)
        means.append(values[picks].mean(dim=1))
    ends = torch.cat(means).quantile(torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64))
    return Interval(float(values.mean()), float(ends[0]), float(ends[1]))


class MeanMetric(Metric):
    """The mean of one or more numbers per image, with its interval; images without a number (NaN) are left out."""

    labels: Mapping[str, str] = MappingProxyType({})
    """Labels of the scores of a metric that has more than one."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._values: dict[tuple[str, str], GrowingTensor] = {}

    def add(self, arm: str, values: Tensor, name: str = "") -> None:
        """Add ``(B,)`` numbers of an arm, for the score ``name``."""
        self._values.setdefault((name or self.name, arm), GrowingTensor()).add(values)

    def values(self, arm: str, name: str = "") -> Tensor | None:
        """All ``(N,)`` numbers of an arm, or None where there are none."""
        column = self._values.get((name or self.name, arm))
        return None if column is None else column.rows

    def compute(self) -> list[Score]:
        """The means, in the order in which their numbers came."""
        scores: list[Score] = []
        for (name, arm), column in self._values.items():
            usable = column.rows[column.rows.isfinite()]
            if len(usable) >= 2:
                mean = mean_interval(usable, seed=self.context.seed)
                scores.append(self.score(arm, mean, len(usable), name, self.labels.get(name, "")))
        return scores


class PairedMetric(MeanMetric):
    """The mean over subjects of `measure`, image against the reference of the same subject."""

    family = "paired"
    needs = frozenset({"pairs"})

    def measure(self, images: ImageBatch, reference: ImageBatch) -> Tensor | Mapping[str, Tensor]:
        """``(B,)`` numbers of two batches of one shape, or several by the names of their scores."""
        raise NotImplementedError

    def update(self, batch: Batch) -> None:
        """Measure every arm against the reference."""
        reference = batch.get("reference")
        if reference is None:
            return
        for arm, images in batch.items():
            if arm != "reference" and len(images) == len(reference):
                measured = self.measure(images, reference)
                for name, values in ({"": measured} if isinstance(measured, Tensor) else measured).items():
                    self.add(arm, values, name)
