"""One step of unpaired training: CycleGAN (arXiv 1703.10593), without files or a loop.

G turns distilled images x into baseline ones, F turns baseline images y into distilled ones; each has a discriminator.
G alone becomes the head. As in the authors' code both generators share one optimiser and both discriminators another,
and the discriminators learn from the outputs that the generators gave before this step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from topcoat.heads.head import Head
from topcoat.training.adversarial import lsgan_discriminator_loss, lsgan_generator_loss
from topcoat.training.batches import Batch
from topcoat.training.config import CycleConfig, TrainConfig
from topcoat.training.discriminator import PatchGAN70
from topcoat.training.ema import Ema
from topcoat.training.learner import below
from topcoat.training.pool import ImagePool
from topcoat.training.processes import Processes
from topcoat.training.schedule import learning_rate_factor
from topcoat.training.trainer import StepResult, average, descend, mean_parts, new_learner, placed, restore, state_of

_POOL_STREAMS = {"forth": 10, "back": 11}  # random streams of their own beside those of the batches


class CycleTrainer:
    """Trains a head on distilled and baseline images of different subjects.

    Weights start from ``config.seed``; G starts from ``start`` (a head of the same settings) if given. Nothing here
    draws from torch's global random generator.
    """

    def __init__(
        self, config: TrainConfig, cycle: CycleConfig, processes: Processes, start: Head | None = None
    ) -> None:
        self._config = config
        self._cycle = cycle
        self._processes = processes
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            forth, back = config.head.build(), config.head.build()
            generators = nn.ModuleDict({"forth": forth, "back": back})
            judges = nn.ModuleDict({name: PatchGAN70(cycle.discriminator_channels) for name in ("forth", "back")})
        if start is not None:
            forth.load_state_dict(start.network.state_dict())
        self._learners = {
            "generators": new_learner(generators, config, processes),
            "discriminators": new_learner(judges, config, processes),
        }
        self._forth, self._back = forth, back
        self._judges = judges
        self._ema = Ema(forth)
        self._pools = {
            name: ImagePool(cycle.pool_images, config.seed, stream) for name, stream in _POOL_STREAMS.items()
        }

    @property
    def config(self) -> TrainConfig:
        """The run's settings."""
        return self._config

    def head(self) -> Head:
        """The averaged G; it shares its weights with this trainer."""
        return Head(self._ema.network, self._config.head)

    def step(self, batch: Batch, images_seen: int) -> StepResult:
        """Train on ``batch`` (``x`` and ``y`` of different subjects), whose last image is number ``images_seen``."""
        config = self._config
        factor = learning_rate_factor(images_seen, config.warmup_images, config.images, config.schedule)
        rate = config.learning_rate * factor
        kept = {name: pool.images for name, pool in self._pools.items()}
        number = images_seen - config.batch_size + self._processes.rank * len(batch.x)
        found: dict[str, list[float]] = {}
        for piece in batch.pieces(config.accumulate):
            for name, value in self._backward(piece, number).items():
                found.setdefault(name, []).append(value)
            number += len(piece.x)
        if not descend(config, images_seen, self._learners["generators"], self._learners["discriminators"]):
            for name, pool in self._pools.items():
                pool.restore(kept[name])
            return StepResult(math.nan, {}, rate, skipped=True)
        average(self._ema, self._forth, config, images_seen)
        parts = mean_parts(self._processes, found)
        weights = {"adversarial": self._cycle.adversarial, "cycle": self._cycle.cycle, "identity": self._cycle.identity}
        loss = sum(weight * parts[name] for name, weight in weights.items() if name in parts)
        return StepResult(loss, parts, rate, skipped=False)

    def _backward(self, piece: Batch, first_image: int) -> dict[str, float]:
        """Add the gradients of one piece of a batch; gives all losses by name, both ways summed."""
        share = 1 / self._config.accumulate
        weights = self._cycle
        x, y = placed(piece.x, self._processes), placed(piece.y, self._processes)
        z, back = self._translate(self._forth, x), self._translate(self._back, y)
        terms: dict[str, Tensor] = {}
        if weights.adversarial:
            self._judges.requires_grad_(False)  # only the way to the images is needed
            scores = self._judge("forth", z), self._judge("back", back)
            terms["adversarial"] = lsgan_generator_loss(scores[0]) + lsgan_generator_loss(scores[1])
            self._judges.requires_grad_(True)
        if weights.cycle:
            terms["cycle"] = _l1(self._translate(self._back, z), x) + _l1(self._translate(self._forth, back), y)
        if weights.identity:
            terms["identity"] = _l1(self._translate(self._forth, y), y) + _l1(self._translate(self._back, x), x)
        factors = weights.model_dump()
        total = torch.stack([factors[name] * value for name, value in terms.items()]).sum()
        self._learners["generators"].backward(total * share)

        parts = {name: float(value.detach()) for name, value in terms.items()}
        if weights.adversarial:
            loss = torch.zeros((), device=x.device)
            for name, real, fake in (("forth", y, z), ("back", x, back)):
                shown = placed(self._pools[name].exchange(fake.detach(), first_image), self._processes)
                loss = loss + lsgan_discriminator_loss(self._judge(name, real), self._judge(name, shown))
            self._learners["discriminators"].backward(loss * share)
            parts["discriminator"] = float(loss.detach())
        return parts

    def tensors(self) -> dict[str, Tensor]:
        """``generators.*``, ``discriminators.*``, ``ema.*``, what `Learner` adds, ``pool.*`` of all processes."""
        flat = state_of(self._learners, self._ema)
        for name, pool in self._pools.items():
            if pool.images:
                flat[f"pool.{name}"] = self._processes.gather(torch.stack(pool.images)).cpu().contiguous()
        return flat

    def load_tensors(self, flat: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave; raises `RuntimeError`, `KeyError` or `ValueError` if it does not fit."""
        restore(self._learners, self._ema, flat)
        pools = below(flat, "pool.")
        for name, pool in self._pools.items():
            kept = pools.get(name)
            if kept is not None and len(kept) != self._processes.count:
                raise ValueError(f"saved by {len(kept)} processes, not {self._processes.count}")
            pool.restore([] if kept is None else list(kept[self._processes.rank].to(self._processes.device)))

    def _translate(self, network: nn.Module, images: Tensor) -> Tensor:
        """What ``network`` paints; heads give changes."""
        with self._processes.autocast():
            change = network(images)
        return images + change.float()

    def _judge(self, name: str, images: Tensor) -> Tensor:
        with self._processes.autocast():
            return self._judges[name](images)


def _l1(a: Tensor, b: Tensor) -> Tensor:
    return 2 * (a - b).abs().mean()  # twice: the authors' weights are meant for images in [-1, 1]
