"""`topcoat evaluate`: numbers for folders of images, or for a head on a dataset of pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.options import HeadOption, StrengthOption, need_head
from topcoat.errors import UsageError
from topcoat.prompts import Split

if TYPE_CHECKING:
    from torch import Tensor

    from topcoat.cli.evaluation_sources import Source
    from topcoat.evaluation import Evaluation

app = typer.Typer()

_SHOWN = 8
_ALL = "all"


@command(
    app,
    "evaluate",
    examples=(
        "topcoat evaluate --data pairs/ --split test -o report/",
        "topcoat evaluate --data pairs/ --head runs/unet --floor other-seeds/ -o report/",
        "topcoat evaluate --distilled a/ --enhanced b/ --baseline c/ --floor d/ --groups people.csv -o report/",
        "topcoat evaluate --enhanced b/ --baseline c/ --features dinov2 --metrics distances,diversity",
    ),
)
def evaluate(
    out: Output,
    distilled: Annotated[Path | None, typer.Option(help="Folder of the distilled images.")] = None,
    enhanced: Annotated[Path | None, typer.Option(help="Folder of the enhanced images, named like them.")] = None,
    baseline: Annotated[Path | None, typer.Option(help="Folder of the baseline images, named like them.")] = None,
    floor: Annotated[Path | None, typer.Option(help="Folder of baseline images at other seeds.")] = None,
    data: Annotated[Path | None, typer.Option(help="Pairs (topcoat pairs build), instead of the first three.")] = None,
    head: HeadOption = None,
    strength: StrengthOption = 1.0,
    split: Annotated[Split, typer.Option(help="The part of the pairs to use.")] = "test",
    features: Annotated[
        str, typer.Option(help="Feature net: mini, dinov2, clip or inception; dinov2:FOLDER for weights of your own.")
    ] = "mini",
    metrics: Annotated[
        str,
        typer.Option(
            help="all, or some of distances,diversity,paired,identity,artefacts,groups,two-sample with commas between."
        ),
    ] = _ALL,
    groups: Annotated[
        Path | None,
        typer.Option(help="CSV with a column 'name' (picture names) and any columns to compare groups by."),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps features, so that a second run is fast.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of intervals, of FD-infinity and of the two-sample test.")] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for report.json, report.md and contact.png.")
    ] = None,
) -> None:
    """Measure how near enhanced images are to the baseline's, how much of the gap is closed, and what is broken.

    Give either folders of images or --data; with --floor the share of the gap closed is measured too. A bad file is
    listed and its subject left out (exit code 1).
    """
    from topcoat.cli.evaluation_sources import from_folders, from_pairs, read_folder
    from topcoat.evaluation import evaluate as measure

    chosen = _metrics(metrics)
    if data is not None:
        if distilled or enhanced or baseline or groups:
            raise UsageError("--data replaces --distilled, --enhanced, --baseline and --groups; give one or the other")
        source = from_pairs(data, split, need_head(head, "mini"), strength)
    elif enhanced is not None and baseline is not None:
        if head is not None:
            raise UsageError("--head is for --data; with folders the enhanced images are there already")
        source = from_folders(out, enhanced, baseline, distilled, groups)
    else:
        raise UsageError("nothing to compare: give --enhanced and --baseline folders, or --data with pairs")
    others = None if floor is None else read_folder(floor, source.bad)
    streams = source.streams()
    evaluation = measure(
        _told(out, streams["enhanced"], source.count),
        reference=streams["baseline"],
        distilled=streams.get("distilled"),
        floor=others,
        features=features,
        metrics=chosen,
        groups=source.groups,
        cache=cache,
        seed=seed,
    )
    for problem in source.bad:
        out.warn(problem)
    out.line(evaluation.markdown())
    if output is not None:
        _write(output, evaluation, source)
        out.line(f"Written to {output}")
    out.result(evaluation.as_dict() | {"left_out": source.bad})
    if source.bad:
        raise typer.Exit(1)


def _metrics(text: str) -> Sequence[str]:
    from topcoat.evaluation import METRICS

    return METRICS if text == _ALL else [name.strip() for name in text.split(",") if name.strip()]


def _told(out: Output, images: Iterable[Tensor], count: int) -> Iterator[Tensor]:
    """``images``, with progress as they are read."""
    with out.progress("evaluating") as progress:
        for done, image in enumerate(images, start=1):
            yield image
            progress(done, count)


def _write(output: Path, evaluation: Evaluation, source: Source) -> None:
    import torch

    from topcoat.contact import contact_sheet
    from topcoat.files import atomic_path, write_json, write_text

    write_json(output / "report.json", evaluation.as_dict() | {"left_out": source.bad})
    write_text(output / "report.md", evaluation.markdown())
    shown = [
        (name, torch.stack(source.first[name][:_SHOWN]))
        for name in ("distilled", "enhanced", "baseline")
        if source.first.get(name)
    ]
    with atomic_path(output / "contact.png") as temporary:
        contact_sheet(shown).save(temporary, "PNG")
