"""Unpaired training: CycleGAN (arXiv 1703.10593).

G turns distilled images x into baseline ones, F turns baseline images y into distilled ones; each has a discriminator.
G alone becomes the head. As in the authors' code both generators share one optimiser and both discriminators another,
and the discriminators learn from the outputs that the generators gave before this step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from topcoat.heads.head import Head
from topcoat.heads.network import Network
from topcoat.training.adversarial import SMALLEST_PX_70, PatchGAN70, lsgan_discriminator_loss, lsgan_generator_loss
from topcoat.training.data import Batch
from topcoat.training.distributed import Processes
from topcoat.training.losses import HasStages
from topcoat.training.objectives.objective import Objective, Weight
from topcoat.training.optim import below
from topcoat.training.trainer import StepResult, Trainer, values_of, weighted

if TYPE_CHECKING:
    from topcoat.training.config import TrainConfig

_POOL_STREAMS = {"forth": 10, "back": 11}  # random streams of their own, apart from those of the batches


class CycleObjective(Objective):
    """CycleGAN: a way forth, a way back, a discriminator for each. Factor of each loss; 0 leaves it out."""

    paired: ClassVar[bool] = False
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

    def weights(self) -> dict[str, float]:
        """The factors by the name of their loss."""
        return {"adversarial": self.adversarial, "cycle": self.cycle, "identity": self.identity}

    def check(self, settings: TrainConfig) -> None:
        """Raise `ValueError` for settings that this objective cannot train."""
        if not any(self.weights().values()):
            raise ValueError("every weight of objective is 0; give at least one above 0")
        head = settings.head
        if head.training_latents is not None:
            raise ValueError(f"the head {head.name()} works on latents, which cycle cannot train; use another one")
        if settings.crop_px is not None and settings.crop_px < SMALLEST_PX_70:
            raise ValueError(
                f"crop_px is {settings.crop_px}; give at least {SMALLEST_PX_70}, which the discriminators of cycle need"
            )

    def trainer(
        self, settings: TrainConfig, features: Callable[[Tensor], HasStages], processes: Processes, start: Head | None
    ) -> Trainer:
        """See `Objective.trainer`."""
        return CycleTrainer(self, settings, processes, start)


class CycleTrainer(Trainer):
    """Weights start from the seed; G starts from ``start`` (a head of the same settings) if given."""

    def __init__(
        self, objective: CycleObjective, settings: TrainConfig, processes: Processes, start: Head | None = None
    ) -> None:
        self._objective = objective
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self._forth, self._back = settings.head.build(), settings.head.build()
            channels = objective.discriminator_channels
            self._discriminators = nn.ModuleDict({name: PatchGAN70(channels) for name in _POOL_STREAMS})
        if start is not None:
            self._forth.load_state_dict(start.network.state_dict())
        generators = nn.ModuleDict({"forth": self._forth, "back": self._back})
        networks = {"generators": generators, "discriminators": self._discriminators}
        super().__init__(settings, processes, self._forth, networks)
        self._pools = {
            name: ImagePool(objective.pool_images, settings.seed, stream) for name, stream in _POOL_STREAMS.items()
        }
        self._before: dict[str, list[Tensor]] = {}
        """The pools' images before the step under way."""

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
            scores = self._discriminate("forth", z), self._discriminate("back", back)
            terms["adversarial"] = lsgan_generator_loss(scores[0]) + lsgan_generator_loss(scores[1])
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
                loss = loss + lsgan_discriminator_loss(self._discriminate(name, real), self._discriminate(name, shown))
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


class ImagePool:
    """CycleGAN's image pool: keeps up to ``size`` images ``(3, H, W)`` of a generator (arXiv 1612.07828, section 2.3).

    While it fills, an image is stored and given back. Then, with an even chance, it is given back, or takes the slot
    of an earlier one, which is given back instead. What is drawn depends on the seed, on ``stream`` and on the
    image's number in the run alone, so no generator's state has to be saved.
    """

    def __init__(self, size: int, seed: int, stream: int) -> None:
        self._size = size
        self._seed = seed
        self._stream = stream
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
