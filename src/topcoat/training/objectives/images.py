"""Training by losses of images: against baseline images of the same subjects, or of any others."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from topcoat.heads.head import Head
from topcoat.heads.network import Network
from topcoat.training import losses
from topcoat.training.adversarial import (
    DiscriminatorConfig,
    DiscriminatorOutput,
    View,
    build_discriminator,
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
    r1_penalty,
    view_of,
)
from topcoat.training.data import Batch
from topcoat.training.frechet_loss import embedding_of
from topcoat.training.perceptual import load_distance
from topcoat.training.trainer import Objective, Trainer, Weight, values_of, weighted

if TYPE_CHECKING:
    from topcoat.training.config import TrainConfig


@dataclass(frozen=True, slots=True)
class Outputs:
    """What losses of images compare: ``(N, 3, H, W)``, and the loss net's features where one asks for them."""

    x: Tensor
    y: Tensor
    z: Tensor
    features_x: Any = None
    features_y: Any = None
    features_z: Any = None


IMAGE_LOSSES: Mapping[str, Callable[[Any, Outputs], Tensor]] = {
    "gradient_input": lambda o, of: losses.gradient_loss(of.z, of.x, o.gradient_input_kind),
    "perceptual_input": lambda o, of: losses.perceptual_loss(of.features_z, of.features_x),
    "perceptual": lambda o, of: losses.perceptual_loss(of.features_z, of.features_y),
    "charbonnier": lambda o, of: losses.charbonnier(of.z, of.y),
    "gradient_target": lambda o, of: losses.gradient_loss(of.z, of.y, o.gradient_target_kind),
    "low_frequency": lambda o, of: losses.low_frequency_loss(of.z, of.y),
    "colour_input": lambda o, of: losses.low_frequency_loss(of.z, of.x),
    "focal_frequency": lambda o, of: losses.focal_frequency_loss(of.z, of.y),
    "spectrum": lambda o, of: losses.spectrum_loss(of.z, of.y),
}
"""The losses of images, called with the objective; to add one, write its function in `topcoat.training.losses`, a line
here and a weight below."""


ADVERSARIAL_LOSSES = ("adversarial", "feature_matching")
_NEED_NO_PAIRS = ("gradient_input", "colour_input", "spectrum", "frechet", "adversarial")
_NEED_PAIRS = ("perceptual", "charbonnier", "gradient_target", "low_frequency", "focal_frequency", "feature_matching")


class ImageTrainer(Trainer):
    """Trains a head, and a discriminator where there is an adversarial loss."""

    def build(self, start: Head | None) -> tuple[Network, Mapping[str, nn.Module]]:
        """See `Trainer.build`."""
        assert isinstance(self.config.objective, ImageObjective)
        objective = self._objective = self.config.objective
        self._weights = objective.weights()
        self._critic = objective.discriminator
        network = self.config.head.build()
        networks: dict[str, nn.Module] = {"head": network}
        if objective.adversarial > 0:
            networks["discriminator"] = build_discriminator(self._critic, self.features, self.processes.device)
        if start is not None:
            network.load_state_dict(start.network.state_dict())
        self._discriminator = networks.get("discriminator")
        self._distance = None
        if isinstance(objective, PairedObjective) and objective.perceptual and objective.perceptual_net != "embedded":
            self._distance = load_distance(objective.perceptual_net, self.processes.device)
        return network, networks

    def backward(self, batch: Batch, images_seen: int, adversary: float) -> tuple[float, dict[str, float]]:
        """See `Trainer.backward`."""
        x, y = self.placed(batch.x), self.placed(batch.y)
        inputs = x if batch.latents is None else self.placed(batch.latents)
        with self.processes.autocast():
            # Not clamped: a clamped pixel would have no gradient to come back by.
            z = self.network.enhance(inputs).float()
        features_z, features_x, features_y = self._features_of(z, adversary > 0), None, None
        if features_z is not None:
            with torch.no_grad():
                features_y = self._features_of(y, adversary > 0)
                features_x = self._features_of(x, False) if self._weights.get("perceptual_input") else None

        terms = self._image_terms(Outputs(x, y, z, features_x, features_y, features_z))
        parts: dict[str, float] = {}
        factors = self._objective.weights()
        if adversary > 0:
            view_z, view_y = view_of(self._critic, z, features_z), view_of(self._critic, y, features_y)
            step = images_seen // self.config.batch_size
            penalise = self._critic.r1 > 0 and step % self._critic.r1_every_steps == 0
            parts["discriminator"] = self._train_discriminator(view_z, view_y, penalise)
            terms.update(self._adversarial_terms(view_z, view_y))
            factors |= {name: factors[name] * adversary for name in ADVERSARIAL_LOSSES if name in factors}
        if not terms:  # a purely adversarial run before its start: nothing to learn yet, and a step of zero length
            terms["adversarial"] = 0.0 * z.sum()
        total = weighted(factors, terms)
        self.optimisations["head"].backward(total * self.share)
        return float(total.detach()), {**parts, **values_of(terms)}

    def _image_terms(self, outputs: Outputs) -> dict[str, Tensor]:
        """Each loss with a weight above 0 that needs no discriminator, unweighted."""
        terms: dict[str, Tensor] = {}
        for name, loss in IMAGE_LOSSES.items():
            if not self._weights.get(name):
                continue
            if name == "perceptual" and self._distance is not None:
                with self.processes.autocast():
                    terms[name] = self._distance(outputs.z, outputs.y).float()
            else:
                terms[name] = loss(self._objective, outputs)
        if self.moments is not None:
            embeddings = embedding_of(outputs.features_z), embedding_of(outputs.features_y)
            terms.update(self.moments.terms(*embeddings, self.processes))
        return terms

    def _train_discriminator(self, view_z: View, view_y: View, penalise: bool) -> float:
        """Add the discriminator's gradient; gives its loss without the penalty."""
        real = tuple(part.detach().requires_grad_(penalise) for part in view_y)
        output_y = self._discriminate(real)
        output_z = self._discriminate(tuple(part.detach() for part in view_z))
        loss = discriminator_loss(output_y.scores, output_z.scores, self._critic.loss)
        total = loss
        if penalise:
            total = total + self._critic.r1 * self._critic.r1_every_steps * r1_penalty(output_y.scores, real)
        self.optimisations["discriminator"].backward(total * self.share)
        return float(loss.detach())

    def _adversarial_terms(self, view_z: View, view_y: View) -> dict[str, Tensor]:
        assert self._discriminator is not None
        self._discriminator.requires_grad_(False)  # only the way to z is needed
        output = self._discriminate(view_z)
        terms = {"adversarial": generator_loss(output.scores, self._critic.loss)}
        if self._weights.get("feature_matching"):
            with torch.no_grad():
                of_y = self._discriminate(view_y)
            terms["feature_matching"] = feature_matching_loss(output.features, of_y.features)
        self._discriminator.requires_grad_(True)
        return terms

    def _discriminate(self, view: View) -> DiscriminatorOutput:
        assert self._discriminator is not None
        with self.processes.autocast():
            return self._discriminator(view)

    def _features_of(self, images: Tensor, adversary: bool) -> Any:
        """The loss net's features, if anything asks for them."""
        compared = self._weights.get("perceptual_input") or (self._weights.get("perceptual") and self._distance is None)
        if not compared and self.moments is None and not (adversary and self._critic.looks_at != "pixels"):
            return None
        with self.processes.autocast():
            return self.features(images)


