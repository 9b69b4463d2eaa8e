"""Unpaired training: CycleGAN (arXiv 1703.10593).

The way forth turns distilled images x into baseline ones and becomes the head; the way back turns y into x; each has a
discriminator. As in the authors' code both ways share one optimiser and both discriminators another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from topcoat.heads.head import Head
from topcoat.heads.network import Network
from topcoat.training.adversarial import SMALLEST_PX_70, PatchGAN70, discriminator_loss, generator_loss
from topcoat.training.data import Batch
from topcoat.training.optim import below
from topcoat.training.trainer import Objective, StepResult, Trainer, Weight, values_of, weighted

if TYPE_CHECKING:
    from topcoat.training.config import TrainConfig

_POOL_STREAMS = {"forth": 10, "back": 11}  # random streams of their own, apart from those of the batches


class CycleTrainer(Trainer):
    """Trains both ways and their discriminators; the way forth, which is the head, may start from another head."""

    def build(self, start: Head | None) -> tuple[Network, Mapping[str, nn.Module]]:
        """See `Trainer.build`."""
        assert isinstance(self.config.objective, CycleObjective)
        objective = self._objective = self.config.objective
        self._forth, self._back = self.config.head.build(), self.config.head.build()
        channels = objective.discriminator_channels
        self._discriminators = nn.ModuleDict({name: PatchGAN70(channels) for name in _POOL_STREAMS})
        if start is not None:
            self._forth.load_state_dict(start.network.state_dict())
        self._pools = {
            name: ImagePool(objective.pool_images, self.config.seed, stream) for name, stream in _POOL_STREAMS.items()
        }
        self._before: dict[str, list[Tensor]] = {}
        """The pools' images before the step under way."""
        generators = nn.ModuleDict({"forth": self._forth, "back": self._back})
        return self._forth, {"generators": generators, "discriminators": self._discriminators}

    def adversary_factor(self, images_seen: int) -> float:
        """Full from the first step, as the authors have it."""
        return 1.0

    def step(self, batch: Batch, images_seen: int) -> StepResult:
        """Train on ``batch``, whose ``x`` and ``y`` are of different subjects."""
        self._before = {name: pool.images for name, pool in self._pools.items()}
        return super().step(batch, images_seen)

    def undo(self) -> None:
        """Put back the pools' images."""
        for name, pool in self._pools.items():
            pool.restore(self._before[name])

    def backward(self, batch: Batch, images_seen: int, adversary: float) -> tuple[float, dict[str, float]]:
        """See `Trainer.backward`; losses are those of both ways, summed."""
        weights = self._objective.weights()
        x, y = self.placed(batch.x), self.placed(batch.y)
        z, back = self._translate(self._forth, x), self._translate(self._back, y)
        terms: dict[str, Tensor] = {}
        if weights["adversarial"]:
            self._discriminators.requires_grad_(False)  # only the way to the images is needed
            scores = [self._discriminate(name, images) for name, images in (("forth", z), ("back", back))]
            terms["adversarial"] = generator_loss(scores[:1], "lsgan") + generator_loss(scores[1:], "lsgan")
            self._discriminators.requires_grad_(True)
        if weights["cycle"]:
            terms["cycle"] = _l1(self._translate(self._back, z), x) + _l1(self._translate(self._forth, back), y)
        if weights["identity"]:
            terms["identity"] = _l1(self._translate(self._forth, y), y) + _l1(self._translate(self._back, x), x)
        self.optimisations["generators"].backward(weighted(weights, terms) * self.share)

        parts = values_of(terms)
        total = sum(weight * parts[name] for name, weight in weights.items() if name in parts)
        if weights["adversarial"]:
            loss = torch.zeros((), device=x.device)
            for name, real, fake in (("forth", y, z), ("back", x, back)):
                shown = self.placed(self._pools[name].exchange(fake.detach(), batch.first_image))
                scores = [self._discriminate(name, images) for images in (real, shown)]
                loss = loss + discriminator_loss(scores[:1], scores[1:], "lsgan")
            self.optimisations["discriminators"].backward(loss * self.share)
            parts["discriminator"] = float(loss.detach())
        return total, parts

    def tensors(self) -> dict[str, Tensor]:
        """Also ``pool.*`` of all processes."""
        flat = super().tensors()
        for name, pool in self._pools.items():
            if pool.images:
                flat[f"pool.{name}"] = self.processes.gather(torch.stack(pool.images)).cpu().contiguous()
        return flat

    def load_tensors(self, flat: Mapping[str, Tensor]) -> None:
        """See `Trainer.load_tensors`."""
        super().load_tensors(flat)
        pools = below(flat, "pool.")
        for name, pool in self._pools.items():
            saved = pools.get(name)
            if saved is not None and len(saved) != self.processes.count:
                raise ValueError(f"saved by {len(saved)} processes, not {self.processes.count}")
            pool.restore([] if saved is None else list(saved[self.processes.rank].to(self.processes.device)))

    def _translate(self, network: Network, images: Tensor) -> Tensor:
        """The image that ``network`` makes of ``images``."""
        with self.processes.autocast():
            return network.enhance(images).float()

    def _discriminate(self, name: str, images: Tensor) -> Tensor:
        with self.processes.autocast():
            return self._discriminators[name](images)


