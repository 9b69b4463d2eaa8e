"""Scores of arms: quality against the baseline, computed cost, measured time, and what that saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from topcoat.benchmark.arms import Arm
from topcoat.benchmark.run import ArmSeconds, Measured
from topcoat.cost.flops import EXTRA_STEPS, pair_cost
from topcoat.generators.base import ModelPair
from topcoat.heads.head import HeadProtocol
from topcoat.metrics.base import Score
from topcoat.metrics.embed import Embeddings
from topcoat.metrics.evaluation import FeatureRecord
from topcoat.metrics.gap import GapClosed, extrapolated_gap, gap_closed
from topcoat.metrics.identity import different_subjects, identity


@dataclass(frozen=True, slots=True)
class References:
    """What the images of an arm are compared with: the distilled model's, the baseline's, and the noise floor."""

    distilled: Embeddings
    baseline: Embeddings
    floor: Embeddings
    features: FeatureRecord

    def score(self, metric: str, arm: str, value: float, low: float | None = None, high: float | None = None,
              *, unit: str = "", better: Literal["low", "high"] | None, family: str) -> Score:  # fmt: skip
        """A score in the features of the net."""
        n = len(self.baseline)
        return Score(metric, arm, value, low, high, n, unit, better, self.features.net, self.features.digest, family)


def set_scores(arm: str, measured: Measured, references: References) -> list[Score]:
    """Quality of an arm: Fréchet distance and share of the gap closed, identity kept, gradient energy.

    Distance and share are also extrapolated to endlessly many subjects, where there are enough for that.
    """
    scores: list[Score] = []
    for suffix, gap in _gaps(measured.embeddings, references).items():
        at = gap.enhanced
        scores.append(
            references.score(f"frechet{suffix}", arm, at.value, at.low, at.high, better="low", family="distances")
        )
        if gap.value is not None:
            scores.append(
                references.score(
                    f"gap_closed{suffix}", arm, gap.value, gap.low, gap.high,
                    unit="share", better="high", family="distances",
                )
            )  # fmt: skip
    kept = identity(references.distilled.identity, measured.embeddings.identity)
    for metric, value in (("identity_mean", kept.mean), ("identity_p05", kept.p05)):
        scores.append(references.score(metric, arm, value, better="high", family="identity"))
    return [*scores, energy_score(arm, measured)]


def energy_score(arm: str, measured: Measured) -> Score:
    """How sharp the images of an arm are: the mean absolute forward difference."""
    return Score("gradient_energy", arm, measured.gradient_energy, n=len(measured.embeddings), family="detail")


def reference_scores(baseline: str, floor: str, references: References) -> list[Score]:
    """The noise floor, and cosines of identity between different subjects."""
    scores = [
        references.score(f"frechet{suffix}", floor, gap.floor.value, gap.floor.low, gap.floor.high,
                         better="low", family="distances")
        for suffix, gap in _gaps(references.floor, references).items()
    ]  # fmt: skip
    others = different_subjects(references.distilled.identity, references.baseline.identity)
    for metric, value in (("mean", float(others.mean())), ("p95", float(others.quantile(0.95)))):
        scores.append(
            references.score(f"identity_mismatched_{metric}", baseline, value, better=None, family="identity")
        )
    return scores


def _gaps(images: Embeddings, references: References) -> dict[str, GapClosed]:
    """The gap that a set of images closes, by the suffix of its metrics."""
    y = references.baseline.embedding
    sets = references.distilled.embedding, images.embedding, y, references.floor.embedding
    if len(y) >= 2 * y.shape[1]:
        return {"": gap_closed(*sets), "_extrapolated": extrapolated_gap(*sets)}
    return {"": gap_closed(*sets)}


def cost_scores(pair: ModelPair, arms: Mapping[str, Arm], heads: Mapping[str, HeadProtocol]) -> list[Score]:
    """Computed TFLOP per image of every arm, whole pipeline, of its head, and what an arm saves.

    Raises `ModelError` for a model that cannot be counted. Arms whose head is not in ``heads`` are left out.
    """
    bare = pair_cost(pair)
    tables = {name: pair_cost(pair, head) for name, head in heads.items()}
    tflop: dict[str, float] = {}
    scores: list[Score] = []
    for name, arm in arms.items():
        if arm.model == "baseline":
            tflop[name] = bare.baseline.at_steps(arm.steps).tflop
        elif arm.head is None:
            tflop[name] = bare.distilled.at_steps(arm.steps).tflop
        elif arm.head in tables:
            tflop[name] = tables[arm.head].enhanced.at_steps(arm.steps).tflop
            scores.append(_cost("head_tflop", name, tables[arm.head].head_tflop))
    scores += [_cost("tflop", name, value) for name, value in tflop.items()]
    against = {count: bare.baseline.at_steps(count).tflop for count in (pair.baseline.steps, EXTRA_STEPS)}
    return scores + _savings("tflop", pair, arms, tflop, against)


def time_scores(pair: ModelPair, arms: Mapping[str, Arm], seconds: Mapping[str, ArmSeconds]) -> list[Score]:
    """Measured seconds per image of every arm and of its head, and what an arm saves.

    Each is a median; its ends are the 10th and 90th percentile over batches.
    """
    scores: list[Score] = []
    for name, taken in seconds.items():
        parts = {"seconds": taken.whole, "generator_seconds": taken.generator, "head_seconds": taken.head}
        for metric, timing in parts.items():
            if timing is not None and (taken.head is not None or metric == "seconds"):
                scores.append(
                    Score(metric, name, timing.median_seconds, timing.low, timing.high, timing.runs, "s", "low",
                          family="time")
                )  # fmt: skip
    medians = {name: taken.whole.median_seconds for name, taken in seconds.items()}
    baselines = {arms[name].steps: value for name, value in medians.items() if arms[name] == _plain(arms[name])}
    return scores + _savings("seconds", pair, arms, medians, baselines)


def _plain(arm: Arm) -> Arm:
    """The baseline's own images at the arm's step count."""
    return Arm("baseline", arm.steps)


def _savings(
    metric: str, pair: ModelPair, arms: Mapping[str, Arm], values: Mapping[str, float], baselines: Mapping[int, float]
) -> list[Score]:
    """Shares that the distilled arms save against the baseline's own steps and at `EXTRA_STEPS`, where known."""
    scores: list[Score] = []
    for suffix, steps in (("saving", pair.baseline.steps), (f"saving_at_{EXTRA_STEPS}_steps", EXTRA_STEPS)):
        if steps in baselines:
            scores += [
                Score(f"{metric}_{suffix}", name, 1 - value / baselines[steps], unit="share", better="high",
                      family="cost" if metric == "tflop" else "time")
                for name, value in values.items()
                if arms[name].model == "distilled"
            ]  # fmt: skip
    return scores


def _cost(metric: str, arm: str, value: float) -> Score:
    return Score(metric, arm, value, unit="TFLOP", better="low", family="cost")


def ordered(scores: Sequence[Score], arms: Sequence[str]) -> tuple[Score, ...]:
    """Scores in the order of ``arms``."""
    places = {name: place for place, name in enumerate(arms)}
    return tuple(sorted(scores, key=lambda score: places[score.arm]))
