"""Shares, intervals, strengths and agreement: against closed forms, other implementations and known truths."""

from __future__ import annotations

import math

import choix
import numpy as np
import pytest
from scipy import stats

from tests.study.simulated import Population
from topcoat.study.statistics import Votes, agreement, bradley_terry, share, wilson

SIMULATIONS = 1000


def votes_of(score: list[float], rater: list[int] | None = None, subject: list[int] | None = None) -> Votes:
    places = list(range(len(score)))
    return Votes(np.array(score), np.array(rater or places), np.array(subject or places))


@pytest.mark.parametrize(("wins", "n"), [(0, 10), (7, 10), (10, 10), (203, 385)])
def test_the_interval_is_wilsons(wins: int, n: int) -> None:
    expected = stats.binomtest(wins, n).proportion_ci(0.95, method="wilson")
    found = wilson(wins / n, n, float(stats.norm.ppf(0.975)))
    assert found == pytest.approx((expected.low, expected.high))


def test_votes_of_their_own_count_as_many_as_they_are() -> None:
    score = [1.0] * 30 + [0.0] * 20
    found = share(votes_of(score))
    assert found is not None
    assert found.effective_n == pytest.approx(49)  # of the sample variance
    assert (found.value, found.first, found.neither, found.second) == (0.6, 30, 0, 20)
    assert (found.low, found.high) == pytest.approx(wilson(0.6, 49, float(stats.t.ppf(0.975, 49))))


