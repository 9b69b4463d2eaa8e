"""`topcoat pairs push`: a dataset to the Hugging Face hub."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.options import DryRunOption
from topcoat.cli.pairs.app import app


@command(
    app,
    "push",
    examples=("topcoat pairs push pairs/ me/portrait-pairs", "topcoat pairs push pairs/ me/portrait-pairs --dry-run"),
)
def push(
    out: Output,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that pairs build or import wrote.")],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="Dataset repository, owner/name; created if missing.")],
    private: Annotated[
        bool, typer.Option("--private/--public", help="Who may see a repository that is created now.")
    ] = True,
    dry_run: DryRunOption = False,
) -> None:
    """Upload what the hub lacks; the same command resumes, and appended pairs rename nothing."""
    from topcoat.pairs.hub import push_pairs

    out.on_interrupt = "run the same command again: shards that arrived are not sent twice"
    done = push_pairs(folder, repo, private=private, dry_run=dry_run)
    if done.foreign:
        out.warn(f"{len(done.foreign)} Parquet files in {repo} are not of this dataset: {', '.join(done.foreign[:3])}")
    size = f"{done.bytes / 1e6:,.1f} MB"
    if dry_run:
        out.line(
            f"{len(done.sent)} files ({size}) would be sent, {len(done.unchanged)} are unchanged; nothing was sent"
        )
    else:
        out.line(f"{len(done.sent)} files sent ({size}), {len(done.unchanged)} unchanged: {done.url}")
    out.result({"dry_run": dry_run, **asdict(done)})
