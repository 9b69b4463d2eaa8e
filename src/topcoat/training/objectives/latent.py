"""Training on latents: what a head makes of latents, against the latents of the baseline image.

Latents are small, and most of what tells a head's set of outputs from the baseline's can be seen in them: nothing is
decoded, unless the loss ``frechet`` asks for it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from topcoat.heads.head import Head
from topcoat.training import losses
from topcoat.training.adversarial import LatentDiscriminator, discriminator_loss, generator_loss
from topcoat.training.data import Batch
from topcoat.training.distributed import Processes
from topcoat.training.frechet_loss import SetMoments, embedding_of
from topcoat.training.losses import HasStages
from topcoat.training.objectives.objective import Objective, Weight
from topcoat.training.trainer import Trainer, values_of, weighted

if TYPE_CHECKING:
    from topcoat.training.config import TrainConfig


class LatentObjective(Objective):
    """Factor of each loss between the head's latents and those of the baseline image; 0 leaves it out.

    Nothing is decoded, so a step costs a fraction of one on images; ``frechet`` alone decodes both.
    """

    compares_latents: ClassVar[bool] = True
    kind: Literal["latent"] = "latent"
    l1: Weight = 1.0
    """L1 of both latents."""
    spectrum: Weight = 0.1
    """Mean power of both latents by channel and frequency: L1 alone gives the mean of all possible outputs, which is
    too smooth."""
    contrast: Weight = 0.3
    """How flat and how crisp positions are, over all positions: what is faint in latents is plain on a background."""
    frechet: Weight = 0.0
    """The set of outputs towards the set of baseline images, both decoded by the head's own decoder, in the embedding
    of the loss net (Fréchet distance)."""
    adversarial: Weight = 0.15
    """Hinge, against a discriminator of latents: by position and as a whole."""
    discriminator_channels: int = Field(default=64, ge=1, le=512)

    def weights(self) -> dict[str, float]:
        """The factors by the name of their loss."""
        return {name: getattr(self, name) for name in (*LATENT_LOSSES, "frechet", "adversarial")}

    def check(self, settings: TrainConfig) -> None:
        """Raise `ValueError` for settings that this objective cannot train."""
        if not self.l1:
            raise ValueError("l1 of objective is 0, which is all that ties an output to its own image; give it above 0")
        if settings.head.latent_part is None:
            raise ValueError(
                f"the objective latent trains heads that change latents, not {settings.head.name()}; use paired instead"
            )

    def trainer(
        self, settings: TrainConfig, features: Callable[[Tensor], HasStages], processes: Processes, start: Head | None
    ) -> Trainer:
        """See `Objective.trainer`; such a head always has a start, which holds its VAE."""
        assert start is not None
        return LatentTrainer(self, settings, features, processes, start.to(processes.device))


LATENT_LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": lambda z, y: (z - y).abs().mean(),
    "spectrum": losses.latent_spectrum_loss,
    "contrast": losses.latent_contrast_loss,
}
"""The losses of two batches of latents; to add one, write its function, a weight above and a line here."""


def target_encoder(encoder: nn.Module) -> Callable[[Tensor], Tensor]:
    """What makes latents ``(C, h, w)`` float32 on the CPU of an image ``(3, H, W)``, where ``encoder`` lies by then."""
    encoder = encoder.eval().requires_grad_(False)

    @torch.no_grad()
    def encode(image: Tensor) -> Tensor:
        device = next(encoder.parameters()).device
        return encoder(image[None].to(device))[0].float().cpu()

    return encode


class LatentTrainer(Trainer):
    """Trains the latent part of a head; batches bring the latents of both sides.

    The head starts from ``start``, of the same settings; the discriminator from the seed.
    """

    def __init__(
        self,
        objective: LatentObjective,
        settings: TrainConfig,
        features: Callable[[Tensor], HasStages],
        processes: Processes,
        start: Head,
    ) -> None:
        self._objective, self._features = objective, features
        network = copy.deepcopy(start.network).requires_grad_(False)
        assert network.latent_part is not None
        self._part = network.latent_part
        self._part.change.requires_grad_(True)
        networks: dict[str, nn.Module] = {"head": network}
        self._critic: LatentDiscriminator | None = None
        if objective.adversarial:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(settings.seed)
                self._critic = LatentDiscriminator(self._part.config.latent_channels, objective.discriminator_channels)
            networks["discriminator"] = self._critic
        super().__init__(settings, processes, network, networks)
        self.moments = SetMoments() if objective.frechet else None

    def backward(self, batch: Batch, images_seen: int, adversary: float) -> tuple[float, dict[str, float]]:
        """See `Trainer.backward`."""
        assert batch.latents is not None and batch.targets is not None
        y = self.placed(batch.targets)
        with self.processes.autocast():
            z = self._part.changed(self.placed(batch.latents)).float()
        factors = self._objective.weights()
        terms = {name: loss(z, y) for name, loss in LATENT_LOSSES.items() if factors[name]}
        if self.moments is not None:
            terms.update(self._set_terms(self.moments, z, y))
        parts: dict[str, float] = {}
        if self._critic is not None and adversary > 0:
            spread = y.std(dim=(0, 2, 3)).clamp_min(1e-3).view(-1, 1, 1)
            parts["discriminator"] = self._train_discriminator(self._critic, z.detach(), y, spread)
            self._critic.requires_grad_(False)  # only the way to the latents is needed
            terms["adversarial"] = generator_loss(self._critic(z, spread), "hinge")
            self._critic.requires_grad_(True)
            factors["adversarial"] *= adversary
        total = weighted(factors, terms)
        self.optimisations["head"].backward(total * self.share)
        return float(total.detach()), {**parts, **values_of(terms)}

    def _set_terms(self, moments: SetMoments, z: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The loss of the whole set, once enough images were seen."""
        of_z = self._embedded(z)
        with torch.no_grad():
            of_y = self._embedded(y)
        return moments.terms(of_z, of_y, self.processes)

    def _embedded(self, latents: Tensor) -> Tensor:
        """What the loss net makes of latents, decoded.

        Those of the baseline image too, though its file is at hand: 8 bits, or another decoder, would tell the sets
        apart.
        """
        with self.processes.autocast():
            return embedding_of(self._features(self._part.decoder(latents)))

    def _train_discriminator(self, critic: LatentDiscriminator, z: Tensor, y: Tensor, spread: Tensor) -> float:
        """Add the discriminator's gradient; gives its loss."""
        loss = discriminator_loss(critic(y, spread), critic(z, spread), "hinge")
        self.optimisations["discriminator"].backward(loss * self.share)
        return float(loss.detach())
