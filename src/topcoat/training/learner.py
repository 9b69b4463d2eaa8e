"""A network with its optimiser, and the guard that keeps a bad gradient out of it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from topcoat.heads.network import channels_last
from topcoat.training.processes import Processes

USUAL_STEPS = 20
"""A gradient can be called unusual only after so many usual ones."""
_MEMORY = 0.98  # of the running mean of the gradient's logarithm: about 50 steps


class Learner:
    """Takes gradients in by `backward`, then steps by `check` and `apply`; `clear` forgets them."""

    def __init__(
        self,
        network: nn.Module,
        processes: Processes,
        *,
        betas: tuple[float, float],
        clip_norm: float,
        explosion: float,
    ) -> None:
        self.network = channels_last(network.to(processes.device)).train()
        self._parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.Adam(self._parameters, lr=0.0, betas=betas)
        self._processes = processes
        self._clip_norm = clip_norm
        self._explosion = explosion
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
        if steps >= USUAL_STEPS and math.log(norm) - mean > math.log(self._explosion):
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
