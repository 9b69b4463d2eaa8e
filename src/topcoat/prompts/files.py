"""Prompts to files and back: Parquet, CSV, JSON lines or text; a mistake is named with its line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from topcoat.errors import DataError, UsageError
from topcoat.files import atomic_path, write_text
from topcoat.prompts.prompt import Prompt, Split, prompt_from_text, split_of_id
from topcoat.seeds import MAX_SEED

FORMATS = (".parquet", ".csv", ".jsonl", ".txt")
"""File types that prompts are written to and read from."""

TEXT_COLUMNS = ("prompt", "text", "caption")
"""Names by which the column of texts is known; the first that is there is read."""

_VALIDATION = ("val", "valid", "validation", "dev")
_SPLITS: Mapping[str, Split] = {"train": "train", "test": "test", **dict.fromkeys(_VALIDATION, "val")}
_Row = tuple[str, dict[str, Any]]  # where it stands ("line 3"), and its cells by column name


def prompt_record(prompt: Prompt) -> dict[str, str]:
    """A prompt as one flat row: id, prompt, split, its noise seed if it has one, and every attribute."""
    own = {"id": prompt.id, "prompt": prompt.text, "split": prompt.split}
    own |= {} if prompt.seed is None else {"seed": str(prompt.seed)}
    return own | {name: word for name, word in prompt.attributes.items() if name not in own}


def check_format(path: Path) -> str:
    """The suffix of ``path``; raises `UsageError` if it is none of `FORMATS`."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(f"{path} is of no type that holds prompts; use one of: {', '.join(FORMATS)}")
    return suffix


def write_prompts(path: str | Path, prompts: Sequence[Prompt]) -> None:
    """Write prompts to ``path`` in the format of its suffix, atomically.

    ``.parquet``, ``.csv`` and ``.jsonl`` keep everything, ``.txt`` the texts alone, one a line.

    Raises `UsageError` for another suffix, `DataError` where the file cannot be written.
    """
    path = Path(path)
    suffix = check_format(path)
    rows = [prompt_record(prompt) for prompt in prompts]
    columns = list(dict.fromkeys(("id", "prompt", "split", *(name for row in rows for name in row))))
    if suffix == ".txt":
        write_text(path, "".join(f"{prompt.text}\n" for prompt in prompts))
    elif suffix == ".jsonl":
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    elif suffix == ".csv":
        text = io.StringIO()
        table = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        write_text(path, text.getvalue())
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        values = {name: pa.array([row.get(name) for row in rows], pa.string()) for name in columns}
        with atomic_path(path) as temporary:
            pq.write_table(pa.table(values), temporary)


def read_prompts(path: str | Path, column: str | None = None) -> list[Prompt]:
    """The prompts in a file, in order, of one of these types by its suffix.

    ``.txt`` (or no suffix): one prompt a line, empty lines are left out. ``.csv``, ``.jsonl`` and ``.parquet``: the
    texts are in ``column``, by default the first of `TEXT_COLUMNS` that is there; a column ``id`` gives ids (else
    they follow from the texts), ``split`` gives splits (else they follow from the ids), ``seed`` gives noise seeds, and
    every other column with plain values is an attribute. What `write_prompts` wrote to a table is read back equal.

    Raises `UsageError` for a bad row, with its line, or a missing column; `DataError` for a file that is missing, not
    readable or without a prompt.
    """
    path = Path(path)
    suffix = check_format(path) if path.suffix else ".txt"
    if suffix == ".txt" and column is not None:
        raise UsageError(f"the prompts file {path} has lines, not columns; leave out the prompt column {column!r}")
    prompts: list[Prompt] = []
    lines_of_ids: dict[str, str] = {}
    for where, row in _rows(path, suffix, column):
        try:
            prompt = _prompt_from_row(row, column)
            if row.get("id") not in (None, "") and lines_of_ids.setdefault(prompt.id, where) != where:
                raise UsageError(
                    f"the id {prompt.id!r} is also that of {lines_of_ids[prompt.id]}; give each prompt its own"
                )
        except UsageError as error:
            raise UsageError(f"{path} {where}: {error}") from None
        prompts.append(prompt)
    if not prompts:
        raise DataError(f"the prompts file {path} is empty; write one prompt a line")
    return prompts


def _prompt_from_row(row: dict[str, Any], column: str | None) -> Prompt:
    from topcoat.prompts.mini import mini_words

    name = _text_column(row, column)
    text, own_id, split = row[name], row.get("id"), row.get("split")
    if text is not None and not isinstance(text, str):
        raise UsageError(f"the prompt is {_kind(text)}, not text; put it in quotes")
    prompt = replace(prompt_from_text(text or ""), attributes=_attributes(row, name))
    mini_words().check(prompt.attributes)
    if own_id not in (None, ""):
        prompt = replace(prompt, id=str(own_id))
    if not _is_empty(row.get("seed")):
        prompt = replace(prompt, seed=_seed(row["seed"]))
    if split in (None, ""):
        return prompt
    if str(split).lower() not in _SPLITS:
        raise UsageError(f"the split {split!r} is unknown; use train, val or test, or leave the column out")
    assigned = _SPLITS[str(split).lower()]
    return prompt if assigned == split_of_id(prompt.id) else replace(prompt, assigned_split=assigned)


