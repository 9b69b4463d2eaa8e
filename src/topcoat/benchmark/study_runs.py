"""The runs of a study: named ones, what the study changes on them, and why."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from topcoat.benchmark.study_plan import training_tflop
from topcoat.config import StrictModel
from topcoat.cost.flops import components_of
from topcoat.errors import UsageError
from topcoat.generators.base import ModelPair
from topcoat.heads.network import LatentHeadConfig
from topcoat.heads.resnet import ResNetSettings
from topcoat.training import RUNS, TrainConfig, run_config, with_settings
from topcoat.training.start import fitted

STUDY_RUNS = (
    "paper-unet",
    "paper-cyclegan",
    "paper-esa",
    "best-unet",
    "finish-unet",
    "taught-latent-unet",
    "finish-latent-unet",
    "refiner",
    "decoder",
    "finish-decoder",
)
"""The paper's three heads, and four of our own, some before and after their last stage."""
NARROW_CHANNELS = 16
"""Channels of CycleGAN's networks where there is no GPU; the paper's have 64."""
NARROW_IMAGES = 20_000
"""Images that an unpaired run sees where there is no GPU, unless a number is asked for."""


class StudyRun(StrictModel):
    """One run of a study."""

    name: str
    config: TrainConfig
    changed: tuple[str, ...] = ()
    """What differs from the named run, as ``head.base_channels 16, not 64``; an asked number of images is not in it."""
    reason: str = ""
    """Why; empty where nothing differs."""

    def with_images(self, images: int) -> StudyRun:
        """The same run, which sees ``images``; an asked number is no change of the run."""
        config = self.config.model_copy(update={"images": images})
        changed = tuple(words for words in self.changed if not words.startswith("images "))
        return self.model_copy(update={"config": config, "changed": changed})


def study_runs(
    runs: Sequence[str | TrainConfig],
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
    latents to the VAE itself. Otherwise settings that are given as a file or an object stay as they are. ``known`` are
    runs outside the study whose heads are there to go on or learn from. Raises `UsageError` for an unknown run, none,
    or two of one name, `ModelError` for a pair whose sizes are not known.
    """
    if not runs:
        raise UsageError(f"a study needs 1 or more runs; use some of {', '.join(STUDY_RUNS)}, or settings files")
    full = has_gpu() if full_size is None else full_size
    planned: list[StudyRun] = []
    for run in runs:
        config = run_config(run)
        named = isinstance(run, str) and run in RUNS
        changes: dict[str, Any] = {}
        reasons: list[str] = []
        head = config.head
        if named and not full and isinstance(head, ResNetSettings):
            changes |= _narrower(config, train_images)
            tflop = training_tflop(config, pair)
            reasons.append(f"no GPU, and at the paper's size training takes {tflop:.2g} TFLOP for each image seen")
        latent = head.latent_part
        if latent is not None and latent.vae is None:
            config = fitted(config, components_of(pair.distilled).configs["vae"])
        elif named and isinstance(head, LatentHeadConfig):
            channels = int(components_of(pair.distilled).configs["vae"]["latent_channels"])
            if channels != head.latent_channels:
                changes["head.latent_channels"] = channels
                reasons.append(f"the latents of {pair.distilled.name} have {channels} channels")
        asked = {} if train_images is None else {"images": train_images}
        planned.append(
            StudyRun(
                name=config.name,
                config=with_settings(config, [f"{path}={value}" for path, value in (changes | asked).items()]),
                changed=tuple(f"{path} {value:,}, not {_setting(config, path):,}" for path, value in changes.items()),
                reason="; ".join(reasons),
            )
        )
    names = [run.name for run in planned]
    for place, run in enumerate(planned):
        for before, words in ((run.config.starts_from, "goes on"), (run.config.teacher, "learns")):
            if before is not None and before not in (*known, *names[:place]):
                raise UsageError(f"the run {run.name} {words} from {before}; name that run before it")
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


def _narrower(config: TrainConfig, train_images: int | None) -> dict[str, Any]:
    changes: dict[str, Any] = {"head.base_channels": NARROW_CHANNELS, "cycle.discriminator_channels": NARROW_CHANNELS}
    if train_images is None:
        changes["images"] = NARROW_IMAGES
    return changes


def _setting(config: TrainConfig, path: str) -> Any:
    value: Any = config.model_dump()
    for name in path.split("."):
        value = value[name]
    return value
