"""What a study will do and what it costs, computed before anything is done; no weights are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from topcoat.benchmark.run import TIMED_BATCHES
from topcoat.cost.flops import EXTRA_STEPS, pair_cost
from topcoat.cost.pricing import TRAINING_PASSES
from topcoat.cost.table import DECODE_ROW
from topcoat.generators.base import ModelPair
from topcoat.heads.latent_unet import change_flops
from topcoat.training.config import RunConfig, TrainConfig

TERA = 1e12


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """One stage: its name, what it does in words, and its computed TFLOP."""

    name: str
    what: str
    tflop: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def plan_study(
    pair: ModelPair, runs: Mapping[str, RunConfig], *, pairs: int, held_out: int, batch_size: int
) -> list[PlannedStage]:
    """Every stage of a study in its order.

    Training counts passes of the networks that make images, not loss nets, discriminators or evaluation. Raises
    `ModelError` for a pair whose sizes are not known.
    """
    table = pair_cost(pair)
    width, height = table.width_px, table.height_px
    latents = any(run.last.head.input == "latent" for run in runs.values())
    undecoded = sum(row.tflop for row in table.distilled.rows if row.piece != DECODE_ROW)
    (extra,) = (cost.tflop for cost in table.baseline_at if cost.steps == EXTRA_STEPS)
    timed = 0 if pair.baseline.steps == EXTRA_STEPS else min(held_out, TIMED_BATCHES * batch_size)
    stages = [
        PlannedStage("pairs", f"{pairs:,} pairs", pairs * (table.distilled.tflop + table.baseline.tflop)),
    ]
    for name, run in runs.items():
        head = run.last.head
        what = f"{run.images:,} images seen, {head.name()} of {head.parameters():,} parameters"
        tflop = sum(stage.images * training_tflop(stage, pair) for stage in run.stages)
        stages.append(PlannedStage(f"train {name}", what, tflop))
    generated = held_out * (table.distilled.tflop + 2 * table.baseline.tflop + latents * undecoded) + timed * extra
    stages.append(PlannedStage("generate", f"{held_out:,} held-out subjects, the baseline twice", generated))
    for name, run in runs.items():
        each = run.last.head.flops(width, height) / TERA
        stages.append(PlannedStage(f"evaluate {name}", f"{held_out:,} subjects", held_out * each))
    stages.append(PlannedStage("report", "table, page and contact sheets", 0.0))
    return stages


def training_tflop(stage: TrainConfig, pair: ModelPair) -> float:
    """TFLOP of one image seen in training: forward and backward of the networks that make images.

    Where latents are compared nothing is decoded but for the loss ``frechet``, which decodes those of the head and of
    the baseline. That the baseline image of a pair is encoded once is left out.
    """
    side = stage.crop_px
    width, height = (pair.distilled.width_px, pair.distilled.height_px) if side is None else (side, side)
    changed = stage.head.latent_part
    if stage.objective.compares_latents and changed is not None:
        change = change_flops(changed, width, height)
        decoding = changed.flops(width, height) - change if stage.objective.weights()["frechet"] else 0
        return (TRAINING_PASSES * (change + decoding) + decoding) / TERA
    return TRAINING_PASSES * stage.objective.passes * stage.head.flops(width, height) / TERA
