"""What a dataset of pairs takes before any of it is spent: images, TFLOP, GPU-hours, money and disk."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from topcoat.cost.money import HOUR_SECONDS, Kind, Rate
from topcoat.errors import UsageError

PNG_BYTES_PER_PIXEL = 1.8
"""Assumed size of a lossless image, where none was measured: 60 % of the 3 bytes of a raw RGB pixel."""


@dataclass(frozen=True, slots=True)
class PairUsage:
    """What one pair takes: usage alone, no prices."""

    tflop: float
    """Computed: both models, whole pipelines."""
    gpu_seconds: float
    seconds_kind: Kind
    seconds_source: str
    """How the seconds came about, for print."""
    disk_bytes: float
    disk_kind: Kind
    disk_source: str


@dataclass(frozen=True, slots=True)
class PairPlan:
    """The bill of a dataset, with where each figure comes from."""

    pair: str
    pairs: int
    gpus: int
    gpu_name: str
    usage: PairUsage
    rate: Rate

    @property
    def images(self) -> int:
        """Images painted: two for each pair."""
        return 2 * self.pairs

    @property
    def tflop(self) -> float:
        """TFLOP of the whole dataset."""
        return self.pairs * self.usage.tflop

    @property
    def gpu_hours(self) -> float:
        """Hours of one GPU."""
        return self.pairs * self.usage.gpu_seconds / HOUR_SECONDS

    @property
    def wall_hours(self) -> float:
        """Hours on the clock with every GPU busy."""
        return self.gpu_hours / self.gpus

    @property
    def usd(self) -> float:
        """Money for the GPU-hours; storage and traffic are not in it."""
        return self.gpu_hours * self.rate.usd_per_hour

    @property
    def disk_bytes(self) -> float:
        """Bytes of all shards."""
        return self.pairs * self.usage.disk_bytes

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "pair": self.pair,
            "pairs": self.pairs,
            "images": self.images,
            "gpu": self.gpu_name,
            "gpus": self.gpus,
            "tflop": {"value": self.tflop, "kind": "computed"},
            "gpu_hours": {
                "value": self.gpu_hours,
                "kind": self.usage.seconds_kind,
                "source": self.usage.seconds_source,
            },
            "wall_hours": self.wall_hours,
            "usd": {"value": self.usd, "usd_per_hour": self.rate.usd_per_hour, "source": self.rate.source},
            "disk_bytes": {
                "value": self.disk_bytes,
                "kind": self.usage.disk_kind,
                "source": self.usage.disk_source,
            },
            "per_pair": dataclasses.asdict(self.usage),
        }

    def rows(self) -> list[tuple[str, str, str]]:
        """What, how much and of which kind, for a table."""
        usage = self.usage
        return [
            ("pairs", f"{self.pairs:,}", "asked"),
            ("images", f"{self.images:,}", "computed"),
            ("TFLOP", f"{self.tflop:,.4g}", "computed"),
            ("GPU-hours", f"{self.gpu_hours:,.3g}", usage.seconds_kind),
            (f"hours on the clock, {self.gpus} x {self.gpu_name}", f"{self.wall_hours:,.3g}", "computed"),
            ("USD", f"{self.usd:,.2f}", "computed"),
            ("disk", format_bytes(self.disk_bytes), usage.disk_kind),
        ]

    def notes(self) -> list[str]:
        """Where the figures come from, a line each."""
        usage = self.usage
        return [
            f"TFLOP computed: {usage.tflop:,.4g} for each pair, whole pipelines of both models",
            f"GPU-hours {usage.seconds_kind}: {usage.seconds_source}",
            f"USD computed at {self.rate.usd_per_hour:g} USD per GPU-hour, {self.rate.source}; storage is not in it",
            f"disk {usage.disk_kind}: {usage.disk_source}",
        ]


def plan_pairs(pair: str, pairs: int, usage: PairUsage, rate: Rate, gpu_name: str, gpus: int) -> PairPlan:
    """The plan of ``pairs`` pairs; raises `UsageError` for none."""
    if pairs < 1:
        raise UsageError(f"{pairs} pairs cannot be planned; use 1 or more")
    return PairPlan(pair, pairs, gpus, gpu_name, usage, rate)


def assumed_disk_bytes(width_px: int, height_px: int) -> float:
    """Bytes of one stored pair by the assumption of `PNG_BYTES_PER_PIXEL`."""
    return 2 * width_px * height_px * PNG_BYTES_PER_PIXEL


def format_bytes(value: float) -> str:
    """Such as ``1.06 TB``, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.3g} TB"
