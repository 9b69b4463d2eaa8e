"""`topcoat demo`: the main job on the embedded pair, ending in a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.options import HeadOption, PairOption, need_head
from topcoat.errors import UsageError

app = typer.Typer()


@command(app, "demo", examples=("topcoat demo", "topcoat demo --count 256 -o out/large", "make demo"))
def demo(
    out: Output,
    count: Annotated[
        int,
        typer.Option(
            "--count", "-n", min=8, help="Held-out prompts; set distances of fewer than about 150 say little."
        ),
    ] = 192,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the report.")] = Path("out/demo"),
    seed: Annotated[int, typer.Option("--seed", help="Seed of the prompts, 0 or more.")] = 1,
    pair: PairOption = "mini",
    head: HeadOption = None,
) -> None:
    """Run held-out prompts through distilled, distilled + head and baseline; measure; write a report."""
    from topcoat.benchmark.compare import run_benchmark
    from topcoat.generators.presets import model_pair
    from topcoat.prompts import held_out_prompts, style_of_pair
    from topcoat.reports.benchmark import write_benchmark
    from topcoat.reports.benchmark_tables import summary
    from topcoat.seeds import noise_seeds

    if seed < 0:
        raise UsageError(f"seed {seed} is negative; use 0 or more")
    chosen = model_pair(pair)
    opened = need_head(head, chosen.name)
    prompts = held_out_prompts(count, seed, style_of_pair(chosen.name))
    with out.progress("demo") as progress:
        result = run_benchmark(chosen, opened, prompts, noise_seeds("held-out", count), on_progress=progress)
    write_benchmark(output, result)
    out.line(f"\n{summary(result)}\n")
    out.line(f"Report: {output / 'report.html'}")
    out.result(result.as_dict())
