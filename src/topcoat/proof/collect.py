"""Painting what a proof compares: the same subjects by every stage, timed in turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from topcoat.cost import BASELINE_STEPS_BESIDE, Timing, summarise
from topcoat.generators.base import Generator
from topcoat.heads.head import HeadProtocol
from topcoat.pipeline import move_to_generator
from topcoat.proof.enhancing import Enhancer
from topcoat.proof.painter import Painter
from topcoat.proof.store import Shard, ShardStore

FLOOR_SEED_OFFSET = 1_000_000_007
"""Added to a subject's seed for the baseline at other seeds; no other subject is near."""
TIMED_BATCHES_BESIDE = 3
"""Batches for which the baseline also runs at `BASELINE_STEPS_BESIDE` steps, for its time alone."""

Progress = Callable[[int, int, str], None]
"""Called with images done, images in all and the name of the stage."""


@dataclass(frozen=True, slots=True)
class Collected:
    """Images ``(N, 3, H, W)`` uint8 of the same N subjects by stage, and seconds per image."""

    distilled: Tensor
    enhanced: Tensor
    baseline: Tensor
    floor: Tensor
    """The baseline on the same prompts at other seeds."""
    seconds: dict[str, Timing]
    """Per image, from the CPU to the CPU (transfers included): distilled, head, baseline, baseline_beside.

    With a head that decodes latents also distilled_latents, which is painting without any decoding.
    """
    stage_seconds: dict[str, float]
    """All the seconds each stage took, images from a cache included with the time they once took."""


def collect(
    distilled: Generator,
    baseline: Generator,
    head: HeadProtocol,
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
    move_to_generator(head, distilled)
    total = _total(len(prompts), batch_size, baseline, latents=head.input == "latent")
    run = _Run(distilled, baseline, head, batch_size, store, on_progress, total)
    for start in range(0, len(prompts), batch_size):
        stop = start + batch_size
        run.batch(list(prompts[start:stop]), list(seeds[start:stop]))
    return run.result()


def _total(count: int, batch_size: int, baseline: Generator, *, latents: bool) -> int:
    beside = 0 if baseline.spec.steps == BASELINE_STEPS_BESIDE else min(count, TIMED_BATCHES_BESIDE * batch_size)
    return (5 if latents else 4) * count + beside


class _Run:
    """The state of one `collect`."""

    def __init__(
        self,
        distilled: Generator,
        baseline: Generator,
        head: HeadProtocol,
        batch_size: int,
        store: ShardStore,
        on_progress: Progress | None,
        total: int,
    ) -> None:
        generators = {"distilled": distilled, "baseline": baseline}
        self._painters = {name: Painter(one, store, batch_size) for name, one in generators.items()}
        self._beside = baseline.spec.steps != BASELINE_STEPS_BESIDE
        self._enhancer = Enhancer(head)
        self._batch_size = batch_size
        self._on_progress = on_progress
        self._total = total
        self._done = 0
        self._batches = 0
        self._images: dict[str, list[Tensor]] = {"distilled": [], "enhanced": [], "baseline": [], "floor": []}
        self._seconds: dict[str, list[tuple[int, float]]] = {}

    def batch(self, prompts: list[str], seeds: list[int]) -> None:
        """All stages on one batch."""
        x = self._paint("distilled", "distilled", prompts, seeds)
        self._images["distilled"].append(x.images)
        self._images["enhanced"].append(self._enhance(x, prompts, seeds))
        self._images["baseline"].append(self._paint("baseline", "baseline", prompts, seeds).images)
        if self._batches < TIMED_BATCHES_BESIDE and self._beside:
            self._paint("baseline_beside", "baseline", prompts, seeds, steps=BASELINE_STEPS_BESIDE)
        others = [seed + FLOOR_SEED_OFFSET for seed in seeds]
        self._images["floor"].append(self._paint("floor", "baseline", prompts, others).images)
        self._batches += 1

    def result(self) -> Collected:
        names = ("distilled", "distilled_latents", "head", "baseline")
        seconds = {name: self._timing(name) for name in names if name in self._seconds}
        beside = "baseline_beside" if "baseline_beside" in self._seconds else "baseline"
        seconds["baseline_beside"] = self._timing(beside)
        joined = {name: torch.cat(parts) for name, parts in self._images.items()}
        totals = {name: sum(taken for _, taken in runs) for name, runs in self._seconds.items()}
        return Collected(**joined, seconds=seconds, stage_seconds=totals)

    def _paint(self, stage: str, side: str, prompts: list[str], seeds: list[int], steps: int | None = None) -> Shard:
        shard = self._painters[side].paint(stage, prompts, seeds, steps)
        self._note(stage, len(prompts), shard.seconds)
        return shard

    def _enhance(self, x: Shard, prompts: list[str], seeds: list[int]) -> Tensor:
        """The head on what a picture file of the distilled image holds, or on latents."""
        given = x
        if self._enhancer.takes_latents:
            given = self._enhancer.given(self._painters["distilled"], "distilled", prompts, seeds)
            self._note("distilled_latents", len(prompts), given.seconds)
        enhanced = self._enhancer.enhance(given)
        self._note("head", len(prompts), enhanced.seconds)
        return enhanced.images

    def _note(self, stage: str, count: int, seconds: float) -> None:
        self._seconds.setdefault(stage, []).append((count, seconds))
        self._done += count
        if self._on_progress is not None:
            words = stage.replace("_beside", f" at {BASELINE_STEPS_BESIDE} steps").replace("_", " ")
            self._on_progress(self._done, self._total, words)

    def _timing(self, stage: str) -> Timing:
        full = [seconds / count for count, seconds in self._seconds[stage] if count == self._batch_size]
        return summarise(full)
