"""One step of training, the same for every objective: networks, optimisers and averages, without files or a loop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from topcoat.config import StrictModel
from topcoat.heads.head import Head
from topcoat.heads.network import Network
from topcoat.training.data import Batch
from topcoat.training.distributed import Processes
from topcoat.training.frechet_loss import SetMoments
from topcoat.training.losses import LossNet
from topcoat.training.optim import Ema, Optimisation, adversarial_factor, below, ema_decay, learning_rate_factor

if TYPE_CHECKING:
    from topcoat.training.config import TrainConfig

Weight = Annotated[float, Field(ge=0, le=1e6)]
"""Factor of a loss; 0 leaves it out."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step did; a skipped step changed no weights."""

    loss: float
    parts: Mapping[str, float]
    learning_rate: float
    skipped: bool


class Trainer:
    """Holds everything that training changes; `tensors` and `load_tensors` carry all of it.

    An objective's trainer says in `build` what is trained and in `backward` what the losses are. The gradients of a
    head and its adversary are of the weights before the step, as in CycleGAN. Nothing draws from torch's global random
    generator.
    """

    def __init__(self, config: TrainConfig, features: LossNet, processes: Processes, start: Head | None = None) -> None:
        """``features`` is the frozen net for losses, ``start`` a head of the same settings to start from."""
        self.config, self.features, self.processes = config, features, processes
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.network, networks = self.build(start)
        self.optimisations = {name: Optimisation(part, config, processes) for name, part in networks.items()}
        self._head_optimisation, *adversaries = self.optimisations.values()
        self._adversary = adversaries[0] if adversaries else None
        self._ema = Ema(self.network)
        if config.compile:
            self.network.compile()
        self.moments = SetMoments() if config.objective.weights().get("frechet") else None
        self.share = 1 / config.gradient_accumulation_steps
        """The weight of a micro-batch in a step."""

    def build(self, start: Head | None) -> tuple[Network, Mapping[str, nn.Module]]:
        """The network of the head, and what is optimised: first what holds that network, then its adversary if any.

        Fresh weights come from torch's generator, which has the stage's seed.
        """
        raise NotImplementedError

    def backward(self, batch: Batch, images_seen: int, adversary: float) -> tuple[float, dict[str, float]]:
        """Add the gradients of a micro-batch; gives the head's loss, and every loss by name without its weight.

        ``adversary`` is the factor of the adversarial losses at this step.
        """
        raise NotImplementedError

    def undo(self) -> None:
        """Forget what `backward` remembered of a step that is skipped."""

    def adversary_factor(self, images_seen: int) -> float:
        """Factor of the adversarial losses; 0 leaves the discriminator out of the step."""
        if self._adversary is None:
            return 0.0
        return adversarial_factor(images_seen, self.config.adversarial_after_images, self.config.warmup_images)

    def head(self, facts: Mapping[str, Any] | None = None) -> Head:
        """The averaged head; it shares its weights with this trainer."""
        return Head(self._ema.network, self.config.head, facts)

    def step(self, batch: Batch, images_seen: int) -> StepResult:
        """Train on this process's part of a batch, whose last image is number ``images_seen`` of the stage."""
        config = self.config
        factor = learning_rate_factor(images_seen, config.warmup_images, config.images, config.schedule)
        rate = config.learning_rate * factor
        adversary = self.adversary_factor(images_seen)
        if self.moments is not None:
            self.moments.forget()
        losses: dict[str, list[float]] = {}
        totals: list[float] = []
        for micro_batch in batch.micro_batches(config.gradient_accumulation_steps):
            total, parts = self.backward(micro_batch, images_seen, adversary)
            totals.append(total)
            for name, value in parts.items():
                losses.setdefault(name, []).append(value)
        if not self._descend(factor, adversary):
            self.undo()
            return StepResult(math.nan, {}, rate, skipped=True)
        self._ema.update(self.network, ema_decay(images_seen, config.batch_size, config.ema_halflife_images))
        if self.moments is not None:
            self.moments.remember()
        loss, *means = self.processes.mean([sum(values) / len(values) for values in (totals, *losses.values())])
        return StepResult(loss, dict(zip(losses, means, strict=True)), rate, skipped=False)

    def _descend(self, factor: float, adversary: float) -> bool:
        """One step of head and adversary; of neither, and False, if one gradient is bad."""
        steps = [(self._head_optimisation, self.config.learning_rate)]
        if self._adversary is not None and adversary > 0:
            steps.append((self._adversary, self.config.discriminator_learning_rate))
        good = [part.check() for part, _ in steps]  # all of them, because processes exchange in each
        for part, rate in steps:
            if all(good):
                part.apply(rate * factor)
            else:
                part.clear()
        return all(good)

    def tensors(self) -> dict[str, Tensor]:
        """All state by flat names, on the CPU; may share memory with the trainer. Every process calls it."""
        flat = {f"ema.{name}": value for name, value in self._ema.network.state_dict().items()}
        for name, part in self.optimisations.items():
            flat.update(part.tensors(name))
        if self.moments is not None:
            flat.update({f"moments.{name}": value for name, value in self.moments.tensors().items()})
        return {name: value.detach().cpu().contiguous() for name, value in flat.items()}

    def load_tensors(self, flat: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave; raises `RuntimeError`, `KeyError` or `ValueError` if it does not fit."""
        self._ema.network.load_state_dict(below(flat, "ema."))
        for name, part in self.optimisations.items():
            part.load_tensors(name, flat)
        if self.moments is not None:
            self.moments.load_tensors(below(flat, "moments."))

    def placed(self, images: Tensor) -> Tensor:
        """Images or latents on the process's device, laid out as the networks are."""
        return images.to(self.processes.device).contiguous(memory_format=torch.channels_last)


class Objective(StrictModel):
    """Settings of the losses, of which each weight is a field. A kind has a field ``kind`` of one literal."""

    trainer: ClassVar[type[Trainer]]
    """What trains by it."""
    paired: ClassVar[bool] = True
    """Whether x and y of a batch are of the same subjects, cut and mirrored alike."""
    compares_latents: ClassVar[bool] = False
    """Whether it needs the latents of baseline images."""
    loss_names: ClassVar[tuple[str, ...]]
    """Of its losses, and so of the fields with their weights."""

    @property
    def passes(self) -> int:
        """How often a step calls the head's network, or one of its size, for each image."""
        return 1

    def weights(self) -> dict[str, float]:
        """The factors by the name of their loss."""
        return {name: getattr(self, name) for name in self.loss_names}

    def described(self) -> dict[str, Any]:
        """Its kind, every weight above 0, and what is not at its default, as JSON values."""
        changed = self.model_dump(mode="json", exclude_defaults=True)
        used = {name: weight for name, weight in self.weights().items() if weight}
        return {"kind": type(self).model_fields["kind"].default, **used, **changed}

    def check(self, config: TrainConfig) -> None:
        """Raise `ValueError` for settings that this objective cannot train."""
        if not any(self.weights().values()):
            raise ValueError("every loss weight of objective is 0; give at least one above 0")


def weighted(factors: Mapping[str, float], terms: Mapping[str, Tensor]) -> Tensor:
    """The sum of ``terms``, each times its factor."""
    return torch.stack([factors[name] * value for name, value in terms.items()]).sum()


def values_of(terms: Mapping[str, Tensor]) -> dict[str, float]:
    """The terms as numbers."""
    return {name: float(value.detach()) for name, value in terms.items()}
