"""What a pair is, and how a shard of pairs lies in a Parquet file."""

from __future__ import annotations

import itertools
import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from topcoat.errors import DataError, UsageError
from topcoat.generators.base import check_request
from topcoat.prompts import Prompt, Split, as_prompts
from topcoat.seeds import FIRST_SEED

_TEXT_COLUMNS = ("id", "prompt", "seed", "split", "attributes")
IMAGE_COLUMNS = ("distilled", "baseline")
"""The two image columns that every shard has."""
LATENTS = "latents"
"""What the name of a latents column begins with."""
BASELINE_LATENTS = f"{LATENTS}_baseline"
"""The column of the baseline latents."""


@dataclass(frozen=True, slots=True)
class PairRecord:
    """Everything about a pair but its pixels.

    ``id`` is unique in a dataset; ``split`` follows the prompt's id, so a subject never crosses from train to test.
    """

    id: str
    prompt: str
    seed: int
    attributes: Mapping[str, str] = field(default_factory=dict)
    split: Split = "train"


def default_seed(position: int) -> int:
    """The seed of the prompt at ``position`` where none is given; far from the small seeds that people pick by hand."""
    return FIRST_SEED["pairs"] + position


def plan_records(prompts: Iterable[str | Prompt], seeds: Sequence[int] | None) -> list[PairRecord]:
    """One record for each prompt; the plan of a dataset before anything is painted.

    Raises `UsageError` for no prompts, bad seeds, unequal counts or the same prompt twice with one seed.
    """
    subjects = as_prompts(prompts)
    numbers = [default_seed(position) for position in range(len(subjects))] if seeds is None else seeds
    _, numbers = check_request([subject.text for subject in subjects], numbers)
    records = [
        PairRecord(f"{subject.id}-{seed}", subject.text, seed, subject.attributes, subject.split)
        for subject, seed in zip(subjects, numbers, strict=True)
    ]
    seen: set[str] = set()
    for position, record in enumerate(records):
        if record.id in seen:
            raise UsageError(f"prompt {position} comes twice with seed {record.seed}; give each its own seed")
        seen.add(record.id)
    return records


def distilled_column(steps: int | None) -> str:
    """The image column of the distilled model at ``steps``; None is its spec's own step count."""
    return "distilled" if steps is None else f"distilled_steps_{steps}"


def latents_column(steps: int | None) -> str:
    """The column of the distilled latents at ``steps``; None is the spec's own step count."""
    return LATENTS if steps is None else f"{LATENTS}_steps_{steps}"


