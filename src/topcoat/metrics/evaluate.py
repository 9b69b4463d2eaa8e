"""`evaluate`: from images to the scores that say whether they are as good as the baseline's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from topcoat.errors import UsageError
from topcoat.features import QualityNet, domain_flags, open_net, quality_net
from topcoat.metrics.artefacts import ArtefactMetric
from topcoat.metrics.base import Flag, Metric, PerImage, Score
from topcoat.metrics.c2st import TwoSampleMetric
from topcoat.metrics.colour import SkinMetric
from topcoat.metrics.context import Context
from topcoat.metrics.embed import FeatureCache, FeatureNetLike, Images
from topcoat.metrics.evaluation import Evaluation, Example, FeatureRecord, choose_examples
from topcoat.metrics.frechet import FrechetInfinityMetric
from topcoat.metrics.gap import FrechetMetric
from topcoat.metrics.groups import Groups, compare_groups, group_gaps
from topcoat.metrics.identity import GatesMetric, IdentityMetric, IdentityThresholdMetric
from topcoat.metrics.jpeg import JpegMetric
from topcoat.metrics.kernel import CmmdMetric, KernelMetric
from topcoat.metrics.paired import (
    GradientAgreementMetric,
    GradientEnergyMetric,
    PerceptualMetric,
    PsnrMetric,
    StructureMetric,
)
from topcoat.metrics.prdc import DensityCoverageMetric, PrecisionRecallMetric
from topcoat.metrics.quality import QualityMetric
from topcoat.metrics.spectrum import SpectrumMetric

METRICS: tuple[type[Metric], ...] = (
    FrechetMetric,
    FrechetInfinityMetric,
    KernelMetric,
    CmmdMetric,
    PrecisionRecallMetric,
    DensityCoverageMetric,
    IdentityMetric,
    IdentityThresholdMetric,
    GatesMetric,
    PerceptualMetric,
    PsnrMetric,
    StructureMetric,
    GradientAgreementMetric,
    SpectrumMetric,
    GradientEnergyMetric,
    QualityMetric,
    TwoSampleMetric,
    ArtefactMetric,
    JpegMetric,
    SkinMetric,
)
"""Every metric. A new one is a class in a file of its own, and its line here."""

ENOUGH_IMAGES = 1000
"""Fewer give a note: the bias of a set distance is of the size of what it measures."""
OUT_OF_DOMAIN = "feature net out of its domain"
"""The flag of a net that judges images that it was not made for."""
_EXAMPLES_BY = (("identity",), ("perceptual distance", "PSNR"))
"""Numbers that examples are chosen by: the first of each that there is."""


def families() -> tuple[str, ...]:
    """The families that can be selected; metrics of no such family are always measured."""
    return tuple(dict.fromkeys(metric.family for metric in METRICS if not metric.always))


def evaluate(
    enhanced: Images,
    *,
    reference: Images,
    distilled: Images | None = None,
    gated: Images | None = None,
    floor: Images | None = None,
    features: str | FeatureNetLike = "embedded",
    identity: str | None = None,
    quality: str | QualityNet | Sequence[str | QualityNet] | None = None,
    prompts: Sequence[str] | None = None,
    metrics: Sequence[str | type[Metric]] | None = None,
    groups: Sequence[Mapping[str, str]] | None = None,
    cache: str | Path | None = None,
    pair: str | None = None,
    batch_size: int = 32,
    seed: int = 0,
) -> Evaluation:
    """Compare ``enhanced`` images with those of the ``reference`` (the baseline model).

    Every set is a stream of images ``(3, H, W)`` or batches ``(N, 3, H, W)``, RGB in [0, 1], read once and in step;
    memory grows by the features and the first 1,000 images as bytes. ``distilled`` are the head's inputs in the same
    order (for the identity baseline, identity and artefacts); ``gated`` are the enhanced images after gates; ``floor``
    is the baseline at other seeds on the same prompts. With distilled images, a floor and a reference of the same
    subjects, the share of the gap closed is measured. ``groups`` maps attribute to value for each subject.

    ``features`` is a name for `feature_net` or a net, ``identity`` the name of another that compares people;
    ``quality`` are names for `quality_net` or nets, some of which need the ``prompts`` of the subjects; ``metrics`` are
    names of `families` (by default all) and `Metric` classes of your own; ``cache`` is a folder that keeps features by
    content; ``pair`` names the model pair of the images, so that a net that was not made for them is flagged. A metric
    that needs other or more images is left out, and a note says what it needs.

    Raises `UsageError` for images that are not images, mixed sizes, fewer than 2, an unknown metric or net, groups of
    another number, or distilled, enhanced and gated of different lengths; `ModelError` for a net that fails to load.
    """
    chosen, names = _chosen(families() if metrics is None else metrics)
    net, net_name = open_net(features, identity)
    if gated is not None and distilled is None:
        raise UsageError("gated images are compared with distilled ones; give distilled, or leave gated out")
    sets = {"enhanced": enhanced, "reference": reference, "distilled": distilled, "gated": gated, "floor": floor}
    images = {arm: stream for arm, stream in sets.items() if stream is not None}
    with nullcontext() if cache is None else FeatureCache(cache, net.digest) as opened:
        rating = _quality_nets(quality, prompts)
        context = Context(net, net_name, opened, rating, prompts, seed)
        given = {*images, "pairs", *(("quality",) if rating else ())}
        used = [metric(context) for metric in chosen if metric.needs <= given]
        context.read(images, batch_size, used)
        _check_counts(context, groups)
        used = [metric for metric in used if context.paired or "pairs" not in metric.needs]
        scores, flags = _scores(context, used)
        per_image = [one for metric in used for one in metric.per_image()] if context.paired else []
        compared = {one.name: one.values for one in per_image if one.compared}
        dimensions = context.embeddings("reference").dimensions
        height_px, width_px = context.size_px
        flags[:0] = [Flag(OUT_OF_DOMAIN, flag) for flag in domain_flags(net, pair, width_px, height_px)]
        return Evaluation(
            n=context.count("enhanced"),
            n_reference=context.count("reference"),
            features=FeatureRecord(net_name, net.digest, dimensions),
            scores=tuple(scores),
            flags=tuple(flags),
            groups=_groups(context, compared, groups) if groups is not None and "groups" in names else None,
            curves=tuple(curve for metric in used for curve in metric.curves()),
            examples=_examples(per_image),
            notes=(*_few(context, dimensions), *context.notes),
            settings={
                "metrics": names,
                "seed": seed,
                "batch_size": batch_size,
                "quality_digests": {one.name: one.digest for one in rating},
                "width_px": width_px,
                "height_px": height_px,
            }
            | {name: value for metric in used for name, value in metric.settings().items()},
        )


def _chosen(metrics: Sequence[str | type[Metric]]) -> tuple[list[type[Metric]], list[str]]:
    """The metrics to measure, and what the settings call the choice."""
    if isinstance(metrics, str):
        raise UsageError(f"metrics must be a list of names, not one text; write [{metrics!r}]")
    selected = {metric for metric in metrics if isinstance(metric, str)}
    own = [metric for metric in metrics if not isinstance(metric, str)]
    unknown = sorted(selected - set(families()))
    if unknown:
        raise UsageError(f"no metric is called {unknown[0]!r}; use some of: {', '.join(families())}")
    names = [family for family in families() if family in selected] + [metric.name for metric in own]
    return [metric for metric in METRICS if metric.always or metric.family in selected] + own, names


def _quality_nets(
    quality: str | QualityNet | Sequence[str | QualityNet] | None, prompts: Sequence[str] | None
) -> list[QualityNet]:
    chosen = [] if quality is None else [quality] if isinstance(quality, str | QualityNet) else list(quality)
    nets = [quality_net(one) if isinstance(one, str) else one for one in chosen]
    for net in nets:
        if net.needs_prompts and prompts is None:
            raise UsageError(
                f"the quality net {net.name} rates images with their prompts; evaluate pairs (--data), which have "
                "them, or leave it out"
            )
    return nets


def _check_counts(context: Context, groups: Sequence[Mapping[str, str]] | None) -> None:
    n = context.count("enhanced")
    for arm in ("distilled", "gated"):
        if arm in context.arms and context.count(arm) != n:
            raise UsageError(f"{context.count(arm)} {arm} and {n} enhanced images are not pairs; give as many of each")
    if groups is not None and len(groups) != n:
        raise UsageError(f"{len(groups)} groups do not fit {n} enhanced images; give one for each image")


def _scores(context: Context, metrics: Sequence[Metric]) -> tuple[list[Score], list[Flag]]:
    """Scores and flags of all metrics; a flag that two metrics raise counts once."""
    scores: list[Score] = []
    flags: dict[str, Flag] = {}
    for metric in metrics:
        own = context.attempt(metric.compute) or []
        scores += own
        for flag in metric.flags(own):
            flags.setdefault(flag.name, flag)
    return scores, list(flags.values())


def _groups(context: Context, scores: Mapping[str, Any], groups: Sequence[Mapping[str, str]]) -> Groups | None:
    if not scores:
        return None
    compared = compare_groups(scores, groups, seed=context.seed)
    if not {"distilled", "floor"} <= set(context.arms) or context.count("floor") != context.count("reference"):
        return compared
    x, z, y, floor = (
        context.embeddings(arm).embedding for arm in ("distilled", "enhanced", "reference", "floor")
    )  # fmt: skip
    return replace(compared, gaps=group_gaps(x, z, y, floor, groups, seed=context.seed))


def _examples(per_image: Sequence[PerImage]) -> tuple[Example, ...]:
    by_name = {one.name: one for one in per_image}
    chosen = [next((by_name[name] for name in names if name in by_name), None) for names in _EXAMPLES_BY]
    return tuple(
        example
        for one in chosen
        if one is not None
        for example in choose_examples(one.name, one.values, best_is_high=one.better == "high")
    )


def _few(context: Context, dimensions: int) -> tuple[str, ...]:
    n = min(context.count("enhanced"), context.count("reference"))
    if n >= ENOUGH_IMAGES:
        return ()
    return (
        f"set distances of {n} images in {dimensions} dimensions are biased upwards and only comparable at the same "
        f"number; use {ENOUGH_IMAGES:,} or more for a figure to quote",
    )
