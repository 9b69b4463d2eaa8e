"""Share of the gap closed: how much of the way from the distilled to the baseline model a head has gone.

``gap_closed = (d(x, y) - d(z, y)) / (d(x, y) - d(y', y))`` with x distilled, z enhanced, y baseline and y' the baseline
at other seeds; d is the Fréchet distance. 0 is the identity baseline (no head), 1 is as near as the baseline is to
itself. More than 1 is possible: x, z and y share prompts *and* seeds, y' shares only the prompts.

Intervals are bootstraps over subjects; a subject is drawn with all its images (x, z, y and, where there are as many,
y'). A resample repeats subjects, which makes every Fréchet distance larger by its bias at this N; so the resampled
distances are moved until their mean is the measured distance, and the percentiles are taken of those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.metrics.base import LEVEL, Flag, Interval, Metric, Score, score_of
from topcoat.metrics.frechet import (
    GaussianStatistics,
    covariance_root,
    frechet_distance,
    gaussian_distance,
    one_thread,
)

RESAMPLES = 200
_BLOCK = 50
"""Resamples worked on at once: bounds memory at about _BLOCK * D * D float64 numbers per set."""

_OUTER_NUMBERS = 2**22
"""Numbers of the subjects' outer products that are held at once (32 MiB)."""
_WIDE = 256
_RESAMPLES_OF_WIDE = 50
"""Bootstrap draws for features of more than 256 dimensions: each draw takes eigenvalues of D x D matrices."""


@dataclass(frozen=True, slots=True)
class GapClosed:
    """Share of the gap closed and the distances it is made of."""

    share: Interval | None
    """None where there is no gap to close: the distilled set is as near to the baseline as the baseline is to itself,
    or so nearly that the interval has no end."""
    distilled: Interval
    enhanced: Interval
    floor: Interval


