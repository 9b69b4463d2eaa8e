"""Scores of arms: quality against the baseline, computed cost, measured time, and what that saves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from topcoat.benchmark.arms import Arm
from topcoat.benchmark.run import Measured
from topcoat.cost.flops import EXTRA_STEPS, pair_cost
from topcoat.cost.measure import Timing
from topcoat.generators.base import ModelPair
from topcoat.heads.head import Head
from topcoat.metrics.base import Metric, Score
from topcoat.metrics.context import Context
from topcoat.metrics.embed import Embeddings, FeatureNetLike
from topcoat.metrics.gap import ExtrapolatedGapMetric, FrechetMetric
from topcoat.metrics.identity import IdentityMetric

SET_METRICS: tuple[type[Metric], ...] = (FrechetMetric, ExtrapolatedGapMetric, IdentityMetric)
"""What is measured of an arm's features; any metric that needs no images can be added."""


def feature_scores(
    net: FeatureNetLike, net_name: str, sets: Mapping[str, Embeddings], names: Mapping[str, str]
) -> list[Score]:
    """`SET_METRICS` of the sets ``distilled``, ``enhanced``, ``reference`` and ``floor``.

    Those of the sets in ``names``, which maps a set to the arm that its scores are of.
    """
    context = Context(net, net_name, features={name: [one] for name, one in sets.items()})
    scores = [score for metric in SET_METRICS for score in metric(context).compute()]
    return [dataclasses.replace(score, arm=names[score.arm]) for score in scores if score.arm in names]


def energy_score(arm: str, measured: Measured) -> Score:
    """How sharp the images of an arm are: the mean absolute forward difference."""
    energy = measured.gradient_energy
    return Score("gradient_energy", arm, float(energy.mean()), n=len(energy), family="detail")


def cost_scores(pair: ModelPair, arms: Mapping[str, Arm], heads: Mapping[str, Head]) -> list[Score]:
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


def time_scores(pair: ModelPair, arms: Mapping[str, Arm], seconds: Mapping[str, Mapping[str, Timing]]) -> list[Score]:
    """Measured seconds per image of every arm and its parts, from `timings`, and what an arm saves.

    Each is a median; its ends are the 10th and 90th percentile over batches.
    """
    scores = [
        Score(metric, name, one.median_seconds, one.low, one.high, one.runs, "s", "low", family="time")
        for name, taken in seconds.items()
        for metric, one in taken.items()
    ]
    medians = {name: taken["seconds"].median_seconds for name, taken in seconds.items()}
    plain = {name: arm for name, arm in arms.items() if arm == Arm("baseline", arm.steps)}
    baselines = {arm.steps: medians[name] for name, arm in plain.items() if name in medians}
    return scores + _savings("seconds", pair, arms, medians, baselines)


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
