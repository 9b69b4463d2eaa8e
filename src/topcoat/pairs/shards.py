"""Making one shard: the unit of work of a build, written in one piece wherever it is made."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from topcoat.errors import ModelError
from topcoat.files import atomic_path, sha256_of
from topcoat.generators.base import Generator, ModelPair
from topcoat.pairs.dataset import PairDataset
from topcoat.pairs.filters import open_filters
from topcoat.pairs.generate import GeneratedPair, PairGenerator
from topcoat.pairs.manifest import Dropped, Failure, ShardEntry
from topcoat.pairs.reuse import ReusedBaseline
from topcoat.pairs.schema import PairingConfig, PairRecord, as_row, as_table, read_rows, shard_schema

if TYPE_CHECKING:
    from topcoat.pairs.filters import PairFilter

_GROUP_ROWS = 50
_GROUP_BYTES = 16 * 1024 * 1024  # a reader loads a whole row group for one image, so large images go in smaller groups

Progress = Callable[[int], None]
"""Called with the number of pairs of a shard that are done."""
_Batch = list[tuple[PairRecord, "Future[dict[str, Any]] | Failure | Dropped | None"]]
"""Each record with its row (which may still be encoded), why it has none, or None where the shard has it already."""


@dataclass(frozen=True)
class BuildSpec:
    """All that a worker needs to make shards, small enough to send to it.

    ``generators`` replaces loading the models; filters are given as they are or by name.
    """

    folder: Path
    pair: ModelPair
    pairing: PairingConfig
    batch_size: int
    filters: tuple[str | PairFilter, ...] = ()
    generators: tuple[Generator, Generator] | None = None
    baseline_from: Path | None = None
    """A dataset whose baseline images are used again where it has them; `check_baseline_source` has checked it."""

    def open(self, device: str | None = None) -> PairGenerator:
        """Load the models (onto ``device``, where one is given) and the filters.

        Raises `ModelError` if a model cannot be loaded, `UsageError` if it cannot do what is asked.
        """
        return PairGenerator(self._models(device), self.pairing, open_filters(self.filters))

    def _models(self, device: str | None) -> tuple[Generator, Generator]:
        """The distilled model and the baseline; they share what they have in common."""
        from topcoat.generators.callables import open_generator, open_pair

        if self.generators is not None and self.baseline_from is None:
            return self.generators
        pair = self.pair if device is None else self.pair.on(device)
        if self.baseline_from is None:
            return open_pair(pair)
        made = self.generators
        distilled = open_generator(pair.distilled) if made is None else made[0]

        def baseline() -> Generator:
            return open_generator(pair.baseline) if made is None else made[1]

        return distilled, ReusedBaseline(PairDataset.open(self.baseline_from), pair.baseline, baseline)


@dataclass(frozen=True)
class ShardJob:
    """One shard to make: all its planned pairs, those that lie in its file already, those that a filter dropped."""

    name: str
    records: tuple[PairRecord, ...]
    existing: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.records)


@dataclass(frozen=True)
class ShardResult:
    """A shard that was made: its entry in the manifest, and what is not in it."""

    entry: ShardEntry
    failures: tuple[Failure, ...]
    dropped: tuple[Dropped, ...]


def make_shard(spec: BuildSpec, generator: PairGenerator, job: ShardJob, progress: Progress) -> ShardResult:
    """Generate what is missing of one shard and write it in one piece.

    Raises `ModelError` if not one of its pairs could be made, `DataError` if it cannot be written.
    """
    path = spec.folder / "data" / job.name
    failures: list[Failure] = []
    dropped: list[Dropped] = []

    def rows() -> Iterator[dict[str, Any]]:
        """The rows in their order; what fails or is dropped goes to the lists."""
        count = 0
        with closing(read_rows(path)) if job.existing else nullcontext(iter(())) as existing:
            for batch in _batches(generator, job, spec.batch_size, lambda share: progress(int(share * len(job)))):
                for record, outcome in batch:
                    if isinstance(outcome, Failure):
                        failures.append(outcome)
                    elif isinstance(outcome, Dropped):
                        dropped.append(outcome)
                    elif outcome is not None or record.id in job.existing:
                        count += 1
                        yield (
                            next(row for row in existing if row["id"] == record.id)
                            if outcome is None
                            else outcome.result()
                        )
        if not count and failures and not dropped:
            raise ModelError(f"none of {len(job)} pairs could be made; the last reason was: {failures[-1].error}")

    entry = write_shard(path, rows(), shard_schema(spec.pairing))
    return ShardResult(entry, tuple(failures), tuple(dropped))


def write_shard(path: Path, rows: Iterable[dict[str, Any]], schema: pa.Schema) -> ShardEntry:
    """Write rows (as `as_row` makes them) to a Parquet file in one piece; images and noise are not compressed.

    Raises `DataError` if it cannot be written.
    """
    count = 0
    with atomic_path(path) as temporary:
        with pq.ParquetWriter(temporary, schema, compression="none") as writer:
            for group in row_groups(rows):
                writer.write_table(as_table(group, schema))
                count += len(group)
        digest, size_bytes = sha256_of(temporary), temporary.stat().st_size
    return ShardEntry(name=path.name, rows=count, sha256=digest, size_bytes=size_bytes)


def row_groups(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Rows in row groups of at most `_GROUP_ROWS` rows and about `_GROUP_BYTES` bytes."""
    group: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        group.append(row)
        size += sum(len(v["bytes"]) if isinstance(v, Mapping) else getattr(v, "nbytes", 0) for v in row.values())
        if len(group) == _GROUP_ROWS or size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _batches(
    generator: PairGenerator, job: ShardJob, batch_size: int, progress: Callable[[float], None]
) -> Iterator[_Batch]:
    """The batches of a shard, counted from its first pair; each is encoded while the next is decoded."""
    pool = ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1), thread_name_prefix="encode")
    previous: _Batch = []
    image_format = generator.pairing.image_format
    batches = [job.records[start : start + batch_size] for start in range(0, len(job), batch_size)]
    missing = {record.id for record in job.records} - job.existing - job.dropped
    try:
        for records, outcomes in zip(batches, generator.generate(batches, missing, progress), strict=True):
            batch: _Batch = []
            for record in records:
                outcome = outcomes.get(record.id)
                if isinstance(outcome, GeneratedPair):
                    batch.append((record, pool.submit(as_row, record, outcome.images, outcome.latents, image_format)))
                else:
                    batch.append((record, outcome))
            if previous:
                yield previous
            previous = batch
        yield previous
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