def test_votes_that_repeat_a_rater_count_less() -> None:
    score = [1.0] * 10 + [0.0] * 10 + [1.0] * 10 + [0.0] * 10
    rater = [number // 10 for number in range(40)]
    found = share(votes_of(score, rater))
    assert found is not None
    # four raters of whom each is of one opinion: 0.25 / 4, and one in the denominator less
    assert found.effective_n == pytest.approx(3)


def test_the_variance_is_that_of_two_crossed_clusterings() -> None:
    votes = next(Population(raters=6, subjects=8, each=5).studies(1, seed=4))
    found = share(votes)
    assert found is not None
    n, errors = len(votes), votes.score - votes.score.mean()
    expected = 0.0
    for clusters, sign in ((votes.rater, 1), (votes.subject, 1), (np.arange(n), -1)):
        names = np.unique(clusters)
        own = sum(float(errors[clusters == name].sum()) ** 2 for name in names) / n**2
        expected += sign * own * len(names) / (len(names) - 1)
    floor = float((errors**2).sum()) / n**2 * n / (n - 1)
    assert found.effective_n == pytest.approx(found.value * (1 - found.value) / max(expected, floor))


@pytest.mark.parametrize("score", [1.0, 0.5, 0.0])
def test_votes_of_one_kind_have_an_interval(score: float) -> None:
    found = share(votes_of([score] * 12))
    assert found is not None and found.low < found.high
    assert found.low <= score <= found.high


def test_no_votes_have_no_share() -> None:
    assert share(votes_of([])) is None


POPULATIONS = [
    Population(),
    Population(preference=0.6),
    Population(preference=0.5, rater_deviation=0.8, subject_deviation=0.8),
    Population(raters=20, preference=-0.4),
    Population(raters=50, rater_deviation=0.0, subject_deviation=0.0, ties=0.0),
]


@pytest.mark.parametrize("population", POPULATIONS, ids=str)
def test_the_interval_holds_the_truth_as_often_as_it_says(population: Population) -> None:
    truth, held = population.share, 0
    for votes in population.studies(SIMULATIONS):
        found = share(votes)
        assert found is not None
        held += found.low <= truth <= found.high
    assert 0.93 <= held / SIMULATIONS <= 0.97


@pytest.mark.parametrize("deviation", [0.0, 0.4, 0.8])
def test_a_null_study_seldom_claims_a_preference(deviation: float) -> None:
    population = Population(rater_deviation=deviation, subject_deviation=deviation)
    claims = 0
    for votes in population.studies(SIMULATIONS, seed=1):
        found = share(votes)
        assert found is not None
        claims += found.low > 0.5
    assert claims / SIMULATIONS <= 0.05


@pytest.mark.parametrize("margin", [0.1])
def test_a_study_at_the_margin_seldom_claims_not_worse(margin: float) -> None:
    odds = math.log((0.5 - margin) / (0.5 + margin))
    population = Population(preference=odds, rater_deviation=0.0, subject_deviation=0.0, ties=0.0)
    assert population.share == pytest.approx(0.5 - margin)
    found = [share(votes) for votes in population.studies(SIMULATIONS, seed=2)]
    assert sum(one is not None and one.low > 0.5 - margin for one in found) / SIMULATIONS <= 0.05


ARMS = (("enhanced", "distilled"), ("enhanced", "baseline"), ("baseline", "distilled"))


def test_strengths_are_the_closed_form_of_two_comparisons() -> None:
    # a chain without a third comparison: each difference is the log-odds of its own votes
    first, second = [1.0] * 30 + [0.0] * 10, [1.0] * 15 + [0.0] * 20 + [0.5] * 4
    found = bradley_terry([(ARMS[0], votes_of(first)), (ARMS[1], votes_of(second))])
    assert [one.comparison for one in found] == ["enhanced-distilled", "enhanced-baseline"]
    expected = [math.log(30.5 / 10.5), math.log(17.5 / 22.5)]
    assert [one.log_odds for one in found] == pytest.approx(expected, abs=1e-4)
    assert all(one.low < one.probability < one.high for one in found)


def test_strengths_of_three_comparisons_are_those_of_another_estimator() -> None:
    scores = [[1.0] * 30 + [0.0] * 12, [1.0] * 18 + [0.0] * 22, [1.0] * 25 + [0.0] * 15]
    found = bradley_terry([(arms, votes_of(score)) for arms, score in zip(ARMS, scores, strict=True)])
    names = ["enhanced", "distilled", "baseline"]
    wins = np.zeros((3, 3))
    for (first, second), score in zip(ARMS, scores, strict=True):
        wins[names.index(first), names.index(second)] = sum(score) + 0.5
        wins[names.index(second), names.index(first)] = len(score) - sum(score) + 0.5
    strengths = choix.ilsr_pairwise_dense(wins)
    expected = [strengths[names.index(first)] - strengths[names.index(second)] for first, second in ARMS]
    assert [one.log_odds for one in found] == pytest.approx(expected, abs=1e-3)


def test_a_side_that_always_wins_has_a_finite_strength() -> None:
    found = bradley_terry([(arms, votes_of([1.0] * 20)) for arms in ARMS[:2]])
    assert all(math.isfinite(one.log_odds) and one.log_odds > 3 for one in found)


def test_one_comparison_alone_has_no_strengths() -> None:
    assert bradley_terry([(ARMS[0], votes_of([1.0])), (ARMS[1], votes_of([]))]) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "population", [Population(preference=0.6), Population(raters=20, rater_deviation=0.8)], ids=str
)
def test_bootstrap_intervals_hold_the_truth(population: Population) -> None:
    """Of 1,000 studies with two comparisons, whose strengths are the log-odds of their own shares."""
    truth = population.share
    first, second = (population.studies(SIMULATIONS, seed=seed) for seed in (3, 4))
    held = 0
    for number, (one, other) in enumerate(zip(first, second, strict=True)):
        strength = bradley_terry([(ARMS[0], one), (ARMS[1], other)], seed=number)[0]
        held += strength.low <= truth <= strength.high
    print(f"{population}: {held} of {SIMULATIONS}")
    assert 0.93 <= held / SIMULATIONS <= 0.97


# Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", table E: four observers, twelve units
RELIABILITY = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]


def test_agreement_is_that_of_the_published_example() -> None:
    rows = [
        (float(value), rater, unit)
        for rater, values in enumerate(RELIABILITY)
        for unit, value in enumerate(values)
        if value is not None
    ]
    score, rater, subject = (list(column) for column in zip(*rows, strict=True))
    assert agreement(votes_of(score, rater, subject)) == pytest.approx(0.815, abs=5e-4)


def test_agreement_is_that_of_another_implementation() -> None:
    krippendorff = pytest.importorskip("krippendorff", reason="krippendorff is not installed")
    votes = next(Population(raters=9, subjects=12, each=7, preference=0.7).studies(1, seed=6))
    table = np.full((9, 12), np.nan)
    table[votes.rater, votes.subject] = votes.score
    expected = krippendorff.alpha(reliability_data=table, level_of_measurement="ordinal")
    assert agreement(votes) == pytest.approx(expected)


def test_agreement_of_the_same_opinion_is_1_and_of_none_is_missing() -> None:
    assert agreement(votes_of([1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 1])) == pytest.approx(1)
    assert agreement(votes_of([1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 1, 1])) is None
    assert agreement(votes_of([1, 0])) is None
