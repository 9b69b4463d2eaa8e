"""What the votes of a blind study show: claims, shares with intervals, agreement, and what stands out in raters."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from topcoat.errors import first_few
from topcoat.files import write_text
from topcoat.study.plan import CHECK, COMPARISONS, StudyPlan
from topcoat.study.power import PowerAnalysis, analyse_power
from topcoat.study.raters import RaterReport, chosen_arm, report_raters, seconds_of
from topcoat.study.statistics import Share, Strength, Votes, agreement, bradley_terry, share
from topcoat.study.store import Rater, read_raters

FORMAT, FORMAT_VERSION = "topcoat-blind-study-result", 1
Verdict = Literal["yes", "no", "open"]
CLAIMS = {
    "preferred": "enhanced-distilled",
    "not-worse": "enhanced-baseline",
    "gap": "baseline-distilled",
}
"""What is asked, and of which comparison: is enhanced preferred to distilled, is it not worse than the baseline by the
margin, and do raters prefer the baseline to distilled at all."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A question of the study with its answer."""

    name: str
    comparison: str
    threshold: float
    """The interval has to lie above this share for a yes, below it for a no."""
    verdict: Verdict
    sentence: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Votes on two arms."""

    name: str
    share: Share
    """Of preferences for the first arm."""
    alpha: float | None
    """Krippendorff's alpha of all raters."""


@dataclass(frozen=True, slots=True)
class GroupShare:
    """Votes on two arms, on subjects of one group."""

    attribute: str
    group: str
    comparison: str
    share: Share


@dataclass(frozen=True, slots=True)
class StudyResult:
    """Everything that a study shows so far."""

    title: str
    plan_digest: str
    planned_raters: int
    subjects: int
    margin: float
    raters: tuple[RaterReport, ...]
    deleted_raters: int
    claims: tuple[Claim, ...]
    comparisons: tuple[Comparison, ...]
    strengths: tuple[Strength, ...]
    """Bradley-Terry; empty with votes on fewer than two comparisons."""
    groups: tuple[GroupShare, ...]
    first_place: Share | None
    """Share of picture 1, whatever it shows; 0.5 without a bias."""
    power: PowerAnalysis
    notes: tuple[str, ...]
    rules: dict[str, Any]

    @property
    def counted(self) -> list[RaterReport]:
        """Raters with a vote that counts."""
        return [rater for rater in self.raters if not rater.excluded and rater.votes]

    def comparison(self, name: str) -> Comparison | None:
        """The votes on one comparison, None without any."""
        return next((one for one in self.comparisons if one.name == name), None)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"format": FORMAT, "format_version": FORMAT_VERSION, **dataclasses.asdict(self)}


def read_result(folder: Path, plan: StudyPlan) -> tuple[StudyResult, list[Rater]]:
    """The result of a study's folder, and its raters; raises `DataError` as `read_raters` does."""
    raters, deleted = read_raters(folder, plan)
    return analyse(plan, raters, deleted), raters


def analyse(plan: StudyPlan, raters: Sequence[Rater], deleted: int = 0) -> StudyResult:
    """The result of all votes of raters that no rule of the plan excludes."""
    reports = report_raters(raters, plan.rules)
    excluded = {report.number for report in reports if report.excluded}
    counted = [rater for rater in raters if rater.number not in excluded]
    votes = {name: _votes(counted, name) for name in COMPARISONS}
    comparisons = [
        Comparison(name, own, agreement(votes[name])) for name in COMPARISONS if (own := share(votes[name])) is not None
    ]
    shares = {one.name: one.share for one in comparisons}
    first_place = share(_first_places(counted))
    claims = tuple(_claim(name, shares[of], plan.margin) for name, of in CLAIMS.items() if of in shares)
    return StudyResult(
        title=plan.title,
        plan_digest=plan.digest,
        planned_raters=plan.raters,
        subjects=len(plan.subjects),
        margin=plan.margin,
        raters=tuple(reports),
        deleted_raters=deleted,
        claims=claims,
        comparisons=tuple(comparisons),
        strengths=tuple(bradley_terry([(COMPARISONS[name], own) for name, own in votes.items()])),
        groups=tuple(_groups(plan, votes)),
        first_place=first_place,
        power=analyse_power(plan),
        notes=tuple(_notes(plan, reports, deleted, first_place, claims)),
        rules=plan.rules.model_dump(mode="json"),
    )


def _votes(raters: Sequence[Rater], comparison: str) -> Votes:
    """All votes on one comparison; a score of 1 is for its first arm."""
    rows = [
        (0.5 if (arm := chosen_arm(rater, vote)) is None else float(arm == COMPARISONS[comparison][0]), rater, vote)
        for rater in raters
        for vote in rater.votes
        if rater.trials[vote.position].comparison == comparison
    ]
    return _arrays([(score, rater.number, rater.trials[vote.position].subject) for score, rater, vote in rows])


def _first_places(raters: Sequence[Rater]) -> Votes:
    """All decided votes; a score of 1 is for picture 1."""
    return _arrays(
        [
            (float(vote.choice == "1"), rater.number, rater.trials[vote.position].subject)
            for rater in raters
            for vote in rater.votes
            if vote.choice != "0" and rater.trials[vote.position].comparison != CHECK
        ]
    )


