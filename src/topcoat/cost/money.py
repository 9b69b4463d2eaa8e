"""Seconds and money from usage: pure arithmetic, told what it starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from topcoat.cost.prices import GpuPrice
from topcoat.errors import UsageError

Kind = Literal["computed", "measured", "cited"]
"""Where a figure comes from: counted and calculated here, timed on a machine, or published by others."""

UTILISATION = 0.4
"""Share of a GPU's dense bf16 peak that these networks reach, where no time was measured: an assumption, stated."""

HOUR_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Rate:
    """What an hour of one GPU costs, and who says so."""

    usd_per_hour: float
    source: str

    def __post_init__(self) -> None:
        if not self.usd_per_hour > 0:
            raise UsageError(f"{self.usd_per_hour:g} USD per hour is not a price; use more than 0")


@dataclass(frozen=True, slots=True)
class Price:
    """What one image takes and costs on one GPU."""

    seconds: float
    seconds_kind: Kind
    usd: float

    @property
    def usd_per_million(self) -> float:
        """For a million images."""
        return self.usd * 1e6

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "gpu_seconds_per_image": self.seconds,
            "seconds_kind": self.seconds_kind,
            "usd_per_image": self.usd,
            "usd_per_million_images": self.usd_per_million,
        }


def gpu_seconds(tflop: float, gpu: GpuPrice, utilisation: float = UTILISATION) -> float:
    """Seconds of one GPU for ``tflop`` at a share of its peak; raises `UsageError` for a share outside (0, 1]."""
    if not 0 < utilisation <= 1:
        raise UsageError(f"utilisation {utilisation:g} is not possible; use more than 0 and at most 1")
    return tflop / (gpu.bf16_tflops * utilisation)


def price_of(seconds: float, kind: Kind, rate: Rate) -> Price:
    """The price of an image that takes ``seconds`` of one GPU."""
    return Price(seconds, kind, seconds / HOUR_SECONDS * rate.usd_per_hour)


def rate_of(gpu: GpuPrice | None, usd_per_hour: float | None) -> Rate:
    """The rate that was given, or the table's for ``gpu``; raises `UsageError` where there is neither."""
    if usd_per_hour is not None:
        return Rate(usd_per_hour, "given")
    if gpu is None:
        raise UsageError("no price was given; name a GPU of the table (--price h100) or give --usd-per-hour")
    return Rate(gpu.usd_per_hour, f"cited: {gpu.usd_source}, {gpu.date.isoformat()}")
