"""Measured cost on this machine: seconds, memory and joules of a run; full-size networks with random weights."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from topcoat.cost.flops import network_configs
from topcoat.cost.machine import energy_counter, free_memory_bytes, hardware, peak_memory_bytes, reset_peak_memory
from topcoat.cost.memory import Memory, model_memory
from topcoat.cost.pricing import Figure, PairUsage
from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import GeneratorSpec, ModelPair, check_steps
from topcoat.generators.meta import build_networks
from topcoat.generators.vae import channels_of, scale_of
from topcoat.images import encode_png
from topcoat.prompts import sample_prompts

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one run: median and spread (10th and 90th percentile; all of it below 10 runs)."""

    median_seconds: float
    low: float
    high: float
    runs: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What one run took."""

    seconds: float
    joules: float | None = None
    """Of the GPU alone."""
    peak_memory_bytes: int | None = None

    def then(self, other: Spent) -> Spent:
        """Of this run and another after it; what one of them does not know is not known."""
        joules = None if self.joules is None or other.joules is None else self.joules + other.joules
        peak = max(self.peak_memory_bytes or 0, other.peak_memory_bytes or 0) or None
        return Spent(self.seconds + other.seconds, joules, peak)


def timed(run: Callable[[], Result]) -> tuple[Result, float]:
    """What ``run()`` gives, and the seconds that it takes, GPU work included."""
    # a clock that is read before the GPU is waited for measures the queueing, not the work
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    start = time.perf_counter()
    result = run()
    wait()
    return result, time.perf_counter() - start


def summarise(seconds: Sequence[float]) -> Timing:
    """Median and spread of measured seconds; raises `UsageError` if there are none."""
    if not seconds:
        raise UsageError("no run was measured; use 1 or more repeats")
    ordered = sorted(seconds)
    cut = len(ordered) // 10
    return Timing(statistics.median(ordered), ordered[cut], ordered[-1 - cut], len(ordered))


class Meter:
    """Measures runs on ``device``."""

    def __init__(self, device: torch.device | str) -> None:
        self._device = torch.device(device)
        self._joules, self.joules_note = energy_counter(self._device)
        """Why there are no joules, or empty."""

    def run(self, work: Callable[[], Result]) -> tuple[Result, Spent]:
        """What ``work()`` gives, and what it spends."""
        reset_peak_memory(self._device)
        before = self._joules() if self._joules else 0.0
        result, seconds = timed(work)
        joules = self._joules() - before if self._joules else None
        return result, Spent(seconds, joules, peak_memory_bytes(self._device))


class RandomWeights:
    """A `LatentGenerator` of full-size networks with random weights: it takes the time, its images are grey.

    An image is every text pass, the passes of all steps and the decoding.
    """

    def __init__(self, spec: GeneratorSpec, device: torch.device, size_px: tuple[int, int] | None = None) -> None:
        """Build the networks; raises `ModelError` for a model whose configs are not known."""
        self.spec, self.device = spec, device
        self._width_px, self._height_px = size_px or (spec.width_px, spec.height_px)
        dtype = getattr(torch, spec.dtype)
        self.networks = build_networks(network_configs(spec), device, dtype)
        self._text = self.networks.text_encode(spec.max_sequence_length)
        self._step = self.networks.step(self._width_px, self._height_px, spec.max_sequence_length)
        self._decode = self.networks.vae_decode(self._width_px, self._height_px)

    @torch.no_grad()
    def generate_latents(self, prompts: Sequence[str], seeds: Sequence[int], *, steps: int | None = None) -> Tensor:
        """Run everything before the decoding; gives zeros ``(N, C, H/8, W/8)``."""
        family, vae = self.networks.family, self.networks.configs["vae"]
        for _ in range(family.text_passes(self.spec)):
            self._text()
        for _ in range(check_steps(steps, self.spec) * family.passes(self.spec)):
            self._step()
        scale = scale_of(vae)
        return torch.zeros(len(prompts), channels_of(vae), self._height_px // scale, self._width_px // scale)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Run the decoding; gives grey images ``(N, 3, H, W)``."""
        self._decode()
        return torch.full((len(latents), 3, self._height_px, self._width_px), 0.5)

    def generate(self, prompts: Sequence[str], seeds: Sequence[int], *, steps: int | None = None) -> Tensor:
        """Run everything; gives grey images ``(N, 3, H, W)``."""
        return self.decode(self.generate_latents(prompts, seeds, steps=steps))


def needed_bytes(spec: GeneratorSpec) -> int:
    """Memory for a model's weights and one image, from its configs alone."""
    return Memory((model_memory(spec),)).needed_bytes("none")


def check_fits(spec: GeneratorSpec, device: torch.device) -> int:
    """`needed_bytes`, if ``device`` has them free; raises `ModelError` that says both numbers."""
    needed, free = needed_bytes(spec), free_memory_bytes(device)
    if free is not None and needed > free:
        raise ModelError(
            f"{spec.name} with random weights in {spec.dtype} needs {needed / 2**30:.1f} GiB on {device}, where "
            f"{free / 2**30:.1f} GiB are free; use a GPU with more memory, or leave --random-weights out to count only"
        )
    return needed


def measured_usage(
    pair: ModelPair,
    tflop: float | None,
    count: int,
    batch_size: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> PairUsage:
    """Usage of one pair, from ``count`` pairs that are generated here as the builder does."""
    from topcoat.generators.callables import open_pair

    generators = open_pair(pair)
    prompts = [prompt.text for prompt in sample_prompts(count, 0)]
    for generator in generators:
        generator.generate(prompts[:1], [0])  # the first image of a process also pays for what is set up once
    sizes: list[int] = []
    seconds = 0.0
    for start in range(0, count, batch_size):
        end = min(start + batch_size, count)

        def generate(part: Sequence[str] = prompts[start:end], seeds: Sequence[int] = range(start, end)) -> None:
            for generator in generators:
                sizes.extend(len(encode_png(image)) for image in generator.generate(part, seeds))

        seconds += timed(generate)[1]
        if on_progress is not None:
            on_progress(end, count)
    each, size = seconds / count, sum(sizes) / len(sizes)
    how = f"{count} pairs generated here, {each:.3g} s each, batches of {batch_size}; {hardware()}"
    disk = f"PNG images of these {count} pairs, {size:,.0f} bytes each"
    return PairUsage(
        tflop, Figure("seconds", each, "seconds", "measured", how), Figure("disk", 2 * size, "bytes", "measured", disk)
    )
