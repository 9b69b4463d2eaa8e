"""Everything that a training run depends on, as frozen records: its stages, and the objective of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator

from topcoat.config import StrictModel, parse_config
from topcoat.errors import UsageError
from topcoat.generators.vae import VaeDecoder
from topcoat.heads.head import Head
from topcoat.heads.kinds import AnyHeadConfig
from topcoat.heads.unet import UNetConfig
from topcoat.training.objectives import AnyObjective
from topcoat.training.optim import ScheduleKind

_OPERATIONAL = {"device", "checkpoint_every_seconds", "cache_mebibytes", "compile", "workers", "tensorboard", "wandb"}
"""Settings that decide no weights: where a stage runs and how often it saves."""


class TrainConfig(StrictModel):
    """One stage of a run, or a run of one stage. Progress counts images seen, never steps or epochs."""

    name: str = Field(min_length=1)
    previous: Literal["start", "teacher"] | None = None
    """What the head of the stage before (or the one given to start from) is for: ``start`` goes on from it, ``teacher``
    learns what it makes of x in the place of y; None leaves it, or starts from it where the run begins here."""
    head: AnyHeadConfig = UNetConfig()

    images: int = Field(ge=1)
    """How many images the stage sees, with repeats."""
    batch_size: int = Field(default=16, ge=1)
    """Images of one optimiser step, over all processes."""
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    """A process computes its part of a batch in so many micro-batches: less memory, the same step."""
    crop_px: int | None = Field(default=96, ge=8)
    """Side of the random square that is cut from both halves of a pair; None takes whole images."""
    flip: bool = True
    """Mirror half of the images; not possible for latents, which do not mirror with their image."""
    seed: int = Field(default=0, ge=0)

    learning_rate: float = Field(default=5e-4, gt=0, le=1)
    discriminator_learning_rate: float = Field(default=2e-4, gt=0, le=1)
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.99)
    """Adam's."""
    schedule: ScheduleKind = "cosine"
    """After the warm-up: half a cosine to zero, or constant for half of the stage and then a line to zero."""
    warmup_images: int = Field(default=2_000, ge=0)
    """The learning rate rises linearly over these."""
    adversarial_after_images: int = Field(default=0, ge=0)
    """The discriminator starts here; the weight of its losses rises linearly over the next ``warmup_images``."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient."""
    ema_halflife_images: float = Field(default=5_000, gt=0)
    """The saved head averages the weights with this half-life."""
    grad_spike_factor: float = Field(default=1000.0, gt=1)
    """A step whose gradient is so many times as large as usual is skipped like one that is not finite."""
    max_bad_steps: int = Field(default=20, ge=1)
    """So many skipped steps in a row end the run; single ones are skipped and counted."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """The lower ones are autocast; weights, losses and optimisers stay float32. auto takes bfloat16 where the hardware
    has it; float16 scales its losses."""
    compile: bool = False
    """Compile the head's network (`torch.compile`); what is saved is the same."""

    checkpoint_every_seconds: float = Field(default=120.0, ge=0)
    validate_every_images: int = Field(default=10_000, ge=1)
    validation_images: int = Field(default=64, ge=1)
    validation_features: str = "embedded"
    """Net of the set distance that the best head is chosen by, as ``--features`` takes it; no loss is made with it.
    ``embedded`` is the net for losses."""
    cache_mebibytes: int = Field(default=2_048, ge=0)
    """Decoded pairs are kept in memory if all of them fit in this."""
    workers: int | None = Field(default=None, ge=0, le=256)
    """Threads that decode pairs for the batches to come; 0 reads a batch when it is needed. By default half of the
    processors, 8 at most. Batches do not depend on it."""
    crops_per_decode: int = Field(default=1, ge=1, le=64)
    """So many crops are cut of a pair when it is decoded, one for each of so many batches in a row. Above 1 for large
    images, which take longer to decode than a step takes."""
    cached_crops: int = Field(default=0, ge=0, le=1024)
    """So many crops of every pair are written to a file in the run's folder when the pair is first decoded, and passes
    take them in turn, mirrored anew; 0 cuts anew in every pass. The file goes when the stage ends."""
    tensorboard: bool = True
    """Write TensorBoard's files into the run's folder, where TensorBoard is installed."""
    wandb: Literal["off", "offline", "online"] = "offline"
    """Weights & Biases, where it is installed. ``offline`` writes files into the run's folder, which ``wandb sync``
    uploads later; ``online`` uploads meanwhile."""

    objective: AnyObjective
    """What it minimises: ``paired``, ``unpaired``, ``cycle`` or ``latent``."""

    @model_validator(mode="after")
    def _settings_fit(self) -> TrainConfig:
        head, crop_px, steps = self.head, self.crop_px, self.gradient_accumulation_steps
        if crop_px is not None and crop_px % head.size_multiple:
            raise ValueError(f"crop_px is {crop_px}; give a multiple of {head.size_multiple}, which this head needs")
        if crop_px is not None and crop_px < head.smallest_px:
            raise ValueError(f"crop_px is {crop_px}; give at least {head.smallest_px}, which this head needs")
        if self.batch_size % steps:
            raise ValueError(
                f"batch_size is {self.batch_size}; give a multiple of gradient_accumulation_steps, which is {steps}"
            )
        if head.training_latents is not None and self.flip:
            raise ValueError(f"the head {head.name()} works on latents, which do not mirror; set flip to false")
        if self.crops_per_decode > 1 or self.cached_crops:
            self._check_crops()
        self.objective.check(self)
        return self

    def _check_crops(self) -> None:
        if self.crop_px is None:
            raise ValueError("crops_per_decode and cached_crops are of crops; set crop_px, or leave them out")
        if self.crops_per_decode > 1 and self.cached_crops:
            raise ValueError("crops_per_decode and cached_crops exclude each other; leave out one of the two")
        if self.cached_crops and self.head.training_latents is not None:
            raise ValueError(f"the head {self.head.name()} works on latents; set cached_crops, for images, to 0")

    def identity(self) -> dict[str, Any]:
        """What decides the trained weights: two stages with equal identities and data give the same head.

        Settings at their default are left out, so that one that a later version adds changes no identity; not those of
        the head, nor the objective's ``kind``.
        """
        settings = self.model_dump(mode="json", exclude=_OPERATIONAL, exclude_defaults=True)
        settings["head"] = self.head.model_dump(mode="json")
        settings["objective"] = {"kind": self.objective.kind, **settings["objective"]}
        return settings


