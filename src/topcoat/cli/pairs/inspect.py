"""`topcoat pairs inspect`: what a dataset holds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.pairs.app import app

if TYPE_CHECKING:
    from topcoat.prompts import Split


@command(app, "inspect", examples=("topcoat pairs inspect pairs/",))
def inspect(
    out: Output,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that pairs build wrote.")],
) -> None:
    """Say what a dataset holds, after comparing every file with the digest it was built with."""
    from topcoat.pairs.dataset import PairDataset

    dataset = PairDataset.open(folder)
    dataset.verify()
    names: tuple[Split, ...] = ("train", "val", "test")
    splits = {name: len(dataset.split(name)) for name in names}
    failures = len(dataset.manifest.failures)
    size = tuple(dataset[0].distilled.shape[-2:]) if len(dataset) else (0, 0)
    attributes: dict[str, Counter[str]] = {}
    for record in dataset.records:
        for name, value in record.attributes.items():
            attributes.setdefault(name, Counter())[value] += 1
    out.line(f"{len(dataset)} pairs of {dataset.manifest.pair}, {size[1]} x {size[0]} px, {failures} failed")
    out.line(f"digest {dataset.digest}")
    out.line(", ".join(f"{name} {number}" for name, number in splits.items()))
    rows = [
        (name, ", ".join(f"{word} {number}" for word, number in counts.most_common()))
        for name, counts in attributes.items()
    ]
    if rows:
        out.table("Attributes", ("attribute", "pairs of each"), rows)
    out.result(
        {
            "pair": dataset.manifest.pair,
            "pairs": len(dataset),
            "failures": failures,
            "digest": dataset.digest,
            "splits": splits,
            "size_px": {"width": size[1], "height": size[0]},
            "attributes": attributes,
        }
    )
