"""What a pair is, and how a shard of pairs lies in a Parquet file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from topcoat.errors import DataError, UsageError
from topcoat.generators.base import check_request
from topcoat.prompts import Prompt, Split, as_prompts

_TEXT_COLUMNS = ("id", "prompt", "seed", "split", "attributes")
IMAGE_COLUMNS = ("distilled", "baseline")
"""The two image columns of a shard."""


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
    return 1_000_000 + position


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


def shard_schema() -> pa.Schema:
    """The columns of a shard, with the metadata by which Hugging Face `datasets` knows the images for images.

    The layout is that of ``datasets.Features(...).arrow_schema``: an image is a struct of file bytes and a path.
    """
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns: list[tuple[str, pa.DataType]] = [
        (name, pa.int64() if name == "seed" else pa.string()) for name in _TEXT_COLUMNS
    ]
    columns += [(name, image) for name in IMAGE_COLUMNS]
    features: dict[str, dict[str, str]] = {
        name: {"dtype": "int64" if name == "seed" else "string", "_type": "Value"} for name in _TEXT_COLUMNS
    }
    features |= {name: {"_type": "Image"} for name in IMAGE_COLUMNS}
    return pa.schema(columns, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def as_row(record: PairRecord, distilled_png: bytes, baseline_png: bytes) -> dict[str, Any]:
    """A pair as a row of a shard."""
    return {
        "id": record.id,
        "prompt": record.prompt,
        "seed": record.seed,
        "split": record.split,
        "attributes": json.dumps(dict(record.attributes), ensure_ascii=False),
        "distilled": {"bytes": distilled_png, "path": f"{record.id}-distilled.png"},
        "baseline": {"bytes": baseline_png, "path": f"{record.id}-baseline.png"},
    }


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
        if row_group is None:
            return file.read(columns=columns).to_pylist()
        return file.read_row_group(row_group, columns=columns).to_pylist()


def row_group_sizes(shard: Path) -> list[int]:
    """The number of rows in each row group of a shard; raises `DataError` if it cannot be read."""
    with _opened(shard) as file:
        return [file.metadata.row_group(index).num_rows for index in range(file.metadata.num_row_groups)]


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
