"""Training on latents: what a head makes of latents, against the latents of the baseline image."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from topcoat.heads.head import Head
from topcoat.heads.network import Network
from topcoat.training import losses
from topcoat.training.adversarial import LatentDiscriminator, discriminator_loss, generator_loss
from topcoat.training.data import Batch
from topcoat.training.frechet_loss import embedding_of
from topcoat.training.trainer import Objective, Trainer, Weight, values_of, weighted

if TYPE_CHECKING:
    from topcoat.training.config import TrainConfig

LATENT_LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": lambda z, y: (z - y).abs().mean(),
    "spectrum": losses.latent_spectrum_loss,
    "contrast": losses.latent_contrast_loss,
}
"""The losses of two batches of latents; to add one, write its function, a line here and a weight below."""


def target_encoder(encoder: nn.Module) -> Callable[[Tensor], Tensor]:
    """What makes latents ``(C, h, w)`` float32 on the CPU of an image ``(3, H, W)``, where ``encoder`` lies by then."""
    encoder = encoder.eval().requires_grad_(False)

    @torch.no_grad()
    def encode(image: Tensor) -> Tensor:
        device = next(encoder.parameters()).device
        return encoder(image[None].to(device))[0].float().cpu()

    return encode


class LatentTrainer(Trainer):
    """Trains the latent part of a head, which always starts from one that holds its VAE, on latents of both sides."""

    def build(self, start: Head | None) -> tuple[Network, Mapping[str, nn.Module]]:
        """See `Trainer.build`."""
        assert isinstance(self.config.objective, LatentObjective) and start is not None
        objective = self._objective = self.config.objective
        network = copy.deepcopy(start.to(self.processes.device).network).requires_grad_(False)
        assert network.latent_part is not None
        self._part = network.latent_part
        self._part.change.requires_grad_(True)
        self._critic = None
        if not objective.adversarial:
            return network, {"head": network}
        self._critic = LatentDiscriminator(self._part.config.latent_channels, objective.discriminator_channels)
        return network, {"head": network, "discriminator": self._critic}

    def backward(self, batch: Batch, images_seen: int, adversary: float) -> tuple[float, dict[str, float]]:
        """See `Trainer.backward`."""
        assert batch.latents is not None and batch.targets is not None
        y = self.placed(batch.targets)
        with self.processes.autocast():
            z = self._part.changed(self.placed(batch.latents)).float()
        factors = self._objective.weights()
        terms = {name: loss(z, y) for name, loss in LATENT_LOSSES.items() if factors[name]}
        if self.moments is not None:
            of_z = self._embedded(z)
            with torch.no_grad():
                of_y = self._embedded(y)
            terms.update(self.moments.terms(of_z, of_y, self.processes))
        parts: dict[str, float] = {}
        if self._critic is not None and adversary > 0:
            spread = y.std(dim=(0, 2, 3)).clamp_min(1e-3).view(-1, 1, 1)
            loss = discriminator_loss(self._critic(y, spread), self._critic(z.detach(), spread), "hinge")
            self.optimisations["discriminator"].backward(loss * self.share)
            parts["discriminator"] = float(loss.detach())
            self._critic.requires_grad_(False)  # only the way to the latents is needed
            terms["adversarial"] = generator_loss(self._critic(z, spread), "hinge")
            self._critic.requires_grad_(True)
            factors["adversarial"] *= adversary
        total = weighted(factors, terms)
        self.optimisations["head"].backward(total * self.share)
        return float(total.detach()), {**parts, **values_of(terms)}

    def _embedded(self, latents: Tensor) -> Tensor:
        """What the loss net makes of latents, decoded.

        Those of the baseline image too, though its file is at hand: 8 bits, or another decoder, would tell the sets
        apart.
        """
        with self.processes.autocast():
            return embedding_of(self.features(self._part.decoder(latents)))


class LatentObjective(Objective):
    """Factor of each loss between the head's latents and those of the baseline image; 0 leaves it out.

    Nothing is decoded, so a step costs a fraction of one on images; ``frechet`` alone decodes both.
    """

    trainer: ClassVar[type[Trainer]] = LatentTrainer
    compares_latents: ClassVar[bool] = True
    loss_names: ClassVar[tuple[str, ...]] = (*LATENT_LOSSES, "frechet", "adversarial")
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

    def check(self, config: TrainConfig) -> None:
        """Raise `ValueError` for settings that this objective cannot train."""
        if not self.l1:
            raise ValueError("l1 of objective is 0, which is all that ties an output to its own image; give it above 0")
        if config.head.latent_part is None:
            raise ValueError(
                f"the objective latent trains heads that change latents, not {config.head.name()}; use paired instead"
            )
