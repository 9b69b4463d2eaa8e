"""Looking at a whole dataset: what it holds, how it is balanced, and what both sides look like."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from topcoat.features import FeatureNet
from topcoat.metrics.spectrum import RINGS, radial_spectrum, ring_middles
from topcoat.pairs.calibration import spread
from topcoat.pairs.dataset import PairDataset, Side
from topcoat.pairs.duplicates import DUPLICATE_SIMILARITY, check_threshold, nearest_earlier
from topcoat.pairs.filters import BlankFilter
from topcoat.pairs.records import PairRecord
from topcoat.pairs.similarity import feature_vectors
from topcoat.pairs.statistics import brightness, colourfulness, contrast, sharpness

SHOWN_PAIRS = 24
"""Pairs on the contact sheet: evenly spread rows, never picked."""

MEASURES = ("brightness", "contrast", "colourfulness", "sharpness")
"""What is measured of every image."""

SIDES: tuple[Side, ...] = ("distilled", "baseline")

_FINE = 0.25  # cycles per pixel: above lies the detail that a few-step model tends to lose


@dataclass(frozen=True, slots=True)
class Balance:
    """How the values of one attribute are spread: pairs of each, most frequent first."""

    attribute: str
    counts: Mapping[str, int]

    @property
    def evenness(self) -> float:
        """Shannon entropy over its largest possible value: 1 where all values are equally frequent."""
        total = sum(self.counts.values())
        if len(self.counts) < 2:
            return 1.0
        shares = [count / total for count in self.counts.values()]
        return -sum(share * math.log(share) for share in shares) / math.log(len(shares))


@dataclass(frozen=True, slots=True)
class Seeds:
    """Seeds of the pairs; ``doubled`` is the number of pairs whose seed another pair has, too."""

    lowest: int
    highest: int
    doubled: int


@dataclass(frozen=True, slots=True)
class SideFigures:
    """One side of a dataset: ``(N,)`` values of each of `MEASURES`, and its mean power spectrum (rings,)."""

    values: Mapping[str, Tensor]
    spectrum: Tensor


@dataclass(frozen=True, slots=True)
class Shown:
    """One pair of the contact sheet; images ``(3, H, W)`` in [0, 1]."""

    record: PairRecord
    distilled: Tensor
    baseline: Tensor


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A pair whose subject an earlier pair shows, too; ``leaks`` where they are in different splits."""

    id: str
    of: str
    similarity: float
    leaks: bool


