"""What a dataset of pairs takes before any of it is spent: images, TFLOP, GPU-hours, money and disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from topcoat.cost.flops import pair_cost
from topcoat.cost.measure import hardware, timed
from topcoat.cost.money import HOUR_SECONDS, UTILISATION, Kind, Rate, gpu_seconds
from topcoat.cost.prices import GpuPrice
from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import ModelPair
from topcoat.images import encode_png
from topcoat.prompts import sample_prompts

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
        """Images: two for each pair."""
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


def pair_tflop(pair: ModelPair, distilled_steps: Sequence[int] = ()) -> float | None:
    """TFLOP of one pair with further step counts of the distilled model; None for a model of unknown sizes."""
    distilled = pair.distilled
    try:
        table = pair_cost(pair)
        further = [
            pair_cost(pair.model_copy(update={"distilled": distilled.model_copy(update={"steps": steps})}))
            for steps in distilled_steps
            if steps != distilled.steps
        ]
    except ModelError:
        return None
    return table.distilled.tflop + table.baseline.tflop + sum(one.distilled.tflop for one in further)


def computed_usage(pair: ModelPair, tflop: float, gpu: GpuPrice, utilisation: float | None = None) -> PairUsage:
    """Usage by counting: seconds from ``tflop`` and a share of the GPU's peak, bytes from `PNG_BYTES_PER_PIXEL`."""
    share = UTILISATION if utilisation is None else utilisation
    spec = pair.distilled
    return PairUsage(
        tflop=tflop,
        gpu_seconds=gpu_seconds(tflop, gpu, share),
        seconds_kind="computed",
        seconds_source=f"{share:.0%} (assumed) of {gpu.bf16_tflops:g} TFLOP/s dense bf16, cited: {gpu.bf16_source}",
        disk_bytes=assumed_disk_bytes(spec.width_px, spec.height_px),
        disk_kind="computed",
        disk_source=f"{PNG_BYTES_PER_PIXEL:g} bytes a pixel (assumed), two lossless images a pair",
    )


def measured_usage(
    pair: ModelPair, tflop: float, count: int, batch_size: int, on_progress: Callable[[int, int], None] | None = None
) -> PairUsage:
    """Usage of ``count`` pairs that are generated here as the builder does."""
    from topcoat.generators.diffusers import load_pair

    generators = load_pair(pair)
    prompts = [prompt.text for prompt in sample_prompts(count, 0)]
    for generator in generators:
        generator.generate(prompts[:1], [0])  # the first image of a process also pays for what is set up once
    sizes: list[int] = []
    seconds = 0.0
    for start in range(0, count, batch_size):
        end = min(start + batch_size, count)

        def generate(part: Sequence[str] = prompts[start:end], seeds: Sequence[int] = range(start, end)) -> None:
            for generator in generators:
                sizes.extend(len(encode_png(image)) for image in generator.generate(part, seeds))

        seconds += timed(generate)
        if on_progress is not None:
            on_progress(end, count)
    return PairUsage(
        tflop=tflop,
        gpu_seconds=seconds / count,
        seconds_kind="measured",
        seconds_source=(
            f"{count} pairs generated here, {seconds / count:.3g} s each, batches of {batch_size}; {hardware()}"
        ),
        disk_bytes=2 * sum(sizes) / len(sizes),
        disk_kind="measured",
        disk_source=f"PNG images of these {count} pairs, {sum(sizes) / len(sizes):,.0f} bytes each",
    )


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
