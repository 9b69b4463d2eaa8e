"""`topcoat train`: a head from a dataset of pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.options import DryRunOption

if TYPE_CHECKING:
    from topcoat.pairs.dataset import PairDataset

app = typer.Typer()


@command(
    app,
    "train",
    examples=(
        "topcoat train unet --data pairs/ -o runs/unet",
        "topcoat train paper-unet --data pairs/ -o runs/paper --images 200000",
        "topcoat train my-run.yaml --data pairs/ -o runs/mine --dry-run",
    ),
)
def train(
    out: Output,
    run: Annotated[str, typer.Argument(metavar="RUN", help="A named run (unet, paper-unet, debug) or a YAML file.")],
    data: Annotated[Path, typer.Option("--data", help="A folder that pairs build wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Run folder; the same command resumes.")],
    images: Annotated[
        int | None, typer.Option("--images", min=1, help="Images to see; the run's own by default.")
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Train a head on pairs; the run folder is then a head folder for every other command."""
    from topcoat.pairs.dataset import PairDataset
    from topcoat.training import train as train_head
    from topcoat.training.runs import run_config

    config = run_config(run)
    dataset = PairDataset.open(data)
    total = images or config.images
    splits = {"train": len(dataset.split("train")), "val": len(dataset.split("val"))}
    _warn_of_licences(out, dataset)
    if dry_run:
        out.line(f"{total:,} images from {splits['train']:,} training pairs, validated on {splits['val']:,}")
        out.line(config.model_dump_json(indent=2))
        out.line(f"Nothing was trained; leave --dry-run out to write {output}")
        out.result({"dry_run": True, "images": total, "pairs": splits, "config": config.model_dump(mode="json")})
        return
    out.on_interrupt = "run the same command again: it goes on from the last checkpoint"
    last = None
    with out.progress("training") as progress:
        for record in train_head(config, dataset, output, images=images):
            last = record
            progress(record.images_seen, total, f"loss {record.loss:.4f}, {record.images_per_second:.0f} images/s")
    out.line(f"Head written to {output}")
    out.line(f"Next: topcoat evaluate --data {data} --head {output}")
    out.result(
        {
            "folder": str(output),
            "images": total if last is None else last.images_seen,
            "last": None if last is None else last.as_dict(),
        }
    )


def _warn_of_licences(out: Output, dataset: PairDataset) -> None:
    """Say again what the generators' licences say of training on their images."""
    for side in dataset.manifest.identity.values():
        note = side.get("licence", {}).get("note")
        if note:
            out.warn(f"{side['name']}: {note}")
