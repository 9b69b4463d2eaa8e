"""The frontier: quality against cost of every arm, the Pareto set, and the cheapest arm that is good enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pydantic
import yaml

from topcoat.benchmark.record import BenchmarkResult
from topcoat.config import StrictModel
from topcoat.errors import UsageError
from topcoat.files import write_text
from topcoat.generators.base import MAX_STEPS


@dataclass(frozen=True, slots=True)
class Point:
    """An arm as a cost and a quality."""

    name: str
    tflop: float
    """Per image, whole pipeline."""
    distance: float
    """Fréchet distance to the baseline; smaller is better."""
    gap_closed: float | None = None
    """None where there is no gap."""


def points_of(result: BenchmarkResult, *, to_choose: bool = False) -> list[Point]:
    """Every arm with a cost and a quality; with ``to_choose`` those of the distilled model alone.

    The baseline is what is to be replaced, so it is never chosen.
    """
    points: list[Point] = []
    for name, arm in result.arms.items():
        tflop, distance = result.value("tflop", name), result.value("frechet", name)
        if tflop is not None and distance is not None and not (to_choose and arm.model == "baseline"):
            points.append(Point(name, tflop, distance, result.value("gap_closed", name)))
    return points


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in one of cost and distance without losing in the other, cheapest first.

    Of points that are equal in both, the first is kept.
    """
    front: list[Point] = []
    for point in sorted(points, key=lambda one: (one.tflop, one.distance)):
        if not front or point.distance < front[-1].distance:
            front.append(point)
    return front


@dataclass(frozen=True, slots=True)
class Target:
    """What a chosen arm must reach; raises `UsageError` for a share above 1.5 or a cost of 0 or less."""

    gap_closed: float | None = None
    max_tflop: float | None = None

    def __post_init__(self) -> None:
        if self.gap_closed is not None and not 0 < self.gap_closed <= 1.5:
            raise UsageError(f"target share {self.gap_closed:g} is outside (0, 1.5]; 0.9 means 90 % of the gap")
        if self.max_tflop is not None and self.max_tflop <= 0:
            raise UsageError(f"a cost of at most {self.max_tflop:g} TFLOP is not possible; use more than 0")

    def __bool__(self) -> bool:
        return self.gap_closed is not None or self.max_tflop is not None

    def __str__(self) -> str:
        parts = [] if self.gap_closed is None else [f"{self.gap_closed:.0%} of the gap closed"]
        parts += [] if self.max_tflop is None else [f"at most {self.max_tflop:g} TFLOP per image"]
        return " with ".join(parts)

    def choose(self, points: Sequence[Point]) -> Point | None:
        """The cheapest point that closes enough of the gap, or without such a target the best that is cheap enough.

        None if no point does, and for a target of nothing.
        """
        if not self:
            return None
        fitting = [point for point in points if self.max_tflop is None or point.tflop <= self.max_tflop]
        if self.gap_closed is None:
            return min(fitting, key=lambda one: (one.distance, one.tflop), default=None)
        good = [point for point in fitting if point.gap_closed is not None and point.gap_closed >= self.gap_closed]
        return min(good, key=lambda one: (one.tflop, one.distance), default=None)


class PipelineConfig(StrictModel):
    """How to make images: the pair, the distilled model's steps, the head and its strength."""

    pair: str = pydantic.Field(min_length=1)
    steps: int = pydantic.Field(ge=1, le=MAX_STEPS)
    head: str | None = None
    """A head folder or hub id; None for the distilled images alone."""
    strength: float = pydantic.Field(default=1.0, ge=0, le=2)
    note: str = ""
    """Where the choice comes from, for a person."""


def save_choice(
    path: str | Path, result: BenchmarkResult, arm: str, pair: str, heads: dict[str, str]
) -> PipelineConfig:
    """Write ``arm`` as YAML for `topcoat generate --config`.

    ``pair`` is the pair as `--pair` takes it, ``heads`` maps names of the benchmark to folders or ids. Raises
    `DataError` if the file cannot be written.
    """
    gap, chosen = result.value("gap_closed", arm), result.arms[arm]
    share = "no measurable gap" if gap is None else f"{gap:.0%} of the gap closed (measured)"
    config = PipelineConfig(
        pair=pair,
        steps=chosen.steps,
        head=None if chosen.head is None else heads[chosen.head],
        strength=chosen.strength,
        note=(
            f"topcoat frontier, N = {result.n}: {share}, {result.value('tflop_saving', arm):.1%} less TFLOP (computed) "
            f"and {result.value('seconds_saving', arm):.1%} less time (measured) than {result.baseline}, whole "
            f"pipeline at {result.width_px}x{result.height_px} px"
        ),
    )
    write_text(Path(path), yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True, width=120))
    return config
