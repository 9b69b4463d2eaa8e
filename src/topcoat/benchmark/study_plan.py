"""What a study trains (named runs, what it changes on them, and why), and what all of it costs, computed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from topcoat.benchmark.run import TIMED_BATCHES
from topcoat.config import StrictModel
from topcoat.cost.flops import EXTRA_STEPS, components_of, pair_cost
from topcoat.cost.pricing import TRAINING_PASSES
from topcoat.cost.table import DECODE_ROW
from topcoat.errors import UsageError
from topcoat.generators.base import ModelPair
from topcoat.generators.vae import channels_of
from topcoat.heads.latent_unet import change_flops
from topcoat.training import RUNS, STUDY_RUNS, RunConfig, TrainConfig, run_config, with_settings

_TERA = 1e12
NARROW_CHANNELS = 16
"""Channels of CycleGAN's networks where there is no GPU; the paper's have 64."""
NARROW_IMAGES = 20_000
"""Images that an unpaired run sees where there is no GPU, unless a number is asked for."""


class StudyRun(StrictModel):
    """One run of a study."""

    name: str
    config: RunConfig
    base: str | None = None
    """The run whose head it starts from: its own first stages are those of that run, and not in ``config``."""
    changed: tuple[str, ...] = ()
    """What differs from the named run, as ``head.base_channels 16, not 64``; an asked number of images is not in it."""
    reason: str = ""
    """Why; empty where nothing differs."""


def study_runs(
    runs: Sequence[str | TrainConfig | RunConfig],
    pair: ModelPair,
    *,
    train_images: int | None = None,
    full_size: bool | None = None,
    known: Collection[str] = (),
) -> list[StudyRun]:
    """The runs of a study, given as names, settings files or settings.

    ``train_images`` is how many images each run sees, its own number by default. Without ``full_size`` (None: where
    this machine has no GPU) a named CycleGAN run is made narrower, and sees `NARROW_IMAGES` unless a number is asked
    for. A named run whose head decodes latents is fitted to the channels of the pair's VAE, and every head that changes
    latents to the VAE itself.

    A named run that begins with all stages of a run before it starts from that one's head; other settings whose first
    stage goes on from a head start from the run before them. ``known`` are runs outside the study whose heads are
    there, before all others. Raises `UsageError` for an unknown run, none, or two of one name, `ModelError` for a pair
    whose sizes are not known.
    """
    if not runs:
        raise UsageError(f"a study needs 1 or more runs; use some of {', '.join(STUDY_RUNS)}, or settings files")
    full = torch.accelerator.is_available() if full_size is None else full_size
    planned: list[StudyRun] = []
    for run in runs:
        config, base = _after(run_config(run), [*known, *(before.name for before in planned)])
        named = isinstance(run, str) and run in RUNS
        changes: dict[str, Any] = {}
        reasons: list[str] = []
        last = config.last
        if named and not full and last.objective.kind == "cycle":
            changes |= _narrower(train_images)
            tflop = training_tflop(last, pair)
            reasons.append(f"no GPU, and at the paper's size training takes {tflop:.2g} TFLOP for each image seen")
        if config.needs_vae:
            config = config.fitted(components_of(pair.distilled).configs["vae"])
        elif named and last.head.input == "latent":
            channels = channels_of(components_of(pair.distilled).configs["vae"])
            if channels != last.head.training_latents:
                changes["head.latent_channels"] = channels
                reasons.append(f"the latents of {pair.distilled.name} have {channels} channels")
        changed = with_settings(config, [f"{path}={value}" for path, value in changes.items()])
        planned.append(
            StudyRun(
                name=config.name,
                config=changed if train_images is None else changed.with_images(train_images),
                base=base,
                changed=tuple(f"{path} {value:,}, not {_setting(last, path):,}" for path, value in changes.items()),
                reason="; ".join(reasons),
            )
        )
    names = [run.name for run in planned]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two runs of the study are called {name}; give every settings file a name of its own")
        if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name.startswith("."):
            raise UsageError(f"the run {name!r} cannot be a folder; use letters, digits, hyphens and dots in its name")
    return planned


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """One stage: its name, what it does in words, and its computed TFLOP."""

    name: str
    what: str
    tflop: float


def plan_study(
    pair: ModelPair, runs: Mapping[str, RunConfig], *, pairs: int, held_out: int, batch_size: int
) -> list[PlannedStage]:
    """Every stage of a study in its order.

    Training counts passes of the networks that make images, not loss nets, discriminators or evaluation. Raises
    `ModelError` for a pair whose sizes are not known.
    """
    table = pair_cost(pair)
    width, height = table.width_px, table.height_px
    latents = any(run.last.head.input == "latent" for run in runs.values())
    undecoded = sum(row.tflop for row in table.distilled.rows if row.piece != DECODE_ROW)
    (extra,) = (cost.tflop for cost in table.baseline_at if cost.steps == EXTRA_STEPS)
    timed = 0 if pair.baseline.steps == EXTRA_STEPS else min(held_out, TIMED_BATCHES * batch_size)
    stages = [PlannedStage("pairs", f"{pairs:,} pairs", pairs * (table.distilled.tflop + table.baseline.tflop))]
    for name, run in runs.items():
        head = run.last.head
        what = f"{run.images:,} images seen, {head.name()} of {head.parameters():,} parameters"
        tflop = sum(stage.images * training_tflop(stage, pair) for stage in run.stages)
        stages.append(PlannedStage(f"train {name}", what, tflop))
    generated = held_out * (table.distilled.tflop + 2 * table.baseline.tflop + latents * undecoded) + timed * extra
    stages.append(PlannedStage("generate", f"{held_out:,} held-out subjects, the baseline twice", generated))
    for name, run in runs.items():
        each = run.last.head.flops(width, height) / _TERA
        stages.append(PlannedStage(f"evaluate {name}", f"{held_out:,} subjects", held_out * each))
    stages.append(PlannedStage("report", "table, page and contact sheets", 0.0))
    return stages


def training_tflop(stage: TrainConfig, pair: ModelPair) -> float:
    """TFLOP of one image seen in training: forward and backward of the networks that make images.

    Where latents are compared nothing is decoded but for the loss ``frechet``, which decodes those of the head and of
    the baseline. That the baseline image of a pair is encoded once is left out.
    """
    side = stage.crop_px
    width, height = (pair.distilled.width_px, pair.distilled.height_px) if side is None else (side, side)
    changed = stage.head.latent_part
    if stage.objective.compares_latents and changed is not None:
        change = change_flops(changed, width, height)
        decoding = changed.flops(width, height) - change if stage.objective.weights()["frechet"] else 0
        return (TRAINING_PASSES * (change + decoding) + decoding) / _TERA
    return TRAINING_PASSES * stage.objective.passes * stage.head.flops(width, height) / _TERA


def _after(run: RunConfig, before: Sequence[str]) -> tuple[RunConfig, str | None]:
    """The stages of ``run`` that are left after the runs ``before`` it, and the run whose head they start from."""
    for name in before:
        stages = RUNS[name]().stages if name in RUNS else ()
        if stages and run.stages[: len(stages)] == stages and len(run.stages) > len(stages):
            return run.from_stage(len(stages)), name
    if run.stages[0].previous is None:
        return run, None
    if not before:
        raise UsageError(f"the run {run.name} goes on from the head of another run; name that run before it")
    return run, before[-1]


def _narrower(train_images: int | None) -> dict[str, Any]:
    images = {"images": NARROW_IMAGES} if train_images is None else {}
    return {"head.base_channels": NARROW_CHANNELS, "objective.discriminator_channels": NARROW_CHANNELS, **images}


def _setting(config: TrainConfig, path: str) -> Any:
    value: Any = config.model_dump()
    for name in path.split("."):
        value = value[name]
    return value
