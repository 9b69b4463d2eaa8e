"""The result of an evaluation: a list of scores, what explains them, and both in words and tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from topcoat.metrics.base import Curve, Flag, Interval, Score, Scored
from topcoat.metrics.groups import Groups
from topcoat.metrics.table import Table

FORMAT, FORMAT_VERSION = "topcoat-evaluation", 2
EXAMPLES_EACH = 2
"""Subjects of each place (best, median, worst) that a report shows, for each number."""
ARMS = {
    "distilled": "distilled (no head)",
    "enhanced": "enhanced",
    "gated": "enhanced, with gates",
    "floor": "baseline, other seeds",
    "reference": "baseline",
}
"""What tables call the arms, in their order; other arms follow under their own names."""
FAMILIES = {
    "distances": "Distance to the baseline",
    "diversity": "Fidelity and diversity",
    "gates": "What gates did",
    "paired": "Image against image of the same subject",
    "detail": "Fine detail",
    "quality": "Quality of each image by itself",
    "two-sample": "Can a fresh classifier tell them from the baseline?",
    "groups": "Skin tone",
}
"""Titles of the tables; another family is its own title."""


@dataclass(frozen=True, slots=True)
class Example:
    """A subject to look at, chosen by a number."""

    measure: str
    """What it was chosen by, such as ``identity``."""
    place: str
    """``best``, ``median`` or ``worst``."""
    index: int
    """Position in the streams, from 0."""
    value: float


def choose_examples(
    measure: str, values: Tensor, *, best_is_high: bool, each: int = EXAMPLES_EACH
) -> tuple[Example, ...]:
    """``each`` subjects of every place from ``(N,)`` values, best first; the worst start with the very worst.

    A value that is not finite is in no place, and a subject is in one only: of few subjects there are fewer. Equal
    values keep the order of the subjects.
    """
    rows = values.isfinite().nonzero().squeeze(1)
    order = rows[values[rows].argsort(descending=best_is_high, stable=True)].tolist()
    middle = max(0, (len(order) - each) // 2)
    places = {"best": order[:each], "worst": order[::-1][:each], "median": order[middle : middle + each]}
    place_of: dict[int, str] = {}
    for place, chosen in places.items():
        for index in chosen:
            place_of.setdefault(index, place)
    return tuple(
        Example(measure, place, index, float(values[index]))
        for place in ("best", "median", "worst")
        for index in places[place]
        if place_of[index] == place
    )


@dataclass(frozen=True, slots=True)
class FeatureRecord:
    """The feature net of the scores."""

    net: str
    digest: str
    dimensions: int


@dataclass(frozen=True, slots=True)
class Evaluation(Scored):
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

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        plain = dataclasses.asdict(self) | {"scores": [score.as_dict() for score in self.scores]}
        return {"format": FORMAT, "format_version": FORMAT_VERSION, **plain}

    def summary(self) -> str:
        """One paragraph for a person to read."""
        flags = [f" Flagged: {flag.name} ({flag.sentence})." for flag in self.flags]
        return "".join((main_figures(self), *flags, *(f" Note: {note}." for note in self.notes)))

    def markdown(self) -> str:
        """Everything as Markdown, readable as plain text: summary, a table for each family, flags and notes."""
        parts = ["# Evaluation", self.summary()]
        for section in sections(self):
            parts.append("\n".join((f"## {section.title}", *section.lines)))
            parts += [section.table.markdown()] if section.table.rows else []
        if self.flags:
            parts += ["## Flags", "\n".join(f"- **{flag.name}**: {flag.sentence}" for flag in self.flags)]
        if self.notes:
            parts += ["## Notes", "\n".join(f"- {note}" for note in self.notes)]
        return "\n\n".join(parts) + "\n"


@dataclass(frozen=True, slots=True)
class Section:
    """A title, sentences (a line each) and a table, which may be empty."""

    title: str
    lines: Sequence[str]
    table: Table


def sections(evaluation: Evaluation) -> list[Section]:
    """One for each family of scores, with a row for each metric and a column for each arm, and two for groups."""
    features, scores = evaluation.features, evaluation.scores
    lines = (
        f"Feature net {features.net} (weights {features.digest}, {features.dimensions} dimensions), "
        f"{evaluation.n_reference:,} reference images.",
        "In brackets: 95 % intervals. An arrow shows which direction is better.",
    )
    parts: list[Section] = []
    for family in dict.fromkeys(score.family for score in scores):
        own = [score for score in scores if score.family == family]
        given = dict.fromkeys(score.arm for score in own)
        arms = [arm for arm in ARMS if arm in given] + [arm for arm in given if arm not in ARMS]
        details = any(score.detail for score in own)
        rows: list[list[str]] = []
        for metric in dict.fromkeys(score.metric for score in own):
            by_arm = {score.arm: score for score in own if score.metric == metric}
            n = max(score.n for score in by_arm.values())
            cells = (value_text(by_arm[arm]) if arm in by_arm else "-" for arm in arms)
            detail = "; ".join(dict.fromkeys(score.detail for score in by_arm.values() if score.detail))
            label = row_label(next(iter(by_arm.values())))
            rows.append([label, f"{n:,}", *cells, *([detail or "-"] if details else [])])
        columns = ["metric", "N", *(ARMS.get(arm, arm) for arm in arms), *(["detail"] if details else [])]
        parts.append(Section(FAMILIES.get(family, family.capitalize()), lines, Table(columns, rows)))
        lines = ()
    return parts + ([] if evaluation.groups is None else _group_sections(evaluation.groups))


def row_label(score: Score) -> str:
    """What the row of a score is called: label, unit and direction."""
    unit = "" if score.unit in ("", "share") else f" ({score.unit})"
    arrow = {"low": " ↓", "high": " ↑", None: ""}[score.better]
    return f"{score.label or score.metric}{unit}{arrow}"


def value_text(score: Score) -> str:
    """The value with its interval, a share in per cent."""

    def number(value: float) -> str:
        return f"{value * 100:.1f}" if score.unit == "share" else f"{value:.4g}"

    text = number(score.value) + (" %" if score.unit == "share" else "")
    ends = score.interval
    return text if ends is None else f"{text} ({number(ends.low)} to {number(ends.high)})"


def percent(share: float) -> str:
    """``0.63`` as ``63 %``."""
    return f"{share * 100:.0f} %"


def share_interval(score: Score) -> str:
    """``95 % interval 60 % to 72 %``; empty for a share without an interval."""
    ends = score.interval
    return "" if ends is None else f"95 % interval {percent(ends.low)} to {percent(ends.high)}"


def share_text(score: Score) -> str:
    """``63 % (95 % interval 60 % to 72 %)``."""
    return f"{percent(score.value)} ({share_interval(score)})"


def share_ends(share: Interval) -> str:
    """``63 % (60 to 72)``."""
    return f"{percent(share.value)} ({share.low * 100:.0f} to {share.high * 100:.0f})"


def main_figures(evaluation: Evaluation) -> str:
    """The most important scores as one paragraph, without flags and notes."""
    score, value = evaluation.score, evaluation.value
    parts = [
        f"{evaluation.n:,} enhanced images against {evaluation.n_reference:,} reference images "
        f"(feature net {evaluation.features.net}, {evaluation.features.dimensions} dimensions): "
        f"measured Fréchet distance {value('frechet'):.3f}"
    ]
    for arm, name in (("distilled", "identity baseline (no head)"), ("floor", "noise floor")):
        if score("frechet", arm) is not None:
            parts.append(f", {name} {value('frechet', arm):.3f}")
    parts.append(".")
    gap = score("gap_closed")
    if gap is not None:
        parts.append(f" Share of the gap closed: {share_text(gap)}.")
    mean, p05 = value("identity_mean"), value("identity_p05")
    if mean is not None and p05 is not None:
        parts.append(f" Identity kept: mean {mean:.3f}, 5th percentile {p05:.3f}.")
    weakened, left = value("weakened_share", "gated"), value("distilled_share", "gated")
    if weakened is not None and left is not None:
        parts.append(
            f" With gates: Fréchet distance {value('frechet', 'gated'):.3f}, identity "
            f"{value('identity_p05', 'gated'):.3f} at the 5th percentile, {percent(weakened + left)} of the images "
            "weakened or left distilled."
        )
    accuracy = value("c2st_accuracy")
    if accuracy is not None:
        parts.append(f" Two-sample accuracy of a fresh classifier: {percent(accuracy)} (chance 50 %).")
    return "".join(parts)


def _group_sections(groups: Groups) -> list[Section]:
    rows = [
        (
            f"{one.attribute} = {one.group}",
            one.score,
            f"{one.n:,}",
            f"{one.mean:.4g} ({one.low:.4g} to {one.high:.4g})",
            "-" if one.p_value is None else f"{one.p_value:.2g}",
        )
        for one in groups.scores
    ]
    lines = (groups.statement(), *(f"{difference.sentence()}." for difference in groups.differences))
    parts = [Section("Groups", lines, Table(("group", "score", "N", "mean", "corrected p"), rows))]
    if groups.gaps:
        gaps = [
            (f"{one.attribute} = {one.group}", f"{one.n:,}", "-" if one.gap is None else share_ends(one.gap))
            for one in groups.gaps
        ]
        table = Table(("group", "N", "share of the gap closed"), gaps)
        parts.append(Section("Gap closed within groups", (), table))
    return parts
