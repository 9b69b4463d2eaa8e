"""A graphics card that is played on a CPU: what accelerate's offload hooks bring onto it, and when it is full."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from accelerate import hooks
from torch import nn


class Card:
    """Holds the networks that `offload: model` brings onto the device, and refuses what does not fit.

    ``room`` is in units of ``size(network)``, by default one for each network; ``most`` is the largest number of
    networks of each class that were there at once, and ``arrivals`` counts how often a class was brought.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = float("inf")
        self.size: Callable[[nn.Module], float] = lambda network: 1
        self.most: dict[str, int] = {}
        self.arrivals: dict[str, int] = {}
        self._here: dict[int, nn.Module] = {}
        offload, onload = hooks.CpuOffload.init_hook, hooks.CpuOffload.pre_forward

        def leave(hook: Any, module: nn.Module) -> nn.Module:
            self._here.pop(id(module), None)
            return offload(hook, module)

        def arrive(hook: Any, module: nn.Module, *args: Any, **named: Any) -> Any:
            if hook.prev_module_hook is not None:  # on a CPU accelerate thinks that it has left already
                hook.prev_module_hook.offload()
            given = onload(hook, module, *args, **named)
            if id(module) not in self._here:
                self._here[id(module)] = module
                name = type(module).__name__
                self.arrivals[name] = self.arrivals.get(name, 0) + 1
                self.most[name] = max(self.most.get(name, 0), self.here().count(name))
            self.hold(0)
            return given

        monkeypatch.setattr(hooks.CpuOffload, "init_hook", leave)
        monkeypatch.setattr(hooks.CpuOffload, "pre_forward", arrive)

    def here(self) -> list[str]:
        """The classes of the networks on the card."""
        return [type(module).__name__ for module in self._here.values()]

    def hold(self, more: float) -> None:
        """Raise as CUDA does where what is on the card and ``more`` do not fit."""
        if sum(map(self.size, self._here.values())) + more > self.room:
            raise torch.OutOfMemoryError(f"CUDA out of memory beside {self.here()}")
