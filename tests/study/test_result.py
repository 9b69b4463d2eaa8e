"""From raters to claims: exclusions by the rules alone, claims by intervals, files that hold no secret."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.study.simulated import simulated_rater, small_plan
from topcoat.study.plan import COMPARISONS, ExclusionRules
from topcoat.study.raters import report_raters
from topcoat.study.result import StudyResult, analyse, write_votes
from topcoat.study.store import Rater


def raters_of(count: int, **given: Any) -> list[Rater]:
    random = np.random.default_rng(0)
    return [simulated_rater(small_plan(), number, random, **given) for number in range(1, count + 1)]


def verdicts(result: StudyResult) -> dict[str, str]:
    return {claim.name: claim.verdict for claim in result.claims}


def test_a_head_as_good_as_the_baseline_is_found_to_be() -> None:
    result = analyse(small_plan(), raters_of(60, strengths={"distilled": 0.0, "enhanced": 1.5, "baseline": 1.5}))
    assert verdicts(result) == {"preferred": "yes", "not-worse": "yes", "gap": "yes"}
    shares = {one.name: one.share for one in result.comparisons}
    assert shares["enhanced-distilled"].value == pytest.approx(0.82, abs=0.06)
    assert [one.comparison for one in result.strengths] == list(COMPARISONS)
    assert result.strengths[0].probability == pytest.approx(0.82, abs=0.06)
    assert result.first_place is not None and result.first_place.low < 0.5 < result.first_place.high


def test_a_head_that_harms_is_found_to() -> None:
    result = analyse(small_plan(), raters_of(40, strengths={"distilled": 0.0, "enhanced": -1.0, "baseline": 1.0}))
    assert verdicts(result) == {"preferred": "no", "not-worse": "no", "gap": "yes"}


def test_blind_raters_show_nothing_and_that_is_said() -> None:
    equal = {"distilled": 0.0, "enhanced": 0.0, "baseline": 0.0}
    result = analyse(small_plan(), raters_of(80, strengths=equal))
    assert verdicts(result) == {"preferred": "open", "not-worse": "yes", "gap": "open"}
    assert any("says little" in note for note in result.notes)


def test_a_study_that_is_not_finished_says_so() -> None:
    result = analyse(small_plan(), [*raters_of(2), *raters_of(1, answers=3)])
    assert result.notes[0].startswith("2 of 8 planned raters")


def test_groups_add_up_to_the_whole() -> None:
    result = analyse(small_plan(), raters_of(12))
    for one in result.comparisons:
        parts = [group.share for group in result.groups if group.comparison == one.name]
        assert len(parts) == 2 and sum(part.n for part in parts) == one.share.n
        assert sum(part.value * part.n for part in parts) == pytest.approx(one.share.value * one.share.n)


def odd_raters() -> list[Rater]:
    """One of each oddity, and two of none."""
    plan, random = small_plan(), np.random.default_rng(1)
    return [
        simulated_rater(plan, 1, random),
        simulated_rater(plan, 2, random, attentive=False),
        simulated_rater(plan, 3, random, seconds=0.2),
        simulated_rater(plan, 4, random, side="1"),
        simulated_rater(plan, 5, random, browser="browser-1"),
        simulated_rater(plan, 6, random, answers=5),
    ]


def test_what_stands_out_is_left_out_by_the_rules() -> None:
    reports = {report.number: report for report in report_raters(odd_raters(), ExclusionRules())}
    reasons = {number: "; ".join(report.excluded) for number, report in reports.items()}
    assert reasons[1] == reasons[6] == ""
    assert reasons[2] == "failed 2 of 2 attention checks"
    assert reasons[3] == "100 % of answers in less than 0.5 s"
    assert "picture 1 in 100 % of 36 decided answers" in reasons[4]
    assert reasons[5] == "same browser as rater 1" and reports[5].same_browser_as == 1
    assert [number for number, report in reports.items() if not report.complete] == [6]


def test_rules_that_are_off_leave_nobody_out_and_what_stands_out_is_still_reported() -> None:
    rules = ExclusionRules(failed_checks=None, fast_share=None, side_share=None, doubled="none")
    reports = {report.number: report for report in report_raters(odd_raters(), rules)}
    assert not any(report.excluded for report in reports.values())
    assert reports[2].failed_checks == 2 and reports[3].fast_share == 1 and reports[4].first_share == 1
    result = analyse(small_plan(rules=rules), odd_raters())
    assert any("may be one person (such as 5 and 1)" in note for note in result.notes)


def test_a_shared_network_is_left_out_only_by_its_own_rule() -> None:
    plan, random = small_plan(), np.random.default_rng(2)
    first = simulated_rater(plan, 1, random)
    second = simulated_rater(plan, 2, random)
    both = [first, Rater(2, second.started, second.browser, first.network, second.trials, second.votes)]
    assert [report.excluded for report in report_raters(both, ExclusionRules())] == [(), ()]
    strict = report_raters(both, ExclusionRules(doubled="network"))
    assert strict[1].excluded == ("same network address and kind of browser as rater 1",)


def test_left_out_raters_change_no_figure() -> None:
    plan = small_plan()
    kept = [rater for rater in odd_raters() if rater.number in (1, 6)]
    assert analyse(plan, odd_raters()).comparisons == analyse(plan, kept).comparisons


def test_a_browser_that_claims_long_looks_is_not_believed() -> None:
    plan = small_plan()
    honest = simulated_rater(plan, 1, np.random.default_rng(0), seconds=60.0)  # the server saw 10 s between answers
    assert report_raters([honest], plan.rules)[0].median_seconds == 10


def test_a_bias_to_one_place_is_found_and_blurs_only() -> None:
    plan, random = small_plan(), np.random.default_rng(3)
    plain = {"distilled": 0.0, "enhanced": 0.0, "baseline": 0.0}
    raters = [simulated_rater(plan, number, random, strengths=plain) for number in range(1, 41)]
    raters += [simulated_rater(plan, 41 + n, random, side="1") for n in range(10)]
    rules = ExclusionRules(side_share=None, failed_checks=None)
    result = analyse(small_plan(rules=rules), raters)
    assert result.first_place is not None and result.first_place.low > 0.5
    assert any("chose picture 1 more often" in note for note in result.notes)
    assert verdicts(result)["preferred"] == "open"


def test_the_record_is_json_and_the_table_is_whole(tmp_path: Path) -> None:
    plan, raters = small_plan(), odd_raters()
    result = analyse(plan, raters, deleted=1)
    record = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert record["format"] == "topcoat-blind-study-result" and record["deleted_raters"] == 1
    write_votes(tmp_path / "votes.csv", plan, raters, result)
    text = (tmp_path / "votes.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == sum(len(rater.votes) for rater in raters)
    assert "browser-" not in text and "network-" not in text
    own = [row for row in rows if row["comparison"] == "enhanced-baseline" and not row["excluded"]]
    found = result.comparison("enhanced-baseline")
    assert found is not None and found.share.first == sum(row["preferred"] == "enhanced" for row in own)
    for row in own:
        assert row["preferred"] in ("neither", row[f"picture_{row['choice']}"])


def test_no_votes_have_no_claims() -> None:
    result = analyse(small_plan(), [])
    assert result.claims == result.comparisons == result.strengths == () and result.first_place is None