class CycleObjective(Objective):
    """CycleGAN: a way forth, a way back, a discriminator for each. Factor of each loss; 0 leaves it out."""

    trainer: ClassVar[type[Trainer]] = CycleTrainer
    paired: ClassVar[bool] = False
    loss_names: ClassVar[tuple[str, ...]] = ("adversarial", "cycle", "identity")
    kind: Literal["cycle"] = "cycle"
    cycle: Weight = 10.0
    """L1 of an image and what comes back after both ways."""
    identity: Weight = 5.0
    """L1 of an image of the target side and what the head makes of it."""
    adversarial: Weight = 1.0
    """Least squares, against a 70x70 PatchGAN."""
    pool_images: int = Field(default=50, ge=0, le=10_000)
    """The discriminators see one of so many earlier outputs as often as a new one (arXiv 1612.07828); 0: only new."""
    discriminator_channels: int = Field(default=64, ge=1, le=512)

    @property
    def passes(self) -> int:
        """There and back, and each again for the cycle and for the identity."""
        return 2 + 2 * (self.cycle > 0) + 2 * (self.identity > 0)

    def check(self, config: TrainConfig) -> None:
        """Raise `ValueError` for settings that this objective cannot train."""
        super().check(config)
        if config.head.training_latents is not None:
            raise ValueError(
                f"the head {config.head.name()} works on latents, which cycle cannot train; use another one"
            )
        if config.crop_px is not None and config.crop_px < SMALLEST_PX_70:
            raise ValueError(
                f"crop_px is {config.crop_px}; give at least {SMALLEST_PX_70}, which the discriminators of cycle need"
            )


class ImagePool:
    """CycleGAN's image pool: keeps up to ``size`` images ``(3, H, W)`` of a generator (arXiv 1612.07828, section 2.3).

    While it fills, an image is stored and given back. Then, with an even chance, it is given back, or takes the slot
    of an earlier one, which is given back instead. What is drawn depends on the seed, on ``stream`` and on the
    image's number in the run alone, so no generator's state has to be saved.
    """

    def __init__(self, size: int, seed: int, stream: int) -> None:
        self._size, self._seed, self._stream = size, seed, stream
        self._images: list[Tensor] = []

    def exchange(self, images: Tensor, first_image: int) -> Tensor:
        """``(N, 3, H, W)`` to show for ``images``, which are number ``first_image`` and following of the run."""
        if self._size == 0:
            return images
        return torch.stack([self._exchange(image, first_image + index) for index, image in enumerate(images)])

    def _exchange(self, image: Tensor, number: int) -> Tensor:
        if len(self._images) < self._size:
            self._images.append(image)
            return image
        random = np.random.default_rng([self._seed, self._stream, number])
        if random.integers(2) == 0:
            return image
        slot = int(random.integers(self._size))
        earlier, self._images[slot] = self._images[slot], image
        return earlier

    @property
    def images(self) -> list[Tensor]:
        """The stored images, in the order of their slots."""
        return list(self._images)

    def restore(self, images: list[Tensor]) -> None:
        """Store ``images`` instead."""
        self._images = list(images)


def _l1(a: Tensor, b: Tensor) -> Tensor:
    return 2 * (a - b).abs().mean()  # twice: the authors' weights are meant for images in [-1, 1]
