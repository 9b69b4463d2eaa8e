"""What a metric is, and what it gives: scores with an interval, and flags where a head is broken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["low", "high"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Score:
    """One number: a metric of one arm, that is, of one set of images. Every report is drawn from a list of these."""

    metric: str
    """Such as ``frechet`` or ``gap_closed``."""
    arm: str
    """Such as ``distilled`` (the identity baseline), ``enhanced``, ``gated``, ``floor`` (the noise floor)."""
    value: float
    low: float | None = None
    high: float | None = None
    """95 % interval, where there is one."""
    n: int = 0
    """Images or subjects behind the value."""
    unit: str = ""
    """Empty for a plain number; ``share`` is 0 to 1 and shown in per cent."""
    better: Better | None = None
    """Which direction is good; None where neither is."""
    net: str | None = None
    digest: str | None = None
    """The feature net and its weights; None where the value comes from pixels alone."""
    family: str = ""
    """Scores of one family share a table."""
    label: str = ""
    """What tables and charts call the metric; the name of the metric where it is empty."""
    detail: str = ""
    """What the number does not say, such as the period of a grid."""

    @property
    def interval(self) -> Interval | None:
        """Value and ends, or None for a score without an interval."""
        return None if self.low is None or self.high is None else Interval(self.value, self.low, self.high)


@dataclass(frozen=True, slots=True)
class Flag:
    """Something that is wrong with the images."""

    name: str
    sentence: str
