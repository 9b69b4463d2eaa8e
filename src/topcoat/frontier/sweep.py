"""Measuring every setting on the same held-out subjects; painted batches are kept, so a stopped sweep goes on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from topcoat.cost import Timing, hardware, pair_cost, summarise
from topcoat.errors import UsageError
from topcoat.features import load_feature_net
from topcoat.frontier.settings import Setting
from topcoat.generators.base import Generator, ModelPair, check_request
from topcoat.generators.diffusers import load_pair
from topcoat.heads.head import HeadProtocol
from topcoat.metrics.embed import Embeddings, FeatureNetLike, embed
from topcoat.metrics.gap import GapClosed, gap_closed
from topcoat.metrics.identity import Identity, identity
from topcoat.pairs.manifest import pair_identity, versions
from topcoat.pipeline import move_to_generator
from topcoat.prompts import Prompt, as_prompts
from topcoat.proof.collect import FLOOR_SEED_OFFSET
from topcoat.proof.enhancing import Enhancer
from topcoat.proof.painter import Painter
from topcoat.proof.store import ShardStore, to_floats

BATCH_SIZE = 8
_FEATURE_BATCH = 32

Progress = Callable[[int, int, str], None]
"""Called with images done, images in all and the setting at work."""


@dataclass(frozen=True, slots=True)
class Point:
    """One setting: its quality with intervals, its computed cost and its measured time."""

    setting: Setting
    gap: GapClosed
    """Against the pair's distilled model at its own step count, which closes 0."""
    identity: Identity
    """Cosines of identity between this setting's image and the distilled model's at its own step count."""
    tflop: float
    """Per image, whole pipeline, computed."""
    seconds: float
    """Per image, whole pipeline, measured median."""

    @property
    def distance(self) -> float:
        """Fréchet distance to the baseline."""
        return self.gap.enhanced.value

    @property
    def share(self) -> float | None:
        """Share of the gap closed; None where there is no gap."""
        return self.gap.value

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        gap = {"value": self.gap.value, "low": self.gap.low, "high": self.gap.high}
        return {
            "label": self.setting.label,
            "setting": dataclasses.asdict(self.setting),
            "gap_closed": gap,
            "frechet": dataclasses.asdict(self.gap.enhanced),
            "identity": dataclasses.asdict(self.identity),
            "tflop_per_image": self.tflop,
            "seconds_per_image": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class Frontier:
    """Every point of a sweep, and what is needed to repeat it."""

    pair: str
    n: int
    width_px: int
    height_px: int
    baseline: Point
    """The baseline at its own step count: what quality is measured against and savings are of."""
    floor: float
    """Fréchet distance of the baseline to itself at other seeds."""
    points: tuple[Point, ...]
    settings: dict[str, Any]

    def saving(self, point: Point) -> tuple[float, float]:
        """Shares of the baseline's TFLOP (computed) and seconds (measured) that a point saves."""
        return 1 - point.tflop / self.baseline.tflop, 1 - point.seconds / self.baseline.seconds

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        size = {"width": self.width_px, "height": self.height_px}
        rows = [
            point.as_dict() | {"saving": dict(zip(("tflop", "seconds"), self.saving(point), strict=True))}
            for point in self.points
        ]
        return {
            "pair": self.pair,
            "n": self.n,
            "size_px": size,
            "floor": self.floor,
            "baseline": self.baseline.as_dict(),
            "points": rows,
            "settings": self.settings,
        }


def sweep(
    pair: ModelPair,
    heads: Mapping[str, HeadProtocol],
    settings: Sequence[Setting],
    prompts: Sequence[str | Prompt],
    seeds: Sequence[int],
    *,
    cache: str | Path | None = None,
    batch_size: int = BATCH_SIZE,
    generators: tuple[Generator, Generator] | None = None,
    features: FeatureNetLike | None = None,
    on_progress: Progress | None = None,
) -> Frontier:
    """Measure every setting on the same prompts and seeds, which no head may have been trained on.

    ``heads`` maps the names used in ``settings`` to heads. ``cache`` is a folder in which painted batches are kept;
    ``generators`` (distilled, baseline) and ``features`` replace what would be loaded.

    Raises `UsageError` for a request that cannot be (an unknown head name, fewer than 2 subjects), `ModelError` for a
    model that cannot be had, counted or run.
    """
    texts, numbers = check_request([prompt.text for prompt in as_prompts(prompts)], seeds)
    unknown = sorted({one.head for one in settings if one.head is not None} - set(heads))
    if unknown:
        raise UsageError(
            f"the settings name a head that was not given: {unknown[0]}; given: {', '.join(heads) or 'none'}"
        )
    if len(texts) < 2:
        raise UsageError("a frontier needs 2 or more subjects (1,000 or more to quote it); give more prompts")
    costs = _costs(pair, heads, settings)  # first: what cannot be counted should fail before the hours
    net = load_feature_net("eval") if features is None else features
    distilled, baseline = generators or load_pair(pair)
    for head in heads.values():
        move_to_generator(head, distilled)
    store = ShardStore(None if cache is None else Path(cache))
    size = min(batch_size, len(texts))
    painters = {"distilled": Painter(distilled, store, size), "baseline": Painter(baseline, store, size)}
    run = _Run(painters, heads, texts, numbers, size, net, on_progress, (len(settings) + 3) * len(texts))
    y = run.measure(Setting("baseline", pair.baseline.steps))
    floor = run.floor(pair.baseline.steps)
    x = run.measure(Setting("distilled", pair.distilled.steps))
    measured = {
        Setting("baseline", pair.baseline.steps): y,
        Setting("distilled", pair.distilled.steps): x,
    }
    for setting in settings:
        if setting not in measured:
            measured[setting] = run.measure(setting)
    run.finish()

    def point(setting: Setting) -> Point:
        found = measured[setting]
        gap = gap_closed(x.found.embedding, found.found.embedding, y.found.embedding, floor.embedding)
        return Point(
            setting, gap, identity(x.found.identity, found.found.identity), costs[setting], found.seconds.median_seconds
        )

    points = tuple(point(setting) for setting in dict.fromkeys((*settings, *measured)))
    own = next(one for one in points if one.setting == Setting("baseline", pair.baseline.steps))
    facts = {
        "batch_size": size,
        "subjects_sha256": hashlib.sha256(json.dumps([texts, numbers]).encode()).hexdigest(),
        "models": pair_identity(pair),
        "heads": {name: head.digest for name, head in heads.items()},
        "features": {"digest": net.digest, "dimensions": y.found.embedding.shape[1]},
        "floor_seed_offset": FLOOR_SEED_OFFSET,
        "hardware": hardware().as_dict(),
        "versions": versions(),
    }
    width, height = pair.distilled.width_px, pair.distilled.height_px
    return Frontier(pair.name, len(texts), width, height, own, own.gap.floor.value, points, facts)


def _costs(pair: ModelPair, heads: Mapping[str, HeadProtocol], settings: Sequence[Setting]) -> dict[Setting, float]:
    """TFLOP per image of every setting and of both models at their own steps."""
    steps = sorted({one.steps for one in settings if one.model == "baseline"})
    table = pair_cost(pair, baseline_steps=steps or (pair.baseline.steps,))
    baseline = {cost.steps: cost.tflop for cost in table.baseline_at}
    ours = {None: table.distilled} | {name: pair_cost(pair, head).enhanced for name, head in heads.items()}
    costs = {
        Setting("baseline", pair.baseline.steps): table.baseline.tflop,
        Setting("distilled", pair.distilled.steps): table.distilled.tflop,
    }
    for one in settings:
        if one.model == "baseline":
            costs[one] = baseline[one.steps]
        else:
            costs[one] = sum(row.with_times(one.steps).tflop for row in ours[one.head].rows)
    return costs


@dataclass(frozen=True, slots=True)
class _Measured:
    found: Embeddings
    seconds: Timing


class _Run:
    """Paints, enhances and embeds one setting after another, a batch at a time."""

    def __init__(
        self,
        painters: Mapping[str, Painter],
        heads: Mapping[str, HeadProtocol],
        prompts: list[str],
        seeds: list[int],
        batch_size: int,
        net: FeatureNetLike,
        on_progress: Progress | None,
        total: int,
    ) -> None:
        self._painters = painters
        self._heads = heads
        self._prompts, self._seeds = prompts, seeds
        self._batch_size = batch_size
        self._net = net
        self._on_progress = on_progress
        self._done, self._total = 0, total

    def measure(self, setting: Setting) -> _Measured:
        """Features of the setting's images as 8-bit files hold them, and its seconds per image."""
        seconds: list[float] = []
        found = self._embed(self._images(setting, seconds))
        return _Measured(found, summarise(seconds))

    def floor(self, steps: int) -> Embeddings:
        """Features of the baseline at other seeds."""
        return self._embed(self._floor_images(steps))

    def _images(self, setting: Setting, seconds: list[float]) -> Iterator[Tensor]:
        """The setting's images batch by batch; the seconds per image of full batches are added to ``seconds``."""
        enhancer = None if setting.head is None else Enhancer(self._heads[setting.head])
        painter = self._painters[setting.model]
        for prompts, seeds in self._batches():
            if enhancer is None:
                shard = painter.paint(setting.model, prompts, seeds, setting.steps)
                images, taken = shard.images, shard.seconds
            else:
                given = enhancer.given(painter, setting.model, prompts, seeds, setting.steps)
                enhanced = enhancer.enhance(given, setting.strength)
                images, taken = enhanced.images, given.seconds + enhanced.seconds
            if len(images) == self._batch_size:
                seconds.append(taken / len(images))
            self._note(len(images), setting.label)
            yield images

    def _floor_images(self, steps: int) -> Iterator[Tensor]:
        for prompts, seeds in self._batches():
            others = [seed + FLOOR_SEED_OFFSET for seed in seeds]
            yield self._painters["baseline"].paint("floor", prompts, others, steps).images
            self._note(len(others), "baseline at other seeds")

    def _batches(self) -> Iterator[tuple[list[str], list[int]]]:
        for start in range(0, len(self._prompts), self._batch_size):
            batch = slice(start, start + self._batch_size)
            yield self._prompts[batch], self._seeds[batch]

    def finish(self) -> None:
        """Say that all is done, whatever was found twice."""
        if self._on_progress is not None:
            self._on_progress(self._total, self._total, "")

    def _embed(self, images: Iterator[Tensor]) -> Embeddings:
        return embed(map(to_floats, images), self._net, _FEATURE_BATCH)

    def _note(self, count: int, stage: str) -> None:
        self._done += count
        if self._on_progress is not None and self._done < self._total:  # `finish` says the last
            self._on_progress(self._done, self._total, stage)
