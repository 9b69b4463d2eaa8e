"""One step of training on latents: a head that changes them, against those of the baseline image.

Latents are small, and most of what tells a head's set of outputs from the baseline's can be seen in them: nothing is
decoded, unless the loss ``transport`` asks for it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from topcoat.heads.head import Head
from topcoat.training import losses
from topcoat.training.adversarial import discriminator_loss, generator_loss
from topcoat.training.batches import Batch
from topcoat.training.config import LatentConfig, TrainConfig
from topcoat.training.discriminator import LatentDiscriminator
from topcoat.training.ema import Ema
from topcoat.training.learner import below
from topcoat.training.losses import HasStages
from topcoat.training.processes import Processes
from topcoat.training.schedule import adversarial_factor, learning_rate_factor
from topcoat.training.trainer import StepResult, average, descend, mean_parts, new_learner, placed, restore, state_of
from topcoat.training.transport import SetMoments, embedding_of


def target_encoder(encoder: nn.Module) -> Callable[[Tensor], Tensor]:
    """What makes latents ``(C, h, w)`` float32 on the CPU of an image ``(3, H, W)``, where ``encoder`` lies by then."""
    encoder = encoder.eval().requires_grad_(False)

    @torch.no_grad()
    def encode(image: Tensor) -> Tensor:
        device = next(encoder.parameters()).device
        return encoder(image[None].to(device))[0].float().cpu()

    return encode


class LatentTrainer:
    """Trains what changes latents, of a `LatentUNet` or a `Refiner`, against the latents of baseline images.

    Batches bring both. The head starts from ``start``, of the run's settings; the discriminator from ``config.seed``.
    Nothing here draws from torch's global random generator.
    """

    def __init__(
        self,
        config: TrainConfig,
        weights: LatentConfig,
        features: Callable[[Tensor], HasStages],
        processes: Processes,
        start: Head,
    ) -> None:
        self._config, self._weights, self._features, self._processes = config, weights, features, processes
        self._network = copy.deepcopy(start.network).requires_grad_(False)
        part = self._network.latent_part
        assert part is not None
        self._part = part
        self._part.change.requires_grad_(True)
        self._learners = {"head": new_learner(self._network, config, processes)}
        self._ema = Ema(self._network)
        self._critic: LatentDiscriminator | None = None
        if weights.adversarial:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(config.seed)
                self._critic = LatentDiscriminator(self._part.config.latent_channels, weights.discriminator_channels)
            self._learners["discriminator"] = new_learner(self._critic, config, processes)
        self._moments = SetMoments() if weights.transport else None

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
        rate = config.learning_rate * learning_rate_factor(
            images_seen, config.warmup_images, config.images, config.schedule
        )
        adversary = adversarial_factor(images_seen, config.adversarial_after_images, config.warmup_images)
        found: dict[str, list[float]] = {}
        if self._moments is not None:
            self._moments.forget()
        for piece in batch.pieces(config.accumulate):
            for name, value in self._backward(piece, adversary).items():
                found.setdefault(name, []).append(value)
        critic = self._learners.get("discriminator") if adversary > 0 else None
        if not descend(config, images_seen, self._learners["head"], critic):
            return StepResult(math.nan, {}, rate, skipped=True)
        average(self._ema, self._network, config, images_seen)
        if self._moments is not None:
            self._moments.remember()
        parts = mean_parts(self._processes, found)
        return StepResult(parts.pop(""), parts, rate, skipped=False)

    def tensors(self) -> dict[str, Tensor]:
        """``head.*``, ``ema.*``, ``discriminator.*``, ``moments.*`` and what `Learner.tensors` adds."""
        moments = {} if self._moments is None else self._moments.tensors()
        return state_of(self._learners, self._ema) | {f"moments.{name}": value for name, value in moments.items()}

    def load_tensors(self, flat: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave; raises `RuntimeError`, `KeyError` or `ValueError` if it does not fit."""
        restore(self._learners, self._ema, flat)
        if self._moments is not None:
            self._moments.load_tensors(below(flat, "moments."))

    def _backward(self, piece: Batch, adversary: float) -> dict[str, float]:
        """Add the gradients of one piece of a batch; gives all losses by name, their sum as ``""``."""
        assert piece.latents is not None and piece.targets is not None
        share, weights = 1 / self._config.accumulate, self._weights
        latents_y = placed(piece.targets, self._processes)
        with self._processes.autocast():
            latents_z = self._part.changed(placed(piece.latents, self._processes)).float()
        terms = {"l1": (latents_z - latents_y).abs().mean()}
        if weights.spectrum:
            terms["spectrum"] = losses.latent_spectrum_loss(latents_z, latents_y)
        if weights.contrast:
            terms["contrast"] = losses.latent_contrast_loss(latents_z, latents_y)
        if self._moments is not None:
            terms.update(self._set_terms(self._moments, latents_z, latents_y))
        parts: dict[str, float] = {}
        factors: dict[str, Any] = weights.model_dump()
        if self._critic is not None and adversary > 0:
            spread = latents_y.std(dim=(0, 2, 3)).clamp_min(1e-3).view(-1, 1, 1)
            parts["discriminator"] = self._teach(self._critic, latents_z.detach(), latents_y, spread, share)
            self._critic.requires_grad_(False)  # only the way to the latents is needed
            terms["adversarial"] = generator_loss(self._critic(latents_z, spread), "hinge")
            self._critic.requires_grad_(True)
            factors["adversarial"] *= adversary
        total = torch.stack([factors[name] * value for name, value in terms.items()]).sum()
        self._learners["head"].backward(total * share)
        parts.update({name: float(value.detach()) for name, value in terms.items()})
        return {**parts, "": float(total.detach())}

    def _set_terms(self, moments: SetMoments, latents_z: Tensor, latents_y: Tensor) -> dict[str, Tensor]:
        """The loss of the whole set, once enough images were seen."""
        of_z = self._embedded(latents_z)
        with torch.no_grad():
            of_y = self._embedded(latents_y)
        return moments.terms(of_z, of_y, self._processes)

    def _embedded(self, latents: Tensor) -> Tensor:
        """What the loss net makes of latents, decoded.

        Those of the baseline image too, though its file is at hand: 8 bits, or another decoder, would tell the sets
        apart.
        """
        with self._processes.autocast():
            return embedding_of(self._features(self._part.decoder(latents)))

    def _teach(self, critic: LatentDiscriminator, z: Tensor, y: Tensor, spread: Tensor, share: float) -> float:
        """Add the discriminator's gradient; gives its loss."""
        loss = discriminator_loss(critic(y, spread), critic(z, spread), "hinge")
        self._learners["discriminator"].backward(loss * share)
        return float(loss.detach())
