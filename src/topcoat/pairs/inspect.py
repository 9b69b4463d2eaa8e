"""Looking at a whole dataset: what it holds, how it is balanced, and what both sides look like."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

import torch
from torch import Tensor
from torch.nn import functional

from topcoat.errors import UsageError
from topcoat.features import FeatureNet, domain_flags
from topcoat.metrics.spectrum import RING_MIDDLES, RINGS, luma, radial_spectrum
from topcoat.pairs.dataset import PairDataset, Side
from topcoat.pairs.duplicates import DUPLICATE_SIMILARITY, check_threshold, nearest_earlier
from topcoat.pairs.filters import BlankFilter
from topcoat.pairs.manifest import Dropped, Failure
from topcoat.pairs.schema import PairRecord
from topcoat.pairs.similarity import Distribution, feature_vectors, spread
from topcoat.prompts import Split

SHOWN_PAIRS = 24
"""Pairs on the contact sheet: evenly spread rows, never picked."""
SIDES: tuple[Side, ...] = get_args(Side)

_FINE = 0.25  # cycles per pixel: above lies the detail that a few-step model tends to lose
_LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))


def brightness(images: Tensor) -> Tensor:
    """``(N,)`` mean luma of images ``(N, 3, H, W)`` in [0, 1]."""
    return luma(images.to(torch.float64)).mean(dim=(1, 2))


def contrast(images: Tensor) -> Tensor:
    """``(N,)`` standard deviation of the luma over the pixels of images ``(N, 3, H, W)`` in [0, 1]."""
    return luma(images.to(torch.float64)).std(dim=(1, 2), correction=0)


def colourfulness(images: Tensor) -> Tensor:
    """``(N,)`` colourfulness of images ``(N, 3, H, W)`` in [0, 1]; 0 is grey, about 0.2 moderate, 0.4 strong.

    Hasler and Süsstrunk 2003, "Measuring colourfulness in natural images", equation for M(3), on a scale of 0 to 1
    instead of 0 to 255.
    """
    red, green, blue = images.to(torch.float64).unbind(dim=1)
    opponents = torch.stack([red - green, (red + green) / 2 - blue], dim=1).flatten(2)  # (N, 2, H W)
    std = opponents.std(dim=2, correction=0).square().sum(dim=1).sqrt()
    return std + 0.3 * opponents.mean(dim=2).square().sum(dim=1).sqrt()


def sharpness(images: Tensor) -> Tensor:
    """``(N,)`` variance of the Laplacian of the luma, images ``(N, 3, H, W)`` in [0, 1] of 3 px a side or more.

    Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy", with the 4-neighbour kernel. Raises
    `UsageError` for smaller images.
    """
    if min(images.shape[-2:]) < 3:
        raise UsageError(f"sharpness needs images of 3 px a side or more, not {tuple(images.shape)}")
    grey = luma(images.to(torch.float64))[:, None]
    kernel = torch.tensor(_LAPLACIAN, dtype=grey.dtype, device=grey.device)[None, None]
    return functional.conv2d(grey, kernel).var(dim=(1, 2, 3), correction=0)


MEASURES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "brightness": brightness,
    "contrast": contrast,
    "colourfulness": colourfulness,
    "sharpness": sharpness,
}
"""What is measured of every image."""


def evenness(counts: Mapping[str, int]) -> float:
    """How evenly pairs are spread over the values of an attribute: 1 where all are equally frequent.

    It is the Shannon entropy over its largest possible value.
    """
    if len(counts) < 2:
        return 1.0
    shares = [count / sum(counts.values()) for count in counts.values()]
    return -sum(share * math.log(share) for share in shares) / math.log(len(shares))


class SideStatistics:
    """One side of a dataset: ``(N,)`` values of each of `MEASURES`, and its mean power spectrum."""

    def __init__(self, count: int) -> None:
        self.values = {name: torch.zeros(count) for name in MEASURES}
        self._power = torch.zeros(RINGS, dtype=torch.float64)
        self._images = torch.zeros(RINGS, dtype=torch.float64)  # that have a frequency in the ring

    def add(self, index: int, image: Tensor) -> None:
        """Measure image ``index``, ``(3, H, W)`` in [0, 1]."""
        for name, measure in MEASURES.items():
            self.values[name][index] = float(measure(image[None]))
        power = radial_spectrum(image[None])[0]
        self._power += power.nan_to_num(0.0)
        self._images += power.isfinite()

    @property
    def spectrum(self) -> Tensor:
        """``(rings,)`` mean power; NaN for a ring without a frequency."""
        return self._power / self._images


@dataclass(frozen=True, slots=True)
class Example:
    """One pair of the contact sheet; images ``(3, H, W)`` in [0, 1]."""

    record: PairRecord
    images: Mapping[Side, Tensor]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A pair whose subject an earlier pair shows, too; ``leaks`` where they are in different splits."""

    id: str
    of: str
    similarity: float
    leaks: bool


