"""`topcoat train`: a head from a dataset of pairs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from topcoat.cli.console import Output, command, terminated_like_interrupted
from topcoat.cli.options import DryRunOption

if TYPE_CHECKING:
    from topcoat.pairs.dataset import PairDataset
    from topcoat.training import TrainConfig, TrainRecord

app = typer.Typer()


@command(
    app,
    "train",
    examples=(
        "topcoat train unet --data pairs/ -o runs/unet",
        "topcoat train refiner --data pairs/ -o runs/refiner --init-from runs/unet",
        "topcoat train paper-unet --data pairs/ -o runs/paper --images 200000",
        "topcoat train paper-cyclegan --data pairs/ -o runs/narrow --set head.base_channels=16",
        "topcoat train my-run.yaml --data pairs/ -o runs/mine --init-from runs/unet --dry-run",
        "accelerate launch --num_processes 2 -m topcoat train unet --data pairs/ -o runs/unet",
    ),
)
def train(
    out: Output,
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="best-unet (or unet), finish-unet, latent-unet, taught-latent-unet, finish-latent-unet, refiner, "
            "decoder, finish-decoder, "
            "paper-unet, paper-cyclegan, paper-esa, debug, or a YAML file.",
        ),
    ],
    data: Annotated[Path, typer.Option("--data", help="A folder that pairs build wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Run folder; the same command resumes.")],
    images: Annotated[
        int | None, typer.Option("--images", min=1, help="Images to see; the run's own by default.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change a setting, such as batch_size=8; may be repeated."),
    ] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="auto, float32, bfloat16 or float16; the run's own by default.")
    ] = None,
    accumulate: Annotated[
        int | None, typer.Option("--accumulate", min=1, help="Pieces to take a batch in: less memory, the same step.")
    ] = None,
    init_from: Annotated[
        str | None,
        typer.Option("--init-from", metavar="DIR", help="Head folder or hub id to start from (fine-tuning)."),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option("--teacher", metavar="DIR", help="Head folder or hub id whose images are learnt instead of y."),
    ] = None,
    pair: Annotated[
        str | None,
        typer.Option(
            "--pair",
            metavar="NAME|FILE",
            help="The pair whose VAE a latent-unet or refiner works with; by default the one that the data names.",
        ),
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Train a head on pairs; the run folder is then a head folder for every other command."""
    from topcoat.generators.presets import model_pair
    from topcoat.generators.vae import load_vae
    from topcoat.heads.head import Head
    from topcoat.pairs.dataset import PairDataset
    from topcoat.training import train as train_head
    from topcoat.training.runs import run_config, with_settings

    flags = {"precision": precision, "accumulate": accumulate}
    config = with_settings(
        run_config(run), [*(changes or ()), *(f"{name}={value}" for name, value in flags.items() if value is not None)]
    )
    start, taught_by = (None if name is None else Head.load(name) for name in (init_from, teacher))
    dataset = PairDataset.open(data)
    total = images or config.images
    first = _is_first_process()  # which reports for all
    if first:
        _warn_of_licences(out, dataset)
    if dry_run:
        if first:
            _tell_plan(out, config, total, dataset, output)
        return
    vae = None
    if config.head.latent_part is not None:
        vae = load_vae(model_pair(pair or dataset.manifest.pair).distilled)
    if not first:
        for _ in train_head(config, dataset, output, images=images, init_from=start, teacher=taught_by, vae=vae):
            pass
        return
    out.on_interrupt = "run the same command again: it goes on from the last checkpoint"
    last = None
    with terminated_like_interrupted(), out.progress("training") as progress:
        for record in train_head(config, dataset, output, images=images, init_from=start, teacher=taught_by, vae=vae):
            last = record
            progress(record.images_seen, total, _note(record))
    out.line(f"Head written to {output}")
    out.line(f"Next: topcoat evaluate --data {data} --head {output}")
    out.result(
        {
            "folder": str(output),
            "images": total if last is None else last.images_seen,
            "last": None if last is None else last.as_dict(),
        }
    )


def _tell_plan(out: Output, config: TrainConfig, images: int, dataset: PairDataset, output: Path) -> None:
    splits = {"train": len(dataset.split("train")), "val": len(dataset.split("val"))}
    out.line(f"{images:,} images from {splits['train']:,} training pairs, validated on {splits['val']:,}")
    out.line(config.model_dump_json(indent=2))
    out.line(f"Nothing was trained; leave --dry-run out to write {output}")
    out.result({"dry_run": True, "images": images, "pairs": splits, "config": config.model_dump(mode="json")})


def _note(record: TrainRecord) -> str:
    skipped = f", {record.skipped_steps} skipped" if record.skipped_steps else ""
    return f"loss {record.loss:.4f}, {record.images_per_second:.0f} images/s{skipped}"


def _is_first_process() -> bool:
    """False in the other processes of ``accelerate launch`` and ``torchrun``."""
    return os.environ.get("RANK", "0") == "0"


def _warn_of_licences(out: Output, dataset: PairDataset) -> None:
    """Say again what the generators' licences say of training on their images."""
    for settings in dataset.manifest.sides.values():
        note = settings["licence"].get("note")
        if note:
            out.warn(f"{settings['name']}: {note}")
