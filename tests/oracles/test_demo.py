"""The figures of a small demo that do not depend on time: the embedded pair, its head, the controls, the floor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.oracles.golden import Golden, fields
from topcoat.generators.presets import model_pair
from topcoat.heads import Head
from topcoat.prompts import held_out_prompts
from topcoat.proof import prove

# Adapters: change these with the library, never the golden values.


def demo(folder: Path) -> dict[str, Any]:
    """16 held-out subjects with the baseline at 28 steps, so that no further step count is timed."""
    pair = model_pair("mini")
    pair = pair.model_copy(update={"baseline": pair.baseline.model_copy(update={"steps": 28})})
    seeds = range(9_000_000, 9_000_016)
    report = prove(pair, Head.default(), held_out_prompts(16, 1, "mini"), seeds, output=folder)
    settings = report.settings
    return {
        "subjects": report.n,
        "steps": fields(report.steps, "distilled", "baseline"),
        "size_px": [settings["width_px"], settings["height_px"]],
        "frechet": fields(report.frechet, "distilled", "enhanced", "unsharp", "colour", floor="baseline_floor"),
        "frechet_intervals": settings["frechet_intervals"],
        "gap_closed": fields(report.gap_closed, "value", "low", "high"),
        "gap_closed_by_unsharp": settings["gap_closed_by_unsharp"],
        "gap_closed_by_colour": settings["gap_closed_by_colour"],
        "gap_in_floors": settings["gap_in_floors"],
        "identity": fields(report.identity, "mean", "p05"),
        "identity_pairs": fields(report.identity_pairs, "same_mean", "same_p05", "different_mean", "different_p95"),
        "gradient_energy": settings["gradient_energy"],
        "unsharp_control": settings["control"],
        "colour_control": settings["colour_control"],
        "tflop": fields(report.tflop_per_image, "distilled", "head", "baseline", "enhanced"),
        "tflop_saving": report.saving.tflop,
        "subjects_sha256": settings["subjects_sha256"],
        "feature_dimensions": report.features.dimensions,
    }


# Oracles

EXACT = ("subjects", "steps", "size_px", "subjects_sha256", "feature_dimensions")


def test_demo(golden: Golden, tmp_path: Path) -> None:
    found = demo(tmp_path)
    for name in EXACT:
        golden.exact(name, found[name])
    golden.close("tflop", [found["tflop"], found["tflop_saving"]], rel=1e-9, abs=0)
    rest = found.keys() - {*EXACT, "tflop", "tflop_saving"}
    for name in sorted(rest):
        golden.close(name, found[name], rel=5e-3, abs=1e-3)
