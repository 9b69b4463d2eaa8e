"""`topcoat evaluate`: numbers for folders of images, or for a head on a dataset of pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.options import HeadOption, StrengthOption, need_head
from topcoat.errors import UsageError
from topcoat.prompts import Split

if TYPE_CHECKING:
    from torch import Tensor

    from topcoat.evaluation import Evaluation
    from topcoat.heads.base import Head

app = typer.Typer()

_SHOWN = 8


@command(
    app,
    "evaluate",
    examples=(
        "topcoat evaluate --data pairs/ --split test -o report/",
        "topcoat evaluate --data pairs/ --head runs/unet --floor other-seeds/ -o report/",
        "topcoat evaluate --distilled a/ --enhanced b/ --baseline c/ --floor d/ -o report/",
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
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for evaluation.json, contact.png.")
    ] = None,
) -> None:
    """Measure how near enhanced images are to the baseline's, and how much of the gap is closed.

    Give either three folders of images or --data; with --floor the share of the gap closed is measured too.
    """
    from topcoat.evaluation import evaluate as measure

    if data is not None:
        if distilled or enhanced or baseline:
            raise UsageError("--data replaces --distilled, --enhanced and --baseline; give one or the other")
        source = _from_pairs(data, split, need_head(head, "mini"), strength)
    elif enhanced is not None and baseline is not None:
        source = _from_folders(out, enhanced, baseline, distilled)
    else:
        raise UsageError("nothing to compare: give --enhanced and --baseline folders, or --data with pairs")
    evaluation = measure(
        _told(out, source.enhanced, source.count),
        reference=source.baseline,
        distilled=source.distilled,
        floor=None if floor is None else _Folder(floor),
    )
    _print(out, evaluation)
    if output is not None:
        _write(output, evaluation, source)
        out.line(f"\nWritten to {output}")
    out.result(evaluation.as_dict())


@dataclass
class _Source:
    count: int
    enhanced: Iterable[Tensor]
    baseline: Iterable[Tensor]
    distilled: Iterable[Tensor] | None


class _Enhanced:
    """A head's outputs for a sequence of images ``(3, H, W)``; can be read again."""

    def __init__(self, head: Head, images: Iterable[Tensor], strength: float) -> None:
        self._head, self._images, self._strength = head, images, strength

    def __iter__(self) -> Iterator[Tensor]:
        for image in self._images:
            yield self._head(image[None], self._strength)[0]


class _Folder:
    """The pictures of a folder by name, ``(3, H, W)`` each; can be read again."""

    def __init__(self, folder: Path) -> None:
        from topcoat.images import list_images

        self.paths = list_images(folder)

    def __iter__(self) -> Iterator[Tensor]:
        from topcoat.images import read_image

        return (read_image(path) for path in self.paths)

    def stems(self) -> list[str]:
        return [path.stem for path in self.paths]


def _from_pairs(folder: Path, split: Split, head: Head, strength: float) -> _Source:
    from topcoat.pairs.dataset import PairDataset

    dataset = PairDataset.open(folder).split(split)
    if len(dataset) < 2:
        raise UsageError(
            f"{folder} has {len(dataset)} pairs in its {split} split; choose another --split, or build more"
        )
    return _Source(len(dataset), _Enhanced(head, dataset.distilled, strength), dataset.baseline, dataset.distilled)


def _from_folders(out: Output, enhanced: Path, baseline: Path, distilled: Path | None) -> _Source:
    z, y = _Folder(enhanced), _Folder(baseline)
    x = None if distilled is None else _Folder(distilled)
    if x is not None and x.stems() != z.stems():
        both = zip_longest(x.stems(), z.stems())
        odd = next(one if other is None else other for one, other in both if one != other)
        raise UsageError(
            f"{distilled} and {enhanced} must hold pictures of the same names; the first that differs is {odd}"
        )
    if len(y.paths) == len(z.paths) and y.stems() != z.stems():
        out.warn(f"the pictures of {baseline} and {enhanced} have other names; they are paired in sorted order")
    return _Source(len(z.paths), z, y, x)


def _told(out: Output, images: Iterable[Tensor], count: int) -> Iterator[Tensor]:
    """``images``, with progress as they are read."""
    with out.progress("evaluating") as progress:
        for done, image in enumerate(images, start=1):
            yield image
            progress(done, count)


def _print(out: Output, evaluation: Evaluation) -> None:
    rows: list[tuple[object, ...]] = []
    for name, scores in (
        ("distilled", evaluation.distilled),
        ("enhanced", evaluation.enhanced),
        ("baseline, other seeds", evaluation.floor),
    ):
        if scores is not None:
            psnr = "-" if scores.psnr is None else f"{scores.psnr:.2f}"
            rows.append((name, scores.n, f"{scores.frechet:.3f}", f"{scores.kernel:.4f}", psnr))
    out.table("Distance to the baseline", ("images", "N", "Fréchet", "kernel", "PSNR dB"), rows)
    out.line(evaluation.summary())


def _write(output: Path, evaluation: Evaluation, source: _Source) -> None:
    import torch

    from topcoat.contact import contact_sheet
    from topcoat.files import atomic_path, write_json

    write_json(output / "evaluation.json", evaluation.as_dict())
    sets = (("distilled", source.distilled), ("enhanced", source.enhanced), ("baseline", source.baseline))
    rows = [(name, torch.stack(list(islice(iter(images), _SHOWN)))) for name, images in sets if images is not None]
    with atomic_path(output / "contact.png") as temporary:
        contact_sheet(rows).save(temporary, "PNG")
