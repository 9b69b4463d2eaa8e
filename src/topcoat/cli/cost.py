"""`topcoat cost`: the computed cost of a pair, with and without a head, at several step counts."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.options import NO_HEAD, PairOption
from topcoat.errors import UsageError

if TYPE_CHECKING:
    from topcoat.cost.table import CostTable

app = typer.Typer()


@command(
    app,
    "cost",
    examples=(
        "topcoat cost",
        "topcoat cost --pair flux1 --size 1024 --baseline-steps 20,28,50 --distilled-steps 1,2,4",
    ),
)
def cost(
    out: Output,
    pair: PairOption = "mini",
    head: Annotated[
        str | None,
        typer.Option("--head", metavar="DIR", help="Head folder; the embedded one by default; or none."),
    ] = None,
    size: Annotated[int | None, typer.Option("--size", min=16, help="Side in px; the pair's own by default.")] = None,
    baseline_steps: Annotated[str, typer.Option(help="Step counts of the baseline, with commas.")] = "28",
    distilled_steps: Annotated[str, typer.Option(help="Step counts of the distilled model; its own by default.")] = "",
) -> None:
    """Count TFLOP per image: text encoders, steps, decode and head. Computed from the configs, no weights needed."""
    from topcoat.cost.flops import pair_cost
    from topcoat.generators.presets import model_pair
    from topcoat.heads.base import Head

    baseline_counts = _counts(baseline_steps, "--baseline-steps")
    distilled_counts = _counts(distilled_steps, "--distilled-steps")
    chosen = model_pair(pair)
    opened = None if head == NO_HEAD else Head.default() if head is None else Head.from_pretrained(head)
    table = pair_cost(chosen, opened, size, baseline_steps=baseline_counts)
    tables = [_at_steps(table, count) for count in distilled_counts or [table.distilled.steps]]
    for number, item in enumerate(tables):
        if number:
            out.line("")
        out.line(item.as_text())
    out.result({"tables": [item.as_dict() for item in tables]})


def _counts(text: str, option: str) -> list[int]:
    """``"20,28"`` as ``[20, 28]``."""
    try:
        counts = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UsageError(f"{option} {text!r} is not a list of numbers; write it like 20,28,50") from None
    if any(count < 1 for count in counts):
        raise UsageError(f"{option} {text!r} has a count below 1; use 1 or more")
    return counts


def _at_steps(table: CostTable, steps: int) -> CostTable:
    """The same table with the distilled model at another step count."""
    distilled, enhanced = (
        dataclasses.replace(part, steps=steps, rows=tuple(row.with_times(steps) for row in part.rows))
        for part in (table.distilled, table.enhanced)
    )
    return dataclasses.replace(table, distilled=distilled, enhanced=enhanced)
