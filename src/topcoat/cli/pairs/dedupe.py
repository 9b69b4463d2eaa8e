"""`topcoat pairs dedupe`: drop subjects that occur twice."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.options import DryRunOption
from topcoat.cli.pairs.app import app

_SHOWN = 20


@command(
    app,
    "dedupe",
    examples=("topcoat pairs dedupe pairs/ --dry-run", "topcoat pairs dedupe pairs/ --threshold 0.9"),
)
def dedupe(
    out: Output,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that pairs build or import wrote.")],
    threshold: Annotated[
        float, typer.Option("--threshold", help="Similarity from which two subjects count as one, up to 1.")
    ] = 0.95,
    dry_run: DryRunOption = False,
) -> None:
    """Drop the later of two pairs whose subjects a feature net cannot distinguish."""
    from topcoat.pairs.dataset import PairDataset
    from topcoat.pairs.duplicates import NAME, drop_pairs, near_duplicates

    # finish a drop that was interrupted, before anything is compared
    dataset = PairDataset.open(folder) if dry_run else drop_pairs(folder, {}, NAME)
    count = len(dataset)
    with out.progress("comparing subjects") as progress:
        results = near_duplicates(dataset, threshold, on_progress=progress)
    dropped = {name: result for name, result in results.items() if not result.keep}
    for name, result in list(dropped.items())[:_SHOWN]:
        out.line(f"{name}: {result.reason}")
    if len(dropped) > _SHOWN:
        out.line(f"and {len(dropped) - _SHOWN} more; --json lists all")
    if dropped and not dry_run:
        out.on_interrupt = "run the same command again: what was dropped stays so"
        dataset = drop_pairs(folder, dropped, NAME)
    if dry_run:
        out.line(f"{len(dropped)} of {count} pairs would be dropped; nothing was changed")
    else:
        out.line(f"{len(dropped)} of {count} pairs dropped, {len(dataset)} left in {folder}")
    out.result(
        {
            "folder": str(folder),
            "dry_run": dry_run,
            "threshold": threshold,
            "pairs": count,
            "dropped": {name: {"reason": result.reason, "score": result.score} for name, result in dropped.items()},
            "left": len(dataset) if not dry_run else count - len(dropped),
        }
    )