def _arrays(rows: Sequence[tuple[float, int, int]]) -> Votes:
    columns = zip(*rows, strict=True) if rows else ((), (), ())
    score, rater, subject = (np.array(list(column)) for column in columns)
    return Votes(score.astype(np.float64), rater.astype(np.int64), subject.astype(np.int64))


def _groups(plan: StudyPlan, votes: dict[str, Votes]) -> list[GroupShare]:
    """Shares within every group of subjects that has votes."""
    pairs = dict.fromkeys(
        (attribute, group) for subject in plan.subjects for attribute, group in subject.groups.items()
    )
    shares: list[GroupShare] = []
    for attribute, group in sorted(pairs):
        own = [place for place, subject in enumerate(plan.subjects) if subject.groups.get(attribute) == group]
        for name, given in votes.items():
            found = share(given.where(np.isin(given.subject, own)))
            if found is not None:
                shares.append(GroupShare(attribute, group, name, found))
    return shares


def _claim(name: str, own: Share, margin: float) -> Claim:
    threshold = 0.5 - margin if name == "not-worse" else 0.5
    verdict: Verdict = "yes" if own.low > threshold else "no" if own.high < threshold else "open"
    figures = f"{own.value * 100:.1f} % of preferences, 95 % interval {own.low * 100:.1f} to {own.high * 100:.1f} %"
    within = f"margin of {margin * 100:g} points, fixed beforehand"
    sentences = {
        ("preferred", "yes"): "Enhanced is preferred to distilled",
        ("preferred", "no"): "Distilled is preferred to enhanced",
        ("preferred", "open"): "Whether enhanced or distilled is preferred stays open",
        ("not-worse", "yes"): f"Enhanced is not worse than the baseline ({within})",
        ("not-worse", "no"): f"Enhanced is worse than the baseline by more than the margin ({within})",
        ("not-worse", "open"): f"Whether enhanced is worse than the baseline stays open ({within})",
        ("gap", "yes"): "Raters prefer the baseline to distilled",
        ("gap", "no"): "Raters prefer distilled to the baseline",
        ("gap", "open"): "Whether raters prefer the baseline to distilled stays open",
    }
    return Claim(name, CLAIMS[name], threshold, verdict, f"{sentences[name, verdict]}: {figures}.")


def _notes(
    plan: StudyPlan, reports: Sequence[RaterReport], deleted: int, first: Share | None, claims: Sequence[Claim]
) -> list[str]:
    """What to keep in mind, a sentence each."""
    notes: list[str] = []
    complete = sum(report.complete and not report.excluded for report in reports)
    if complete < plan.raters:
        notes.append(
            f"{complete} of {plan.raters} planned raters have answered everything and count; a study that is looked at "
            "early and ended when it pleases claims too much"
        )
    excluded = [report for report in reports if report.excluded]
    if excluded:
        names = first_few((f"rater {each.number}: {', '.join(each.excluded)}" for each in excluded), 5, "; ")
        notes.append(f"left out by the rules fixed at creation: {_raters(len(excluded))} ({names})")
    doubled = [r for r in reports if not r.excluded and (r.same_browser_as or r.same_network_as)]
    if doubled:
        some = ", ".join(f"{r.number} and {r.same_browser_as or r.same_network_as}" for r in doubled[:5])
        notes.append(
            f"{_raters(len(doubled))} that count and an earlier one share a browser, or a network address and kind of "
            f"browser, and may be one person (such as {some})"
        )
    if first is not None and not first.low <= 0.5 <= first.high:
        notes.append(
            f"raters chose picture {1 if first.value > 0.5 else 2} more often (picture 1 in {first.value * 100:.1f} %, "
            f"95 % interval {first.low * 100:.1f} to {first.high * 100:.1f} %); places are random, so this blurs "
            "preferences and favours no arm"
        )
    verdicts = {claim.name: claim.verdict for claim in claims}
    if verdicts.get("not-worse") == "yes" and verdicts.get("gap") != "yes":
        notes.append(
            "raters did not prefer the baseline to distilled, so that enhanced is not worse than the baseline says "
            "little: they may not have seen any difference"
        )
    if deleted:
        notes.append(f"{_raters(deleted)} deleted their votes")
    return notes


def _raters(count: int) -> str:
    return "1 rater" if count == 1 else f"{count} raters"


def write_votes(path: Path, plan: StudyPlan, raters: Sequence[Rater], result: StudyResult) -> None:
    """Write all votes as CSV, a line each, with the arms that were seen; no link, browser or network."""
    reasons = {report.number: "; ".join(report.excluded) for report in result.raters}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    columns = "rater position subject comparison picture_1 picture_2 choice preferred seconds received excluded"
    attributes = sorted({attribute for subject in plan.subjects for attribute in subject.groups})
    writer.writerow([*columns.split(), *attributes])
    for rater in raters:
        for vote, seconds in zip(rater.votes, seconds_of(rater), strict=True):
            trial = rater.trials[vote.position]
            subject = plan.subjects[trial.subject]
            row = [rater.number, vote.position + 1, subject.id, trial.comparison, *trial.arms, vote.choice]
            row += [
                chosen_arm(rater, vote) or "neither",
                f"{seconds:.3f}",
                f"{vote.received:.3f}",
                reasons[rater.number],
            ]
            writer.writerow([*row, *(subject.groups.get(attribute, "") for attribute in attributes)])
    write_text(path, buffer.getvalue())
