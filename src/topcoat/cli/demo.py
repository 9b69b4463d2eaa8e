"""`topcoat demo`: the main job on the embedded pair, ending in a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.options import (
    FeaturesOption,
    HeadOption,
    HeldOutSeedOption,
    IdentityOption,
    OffloadOption,
    PairOption,
    held_out_subjects,
    need_head,
)


@command("demo", computes=True, examples=("topcoat demo", "topcoat demo --count 256 -o out/large", "make demo"))
def demo(
    out: Output,
    count: Annotated[
        int,
        typer.Option(
            "--count", "-n", min=8, help="Held-out prompts; set distances of fewer than about 150 say little."
        ),
    ] = 192,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the report.")] = Path("out/demo"),
    seed: HeldOutSeedOption = 1,
    pair: PairOption = "mini",
    head: HeadOption = None,
    features: FeaturesOption = "embedded",
    identity: IdentityOption = None,
    offload: OffloadOption = None,
) -> None:
    """Run held-out prompts through distilled, distilled + head and baseline; measure; write a report."""
    from topcoat.benchmark.compare import run_benchmark
    from topcoat.generators.presets import model_pair
    from topcoat.reports.benchmark import write_benchmark
    from topcoat.reports.benchmark_tables import summary

    chosen = model_pair(pair).offloaded(offload)
    opened = need_head(head, chosen.name)
    out.lock(output)
    with out.progress("demo") as progress:
        prompts, seeds = held_out_subjects(chosen.name, count, seed)
        result = run_benchmark(
            chosen, opened, prompts, seeds, features=features, identity=identity, on_progress=progress
        )
    write_benchmark(output, result)
    out.line(f"\n{summary(result)}\n", f"Report: {output / 'report.html'}")
    out.result(result.as_dict())
