"""`topcoat pairs dedupe`: leave out subjects that are there twice."""

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
    """Drop the later of two pairs whose subjects a feature net can hardly tell apart."""
    from topcoat.pairs.dataset import PairDataset
    from topcoat.pairs.dropping import drop_pairs
    from topcoat.pairs.duplicates import NAME, near_duplicates

    # a drop that was stopped is finished before anything is judged
    dataset = PairDataset.open(folder) if dry_run else drop_pairs(folder, {}, NAME)
    count = len(dataset)
    with out.progress("looking at subjects") as progress:
        verdicts = near_duplicates(dataset, threshold, on_progress=progress)
    dropped = {name: verdict for name, verdict in verdicts.items() if not verdict.keep}
    for name, verdict in list(dropped.items())[:_SHOWN]:
        out.line(f"{name}: {verdict.reason}")
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
            "dropped": {name: {"reason": verdict.reason, "score": verdict.score} for name, verdict in dropped.items()},
            "left": len(dataset) if not dry_run else count - len(dropped),
        }
    )
