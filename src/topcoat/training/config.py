"""Everything that a training run depends on, as frozen records: its stages, and the objective of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field, model_validator

from topcoat.config import StrictModel, parse_config
from topcoat.errors import UsageError
from topcoat.training.objectives import AnyObjective
from topcoat.training.settings import OPERATIONAL, Settings


class TrainConfig(Settings):
    """One stage of a run, or a run of one stage."""

    objective: AnyObjective
    """What it minimises: ``paired``, ``cycle`` or ``latent``."""

    @model_validator(mode="after")
    def _objective_fits(self) -> TrainConfig:
        self.objective.check(self)
        return self

    @property
    def needs_vae(self) -> bool:
        """Whether the distilled model's VAE is needed: its decoder in the head, or its encoder for baseline images."""
        return self.head.latent_part is not None

    def identity(self) -> dict[str, Any]:
        """What decides the trained weights: two stages with equal identities and data give the same head.

        Leaves out where it runs, how often it saves, and every setting at its default, so that a setting that a later
        version adds changes no identity. The head's settings are whole, and the objective's ``kind`` is in it.
        """
        settings = self.model_dump(mode="json", exclude=set(OPERATIONAL), exclude_defaults=True)
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
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two stages are called {name}; give each a name of its own")
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
        """Whether a stage needs the distilled model's VAE."""
        return any(stage.needs_vae for stage in self.stages)

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
