"""The cost table: pure arithmetic on counted rows, and its print."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from topcoat.errors import UsageError

DENOISER_ROW = "transformer"
"""The row of the network that runs in every step; for SDXL it is a U-Net."""
DECODE_ROW = "VAE decode"
HEAD_ROW = "head"
"""The rows of the VAE's decoder and of the head; a head that takes latents replaces the former."""


@dataclass(frozen=True, slots=True)
class CostRow:
    """One piece of a pipeline: TFLOP of one pass, and how many passes an image takes."""

    piece: str
    tflop_each: float
    times: int | None = None
    """Number of steps for a piece that is repeated; None for one that is not."""
    passes: int = 1
    """Passes in each step: 2 with classifier-free guidance."""

    @property
    def tflop(self) -> float:
        """TFLOP per image."""
        return self.tflop_each * self.passes * (1 if self.times is None else self.times)

    @property
    def label(self) -> str:
        """The piece and how its figure comes about, such as ``transformer, 50 x 2 x 3.40``."""
        factors = [str(self.times)] if self.times is not None else []
        factors += [str(self.passes)] if self.passes != 1 else []
        return f"{self.piece}, {' x '.join([*factors, format_tflop(self.tflop_each)])}" if factors else self.piece

    def with_times(self, times: int) -> CostRow:
        """The same piece at another step count; unchanged if it is not repeated."""
        return self if self.times is None else dataclasses.replace(self, times=times)


@dataclass(frozen=True, slots=True)
class PipelineCost:
    """The computed cost of one whole pipeline per image."""

    name: str
    steps: int
    rows: tuple[CostRow, ...]

    @property
    def tflop(self) -> float:
        """TFLOP per image, all pieces."""
        return sum(row.tflop for row in self.rows)

    @property
    def denoiser_tflop(self) -> float:
        """TFLOP per image of the steps alone: what papers and cache benchmarks often count."""
        return sum(row.tflop for row in self.rows if row.times is not None)

    def at_steps(self, steps: int) -> PipelineCost:
        """The same pipeline at another step count; raises `UsageError` below 1."""
        if steps < 1:
            raise UsageError(f"{steps} steps are not possible; use 1 or more")
        return PipelineCost(self.name, steps, tuple(row.with_times(steps) for row in self.rows))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        rows = [
            {
                "piece": row.piece,
                "tflop_each": row.tflop_each,
                "times": row.times or 1,
                "passes": row.passes,
                "tflop": row.tflop,
                "share": row.tflop / self.tflop if self.tflop else 0.0,
            }
            for row in self.rows
        ]
        return {"name": self.name, "steps": self.steps, "tflop": self.tflop, "rows": rows}


@dataclass(frozen=True, slots=True)
class CostTable:
    """Computed TFLOP per image of a pair at one size."""

    pair: str
    width_px: int
    height_px: int
    distilled: PipelineCost
    enhanced: PipelineCost
    """Distilled plus head; equal to distilled where no head was given."""
    baseline: PipelineCost
    """At its default step count."""
    baseline_at: tuple[PipelineCost, ...]
    """The baseline at every step count shown, the default among them, most steps first."""

    @property
    def head_tflop(self) -> float:
        """TFLOP per image of the head alone; 0 without one."""
        return sum(row.tflop for row in self.enhanced.rows if row.piece == HEAD_ROW)

    def saving(self, baseline_steps: int | None = None) -> float:
        """Share of the baseline's TFLOP that distilled + head saves, whole pipeline against whole pipeline.

        ``baseline_steps`` None means the baseline's default. Raises `UsageError` for a step count not in the table.
        """
        steps = self.baseline.steps if baseline_steps is None else baseline_steps
        for candidate in self.baseline_at:
            if candidate.steps == steps:
                return 1 - self.enhanced.tflop / candidate.tflop
        known = ", ".join(str(candidate.steps) for candidate in self.baseline_at)
        raise UsageError(f"the table has no baseline at {steps} steps; it has {known}")

    def transformer_saving(self, baseline_steps: int | None = None) -> float:
        """The same share with the steps alone on both sides; neither text, decode nor head is counted."""
        steps = self.baseline.steps if baseline_steps is None else baseline_steps
        return 1 - self.distilled.denoiser_tflop / self.baseline.at_steps(steps).denoiser_tflop

    def at_distilled_steps(self, steps: int) -> CostTable:
        """The same table with the distilled model at another step count; raises `UsageError` below 1."""
        return dataclasses.replace(
            self, distilled=self.distilled.at_steps(steps), enhanced=self.enhanced.at_steps(steps)
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; every saving names both step counts, the size and what it counts."""
        size = {"width": self.width_px, "height": self.height_px}

        def saving(cost: PipelineCost, share: float, counts: str) -> dict[str, Any]:
            return {
                "distilled_steps": self.enhanced.steps,
                "baseline_steps": cost.steps,
                "tflop": share,
                "counts": counts,
                "size_px": size,
                "kind": "computed",
            }

        return {
            "pair": self.pair,
            "kind": "computed",
            "unit": "TFLOP per image",
            "size_px": size,
            "distilled": self.distilled.as_dict(),
            "enhanced": self.enhanced.as_dict(),
            "baseline": [cost.as_dict() for cost in self.baseline_at],
            "saving": [saving(cost, self.saving(cost.steps), "whole pipeline") for cost in self.baseline_at],
            "saving_transformer_only": [
                saving(cost, self.transformer_saving(cost.steps), "transformer only") for cost in self.baseline_at
            ],
        }

    def as_text(self) -> str:
        """A plain table for a terminal, followed by two lines for each saving: whole pipeline and transformer only."""
        size = f"{self.width_px}x{self.height_px}"
        lines = [f"{self.pair} at {size}, TFLOP per image, computed; 2 FLOP per multiply-add"]
        for cost in (self.enhanced, *self.baseline_at):
            lines.append(f"\n{cost.name}, {count_steps(cost.steps)}")
            for row in cost.rows:
                share = row.tflop / cost.tflop if cost.tflop else 0.0
                lines.append(f"  {row.label:<32}{format_tflop(row.tflop):>12}{share:>8.1%}")
            lines.append(f"  {'sum':<32}{format_tflop(cost.tflop):>12}")
        lines.append("")
        for cost in self.baseline_at:
            against = f"against {count_steps(cost.steps)} of {cost.name}"
            distilled = f"with {count_steps(self.enhanced.steps)} of {self.distilled.name}"
            lines.append(
                f"saves {self.saving(cost.steps):.1%} {against} ({distilled}; whole pipeline, {size}, computed)"
            )
            lines.append(
                f"saves {self.transformer_saving(cost.steps):.1%} {against} ({distilled}; transformer only, {size}, "
                "computed)"
            )
        return "\n".join(lines)


def format_tflop(value: float) -> str:
    """A TFLOP figure of readable length: 2 decimals or 3 significant digits, never in scientific notation."""
    if value == 0:
        return "0"
    digits = min(8, max(2, 2 - math.floor(math.log10(abs(value)))))
    return f"{value:,.{digits}f}"


def count_steps(count: int) -> str:
    """``1 step``, ``4 steps``."""
    return f"{count} step" if count == 1 else f"{count} steps"
