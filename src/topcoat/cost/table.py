"""The cost table: pure arithmetic on counted rows, and its print."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from topcoat.errors import UsageError


@dataclass(frozen=True, slots=True)
class CostRow:
    """One piece of a pipeline: TFLOP of one run, and how many runs an image takes."""

    piece: str
    tflop_each: float
    times: int | None = None
    """Number of runs for a piece that is repeated (steps); None for one that runs once."""

    @property
    def tflop(self) -> float:
        """TFLOP per image."""
        return self.tflop_each * (1 if self.times is None else self.times)

    def with_times(self, times: int) -> CostRow:
        """The same piece at another step count; unchanged if it is not repeated."""
        return self if self.times is None else CostRow(self.piece, self.tflop_each, times)


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

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        rows = [
            {"piece": row.piece, "tflop_each": row.tflop_each, "times": row.times or 1, "tflop": row.tflop}
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
        return self.enhanced.tflop - self.distilled.tflop

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

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        savings = [
            {
                "distilled_steps": self.enhanced.steps,
                "baseline_steps": candidate.steps,
                "tflop": self.saving(candidate.steps),
                "counts": "whole pipeline",
            }
            for candidate in self.baseline_at
        ]
        return {
            "pair": self.pair,
            "kind": "computed",
            "unit": "TFLOP per image",
            "size_px": {"width": self.width_px, "height": self.height_px},
            "distilled": self.distilled.as_dict(),
            "enhanced": self.enhanced.as_dict(),
            "baseline": [candidate.as_dict() for candidate in self.baseline_at],
            "saving": savings,
        }

    def as_text(self) -> str:
        """A plain table for a terminal, followed by one line for each saving."""
        size = f"{self.width_px}x{self.height_px}"
        lines = [f"{self.pair} at {size}, TFLOP per image, computed; 2 FLOP per multiply-add"]
        for cost in (self.enhanced, *self.baseline_at):
            lines.append(f"\n{cost.name}, {count_steps(cost.steps)}")
            for row in cost.rows:
                label = row.piece if row.times is None else f"{row.piece}, {row.times} x {format_tflop(row.tflop_each)}"
                lines.append(f"  {label:<32}{format_tflop(row.tflop):>12}{row.tflop / cost.tflop:>8.1%}")
            lines.append(f"  {'sum':<32}{format_tflop(cost.tflop):>12}")
        lines.append("")
        lines.extend(
            f"saves {self.saving(cost.steps):.1%} against {count_steps(cost.steps)} of {cost.name} "
            f"(with {count_steps(self.enhanced.steps)} of {self.distilled.name}; whole pipeline, "
            f"{size}, computed)"
            for cost in self.baseline_at
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
