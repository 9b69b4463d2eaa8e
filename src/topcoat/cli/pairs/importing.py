"""`topcoat pairs import`: paired images from elsewhere as a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.pairs.app import app

_SHOWN = 20


@command(
    app,
    "import",
    examples=(
        "topcoat pairs import photos/ -o pairs/ --name retouched --licence CC-BY-4.0",
        "topcoat pairs import hub-folder/ -o pairs/ --name edits --distilled input_image --baseline edited_image",
    ),
)
def import_command(
    out: Output,
    source: Annotated[
        Path,
        typer.Argument(metavar="SRC", help="Folder with A/ and B/ (or train_A/, train_B/), or with Parquet files."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="New folder of the dataset.")],
    name: Annotated[str, typer.Option("--name", help="Name of these pairs.")],
    distilled: Annotated[
        str | None, typer.Option("--distilled", help="Folder or column of the inputs of a head.", metavar="NAME")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="Folder or column of its targets.", metavar="NAME")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", help="Column of the texts; default edit_prompt where it is.", metavar="NAME"),
    ] = None,
    licence: Annotated[str, typer.Option("--licence", help="Terms of the images, such as CC-BY-4.0.")] = "unknown",
    licence_url: Annotated[str, typer.Option("--licence-url", help="Where the terms can be read.")] = "",
    shard_size: Annotated[int, typer.Option("--shard-size", min=1, help="Pairs in one Parquet file.")] = 250,
) -> None:
    """Check paired images one by one and convert them; unusable items are listed, the rest continues."""
    from topcoat.generators.base import Licence
    from topcoat.pairs.importing import UNKNOWN_LICENCE, import_pairs, open_source

    terms = UNKNOWN_LICENCE if licence == "unknown" else Licence(name=licence, url=licence_url)
    if terms is UNKNOWN_LICENCE:
        out.warn("the licence of these images is unknown; name it with --licence before you train on or share them")
    items = open_source(source, distilled=distilled, baseline=baseline, prompt=prompt)
    out.line(f"{items.count} items in {items.description} of {source}")
    with out.progress("checking pairs") as progress:
        dataset = import_pairs(items, output, name=name, licence=terms, shard_size=shard_size, on_progress=progress)
    failures = dataset.manifest.failures
    for failure in failures[:_SHOWN]:
        out.warn(f"{failure.id} was left out: {failure.error}")
    if len(failures) > _SHOWN:
        out.warn(f"and {len(failures) - _SHOWN} more; {output}/manifest.json lists all")
    out.line(f"{len(dataset)} pairs in {output}, {len(failures)} items left out; licence: {terms.name}")
    out.line(f"Next: topcoat pairs inspect {output}")
    out.result(
        {
            "folder": str(output),
            "pairs": len(dataset),
            "failures": {failure.id: failure.error for failure in failures},
            "licence": terms.name,
            "digest": dataset.digest,
        }
    )
    if failures:
        raise typer.Exit(1)
