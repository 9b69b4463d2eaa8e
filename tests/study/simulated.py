"""Raters with known preferences: what the statistics have to find."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from topcoat.study.plan import CHECK, COMPARISONS, ExclusionRules, StudyPlan, StudySubject, trials_of
from topcoat.study.statistics import Votes
from topcoat.study.store import Rater, Vote


@dataclass(frozen=True)
class Population:
    """Preferences in log-odds with a normal part of each rater and of each subject."""

    raters: int = 40
    subjects: int = 60
    each: int = 20
    """Votes of one rater."""
    preference: float = 0.0
    rater_deviation: float = 0.4
    subject_deviation: float = 0.5
    ties: float = 0.2

    def studies(self, count: int, seed: int = 0) -> Iterator[Votes]:
        """Votes of ``count`` studies."""
        random = np.random.default_rng(seed)
        rater = np.repeat(np.arange(self.raters), self.each)
        for _ in range(count):
            subject = np.concatenate([random.permutation(self.subjects)[: self.each] for _ in range(self.raters)])
            odds = self.preference + random.normal(0, self.rater_deviation, self.raters)[rater]
            odds += random.normal(0, self.subject_deviation, self.subjects)[subject]
            score = (random.random(len(rater)) < 1 / (1 + np.exp(-odds))).astype(np.float64)
            yield Votes(np.where(random.random(len(rater)) < self.ties, 0.5, score), rater, subject)

    @property
    def share(self) -> float:
        """The share of preferences in a study without end, by Gauss-Hermite quadrature."""
        points, weights = np.polynomial.hermite_e.hermegauss(80)
        deviation = np.hypot(self.rater_deviation, self.subject_deviation)
        won = weights @ (1 / (1 + np.exp(-(self.preference + deviation * points)))) / weights.sum()
        return float(self.ties / 2 + (1 - self.ties) * won)


def small_plan(subjects: int = 12, votes: int = 36, checks: int = 2, rules: ExclusionRules | None = None) -> StudyPlan:
    """A plan without pictures."""
    names = dict.fromkeys(("distilled", "enhanced", "baseline", "degraded"), "x.webp")
    people = [
        StudySubject(id=f"p{n}", width_px=8, height_px=8, files=names, groups={"age": "young" if n % 2 else "old"})
        for n in range(subjects)
    ]
    return StudyPlan(
        topcoat_version="0",
        created="2026-01-01T00:00:00Z",
        title="t",
        raters=8,
        votes_per_rater=votes,
        checks_per_rater=checks,
        margin=0.1,
        rules=ExclusionRules() if rules is None else rules,
        quality=None,
        seed=3,
        subjects=tuple(people),
    )


def simulated_rater(
    plan: StudyPlan,
    number: int,
    random: np.random.Generator,
    *,
    strengths: dict[str, float] | None = None,
    seconds: float = 3.0,
    side: str | None = None,
    attentive: bool = True,
    browser: str | None = None,
    answers: int | None = None,
) -> Rater:
    """A rater who prefers arms by their ``strengths`` in log-odds, or always takes one ``side``."""
    worth = {"distilled": 0.0, "enhanced": 1.0, "baseline": 1.0} if strengths is None else strengths
    trials = trials_of(plan, number - 1)
    votes: list[Vote] = []
    for position, trial in enumerate(trials[:answers]):
        if trial.comparison == CHECK:
            sharp = "1" if trial.arms[0] == "baseline" else "2"
            choice = sharp if attentive else "0"
        else:
            assert trial.comparison in COMPARISONS
            odds = worth[trial.arms[0]] - worth[trial.arms[1]]
            choice = "1" if random.random() < 1 / (1 + np.exp(-odds)) else "2"
        votes.append(Vote(position, side or choice, seconds, 100 + 10.0 * (position + 1), 1280, 800))  # type: ignore[arg-type]
    return Rater(number, 100.0, browser or f"browser-{number}", f"network-{number}", tuple(trials), tuple(votes))
