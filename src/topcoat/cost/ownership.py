"""Total cost of ownership: building the pairs and training the head, and when that is paid back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from topcoat.cost.money import HOUR_SECONDS, Rate, gpu_seconds
from topcoat.cost.prices import GpuPrice
from topcoat.cost.table import CostTable
from topcoat.errors import UsageError

TRAINING_PASSES = 3
"""Forward and backward of the head for one image seen, in forward passes; loss nets and adversary are not counted."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """What it costs once, what it costs per image, and when the first is paid by the second. All computed."""

    pairs: int
    training_images: int
    images_per_month: int
    baseline: str
    baseline_steps: int
    distilled_steps: int
    pairs_usd: float
    training_usd: float
    image_usd: float
    baseline_image_usd: float

    @property
    def once_usd(self) -> float:
        """Building the pairs and training the head."""
        return self.pairs_usd + self.training_usd

    @property
    def saved_usd_per_image(self) -> float:
        """Against the baseline; negative where the pipeline costs more."""
        return self.baseline_image_usd - self.image_usd

    @property
    def payback_images(self) -> int | None:
        """Images after which the saving has paid for the rest; None where nothing is saved."""
        return None if self.saved_usd_per_image <= 0 else math.ceil(self.once_usd / self.saved_usd_per_image)

    def usd_after(self, months: float, *, with_head: bool) -> float:
        """Money spent after ``months`` months, with the head (its making included) or with the baseline alone."""
        images = months * self.images_per_month
        return self.once_usd + images * self.image_usd if with_head else images * self.baseline_image_usd

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "kind": "computed",
            "pairs": self.pairs,
            "training_images": self.training_images,
            "images_per_month": self.images_per_month,
            "baseline": self.baseline,
            "baseline_steps": self.baseline_steps,
            "distilled_steps": self.distilled_steps,
            "counts": "whole pipeline",
            "pairs_usd": self.pairs_usd,
            "training_usd": self.training_usd,
            "once_usd": self.once_usd,
            "usd_per_image": self.image_usd,
            "baseline_usd_per_image": self.baseline_image_usd,
            "payback_images": self.payback_images,
            "first_year_usd": {
                "with_head": self.usd_after(12, with_head=True),
                "baseline": self.usd_after(12, with_head=False),
            },
        }

    def rows(self) -> list[tuple[str, str]]:
        """What and how much, for a table."""
        payback = self.payback_images
        months = "" if payback is None else f", {payback / self.images_per_month:,.2g} months"
        return [
            (f"building {self.pairs:,} pairs, once", f"{self.pairs_usd:,.2f} USD"),
            (f"training on {self.training_images:,} images, once", f"{self.training_usd:,.2f} USD"),
            ("a million images, distilled + head", f"{self.image_usd * 1e6:,.2f} USD"),
            (
                f"a million images, {self.baseline}, {self.baseline_steps} steps",
                f"{self.baseline_image_usd * 1e6:,.2f} USD",
            ),
            ("12 months, distilled + head, all of it", f"{self.usd_after(12, with_head=True):,.2f} USD"),
            ("12 months, baseline alone", f"{self.usd_after(12, with_head=False):,.2f} USD"),
            ("paid back after", "never" if payback is None else f"{payback:,} images{months}"),
        ]


def ownership(
    table: CostTable,
    gpu: GpuPrice,
    rate: Rate,
    utilisation: float,
    *,
    images_per_month: int,
    pairs: int,
    training_images: int,
) -> Ownership:
    """The bill of ``table``'s distilled + head against its baseline at the table's default steps.

    Raises `UsageError` for counts below 1 (pairs and training images may be 0: a head that is there already).
    """
    if images_per_month < 1:
        raise UsageError(f"{images_per_month} images per month are not possible; use 1 or more")
    if pairs < 0 or training_images < 0:
        raise UsageError(f"{pairs} pairs and {training_images} training images are not possible; use 0 or more")

    def usd(tflop: float) -> float:
        return gpu_seconds(tflop, gpu, utilisation) / HOUR_SECONDS * rate.usd_per_hour

    return Ownership(
        pairs=pairs,
        training_images=training_images,
        images_per_month=images_per_month,
        baseline=table.baseline.name,
        baseline_steps=table.baseline.steps,
        distilled_steps=table.enhanced.steps,
        pairs_usd=usd(pairs * (table.distilled.tflop + table.baseline.tflop)),
        training_usd=usd(training_images * TRAINING_PASSES * table.head_tflop),
        image_usd=usd(table.enhanced.tflop),
        baseline_image_usd=usd(table.baseline.tflop),
    )
