"""The power analysis: closed forms, and what simulated studies do."""

from __future__ import annotations

import dataclasses

import pytest

from tests.study.simulated import Population, small_plan
from topcoat.study.plan import StudyPlan
from topcoat.study.power import analyse_power, votes_for
from topcoat.study.statistics import share


def planned(raters: int, subjects: int, votes: int) -> StudyPlan:
    return small_plan(subjects=subjects, votes=votes).model_copy(update={"raters": raters})


def test_votes_for_five_points_are_those_of_textbooks() -> None:
    assert votes_for(0.05) == 385
    assert votes_for(0.03) == 1068


def test_the_raters_that_are_needed_are_the_fewest_that_are_enough() -> None:
    power = analyse_power(planned(40, 60, 60))
    assert power.needed_raters is not None
    assert analyse_power(planned(power.needed_raters, 60, 60)).half_width <= 0.05
    assert analyse_power(planned(power.needed_raters - 1, 60, 60)).half_width > 0.05


def test_few_subjects_are_never_enough() -> None:
    assert analyse_power(planned(40, 12, 12)).needed_raters is None


def test_simulated_studies_reach_what_is_said() -> None:
    """Preferences that deviate by 0.47 in log-odds among raters, and among subjects, correlate by about 0.05."""
    power = analyse_power(planned(40, 60, 60))
    equal = Population(rater_deviation=0.47, subject_deviation=0.47, ties=0.0)
    null = [found for votes in equal.studies(200) if (found := share(votes)) is not None]
    assert sum(one.high - one.low for one in null) / len(null) / 2 == pytest.approx(power.half_width, rel=0.1)
    shown = sum(one.low > 0.5 - power.margin for one in null) / len(null)
    assert shown == pytest.approx(power.margin_power, abs=0.08)
    real = dataclasses.replace(equal, preference=0.36)
    assert real.share == pytest.approx(power.smallest_share, abs=0.01)
    told = [share(votes) for votes in real.studies(200)]
    assert sum(one is not None and one.low > 0.5 for one in told) / 200 == pytest.approx(0.8, abs=0.08)