@dataclass(frozen=True, slots=True)
class Inspection:
    """Everything that `inspect_pairs` found."""

    pair: str
    digest: str
    pairs: int
    bytes: int
    splits: Mapping[str, int]
    sizes_px: Mapping[tuple[int, int], int]
    """Pairs of each (width, height)."""
    dropped: Sequence[tuple[str, str, str, float | None]]
    """(id, filter, reason, score) of the pairs that a filter dropped."""
    failures: Sequence[tuple[str, str]]
    """(id, reason) of the pairs that could not be made."""
    unusable: Sequence[tuple[str, str]]
    """(id, reason) of the pairs that the filter ``blank`` would drop."""
    seeds: Seeds | None
    balance: Sequence[Balance]
    sides: Mapping[Side, SideFigures]
    alike: Tensor
    """``(N,)`` feature similarities of both sides of each pair."""
    strangers: Tensor
    """``(N - 1,)`` feature similarities of each pair's distilled image and the next pair's baseline."""
    neighbours: Tensor
    """``(N - 1,)`` similarities of each pair but the first to its nearest earlier one."""
    duplicates: Sequence[Duplicate]
    duplicate_threshold: float
    shown: Sequence[Shown]

    @property
    def drop_reasons(self) -> Mapping[str, int]:
        """Dropped pairs by filter, most frequent first."""
        return dict(Counter(name for _, name, _, _ in self.dropped).most_common())

    @property
    def fine_detail(self) -> float:
        """Distilled power over baseline power above 0.25 cycles per pixel; NaN without pairs."""
        chosen = torch.tensor(ring_middles()) > _FINE
        x, y = (self.sides[side].spectrum[chosen].nansum() for side in SIDES)
        return float(x / y)

    def as_dict(self) -> dict[str, Any]:
        """Everything but images, in plain types for JSON."""
        seeds = self.seeds
        return {
            "pair": self.pair,
            "pairs": self.pairs,
            "bytes": self.bytes,
            "digest": self.digest,
            "splits": dict(self.splits),
            "size_px": next(({"width": width, "height": height} for width, height in self.sizes_px), None),
            "sizes_px": [
                {"width": width, "height": height, "pairs": count} for (width, height), count in self.sizes_px.items()
            ],
            "dropped": [
                {"id": name, "filter": by, "reason": reason, "score": score} for name, by, reason, score in self.dropped
            ],
            "drop_reasons": dict(self.drop_reasons),
            "failures": [{"id": name, "error": reason} for name, reason in self.failures],
            "unusable": [{"id": name, "reason": reason} for name, reason in self.unusable],
            "seeds": None
            if seeds is None
            else {"lowest": seeds.lowest, "highest": seeds.highest, "doubled": seeds.doubled},
            "attributes": {item.attribute: dict(item.counts) for item in self.balance},
            "evenness": {item.attribute: item.evenness for item in self.balance},
            "near_duplicates": {
                "threshold": self.duplicate_threshold,
                "count": len(self.duplicates),
                "rate": len(self.duplicates) / self.pairs if self.pairs else 0.0,
                "across_splits": sum(item.leaks for item in self.duplicates),
                "pairs": [{"id": item.id, "of": item.of, "similarity": item.similarity} for item in self.duplicates],
            },
            "similarity": {"same_pair": _quantiles(self.alike), "next_pair": _quantiles(self.strangers)},
            "sides": {
                side: {
                    **{name: _quantiles(values) for name, values in figures.values.items()},
                    "power_spectrum": [None if math.isnan(value) else value for value in figures.spectrum.tolist()],
                }
                for side, figures in self.sides.items()
            },
            "cycles_per_px": list(ring_middles()),
            "fine_detail": None if math.isnan(self.fine_detail) else self.fine_detail,
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

    Each image is decoded once and let go. What is kept for a pair is its texts, two vectors of the net and eight
    numbers, so memory does not grow with the images. Raises `DataError` for an image that cannot be read,
    `UsageError` for a threshold outside (0, 1].
    """
    check_threshold(duplicate_threshold)
    count = len(dataset)
    sheet = set(spread(count, SHOWN_PAIRS))
    collected = {side: _Collected(count) for side in SIDES}
    vectors: dict[Side, list[Tensor]] = {side: [] for side in SIDES}
    sizes: Counter[tuple[int, int]] = Counter()
    unusable: list[tuple[str, str]] = []
    shown: list[Shown] = []
    blank = BlankFilter()
    for index, record in enumerate(dataset.records):
        images: dict[Side, Tensor] = {side: dataset.image(index, side) for side in SIDES}
        height, width = images["baseline"].shape[-2:]
        sizes[(width, height)] += 1
        verdict = blank.judge(images["distilled"][None], images["baseline"][None])[0]
        if not verdict.keep:
            unusable.append((record.id, verdict.reason))
        for side, image in images.items():
            collected[side].add(index, image)
            vectors[side].append(feature_vectors(net, image[None]))
        if index in sheet:
            shown.append(Shown(record, images["distilled"], images["baseline"]))
        if on_progress is not None:
            on_progress(index + 1, count)
    x, y = (torch.cat(vectors[side]) if count else torch.empty(0, 1) for side in SIDES)
    nearest = nearest_earlier(y, duplicate_threshold)
    records = dataset.records
    duplicates = [
        Duplicate(
            id=record.id,
            of=records[found.position].id,
            similarity=found.similarity,
            leaks=record.split != records[found.position].split,
        )
        for record, found in zip(records, nearest, strict=True)
        if found.similarity >= duplicate_threshold
    ]
    manifest = dataset.manifest
    return Inspection(
        pair=manifest.pair,
        digest=dataset.digest,
        pairs=count,
        bytes=sum((dataset.folder / "data" / entry.name).stat().st_size for entry in manifest.shards),
        splits={name: sum(record.split == name for record in records) for name in ("train", "val", "test")},
        sizes_px=dict(sizes.most_common()),
        dropped=[(item.id, item.filter, item.reason, item.score) for item in manifest.dropped],
        failures=[(item.id, item.error) for item in manifest.failures],
        unusable=unusable,
        seeds=_seeds([record.seed for record in records]),
        balance=_balance(records),
        sides={side: collected[side].figures() for side in SIDES},
        alike=(x * y).sum(dim=1),
        strangers=(x[:-1] * y[1:]).sum(dim=1),
        neighbours=torch.tensor([found.similarity for found in nearest[1:]]),
        duplicates=duplicates,
        duplicate_threshold=duplicate_threshold,
        shown=shown,
    )


class _Collected:
    """The figures of one side while they come in."""

    def __init__(self, count: int) -> None:
        self._values = {name: torch.zeros(count) for name in MEASURES}
        self._power = torch.zeros(RINGS, dtype=torch.float64)
        self._images = torch.zeros(RINGS, dtype=torch.float64)  # that have a frequency in the ring

    def add(self, index: int, image: Tensor) -> None:
        images = image[None]
        for name, measure in zip(MEASURES, (brightness, contrast, colourfulness, sharpness), strict=True):
            self._values[name][index] = float(measure(images))
        power = radial_spectrum(images)[0]
        self._power += power.nan_to_num(0.0)
        self._images += power.isfinite()

    def figures(self) -> SideFigures:
        return SideFigures(values=self._values, spectrum=self._power / self._images)


def _seeds(seeds: Sequence[int]) -> Seeds | None:
    if not seeds:
        return None
    return Seeds(min(seeds), max(seeds), sum(number for number in Counter(seeds).values() if number > 1))


def _balance(records: Sequence[PairRecord]) -> list[Balance]:
    counts: dict[str, Counter[str]] = {}
    for record in records:
        for name, value in record.attributes.items():
            counts.setdefault(name, Counter())[value] += 1
    return [Balance(name, dict(values.most_common())) for name, values in counts.items()]


def _quantiles(values: Tensor) -> dict[str, float] | None:
    """Mean and quantiles of ``(N,)`` values, or None without any."""
    if len(values) == 0:
        return None
    ranked = values.double().sort().values
    shares = {"p05": 0.05, "median": 0.5, "p95": 0.95}
    found = {name: float(ranked[round(share * (len(ranked) - 1))]) for name, share in shares.items()}
    return {"mean": float(ranked.mean()), "minimum": float(ranked[0]), **found, "maximum": float(ranked[-1])}
