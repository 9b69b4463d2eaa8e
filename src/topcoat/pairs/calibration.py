"""Similarity thresholds, from what pairs and shuffled pairs of a dataset look like."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

import pydantic
import torch
from torch import Tensor

from topcoat.config import StrictModel, parse_config
from topcoat.embedded import MINI
from topcoat.errors import DataError, UsageError
from topcoat.features import FeatureNet
from topcoat.files import read_json, write_json
from topcoat.metrics.structure import ssim
from topcoat.pairs.dataset import PairDataset
from topcoat.pairs.similarity import at_working_size, feature_vectors

FORMAT = 1
"""Version of the calibration file."""

MOST_PAIRS = 1000
"""Pairs that are looked at, spread evenly over a larger dataset; they are held small (about 100 kB each)."""
PARTNERS = 4
"""Other subjects that each subject is compared with."""


class Distribution(StrictModel):
    """How similarities are spread."""

    minimum: float
    p01: float
    p05: float
    median: float
    p95: float
    p99: float
    maximum: float


class Measure(StrictModel):
    """One kind of similarity: its threshold and both distributions that it was set between."""

    threshold: float
    """The smallest value (to four decimals) at which this measure alone keeps to the wanted false-accept rate."""
    false_reject_rate: float
    """Share of pairs of one subject that lie under the threshold."""
    same: Distribution
    different: Distribution


class Calibration(StrictModel):
    """Thresholds for the filter ``same-subject``, with everything needed to judge them."""

    format: int = FORMAT
    pair: str
    dataset_digest: str
    net_digest: str
    """Of the feature net; thresholds mean nothing for another one."""
    pairs: int
    """Pairs of one subject that were compared."""
    shuffled: int
    """Pairs of different subjects that were compared."""
    wanted_false_accept_rate: float = pydantic.Field(gt=0, lt=1)
    false_accept_rate: float
    """Share of shuffled pairs that both thresholds together let through."""
    false_reject_rate: float
    """Share of pairs that one of both thresholds drops."""
    features: Measure
    structure: Measure

    def check_net(self, digest: str) -> None:
        """Raise `DataError` if the thresholds were measured with another feature net than ``digest``."""
        if digest != self.net_digest:
            raise DataError(
                f"the similarity thresholds were measured with the feature net {self.net_digest}, this installation "
                f"has {digest}; measure them again with: topcoat pairs inspect DIR --calibrate"
            )


def calibrate(
    dataset: PairDataset,
    net: FeatureNet,
    *,
    false_accept_rate: float = 0.01,
    on_progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Thresholds at which at most ``false_accept_rate`` of shuffled pairs pass, for each measure.

    Each subject's distilled image is compared with its own baseline, and with those of `PARTNERS` others of another
    prompt, drawn from a fixed shuffle. Raises `UsageError` for a rate outside (0, 1) or too few pairs to measure it.
    """
    if not 0 < false_accept_rate < 1:
        raise UsageError(f"a false-accept rate of {false_accept_rate} is not possible; use more than 0 and less than 1")
    rows = spread(len(dataset), MOST_PAIRS)
    distilled, baseline, vectors = _look(dataset, rows, net, on_progress)
    others = _partners([dataset.records[row].prompt for row in rows])
    if len(others) * false_accept_rate < 1:
        raise UsageError(
            f"{len(rows)} pairs give {len(others)} comparisons of different subjects, too few for a false-accept rate "
            f"of {false_accept_rate:g}; use more pairs or a rate above {1 / max(1, len(others)):.2g}"
        )
    own = [(index, index) for index in range(len(rows))]
    values = [
        (_features(vectors, pairs), _structure(distilled, baseline, pairs)) for pairs in (own, others)
    ]  # ((features, structure) of same, of different)
    (same_f, same_s), (different_f, different_s) = values
    features, structure = (
        _measure(same_f, different_f, false_accept_rate),
        _measure(same_s, different_s, false_accept_rate),
    )
    passed = (different_f >= features.threshold) & (different_s >= structure.threshold)
    dropped = (same_f < features.threshold) | (same_s < structure.threshold)
    return Calibration(
        pair=dataset.manifest.pair,
        dataset_digest=dataset.digest,
        net_digest=net.digest,
        pairs=len(own),
        shuffled=len(others),
        wanted_false_accept_rate=false_accept_rate,
        false_accept_rate=float(passed.double().mean()),
        false_reject_rate=float(dropped.double().mean()),
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
    found = data.get("format") if isinstance(data, dict) else None
    if found != FORMAT:
        raise DataError(
            f"{path} is no calibration of format {FORMAT}; make one with: topcoat pairs inspect --calibrate"
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


def _look(
    dataset: PairDataset, rows: list[int], net: FeatureNet, on_progress: Callable[[int, int], None] | None
) -> tuple[list[Tensor], list[Tensor], tuple[Tensor, Tensor]]:
    """Both sides at working size as 8-bit values, and their vectors ``(N, D)``."""
    kept: tuple[list[Tensor], list[Tensor]] = ([], [])
    vectors: tuple[list[Tensor], list[Tensor]] = ([], [])
    for done, row in enumerate(rows, start=1):
        pair = dataset[row]
        for side, image in enumerate((pair.distilled, pair.baseline)):
            small = at_working_size(image[None])
            kept[side].append((small * 255).round().to(torch.uint8))
            vectors[side].append(feature_vectors(net, image[None]))
        if on_progress is not None:
            on_progress(done, len(rows))
    if not rows:
        return [], [], (torch.empty(0, 1), torch.empty(0, 1))
    return kept[0], kept[1], (torch.cat(vectors[0]), torch.cat(vectors[1]))


def _partners(prompts: list[str]) -> list[tuple[int, int]]:
    """Positions (distilled, baseline) of different subjects: each one with the next `PARTNERS` of a fixed shuffle.

    Two pairs of one prompt may show one subject and are left out; an empty prompt, of imported pairs, says nothing.
    """
    order = list(range(len(prompts)))
    random.Random(0).shuffle(order)
    shifts = range(1, min(PARTNERS, len(order) - 1) + 1)
    found = [(one, order[(place + shift) % len(order)]) for shift in shifts for place, one in enumerate(order)]
    return [(one, other) for one, other in found if not prompts[one] or prompts[one] != prompts[other]]


def _features(vectors: tuple[Tensor, Tensor], pairs: list[tuple[int, int]]) -> Tensor:
    left, right = ([pair[side] for pair in pairs] for side in (0, 1))
    return (vectors[0][left] * vectors[1][right]).sum(dim=1)


def _structure(distilled: list[Tensor], baseline: list[Tensor], pairs: list[tuple[int, int]]) -> Tensor:
    found = [
        ssim(distilled[one] / 255, baseline[other] / 255)
        for one, other in pairs
        if distilled[one].shape == baseline[other].shape
    ]
    if len(found) != len(pairs):
        raise UsageError("the pairs have several sizes, which cannot be compared; make the images one size first")
    return torch.cat(found)


def _measure(same: Tensor, different: Tensor, rate: float) -> Measure:
    """A threshold that at most ``rate`` of ``different`` reach: just above the first value that must not pass."""
    ranked = different.double().sort(descending=True).values
    allowed = int(rate * len(ranked))
    threshold = (math.floor(float(ranked[allowed]) * 1e4) + 1) / 1e4  # four decimals: the number shown is the one used
    return Measure(
        threshold=threshold,
        false_reject_rate=float((same.double() < threshold).double().mean()),
        same=_distribution(same),
        different=_distribution(different),
    )


def _distribution(values: Tensor) -> Distribution:
    values = values.double()
    low, p01, p05, median, p95, p99, high = (
        float(values.quantile(share)) for share in (0.0, 0.01, 0.05, 0.5, 0.95, 0.99, 1.0)
    )
    return Distribution(minimum=low, p01=p01, p05=p05, median=median, p95=p95, p99=p99, maximum=high)
