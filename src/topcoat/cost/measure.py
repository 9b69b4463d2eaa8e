"""Measured cost: seconds, memory and joules of a pair's models on this machine.

The models are the loaded ones, or the full-size networks with random weights.
"""

from __future__ import annotations

import dataclasses
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from topcoat.cost.flops import components_of, network_source
from topcoat.cost.machine import (
    energy_counter,
    free_memory_bytes,
    hardware,
    peak_memory_bytes,
    reset_peak_memory,
)
from topcoat.cost.pricing import Figure, PairUsage
from topcoat.cost.table import CostTable, Saving
from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import Generator, GeneratorSpec, LatentGenerator, ModelPair, check_steps
from topcoat.generators.meta import build_networks, configs_of
from topcoat.generators.vae import scale_of
from topcoat.heads.head import Head
from topcoat.images import encode_png
from topcoat.pipeline import move_to_generator
from topcoat.prompts import sample_prompts

ACTIVATION_SHARE = 0.1
ACTIVATION_BYTES = 1 << 30
"""Memory for a full-size image's activations: a tenth of the weights and 1 GiB."""

Result = TypeVar("Result")

_COMPILED = " (compiled)"
_PROMPT = "studio portrait of a young woman"


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one run: median and spread (10th and 90th percentile; all of it below 10 runs)."""

    median_seconds: float
    low: float
    high: float
    runs: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Measured usage of one pipeline per image; it knows no prices."""

    name: str
    steps: int
    seconds: Timing
    """Per image: each run's time over the images of a batch."""
    batch_size: int
    peak_memory_bytes: int | None
    joules: float | None
    """Per image, of the GPU alone."""
    joules_note: str
    """Why there are no joules, or empty."""

    @property
    def images_per_second(self) -> float:
        """From the median."""
        return 1 / self.seconds.median_seconds

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON and for a table."""
        return {**dataclasses.asdict(self), "images_per_second": self.images_per_second, "kind": "measured"}


@dataclass(frozen=True, slots=True)
class TimingPlan:
    """What is timed and how often."""

    distilled_steps: Sequence[int]
    baseline_steps: Sequence[int]
    batch_size: int = 1
    repeats: int = 3
    compile: bool = False


def timed(run: Callable[[], Result]) -> tuple[Result, float]:
    """What ``run()`` gives, and the seconds that it takes, GPU work included."""
    _synchronise()
    start = time.perf_counter()
    result = run()
    _synchronise()
    return result, time.perf_counter() - start


def _synchronise() -> None:
    """Wait for the GPU, where there is one: a clock read before that measures the queueing, not the work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def summarise(seconds: Sequence[float]) -> Timing:
    """Median and spread of measured seconds; raises `UsageError` if there are none."""
    if not seconds:
        raise UsageError("no run was measured; use 1 or more repeats")
    ordered = sorted(seconds)
    cut = len(ordered) // 10
    return Timing(statistics.median(ordered), ordered[cut], ordered[-1 - cut], len(ordered))


def measure_usage(
    name: str,
    steps: int,
    run: Callable[[], object],
    device: torch.device,
    *,
    batch_size: int = 1,
    repeats: int = 3,
    warmups: int = 1,
) -> Usage:
    """Run ``run`` (one batch) ``warmups`` times without counting and ``repeats`` times timed and synchronised.

    Raises `UsageError` for no repeats.
    """
    if repeats < 1 or batch_size < 1:
        raise UsageError(f"{repeats} repeats of {batch_size} images measure nothing; use 1 or more of each")
    for _ in range(warmups):
        run()
    joules, note = energy_counter(device)
    reset_peak_memory(device)
    before = joules() if joules else 0.0
    seconds = [timed(run)[1] / batch_size for _ in range(repeats)]
    each = (joules() - before) / (repeats * batch_size) if joules else None
    return Usage(name, steps, summarise(seconds), batch_size, peak_memory_bytes(device), each, note)


def time_pair(
    pair: ModelPair,
    head: Head | None,
    plan: TimingPlan,
    size_px: int | None = None,
    random_weights_on: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Usage]:
    """Load the pair and time it; or its networks with random weights on a device (``auto``: the GPU if there is one).

    Raises `UsageError` for another size of a loaded pair, `ModelError` where the models cannot be loaded or do not fit.
    """
    if random_weights_on is not None:
        gpu = "cuda" if torch.cuda.is_available() else "cpu"
        device = torch.device(gpu if random_weights_on == "auto" else random_weights_on)
        timing = time_random_weights(pair, head, None if size_px is None else (size_px, size_px), device, plan)
    else:
        from topcoat.generators.diffusers import load_pair

        if size_px not in (None, pair.distilled.width_px):
            raise UsageError(
                f"the loaded pair makes images of {pair.distilled.width_px} px, not {size_px}; leave --size out, "
                "change it in a spec file, or use --random-weights"
            )
        timing = time_generators(pair, load_pair(pair), head, plan)
    total = len(plan.distilled_steps) * (1 if head is None else 2) + len(plan.baseline_steps)
    usages: list[Usage] = []
    for usage in timing:
        usages.append(usage)
        if on_progress is not None:
            on_progress(len(usages), total)
    return usages


def time_generators(
    pair: ModelPair, generators: tuple[Generator, Generator], head: Head | None, plan: TimingPlan
) -> Iterator[Usage]:
    """Usage of loaded models: distilled, distilled + head and baseline, each at the plan's step counts."""
    yield from _time(pair.distilled, generators[0], plan.distilled_steps, plan, head)
    yield from _time(pair.baseline, generators[1], plan.baseline_steps, plan)