class RunConfig(StrictModel):
    """A run: stages, each of which goes on from the head of the one before."""

    name: str = Field(min_length=1)
    stages: tuple[TrainConfig, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_differ(self) -> RunConfig:
        names = [stage.name for stage in self.stages]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two stages are called {twice[0]}; give each a name of its own")
        return self

    @classmethod
    def of(cls, config: TrainConfig) -> RunConfig:
        """A run of one stage."""
        return cls(name=config.name, stages=(config,))

    @property
    def last(self) -> TrainConfig:
        """The stage that gives the run's head."""
        return self.stages[-1]

    @property
    def images(self) -> int:
        """How many images all stages see."""
        return sum(stage.images for stage in self.stages)

    @property
    def needs_vae(self) -> bool:
        """Whether a stage needs the distilled model's VAE: its decoder in the head, its encoder for baseline images."""
        return any(stage.head.latent_part is not None for stage in self.stages)

    def identity(self) -> list[dict[str, Any]]:
        """`TrainConfig.identity` of every stage."""
        return [stage.identity() for stage in self.stages]

    def with_images(self, images: int | Sequence[int]) -> RunConfig:
        """The run with ``images`` in all, shared by its stages as before, or in each; `UsageError` for too few."""
        if isinstance(images, int):
            later = [round(images * stage.images / self.images) for stage in self.stages[1:]]
            images = [images - sum(later), *later]
        stages = [
            parse_config({**stage.model_dump(), "images": count}, TrainConfig, source="training settings")
            for stage, count in zip(self.stages, images, strict=True)
        ]
        return self.model_copy(update={"stages": tuple(stages)})

    def from_stage(self, index: int) -> RunConfig:
        """The run from a stage on."""
        return self.model_copy(update={"stages": self.stages[index:]})

    def starting_from(self, head: Head | None) -> RunConfig:
        """The run from the first stage that ``head`` fits; all of it for None.

        That is the first stage that trains the kind of head that the run ends in: the head that is given stands for
        what the stages before would have made. A head of that kind needs no teacher.
        """
        if head is None:
            return self
        kind = self.last.head.name()
        fits = [
            index
            for index, stage in enumerate(self.stages)
            if stage.head.name() == kind and not (stage.previous == "teacher" and head.kind == kind)
        ]
        return self.from_stage(fits[0] if fits else len(self.stages) - 1)

    def fitted(self, vae: Mapping[str, Any]) -> RunConfig:
        """The run with the VAE that a config.json describes in heads that lack theirs; no weights are read."""
        with torch.device("meta"):
            decoder = VaeDecoder(vae)
        stages = [
            stage
            if stage.head.latent_part is None or stage.head.latent_part.vae is not None
            else stage.model_copy(update={"head": stage.head.with_vae(decoder)})
            for stage in self.stages
        ]
        return self.model_copy(update={"stages": tuple(stages)})


def with_settings(run: RunConfig, changes: Sequence[str]) -> RunConfig:
    """``run`` with changes like ``learning_rate=1e-4`` or ``head.base_channels=16``; values are YAML.

    A change is made in every stage, or in one that it names: ``whole.learning_rate=1e-4``. A change of ``head.kind`` or
    ``objective.kind`` drops the other settings of head or objective. Raises `UsageError` for a change that names no
    setting, or that the settings refuse.
    """
    stages = {stage.name: stage.model_dump() for stage in run.stages}
    for change in changes:
        path, sign, text = change.partition("=")
        if not sign or not path:
            raise UsageError(f"{change!r} is no setting; write name=value, for example learning_rate=1e-4")
        first, _, rest = path.partition(".")
        named = {first: stages[first]} if rest and first in stages else stages
        for data in named.values():
            _set(data, rest if named is not stages else path, _value(change, text))
    one = len(stages) == 1
    parsed = [
        parse_config(data, TrainConfig, source="--set" if one else f"--set, stage {name}")
        for name, data in stages.items()
    ]
    return RunConfig(name=run.name, stages=tuple(parsed))


def _set(data: dict[str, Any], path: str, value: Any) -> None:
    *folders, name = path.split(".")
    target = data
    for folder in folders:
        if not isinstance(target.get(folder), dict):
            raise UsageError(f"{path} names no setting, because {folder} holds none; see --dry-run for all of them")
        target = target[folder]
    if folders in (["head"], ["objective"]) and name == "kind" and value != target.get("kind"):
        target.clear()
    target[name] = value


def _value(change: str, text: str) -> Any:
    import yaml

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UsageError(f"the value of {change!r} cannot be read; write it as in a YAML file") from None
    try:  # a number that YAML 1.1 reads as text, such as 1e-4
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
