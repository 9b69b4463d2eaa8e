"""Shares of preferences with intervals that hold for other raters and other subjects, and how well raters agree.

Votes of one rater are alike, and so are votes on one subject. Every variance here is that of two crossed clusterings
(Cameron, Gelbach and Miller 2011, eq. 2.11): raters plus subjects less single votes, and never under that of
independent votes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95
RESAMPLES = 300
"""Of each kind, for the variances of Bradley-Terry strengths."""
_HALF_A_VOTE = 0.5
"""Added to both sides of a comparison in Bradley-Terry, so that a side that always wins has a finite strength."""
_MOST_STEPS, _CONVERGED = 10_000, 1e-8


@dataclass(frozen=True, slots=True)
class Votes:
    """Votes on one comparison: three arrays ``(N,)``."""

    score: np.ndarray
    """1 where the first arm is preferred, 0 where the second is, 0.5 for no difference."""
    rater: np.ndarray
    subject: np.ndarray
    """Whole numbers from 0."""

    def __len__(self) -> int:
        return len(self.score)

    def where(self, chosen: np.ndarray) -> Votes:
        """Those that a mask ``(N,)`` chooses."""
        return Votes(self.score[chosen], self.rater[chosen], self.subject[chosen])


@dataclass(frozen=True, slots=True)
class Share:
    """The share of preferences for the first of two, a vote for neither counting half."""

    value: float
    low: float
    high: float
    """95 % interval."""
    n: int
    """Votes."""
    effective_n: float
    """Independent votes that would give this interval's variance."""
    raters: int
    subjects: int
    first: int
    neither: int
    second: int
    """Votes of each kind."""


def share(votes: Votes) -> Share | None:
    """The share with Wilson's score interval at the effective number of votes; None without votes.

    Its quantile is that of Student's t with one degree of freedom less than there are raters or subjects, whichever are
    fewer; where one of the two is a single one, the other counts alone.
    """
    n = len(votes)
    if n == 0:
        return None
    value = float(votes.score.mean())
    raters, subjects = (len(np.unique(clusters)) for clusters in (votes.rater, votes.subject))
    variance = _variance(votes)
    effective = n if variance <= 0 or value in (0, 1) else value * (1 - value) / variance
    low, high = wilson(value, effective, quantile(raters, subjects))
    counts = [int((votes.score == score).sum()) for score in (1.0, 0.5, 0.0)]
    return Share(value, low, high, n, float(effective), raters, subjects, counts[0], counts[1], counts[2])


def wilson(value: float, n: float, z: float) -> tuple[float, float]:
    """The ends of Wilson's score interval (1927) of a share of ``n`` votes, ``z`` standard errors wide."""
    middle = value + z * z / (2 * n)
    half = z * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low, high = (middle - half) / scale, (middle + half) / scale
    return max(0.0, min(value, low)), min(1.0, max(value, high))  # rounding may put an end on the wrong side of 0 or 1


def quantile(raters: int, subjects: int) -> float:
    """How many standard errors a 95 % interval reaches to each side."""
    clusters = min((count for count in (raters, subjects) if count > 1), default=2)
    return float(stats.t.ppf((1 + LEVEL) / 2, clusters - 1))


def _variance(votes: Votes) -> float:
    """The variance of the mean score."""
    errors = votes.score - votes.score.mean()
    n = len(errors)
    single = float((errors**2).sum()) / n**2 * (n / max(1, n - 1))
    return _combined(_clustered(errors, votes.rater), _clustered(errors, votes.subject), single)


def _clustered(errors: np.ndarray, clusters: np.ndarray) -> float | None:
    """The variance of the mean of errors that are alike within clusters; None of a single cluster."""
    _, places = np.unique(clusters, return_inverse=True)
    sums = np.bincount(places, errors)
    if len(sums) < 2:
        return None
    return float((sums**2).sum()) / len(errors) ** 2 * (len(sums) / (len(sums) - 1))


def _combined(raters: float | None, subjects: float | None, single: float) -> float:
    """One variance of two clusterings; one that is None tells nothing."""
    parts = [part for part in (raters, subjects) if part is not None]
    return max(sum(parts) - single if len(parts) == 2 else sum(parts), single)


@dataclass(frozen=True, slots=True)
class Strength:
    """How much stronger the first arm of a comparison is than the second, by all votes together."""

    comparison: str
    log_odds: float
    probability: float
    """That the first is preferred."""
    low: float
    high: float
    """95 % interval of the probability."""


