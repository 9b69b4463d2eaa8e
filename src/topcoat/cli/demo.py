"""`topcoat demo`: the main job on the embedded pair, ending in a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.options import HELD_OUT_FIRST_SEED, HeadOption, PairOption, need_head
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
    from topcoat.generators.presets import model_pair
    from topcoat.prompts import held_out_prompts, style_of_pair
    from topcoat.proof import prove

    if seed < 0:
        raise UsageError(f"seed {seed} is negative; use 0 or more")
    chosen = model_pair(pair)
    opened = need_head(head, chosen.name)
    prompts = held_out_prompts(count, seed, style_of_pair(chosen.name))
    seeds = range(HELD_OUT_FIRST_SEED, HELD_OUT_FIRST_SEED + count)
    with out.progress("demo") as progress:
        proof = prove(chosen, opened, prompts, seeds, output=output, on_progress=progress)
    out.line(f"\n{proof.summary()}\n")
    out.line(f"Report: {output / 'report.html'}")
    out.result(proof.as_dict())
