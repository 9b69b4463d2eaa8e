"""The machine that a figure is measured on: its description, its memory, and the energy counter of its GPU."""

from __future__ import annotations

import dataclasses
import os
import platform
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Hardware:
    """The machine that a time was measured on."""

    cpu: str
    cores: int
    torch_threads: int
    ram_gib: float
    gpu: str | None
    system: str
    torch: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        gpu = f"{self.gpu}, " if self.gpu else ""
        cores = f"{self.cores} core" + ("" if self.cores == 1 else "s")
        threads = f"{self.torch_threads} torch thread" + ("" if self.torch_threads == 1 else "s")
        return f"{gpu}{self.cpu}, {cores}, {threads}, {self.ram_gib:.0f} GiB RAM, torch {self.torch}"


def hardware() -> Hardware:
    """The machine this runs on."""
    return Hardware(
        cpu=_cpu_name(),
        cores=usable_cores(),
        torch_threads=torch.get_num_threads(),
        ram_gib=round(_ram_bytes() / 2**30, 1),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        torch=torch.__version__,
    )


def _cpu_name() -> str:
    with suppress(OSError):  # not Linux
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine() or "unknown CPU"


def usable_cores() -> int:
    """Cores this process may use, which a container can make fewer than the machine has."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def _ram_bytes() -> int:
    with suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 0


def free_memory_bytes(device: torch.device) -> int | None:
    """Memory that could be used on ``device`` now; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return _proc_bytes("/proc/meminfo", "MemAvailable:")


def reset_peak_memory(device: torch.device) -> None:
    """Let `peak_memory_bytes` count from now on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # Linux: forget the process's peak


def peak_memory_bytes(device: torch.device) -> int | None:
    """Of the GPU's allocator, or of this process where ``device`` is no GPU; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = _proc_bytes("/proc/self/status", "VmHWM:")
    if peak is None and sys.platform != "win32":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return peak


def _proc_bytes(file: str, key: str) -> int | None:
    """A line in kB of one of Linux's files; None on other systems."""
    with suppress(OSError, ValueError, IndexError):
        for line in Path(file).read_text(encoding="utf-8").splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    return None


def energy_counter(device: torch.device) -> tuple[Callable[[], float] | None, str]:
    """A function that reads the joules of an NVIDIA GPU since its driver was loaded, or None and why there is none."""
    if device.type != "cuda":
        return None, f"unavailable: {device.type} has no energy counter that is read here"
    try:
        import pynvml  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None, "unavailable: pip install nvidia-ml-py"
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception as error:  # NVML's own errors, such as a GPU older than Volta, which has no counter
        return None, f"unavailable: {error}"
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000, ""  # the counter is in millijoules