class ImageObjective(Objective):
    """Factor of each loss; 0 leaves it out. x: distilled, y: baseline, z: the head's output."""

    trainer: ClassVar[type[Trainer]] = ImageTrainer
    gradient_input: Weight = 0.0
    """GRAD(x, z): keeps the structure of the input (the paper's first term)."""
    gradient_input_kind: losses.GradientKind = "forward"
    colour_input: Weight = 0.0
    """Colour and light of z and x, so that the head keeps those of the distilled image."""
    spectrum: Weight = 0.0
    """Mean power of z and y by frequency: neither softer than the baseline nor with a texture of its own."""
    frechet: Weight = 0.0
    """The set of outputs towards the set of baseline images, in the embedding of the loss net (Fréchet distance)."""
    adversarial: Weight = 0.0
    """Against the discriminator, which sees y and z."""
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    """Of the adversarial losses."""

    def check(self, config: TrainConfig) -> None:
        """Raise `ValueError` for settings that this objective cannot train."""
        super().check(config)
        if config.head.input == "image" and config.head.training_latents is not None:
            raise ValueError(f"a {config.head.name()} is trained on latents alone; give the objective kind latent")


class PairedObjective(ImageObjective):
    """x and y show the same subjects."""

    loss_names: ClassVar[tuple[str, ...]] = (*_NEED_NO_PAIRS, *_NEED_PAIRS)
    kind: Literal["paired"] = "paired"
    perceptual: Weight = 0.0
    """Perceptual distance of z and y (the paper's second term, LPIPS there)."""
    perceptual_net: str = "embedded"
    """``embedded`` is topcoat's own net for losses; ``lpips-vgg`` and ``dinov2`` (also with a colon and a folder or hub
    id) need their packages and weights."""
    charbonnier: Weight = 0.0
    """Smooth L1 of z and y."""
    gradient_target: Weight = 0.0
    """GRAD(y, z)."""
    gradient_target_kind: losses.GradientKind = "forward"
    low_frequency: Weight = 0.0
    """Colour and light of z and y."""
    focal_frequency: Weight = 0.0
    """Spectra of z and y, pixel by pixel."""
    feature_matching: Weight = 0.0
    """The discriminator's own features of z and y."""

    def check(self, config: TrainConfig) -> None:
        """Raise `ValueError` for settings that this objective cannot train."""
        super().check(config)
        if not re.fullmatch(r"embedded|lpips-vgg|dinov2(:.+)?", self.perceptual_net):
            raise ValueError(
                f"perceptual_net is {self.perceptual_net!r}; use embedded, lpips-vgg, dinov2, or dinov2: and a folder "
                "or hub id"
            )
        if self.feature_matching and not self.adversarial:
            raise ValueError("feature_matching needs a discriminator; give adversarial a weight above 0 too")


class UnpairedObjective(ImageObjective):
    """x and y show different subjects, so y counts as a set: its power spectrum, its distribution, its look."""

    paired: ClassVar[bool] = False
    loss_names: ClassVar[tuple[str, ...]] = (*_NEED_NO_PAIRS, "perceptual_input")
    kind: Literal["unpaired"] = "unpaired"
    perceptual_input: Weight = 0.0
    """Perceptual distance of z and x: keeps the person."""
