"""One step of paired training: the networks, their optimisers and the losses, without files and without a loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from topcoat.heads.base import Head
from topcoat.heads.network import channels_last
from topcoat.heads.registry import build_network
from topcoat.training import losses
from topcoat.training.batches import Batch
from topcoat.training.config import TrainConfig
from topcoat.training.discriminator import PatchDiscriminator
from topcoat.training.ema import Ema, ema_decay
from topcoat.training.losses import HasStages
from topcoat.training.schedule import adversarial_factor, learning_rate_factor

if TYPE_CHECKING:
    from accelerate import Accelerator

BETAS = (0.9, 0.99)


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step did; a skipped step changed no weights."""

    loss: float
    parts: Mapping[str, float]
    learning_rate: float
    skipped: bool


class PairedTrainer:
    """Holds everything that training changes; `tensors` and `load_tensors` carry all of it.

    Weights start from ``config.seed``. Nothing here draws from torch's global random generator.
    """

    def __init__(self, config: TrainConfig, features: Callable[[Tensor], HasStages], accelerator: Accelerator) -> None:
        self.config = config
        self.features = features
        self._accelerator = accelerator
        self.precision = resolved_precision(config.precision, accelerator.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = build_network(config.head)
            discriminator = PatchDiscriminator(config.discriminator)
        self.network, self._optimizer = self._prepare(network, config.learning_rate)
        self.ema = Ema(self.network)
        self.discriminator: nn.Module | None = None
        self._discriminator_optimizer: torch.optim.Optimizer | None = None
        if config.losses.adversarial > 0:
            rate = config.discriminator_learning_rate
            self.discriminator, self._discriminator_optimizer = self._prepare(discriminator, rate)

    def _prepare(self, network: nn.Module, rate: float) -> tuple[nn.Module, torch.optim.Optimizer]:
        network = channels_last(network.to(self._accelerator.device)).train()
        optimizer = torch.optim.Adam(network.parameters(), lr=rate, betas=BETAS)
        prepared: Any = self._accelerator.prepare(network, optimizer)
        return prepared[0], prepared[1]

    def head(self) -> Head:
        """The averaged head; it shares its weights with this trainer."""
        return Head(self.ema.network, self.config.head)

    def step(self, batch: Batch, images_seen: int) -> StepResult:
        """Train on ``batch``, whose last image is number ``images_seen`` of the run."""
        config = self.config
        device = self._accelerator.device
        x = batch.x.to(device).contiguous(memory_format=torch.channels_last)
        y = batch.y.to(device).contiguous(memory_format=torch.channels_last)
        factor = learning_rate_factor(images_seen, config.warmup_images, config.images)
        rate = config.learning_rate * factor
        skipped = StepResult(math.nan, {}, rate, skipped=True)

        with self._autocast():
            delta = self.network(x)
        z = x + delta.float()  # not clamped: a clamped pixel would have no gradient to come back by
        parts: dict[str, float] = {}
        adversary = adversarial_factor(images_seen, config.adversarial_after_images, config.warmup_images)
        if self.discriminator is not None and self._discriminator_optimizer is not None and adversary > 0:
            with self._autocast():
                loss = losses.hinge_discriminator_loss(self.discriminator(y), self.discriminator(z.detach()))
            parts["discriminator"] = float(loss.detach())
            discriminator_rate = config.discriminator_learning_rate * factor
            if not self._descend(loss, self.discriminator, self._discriminator_optimizer, discriminator_rate):
                return skipped

        terms = self._terms(x, y, z, adversary)
        weights = config.losses.named()
        total = torch.stack(
            [weights[name] * (adversary if name == "adversarial" else 1.0) * value for name, value in terms.items()]
        ).sum()
        if not self._descend(total, self.network, self._optimizer, rate):
            return skipped
        self.ema.update(self.network, ema_decay(images_seen, len(x), config.ema_halflife_images))
        parts.update({name: float(value.detach()) for name, value in terms.items()})
        return StepResult(float(total.detach()), parts, rate, skipped=False)

    def _terms(self, x: Tensor, y: Tensor, z: Tensor, adversary: float) -> dict[str, Tensor]:
        """Each loss with a weight above 0, unweighted."""
        weights = self.config.losses
        terms: dict[str, Tensor] = {}
        if weights.gradient_input:
            terms["gradient_input"] = losses.gradient_loss(z, x, weights.gradient_input_kind)
        if weights.perceptual:
            with self._autocast():
                features_z = self.features(z)
                with torch.no_grad():
                    features_y = self.features(y)
            terms["perceptual"] = losses.perceptual_loss(features_z, features_y)
        if weights.charbonnier:
            terms["charbonnier"] = losses.charbonnier(z, y)
        if weights.gradient_target:
            terms["gradient_target"] = losses.gradient_loss(z, y)
        if weights.low_frequency:
            terms["low_frequency"] = losses.low_frequency_loss(z, y)
        if weights.focal_frequency:
            terms["focal_frequency"] = losses.focal_frequency_loss(z, y)
        if self.discriminator is not None and adversary > 0:
            self.discriminator.requires_grad_(False)  # only the way to z is needed
            with self._autocast():
                terms["adversarial"] = losses.hinge_generator_loss(self.discriminator(z))
            self.discriminator.requires_grad_(True)
        if not terms:  # a purely adversarial run before its start: nothing to learn yet, and a step of zero length
            terms["adversarial"] = 0.0 * z.sum()
        return terms

    def _descend(self, loss: Tensor, network: nn.Module, optimizer: torch.optim.Optimizer, rate: float) -> bool:
        """One optimiser step, or False and no change if the loss or its gradient is not finite."""
        optimizer.zero_grad(set_to_none=True)
        if not bool(torch.isfinite(loss.detach())):
            return False
        self._accelerator.backward(loss)
        norm = self._accelerator.clip_grad_norm_(network.parameters(), self.config.clip_norm)
        if norm is None or not bool(torch.isfinite(norm)):
            optimizer.zero_grad(set_to_none=True)
            return False
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        return True

    def _autocast(self) -> torch.autocast:
        enabled = self.precision == "bfloat16"
        return torch.autocast(self._accelerator.device.type, dtype=torch.bfloat16, enabled=enabled)

    def _modules(self) -> dict[str, nn.Module]:
        modules = {"head": self.network, "ema": self.ema.network}
        if self.discriminator is not None:
            modules["discriminator"] = self.discriminator
        return modules

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        optimizers = {"head": self._optimizer}
        if self._discriminator_optimizer is not None:
            optimizers["discriminator"] = self._discriminator_optimizer
        return optimizers

    def tensors(self) -> dict[str, Tensor]:
        """All state by flat names: ``head.*``, ``ema.*``, ``discriminator.*``, ``optimizer.<network>.<i>.<name>``."""
        flat: dict[str, Tensor] = {}
        for prefix, module in self._modules().items():
            flat.update({f"{prefix}.{name}": value for name, value in module.state_dict().items()})
        for prefix, optimizer in self._optimizers().items():
            for index, state in optimizer.state_dict()["state"].items():
                flat.update({f"optimizer.{prefix}.{index}.{name}": value for name, value in state.items()})
        return {name: value.detach().cpu().contiguous() for name, value in flat.items()}

    def load_tensors(self, flat: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave; raises `RuntimeError`, `KeyError` or `ValueError` if it does not fit."""
        for prefix, module in self._modules().items():
            module.load_state_dict(_below(flat, f"{prefix}."))
        for prefix, optimizer in self._optimizers().items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in _below(flat, f"optimizer.{prefix}.").items():
                index, name = key.split(".", 1)
                state.setdefault(int(index), {})[name] = value
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def resolved_precision(precision: str, device: torch.device) -> str:
    """What ``auto`` means on ``device``: bfloat16 where it is computed natively, because elsewhere it is slower."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        native = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    else:
        native = False
    return "bfloat16" if native else "float32"


def _below(flat: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in flat.items() if name.startswith(prefix)}
