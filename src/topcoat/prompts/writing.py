"""Prompts to files: a table of id, prompt, split and one column for each attribute, or the bare texts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from topcoat.errors import UsageError
from topcoat.files import atomic_path, write_text
from topcoat.prompts.prompt import Prompt

FORMATS = (".parquet", ".csv", ".jsonl", ".txt")
"""File types that prompts are written to and read from."""

OWN_COLUMNS = ("id", "prompt", "split")
"""The columns that every table of prompts has; attributes follow them."""


def prompt_record(prompt: Prompt) -> dict[str, str]:
    """A prompt as one flat row: id, prompt, split and every attribute."""
    own = {"id": prompt.id, "prompt": prompt.text, "split": prompt.split}
    return own | {name: word for name, word in prompt.attributes.items() if name not in own}


def check_format(path: Path) -> str:
    """The file type by which ``path`` is written; raises `UsageError` if it is none of `FORMATS`."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(f"{path} has no type that is written here; end it in one of: {', '.join(FORMATS)}")
    return suffix


def write_prompts(path: str | Path, prompts: Sequence[Prompt]) -> None:
    """Write prompts to ``path`` in the format of its suffix, atomically.

    ``.parquet``, ``.csv`` and ``.jsonl`` keep everything; an attribute that a prompt does not have is null, empty or
    left out. ``.txt`` keeps the texts alone, one a line: ids follow from the texts when it is read.

    Raises `UsageError` for another suffix, `DataError` where the file cannot be written.
    """
    path = Path(path)
    suffix = check_format(path)
    if suffix == ".txt":
        write_text(path, "".join(f"{prompt.text}\n" for prompt in prompts))
    elif suffix == ".jsonl":
        write_text(path, "".join(json.dumps(prompt_record(item), ensure_ascii=False) + "\n" for item in prompts))
    elif suffix == ".csv":
        text = io.StringIO()
        table = csv.DictWriter(text, _columns(prompts), restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(prompt_record(prompt) for prompt in prompts)
        write_text(path, text.getvalue())
    else:
        _write_parquet(path, prompts)


def _columns(prompts: Iterable[Prompt]) -> list[str]:
    """Every column, attributes in the order in which they first come."""
    names = dict.fromkeys((*OWN_COLUMNS, *(name for prompt in prompts for name in prompt.attributes)))
    return list(names)


def _write_parquet(path: Path, prompts: Sequence[Prompt]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [prompt_record(prompt) for prompt in prompts]
    columns = {name: pa.array([row.get(name) for row in rows], pa.string()) for name in _columns(prompts)}
    with atomic_path(path) as temporary:
        pq.write_table(pa.table(columns), temporary)
