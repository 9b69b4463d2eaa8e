"""The pictures directly in a folder, and what a table says of them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from topcoat.errors import DataError, UsageError
from topcoat.pictures.formats import suffixes, usual_suffixes

_NAME = "name"


def list_pictures(folder: str | Path) -> list[Path]:
    """The picture files directly in ``folder``, sorted by name; raises `DataError` if there are none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; give a folder of pictures")
    known = suffixes()
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in known and not path.name.startswith(".") and path.is_file()
    )
    if not paths:
        raise DataError(f"{folder} holds no pictures; these are read: {usual_suffixes()}")
    return paths


def pictures_by_name(folder: Path) -> dict[str, Path]:
    """`list_pictures` by the name without suffix; raises `DataError` if two files share one."""
    paths: dict[str, Path] = {}
    for path in list_pictures(folder):
        if path.stem in paths:
            raise DataError(f"{folder} holds {paths[path.stem].name} and {path.name}, one name twice; remove one")
        paths[path.stem] = path
    return paths


def read_groups(path: Path, names: Sequence[str]) -> list[dict[str, str]]:
    """One mapping of column to value for each of ``names``, from a CSV file with a column ``name``.

    Empty cells are left out. Raises `DataError` for a file that is none, `UsageError` where a picture has no line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"the groups file {path} cannot be read ({error}); give a CSV file in UTF-8") from error
    if not lines or _NAME not in lines[0]:
        raise DataError(
            f"the groups file {path} has no column '{_NAME}'; give picture names there, a header line first"
        )
    by_name = {
        Path(line[_NAME] or "").stem: {
            column: value
            for column, value in line.items()
            if column and column != _NAME and isinstance(value, str) and value
        }
        for line in lines
    }
    missing = next((name for name in names if name not in by_name), None)
    if missing is not None:
        raise UsageError(f"the groups file {path} has no line for the picture {missing}; give every picture a line")
    return [by_name[name] for name in names]