@dataclass(frozen=True, slots=True)
class Inspection:
    """The result of `inspect_pairs`."""

    pair: str
    digest: str
    pairs: int
    bytes: int
    splits: Mapping[str, int]
    sizes_px: Mapping[tuple[int, int], int]
    """Pairs of each (width, height)."""
    unfinished: str
    """A sentence where the build has not come to its end, else nothing."""
    dropped: Sequence[Dropped]
    failures: Sequence[Failure]
    unusable: Sequence[tuple[str, str]]
    """(id, reason) of the pairs that the filter ``blank`` would drop."""
    seeds: Mapping[str, int] | None
    """The ``lowest`` and ``highest`` seed, and how many pairs are ``doubled``: another pair has their seed, too."""
    attributes: Mapping[str, Mapping[str, int]]
    """Pairs of each value of an attribute, most frequent first."""
    sides: Mapping[Side, SideStatistics]
    matched: Tensor
    """``(N,)`` feature similarities of both sides of each pair."""
    mismatched: Tensor
    """``(N - 1,)`` feature similarities of each pair's distilled image and the next pair's baseline."""
    neighbours: Tensor
    """``(N - 1,)`` similarities of each pair but the first to its nearest earlier one."""
    duplicates: Sequence[Duplicate]
    duplicate_threshold: float
    shown: Sequence[Example]
    flags: Sequence[str] = ()
    """Sentences on why the net should not judge these images."""

    @property
    def drop_reasons(self) -> Mapping[str, int]:
        """Dropped pairs by filter, most frequent first."""
        return dict(Counter(item.filter for item in self.dropped).most_common())

    @property
    def duplicate_share(self) -> float:
        """Near-duplicates over all pairs."""
        return len(self.duplicates) / self.pairs if self.pairs else 0.0

    @property
    def fine_detail(self) -> float:
        """Distilled power over baseline power above 0.25 cycles per pixel; NaN without pairs."""
        chosen = torch.tensor(RING_MIDDLES) > _FINE
        x, y = (self.sides[side].spectrum[chosen].nansum() for side in SIDES)
        return float(x / y)

    def as_dict(self) -> dict[str, Any]:
        """Everything but images, in plain types for JSON."""
        return {
            "pair": self.pair,
            "pairs": self.pairs,
            "bytes": self.bytes,
            "digest": self.digest,
            "splits": self.splits,
            "size_px": next(({"width": width, "height": height} for width, height in self.sizes_px), None),
            "sizes_px": [
                {"width": width, "height": height, "pairs": count} for (width, height), count in self.sizes_px.items()
            ],
            "dropped": [item.model_dump(include={"id", "filter", "reason", "score"}) for item in self.dropped],
            "drop_reasons": self.drop_reasons,
            "failures": [item.model_dump(include={"id", "error"}) for item in self.failures],
            "unusable": [{"id": name, "reason": reason} for name, reason in self.unusable],
            "seeds": self.seeds,
            "attributes": self.attributes,
            "evenness": {name: evenness(counts) for name, counts in self.attributes.items()},
            "near_duplicates": {
                "threshold": self.duplicate_threshold,
                "count": len(self.duplicates),
                "rate": self.duplicate_share,
                "across_splits": sum(item.leaks for item in self.duplicates),
                "pairs": [asdict(item) for item in self.duplicates],
            },
            "similarity": {"same_pair": _summary(self.matched), "next_pair": _summary(self.mismatched)},
            "sides": {
                side: {
                    **{name: _summary(values) for name, values in statistics.values.items()},
                    "power_spectrum": [None if math.isnan(value) else value for value in statistics.spectrum.tolist()],
                }
                for side, statistics in self.sides.items()
            },
            "cycles_per_px": list(RING_MIDDLES),
            "fine_detail": None if math.isnan(self.fine_detail) else self.fine_detail,
            "flags": list(self.flags),
            "shown": [item.record.id for item in self.shown],
        }


