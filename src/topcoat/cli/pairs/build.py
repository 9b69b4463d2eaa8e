"""`topcoat pairs build`: paint every prompt with both models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.options import (
    BatchSizeOption,
    DryRunOption,
    PairOption,
    PromptsFileOption,
    describe_generator,
    licence_lines,
    read_prompts_file,
)
from topcoat.cli.pairs.app import app
from topcoat.errors import ModelError

if TYPE_CHECKING:
    from topcoat.generators.base import ModelPair


@command(
    app,
    "build",
    examples=(
        "topcoat pairs build pairs/ --count 2000",
        "topcoat pairs build flux-pairs/ --pair flux1 --count 10000 --dry-run",
        "topcoat pairs build mine/ --prompts-file prompts.jsonl",
    ),
)
def build(
    out: Output,
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the dataset; the same command resumes.")],
    pair: PairOption = "mini",
    count: Annotated[int, typer.Option("--count", "-n", help="Sampled prompts, one pair each.")] = 200,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the sampled prompts, 0 or more.")] = 0,
    prompts_file: PromptsFileOption = None,
    batch_size: BatchSizeOption = 16,
    shard_size: Annotated[int, typer.Option("--shard-size", min=1, help="Pairs in one Parquet file.")] = 250,
    dry_run: DryRunOption = False,
) -> None:
    """Make pairs: each prompt through the distilled model and the baseline, from the same noise."""
    from topcoat.generators.presets import model_pair
    from topcoat.prompts import sample_prompts

    chosen = model_pair(pair)
    prompts = read_prompts_file(prompts_file) if prompts_file else sample_prompts(count, seed)
    licences = licence_lines(chosen)
    out.line(
        f"{len(prompts)} pairs of {describe_generator(chosen.distilled)} and {describe_generator(chosen.baseline)}"
    )
    for line in licences:
        out.line(line)
    if dry_run:
        tflop = _tflop(chosen, len(prompts))
        out.line(
            "computed cost: unknown for this model" if tflop is None else f"computed cost: {tflop:,.4g} TFLOP in all"
        )
        out.line(f"Nothing was made; leave --dry-run out to write {output}")
        out.result({"dry_run": True, "pairs": len(prompts), "licences": licences, "tflop": tflop})
        return

    from topcoat.pairs.build import build_pairs

    out.on_interrupt = "run the same command again: finished shards are kept"
    with out.progress("making pairs") as progress:
        dataset = build_pairs(
            output, prompts, chosen, batch_size=batch_size, shard_size=shard_size, on_progress=progress
        )
    failures = dataset.manifest.failures
    for failure in failures:
        out.warn(f"pair {failure.id} was not made: {failure.error}")
    out.line(f"{len(dataset)} pairs in {output}")
    out.line(f"Next: topcoat train unet --data {output} -o runs/unet")
    out.result(
        {
            "folder": str(output),
            "pairs": len(dataset),
            "failures": [failure.id for failure in failures],
            "digest": dataset.digest,
            "licences": licences,
        }
    )
    if failures:
        raise typer.Exit(1)


def _tflop(pair: ModelPair, count: int) -> float | None:
    """TFLOP of ``count`` pairs, or None for a model whose sizes are not known."""
    from topcoat.cost.flops import pair_cost

    try:
        table = pair_cost(pair)
    except ModelError:
        return None
    return count * (table.distilled.tflop + table.baseline.tflop)
