"""`topcoat presets`: the pairs and runs that are known by name, and what each takes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.options import PricesOption, UsdOption, UtilisationOption

_PAIRS = {
    "pair": "{name}", "steps": "{steps}", "size": "{size}", "licence of distilled, baseline": "{licences}",
    "weights": "{weight_bytes:bytes}", "GPU memory": "{none_bytes:bytes}", "offload model": "{model_bytes:bytes}",
    "offload group": "{group_bytes:bytes}", "TFLOP of distilled": "{distilled_tflop:tflop}",
    "of baseline": "{baseline_tflop:tflop}", "USD, 1,000 pairs": "{pairs_usd:,.2f}",
}  # fmt: skip
_RUNS = {
    "run": "{name}", "stages": "{stages}", "head": "{head}", "parameters": "{parameters:,}",
    "images seen": "{images:,}", "optimiser steps": "{steps:,}", "crop": "{crop}", "trained at": "{side_px} px",
    "latents in pairs": "{latents}", "memory": "{memory_bytes:bytes}", "TFLOP": "{tflop:tflop}", "USD": "{usd:,.2f}",
}  # fmt: skip


@command("presets", examples=("topcoat presets", "topcoat presets --gpu rtx4090", "topcoat presets --json"))
def presets(
    out: Output,
    gpu: Annotated[str, typer.Option(help="GPU of the price table that money is computed for.")] = "h100",
    utilisation: UtilisationOption = None,
    usd_per_hour: UsdOption = None,
    prices: PricesOption = None,
) -> None:
    """List model pairs and runs with licence, steps, sizes, memory and cost; all computed, nothing is loaded."""
    from topcoat.cost.presets import preset_figures
    from topcoat.cost.pricing import find_gpu, load_prices, rate_of
    from topcoat.generators.presets import model_pair
    from topcoat.training.runs import run_config

    rate = rate_of(find_gpu(gpu, load_prices(prices)), usd_per_hour, utilisation)
    of_pairs, of_runs = preset_figures()

    def usd(tflop: float | None) -> float | None:
        return None if tflop is None else rate.usd(rate.seconds(tflop))

    pairs: list[dict[str, Any]] = []
    for name, figures in of_pairs.items():
        pair = model_pair(name)
        sides = pair.sides.values()
        licences = list(dict.fromkeys(side.licence.name for side in sides))
        row = asdict(figures) | {
            "name": name,
            "steps": " / ".join(str(side.steps) for side in sides),
            "size": f"{pair.distilled.width_px}x{pair.distilled.height_px}",
            "licences": ", ".join(licences),
            "pairs_usd": usd(1_000 * (figures.distilled_tflop + figures.baseline_tflop)),
        }
        pairs.append(row | {f"{offload}_bytes": size for offload, size in figures.memory_bytes.items()})
    runs: list[dict[str, Any]] = []
    for name, figures in of_runs.items():
        stages = run_config(name).stages
        crops = [stage.crop_px for stage in stages]
        latents = any(stage.head.input == "latent" for stage in stages)
        row = asdict(figures) | {
            "name": name,
            "stages": ", ".join(stage.name for stage in stages),
            "head": stages[-1].head.name(),
            "images": sum(stage.images for stage in stages),
            "steps": sum(stage.images // stage.batch_size for stage in stages),
            "crop": ", ".join("whole" if crop is None else f"{crop} px" for crop in crops),
            "latents": "yes" if latents else "no",
            "usd": usd(figures.tflop),
        }
        runs.append(row)
    out.records("Model pairs (--pair)", _PAIRS, pairs)
    out.records("Runs (topcoat train)", _RUNS, runs)
    known = rate.known_gpu
    out.line(
        f"USD: computed on a {known.name} at {rate.utilisation:.0%} of {known.bf16_tflops:g} TFLOP/s and "
        f"{rate.usd_per_hour:g} USD per hour ({rate.source})",
        "Memory of pairs: one image, and 1 GiB (assumed). Memory, TFLOP and USD of runs: the head alone; loss nets and",
        "discriminator come on top, and narrow networks reach less of the peak: docs/training.md has the hours",
        "A head takes on the terms of the models that its pairs were made with; topcoat's own code is Apache-2.0",
        "topcoat pairs specs NAME prints a pair; topcoat train NAME --data pairs/ -o x --dry-run prints a run",
    )
    out.result(
        {
            "pairs": pairs,
            "runs": runs,
            "gpu": known.name,
            "usd_per_hour": rate.usd_per_hour,
            "source": rate.source,
            "utilisation": rate.utilisation,
        }
    )
