"""What one image takes where the work is done: seconds, memory, joules. Usage knows no prices."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from topcoat.cost.energy import energy_meter
from topcoat.cost.measure import Timing, summarise, timed
from topcoat.errors import UsageError


@dataclass(frozen=True, slots=True)
class Usage:
    """Measured usage of one pipeline per image, on the machine that ran it."""

    name: str
    steps: int
    seconds: Timing
    """Per image: each run's time over the images of a batch."""
    batch_size: int
    peak_memory_bytes: int | None
    """Of the GPU's allocator, or of this process where there is no GPU; None where the system does not tell."""
    joules: float | None
    """Per image, of the GPU alone."""
    joules_note: str
    """Why there are no joules, or empty."""

    @property
    def images_per_second(self) -> float:
        """From the median."""
        return 1 / self.seconds.median_seconds

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "name": self.name,
            "steps": self.steps,
            "kind": "measured",
            "seconds_per_image": {
                "median": self.seconds.median_seconds,
                "low": self.seconds.low,
                "high": self.seconds.high,
                "runs": self.seconds.runs,
            },
            "images_per_second": self.images_per_second,
            "batch_size": self.batch_size,
            "peak_memory_bytes": self.peak_memory_bytes,
            "joules_per_image": self.joules,
            "joules_note": self.joules_note,
        }

    def row(self) -> tuple[str, ...]:
        """Cells for a table: name, steps, seconds with spread, images/s, memory, joules."""
        memory = "unknown" if self.peak_memory_bytes is None else f"{self.peak_memory_bytes / 2**30:.2f} GiB"
        seconds = self.seconds
        return (
            self.name,
            str(self.steps),
            f"{seconds.median_seconds:.4g} ({seconds.low:.4g} to {seconds.high:.4g})",
            f"{self.images_per_second:.3g}",
            memory,
            "unavailable" if self.joules is None else f"{self.joules:.3g}",
        )


def measure_usage(
    name: str,
    steps: int,
    run: Callable[[], object],
    device: torch.device,
    *,
    batch_size: int = 1,
    repeats: int = 3,
    warmups: int = 1,
) -> Usage:
    """Run ``run`` (one batch) ``warmups`` times unseen and ``repeats`` times timed, synchronised, and read the meters.

    Raises `UsageError` for no repeats.
    """
    if repeats < 1 or batch_size < 1:
        raise UsageError(f"{repeats} repeats of {batch_size} images measure nothing; use 1 or more of each")
    for _ in range(warmups):
        run()
    meter = energy_meter(device)
    _reset_peak(device)
    before = meter.joules()
    seconds = [timed(run) / batch_size for _ in range(repeats)]
    after = meter.joules()
    joules = None if before is None or after is None else (after - before) / (repeats * batch_size)
    return Usage(name, steps, summarise(seconds), batch_size, _peak_bytes(device), joules, meter.unavailable)


def free_memory_bytes(device: torch.device) -> int | None:
    """Memory that could be used on ``device`` now; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # Linux: forget the process's peak


def _peak_bytes(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform != "win32":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return None
