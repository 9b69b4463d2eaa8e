"""What raters see: random for each, balanced over all, fixed before the first vote."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.study.simulated import small_plan
from topcoat.errors import DataError, UsageError
from topcoat.study.plan import CHECK, COMPARISONS, StudyPlan, read_plan, trials_of


def test_a_rater_sees_every_subject_once_before_any_twice() -> None:
    plan = small_plan(subjects=12, votes=30)
    subjects = [trial.subject for trial in trials_of(plan, 0) if trial.comparison != CHECK]
    assert sorted(subjects[:12]) == sorted(subjects[12:24]) == list(range(12))
    assert len(subjects) == 30 and subjects[:12] != subjects[12:24]


def test_no_rater_sees_a_comparison_of_a_subject_twice() -> None:
    plan = small_plan(subjects=12, votes=36)
    shown = Counter((trial.subject, trial.comparison) for trial in trials_of(plan, 4) if trial.comparison != CHECK)
    assert set(shown.values()) == {1} and len(shown) == 36


def test_over_raters_every_subject_is_equally_often_in_every_comparison() -> None:
    plan = small_plan(subjects=10, votes=10)
    shown = Counter(
        (trial.subject, trial.comparison)
        for number in range(9)
        for trial in trials_of(plan, number)
        if trial.comparison != CHECK
    )
    assert len(shown) == 30 and set(shown.values()) == {3}


def test_places_are_balanced_within_a_rater_and_differ_between_raters() -> None:
    plan = small_plan(subjects=12, votes=36)
    patterns = set()
    for number in range(20):
        trials = trials_of(plan, number)
        for name, (first, _) in COMPARISONS.items():
            assert sum(trial.arms[0] == first for trial in trials if trial.comparison == name) == 6
        patterns.add(tuple(trial.arms for trial in trials))
    assert len(patterns) == 20


def test_of_an_odd_number_either_place_may_have_one_more() -> None:
    plan = small_plan(subjects=3, votes=3, checks=1)
    first = Counter(
        trial.arms[0] == "baseline"
        for number in range(200)
        for trial in trials_of(plan, number)
        if trial.comparison == CHECK
    )
    assert 60 < first[True] < 140


def test_the_same_rater_sees_the_same_again_and_another_seed_shows_other_places() -> None:
    plan = small_plan()
    assert trials_of(plan, 3) == trials_of(plan, 3)
    assert trials_of(plan, 3) != trials_of(plan.model_copy(update={"seed": 4}), 3)


def test_attention_checks_lie_anywhere_but_at_the_start() -> None:
    plan = small_plan(checks=3)
    places = Counter[int]()
    for number in range(60):
        trials = trials_of(plan, number)
        own = [place for place, trial in enumerate(trials) if trial.comparison == CHECK]
        assert len(own) == 3 and min(own) >= 2
        assert len({trials[place].subject for place in own}) == 3
        places.update(own)
    assert len(places) > 25


@pytest.mark.parametrize(
    ("votes", "checks", "sentence"),
    [(37, 2, "37 votes of each rater are more than the 36 comparisons"), (12, 13, "13 attention checks")],
)
def test_what_does_not_fit_is_refused(votes: int, checks: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        small_plan(subjects=12, votes=votes, checks=checks)


def test_a_plan_is_read_as_it_was_written(study: tuple[Path, StudyPlan]) -> None:
    folder, plan = study
    assert read_plan(folder) == plan
    assert read_plan(folder).digest == plan.digest


def test_what_is_no_study_is_refused(study: tuple[Path, StudyPlan], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no study"):
        read_plan(tmp_path)
    folder, _ = study
    path = folder / "study.json"
    record = json.loads(path.read_text())
    for change, sentence in (({"format": "x"}, "no plan"), ({"format_version": 9}, "format version 9")):
        path.write_text(json.dumps(record | change))
        with pytest.raises(DataError, match=sentence):
            read_plan(folder)
    path.write_text(json.dumps(record | {"marginn": 1}))
    with pytest.raises(UsageError, match="did you mean margin"):
        read_plan(folder)
