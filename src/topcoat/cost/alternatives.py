"""What a user would pick instead of a head: fewer steps, caching, few-step LoRAs, a smaller pair.

Computed and cited figures share a table and stay apart: a cited one keeps its source, its day and what its authors
counted, and is compared with their own baseline.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from topcoat.config import read_mapping
from topcoat.cost.flops import pair_cost
from topcoat.cost.table import CostTable, PipelineCost, Saving
from topcoat.generators.base import ModelPair
from topcoat.generators.presets import model_pair

FEWER_STEPS = (28, 20, 10, 8)
"""Step counts at which the baseline alone is an alternative."""
SMALLER_PAIRS = {"flux1": "flux2-klein"}
"""A pair of smaller models that does the same."""
_FILE = Path(__file__).with_name("alternatives.toml")


def alternatives(pair: ModelPair, table: CostTable, fewer_steps: Sequence[int] = FEWER_STEPS) -> list[Saving]:
    """The head of ``table`` and its alternatives at the table's size, each against the baseline that it names.

    Fewer steps for every pair, what ``alternatives.toml`` holds for the baseline, and a pair of smaller models.
    """
    baseline = table.baseline

    def computed(name: str, cost: PipelineCost, against: PipelineCost = baseline, note: str = "") -> Saving:
        return Saving(
            name, cost.steps, cost.tflop, against.name, against.steps, against.tflop,
            "whole pipeline", table.size, note=note,
        )  # fmt: skip

    rows = [computed(table.enhanced.name, table.enhanced, note="what this project does")]
    rows += [
        computed(f"{baseline.name}, fewer steps", baseline.at_steps(steps))
        for steps in fewer_steps
        if steps < baseline.steps
    ]
    for one in read_mapping(_FILE)["alternatives"]:
        if one["baseline"] != pair.baseline.model:
            continue
        if "tflop" not in one:
            rows.append(computed(one["name"], baseline.at_steps(one["steps"]), note=one["note"]))
            continue
        rows.append(
            Saving(
                one["name"], one["steps"], one["tflop"],
                f"{baseline.name} as its authors count it", one["steps"], one["baseline_tflop"],
                "as counted by its authors", "size as in the source", "cited", one["note"],
            )
        )  # fmt: skip
    if pair.name in SMALLER_PAIRS:
        smaller = pair_cost(model_pair(SMALLER_PAIRS[pair.name]), size_px=(table.width_px, table.height_px))
        sides = (smaller.distilled, smaller.baseline)
        rows += [computed(side.name, side, smaller.baseline, "another model family") for side in sides]
    return rows
