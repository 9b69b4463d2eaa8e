"""`topcoat train`: a head from a dataset of pairs."""

from __future__ import annotations

import os
import time
from collections import deque
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from topcoat.cli.console import Output, command, terminated_like_interrupted
from topcoat.cli.options import DryRunOption, FeaturesOption, command_line, free_folder
from topcoat.training import RUN_NAMES

if TYPE_CHECKING:
    from topcoat.pairs.dataset import PairDataset
    from topcoat.training import RunConfig, TrainRecord

_FEWEST_EVALUATED = 2


@command(
    "train",
    computes=True,
    examples=(
        "topcoat train unet --data pairs/ -o runs/unet",
        "topcoat train refiner --data pairs/ -o runs/refiner --init-from runs/unet",
        "topcoat train unet/whole --data pairs/ -o runs/more --init-from runs/unet",
        "topcoat train unpaired --data cheap/ --target liked/ -o runs/mine",
        "topcoat train paper-cyclegan --data pairs/ -o runs/narrow --set head.base_channels=16",
        "topcoat train my-run.yaml --data pairs/ -o runs/mine --dry-run",
        "accelerate launch --num_processes 2 -m topcoat train unet --data pairs/ -o runs/unet",
    ),
)
def train(
    out: Output,
    run: Annotated[
        str, typer.Argument(metavar="RUN", help=f"{', '.join(RUN_NAMES)}, one stage (unet/whole), or a settings file.")
    ],
    data: Annotated[Path, typer.Option(help="A folder that pairs build wrote; with --target a folder of pictures.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Run folder; the same command resumes.")],
    target: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A folder of pictures to come near to, of other subjects: for unpaired, paper-cyclegan and paper-esa.",
        ),
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=1, help="Images to see in all stages; the run's own by default.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Change a setting, such as batch_size=8, in all stages or in one (whole.batch_size=8); repeatable.",
        ),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="auto, float32, bfloat16 or float16; the run's own by default.")
    ] = None,
    accumulate: Annotated[
        int | None, typer.Option(min=1, help="Micro-batches of a batch: less memory, the same step.")
    ] = None,
    init_from: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Head folder or hub id to start from; a refiner or latent-unet then skips its unet stages.",
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Head folder or hub id whose images are learnt in place of the baseline's."),
    ] = None,
    pair: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="The pair whose VAE a latent-unet or refiner works with; by default the one that the data names.",
        ),
    ] = None,
    features: FeaturesOption = "embedded",
    dry_run: DryRunOption = False,
) -> None:
    """Train a head on pairs, or on two folders of unrelated pictures (--target); the run folder is then a head folder.

    --features chooses the best checkpoint, and makes no loss.
    """
    from topcoat.features import domain_flags
    from topcoat.generators.presets import model_pair
    from topcoat.generators.vae import load_vae
    from topcoat.heads.head import Head
    from topcoat.pairs.dataset import PairDataset
    from topcoat.pairs.importing import unrelated_source
    from topcoat.training.config import with_settings
    from topcoat.training.loop import train as train_head
    from topcoat.training.runs import run_config

    flags = {"precision": precision, "gradient_accumulation_steps": accumulate}
    given = [f"{name}={value}" for name, value in flags.items() if value is not None]
    given += [] if features == "embedded" else [f"validation_features={features}"]
    config = with_settings(run_config(run), [*(changes or ()), *given])
    start, taught_by = (None if name is None else Head.load(name) for name in (init_from, teacher))
    config = config.starting_from(start)
    config = config if images is None else config.with_images(images)
    first = os.environ.get("RANK", "0") == "0"  # of `accelerate launch` or torchrun; it reports for all
    if target is not None and dry_run:
        pictures = {"pictures": unrelated_source(data, target).count}
        _show_plan(out, config, pictures, "{pictures:,} pictures of each side", output)
        return
    dataset = PairDataset.open(data) if target is None else _unrelated(out, data, target, output, first)
    for settings in dataset.manifest.sides.values() if first else ():
        if note := settings["licence"].get("note"):  # of training on a generator's images
            out.warn(f"{settings['name']}: {note}")
    if first and dataset.manifest.unfinished:
        out.warn(dataset.manifest.unfinished)
    flags = domain_flags(config.last.validation_features, dataset.manifest.pair)
    if dry_run:
        if first:
            splits = {"train": len(dataset.split("train")), "val": len(dataset.split("val"))}
            _show_plan(out, config, splits, "{train:,} training pairs, validated on {val:,}", output)
        return
    if first:  # now, and not hours later
        with out.progress("comparing shards with their digests") as progress:
            dataset.verify(progress)
    vae = load_vae(model_pair(pair or dataset.manifest.pair).distilled) if config.needs_vae else None
    records = train_head(config, dataset, output, init_from=start, teacher=taught_by, vae=vae)
    if not first:
        deque(records, maxlen=0)
        return
    out.warn(*(f"the best checkpoint: {flag}" for flag in flags))
    out.on_interrupt = "run the same command again: it goes on from the last checkpoint"
    total, last = config.images, None
    with terminated_like_interrupted(), closing(records), out.progress("training") as progress:
        for record in records:
            last = record
            progress(record.images_seen, total, _note(record, len(config.stages)))
    done = f"Head written to {output}" if last else f"Nothing to train: the run in {output} has seen all its images"
    out.line(done, *_next_lines(dataset, output, data))
    settings = {"--target": target, "--images": images, "--teacher": teacher, "--pair": pair}
    more = [word for option, value in settings.items() if value is not None for word in (option, value)]
    more += [f"--set={change}" for change in (*(changes or ()), *given)]
    onward = ("train", run, "--data", data, "-o", free_folder(output), "--init-from", output, *more)
    out.line(f"To train on, from this head: {command_line(*onward)}")
    seen, record = (total, None) if last is None else (last.images_seen, last.as_dict())
    out.result({"folder": str(output), "images": seen, "last": record, "flags": flags})


