"""Groups: does a head serve every kind of person alike? Means per group with intervals, and what exceeds noise.

Every value of every attribute is compared with all others by Welch's test; all p-values are corrected together (Holm
1979).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.metrics.base import Interval, mean_interval
from topcoat.metrics.gap import gap_closed

SMALLEST_GROUP = 20
"""Groups of fewer images are listed without a test."""
SIGNIFICANCE = 0.05
_GAP_RESAMPLES = 50
_NO_VARIANCE = 1e-24
"""Rounding alone: scores that do not vary cannot be tested."""


@dataclass(frozen=True, slots=True)
class GroupScore:
    """One score in one group, and in the rest of the images."""

    score: str
    attribute: str
    group: str
    n: int
    mean: float
    low: float
    high: float
    """95 % bootstrap interval of the mean."""
    rest_mean: float | None
    p_value: float | None
    """Holm-corrected over all comparisons of the table; None where the group or the rest is too small to test, and
    for the second of two groups, whose comparison is that of the first."""

    @property
    def exceeds_noise(self) -> bool:
        """Whether the group differs from the rest at the 5 % level after correction."""
        return self.p_value is not None and self.p_value < SIGNIFICANCE

    def sentence(self) -> str:
        """The difference in words."""
        rest = float("nan") if self.rest_mean is None else self.rest_mean
        way = "above" if self.mean > rest else "below"
        return (
            f"{self.score} of {self.attribute} = {self.group} is {self.mean:.3g} ({self.low:.3g} to {self.high:.3g}, "
            f"N = {self.n}), {way} the {rest:.3g} of all others (corrected p = {self.p_value:.2g})"
        )


@dataclass(frozen=True, slots=True)
class GroupGap:
    """Share of the gap closed within one group."""

    attribute: str
    group: str
    n: int
    gap: Interval | None
    """None where the group has no gap to close."""


@dataclass(frozen=True, slots=True)
class Groups:
    """Every score of every group."""

    scores: tuple[GroupScore, ...]
    gaps: tuple[GroupGap, ...]
    comparisons: int
    """Tests made; all p-values are corrected for this number."""

    @property
    def differences(self) -> tuple[GroupScore, ...]:
        """The scores that exceed noise, the surest first."""
        sure = [score for score in self.scores if score.exceeds_noise]
        return tuple(sorted(sure, key=lambda score: (score.p_value or 0, score.score, score.attribute, score.group)))

    def statement(self) -> str:
        """One plain sentence on all of it."""
        if self.comparisons == 0:
            return f"No group has the {SMALLEST_GROUP} images that a comparison needs."
        tested = f"{self.comparisons} comparisons of groups (Welch's test, Holm-corrected at 5 %)"
        if not self.differences:
            return f"Of {tested} none exceeds noise; that is no proof that the groups are alike."
        count = len(self.differences)
        return f"Of {tested} {count} {'exceeds' if count == 1 else 'exceed'} noise."


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction of p-values, in their order: the smallest times m, the next times m - 1, ..."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = highest
    return corrected


def group_rows(groups: Sequence[Mapping[str, str]]) -> dict[tuple[str, str], Tensor]:
    """Rows of each (attribute, value), from one mapping per image; an attribute with a single value says nothing.

    Images that lack an attribute are in none of its groups.
    """
    rows_of: dict[str, dict[str, list[int]]] = {}
    for row, attributes in enumerate(groups):
        for attribute, value in attributes.items():
            rows_of.setdefault(attribute, {}).setdefault(str(value), []).append(row)
    return {
        (attribute, value): torch.tensor(rows)
        for attribute, values in sorted(rows_of.items())
        if len(values) > 1
        for value, rows in sorted(values.items())
    }


def compare_groups(scores: Mapping[str, Tensor], groups: Sequence[Mapping[str, str]], *, seed: int = 0) -> Groups:
    """Means of per-image ``scores``, each ``(N,)``, by group; NaN marks an image that has no such score.

    ``groups`` holds one mapping of attribute to value for each image. Raises `UsageError` where the numbers of images
    differ.
    """
    from scipy.stats import ttest_ind_from_stats

    for name, values in scores.items():
        if len(values) != len(groups):
            raise UsageError(
                f"{len(groups)} images have groups, but {len(values)} have the score {name}; give one each"
            )
    compared: list[GroupScore] = []
    by_group = group_rows(groups)
    values_of = {attribute: [value for other, value in by_group if other == attribute] for attribute, _ in by_group}
    for (attribute, value), rows in by_group.items():
        mirrored = len(values_of[attribute]) == 2 and value == values_of[attribute][1]
        inside = torch.zeros(len(groups), dtype=torch.bool)
        inside[rows] = True
        # The rest are the images of the attribute's other values: one that lacks the attribute belongs to neither.
        known = torch.tensor([attribute in one for one in groups])
        for name, values in scores.items():
            usable = values.isfinite()
            inside_values, others = values[inside & usable], values[known & ~inside & usable]
            if len(inside_values) < 2:
                continue
            interval = mean_interval(inside_values, seed=seed)
            p_value: float | None = None
            large = min(len(inside_values), len(others)) >= SMALLEST_GROUP
            if large and not mirrored and float(inside_values.var() + others.var()) > _NO_VARIANCE:
                # From the moments: scipy warns of samples that are nearly constant, as a good head's cosines can be.
                moments = [(float(one.mean()), float(one.std()), len(one)) for one in (inside_values, others)]
                p_value = float(ttest_ind_from_stats(*moments[0], *moments[1], equal_var=False).pvalue)
            compared.append(
                GroupScore(
                    score=name,
                    attribute=attribute,
                    group=value,
                    n=len(inside_values),
                    mean=interval.value,
                    low=interval.low,
                    high=interval.high,
                    rest_mean=float(others.mean()) if len(others) else None,
                    p_value=p_value,
                )
            )
    p_values = [score.p_value for score in compared if score.p_value is not None]
    corrected = iter(holm(p_values))
    tested = [one if one.p_value is None else replace(one, p_value=next(corrected)) for one in compared]
    return Groups(tuple(tested), gaps=(), comparisons=len(p_values))


def group_gaps(
    distilled: Tensor,
    enhanced: Tensor,
    baseline: Tensor,
    floor: Tensor,
    groups: Sequence[Mapping[str, str]],
    *,
    seed: int = 0,
) -> tuple[GroupGap, ...]:
    """Share of the gap closed within each group, from features ``(N, D)`` of x, z, y and y' (the same prompts).

    A group needs twice as many images as features have dimensions, or its covariance is mostly noise; smaller ones are
    left out.
    """
    needed = max(2 * baseline.shape[1], SMALLEST_GROUP)
    gaps: list[GroupGap] = []
    for (attribute, value), rows in group_rows(groups).items():
        if len(rows) >= needed:
            parts = [part[rows] for part in (distilled, enhanced, baseline, floor)]
            share = gap_closed(*parts, resamples=_GAP_RESAMPLES, seed=seed).share
            gaps.append(GroupGap(attribute, value, len(rows), share))
    return tuple(gaps)
