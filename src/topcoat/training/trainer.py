"""What the loop asks of a trainer, and what every trainer has: a network, its average and its state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from topcoat.heads.head import Head
from topcoat.training.batches import Batch
from topcoat.training.config import TrainConfig
from topcoat.training.ema import Ema, ema_decay
from topcoat.training.learner import Learner, below
from topcoat.training.processes import Processes
from topcoat.training.schedule import learning_rate_factor


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step did; a skipped step changed no weights."""

    loss: float
    parts: Mapping[str, float]
    learning_rate: float
    skipped: bool


class Trainer(Protocol):
    """Holds everything that training changes; `tensors` and `load_tensors` carry all of it."""

    @property
    def config(self) -> TrainConfig:
        """The run's settings."""
        ...

    def step(self, batch: Batch, images_seen: int) -> StepResult:
        """Train on this process's part of a batch, whose last image is number ``images_seen`` of the run."""
        ...

    def head(self) -> Head:
        """The averaged head; it shares its weights with the trainer."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """All state by flat names, on the CPU; may share memory with the trainer. Every process calls it."""
        ...

    def load_tensors(self, flat: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave; raises `RuntimeError`, `KeyError` or `ValueError` if it does not fit."""
        ...


def new_learner(network: nn.Module, config: TrainConfig, processes: Processes) -> Learner:
    """A learner with the run's settings."""
    return Learner(network, processes, betas=config.betas, clip_norm=config.clip_norm, explosion=config.explosion)


def placed(images: Tensor, processes: Processes) -> Tensor:
    """Images or latents on the process's device, laid out as the networks are."""
    return images.to(processes.device).contiguous(memory_format=torch.channels_last)


def descend(config: TrainConfig, images_seen: int, head: Learner, adversary: Learner | None) -> bool:
    """One step of both, at the rates of ``images_seen``; of neither, and False, if one gradient is bad."""
    factor = learning_rate_factor(images_seen, config.warmup_images, config.images, config.schedule)
    learners = [(head, config.learning_rate)]
    if adversary is not None:
        learners.append((adversary, config.discriminator_learning_rate))
    good = [learner.check() for learner, _ in learners]  # all of them, because processes exchange in each
    if not all(good):
        for learner, _ in learners:
            learner.clear()
        return False
    for learner, rate in learners:
        learner.apply(rate * factor)
    return True


def average(ema: Ema, network: nn.Module, config: TrainConfig, images_seen: int) -> None:
    """Move the averaged head towards ``network`` after a step that ends at ``images_seen``."""
    ema.update(network, ema_decay(images_seen, config.batch_size, config.ema_halflife_images))


def state_of(learners: Mapping[str, Learner], ema: Ema) -> dict[str, Tensor]:
    """The tensors of learners and average, on the CPU."""
    flat = {f"ema.{name}": value for name, value in ema.network.state_dict().items()}
    for name, learner in learners.items():
        flat.update(learner.tensors(name))
    return {name: value.detach().cpu().contiguous() for name, value in flat.items()}


def restore(learners: Mapping[str, Learner], ema: Ema, flat: Mapping[str, Tensor]) -> None:
    """Take over what `state_of` gave."""
    ema.network.load_state_dict(below(flat, "ema."))
    for name, learner in learners.items():
        learner.load_tensors(name, flat)


def mean_parts(processes: Processes, parts: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Each loss as its mean over the pieces of a batch and the processes."""
    names = list(parts)
    means = [sum(values) / len(values) for values in parts.values()]
    return dict(zip(names, processes.mean(means), strict=True))
