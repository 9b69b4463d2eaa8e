"""What stands out in raters: failed attention checks, answers too fast to look, one place always, one person twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from topcoat.study.plan import CHECK, CHECK_ARMS, ExclusionRules
from topcoat.study.store import Rater, Vote

_FEWEST_SIDED = 20
"""Decided answers from which always the same place stands out."""


@dataclass(frozen=True, slots=True)
class RaterReport:
    """One rater in figures, and the rules that leave them out."""

    number: int
    votes: int
    """Answers, without attention checks."""
    asked: int
    """Comparisons that they would see in all, attention checks included."""
    answered: int
    checks: int
    failed_checks: int
    median_seconds: float | None
    fast_share: float | None
    """Of all answers."""
    first_share: float | None
    """Share of picture 1 in decided answers, without attention checks."""
    decided: int
    same_browser_as: int | None
    same_network_as: int | None
    """The first rater with whom they share it."""
    excluded: tuple[str, ...]
    """Why their votes are left out; empty where they count."""

    @property
    def complete(self) -> bool:
        """Whether they answered everything."""
        return self.answered == self.asked


def seconds_of(rater: Rater) -> list[float]:
    """How long each answer took: what the page measured, but no longer than the time between answers at the server."""
    arrivals = [rater.started, *(vote.received for vote in rater.votes)]
    gaps = [later - earlier for earlier, later in pairwise(arrivals)]
    return [max(0.0, min(vote.dwell_seconds, gap)) for vote, gap in zip(rater.votes, gaps, strict=True)]


def chosen_arm(rater: Rater, vote: Vote) -> str | None:
    """The arm that an answer prefers; None for no difference."""
    return None if vote.choice == "0" else rater.trials[vote.position].arms[int(vote.choice) - 1]


def report_raters(raters: Sequence[Rater], rules: ExclusionRules) -> list[RaterReport]:
    """Every rater in figures, with the rules that apply."""
    browsers: dict[str, int] = {}
    networks: dict[str, int] = {}
    reports: list[RaterReport] = []
    for rater in raters:
        first = browsers.setdefault(rater.browser, rater.number), networks.setdefault(rater.network, rater.number)
        browser, network = (None if number == rater.number else number for number in first)
        reports.append(_report(rater, rules, browser, network))
    return reports


def _report(rater: Rater, rules: ExclusionRules, browser: int | None, network: int | None) -> RaterReport:
    checks = [vote for vote in rater.votes if rater.trials[vote.position].comparison == CHECK]
    failed = sum(chosen_arm(rater, vote) != CHECK_ARMS[0] for vote in checks)
    votes = [vote for vote in rater.votes if rater.trials[vote.position].comparison != CHECK]
    decided = [vote.choice for vote in votes if vote.choice != "0"]
    first = decided.count("1") / len(decided) if decided else None
    seconds = seconds_of(rater)
    fast = sum(one < rules.fast_seconds for one in seconds) / len(seconds) if seconds else None
    reasons: list[str] = []
    if rules.failed_checks is not None and failed > rules.failed_checks:
        reasons.append(f"failed {failed} of {len(checks)} attention checks")
    if rules.fast_share is not None and fast is not None and fast > rules.fast_share:
        reasons.append(f"{fast * 100:.0f} % of answers in less than {rules.fast_seconds:g} s")
    if rules.side_share is not None and first is not None and len(decided) >= _FEWEST_SIDED:
        most = max(first, 1 - first)
        if most > rules.side_share:
            reasons.append(f"picture {1 if first > 0.5 else 2} in {most * 100:.0f} % of {len(decided)} decided answers")
    if rules.doubled != "none" and browser is not None:
        reasons.append(f"same browser as rater {browser}")
    elif rules.doubled == "network" and network is not None:
        reasons.append(f"same network address and kind of browser as rater {network}")
    return RaterReport(
        number=rater.number,
        votes=len(votes),
        asked=len(rater.trials),
        answered=len(rater.votes),
        checks=len(checks),
        failed_checks=failed,
        median_seconds=float(np.median(seconds)) if seconds else None,
        fast_share=fast,
        first_share=first,
        decided=len(decided),
        same_browser_as=browser,
        same_network_as=network,
        excluded=tuple(reasons),
    )
