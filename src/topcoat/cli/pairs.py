"""`topcoat pairs`: datasets of distilled and baseline images of the same subjects."""

from __future__ import annotations

from collections import Counter
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
from topcoat.errors import ModelError

if TYPE_CHECKING:
    from topcoat.generators.base import ModelPair
    from topcoat.prompts import Split

app = typer.Typer(name="pairs", help="Build and look at datasets of pairs.", no_args_is_help=True)


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


@command(app, "inspect", examples=("topcoat pairs inspect pairs/",))
def inspect(
    out: Output,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that pairs build wrote.")],
) -> None:
    """Say what a dataset holds, after comparing every file with the digest it was built with."""
    from topcoat.pairs.dataset import PairDataset

    dataset = PairDataset.open(folder)
    dataset.verify()
    names: tuple[Split, ...] = ("train", "val", "test")
    splits = {name: len(dataset.split(name)) for name in names}
    failures = len(dataset.manifest.failures)
    size = tuple(dataset[0].distilled.shape[-2:]) if len(dataset) else (0, 0)
    attributes: dict[str, Counter[str]] = {}
    for record in dataset.records:
        for name, value in record.attributes.items():
            attributes.setdefault(name, Counter())[value] += 1
    out.line(f"{len(dataset)} pairs of {dataset.manifest.pair}, {size[1]} x {size[0]} px, {failures} failed")
    out.line(f"digest {dataset.digest}")
    out.line(", ".join(f"{name} {number}" for name, number in splits.items()))
    rows = [
        (name, ", ".join(f"{word} {number}" for word, number in counts.most_common()))
        for name, counts in attributes.items()
    ]
    if rows:
        out.table("Attributes", ("attribute", "pairs of each"), rows)
    out.result(
        {
            "pair": dataset.manifest.pair,
            "pairs": len(dataset),
            "failures": failures,
            "digest": dataset.digest,
            "splits": splits,
            "size_px": {"width": size[1], "height": size[0]},
            "attributes": attributes,
        }
    )


def _tflop(pair: ModelPair, count: int) -> float | None:
    """TFLOP of ``count`` pairs, or None for a model whose sizes are not known."""
    from topcoat.cost.flops import pair_cost

    try:
        table = pair_cost(pair)
    except ModelError:
        return None
    return count * (table.distilled.tflop + table.baseline.tflop)
