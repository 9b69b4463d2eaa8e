"""Joules of an NVIDIA GPU, from the energy counter of its driver (NVML)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class EnergyMeter:
    """Reads a GPU's total energy; where there is none to read, says why."""

    device: torch.device
    _nvml: Any
    _handle: Any
    unavailable: str
    """Why there is no figure; empty where there is one."""

    def joules(self) -> float | None:
        """Energy since the driver was loaded, in J, or None."""
        if self._handle is None:
            return None
        return self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1000  # the counter is in millijoules


def energy_meter(device: torch.device) -> EnergyMeter:
    """The meter of ``device``; one that reads nothing where it is no NVIDIA GPU or nvidia-ml-py is missing."""
    if device.type != "cuda":
        return EnergyMeter(device, None, None, f"unavailable: {device.type} has no energy counter that is read here")
    try:
        import pynvml  # pyright: ignore[reportMissingImports]
    except ImportError:
        return EnergyMeter(device, None, None, "unavailable: pip install nvidia-ml-py")
    try:
        pynvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception as error:  # NVML's own errors, such as a GPU older than Volta, which has no counter
        return EnergyMeter(device, None, None, f"unavailable: {error}")
    return EnergyMeter(device, pynvml, handle, "")
