"""Time a pair for real, beside what is computed for it: seconds, memory and joules per image.

    python benchmarks/cost_measure.py                               # the mini pair, loaded, on this machine
    python benchmarks/cost_measure.py --pair flux1 --random-weights # full size on a GPU with 40 GiB, no weights needed
    python benchmarks/cost_measure.py --pair flux1 --random-weights --compile

Times the distilled model at 1, 2 and 4 steps, the same with an image head and with a decoder head, and the baseline at
20, 28 and 50 steps. Prints a table and the saving of every pairing in measured time, and writes JSON.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from topcoat.cli.cost import step_counts
from topcoat.cost import CostTable, Usage, hardware, pair_cost
from topcoat.cost.timing import TimingPlan, needed_bytes, time_generators, time_random_weights
from topcoat.errors import TopcoatError
from topcoat.files import write_json
from topcoat.generators.base import ModelPair
from topcoat.generators.presets import model_pair
from topcoat.heads import Head
from topcoat.heads.decoder import DecoderConfig

ROOT = Path(__file__).parent.parent


def main(arguments: list[str] | None = None) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pair", default="mini", help="preset name or pair file")
    parser.add_argument("--head", default=None, help="image head; the embedded one by default")
    parser.add_argument("--distilled-steps", default="1,2,4")
    parser.add_argument("--baseline-steps", default="20,28,50")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=1, help="images at once, for a loaded pair")
    parser.add_argument("--random-weights", action="store_true", help="full size, without any weights file")
    parser.add_argument("--compile", action="store_true", help="through torch.compile")
    parser.add_argument("--json", type=Path, default=ROOT / "out" / "cost_measure.json")
    chosen = parser.parse_args(arguments)
    try:
        run(chosen)
    except TopcoatError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def run(chosen: argparse.Namespace) -> dict[str, Any]:
    """Time, print and write; returns what is written."""
    pair = model_pair(chosen.pair)
    head = Head.default() if chosen.head is None else Head.from_pretrained(chosen.head)
    plan = TimingPlan(
        step_counts(chosen.distilled_steps, "--distilled-steps"),
        step_counts(chosen.baseline_steps, "--baseline-steps"),
        chosen.batch_size,
        chosen.repeats,
        chosen.compile,
    )
    table = pair_cost(pair, head, baseline_steps=plan.baseline_steps)
    machine = hardware()
    print(f"{pair.name}, {table.width_px}x{table.height_px}, measured on {machine}\n")
    found = _timed(pair, head, plan, random_weights=chosen.random_weights)
    joules_note = found[0].joules_note
    columns = ("pipeline", "steps", "seconds an image", "images/s", "peak memory", "joules")
    for row in [columns, *(usage.row() for usage in found)]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, (42, 6, 34, 9, 12, 12), strict=True)).rstrip())
    if joules_note:
        print(f"joules {joules_note}")
    savings = list(_savings(pair, table, found))
    print()
    for saving in savings:
        print(saving["text"])
    record = {
        "pair": pair.name,
        "size_px": {"width": table.width_px, "height": table.height_px},
        "weights": "random" if chosen.random_weights else "loaded",
        "compiled": chosen.compile,
        "hardware": machine.as_dict(),
        "measured": [usage.as_dict() for usage in found],
        "savings": savings,
        "computed": table.as_dict(),
    }
    write_json(chosen.json, record)
    print(f"\nwritten to {chosen.json}")
    return record


def _timed(pair: ModelPair, head: Head, plan: TimingPlan, *, random_weights: bool) -> list[Usage]:
    """Distilled, with the image head and the baseline; then distilled with a decoder head alone."""
    decoder = _decoder(pair)
    only_distilled = TimingPlan(plan.distilled_steps, (), plan.batch_size, plan.repeats, plan.compile)
    if random_weights:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        for spec in (pair.distilled, pair.baseline):
            print(f"{spec.name} with random weights needs {needed_bytes(spec) / 2**30:.1f} GiB (computed)")
        found = list(time_random_weights(pair, head, None, device, plan))
        with_decoder = list(time_random_weights(pair, decoder, None, device, only_distilled))
    else:
        from topcoat.generators.diffusers import load_pair

        generators = load_pair(pair)
        head.to(generators[0].device)
        decoder.to(generators[0].device)
        found = list(time_generators(pair, generators, head, plan))
        with_decoder = list(time_generators(pair, generators, decoder, only_distilled))
    return found + [_renamed(usage) for usage in with_decoder if "+ head" in usage.name]


def _decoder(pair: ModelPair) -> Head:
    """A decoder head of the default size for the distilled model's latents; untrained, which its time does not show."""
    from topcoat.cost import components_of

    channels = int(components_of(pair.distilled).configs["vae"]["latent_channels"])
    config = DecoderConfig(latent_channels=channels)
    return Head(config.build(), config)


def _renamed(usage: Usage) -> Usage:
    import dataclasses

    return dataclasses.replace(usage, name=usage.name.replace("+ head", "+ decoder head"))


def _savings(pair: ModelPair, table: CostTable, found: list[Usage]) -> Any:
    """Measured time saved by every pipeline with a head against the baseline at every step count."""
    size = f"{table.width_px}x{table.height_px}"
    for baseline in (usage for usage in found if usage.name.startswith(pair.baseline.name)):
        for usage in (usage for usage in found if "head" in usage.name):
            share = 1 - usage.seconds.median_seconds / baseline.seconds.median_seconds
            yield {
                "pipeline": usage.name,
                "distilled_steps": usage.steps,
                "baseline_steps": baseline.steps,
                "seconds": share,
                "counts": "whole pipeline",
                "kind": "measured",
                "text": (
                    f"saves {share:.1%} of the time against {baseline.steps} steps of {baseline.name} (with "
                    f"{usage.steps} of {usage.name}; whole pipeline, {size}, measured)"
                ),
            }


if __name__ == "__main__":
    sys.exit(main())
