"""`topcoat frontier`: quality against cost of many arms, and the cheapest one that is good enough."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.options import (
    BaselineStepsOption,
    BatchSizeOption,
    DistilledStepsOption,
    DryRunOption,
    FeaturesOption,
    HeldOutSeedOption,
    IdentityOption,
    OffloadOption,
    PairOption,
    held_out_subjects,
    need_head,
    number_list,
)
from topcoat.embedded import DEFAULT_HEAD
from topcoat.errors import UsageError

if TYPE_CHECKING:
    from topcoat.prompts import Prompt


@command(
    "frontier",
    computes=True,
    examples=(
        "topcoat frontier --pair mini --count 256 --target-gap 0.4",
        "topcoat frontier --heads runs/unet --heads runs/decoder --strengths 0.5,1 -o out/frontier",
        "topcoat generate 'studio portrait of an old man' --config out/frontier/pipeline.yaml",
    ),
)
def frontier(
    out: Output,
    pair: PairOption = "mini",
    data: Annotated[
        Path | None, typer.Option(help="Pairs whose test split gives prompts and seeds; else held-out prompts.")
    ] = None,
    heads: Annotated[list[str] | None, typer.Option(help="Head folders or hub ids; give it once for each.")] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=2, help="Subjects; 1,000 or more to quote it.")] = 256,
    distilled_steps: DistilledStepsOption = (1, 2, 4),
    strengths: Annotated[
        Sequence[float],
        typer.Option(parser=number_list, metavar="X,X", help="Strengths of heads above 0, with commas."),
    ] = (0.5, 0.75, 1),
    baseline_steps: BaselineStepsOption = (4, 8, 14, 28),
    target_gap: Annotated[
        float | None, typer.Option(help="Choose the cheapest arm closing this share (0.9 = 90 %).")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option(help="Choose the best arm of at most this many TFLOP per image.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the report.")] = Path("out/frontier"),
    seed: HeldOutSeedOption = 1,
    batch_size: BatchSizeOption = 8,
    features: FeaturesOption = "embedded",
    identity: IdentityOption = None,
    offload: OffloadOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Try steps x head x strength on held-out subjects, draw quality against cost, and choose.

    Generated images are kept in OUT/cache: the same command goes on, and a new head costs minutes, not hours.
    """
    from topcoat.benchmark.arms import grid
    from topcoat.benchmark.compare import sweep
    from topcoat.benchmark.frontier import Target, points_of, save_choice
    from topcoat.generators.presets import model_pair
    from topcoat.pairs.dataset import PairDataset

    target = Target(target_gap, max_cost)
    chosen_pair = model_pair(pair).offloaded(offload)
    folders = heads or ([DEFAULT_HEAD] if chosen_pair.name == "mini" else [])
    if not folders:
        raise UsageError(f"no head is shipped for the pair {chosen_pair.name}; give --heads DIR")
    sources = dict(zip(_names(folders), folders, strict=True))
    opened = {name: need_head(folder, chosen_pair.name) for name, folder in sources.items()}
    decoders = [name for name, head in opened.items() if head.input == "latent"]
    image_heads = [name for name in opened if name not in decoders]
    arms = grid(distilled_steps, image_heads, strengths, baseline_steps, decoders)
    prompts: Sequence[str | Prompt]
    seeds: Sequence[int]
    if data is None:
        prompts, seeds = held_out_subjects(chosen_pair.name, count, seed)
    else:
        records = PairDataset.open(data).split("test").records[:count]
        if len(records) < 2:
            raise UsageError(f"the test split of {data} holds {len(records)} pairs; build more, or leave --data out")
        prompts, seeds = [record.prompt for record in records], [record.seed for record in records]
    out.line(f"{len(arms)} arms on {len(prompts)} subjects of the pair {chosen_pair.name}")
    if dry_run:
        out.line(*(f"  {arm.label}" for arm in arms), "Nothing was generated; leave --dry-run out to start")
        out.result({"dry_run": True, "arms": [arm.label for arm in arms], "n": len(prompts)})
        return

    from topcoat.reports.benchmark import write_benchmark
    from topcoat.reports.benchmark_tables import SHORT, headline, table

    out.lock(output)
    cache = output / "cache"
    out.on_interrupt = f"run the same command again: generated images are kept in {cache}"
    with out.progress("frontier") as progress:
        result = sweep(
            chosen_pair, opened, arms, prompts, seeds, cache=cache, batch_size=batch_size, features=features,
            identity=identity, on_progress=progress,
        )  # fmt: skip
    choice = target.choose(points_of(result, to_choose=True))
    chosen = None if choice is None else choice.name
    write_benchmark(output, result, chosen=chosen, target=target)
    rows = table(result, SHORT, ends=False)
    out.table(f"{result.pair}, N = {result.n}; TFLOP computed, everything else measured", rows.columns, rows.rows)
    out.line(headline(result, chosen, target))
    if chosen is not None:
        config = output / "pipeline.yaml"
        save_choice(config, result, chosen, pair, sources)
        out.line(f"Chosen arm: {config} (topcoat generate PROMPT --config {config})")
    out.line(f"Report: {output / 'frontier.html'}")
    out.result(result.as_dict() | {"target": str(target), "chosen": chosen})
    if target and chosen is None:
        raise typer.Exit(1)


def _names(folders: list[str]) -> list[str]:
    names = [Path(folder).name or folder for folder in folders]
    return names if len(set(names)) == len(names) else folders