def time_random_weights(
    pair: ModelPair, head: Head | None, size_px: tuple[int, int] | None, device: torch.device, plan: TimingPlan
) -> Iterator[Usage]:
    """Usage of the full-size networks with random weights, one model in memory after the other.

    The scheduler's own arithmetic is not in it. Raises `ModelError` before anything is allocated where it would not
    fit.
    """
    if plan.batch_size != 1:
        raise UsageError("random weights are timed one image at a time; leave the batch size at 1")
    for spec in (pair.distilled, pair.baseline):
        check_fits(spec, device)
    yield from _time(pair.distilled, RandomWeights(pair.distilled, device, size_px), plan.distilled_steps, plan, head)
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    yield from _time(pair.baseline, RandomWeights(pair.baseline, device, size_px), plan.baseline_steps, plan)


def _time(
    spec: GeneratorSpec, generator: Generator, counts: Sequence[int], plan: TimingPlan, head: Head | None = None
) -> Iterator[Usage]:
    """Usage of one model at every step count, without and with the head."""
    prompts, seeds = [_PROMPT] * plan.batch_size, list(range(plan.batch_size))
    device = torch.device(getattr(generator, "device", "cpu"))
    if plan.compile:
        _compile_denoiser(generator)
    if head is not None:
        move_to_generator(head, generator)

    def usage(name: str, steps: int, run: Callable[[], object]) -> Usage:
        return measure_usage(
            name + (_COMPILED if plan.compile else ""), steps, run, device,
            batch_size=plan.batch_size, repeats=plan.repeats, warmups=2 if plan.compile else 1,
        )  # fmt: skip

    for steps in counts:
        check_steps(steps, spec)
        generate = generator.generate
        yield usage(spec.name, steps, lambda: generate(prompts, seeds, steps=steps))  # noqa: B023 - run at once
        if head is None:
            continue
        if head.input == "latent":
            if not isinstance(generator, LatentGenerator):
                raise UsageError(f"{spec.name} gives no latents, which this head needs; use a head that takes images")
            generate = generator.generate_latents
        yield usage(f"{spec.name} + head", steps, lambda: head(generate(prompts, seeds, steps=steps)))  # noqa: B023


def _compile_denoiser(generator: Generator) -> None:
    if isinstance(generator, RandomWeights):
        generator.networks.denoiser.compile()
        return
    pipeline = getattr(generator, "pipeline", None)
    if pipeline is None:
        raise UsageError(f"{generator.spec.name} is no diffusers pipeline, so it cannot be compiled")
    (pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer).compile()


class RandomWeights:
    """A `LatentGenerator` of full-size networks with random weights: it takes the time, its images are grey.

    An image is every text pass, the passes of all steps and the decoding.
    """

    def __init__(self, spec: GeneratorSpec, device: torch.device, size_px: tuple[int, int] | None = None) -> None:
        """Build the networks; raises `ModelError` for a model whose configs are not known."""
        self.spec, self.device = spec, device
        self._width_px, self._height_px = size_px or (spec.width_px, spec.height_px)
        dtype = getattr(torch, spec.dtype)
        self.networks = build_networks(configs_of(network_source(spec), spec.transformer), device, dtype)
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
        return torch.zeros(len(prompts), vae["latent_channels"], self._height_px // scale, self._width_px // scale)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Run the decoding; gives grey images ``(N, 3, H, W)``."""
        self._decode()
        return torch.full((len(latents), 3, self._height_px, self._width_px), 0.5)

    def generate(self, prompts: Sequence[str], seeds: Sequence[int], *, steps: int | None = None) -> Tensor:
        """Run everything; gives grey images ``(N, 3, H, W)``."""
        return self.decode(self.generate_latents(prompts, seeds, steps=steps))


def needed_bytes(spec: GeneratorSpec) -> int:
    """Memory for a model's weights and activations, from its configs alone."""
    weights = components_of(spec).parameters * getattr(torch, spec.dtype).itemsize
    return int(weights * (1 + ACTIVATION_SHARE)) + ACTIVATION_BYTES


def check_fits(spec: GeneratorSpec, device: torch.device) -> int:
    """`needed_bytes`, if ``device`` has them free; raises `ModelError` that says both numbers."""
    needed, free = needed_bytes(spec), free_memory_bytes(device)
    if free is not None and needed > free:
        raise ModelError(
            f"{spec.name} with random weights in {spec.dtype} needs {needed / 2**30:.1f} GiB on {device}, where "
            f"{free / 2**30:.1f} GiB are free; use a GPU with more memory, or leave --random-weights out to count only"
        )
    return needed


def measured_savings(pair: ModelPair, table: CostTable, usages: Sequence[Usage]) -> list[Saving]:
    """Seconds that the distilled pipelines save against the baseline at every step count."""
    baselines = [usage for usage in usages if usage.name.removesuffix(_COMPILED) == pair.baseline.name]
    return [
        Saving(
            usage.name, usage.steps, usage.seconds.median_seconds,
            baseline.name, baseline.steps, baseline.seconds.median_seconds,
            "whole pipeline", table.size, "measured",
        )
        for usage in usages if usage not in baselines for baseline in baselines
    ]  # fmt: skip


def measured_usage(
    pair: ModelPair, tflop: float, count: int, batch_size: int, on_progress: Callable[[int, int], None] | None = None
) -> PairUsage:
    """Usage of one pair, from ``count`` pairs that are generated here as the builder does."""
    from topcoat.generators.diffusers import load_pair

    generators = load_pair(pair)
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
