"""Painting what a proof compares: the same subjects by every stage, timed in turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from topcoat.cost import BASELINE_STEPS_BESIDE, Timing, summarise, timed
from topcoat.cost.flops import HeadLike
from topcoat.generators.base import Generator
from topcoat.pipeline import Movable, move_beside
from topcoat.proof.painter import Painter
from topcoat.proof.store import ShardStore, to_bytes, to_floats

FLOOR_SEED_OFFSET = 1_000_000_007
"""Added to a subject's seed for the baseline at other seeds; no other subject is near."""
TIMED_BATCHES_BESIDE = 3
"""Batches for which the baseline also runs at `BASELINE_STEPS_BESIDE` steps, for its time alone."""

Progress = Callable[[int, int, str], None]
"""Called with images done, images in all and the name of the stage."""


class ProofHead(HeadLike, Movable, Protocol):
    """What a proof asks of a head; `topcoat.heads.Head` is one."""

    @property
    def digest(self) -> str:
        """Changes with any weight."""
        ...

    def __call__(self, images: Tensor, /, strength: float = 1.0) -> Tensor:
        """Enhanced images ``(N, 3, H, W)`` in [0, 1], on the device that ``images`` came from."""
        ...


@dataclass(frozen=True, slots=True)
class Collected:
    """Images ``(N, 3, H, W)`` uint8 of the same N subjects by stage, and seconds per image."""

    distilled: Tensor
    enhanced: Tensor
    baseline: Tensor
    floor: Tensor
    """The baseline on the same prompts at other seeds."""
    seconds: dict[str, Timing]
    """Per image, from the CPU to the CPU (transfers included): distilled, head, baseline, baseline_beside."""
    stage_seconds: dict[str, float]
    """All the seconds each stage took, images from a cache included with the time they once took."""


def collect(
    distilled: Generator,
    baseline: Generator,
    head: ProofHead,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    batch_size: int,
    store: ShardStore,
    on_progress: Progress | None = None,
) -> Collected:
    """Paint every stage batch by batch, in turns (distilled, head, baseline, ...), so that all see the same machine.

    The head is moved to the device of the distilled model. Stages are warmed up first on a batch of full size; times
    are those of full batches alone.
    """
    move_beside(head, distilled)
    run = _Run(distilled, baseline, head, batch_size, store, on_progress, _total(len(prompts), batch_size, baseline))
    for start in range(0, len(prompts), batch_size):
        stop = start + batch_size
        run.batch(list(prompts[start:stop]), list(seeds[start:stop]))
    return run.result()


def _total(count: int, batch_size: int, baseline: Generator) -> int:
    beside = 0 if baseline.spec.steps == BASELINE_STEPS_BESIDE else min(count, TIMED_BATCHES_BESIDE * batch_size)
    return 4 * count + beside


class _Run:
    """The state of one `collect`."""

    def __init__(
        self,
        distilled: Generator,
        baseline: Generator,
        head: ProofHead,
        batch_size: int,
        store: ShardStore,
        on_progress: Progress | None,
        total: int,
    ) -> None:
        generators = {"distilled": distilled, "baseline": baseline}
        self._painters = {name: Painter(one, store, batch_size) for name, one in generators.items()}
        self._beside = baseline.spec.steps != BASELINE_STEPS_BESIDE
        self._head = head
        self._batch_size = batch_size
        self._on_progress = on_progress
        self._total = total
        self._done = 0
        self._batches = 0
        self._warm = False
        self._images: dict[str, list[Tensor]] = {"distilled": [], "enhanced": [], "baseline": [], "floor": []}
        self._seconds: dict[str, list[tuple[int, float]]] = {}

    def batch(self, prompts: list[str], seeds: list[int]) -> None:
        """All stages on one batch."""
        x = self._paint("distilled", "distilled", prompts, seeds)
        self._images["distilled"].append(x)
        self._images["enhanced"].append(self._enhance(x))
        self._images["baseline"].append(self._paint("baseline", "baseline", prompts, seeds))
        if self._batches < TIMED_BATCHES_BESIDE and self._beside:
            self._paint("baseline_beside", "baseline", prompts, seeds, steps=BASELINE_STEPS_BESIDE)
        others = [seed + FLOOR_SEED_OFFSET for seed in seeds]
        self._images["floor"].append(self._paint("floor", "baseline", prompts, others))
        self._batches += 1

    def result(self) -> Collected:
        seconds = {name: self._timing(name) for name in ("distilled", "head", "baseline")}
        beside = "baseline_beside" if "baseline_beside" in self._seconds else "baseline"
        seconds["baseline_beside"] = self._timing(beside)
        joined = {name: torch.cat(parts) for name, parts in self._images.items()}
        totals = {name: sum(taken for _, taken in runs) for name, runs in self._seconds.items()}
        return Collected(**joined, seconds=seconds, stage_seconds=totals)

    def _paint(self, stage: str, side: str, prompts: list[str], seeds: list[int], steps: int | None = None) -> Tensor:
        shard = self._painters[side].paint(stage, prompts, seeds, steps)
        self._note(stage, len(prompts), shard.seconds)
        return shard.images

    def _enhance(self, x: Tensor) -> Tensor:
        """The head on what a picture file of the distilled image holds; never kept, for a head is what changes."""
        images = to_floats(x)
        if not self._warm:
            self._head(images)
            self._warm = True
        made: list[Tensor] = []
        seconds = timed(lambda: made.append(self._head(images)))
        self._note("head", len(x), seconds)
        return to_bytes(made[0])

    def _note(self, stage: str, count: int, seconds: float) -> None:
        self._seconds.setdefault(stage, []).append((count, seconds))
        self._done += count
        if self._on_progress is not None:
            self._on_progress(self._done, self._total, stage.replace("_beside", f" at {BASELINE_STEPS_BESIDE} steps"))

    def _timing(self, stage: str) -> Timing:
        full = [seconds / count for count, seconds in self._seconds[stage] if count == self._batch_size]
        return summarise(full)
