"""`topcoat prompts`: balanced portrait prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.options import prompt_record
from topcoat.errors import UsageError

app = typer.Typer()


@command(
    app,
    "prompts",
    examples=(
        "topcoat prompts --count 5",
        "topcoat prompts --count 1000 --seed 3 -o prompts.jsonl",
    ),
)
def prompts(
    out: Output,
    count: Annotated[int, typer.Option("--count", "-n", help="How many; the first ones stay the same for more.")] = 10,
    seed: Annotated[int, typer.Option("--seed", help="0 or more; another seed gives other prompts.")] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A .txt file (one a line) or .jsonl (with the attributes).")
    ] = None,
) -> None:
    """Sample portrait prompts, every attribute balanced."""
    from topcoat.files import write_text
    from topcoat.prompts import sample_prompts

    if output is not None and output.suffix not in (".txt", ".jsonl"):
        raise UsageError(f"{output} has no type that is written here; end it in .txt or .jsonl")
    sampled = sample_prompts(count, seed)
    if output is None:
        for prompt in sampled:
            out.line(prompt.text)
    else:
        as_records = output.suffix == ".jsonl"
        lines = [json.dumps(prompt_record(prompt)) if as_records else prompt.text for prompt in sampled]
        write_text(output, "\n".join(lines) + "\n")
        out.line(f"{count} prompts in {output}")
    out.result({"count": count, "seed": seed, "prompts": [prompt_record(prompt) for prompt in sampled]})
