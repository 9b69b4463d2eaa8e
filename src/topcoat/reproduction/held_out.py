"""The held-out subjects, painted once and read as often as there are heads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from topcoat.cost import BASELINE_STEPS_BESIDE, Timing, summarise
from topcoat.generators.base import Generator
from topcoat.heads.head import HeadProtocol
from topcoat.pipeline import move_to_generator
from topcoat.proof.collect import FLOOR_SEED_OFFSET, TIMED_BATCHES_BESIDE
from topcoat.proof.enhancing import Enhancer
from topcoat.proof.painter import Painter
from topcoat.proof.store import Shard, ShardStore, to_floats

Painted = Literal["distilled", "latents", "baseline", "beside", "floor"]
"""``latents`` are those of the distilled images, ``beside`` is the baseline at `BASELINE_STEPS_BESIDE` steps, timed on
the first batches alone, ``floor`` the baseline at other seeds."""

Progress = Callable[[int, int, str], None]
"""Called with pieces done, pieces in all and what is at work."""


class HeldOut:
    """Batches of the same subjects by every stage, kept in ``folder``: what is there is not painted again."""

    def __init__(
        self,
        generators: tuple[Generator, Generator],
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        batch_size: int,
        folder: Path,
        latents: bool,
    ) -> None:
        self.prompts, self.seeds = list(prompts), list(seeds)
        self._size = min(batch_size, len(self.prompts))
        store = ShardStore(folder)
        self._distilled, self._baseline = (Painter(one, store, self._size) for one in generators)
        self._stages: list[Painted] = ["distilled", "baseline", "floor"]
        if latents:
            self._stages.append("latents")
        if generators[1].spec.steps != BASELINE_STEPS_BESIDE:
            self._stages.append("beside")

    def __len__(self) -> int:
        return len(self.prompts)

    def paint(self, on_progress: Progress | None = None) -> dict[str, Timing]:
        """Paint what is missing, in turns, so that all stages see the same machine; gives seconds per image by stage.

        A batch that was kept counts with the seconds it took then.
        """
        seconds: dict[str, list[float]] = {}
        starts = range(0, len(self), self._size)
        total = len(starts) * len(self._stages)
        for number, start in enumerate(starts):
            for place, stage in enumerate(self._stages):
                if stage != "beside" or number < TIMED_BATCHES_BESIDE:
                    shard = self._shard(stage, start)
                    if len(shard.images) == self._size:
                        seconds.setdefault(stage, []).append(shard.seconds / self._size)
                if on_progress is not None:
                    on_progress(number * len(self._stages) + place + 1, total, stage)
        found = {stage: summarise(taken) for stage, taken in seconds.items()}
        return {"beside": found["baseline"], **found}

    def images(self, stage: Painted) -> Iterator[Tensor]:
        """Batches ``(N, 3, H, W)`` in [0, 1], as 8-bit files hold them."""
        for start in range(0, len(self), self._size):
            yield to_floats(self._shard(stage, start).images)

    def enhanced(self, head: HeadProtocol, seconds: list[float] | None = None) -> Iterator[Tensor]:
        """The head's images batch by batch, uint8; its seconds per image of full batches are added to ``seconds``."""
        move_to_generator(head, self._distilled.generator)
        enhancer = Enhancer(head)
        for start in range(0, len(self), self._size):
            made = enhancer.enhance(self._shard("latents" if enhancer.takes_latents else "distilled", start))
            if seconds is not None and len(made.images) == self._size:
                seconds.append(made.seconds / self._size)
            yield made.images

    def _shard(self, stage: Painted, start: int) -> Shard:
        part = slice(start, start + self._size)
        prompts, seeds = self.prompts[part], self.seeds[part]
        if stage == "distilled":
            return self._distilled.paint("distilled", prompts, seeds)
        if stage == "latents":
            return self._distilled.paint_latents("distilled", prompts, seeds)
        if stage == "beside":
            return self._baseline.paint("baseline_beside", prompts, seeds, BASELINE_STEPS_BESIDE)
        if stage == "floor":
            return self._baseline.paint("floor", prompts, [seed + FLOOR_SEED_OFFSET for seed in seeds])
        return self._baseline.paint("baseline", prompts, seeds)


def first_images(batches: Iterable[Tensor], count: int) -> Tensor:
    """The first ``count`` images of a stream of batches, or all where there are fewer."""
    found: list[Tensor] = []
    room = count
    for batch in batches:
        found.append(batch[:room])
        room -= len(found[-1])
        if room <= 0:
            break
    return torch.cat(found)
