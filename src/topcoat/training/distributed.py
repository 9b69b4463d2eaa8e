"""The device of a run and the processes that share it, as accelerate sets them up.

Gradients are averaged here, after the backward pass, and not by wrapping networks for distributed training: an
adversarial step calls one network several times and differentiates it twice, which such a wrapper does not allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from topcoat.errors import UsageError


class Processes:
    """This process among those that train together; with one process nothing is exchanged."""

    def __init__(self, device: str, precision: str) -> None:
        """Join the others. ``device`` and ``precision`` are as in `TrainConfig`.

        Raises `UsageError` if this machine does not offer ``device``.
        """
        from accelerate import Accelerator

        try:
            # without a device of its own, accelerate joins processes only where it is told to use the CPU
            on_cpu = device == "cpu" or (device == "auto" and not torch.accelerator.is_available())
            self._accelerator: Any = Accelerator(cpu=on_cpu)
        except ValueError as error:  # accelerate keeps one device per process
            raise UsageError("this process already trains on another device; start a new one for the cpu") from error
        self.device: torch.device = self._accelerator.device
        if device not in ("auto", self.device.type):
            raise UsageError(f"device is {device}, but this machine offers {self.device.type}; use auto")
        self.count: int = self._accelerator.num_processes
        self.rank: int = self._accelerator.process_index
        self.precision = resolved_precision(precision, self.device)

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and validates."""
        return self.rank == 0

    def autocast(self) -> torch.autocast:
        """A context in which networks compute in the run's precision."""
        dtype = torch.float16 if self.precision == "float16" else torch.bfloat16
        return torch.autocast(self.device.type, dtype=dtype, enabled=self.precision != "float32")

    def share(self, batch_size: int) -> int:
        """Images of a batch that each process takes; raises `UsageError` if they cannot be shared evenly."""
        if batch_size % self.count:
            raise UsageError(f"batch_size is {batch_size}; give a multiple of {self.count}, the number of processes")
        return batch_size // self.count

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace every gradient by its mean over the processes, all of them in one exchange."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = self._accelerator.reduce(torch.cat([gradient.reshape(-1) for gradient in gradients]), "mean")
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))

    def mean(self, values: Sequence[float]) -> list[float]:
        """The mean of each value over the processes."""
        if self.count == 1:
            return list(values)
        return self._accelerator.reduce(torch.tensor(values, device=self.device), "mean").tolist()

    def decided(self, choice: bool) -> bool:
        """What the first process chose: for choices that follow a clock."""
        if self.count == 1:
            return choice
        mine = torch.tensor([float(choice and self.is_first)], device=self.device)
        return bool(self._accelerator.reduce(mine, "sum") > 0)

    def gather(self, tensor: Tensor) -> Tensor:
        """``(processes, ...)``: the tensor of every process, which are of one shape."""
        return self._accelerator.gather(tensor[None].to(self.device)) if self.count > 1 else tensor[None]

    def wait(self) -> None:
        """Wait until every process is here."""
        self._accelerator.wait_for_everyone()


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
