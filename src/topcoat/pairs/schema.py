"""What a pair is, how its images are generated, and how a shard of pairs lies in a Parquet file."""

from __future__ import annotations

import itertools
import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydantic
from PIL import Image
from torch import Tensor

from topcoat.config import StrictModel
from topcoat.errors import DataError, UsageError
from topcoat.generators.base import MAX_STEPS, check_request
from topcoat.images import encode_png, encode_webp
from topcoat.prompts import Prompt, Split, as_prompts
from topcoat.seeds import FIRST_SEED

TEXT_COLUMNS = ("id", "prompt", "seed", "split", "attributes")
LATENTS = "latents"
"""What the name of every latents column begins with."""
BASELINE_LATENTS = f"{LATENTS}_baseline"
"""The column of the baseline latents."""
ImageFormat = Literal["png", "webp"]
"""Of the image files in a shard, both lossless. WebP is smaller and quicker to write and read."""


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


class PairingConfig(StrictModel):
    """How the two images of a pair are generated, and what else is kept. One dataset has one.

    The paper (arXiv 2505.02255) says that both images of a pair show the same subject, but not how that was done.
    ``same-seed``: both models start from the same prompt and noise. ``img2img``: the baseline starts from the distilled
    image; `strength` in (0, 1] is the share of it that is replaced by noise first. `distilled_steps` are further step
    counts of the distilled model, each with a column of its own. `latents` keeps the distilled latents as float16,
    `baseline_latents` those of the baseline: encoding an 8-bit image again gives latents that are near them, not equal.
    `image_format` is the kind of image file; both are lossless.
    """

    method: Literal["same-seed", "img2img"] = "same-seed"
    strength: float | None = pydantic.Field(default=None, gt=0, le=1)
    distilled_steps: tuple[Annotated[int, pydantic.Field(ge=1, le=MAX_STEPS)], ...] = ()
    latents: bool = False
    baseline_latents: bool = False
    image_format: ImageFormat = "png"

    @pydantic.field_validator("distilled_steps")
    @classmethod
    def _ascending(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(steps)))

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> PairingConfig:
        if self.method == "img2img" and self.strength is None:
            raise ValueError("pairing img2img needs a strength above 0 and at most 1; 0.5 is a start")
        if self.method == "same-seed" and self.strength is not None:
            raise ValueError("a strength belongs to the pairing img2img; leave it out, or choose that pairing")
        if self.method == "img2img" and self.baseline_latents:
            raise ValueError("baseline_latents belongs to the pairing same-seed; leave it out, or choose that pairing")
        return self

    def without_steps(self, steps: int) -> PairingConfig:
        """The same without ``steps``, which the column ``distilled`` holds already."""
        return self.model_copy(update={"distilled_steps": tuple(n for n in self.distilled_steps if n != steps)})

    @property
    def image_columns(self) -> tuple[str, ...]:
        """``distilled``, one column for each further step count, ``baseline``."""
        return (distilled_column(None), *map(distilled_column, self.distilled_steps), "baseline")

    @property
    def latents_columns(self) -> tuple[str, ...]:
        """One column for each distilled step count, then that of the baseline; each only if kept."""
        distilled = tuple(map(latents_column, (None, *self.distilled_steps))) if self.latents else ()
        return (*distilled, BASELINE_LATENTS) if self.baseline_latents else distilled


def default_seed(position: int) -> int:
    """The seed of the prompt at ``position`` where none is given; far from the small seeds that people pick by hand."""
    return FIRST_SEED["pairs"] + position


def plan_records(prompts: Iterable[str | Prompt], seeds: Sequence[int] | None) -> list[PairRecord]:
    """One record for each prompt; the plan of a dataset before any image exists.

    Without ``seeds`` a prompt has the one that came with it, else that of its position.

    Raises `UsageError` for no prompts, bad seeds, unequal counts or the same prompt twice with one seed.
    """
    subjects = as_prompts(prompts)
    own = [default_seed(i) if subject.seed is None else subject.seed for i, subject in enumerate(subjects)]
    numbers = own if seeds is None else seeds
    _, numbers = check_request([subject.text for subject in subjects], numbers)
    records: dict[str, PairRecord] = {}
    for position, (subject, seed) in enumerate(zip(subjects, numbers, strict=True)):
        record = PairRecord(f"{subject.id}-{seed}", subject.text, seed, subject.attributes, subject.split)
        if record.id in records:
            raise UsageError(f"prompt {position} comes twice with seed {seed}; give each its own seed")
        records[record.id] = record
    return list(records.values())


def distilled_column(steps: int | None) -> str:
    """The image column of the distilled model at ``steps``; None is its spec's own step count."""
    return "distilled" if steps is None else f"distilled_steps_{steps}"


