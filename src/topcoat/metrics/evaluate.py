"""`evaluate`: from images to the numbers that say whether they are as good as the baseline's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

from topcoat.errors import UsageError
from topcoat.features import QualityNet, feature_net, load_feature_net, quality_net
from topcoat.metrics.cache import FeatureCache
from topcoat.metrics.embed import FeatureNetLike, Images, batches
from topcoat.metrics.judge import ENOUGH_IMAGES, METRICS, Judge
from topcoat.metrics.reading import NAMES, Reading
from topcoat.metrics.record import Evaluation, FeatureRecord, SetScores
from topcoat.metrics.text import describe_gap

__all__ = ["ENOUGH_IMAGES", "METRICS", "Evaluation", "FeatureRecord", "SetScores", "describe_gap", "evaluate"]


def evaluate(
    enhanced: Images,
    *,
    reference: Images,
    distilled: Images | None = None,
    gated: Images | None = None,
    floor: Images | None = None,
    features: str | FeatureNetLike = "mini",
    quality: str | QualityNet | None = None,
    metrics: Sequence[str] = METRICS,
    groups: Sequence[Mapping[str, str]] | None = None,
    cache: str | Path | None = None,
    batch_size: int = 32,
    seed: int = 0,
) -> Evaluation:
    """Compare ``enhanced`` images with those of the ``reference`` (the baseline model).

    Every set is a stream of images ``(3, H, W)`` or batches ``(N, 3, H, W)``, RGB in [0, 1]. ``distilled`` are the
    head's inputs in the same order and give the do-nothing score, identity and artefacts; ``gated`` are the enhanced
    images after gates, measured beside them; ``floor`` is the baseline at other seeds on the same prompts. With
    distilled images and a floor, and a reference of the same subjects, the share of the gap closed is measured.
    ``groups`` holds a mapping of attribute to value for each subject. Streams are read once, in step, so memory does
    not grow with N beyond the features (and the first 1,000 images as bytes).

    ``features`` is a name for `topcoat.features.feature_net` or a net; ``quality`` likewise for `quality_net`, which
    judges every image without a reference; ``metrics`` are some of `METRICS`; ``cache`` is a folder in which features
    are kept by content, so that a second run needs no second pass of the net. A metric that needs other or more images
    than there are is left out, and a note says what it needs.

    Raises `UsageError` for images that are not images, mixed sizes, fewer than 2, an unknown metric or net, groups of
    another number, or distilled, enhanced and gated of different lengths; `ModelError` for a net that cannot be had.
    """
    wanted = _wanted(metrics)
    net, name = _net(features) if isinstance(features, str) else (features, "custom")
    if gated is not None and distilled is None:
        raise UsageError("gated images are compared with distilled ones; give distilled, or leave gated out")
    streams = (enhanced, reference, () if distilled is None else distilled, () if gated is None else gated)
    judge_of_quality = quality_net(quality) if isinstance(quality, str) else quality
    with nullcontext() if cache is None else FeatureCache(cache, net.digest) as kept:
        reading = Reading(net, kept, wanted, judge_of_quality)
        reading.read([batches(stream, batch_size, called) for called, stream in zip(NAMES, streams, strict=True)])
        if floor is not None:
            reading.read_floor(floor, batch_size)
        optional = {"distilled": distilled, "gated": gated, "floor": floor}
        given = {key for key, stream in optional.items() if stream is not None}
        judge = Judge(reading, net, kept, wanted, groups, given, seed)
        return judge.evaluation(name, batch_size)


def _wanted(metrics: Sequence[str]) -> frozenset[str]:
    if isinstance(metrics, str):
        raise UsageError(f"metrics must be a list of names, not one text; write [{metrics!r}]")
    unknown = sorted(set(metrics) - set(METRICS))
    if unknown:
        raise UsageError(f"no metric is called {unknown[0]!r}; use some of: {', '.join(METRICS)}")
    return frozenset(metrics)


def _net(name: str) -> tuple[FeatureNetLike, str]:
    if name in ("mini", "eval"):  # the file name of the embedded net is accepted too
        return load_feature_net("eval"), "mini"
    return feature_net(name), name
