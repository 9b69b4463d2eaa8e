"""One step of paired training, of images or of latents: networks, optimisers and losses, without files or a loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from topcoat.heads.head import Head
from topcoat.training import losses
from topcoat.training.adversarial import discriminator_loss, feature_matching_loss, generator_loss, r1_penalty
from topcoat.training.batches import Batch
from topcoat.training.config import TrainConfig
from topcoat.training.discriminator import Verdict, View, build_discriminator, view_of
from topcoat.training.ema import Ema
from topcoat.training.learner import below
from topcoat.training.losses import HasStages
from topcoat.training.perceptual import Distance, load_distance
from topcoat.training.processes import Processes
from topcoat.training.schedule import adversarial_factor, learning_rate_factor
from topcoat.training.trainer import StepResult, average, descend, mean_parts, new_learner, placed, restore, state_of
from topcoat.training.transport import SetMoments, embedding_of


class PairedTrainer:
    """Trains a head against baseline images of the same subjects.

    Head and discriminator move together: the gradients of both are of the weights before the step, as in CycleGAN.
    Weights start from ``config.seed``, or from ``start`` (a head of the same settings). Nothing here draws from
    torch's global random generator.
    """

    def __init__(
        self,
        config: TrainConfig,
        features: Callable[[Tensor], HasStages],
        processes: Processes,
        start: Head | None = None,
    ) -> None:
        self._config = config
        self._features = features
        self._processes = processes
        self._critic = config.discriminator
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = config.head.build()
            discriminator = None
            if config.losses.adversarial > 0:
                discriminator = build_discriminator(self._critic, features, processes.device)
        if start is not None:
            network.load_state_dict(start.network.state_dict())
        self._learners = {"head": new_learner(network, config, processes)}
        self._head = self._learners["head"]
        self._ema = Ema(network)
        self._discriminator: nn.Module | None = None
        if discriminator is not None:
            self._learners["discriminator"] = new_learner(discriminator, config, processes)
            self._discriminator = self._learners["discriminator"].network
        self._moments = SetMoments() if config.losses.transport > 0 else None
        self._distance: Distance | None = None
        if config.losses.perceptual > 0 and config.losses.perceptual_net != "embedded":
            self._distance = load_distance(config.losses.perceptual_net, processes.device)

    @property
    def config(self) -> TrainConfig:
        """The run's settings."""
        return self._config

    def head(self) -> Head:
        """The averaged head; it shares its weights with this trainer."""
        return Head(self._ema.network, self._config.head)

    def step(self, batch: Batch, images_seen: int) -> StepResult:
        """Train on ``batch``, whose last image is number ``images_seen`` of the run."""
        config = self._config
        factor = learning_rate_factor(images_seen, config.warmup_images, config.images, config.schedule)
        rate = config.learning_rate * factor
        adversary = adversarial_factor(images_seen, config.adversarial_after_images, config.warmup_images)
        if self._discriminator is None:
            adversary = 0.0
        penalise = (
            adversary > 0 and self._critic.r1 > 0 and self._step_number(images_seen) % self._critic.r1_every_steps == 0
        )
        found: dict[str, list[float]] = {}
        total = 0.0
        if self._moments is not None:
            self._moments.forget()
        for piece in batch.pieces(config.accumulate):
            loss, parts = self._backward(piece, adversary, penalise)
            total += loss / config.accumulate
            for name, value in parts.items():
                found.setdefault(name, []).append(value)
        critic = self._learners["discriminator"] if adversary > 0 else None
        if not descend(config, images_seen, self._head, critic):
            return StepResult(math.nan, {}, rate, skipped=True)
        average(self._ema, self._head.network, config, images_seen)
        if self._moments is not None:
            self._moments.remember()
        means = mean_parts(self._processes, {"": [total], **found})
        return StepResult(means.pop(""), means, rate, skipped=False)

    def tensors(self) -> dict[str, Tensor]:
        """``head.*``, ``ema.*``, ``discriminator.*``, ``moments.*`` and what `Learner.tensors` adds."""
        moments = {} if self._moments is None else self._moments.tensors()
        return state_of(self._learners, self._ema) | {f"moments.{name}": value for name, value in moments.items()}

    def load_tensors(self, flat: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave; raises `RuntimeError`, `KeyError` or `ValueError` if it does not fit."""
        restore(self._learners, self._ema, flat)
        if self._moments is not None:
            self._moments.load_tensors(below(flat, "moments."))

    def _step_number(self, images_seen: int) -> int:
        return images_seen // self._config.batch_size

    def _backward(self, piece: Batch, adversary: float, penalise: bool) -> tuple[float, dict[str, float]]:
        """Add the gradients of one piece of a batch; gives the head's loss and all losses by name."""
        share = 1 / self._config.accumulate
        weights = self._config.losses
        x, y = placed(piece.x, self._processes), placed(piece.y, self._processes)
        with self._processes.autocast():
            output = self._head.network(x if piece.latents is None else placed(piece.latents, self._processes))
        # Not clamped: a clamped pixel would have no gradient to come back by.
        z = x + output.float() if piece.latents is None else output.float()
        seen_z, seen_y = self._seen(z, adversary > 0), None
        if seen_z is not None:
            with torch.no_grad():
                seen_y = self._seen(y, adversary > 0)

        terms = self._image_terms(x, y, z, seen_z, seen_y)
        parts: dict[str, float] = {}
        factors = weights.named()
        if adversary > 0:
            view_z, view_y = view_of(self._critic, z, seen_z), view_of(self._critic, y, seen_y)
            parts["discriminator"] = self._teach_discriminator(view_z, view_y, penalise, share)
            terms.update(self._adversarial_terms(view_z, view_y))
            factors["adversarial"] *= adversary
            factors["feature_matching"] *= adversary
        if not terms:  # a purely adversarial run before its start: nothing to learn yet, and a step of zero length
            terms["adversarial"] = 0.0 * z.sum()
        total = torch.stack([factors[name] * value for name, value in terms.items()]).sum()
        self._head.backward(total * share)
        parts.update({name: float(value.detach()) for name, value in terms.items()})
        return float(total.detach()), parts

    def _image_terms(
        self, x: Tensor, y: Tensor, z: Tensor, seen_z: HasStages | None, seen_y: HasStages | None
    ) -> dict[str, Tensor]:
        """Each loss with a weight above 0 that needs no discriminator, unweighted."""
        weights = self._config.losses
        terms: dict[str, Tensor] = {}
        if weights.gradient_input:
            terms["gradient_input"] = losses.gradient_loss(z, x, weights.gradient_input_kind)
        if weights.perceptual:
            if self._distance is not None:
                with self._processes.autocast():
                    terms["perceptual"] = self._distance(z, y).float()
            elif seen_z is not None and seen_y is not None:
                terms["perceptual"] = losses.perceptual_loss(seen_z, seen_y)
        if weights.charbonnier:
            terms["charbonnier"] = losses.charbonnier(z, y)
        if weights.gradient_target:
            terms["gradient_target"] = losses.gradient_loss(z, y, weights.gradient_target_kind)
        if weights.low_frequency:
            terms["low_frequency"] = losses.low_frequency_loss(z, y)
        if weights.colour_input:
            terms["colour_input"] = losses.low_frequency_loss(z, x)
        if weights.focal_frequency:
            terms["focal_frequency"] = losses.focal_frequency_loss(z, y)
        if weights.spectrum:
            terms["spectrum"] = losses.spectrum_loss(z, y)
        if self._moments is not None and seen_z is not None and seen_y is not None:
            terms.update(self._moments.terms(embedding_of(seen_z), embedding_of(seen_y), self._processes))
        return terms

    def _teach_discriminator(self, view_z: View, view_y: View, penalise: bool, share: float) -> float:
        """Add the discriminator's gradient; gives its loss without the penalty."""
        assert self._discriminator is not None
        real = tuple(part.detach().requires_grad_(penalise) for part in view_y)
        verdict_y = self._judge(real)
        verdict_z = self._judge(tuple(part.detach() for part in view_z))
        loss = discriminator_loss(verdict_y.scores, verdict_z.scores, self._critic.loss)
        total = loss
        if penalise:
            total = total + self._critic.r1 * self._critic.r1_every_steps * r1_penalty(verdict_y.scores, real)
        self._learners["discriminator"].backward(total * share)
        return float(loss.detach())

    def _adversarial_terms(self, view_z: View, view_y: View) -> dict[str, Tensor]:
        assert self._discriminator is not None
        self._discriminator.requires_grad_(False)  # only the way to z is needed
        verdict = self._judge(view_z)
        terms = {"adversarial": generator_loss(verdict.scores, self._critic.loss)}
        if self._config.losses.feature_matching:
            with torch.no_grad():
                of_y = self._judge(view_y)
            terms["feature_matching"] = feature_matching_loss(verdict.features, of_y.features)
        self._discriminator.requires_grad_(True)
        return terms

    def _judge(self, view: View) -> Verdict:
        assert self._discriminator is not None
        with self._processes.autocast():
            return self._discriminator(view)

    def _seen(self, images: Tensor, adversary: bool) -> Any:
        """What the loss net sees, if anything asks for it."""
        asked = (self._config.losses.perceptual > 0 and self._distance is None) or self._moments is not None
        if not asked and not (adversary and self._critic.looks_at != "pixels"):
            return None
        with self._processes.autocast():
            return self._features(images)
