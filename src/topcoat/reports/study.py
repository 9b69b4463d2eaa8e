"""The page of a blind study: claims, shares with intervals, strengths, groups and raters."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from topcoat.metrics.table import Table
from topcoat.reports.charts import Bar, intervals
from topcoat.reports.page import Card, Chart, render
from topcoat.study.plan import COMPARISONS
from topcoat.study.power import PowerAnalysis
from topcoat.study.result import StudyResult
from topcoat.study.statistics import Share

_LISTED = 100


def headline(result: StudyResult) -> str:
    """What the study shows, in a few words."""
    verdicts = {claim.name: claim.verdict for claim in result.claims}
    preferred = {
        "yes": "Preferred to distilled",
        "no": "Less liked than distilled",
        "open": "Distilled or enhanced: open",
    }
    not_worse = {"yes": "not worse than the baseline", "no": "worse than the baseline", "open": "the baseline: open"}
    parts = [
        words[verdicts[name]]
        for name, words in (("preferred", preferred), ("not-worse", not_worse))
        if name in verdicts
    ]
    return ", ".join(parts) if parts else "No votes yet"


def study_table(result: StudyResult) -> Table:
    """A row for each comparison, with a claim or without."""
    rows = [
        (
            one.name.replace("-", " over "),
            f"{one.share.n:,}",
            share_cell(one.share),
            f"{one.share.first:,} / {one.share.neither:,} / {one.share.second:,}",
            f"{one.share.effective_n:,.0f}",
            "-" if one.alpha is None else f"{one.alpha:.2f}",
        )
        for one in result.comparisons
    ]
    return Table(("preferred", "votes", "share", "for / neither / against", "effective votes", "alpha"), rows)


def share_cell(share: Share) -> str:
    """``63.2 % (57.1 to 68.9)``."""
    return f"{share.value * 100:.1f} % ({share.low * 100:.1f} to {share.high * 100:.1f})"


def power_lines(power: PowerAnalysis) -> list[str]:
    """What a planned study can tell, a sentence each."""
    needed = (
        "no number of raters is enough" if power.needed_raters is None else f"that takes {power.needed_raters} raters"
    )
    return [
        f"{power.raters} raters give {power.votes:,} votes on each of 3 comparisons of {power.subjects} subjects",
        f"a share near 50 % is known to within {power.half_width * 100:.1f} points (95 % interval)",
        f"a preference of {power.smallest_share * 100:.1f} % or more is told from 50 % in 80 % of such studies",
        f"if enhanced is as good as the baseline, {power.margin_power * 100:.0f} % of such studies show that it is not "
        f"worse by the margin of {power.margin * 100:g} points",
        f"within 5 points takes {power.independent_votes} independent votes on a comparison; votes of one rater or on "
        f"one subject are alike (correlation {power.correlation:g} assumed), so with these subjects {needed}",
    ]


def render_study_page(result: StudyResult) -> str:
    """The page as text."""
    excluded = [rater for rater in result.raters if rater.excluded]
    groups = [
        (
            f"{one.attribute} = {one.group}",
            one.comparison.replace("-", " over "),
            f"{one.share.n:,}",
            share_cell(one.share),
        )
        for one in result.groups
    ]
    strengths = [
        (
            one.comparison.replace("-", " over "),
            f"{one.log_odds:+.2f}",
            f"{one.probability * 100:.1f} % ({one.low * 100:.1f} to {one.high * 100:.1f})",
        )
        for one in result.strengths
    ]
    return render(
        "blind_study.html.j2",
        title=f"topcoat study: {result.title}",
        result=result,
        headline=headline(result),
        excluded=excluded,
        cards=_cards(result),
        proven=[claim.sentence for claim in result.claims if claim.verdict == "yes"],
        others=[claim.sentence for claim in result.claims if claim.verdict != "yes"],
        charts=_charts(result),
        group_charts=_group_charts(result),
        table=study_table(result),
        strengths=Table(("first over second", "log-odds", "probability"), strengths),
        groups=Table(("group", "preferred", "votes", "share"), groups),
        raters=_raters(result),
        power=power_lines(result.power),
        values={name: value for name, value in result.as_dict().items() if name != "raters"},
    )


_QUESTIONS = {
    "preferred": "Preferred to distilled?",
    "not-worse": "Not worse than the baseline?",
    "gap": "Do raters see the gap?",
}


def _cards(result: StudyResult) -> list[Card]:
    shares = {one.name: share_cell(one.share) for one in result.comparisons}
    claims = [(one, [shares[one.comparison], f"above {one.threshold * 100:g} %?"]) for one in result.claims]
    left_out = sum(bool(rater.excluded) for rater in result.raters)
    planned = f"{left_out} left out, {result.planned_raters} planned"
    return [
        *(Card(_QUESTIONS[claim.name], claim.verdict, detail) for claim, detail in claims),
        Card("Raters that count", f"{len(result.counted):,}", [planned]),
    ]


def _charts(result: StudyResult) -> list[Chart]:
    limit = 0.5 - result.margin
    note = (
        "Share of preferences for the first arm, with 95 % intervals for other raters and other subjects. Enhanced "
        f"over baseline has to lie above {limit * 100:g} %, the others above 50 %."
    )
    shares = [(one.name, "all votes", one.share.value, one.share.low, one.share.high) for one in result.comparisons]
    charts = [Chart("Each comparison by itself", note, _shares(shares, "Shares of preferences"))]
    if result.strengths:
        note = (
            "Bradley-Terry: the probability that the first arm is preferred, from all votes, with bootstrap intervals."
        )
        strengths = [(one.comparison, "Bradley-Terry", one.probability, one.low, one.high) for one in result.strengths]
        charts.append(Chart("All comparisons together", note, _shares(strengths, "Bradley-Terry probabilities")))
    return charts


def _group_charts(result: StudyResult) -> list[Chart]:
    note = "To look at, not to claim: of many groups some differ by chance."
    return [
        Chart(
            attribute,
            note,
            _shares(
                [
                    (one.comparison, one.group, one.share.value, one.share.low, one.share.high)
                    for name in COMPARISONS
                    for one in result.groups
                    if one.comparison == name and one.attribute == attribute
                ],
                f"Shares of preferences by {attribute}",
            ),
        )
        for attribute in dict.fromkeys(one.attribute for one in result.groups)
    ]


def _shares(rows: Sequence[tuple[str, str, float, float, float]], title: str) -> Markup:
    """Shares as ``(comparison, label, value, low, high)``, under a heading for each comparison."""
    drawn: list[Bar | str] = []
    for comparison, label, value, low, high in rows:
        heading = comparison.replace("-", " over ")
        if heading not in drawn:
            drawn.append(heading)
        drawn.append(Bar(label, value, f"{value * 100:.1f} %", comparison.partition("-")[0], low, high))
    ticks = [(0.25, "25 %"), (0.5, "50 %"), (0.75, "75 %")]
    return intervals(drawn, title=title, ticks=ticks)


def _raters(result: StudyResult) -> Table:
    rows = [
        (
            str(rater.number),
            f"{rater.answered} / {rater.asked}",
            f"{rater.failed_checks} / {rater.checks}",
            "-" if rater.median_seconds is None else f"{rater.median_seconds:.1f} s",
            "-" if rater.fast_share is None else f"{rater.fast_share * 100:.0f} %",
            "-" if rater.first_share is None else f"{rater.first_share * 100:.0f} %",
            "; ".join(rater.excluded) or "counts",
        )
        for rater in result.raters[:_LISTED]
    ]
    return Table(("rater", "answered", "checks failed", "median time", "too fast", "picture 1", "result"), rows)
