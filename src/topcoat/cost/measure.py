"""Measured cost: seconds on this machine, as a median with its spread, beside a description of the machine."""

from __future__ import annotations

import dataclasses
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from topcoat.errors import UsageError


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one run: median and spread (10th and 90th percentile; all of it below 10 runs)."""

    median_seconds: float
    low: float
    high: float
    runs: int


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


def synchronise() -> None:
    """Wait for the GPU, where there is one: a clock read before that measures the queueing, not the work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(run: Callable[[], object]) -> float:
    """Seconds that ``run()`` takes, GPU work included."""
    synchronise()
    start = time.perf_counter()
    run()
    synchronise()
    return time.perf_counter() - start


def summarise(seconds: Sequence[float]) -> Timing:
    """Median and spread of measured seconds; raises `UsageError` if there are none."""
    if not seconds:
        raise UsageError("no run was measured; use 1 or more repeats")
    ordered = sorted(seconds)
    cut = len(ordered) // 10
    return Timing(statistics.median(ordered), ordered[cut], ordered[-1 - cut], len(ordered))


def hardware() -> Hardware:
    """The machine this runs on."""
    return Hardware(
        cpu=_cpu_name(),
        cores=_usable_cores(),
        torch_threads=torch.get_num_threads(),
        ram_gib=round(_ram_bytes() / 2**30, 1),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        torch=torch.__version__,
    )


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine() or "unknown CPU"


def _usable_cores() -> int:
    """Cores this process may use, which a container can make fewer than the machine has."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def _ram_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
