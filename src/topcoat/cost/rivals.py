"""What a user would pick instead of a head: fewer steps, caching, few-step LoRAs, a smaller pair.

Computed and cited figures stand in one table and are never mixed up: a cited one keeps its source, its day and what its
authors counted, and is compared with their own baseline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from topcoat.cost.flops import generator_rows
from topcoat.cost.money import Kind
from topcoat.cost.table import CostTable, PipelineCost
from topcoat.generators.base import ModelPair
from topcoat.generators.presets import model_pair

FEWER_STEPS = (28, 20, 10, 8)
"""Step counts at which the baseline alone is a rival."""

_DEV = "black-forest-labs/FLUX.1-dev"


@dataclass(frozen=True, slots=True)
class Rival:
    """One alternative: its TFLOP per image, against which TFLOP its saving is told, and what is counted."""

    name: str
    steps: int
    kind: Kind
    tflop: float
    against: str
    against_steps: int
    against_tflop: float
    counts: str
    size: str
    note: str = ""

    @property
    def saving(self) -> float:
        """Share of ``against_tflop`` that is saved."""
        return 1 - self.tflop / self.against_tflop

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "name": self.name,
            "steps": self.steps,
            "kind": self.kind,
            "tflop": self.tflop,
            "saving": self.saving,
            "against": self.against,
            "baseline_steps": self.against_steps,
            "against_tflop": self.against_tflop,
            "counts": self.counts,
            "size": self.size,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class FewStepLora:
    """A published LoRA that makes FLUX.1-dev paint in fewer steps; fused, so a step costs what it did."""

    name: str
    steps: int
    source: str


FEW_STEP_LORAS = (
    FewStepLora("Hyper-SD LoRA, 8 steps", 8, "huggingface.co/ByteDance/Hyper-SD (Hyper-FLUX.1-dev-8steps-lora)"),
    FewStepLora("Hyper-SD LoRA, 16 steps", 16, "huggingface.co/ByteDance/Hyper-SD (Hyper-FLUX.1-dev-16steps-lora)"),
    FewStepLora("FLUX.1-Turbo-Alpha LoRA", 8, "huggingface.co/alimama-creative/FLUX.1-Turbo-Alpha"),
)

CACHE_DIT_SOURCE = "github.com/vipshop/cache-dit docs/benchmark/HYBRID_CACHE.md, 2026-04-09 (commit e638599)"
CACHE_DIT_BASELINE_TFLOP = 3726.87
"""What cache-dit's authors count for FLUX.1-dev at 50 steps."""
CACHE_DIT = (
    ("cache-dit DBCache(S)+TaylorSeer", 1153.05, "ImageReward 1.0221, baseline 0.9898"),
    ("cache-dit DBCache(M)+TaylorSeer", 944.75, "ImageReward 1.0107, baseline 0.9898"),
    ("cache-dit DBCache(F)+TaylorSeer", 651.90, "ImageReward 0.9526, baseline 0.9898"),
    ("cache-dit DBCache(U)+TaylorSeer", 505.47, "ImageReward 0.8645, baseline 0.9898"),
)
"""Name, TFLOP and quality as published, all at 50 steps."""


def rivals(pair: ModelPair, table: CostTable, fewer_steps: Sequence[int] = FEWER_STEPS) -> list[Rival]:
    """The rivals of a pair's head at the table's size.

    Fewer steps for every pair; cached and LoRA runs where the baseline is FLUX.1-dev; FLUX.2 klein 4B and its base
    beside either FLUX pair.
    """
    size = f"{table.width_px}x{table.height_px}"
    baseline = table.baseline

    def computed(cost: PipelineCost, name: str, against: PipelineCost, note: str = "") -> Rival:
        return Rival(
            name=name,
            steps=cost.steps,
            kind="computed",
            tflop=cost.tflop,
            against=against.name,
            against_steps=against.steps,
            against_tflop=against.tflop,
            counts="whole pipeline",
            size=size,
            note=note,
        )

    found = [computed(table.enhanced, table.enhanced.name, baseline, "what this project does")]
    found += [
        computed(baseline.at_steps(steps), f"{baseline.name}, fewer steps", baseline)
        for steps in fewer_steps
        if steps < baseline.steps
    ]
    if pair.baseline.model == _DEV:
        found += [computed(baseline.at_steps(lora.steps), lora.name, baseline, lora.source) for lora in FEW_STEP_LORAS]
        found += [
            Rival(
                name=name,
                steps=50,
                kind="cited",
                tflop=tflop,
                against="FLUX.1-dev as its authors count it",
                against_steps=50,
                against_tflop=CACHE_DIT_BASELINE_TFLOP,
                counts="as counted by its authors",
                size="size as in the source",
                note=f"{quality}; {CACHE_DIT_SOURCE}",
            )
            for name, tflop, quality in CACHE_DIT
        ]
    if pair.name == "flux1":
        klein = model_pair("flux2-klein")
        sides = [
            PipelineCost(spec.name, spec.steps, tuple(generator_rows(spec, table.width_px, table.height_px)))
            for spec in (klein.distilled, klein.baseline)
        ]
        found += [computed(side, side.name, sides[1], "another model family") for side in sides]
    return found
