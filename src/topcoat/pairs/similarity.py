"""How similar the two images of a pair are, and from which similarity on they show one subject.

Similarity is measured in two ways: by structure (SSIM), and by the embeddings of a feature net. The thresholds of the
filter ``same-subject`` come from the pairs of a dataset (matched) and from shuffled ones (mismatched).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

import pydantic
import torch
from torch import Tensor
from torch.nn import functional

from topcoat.config import StrictModel, parse_config
from topcoat.embedded import MINI
from topcoat.errors import DataError, UsageError
from topcoat.features import FeatureNet, at_working_size
from topcoat.files import read_json, write_json
from topcoat.metrics.paired import ssim
from topcoat.pairs.dataset import PairDataset

FORMAT_VERSION = 2
MOST_PAIRS = 1000
"""Pairs that are compared, spread evenly over a larger dataset; they are held small (about 100 kB each)."""
PARTNERS = 4
"""Other subjects that each subject is compared with."""

_QUANTILES = (0.0, 0.01, 0.05, 0.5, 0.95, 0.99, 1.0)  # of the fields of `Distribution`, in their order


class Distribution(StrictModel):
    """Quantiles of some values."""

    minimum: float
    p01: float
    p05: float
    median: float
    p95: float
    p99: float
    maximum: float

    @classmethod
    def of(cls, values: Tensor) -> Distribution:
        """Of ``(N,)`` values, N at least 1."""
        quantiles = values.double().quantile(torch.tensor(_QUANTILES, dtype=torch.float64))
        return cls(**dict(zip(cls.model_fields, quantiles.tolist(), strict=True)))


class Threshold(StrictModel):
    """The threshold of one kind of similarity, and both distributions that it was set between."""

    threshold: float
    """The smallest value (to four decimals) at which this measure alone keeps to the wanted false-accept rate."""
    false_reject_rate: float
    """Share of matched pairs under the threshold."""
    same: Distribution
    different: Distribution


class Calibration(StrictModel):
    """Thresholds for the filter ``same-subject``, with everything needed to judge them."""

    format_version: int = FORMAT_VERSION
    pair: str
    dataset_digest: str
    net_digest: str
    """Of the feature net; thresholds mean nothing for another one."""
    pairs: int
    """Matched pairs that were compared."""
    shuffled: int
    """Mismatched pairs that were compared."""
    wanted_false_accept_rate: float = pydantic.Field(gt=0, lt=1)
    false_accept_rate: float
    """Share of mismatched pairs that pass both thresholds."""
    false_reject_rate: float
    """Share of matched pairs that fail one of both thresholds."""
    features: Threshold
    structure: Threshold

    def check_net(self, digest: str) -> None:
        """Raise `DataError` if the thresholds were measured with another feature net than ``digest``."""
        if digest != self.net_digest:
            raise DataError(
                f"the similarity thresholds were measured with the feature net {self.net_digest}, this installation "
                f"has {digest}; measure them again with: topcoat pairs inspect DIR --calibrate"
            )


def feature_vectors(net: FeatureNet, images: Tensor) -> Tensor:
    """``(N, D)`` float32 unit vectors on the CPU: the net's embedding of ``images`` ``(N, 3, H, W)`` in [0, 1].

    The embedding, not the identity vector: both sides of a pair share scene, pose and light, and the embedding tells
    matched from mismatched pairs with fewer errors (see `docs/inspecting-pairs.md`). Each image goes through the net
    alone, so that a vector never depends on its batch.
    """
    with torch.no_grad():
        rows = [net.whole(image[None]).embedding for image in images]
    return functional.normalize(torch.cat(rows).float().cpu(), dim=1)


def pair_similarity(net: FeatureNet, distilled: Tensor, baseline: Tensor) -> tuple[Tensor, Tensor]:
    """``(N,)`` cosines of the feature vectors and ``(N,)`` structural similarities of two batches, image by image."""
    features = (feature_vectors(net, distilled) * feature_vectors(net, baseline)).sum(dim=1)
    a, b = at_working_size(distilled), at_working_size(baseline)
    structure = torch.cat([ssim(one[None], other[None]) for one, other in zip(a, b, strict=True)])
    return features, structure


def calibrate(
    dataset: PairDataset,
    net: FeatureNet,
    *,
    false_accept_rate: float = 0.01,
    on_progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Thresholds at which at most ``false_accept_rate`` of mismatched pairs pass, for each measure.

    Each subject's distilled image is compared with its own baseline, and with those of `PARTNERS` others of another
    prompt, drawn from a fixed shuffle. Raises `UsageError` for a rate outside (0, 1) or too few pairs to measure it.
    """
    if not 0 < false_accept_rate < 1:
        raise UsageError(f"a false-accept rate of {false_accept_rate} is not possible; use more than 0 and less than 1")
    rows = spread(len(dataset), MOST_PAIRS)
    images: tuple[list[Tensor], list[Tensor]] = ([], [])
    vectors: tuple[list[Tensor], list[Tensor]] = ([], [])
    for done, row in enumerate(rows, start=1):
        pair = dataset[row]
        for side, image in enumerate((pair.distilled, pair.baseline)):
            images[side].append((at_working_size(image[None]) * 255).round().to(torch.uint8))
            vectors[side].append(feature_vectors(net, image[None])[0])
        if on_progress is not None:
            on_progress(done, len(rows))
    mismatched = _mismatched([dataset.records[row].prompt for row in rows])
    if len(mismatched) * false_accept_rate < 1:
        raise UsageError(
            f"{len(rows)} pairs give {len(mismatched)} comparisons of different subjects, too few for a false-accept "
            f"rate of {false_accept_rate:g}; use more pairs or a rate above {1 / max(1, len(mismatched)):.2g}"
        )
    if len({image.shape for side in images for image in side}) > 1:
        raise UsageError("the pairs have several sizes, which cannot be compared; make the images one size first")
    matched = [(index, index) for index in range(len(rows))]
    x, y = (torch.stack(side) for side in vectors)
    features_same, features_other = (
        (x[[one for one, _ in pairs]] * y[[other for _, other in pairs]]).sum(dim=1) for pairs in (matched, mismatched)
    )
    structure_same, structure_other = (
        torch.cat([ssim(images[0][one] / 255, images[1][other] / 255) for one, other in pairs])
        for pairs in (matched, mismatched)
    )
    features = _threshold(features_same, features_other, false_accept_rate)
    structure = _threshold(structure_same, structure_other, false_accept_rate)
    passed = (features_other >= features.threshold) & (structure_other >= structure.threshold)
    rejected = (features_same < features.threshold) | (structure_same < structure.threshold)
    return Calibration(
        pair=dataset.manifest.pair,
        dataset_digest=dataset.digest,
        net_digest=net.digest,
        pairs=len(matched),
        shuffled=len(mismatched),
        wanted_false_accept_rate=false_accept_rate,
        false_accept_rate=float(passed.double().mean()),
        false_reject_rate=float(rejected.double().mean()),
        features=features,
        structure=structure,
    )


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` positions, evenly spread from the first to the last, always the same ones."""
    if count <= most:
        return list(range(count))
    if most == 1:
        return [0]
    return [round(index * (count - 1) / (most - 1)) for index in range(most)]


def read_calibration(path: str | Path) -> Calibration:
    """The thresholds in a file of `write_calibration`; raises `DataError` if it is not one."""
    data = read_json(Path(path))
    if not isinstance(data, dict) or data.get("format_version") != FORMAT_VERSION:
        raise DataError(
            f"{path} is not a calibration of format version {FORMAT_VERSION}; make one with: topcoat pairs inspect "
            "--calibrate"
        )
    try:
        return parse_config(data, Calibration, source=str(path))
    except UsageError as error:
        raise DataError(f"{error}; make it again with: topcoat pairs inspect --calibrate") from error


def write_calibration(path: str | Path, calibration: Calibration) -> None:
    """Write the thresholds as JSON, atomically."""
    write_json(Path(path), calibration.model_dump(mode="json"))


def default_calibration() -> Calibration:
    """The embedded thresholds, measured on the mini pair; raises `DataError` if they are missing or damaged."""
    return read_calibration(MINI / "same-subject.json")


def _mismatched(prompts: list[str]) -> list[tuple[int, int]]:
    """Positions (distilled, baseline) of different subjects: each one with the next `PARTNERS` of a fixed shuffle.

    Two pairs of one prompt may show one subject and are left out; an empty prompt, of imported pairs, says nothing.
    """
    order = list(range(len(prompts)))
    random.Random(0).shuffle(order)
    shifts = range(1, min(PARTNERS, len(order) - 1) + 1)
    pairs = [(one, order[(place + shift) % len(order)]) for shift in shifts for place, one in enumerate(order)]
    return [(one, other) for one, other in pairs if not prompts[one] or prompts[one] != prompts[other]]


def _threshold(same: Tensor, different: Tensor, rate: float) -> Threshold:
    """A threshold that at most ``rate`` of ``different`` reach: just above the first value that must not pass."""
    ranked = different.double().sort(descending=True).values
    allowed = int(rate * len(ranked))
    threshold = (math.floor(float(ranked[allowed]) * 1e4) + 1) / 1e4  # four decimals: the number shown is the one used
    return Threshold(
        threshold=threshold,
        false_reject_rate=float((same.double() < threshold).double().mean()),
        same=Distribution.of(same),
        different=Distribution.of(different),
    )
