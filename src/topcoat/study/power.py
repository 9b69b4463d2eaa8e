"""How many votes a study needs, computed before it begins: normal approximations, without ties, on the safe side."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats

from topcoat.study.plan import COMPARISONS, StudyPlan
from topcoat.study.statistics import LEVEL, quantile

CORRELATION = 0.05
"""Assumed between two votes of one rater, and between two on one subject: a standard deviation of 0.45 in log-odds."""
HALF_WIDTH = 0.05
POWER = 0.8
_MOST_RATERS = 100_000
_LARGEST_VARIANCE = 0.25


@dataclass(frozen=True, slots=True)
class PowerAnalysis:
    """What a planned study can tell of each comparison."""

    raters: int
    subjects: int
    votes: int
    """On one comparison, by all raters."""
    half_width: float
    """Of the 95 % interval of a share near 0.5."""
    smallest_share: float
    """Of preferences that is told from 0.5 in 80 % of such studies."""
    margin: float
    margin_power: float
    """How often enhanced is shown not to be worse than the baseline by the margin, where the two are equally good."""
    independent_votes: int
    """For a half width of 5 points if all votes were independent."""
    needed_raters: int | None
    """For that half width with these subjects; None where no number of raters is enough."""
    correlation: float


def analyse_power(plan: StudyPlan) -> PowerAnalysis:
    """What a plan can tell, with votes that correlate by `CORRELATION`."""
    subjects, each = len(plan.subjects), plan.votes_per_rater / len(COMPARISONS)
    error = _standard_error(plan.raters, subjects, each)
    z = quantile(plan.raters, subjects)
    needed = None
    if _half_width(_MOST_RATERS, subjects, each) <= HALF_WIDTH:
        low, needed = 0, _MOST_RATERS
        while needed - low > 1:
            middle = (low + needed) // 2
            low, needed = (low, middle) if _half_width(middle, subjects, each) <= HALF_WIDTH else (middle, needed)
    return PowerAnalysis(
        raters=plan.raters,
        subjects=subjects,
        votes=round(plan.raters * each),
        half_width=z * error,
        smallest_share=min(1.0, 0.5 + (z + float(stats.norm.ppf(POWER))) * error),
        margin=plan.margin,
        margin_power=float(stats.norm.cdf(plan.margin / error - z)),
        independent_votes=votes_for(HALF_WIDTH),
        needed_raters=needed,
        correlation=CORRELATION,
    )


def votes_for(half_width: float) -> int:
    """Independent votes for a 95 % interval of a share near 0.5 that reaches ``half_width`` to each side."""
    return math.ceil(_LARGEST_VARIANCE * (float(stats.norm.ppf((1 + LEVEL) / 2)) / half_width) ** 2)


def _standard_error(raters: int, subjects: int, each: float) -> float:
    """Of a share near 0.5, where every rater gives ``each`` votes, spread evenly over the subjects."""
    votes = max(1.0, raters * each)
    clustered = CORRELATION / min(raters, votes) + CORRELATION / min(subjects, votes)
    return math.sqrt(_LARGEST_VARIANCE * ((1 - 2 * CORRELATION) / votes + clustered))


def _half_width(raters: int, subjects: int, each: float) -> float:
    return quantile(raters, subjects) * _standard_error(raters, subjects, each)
