"""`topcoat inspect`: what a picture file says of itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from topcoat.cli.console import Output, command

_SHOWN = 200
"""Characters of a text that are shown to a person; JSON has all of it."""


@command("inspect", examples=("topcoat inspect portrait.png", "topcoat inspect portrait.png --json"))
def inspect_picture(
    out: Output, picture: Annotated[Path, typer.Argument(help="A picture file.", show_default=False)]
) -> None:
    """Show what a picture file says of itself: marks of AI, topcoat's records, prompts, profile, EXIF, C2PA."""
    from topcoat.pictures.inspection import inspect_bytes
    from topcoat.pictures.reading import read_bytes

    found = inspect_bytes(read_bytes(picture), str(picture))
    out.table(str(picture), ("what", "value"), list(_rows(found)))
    out.result({"path": str(picture), **found})


def _rows(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            yield from _rows(value, f"{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for number, item in enumerate(value, start=1):
                yield from _rows(item, f"{name} {number}.")
        elif value not in (None, [], ""):
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            yield name, text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"
