"""The cost table and what it saves: pure arithmetic on counted rows."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from topcoat.errors import UsageError

Kind = Literal["computed", "measured", "cited", "given"]
"""Where a figure comes from: calculated here, timed on a machine, published by others, or given by the user."""

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

    @property
    def title(self) -> str:
        """Such as ``FLUX.1-schnell, 4 steps: 290.75 TFLOP``."""
        return f"{self.name}, {count_steps(self.steps)}: {format_tflop(self.tflop)} TFLOP"

    def at_steps(self, steps: int) -> PipelineCost:
        """The same pipeline at another step count; raises `UsageError` below 1."""
        if steps < 1:
            raise UsageError(f"{steps} steps are not possible; use 1 or more")
        rows = [row if row.times is None else dataclasses.replace(row, times=steps) for row in self.rows]
        return PipelineCost(self.name, steps, tuple(rows))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON and for a table."""
        own = [(row, {"label": row.label, "tflop": row.tflop, "share": row.tflop / self.tflop}) for row in self.rows]
        rows = [dataclasses.asdict(row) | more for row, more in own]
        return {"name": self.name, "steps": self.steps, "tflop": self.tflop, "rows": rows}


@dataclass(frozen=True, slots=True)
class Saving:
    """What one way to make images saves against another: TFLOP per image, or seconds per image where measured."""

    name: str
    steps: int
    value: float
    against: str
    against_steps: int
    against_value: float
    counts: str
    """What is counted on both sides, such as ``whole pipeline``."""
    size: str
    """Such as ``1024x1024``."""
    kind: Kind = "computed"
    note: str = ""

    @property
    def share(self) -> float:
        """Share of ``against_value`` that is saved."""
        return 1 - self.value / self.against_value

    @property
    def sentence(self) -> str:
        """The saving with everything that it depends on."""
        of = "of the time " if self.kind == "measured" else ""
        return (
            f"saves {self.share:.1%} {of}against {count_steps(self.against_steps)} of {self.against} (with "
            f"{count_steps(self.steps)} of {self.name}; {self.counts}, {self.size}, {self.kind})"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON and for a table."""
        return {**dataclasses.asdict(self), "share": self.share}


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

    def saving(self, baseline_steps: int | None = None, *, transformer_only: bool = False) -> Saving:
        """What distilled + head saves against the baseline at a step count; None means the baseline's default.

        The whole pipeline on both sides; or the transformer alone, without text, decode and head.
        """
        against = self.baseline if baseline_steps is None else self.baseline.at_steps(baseline_steps)
        if transformer_only:
            ours, counts = self.distilled, "transformer only"
            value, against_value = ours.denoiser_tflop, against.denoiser_tflop
        else:
            ours, counts = self.enhanced, "whole pipeline"
            value, against_value = ours.tflop, against.tflop
        return Saving(ours.name, ours.steps, value, against.name, against.steps, against_value, counts, self.size)

    @property
    def savings(self) -> list[Saving]:
        """Against the baseline at every step count: of the whole pipeline, then of the transformer alone."""
        return [
            self.saving(cost.steps, transformer_only=transformer_only)
            for cost in self.baseline_at
            for transformer_only in (False, True)
        ]

    def at_distilled_steps(self, steps: int) -> CostTable:
        """The same table with the distilled model at another step count; raises `UsageError` below 1."""
        return dataclasses.replace(
            self, distilled=self.distilled.at_steps(steps), enhanced=self.enhanced.at_steps(steps)
        )

    @property
    def size(self) -> str:
        """Such as ``1024x1024``."""
        return f"{self.width_px}x{self.height_px}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; every saving names both step counts, the size and what it counts."""
        return {
            "pair": self.pair,
            "kind": "computed",
            "unit": "TFLOP per image",
            "size_px": {"width": self.width_px, "height": self.height_px},
            "distilled": self.distilled.as_dict(),
            "enhanced": self.enhanced.as_dict(),
            "baseline": [cost.as_dict() for cost in self.baseline_at],
            "savings": [saving.as_dict() for saving in self.savings],
        }


def format_tflop(value: float) -> str:
    """A TFLOP figure of readable length: 2 decimals or 3 significant digits, never in scientific notation."""
    if value == 0:
        return "0"
    digits = min(8, max(2, 2 - math.floor(math.log10(abs(value)))))
    return f"{value:,.{digits}f}"


def format_bytes(value: float) -> str:
    """Such as ``1.06 TB``, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.3g} TB"


def count_steps(count: int) -> str:
    """``1 step``, ``4 steps``."""
    return f"{count} step" if count == 1 else f"{count} steps"
