"""What the known pairs and runs take: counting all of them takes minutes, so the figures are part of the package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from topcoat.cost.flops import pair_cost
from topcoat.cost.memory import pair_memory
from topcoat.files import read_json
from topcoat.generators.base import OFFLOADS, ModelPair

PRESET_FIGURES = Path(__file__).with_name("presets.json")
"""Written by benchmarks/memory.py; a test compares it with the code."""


@dataclass(frozen=True, slots=True)
class PairFigures:
    """Computed of a pair at its own size and steps, without weights."""

    distilled_tflop: float
    """Of an image, whole pipeline."""
    baseline_tflop: float
    weight_bytes: int
    """Of both models, shared networks once."""
    memory_bytes: dict[str, int]
    """Way of offloading -> what one image needs of the device."""


def pair_figures(pair: ModelPair) -> PairFigures:
    """Count a pair now; raises `ModelError` for a model of unknown sizes."""
    table, memory = pair_cost(pair), pair_memory(pair)
    needed = {offload: memory.needed_bytes(offload) for offload in OFFLOADS}
    return PairFigures(table.distilled.tflop, table.baseline.tflop, memory.weight_bytes, needed)


@dataclass(frozen=True, slots=True)
class RunFigures:
    """Computed of a run of training on whole images of ``side_px``."""

    side_px: int
    parameters: int | None
    """Of the head; None where it depends on the pair's VAE."""
    tflop: float | None
    """3 forward passes of the head for each image seen; loss nets and discriminators are not counted."""
    memory_bytes: int | None
    """Weights, gradients, Adam's two moments, the average, and what one micro-batch saves for the backward pass; of the
    head alone."""


def preset_figures() -> tuple[Mapping[str, PairFigures], Mapping[str, RunFigures]]:
    """Figures of each pair and of each run by name, as they were counted."""
    data = read_json(PRESET_FIGURES)
    return (
        {name: PairFigures(**figures) for name, figures in data["pairs"].items()},
        {name: RunFigures(**figures) for name, figures in data["runs"].items()},
    )
