"""The product: a distilled generator with a head behind it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.generators.base import Generator, GeneratorSpec, check_request, check_steps
from topcoat.prompts import Prompt, as_prompts

if TYPE_CHECKING:
    from topcoat.heads.base import Head


@dataclass(frozen=True)
class PortraitBatch:
    """One batch as it leaves the pipeline: images ``(N, 3, H, W)`` in [0, 1] on the CPU, times of the wall clock.

    Both times are from the CPU to the CPU: moving images to a device and back is in them.
    """

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    distilled: Tensor
    enhanced: Tensor
    generator_seconds: float
    head_seconds: float


class Movable(Protocol):
    """A head that runs on a device and can be moved to another."""

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        ...

    def to(self, device: torch.device) -> object:
        """Move it to ``device``."""
        ...


def move_beside(head: Movable, generator: Generator) -> None:
    """Move ``head`` to the generator's ``device``; a generator that has none (a fake, a service) leaves it in place."""
    device: torch.device | str | None = getattr(generator, "device", None)
    if device is not None and torch.device(device) != head.device:
        head.to(torch.device(device))


class Pipeline:
    """Prompts and seeds in, enhanced portraits out; without a head, the generator's own images."""

    def __init__(self, generator: GeneratorSpec | Generator, head: Head | None) -> None:
        """Load the generator if a spec is given, and move the head to its device.

        Raises `ModelError` if the generator cannot be had.
        """
        if isinstance(generator, GeneratorSpec):
            from topcoat.generators.diffusers import load_generator

            self._generator: Generator = load_generator(generator)
        else:
            self._generator = generator
        self._head = head
        if head is not None:
            move_beside(head, self._generator)

    @property
    def generator(self) -> Generator:
        """What paints."""
        return self._generator

    @property
    def head(self) -> Head | None:
        """What enhances."""
        return self._head

    def __call__(
        self,
        prompts: Sequence[str | Prompt],
        seeds: Sequence[int],
        *,
        steps: int | None = None,
        strength: float = 1.0,
        batch_size: int = 16,
    ) -> Tensor:
        """Enhanced images ``(N, 3, H, W)``, float32 in [0, 1]; raises like `stream`."""
        batches = self.stream(prompts, seeds, steps=steps, strength=strength, batch_size=batch_size)
        return torch.cat([batch.enhanced for batch in batches])

    def stream(
        self,
        prompts: Sequence[str | Prompt],
        seeds: Sequence[int],
        *,
        steps: int | None = None,
        strength: float = 1.0,
        batch_size: int = 16,
    ) -> Iterator[PortraitBatch]:
        """Batches as they are ready, so that any number of images needs the memory of one batch.

        ``strength`` scales what the head adds (0 leaves the distilled image). Raises `UsageError` at once for a
        request that cannot be painted, `ModelError` while painting.
        """
        texts, numbers = check_request([prompt.text for prompt in as_prompts(prompts)], seeds)
        count = check_steps(steps, self._generator.spec)
        if batch_size < 1:
            raise UsageError(f"batch_size {batch_size} is not possible; use 1 or more")
        return self._batches(texts, numbers, count, strength, batch_size)

    def _batches(
        self, texts: list[str], seeds: list[int], steps: int, strength: float, batch_size: int
    ) -> Iterator[PortraitBatch]:
        for start in range(0, len(texts), batch_size):
            part = slice(start, start + batch_size)
            began = time.perf_counter()
            distilled = self._generator.generate(texts[part], seeds[part], steps=steps)
            painted = time.perf_counter()
            # moving to the CPU waits for the device, so the head's time is all of its work
            enhanced = distilled if self._head is None else self._head(distilled, strength=strength).cpu()
            done = time.perf_counter()
            yield PortraitBatch(
                tuple(texts[part]), tuple(seeds[part]), distilled, enhanced, painted - began, done - painted
            )
