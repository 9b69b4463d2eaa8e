"""One step of training, the same for every objective: networks, optimisers and averages, without files or a loop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from topcoat.heads.head import Head
from topcoat.heads.network import Network
from topcoat.training.data import Batch
from topcoat.training.distributed import Processes
from topcoat.training.frechet_loss import SetMoments
from topcoat.training.optim import Ema, Optimisation, adversarial_factor, below, ema_decay, learning_rate_factor

if TYPE_CHECKING:
    from topcoat.training.config import TrainConfig


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step did; a skipped step changed no weights."""

    loss: float
    parts: Mapping[str, float]
    learning_rate: float
    skipped: bool


class Trainer:
    """Holds everything that training changes; `tensors` and `load_tensors` carry all of it.

    An objective derives from it and says in `backward` what the losses are. ``networks`` are what is optimised: first
    the one with the head, then, if there is one, its adversary. The gradients of both are of the weights before the
    step, as in CycleGAN. Nothing here draws from torch's global random generator.
    """

    def __init__(
        self, settings: TrainConfig, processes: Processes, head: Network, networks: Mapping[str, nn.Module]
    ) -> None:
        self.settings = settings
        self.processes = processes
        self.network = head
        self.optimisations = {name: Optimisation(part, settings, processes) for name, part in networks.items()}
        self._head_optimisation, *adversaries = self.optimisations.values()
        self._adversary = adversaries[0] if adversaries else None
        self._ema = Ema(head)
        self.moments: SetMoments | None = None
        self.share = 1 / settings.gradient_accumulation_steps
        """The weight of a micro-batch in a step."""

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
        settings = self.settings
        return adversarial_factor(images_seen, settings.adversarial_after_images, settings.warmup_images)

    def head(self) -> Head:
        """The averaged head; it shares its weights with this trainer."""
        return Head(self._ema.network, self.settings.head)

    def step(self, batch: Batch, images_seen: int) -> StepResult:
        """Train on this process's part of a batch, whose last image is number ``images_seen`` of the stage."""
        settings = self.settings
        factor = learning_rate_factor(images_seen, settings.warmup_images, settings.images, settings.schedule)
        rate = settings.learning_rate * factor
        adversary = self.adversary_factor(images_seen)
        if self.moments is not None:
            self.moments.forget()
        losses: dict[str, list[float]] = {}
        totals: list[float] = []
        for micro_batch in batch.micro_batches(settings.gradient_accumulation_steps):
            total, parts = self.backward(micro_batch, images_seen, adversary)
            totals.append(total)
            for name, value in parts.items():
                losses.setdefault(name, []).append(value)
        if not self._descend(factor, adversary):
            self.undo()
            return StepResult(math.nan, {}, rate, skipped=True)
        self._ema.update(self.network, ema_decay(images_seen, settings.batch_size, settings.ema_halflife_images))
        if self.moments is not None:
            self.moments.remember()
        loss, *means = self.processes.mean([sum(values) / len(values) for values in (totals, *losses.values())])
        return StepResult(loss, dict(zip(losses, means, strict=True)), rate, skipped=False)

    def _descend(self, factor: float, adversary: float) -> bool:
        """One step of head and adversary; of neither, and False, if one gradient is bad."""
        steps = [(self._head_optimisation, self.settings.learning_rate)]
        if self._adversary is not None and adversary > 0:
            steps.append((self._adversary, self.settings.discriminator_learning_rate))
        good = [part.check() for part, _ in steps]  # all of them, because processes exchange in each
        if not all(good):
            for part, _ in steps:
                part.clear()
            return False
        for part, rate in steps:
            part.apply(rate * factor)
        return True

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


def weighted(factors: Mapping[str, float], terms: Mapping[str, Tensor]) -> Tensor:
    """The sum of ``terms``, each times its factor."""
    return torch.stack([factors[name] * value for name, value in terms.items()]).sum()


def values_of(terms: Mapping[str, Tensor]) -> dict[str, float]:
    """The terms as numbers."""
    return {name: float(value.detach()) for name, value in terms.items()}