def _text_column(names: Iterable[str], column: str | None) -> str:
    """The name of the column that holds the texts."""
    names = list(names)
    for name in TEXT_COLUMNS if column is None else (column,):
        if name in names:
            return name
    wanted = repr(column) if column is not None else f"{', '.join(TEXT_COLUMNS[:-1])} or {TEXT_COLUMNS[-1]}"
    there = ", ".join(str(name) for name in names) or "none at all"
    raise UsageError(f"there is no column {wanted}; of its columns ({there}) name one with --prompt-column")


def _attributes(row: Mapping[str, Any], text_column: str) -> dict[str, str]:
    """Every other plain value of a row, and those under ``attributes`` where a row has such an object."""
    nested = row.get("attributes")
    if isinstance(nested, str) and nested.startswith("{"):
        try:
            nested = json.loads(nested)
        except ValueError:
            raise UsageError("its attributes are not JSON; correct or empty that cell") from None
    if isinstance(nested, Mapping):
        row = {**{name: value for name, value in row.items() if name != "attributes"}, **nested}
    return {
        name: str(value)
        for name, value in row.items()
        if name not in (text_column, "id", "split", "seed")
        if isinstance(value, str | int | float) and not _is_empty(value)
    }


def _is_empty(value: object) -> bool:
    """Whether a cell has no value; other tools write NaN where there is none."""
    return value in (None, "") or value != value


def _seed(value: object) -> int:
    """A cell of the column ``seed``; other tools make a column of whole numbers with gaps one of floats."""
    text = str(value).strip().removesuffix(".0")
    if not text.isdecimal() or not 0 <= int(text) <= MAX_SEED:
        raise UsageError(f"the seed {value!r} is no whole number from 0 to {MAX_SEED}; correct it, or leave it empty")
    return int(text)


def _rows(path: Path, suffix: str, column: str | None) -> Iterator[_Row]:
    if suffix == ".parquet":
        return _parquet_rows(path, column)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error.strerror) if isinstance(error, OSError) else "it is not UTF-8 text") from None
    if suffix == ".csv":
        return _csv_rows(path, text, column)
    lines = ((f"line {number}", line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())
    return ((where, _json_row(path, where, line) if suffix == ".jsonl" else {"prompt": line}) for where, line in lines)


def _unreadable(path: Path, reason: str) -> DataError:
    return DataError(f"the prompts file {path} cannot be read ({reason}); check the path and its type")


def _csv_rows(path: Path, text: str, column: str | None) -> Iterator[_Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    while True:
        where = f"line {reader.line_num + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise UsageError(f"{path} {where}: is not valid CSV ({error}); correct that line") from None
        if cells is None:
            return
        if not cells:
            continue
        if not header:
            header = [cell.strip() for cell in cells]
            _check_header(path, header, column)
        elif len(cells) != len(header):
            raise UsageError(
                f"{path} {where}: has {len(cells)} cells, but the first line names {len(header)} columns; put a text "
                "that has commas in quotes"
            )
        else:
            yield where, dict(zip(header, cells, strict=True))


def _json_row(path: Path, where: str, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise UsageError(f'{path} {where}: is no JSON object; write {{"prompt": "..."}} or use a .txt file')
    return row


def _parquet_rows(path: Path, column: str | None) -> Iterator[_Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open(path, "rb") as raw, pq.ParquetFile(raw) as file:
            schema = file.schema_arrow
            _check_header(path, schema.names, column)
            plain = [
                field.name
                for field in schema
                if field.name == "attributes" or not (pa.types.is_nested(field.type) or pa.types.is_binary(field.type))
            ]
            batches = file.iter_batches(batch_size=1024, columns=plain)
            for number, row in enumerate((row for batch in batches for row in batch.to_pylist()), start=1):
                yield f"row {number}", row
    except (pa.ArrowException, OSError) as error:
        known = isinstance(error, OSError) and error.strerror
        raise _unreadable(path, known or "it is damaged, or no Parquet") from None


def _check_header(path: Path, names: list[str], column: str | None) -> None:
    """Name a missing or doubled column once, not at every row."""
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{path} has two columns of the name {name!r}; give each column its own")
    try:
        _text_column(names, column)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _kind(value: object) -> str:
    kinds = ((bool, "true or false"), (int | float, "a number"), (list, "a list"), (dict, "an object"))
    return next((name for kind, name in kinds if isinstance(value, kind)), type(value).__name__)