def latents_column(steps: int | None) -> str:
    """The column of the distilled latents at ``steps``; None is the spec's own step count."""
    return LATENTS if steps is None else f"{LATENTS}_steps_{steps}"


def shard_schema(pairing: PairingConfig | None = None) -> pa.Schema:
    """The columns of a shard, with the metadata by which Hugging Face `datasets` recognises images.

    The layout is that of ``datasets.Features(...).arrow_schema``: an image is a struct of file bytes and a path,
    latents ``(C, h, w)`` are lists of lists of lists of float16. (`datasets` itself would be a heavy dependency.)
    """
    pairing = pairing or PairingConfig()
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    latents: pa.DataType = pa.float16()
    latents_feature: dict[str, Any] = {"dtype": "float16", "_type": "Value"}
    for _ in range(3):
        latents, latents_feature = pa.list_(latents), {"feature": latents_feature, "_type": "List"}
    columns: dict[str, tuple[pa.DataType, dict[str, Any]]] = {
        name: (pa.string(), {"dtype": "string", "_type": "Value"}) for name in TEXT_COLUMNS
    }
    columns["seed"] = (pa.int64(), {"dtype": "int64", "_type": "Value"})
    columns |= {name: (image, {"_type": "Image"}) for name in pairing.image_columns}
    columns |= dict.fromkeys(pairing.latents_columns, (latents, latents_feature))
    features = {name: feature for name, (_, feature) in columns.items()}
    return pa.schema(
        [(name, kind) for name, (kind, _) in columns.items()],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )


def as_row(
    record: PairRecord,
    images: Mapping[str, Tensor | Image.Image],
    latents: Mapping[str, np.ndarray] | None = None,
    image_format: ImageFormat = "png",
) -> dict[str, Any]:
    """A pair as a row of a shard; images ``(3, H, W)`` or as `to_pil` gives them become image files by column.

    ``latents`` are float16 ``(C, h, w)`` by column.
    """
    encode = encode_png if image_format == "png" else encode_webp
    files = {
        name: {"bytes": encode(image), "path": f"{record.id}-{name}.{image_format}"} for name, image in images.items()
    }
    attributes = json.dumps(dict(record.attributes), ensure_ascii=False)
    return {**asdict(record), "attributes": attributes, **files, **(latents or {})}


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
    with open_shard(shard, TEXT_COLUMNS) as file:
        rows = file.read(columns=list(TEXT_COLUMNS)).to_pylist()
    try:
        return [PairRecord(**{**row, "attributes": json.loads(row["attributes"])}) for row in rows]
    except (TypeError, ValueError) as error:
        raise DataError(f"{shard} has attributes that are not JSON; it is damaged, build the pairs again") from error


def read_cells(shard: Path, column: str, row_group: int) -> pa.ChunkedArray | np.ndarray:
    """One column of one row group: images as structs of ``bytes`` and ``path``, latents as ``(rows, C, h, w)``.

    Raises `DataError` if it cannot be read.
    """
    with open_shard(shard, [column]) as file:
        values = file.read_row_group(row_group, columns=[column], use_threads=False).column(0)
    return _unnested(values) if column.startswith(LATENTS) else values


def read_rows(shard: Path) -> Generator[dict[str, Any], None, None]:
    """Whole rows of a shard in their order, a row group at a time; raises `DataError` if it cannot be read."""
    with open_shard(shard) as file:
        names = file.schema_arrow.names
        plain = [name for name in names if not name.startswith(LATENTS)]
        for group in range(file.metadata.num_row_groups):
            table = file.read_row_group(group)
            latents = {name: _unnested(table.column(name)) for name in names if name not in plain}
            for position, row in enumerate(table.select(plain).to_pylist()):
                yield row | {name: values[position] for name, values in latents.items()}


def read_layout(shard: Path) -> tuple[pa.Schema, list[int]]:
    """The columns of a shard and the rows of each row group; raises `DataError` if it is unreadable or lacks a side."""
    with open_shard(shard, ["distilled", "baseline"]) as file:
        groups = range(file.metadata.num_row_groups)
        return file.schema_arrow, [file.metadata.row_group(index).num_rows for index in groups]


@contextmanager
def open_shard(shard: Path, columns: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
    """Open a shard that has ``columns``; every way in which that fails is a `DataError` that says how to restore it."""
    try:
        with pq.ParquetFile(shard) as file:
            missing = next((name for name in columns if name not in file.schema_arrow.names), None)
            if missing is not None:
                raise DataError(
                    f"{shard} has no column {missing}; it is not a shard of pairs, build or import the pairs again"
                )
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
