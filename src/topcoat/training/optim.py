"""Optimisation: a network with its Adam and the guard of its gradient, the learning rate, and averaged weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from topcoat.heads.network import channels_last
from topcoat.training.distributed import Processes

if TYPE_CHECKING:
    from topcoat.training.config import TrainConfig

ScheduleKind = Literal["cosine", "constant-linear"]

USUAL_STEPS = 20
"""So many steps are taken before a gradient can count as a spike."""
RAMP_UP = 0.05
_MEMORY = 0.98  # of the running mean of the gradient's logarithm: about 50 steps


N = TypeVar("N", bound=nn.Module)


class Optimisation:
    """Takes gradients in by `backward`, then steps by `check` and `apply`; `clear` forgets them."""

    def __init__(self, network: nn.Module, settings: TrainConfig, processes: Processes) -> None:
        self.network = channels_last(network.to(processes.device)).train()
        self._parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.Adam(self._parameters, lr=0.0, betas=settings.betas)
        self._processes = processes
        self._clip_norm = settings.clip_norm
        self._spike = math.log(settings.grad_spike_factor)
        self._usual = torch.zeros(2, dtype=torch.float64)  # mean logarithm of the gradient's norm, and steps in it
        self._usual_next = self._usual
        self._scaler = torch.amp.GradScaler(
            processes.device.type, init_scale=2.0**12, enabled=processes.precision == "float16"
        )

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of ``loss``."""
        self._scaler.scale(loss).backward()

    def check(self) -> bool:
        """Average the gradient over processes and clip it; False if it is not finite or far larger than usual."""
        if all(parameter.grad is None for parameter in self._parameters):
            return True  # nothing asked it to change
        self._processes.average_gradients(self._parameters)
        self._scaler.unscale_(self._optimizer)
        norm = float(nn.utils.clip_grad_norm_(self._parameters, self._clip_norm))
        if not math.isfinite(norm):
            return False
        if norm == 0:
            return True
        mean, steps = self._usual.tolist()
        if steps >= USUAL_STEPS and math.log(norm) - mean > self._spike:
            return False
        memory = min(_MEMORY, steps / (steps + 1))
        mean = memory * mean + (1 - memory) * math.log(norm)
        self._usual_next = torch.tensor([mean, steps + 1], dtype=torch.float64)
        return True

    def apply(self, rate: float) -> None:
        """One optimiser step with learning rate ``rate``; only after a `check` that was True."""
        if any(parameter.grad is not None for parameter in self._parameters):
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            self._scaler.step(self._optimizer)
            self._scaler.update()
        self._usual = self._usual_next
        self._optimizer.zero_grad(set_to_none=True)

    def clear(self) -> None:
        """Forget the gradient; in float16, scale the next losses less."""
        if self._scaler.is_enabled() and any(parameter.grad is not None for parameter in self._parameters):
            self._scaler.update()
        self._usual_next = self._usual
        self._optimizer.zero_grad(set_to_none=True)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """All state by flat names: ``<name>.*``, ``optimizer.<name>.<i>.*``, ``guard.<name>``, ``scale.<name>``."""
        flat = {f"{name}.{key}": value for key, value in self.network.state_dict().items()}
        for index, state in self._optimizer.state_dict()["state"].items():
            flat.update({f"optimizer.{name}.{index}.{key}": value for key, value in state.items()})
        flat[f"guard.{name}"] = self._usual.clone()
        if self._scaler.is_enabled():
            state = self._scaler.state_dict()
            flat[f"scale.{name}"] = torch.tensor([state["scale"], state["_growth_tracker"]], dtype=torch.float64)
        return flat

    def load_tensors(self, name: str, flat: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave; raises `RuntimeError`, `KeyError` or `ValueError` if it does not fit."""
        self.network.load_state_dict(below(flat, f"{name}."))
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in below(flat, f"optimizer.{name}.").items():
            index, part = key.split(".", 1)
            state.setdefault(int(index), {})[part] = value
        self._optimizer.load_state_dict({"state": state, "param_groups": self._optimizer.state_dict()["param_groups"]})
        self._usual = self._usual_next = flat[f"guard.{name}"].clone()
        if self._scaler.is_enabled():
            scale, tracker = flat[f"scale.{name}"].tolist()
            self._scaler.load_state_dict({**self._scaler.state_dict(), "scale": scale, "_growth_tracker": int(tracker)})


def below(flat: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in flat.items() if name.startswith(prefix)}


def learning_rate_factor(
    images_seen: int, warmup_images: int, total_images: int, kind: ScheduleKind = "cosine"
) -> float:
    """Linear rise from 0 to 1 over the warm-up, then a fall to 0 at ``total_images``.

    ``cosine`` is half a cosine (arXiv 1608.03983, eq. 5); ``constant-linear`` stays at 1 for half of the run and then
    falls along a line (CycleGAN, arXiv 1703.10593). ``images_seen`` is the count at the end of the step.
    """
    if images_seen < warmup_images:
        return images_seen / warmup_images
    span = max(1, total_images - warmup_images)
    progress = min(1.0, (images_seen - warmup_images) / span)
    if kind == "constant-linear":
        return min(1.0, 2 * (1 - progress))
    return 0.5 * (1 + math.cos(math.pi * progress))


def adversarial_factor(images_seen: int, after_images: int, warmup_images: int) -> float:
    """0 up to ``after_images``, then a linear rise to 1 over the next ``warmup_images``."""
    if images_seen <= after_images:
        return 0.0
    if warmup_images == 0:
        return 1.0
    return min(1.0, (images_seen - after_images) / warmup_images)


def ema_decay(images_seen: int, step_images: int, halflife_images: float) -> float:
    """The factor of the old average for a step of ``step_images`` that ends at ``images_seen``.

    decay = 0.5^(step / halflife); the half-life is at most 5 % of the images seen, so that the first weights are soon
    forgotten (the ramp-up of EDM, arXiv 2206.00364, appendix F.2).
    """
    halflife = min(halflife_images, images_seen * RAMP_UP)
    return 0.5 ** (step_images / max(halflife, 1e-8))


class Ema(Generic[N]):
    """Keeps ``network``, a frozen copy whose weights trail those of the trained network."""

    def __init__(self, network: N) -> None:
        self.network: N = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module, decay: float) -> None:
        """average <- decay * average + (1 - decay) * network; buffers are copied."""
        averages: list[Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(averages, list(network.parameters()), 1 - decay)
        for average, current in zip(self.network.buffers(), network.buffers(), strict=True):
            average.copy_(current)