def shard_schema(images: Sequence[str] = IMAGE_COLUMNS, latents: Sequence[str] = ()) -> pa.Schema:
    """The columns of a shard, with the metadata by which Hugging Face `datasets` knows the images for images.

    The layout is that of ``datasets.Features(...).arrow_schema``: an image is a struct of file bytes and a path,
    latents ``(C, h, w)`` are lists of lists of lists of float16.
    """
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    nested: pa.DataType = pa.float16()
    feature: dict[str, Any] = {"dtype": "float16", "_type": "Value"}
    for _ in range(3):
        nested, feature = pa.list_(nested), {"feature": feature, "_type": "List"}
    columns: list[tuple[str, pa.DataType]] = [
        (name, pa.int64() if name == "seed" else pa.string()) for name in _TEXT_COLUMNS
    ]
    columns += [(name, image) for name in images]
    columns += [(name, nested) for name in latents]
    features: dict[str, dict[str, Any]] = {
        name: {"dtype": "int64" if name == "seed" else "string", "_type": "Value"} for name in _TEXT_COLUMNS
    }
    features |= {name: {"_type": "Image"} for name in images}
    features |= dict.fromkeys(latents, feature)
    return pa.schema(columns, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def as_row(record: PairRecord, distilled_png: bytes, baseline_png: bytes) -> dict[str, Any]:
    """A pair as a row of a shard."""
    return full_row(record, {"distilled": distilled_png, "baseline": baseline_png}, {})


def full_row(record: PairRecord, images: Mapping[str, bytes], latents: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """A pair as a row of a shard: PNG bytes by image column, float16 ``(C, h, w)`` by latents column."""
    return {
        "id": record.id,
        "prompt": record.prompt,
        "seed": record.seed,
        "split": record.split,
        "attributes": json.dumps(dict(record.attributes), ensure_ascii=False),
        **{name: {"bytes": png, "path": f"{record.id}-{name}.png"} for name, png in images.items()},
        **latents,
    }


def as_table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows of a shard as a table; latents go over as whole arrays, because one by one they would take seconds."""
    columns = []
    for name, kind in zip(schema.names, schema.types, strict=True):
        values = [row[name] for row in rows]
        columns.append(
            _nested(np.stack(values)).cast(kind) if name.startswith(LATENTS) else pa.array(values, type=kind)
        )
    return pa.Table.from_arrays(columns, schema=schema)


def read_records(shard: Path) -> list[PairRecord]:
    """The records of one shard, without its images; raises `DataError` if it cannot be read."""
    rows = read_columns(shard, list(_TEXT_COLUMNS))
    try:
        return [
            PairRecord(row["id"], row["prompt"], row["seed"], json.loads(row["attributes"]), row["split"])
            for row in rows
        ]
    except (TypeError, ValueError) as error:
        raise DataError(f"{shard} has attributes that are not JSON; it is damaged, build the pairs again") from error


def read_columns(shard: Path, columns: list[str], row_group: int | None = None) -> list[dict[str, Any]]:
    """Rows of a shard (or of one row group) with only ``columns``; raises `DataError` if it cannot be read."""
    with _opened(shard) as file:
        _need_columns(shard, file, columns)
        if row_group is None:
            return file.read(columns=columns).to_pylist()
        return file.read_row_group(row_group, columns=columns).to_pylist()


def read_latents(shard: Path, column: str, row_group: int) -> np.ndarray:
    """``(rows, C, h, w)`` float16: the latents of one row group; raises `DataError` if they cannot be read."""
    with _opened(shard) as file:
        _need_columns(shard, file, [column])
        return _unnested(file.read_row_group(row_group, columns=[column]).column(0))


def read_schema(shard: Path) -> pa.Schema:
    """The columns of a shard; raises `DataError` if it cannot be read."""
    with _opened(shard) as file:
        return file.schema_arrow


def read_rows(shard: Path) -> Generator[dict[str, Any], None, None]:
    """Whole rows of a shard in their order, a row group at a time; raises `DataError` if it cannot be read."""
    with _opened(shard) as file:
        names = file.schema_arrow.names
        plain = [name for name in names if not name.startswith(LATENTS)]
        for group in range(file.metadata.num_row_groups):
            table = file.read_row_group(group)
            latents = {name: _unnested(table.column(name)) for name in names if name not in plain}
            for position, row in enumerate(table.select(plain).to_pylist()):
                yield row | {name: values[position] for name, values in latents.items()}


def row_group_sizes(shard: Path) -> list[int]:
    """The number of rows in each row group of a shard; raises `DataError` if it cannot be read or lacks a side."""
    with _opened(shard) as file:
        _need_columns(shard, file, IMAGE_COLUMNS)
        return [file.metadata.row_group(index).num_rows for index in range(file.metadata.num_row_groups)]


def _need_columns(shard: Path, file: pq.ParquetFile, columns: Sequence[str]) -> None:
    missing = next((name for name in columns if name not in file.schema_arrow.names), None)
    if missing is not None:
        raise DataError(f"{shard} has no column {missing}; it is no shard of pairs, build or import the pairs again")


@contextmanager
def _opened(shard: Path) -> Iterator[pq.ParquetFile]:
    """A shard, open for reading; every way in which that fails is a `DataError` that says how to restore it."""
    try:
        with pq.ParquetFile(shard) as file:
            yield file
    except FileNotFoundError as error:
        raise DataError(f"{shard} is missing; build the pairs again with the same settings to restore it") from error
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{shard} is damaged; delete it and build the pairs again to restore it") from error


def _nested(values: np.ndarray) -> pa.Array:
    """``(N, C, h, w)`` as N lists of lists of lists."""
    flat: pa.Array = pa.array(np.ascontiguousarray(values).reshape(-1))
    for size in values.shape[:0:-1]:
        flat = pa.ListArray.from_arrays(pa.array(np.arange(0, len(flat) + 1, size), pa.int32()), flat)
    return flat


def _unnested(column: pa.ChunkedArray) -> np.ndarray:
    """``(N, C, h, w)`` from N lists of lists of lists, all of one size."""
    values: Any = column.combine_chunks()
    counts = [len(values)]
    for _ in range(3):
        values = values.flatten()
        counts.append(len(values))
    sizes = [inner // max(1, outer) for outer, inner in itertools.pairwise(counts)]
    return values.to_numpy(zero_copy_only=False).reshape(counts[0], *sizes)
