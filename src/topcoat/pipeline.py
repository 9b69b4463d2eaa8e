"""The product: a distilled generator with a head behind it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.gates import GateDecision, gates_for
from topcoat.generators.base import Generator, GeneratorSpec, LatentGenerator, check_request, check_steps
from topcoat.prompts import Prompt, as_prompts

if TYPE_CHECKING:
    from topcoat.heads.head import Head


@dataclass(frozen=True, slots=True)
class PortraitBatch:
    """One batch as it leaves the pipeline: images ``(N, 3, H, W)`` in [0, 1] on the CPU.

    Times are of the wall clock, from the CPU to the CPU: moving images to a device and back is in them. With a head
    that takes latents, ``generator_seconds`` has no decoding in it.
    """

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    enhanced: Tensor
    generator_seconds: float
    head_seconds: float
    """Of the head and the gates."""
    distilled: Tensor | None
    """The generator's own images; None where a head takes latents and neither ``with_distilled`` nor gates ask."""
    decisions: tuple[GateDecision, ...] = ()
    """What the gates did with each image; empty without gates."""


def dtype_behind(generator: Generator) -> torch.dtype:
    """What a head computes in behind ``generator``: on a GPU what that computes in, else float32."""
    device: torch.device | str | None = getattr(generator, "device", None)
    on_cpu = device is None or torch.device(device).type == "cpu"
    return torch.float32 if on_cpu else getattr(torch, generator.spec.dtype)


def move_to_generator(head: Head, generator: Generator) -> None:
    """Move ``head`` to the generator's ``device``; a generator that has none (a fake, a service) leaves it in place.

    Behind a generator on a GPU it computes in that one's dtype, unless `Head.to` was asked for another. Both use and
    timings come by here.
    """
    head.default_dtype = dtype_behind(generator)
    device: torch.device | str | None = getattr(generator, "device", None)
    if device is not None and torch.device(device) != head.device:
        head.to(torch.device(device))


class Pipeline:
    """Prompts and seeds in, enhanced portraits out; without a head, the generator's own images.

    A head that takes latents stands in the place of the generator's decoder, which then does not run.

    ``identity_floor`` and ``never_worse`` are the gates of `topcoat.gates`: per image, the strength is lowered
    until the cosine of identity to the distilled image reaches the floor ("calibrated" takes the head's own), and the
    distilled image stays where the head's result is judged worse. ``identity`` names the net that compares people.
    """

    generator: Generator
    """The distilled model."""
    head: Head | None

    def __init__(
        self,
        generator: GeneratorSpec | Generator,
        head: Head | None,
        *,
        identity_floor: float | Literal["calibrated"] | None = None,
        never_worse: bool = False,
        identity: str | None = None,
    ) -> None:
        """Load the generator if a spec is given, and move the head to its device.

        Raises `ModelError` if the generator cannot be loaded, `UsageError` if it gives no latents and the head needs
        them, and for gates without a head that takes images or without its calibration.
        """
        self.gates = gates_for(head, identity_floor, never_worse, identity)
        if isinstance(generator, GeneratorSpec):
            from topcoat.generators.callables import open_generator

            generator = open_generator(generator)
        self.generator, self.head = generator, head
        self._latents: LatentGenerator | None = None
        if head is not None:
            if head.input == "latent":
                if not isinstance(generator, LatentGenerator):
                    raise UsageError(
                        f"the head decodes latents, and the generator {generator.spec.name} gives none; use a head "
                        "that takes images, or a generator with generate_latents"
                    )
                self._latents = generator
            move_to_generator(head, generator)

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
        with_distilled: bool = False,
    ) -> Iterator[PortraitBatch]:
        """Batches as they are ready, so that any number of images needs the memory of one batch.

        ``strength`` scales what the head adds (0 leaves the distilled image); ``with_distilled`` gives the distilled
        images of a head that decodes latents too. Raises `UsageError` at once for an invalid request and for a strength
        other than 1 with a head that has none; while it generates `ModelError`, and `UsageError` for latents with
        other channels than the head takes.
        """
        texts, numbers = check_request([prompt.text for prompt in as_prompts(prompts)], seeds)
        count = check_steps(steps, self.generator.spec)
        if batch_size < 1:
            raise UsageError(f"batch_size {batch_size} is not possible; use 1 or more")
        if strength != 1 and self.head is not None and not self.head.has_strength:
            raise UsageError(
                f"strength {strength:g} is not possible with a head that decodes latents, which has no distilled image "
                "to go back to; leave strength at 1, or use a head that takes images"
            )
        return self._batches(texts, numbers, count, strength, batch_size, with_distilled)

    def _batches(
        self, texts: list[str], seeds: list[int], steps: int, strength: float, batch_size: int, with_distilled: bool
    ) -> Iterator[PortraitBatch]:
        for start in range(0, len(texts), batch_size):
            prompts, own_seeds = texts[start : start + batch_size], seeds[start : start + batch_size]
            began = time.perf_counter()
            if self._latents is None:
                inputs = distilled = self.generator.generate(prompts, own_seeds, steps=steps)
            else:
                inputs, distilled = self._latents.generate_latents(prompts, own_seeds, steps=steps), None
            generated = time.perf_counter()
            # moving to the CPU waits for the device, so the head's time is all of its work
            enhanced = inputs if self.head is None else self.head(inputs, strength=strength).cpu()
            decisions: tuple[GateDecision, ...] = ()
            if self.gates is not None:
                distilled = inputs if self._latents is None else self._latents.decode(inputs)
                gated = self.gates(distilled, enhanced, strength)
                enhanced, decisions = gated.images, gated.decisions
            done = time.perf_counter()
            if with_distilled and distilled is None and self._latents is not None:
                distilled = self._latents.decode(inputs)
            yield PortraitBatch(
                tuple(prompts), tuple(own_seeds), enhanced, generated - began, done - generated, distilled, decisions
            )