def gap_closed(
    distilled: Tensor,
    enhanced: Tensor,
    baseline: Tensor,
    floor: Tensor,
    *,
    extrapolated: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> GapClosed:
    """Share of the gap closed from features ``(N, D)`` of x, z, y (same subjects, same order) and ``(M, D)`` of y'.

    ``resamples`` >= 10 bootstrap draws, seeded with ``seed``. With M == N row i of ``floor`` is taken as the same
    prompt as row i of the others and drawn with it; otherwise it is drawn by itself. Raises `UsageError` for sets that
    do not fit together or are smaller than 2.

    ``extrapolated`` takes away the distances' bias in 1/N (Chong and Forsyth 2020, arXiv 1911.07023), which is largest
    for the floor, by one step of Richardson's extrapolation: ``2 d(N) - d(N/2)``, the last the mean of both halves
    (even and odd rows), never below 0. All four sets must be ``(N, D)`` with N >= 2 D, of the same prompts in the same
    order; draws stay within the halves.
    """
    _check(distilled, enhanced, baseline, floor, resamples)
    least = 2 * baseline.shape[1]
    if extrapolated and (len(floor) != len(baseline) or len(baseline) < least):
        raise UsageError(f"extrapolation needs the same {least} or more subjects in every set, not {len(baseline)}")
    x, z, y, y2 = (part.detach().to("cpu", torch.float64) for part in (distilled, enhanced, baseline, floor))
    halves = (torch.arange(0, len(y), 2), torch.arange(1, len(y), 2))

    def distances(weights: Tensor, floor_weights: Tensor) -> Tensor:
        whole = _distances((x, z, y2), y, weights, floor_weights)
        if not extrapolated:
            return whole
        parts = [
            _distances((x[rows], z[rows], y2[rows]), y[rows], weights[:, rows], weights[:, rows]) for rows in halves
        ]
        return 2 * whole - (parts[0] + parts[1]) / 2

    def resampled(count: int) -> Tensor:
        if not extrapolated:
            weights = _draw(count, len(y), generator)
            return distances(weights, weights if len(y2) == len(y) else _draw(count, len(y2), generator))
        weights = torch.empty(count, len(y), dtype=torch.float64)
        for rows in halves:
            weights[:, rows] = _draw(count, len(rows), generator)
        return distances(weights, weights)

    generator = torch.Generator().manual_seed(seed)
    with one_thread():
        once = torch.ones(1, len(y), dtype=torch.float64), torch.ones(1, len(y2), dtype=torch.float64)
        value = distances(*once)[:, 0].clamp_min(0)
        blocks = (min(_BLOCK, resamples - start) for start in range(0, resamples, _BLOCK))
        samples = torch.cat([resampled(count) for count in blocks], dim=1)
    return _result(value, samples)


def _result(value: Tensor, samples: Tensor) -> GapClosed:
    """Shares and intervals from the three distances ``(3,)`` and those of the resamples ``(3, B)``."""
    samples = (samples + value.unsqueeze(1) - samples.mean(dim=1, keepdim=True)).clamp_min(0)
    parts = [Interval(float(value[row]), *_range(samples[row])) for row in range(3)]
    gap = value[0] - value[2]
    if gap <= 0:
        return GapClosed(None, *parts)
    gaps = samples[0] - samples[2]
    # A resample without a gap says that the share is unbounded there; it must widen the interval, not vanish from it.
    shares = torch.where(gaps > 0, (samples[0] - samples[1]) / gaps, torch.sign(samples[0] - samples[1]) * torch.inf)
    low, high = _range(shares)
    if not (abs(low) < float("inf") and abs(high) < float("inf")):
        return GapClosed(None, *parts)
    return GapClosed(Interval(float((value[0] - value[1]) / gap), low, high), *parts)


def _check(distilled: Tensor, enhanced: Tensor, baseline: Tensor, floor: Tensor, resamples: int) -> None:
    shapes = [tuple(part.shape) for part in (distilled, enhanced, baseline, floor)]
    if any(len(shape) != 2 for shape in shapes) or len({shape[1] for shape in shapes}) != 1:
        raise UsageError(f"features must all have shape (N, D) with one D, not {shapes}; use one feature net")
    if len({shape[0] for shape in shapes[:3]}) != 1:
        counts = ", ".join(str(shape[0]) for shape in shapes[:3])
        raise UsageError(f"distilled, enhanced and baseline must be the same subjects, not {counts} images")
    if min(shape[0] for shape in shapes) < 2:
        raise UsageError("the share of the gap closed needs 2 or more images on each side (1,000 or more to be useful)")
    if resamples < 10:
        raise UsageError(f"{resamples} resamples give no interval; use 10 or more (default {RESAMPLES})")


def _draw(count: int, n: int, generator: torch.Generator) -> Tensor:
    """``(count, n)`` float64: how often each of n subjects is in each resample (rows sum to n)."""
    picks = torch.randint(n, (count, n), generator=generator)
    return torch.zeros(count, n, dtype=torch.float64).scatter_add_(1, picks, torch.ones(count, n, dtype=torch.float64))


def _distances(sets: tuple[Tensor, Tensor, Tensor], y: Tensor, weights: Tensor, floor_weights: Tensor) -> Tensor:
    """``(3, B)`` Fréchet distances of x, z and y' to y under ``(B, N)`` weights."""
    mean_y, covariance_y = _moments(y, weights)
    root_y = covariance_root(covariance_y)
    rows = []
    for features, draws in zip(sets, (weights, weights, floor_weights), strict=True):
        mean, covariance = _moments(features, draws)
        rows.append(gaussian_distance(mean_y, root_y, mean, covariance))
    return torch.stack(rows)


def _moments(features: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted means ``(B, D)`` and unbiased covariances ``(B, D, D)`` of ``(N, D)`` features."""
    n = len(features)
    offset = features.mean(dim=0)  # centred first: the second moments of far-off features would cancel badly
    centred = features - offset
    mean = weights @ centred / n
    second = torch.zeros(len(weights), features.shape[1] ** 2, dtype=torch.float64)
    # One product for all resamples: (B, N) @ (N, D * D), in blocks of N that bound the memory.
    block = max(1, _OUTER_NUMBERS // features.shape[1] ** 2)
    for rows, draws in zip(centred.split(block), weights.split(block, dim=1), strict=True):
        second += draws @ (rows.unsqueeze(2) * rows.unsqueeze(1)).flatten(1)
    second = second.unflatten(1, (features.shape[1], features.shape[1]))
    covariance = (second - n * mean.unsqueeze(2) * mean.unsqueeze(1)) / (n - 1)
    return mean + offset, covariance


def _range(samples: Tensor) -> tuple[float, float]:
    """The central `LEVEL` of the samples by order statistics (no interpolation, so that infinities stay infinities)."""
    ordered = samples.sort().values
    tail = (1 - LEVEL) / 2
    low = round(tail * (len(ordered) - 1))
    return float(ordered[low]), float(ordered[len(ordered) - 1 - low])


class _GapMetric(Metric):
    family, better = "distances", "low"
    in_features = True
    share_name, share_label = "gap_closed", "share of the gap closed"

    def share(self, arm: str, share: Interval, n: int) -> Score:
        """The score of a share of the gap closed."""
        return self.score(arm, share, n, self.share_name, self.share_label, unit="share", better="high")


class FrechetMetric(_GapMetric):
    """The Fréchet distance of every arm and, with a noise floor, the share of the gap closed and all intervals."""

    name, label = "frechet", "Fréchet distance"
    always = True

    def compute(self) -> list[Score]:
        context = self.context
        features = {arm: context.embeddings(arm).embedding for arm in ("reference", *context.arms)}
        gaps: dict[str, GapClosed] = {}
        if context.paired and {"distilled", "floor"} <= set(context.arms):
            x, y, floor = (features[arm] for arm in ("distilled", "reference", "floor"))
            resamples = RESAMPLES if y.shape[1] <= _WIDE else _RESAMPLES_OF_WIDE
            gaps = {
                arm: gap_closed(x, features[arm], y, floor, resamples=resamples, seed=context.seed)
                for arm in ("enhanced", "gated")
                if arm in features
            }
        intervals = {arm: gap.enhanced for arm, gap in gaps.items()}
        if gaps:
            intervals |= {"distilled": gaps["enhanced"].distilled, "floor": gaps["enhanced"].floor}
        reference = GaussianStatistics.of(features["reference"])
        scores: list[Score] = []
        for arm in context.arms:
            value, ends = frechet_distance(reference, GaussianStatistics.of(features[arm])), intervals.get(arm)
            low, high = (None, None) if ends is None else (ends.low, ends.high)
            scores.append(self.score(arm, value, len(features[arm]), low=low, high=high))
        scores += [self.share(arm, gap.share, len(features[arm])) for arm, gap in gaps.items() if gap.share is not None]
        if any(gap.share is None for gap in gaps.values()):
            context.note("no gap can be measured: the distilled images are as near to the baseline as it is to itself")
        return scores

    def flags(self, scores: Sequence[Score]) -> list[Flag]:
        """Enhanced images that are farther off than the distilled ones."""
        before, after = score_of(scores, self.name, "distilled"), score_of(scores, self.name)
        if before is None or after is None or after.value <= before.value:
            return []
        return [Flag("worse than nothing", f"Fréchet {after.value:.3g}, the distilled images {before.value:.3g}")]


class ExtrapolatedGapMetric(_GapMetric):
    """Distances and the share of the gap, extrapolated to endlessly many subjects, where there are enough."""

    name, label = "frechet_extrapolated", "Fréchet distance, extrapolated"
    share_name, share_label = "gap_closed_extrapolated", "share of the gap closed, extrapolated"
    needs = frozenset({"distilled", "floor", "pairs"})

    def compute(self) -> list[Score]:
        x, z, y, floor = (
            self.context.embeddings(arm).embedding for arm in ("distilled", "enhanced", "reference", "floor")
        )
        n, dimensions = y.shape
        if n < 2 * dimensions:
            return []
        gap = gap_closed(x, z, y, floor, extrapolated=True, seed=self.context.seed)
        arms = {"distilled": gap.distilled, "enhanced": gap.enhanced, "floor": gap.floor}
        scores = [self.score(arm, distance, n) for arm, distance in arms.items()]
        return scores if gap.share is None else [*scores, self.share("enhanced", gap.share, n)]
