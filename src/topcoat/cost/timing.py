"""Timing a pair for real: its loaded models, or its full-size networks with random weights."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from topcoat.cost.flops import components_of, network_source
from topcoat.cost.usage import Usage, free_memory_bytes, measure_usage
from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import Generator, GeneratorSpec, LatentGenerator, ModelPair, check_steps
from topcoat.generators.meta import Networks, build_with_random_weights, weight_bytes
from topcoat.heads.head import HeadProtocol

ACTIVATION_SHARE = 0.1
ACTIVATION_BYTES = 1 << 30
"""Room asked for beside the weights: a tenth of them and 1 GiB for a full-size image's activations."""

_PROMPT = "studio portrait of a young woman"


@dataclass(frozen=True, slots=True)
class TimingPlan:
    """What is timed and how often."""

    distilled_steps: Sequence[int]
    baseline_steps: Sequence[int]
    batch_size: int = 1
    repeats: int = 3
    compile: bool = False

    def __post_init__(self) -> None:
        for count in (*self.distilled_steps, *self.baseline_steps):
            if count < 1:
                raise UsageError(f"{count} steps are not possible; use 1 or more")


def time_generators(
    pair: ModelPair, generators: tuple[Generator, Generator], head: Any | None, plan: TimingPlan
) -> Iterator[Usage]:
    """Usage of loaded models: distilled, distilled + head and baseline, each at the plan's step counts."""
    prompts, seeds = [_PROMPT] * plan.batch_size, list(range(plan.batch_size))
    sides = ((pair.distilled, generators[0], plan.distilled_steps), (pair.baseline, generators[1], plan.baseline_steps))
    for side, (spec, generator, counts) in enumerate(sides):
        device = torch.device(getattr(generator, "device", "cpu"))
        if plan.compile:
            _compile_denoiser(generator)
        for steps in counts:
            check_steps(steps, spec)

            def paint(generator: Generator = generator, steps: int = steps) -> Tensor:
                return generator.generate(prompts, seeds, steps=steps)

            yield _measured(spec.name, steps, paint, device, plan)
            if side == 0 and head is not None:
                if head.input == "latent":
                    enhanced = _decoding(generator, head, prompts, seeds, steps)
                else:
                    enhanced = _enhancing(head, paint)
                yield _measured(f"{spec.name} + head", steps, enhanced, device, plan)


def time_random_weights(
    pair: ModelPair, head: HeadProtocol | None, size_px: tuple[int, int] | None, device: torch.device, plan: TimingPlan
) -> Iterator[Usage]:
    """Usage of the full-size networks with random weights, one model after the other.

    Per image: every text, ``steps`` times the passes of a step, the decode and, for distilled + head, the head. The
    scheduler's own arithmetic is not in it. Raises `ModelError` before anything is allocated where it would not fit.
    """
    if plan.batch_size != 1:
        raise UsageError("random weights are timed one image at a time; leave the batch size at 1")
    for spec in (pair.distilled, pair.baseline):
        check_fits(spec, device)
    for side, (spec, counts) in enumerate(
        ((pair.distilled, plan.distilled_steps), (pair.baseline, plan.baseline_steps))
    ):
        dtype = getattr(torch, spec.dtype)
        networks = build_with_random_weights(network_source(spec), spec.transformer, device, dtype)
        if plan.compile:
            networks.denoiser.compile()
        for steps in counts:
            size = size_px or (spec.width_px, spec.height_px)
            paint = _painting(networks, spec, size, steps)
            yield _measured(spec.name, steps, paint, device, plan)
            if side == 0 and head is not None:
                if head.input == "latent":
                    paint = _painting(networks, spec, size, steps, decode=False)
                enhanced = _with_head(paint, head, size, device, dtype)
                yield _measured(f"{spec.name} + head", steps, enhanced, device, plan)
        del networks
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def needed_bytes(spec: GeneratorSpec) -> int:
    """Memory for a model's weights and the room beside them, from its configs alone."""
    weights = weight_bytes(components_of(spec), spec)
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


def _measured(name: str, steps: int, run: Callable[[], object], device: torch.device, plan: TimingPlan) -> Usage:
    return measure_usage(
        name + (" (compiled)" if plan.compile else ""), steps, run, device,
        batch_size=plan.batch_size, repeats=plan.repeats, warmups=2 if plan.compile else 1,
    )  # fmt: skip


def _enhancing(head: Any, paint: Callable[[], Tensor]) -> Callable[[], object]:
    return lambda: head(paint()).cpu()


def _decoding(
    generator: Generator, head: Any, prompts: list[str], seeds: list[int], steps: int
) -> Callable[[], object]:
    """Painting that ends in the head instead of the VAE; raises `UsageError` where latents cannot be had."""
    if not isinstance(generator, LatentGenerator):
        raise UsageError(f"{generator.spec.name} gives no latents, which this head takes; use a head that takes images")
    return lambda: head(generator.generate_latents(prompts, seeds, steps=steps)).cpu()


def _painting(
    networks: Networks, spec: GeneratorSpec, size_px: tuple[int, int], steps: int, *, decode: bool = True
) -> Callable[[], object]:
    """One image of one model as a sequence of network calls."""
    family, (width_px, height_px) = networks.family, size_px
    text = networks.text_encode(spec.max_sequence_length)
    step = networks.step(width_px, height_px, spec.max_sequence_length)
    last = networks.vae_decode(width_px, height_px)

    def paint() -> object:
        with torch.no_grad():
            for _ in range(family.text_passes(spec)):
                text()
            for _ in range(steps * family.passes(spec)):
                step()
            return last() if decode else None

    return paint


def _with_head(
    paint: Callable[[], object], head: HeadProtocol, size_px: tuple[int, int], device: torch.device, dtype: torch.dtype
) -> Callable[[], object]:
    """``paint`` and then a copy of the head on ``device``, on an input of the shape that it gets in use."""
    network = copy.deepcopy(head.network).to(device=device, dtype=dtype)
    inputs = torch.zeros(1, *head.input_shape(*size_px), device=device, dtype=dtype)

    def run() -> object:
        paint()
        with torch.no_grad():
            return network(inputs)

    return run


def _compile_denoiser(generator: Generator) -> None:
    pipeline = getattr(generator, "pipeline", None)
    if pipeline is None:
        raise UsageError(f"{generator.spec.name} is no diffusers pipeline, so it cannot be compiled")
    (pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer).compile()