def _next_lines(dataset: PairDataset, output: Path, data: Path) -> list[str]:
    """How to go on from a head: evaluation on a split that has pairs for it; without pairs, use."""
    if dataset.manifest.unrelated:
        return [f"Next: {command_line('enhance', data, '-o', free_folder(Path('enhanced')), '--head', output)}"]
    for split in ("test", "val", "train"):
        if len(dataset.split(split)) >= _FEWEST_EVALUATED:
            chosen = [] if split == "test" else ["--split", split]
            return [f"Next: {command_line('evaluate', '--data', data, '--head', output, *chosen)}"]
    return []


def _unrelated(out: Output, data: Path, target: Path, output: Path, first: bool) -> PairDataset:
    """Two folders of pictures as a dataset inside the run's folder, which the first process makes."""
    from topcoat.pairs.dataset import PairDataset
    from topcoat.pairs.importing import import_unrelated

    folder = output / ".pictures"
    if not first:
        while not (folder / "manifest.json").exists():
            time.sleep(1)
        return PairDataset.open(folder)
    with out.progress("checking pictures") as progress:
        dataset = import_unrelated(data, target, folder, on_progress=progress)
    out.warn(*(f"{failure.id} was left out: {failure.error}" for failure in dataset.manifest.failures))
    return dataset


def _show_plan(out: Output, config: RunConfig, counts: dict[str, int], sentence: str, output: Path) -> None:
    settings = config if len(config.stages) > 1 else config.last
    out.line(
        f"{config.images:,} images from {sentence.format(**counts)}",
        settings.model_dump_json(indent=2),
        f"Nothing was trained; leave --dry-run out to write {output}",
    )
    out.result({"dry_run": True, "images": config.images, "pairs": counts, "config": settings.model_dump(mode="json")})


def _note(record: TrainRecord, stages: int) -> str:
    stage = f"{record.stage}, " if stages > 1 else ""
    skipped = f", {record.skipped_steps} skipped" if record.skipped_steps else ""
    return f"{stage}loss {record.loss:.4f}, {record.images_per_second:.0f} images/s{skipped}"
