"""The result of an evaluation, as ``report.json`` holds it: a list of scores, and what explains them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from topcoat.metrics.base import Curve, Flag, Score, score_of
from topcoat.metrics.examples import Example
from topcoat.metrics.groups import Groups

FORMAT, FORMAT_VERSION = "topcoat-evaluation", 2


@dataclass(frozen=True, slots=True)
class FeatureRecord:
    """The feature net of the scores."""

    net: str
    digest: str
    dimensions: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of `evaluate`; a score that was not asked for, or needs other images, is not in the list."""

    n: int
    n_reference: int
    features: FeatureRecord
    scores: tuple[Score, ...]
    flags: tuple[Flag, ...]
    notes: tuple[str, ...]
    """What was left out, and what to keep in mind."""
    settings: dict[str, Any]
    """What repeats it: metrics, seed, batch and image sizes, and the numbers behind FD-infinity."""
    groups: Groups | None = None
    curves: tuple[Curve, ...] = ()
    examples: tuple[Example, ...] = ()
    """Best, median and worst subjects by identity and by distance to the baseline."""

    def score(self, metric: str, arm: str = "enhanced") -> Score | None:
        """The score of ``metric`` for ``arm``, or None."""
        return score_of(self.scores, metric, arm)

    def value(self, metric: str, arm: str = "enhanced") -> float | None:
        """The value of that score, or None."""
        score = self.score(metric, arm)
        return None if score is None else score.value

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        plain = dataclasses.asdict(self) | {"scores": [score.as_dict() for score in self.scores]}
        return {"format": FORMAT, "format_version": FORMAT_VERSION, **plain}

    def summary(self) -> str:
        """One paragraph for a person to read."""
        from topcoat.metrics.text import summary

        return summary(self)

    def markdown(self) -> str:
        """All scores as Markdown tables, readable as plain text."""
        from topcoat.metrics.text import markdown

        return markdown(self)
