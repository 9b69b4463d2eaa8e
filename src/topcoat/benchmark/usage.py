"""What arms use: seconds, memory and joules per image of a pair's models, with or without a head.

The models are the loaded ones, or the full-size networks with random weights.
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch

from topcoat.benchmark.arms import Arm, Model, Subjects
from topcoat.benchmark.run import Benchmark, Progress
from topcoat.benchmark.store import Store
from topcoat.cost.measure import RandomWeights, Spent, Timing, check_fits, summarise
from topcoat.cost.table import CostTable, Saving
from topcoat.errors import UsageError
from topcoat.generators.base import Generator, ModelPair, check_steps
from topcoat.generators.callables import open_pair
from topcoat.heads.head import Head

_HEAD, _COMPILED = "head", " (compiled)"
_PROMPT = "studio portrait of a young woman"


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


def time_pair(
    pair: ModelPair,
    head: Head | None,
    plan: TimingPlan,
    size_px: int | None = None,
    random_weights_on: str | None = None,
    on_progress: Progress | None = None,
) -> list[Usage]:
    """Load the pair and time it; or its networks with random weights on a device (``auto``: the GPU if there is one).

    Raises `UsageError` for another size of a loaded pair, `ModelError` where the models cannot be loaded or do not fit.
    """
    if random_weights_on is not None:
        gpu = "cuda" if torch.cuda.is_available() else "cpu"
        device = torch.device(gpu if random_weights_on == "auto" else random_weights_on)
        size = None if size_px is None else (size_px, size_px)
        return time_random_weights(pair, head, size, device, plan, on_progress)
    if size_px not in (None, pair.distilled.width_px):
        raise UsageError(
            f"the loaded pair makes images of {pair.distilled.width_px} px, not {size_px}; leave --size out, "
            "change it in a spec file, or use --random-weights"
        )
    models = open_pair(pair)
    return time_generators({"distilled": models[0], "baseline": models[1]}, head, plan, on_progress)


def time_random_weights(
    pair: ModelPair,
    head: Head | None,
    size_px: tuple[int, int] | None,
    device: torch.device,
    plan: TimingPlan,
    on_progress: Progress | None = None,
) -> list[Usage]:
    """Usage of the full-size networks with random weights, one model in memory after the other.

    The scheduler's own arithmetic is not in it. Raises `ModelError` before anything is allocated where it would not
    fit.
    """
    if plan.batch_size != 1:
        raise UsageError("random weights are timed one image at a time; leave the batch size at 1")
    models: dict[Model, Any] = {"distilled": pair.distilled, "baseline": pair.baseline}
    for spec in models.values():
        check_fits(spec, device)
    usages: list[Usage] = []
    for model, spec in models.items():
        usages += time_generators({model: RandomWeights(spec, device, size_px)}, head, plan, on_progress)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return usages


def time_generators(
    models: Mapping[Model, Generator], head: Head | None, plan: TimingPlan, on_progress: Progress | None = None
) -> list[Usage]:
    """Usage of models, the distilled one without and with the head, each at the plan's step counts, in turns.

    After rounds that do not count: one, or two where networks are compiled.
    """
    heads = {} if head is None or "distilled" not in models else {_HEAD: head}
    arms = [Arm("distilled", steps, name) for steps in plan.distilled_steps for name in (None, *heads)]
    arms += [Arm("baseline", steps) for steps in plan.baseline_steps]
    arms = [arm for arm in arms if arm.model in models]
    for arm in arms:
        check_steps(arm.steps, models[arm.model].spec)
    if plan.compile:
        for generator in models.values():
            _compile_denoiser(generator)
    warm_ups = 2 if plan.compile else 1
    count = plan.batch_size * (plan.repeats + warm_ups)
    subjects = Subjects((_PROMPT,) * count, tuple(range(count)))
    work = Benchmark(models, heads, subjects, store=Store(None), batch_size=plan.batch_size)
    runs = {arm: list[Spent]() for arm in arms}
    for arm, start in work.turns(arms, on_progress=on_progress):
        spent = work.batch(arm, start).spent
        if start >= warm_ups * plan.batch_size:
            runs[arm].append(spent)
    usages: list[Usage] = []
    for arm, each in runs.items():
        seconds, total = summarise([spent.seconds / plan.batch_size for spent in each]), reduce(Spent.then, each)
        name = models[arm.model].spec.name + (" + head" if arm.head else "") + (_COMPILED if plan.compile else "")
        joules = None if total.joules is None else total.joules / (len(each) * plan.batch_size)
        note = work.joules_note(arm.model)
        usages.append(Usage(name, arm.steps, seconds, plan.batch_size, total.peak_memory_bytes, joules, note))
    return usages


def _compile_denoiser(generator: Generator) -> None:
    if isinstance(generator, RandomWeights):
        generator.networks.denoiser.compile()
        return
    pipeline = getattr(generator, "pipeline", None)
    if pipeline is None:
        raise UsageError(f"{generator.spec.name} is no diffusers pipeline, so it cannot be compiled")
    (pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer).compile()


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
