"""The figures of a small demo that do not depend on time: the embedded pair, its head, the controls, the floor."""

from __future__ import annotations

from typing import Any

from tests.oracles.golden import Golden
from topcoat.benchmark.compare import run_benchmark
from topcoat.generators.presets import model_pair
from topcoat.heads import Head
from topcoat.prompts import held_out_prompts

# Adapters: change these with the library, never the golden values.


def demo() -> dict[str, Any]:
    """16 held-out subjects with the baseline at 28 steps, so that no further step count is timed."""
    pair = model_pair("mini")
    pair = pair.model_copy(update={"baseline": pair.baseline.model_copy(update={"steps": 28})})
    seeds = range(9_000_000, 9_000_016)
    result = run_benchmark(pair, Head.default(), held_out_prompts(16, 1, "mini"), seeds)
    settings, value = result.settings, result.value
    sets = {"distilled": "distilled", "enhanced": "enhanced", "unsharp": "unsharp", "colour": "colour"}
    sets["baseline_floor"] = "floor"

    def share(arm: str) -> dict[str, float | None]:
        score = result.score("gap_closed", arm)
        return {end: None if score is None else getattr(score, end) for end in ("value", "low", "high")}

    def interval(arm: str) -> dict[str, float | None]:
        score = result.score("frechet", arm)
        assert score is not None
        return {"low": score.low, "high": score.high}

    distilled, floor = value("frechet", "distilled"), value("frechet", "floor")
    assert distilled is not None and floor is not None
    return {
        "subjects": result.n,
        "steps": {model: settings["models"][model]["steps"] for model in ("distilled", "baseline")},
        "size_px": [result.width_px, result.height_px],
        "frechet": {arm: value("frechet", arm) for arm in sets.values()},
        "frechet_intervals": {name: interval(arm) for name, arm in sets.items()},
        "gap_closed": share("enhanced"),
        "gap_closed_by_unsharp": share("unsharp"),
        "gap_closed_by_colour": share("colour"),
        "gap_in_floors": distilled / floor,
        "identity": {end: value(f"identity_{end}", "enhanced") for end in ("mean", "p05")},
        "identity_pairs": {
            **{f"same_{end}": value(f"identity_{end}", "baseline") for end in ("mean", "p05")},
            **{f"different_{end}": value(f"identity_mismatched_{end}", "baseline") for end in ("mean", "p95")},
        },
        "gradient_energy": {
            arm: value("gradient_energy", arm)
            for arm in ("distilled", "enhanced", "unsharp", "colour", "baseline", "floor")
        },
        "unsharp_control": settings["controls"]["unsharp"],
        "colour_control": settings["controls"]["colour"],
        "tflop": {
            "distilled": value("tflop", "distilled"),
            "head": value("head_tflop", "enhanced"),
            "baseline": value("tflop", "baseline"),
            "enhanced": value("tflop", "enhanced"),
        },
        "tflop_saving": value("tflop_saving", "enhanced"),
        "subjects_sha256": settings["subjects_sha256"],
        "feature_dimensions": settings["features"]["dimensions"],
    }


# Oracles

EXACT = ("subjects", "steps", "size_px", "subjects_sha256", "feature_dimensions")


def test_demo(golden: Golden) -> None:
    found = demo()
    for name in EXACT:
        golden.exact(name, found[name])
    golden.close("tflop", [found["tflop"], found["tflop_saving"]], rel=1e-9, abs=0)
    rest = found.keys() - {*EXACT, "tflop", "tflop_saving"}
    for name in sorted(rest):
        golden.close(name, found[name], rel=5e-3, abs=1e-3)