def inspect_pairs(
    dataset: PairDataset,
    net: FeatureNet,
    *,
    duplicate_threshold: float = DUPLICATE_SIMILARITY,
    on_progress: Callable[[int, int], None] | None = None,
) -> Inspection:
    """Look at every pair once; ``net`` is the feature net of the similarities.

    Each image is decoded once and released. What is kept for a pair is its texts, two vectors of the net and eight
    numbers, so memory does not grow with the images. Raises `DataError` for an image that cannot be read,
    `UsageError` for a threshold outside (0, 1].
    """
    check_threshold(duplicate_threshold)
    records, count = dataset.records, len(dataset)
    sheet = set(spread(count, SHOWN_PAIRS))
    statistics: dict[Side, SideStatistics] = {side: SideStatistics(count) for side in SIDES}
    vectors: dict[Side, list[Tensor]] = {side: [] for side in SIDES}
    sizes: Counter[tuple[int, int]] = Counter()
    unusable: list[tuple[str, str]] = []
    shown: list[Example] = []
    blank = BlankFilter()
    for index, record in enumerate(records):
        images: dict[Side, Tensor] = {side: dataset.image(index, side) for side in SIDES}
        height, width = images["baseline"].shape[-2:]
        sizes[(width, height)] += 1
        result = blank.check(images["distilled"][None], images["baseline"][None])[0]
        if not result.keep:
            unusable.append((record.id, result.reason))
        for side, image in images.items():
            statistics[side].add(index, image)
            vectors[side].append(feature_vectors(net, image[None]))
        if index in sheet:
            shown.append(Example(record, images))
        if on_progress is not None:
            on_progress(index + 1, count)
    x, y = (torch.cat(vectors[side]) if count else torch.empty(0, 1) for side in SIDES)
    positions, similarities = nearest_earlier(y, duplicate_threshold)
    duplicates = [
        Duplicate(record.id, (first := records[position]).id, similarity, record.split != first.split)
        for record, position, similarity in zip(records, positions.tolist(), similarities.tolist(), strict=True)
        if similarity >= duplicate_threshold
    ]
    manifest = dataset.manifest
    return Inspection(
        pair=manifest.pair,
        digest=dataset.digest,
        pairs=count,
        bytes=sum((dataset.folder / "data" / entry.name).stat().st_size for entry in manifest.shards),
        splits={name: sum(record.split == name for record in records) for name in get_args(Split)},
        sizes_px=dict(sizes.most_common()),
        unfinished=manifest.unfinished,
        dropped=manifest.dropped,
        failures=manifest.failures,
        unusable=unusable,
        seeds=_seeds([record.seed for record in records]),
        attributes=_attribute_counts(records),
        sides=statistics,
        matched=(x * y).sum(dim=1),
        mismatched=(x[:-1] * y[1:]).sum(dim=1),
        neighbours=similarities[1:],
        duplicates=duplicates,
        duplicate_threshold=duplicate_threshold,
        shown=shown,
        flags=domain_flags(net, manifest.pair),
    )


def _seeds(seeds: Sequence[int]) -> dict[str, int] | None:
    doubled = sum(number for number in Counter(seeds).values() if number > 1)
    return {"lowest": min(seeds), "highest": max(seeds), "doubled": doubled} if seeds else None


def _attribute_counts(records: Sequence[PairRecord]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for record in records:
        for name, value in record.attributes.items():
            counts.setdefault(name, Counter())[value] += 1
    return {name: dict(values.most_common()) for name, values in counts.items()}


def _summary(values: Tensor) -> dict[str, float] | None:
    """Mean and quantiles of ``(N,)`` values, or None without any."""
    return {"mean": float(values.double().mean()), **Distribution.of(values).model_dump()} if len(values) else None
