"""The runs of a study: named ones, what the study changes on them, and why."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from topcoat.benchmark.study_plan import training_tflop
from topcoat.config import StrictModel
from topcoat.cost.flops import components_of
from topcoat.errors import UsageError
from topcoat.generators.base import ModelPair
from topcoat.training import RUNS, STUDY_RUNS, RunConfig, TrainConfig, run_config, with_settings

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

    def with_images(self, images: int | Sequence[int]) -> StudyRun:
        """The same run, which sees ``images`` in all or in each stage; an asked number is no change of the run."""
        changed = tuple(words for words in self.changed if not words.startswith("images "))
        return self.model_copy(update={"config": self.config.with_images(images), "changed": changed})


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
    for. A named run whose head decodes latents is fitted to the channels of the pair's VAE, and a head that changes
    latents to the VAE itself. Otherwise settings that are given as a file or an object stay as they are.

    A named run that begins with all stages of a run before it starts from that one's head; other settings whose first
    stage goes on from a head start from the run before them. ``known`` are runs outside the study whose heads are
    there, before all others. Raises `UsageError` for an unknown run, none, or two of one name, `ModelError` for a pair
    whose sizes are not known.
    """
    if not runs:
        raise UsageError(f"a study needs 1 or more runs; use some of {', '.join(STUDY_RUNS)}, or settings files")
    full = has_gpu() if full_size is None else full_size
    planned: list[StudyRun] = []
    for run in runs:
        config, base = _after(run_config(run), [*known, *(before.name for before in planned)])
        named = isinstance(run, str) and run in RUNS
        changes: dict[str, Any] = {}
        reasons: list[str] = []
        last = config.last
        if named and not full and not last.objective.paired:
            changes |= _narrower(train_images)
            tflop = training_tflop(last, pair)
            reasons.append(f"no GPU, and at the paper's size training takes {tflop:.2g} TFLOP for each image seen")
        if config.needs_vae:
            config = config.fitted(components_of(pair.distilled).configs["vae"])
        elif named and last.head.input == "latent":
            channels = int(components_of(pair.distilled).configs["vae"]["latent_channels"])
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


def has_gpu() -> bool:
    """Whether training finds a GPU here."""
    import torch

    return torch.accelerator.is_available()


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
    changes: dict[str, Any] = {
        "head.base_channels": NARROW_CHANNELS,
        "objective.discriminator_channels": NARROW_CHANNELS,
    }
    if train_images is None:
        changes["images"] = NARROW_IMAGES
    return changes


def _setting(config: TrainConfig, path: str) -> Any:
    value: Any = config.model_dump()
    for name in path.split("."):
        value = value[name]
    return value