def bradley_terry(votes: Sequence[tuple[tuple[str, str], Votes]], *, seed: int = 0) -> list[Strength]:
    """Strengths of the arms by all comparisons together (Bradley and Terry 1952), each with a bootstrap interval.

    ``votes`` has the two arms of every comparison with its votes; a vote for neither counts half for both. Raters,
    subjects and single votes are resampled, and the three variances combined as everywhere here. Empty unless two
    comparisons or more have votes.
    """
    given = [(arms, own) for arms, own in votes if len(own)]
    if len(given) < 2:
        return []
    names = list(dict.fromkeys(name for arms, _ in given for name in arms))
    places = [(names.index(first), names.index(second)) for (first, second), _ in given]
    joined = Votes(*(np.concatenate([getattr(own, name) for _, own in given]) for name in Votes.__slots__))
    comparison = np.concatenate([np.full(len(own), place) for place, (_, own) in enumerate(given)])

    def differences(weights: np.ndarray) -> np.ndarray:
        """``(B, comparisons)`` of differences of strengths, from weights of all votes ``(B, N)``."""
        wins = np.zeros((len(weights), len(names), len(names)))
        for place, (first, second) in enumerate(places):
            own = comparison == place
            wins[:, first, second] = weights[:, own] @ joined.score[own] + _HALF_A_VOTE
            wins[:, second, first] = weights[:, own] @ (1 - joined.score[own]) + _HALF_A_VOTE
        strengths = _strengths(wins)
        return np.stack([strengths[:, first] - strengths[:, second] for first, second in places], axis=1)

    random = np.random.default_rng(seed)
    estimate = differences(np.ones((1, len(joined))))[0]
    variances = [
        differences(_resampled(clusters, random)).var(axis=0, ddof=1)
        for clusters in (joined.rater, joined.subject, np.arange(len(joined)))
        if len(np.unique(clusters)) > 1
    ]
    raters, subjects = len(np.unique(joined.rater)), len(np.unique(joined.subject))
    strengths: list[Strength] = []
    for place, (arms, _) in enumerate(given):
        parts = iter(float(variance[place]) for variance in variances)
        by_rater, by_subject = (next(parts) if count > 1 else None for count in (raters, subjects))
        half = quantile(raters, subjects) * math.sqrt(_combined(by_rater, by_subject, next(parts, 0.0)))
        value = float(estimate[place])
        ends = [_logistic(end) for end in (value, value - half, value + half)]
        strengths.append(Strength("-".join(arms), value, *ends))
    return strengths


def _strengths(wins: np.ndarray) -> np.ndarray:
    """Maximum likelihood estimates ``(B, arms)`` from tables ``(B, arms, arms)`` of how often one beat the other.

    By minorisation and maximisation (Hunter 2004, eq. 3). Packages fit one table at a time: 900 resamples take them two
    seconds, and a simulation of 1,000 studies an hour.
    """
    met, won = wins + wins.transpose(0, 2, 1), wins.sum(axis=2)
    strengths = np.zeros(won.shape)
    for _ in range(_MOST_STEPS):
        worth = np.exp(strengths)
        new = np.log(won) - np.log((met / (worth[:, :, None] + worth[:, None, :])).sum(axis=2))
        new -= new.mean(axis=1, keepdims=True)
        change = float(np.abs(new - strengths).max())
        strengths = new
        if change < _CONVERGED:
            break
    return strengths


def _resampled(clusters: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """How often each vote is in a resample of clusters, ``(RESAMPLES, N)``."""
    names, places = np.unique(clusters, return_inverse=True)
    drawn = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
    return drawn[:, places].astype(np.float64)


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def agreement(votes: Votes) -> float | None:
    """Krippendorff's alpha of raters on subjects: 1 is full agreement, 0 that of chance.

    Preferences are ordinal: neither lies between first and second (Krippendorff 2019, ch. 12). None where no subject
    has two votes, or all votes are alike. The package krippendorff is not used because its licence is the GPL.
    """
    values = np.unique(votes.score)
    units, places = np.unique(votes.subject, return_inverse=True)
    counts = np.zeros((len(units), len(values)))  # of each value on each subject
    np.add.at(counts, (places, np.searchsorted(values, votes.score)), 1)
    counts = counts[counts.sum(axis=1) > 1]
    total = counts.sum(axis=0)
    if len(counts) == 0 or (total > 0).sum() < 2:
        return None
    pairable = 1 / (counts.sum(axis=1) - 1)
    coincidences = (counts * pairable[:, None]).T @ counts - np.diag(counts.T @ pairable)
    middle = np.cumsum(total) - total / 2
    distance = (middle[:, None] - middle[None, :]) ** 2
    expected = (np.outer(total, total) * distance).sum() / (total.sum() - 1)
    return float(1 - (coincidences * distance).sum() / expected)
