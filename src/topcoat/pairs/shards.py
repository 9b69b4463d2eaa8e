"""Making one shard: the unit of work of a build, written in one piece wherever it is made."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from topcoat.errors import ModelError, UsageError
from topcoat.files import atomic_path, sha256_of
from topcoat.generators.base import Generator as ImageGenerator
from topcoat.generators.base import ModelPair
from topcoat.pairs.dataset import PairDataset
from topcoat.pairs.manifest import Dropped, Failure, ShardEntry
from topcoat.pairs.painter import Outcome, Painted, Painter
from topcoat.pairs.painting import Painting
from topcoat.pairs.records import PairRecord, as_table, full_row, read_rows, shard_schema
from topcoat.pairs.reuse import KeptBaseline

if TYPE_CHECKING:
    from topcoat.pairs.filters import PairFilter

_GROUP_ROWS = 50
_GROUP_BYTES = 16 * 1024 * 1024  # a reader loads a whole row group for one image, so large images go in smaller groups

Report = Callable[[int], None]
"""Told how many pairs of a shard are done."""


@dataclass(frozen=True)
class ShardJob:
    """One shard to make: all its planned pairs, which of them lie in its file already, which a filter has dropped."""

    name: str
    records: tuple[PairRecord, ...]
    made: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.records)


@dataclass(frozen=True)
class ShardResult:
    """A shard that was made: its entry in the manifest, and what is not in it."""

    entry: ShardEntry
    failures: tuple[Failure, ...]
    dropped: tuple[Dropped, ...]


@dataclass(frozen=True)
class Workshop:
    """All that a worker needs to make shards, small enough to send to it: folder, models, what to paint, filters.

    ``generators`` replaces loading the models; filters are given as they are or by name.
    """

    folder: Path
    pair: ModelPair
    painting: Painting
    batch_size: int
    filters: tuple[str | PairFilter, ...] = ()
    generators: tuple[ImageGenerator, ImageGenerator] | None = None
    baseline_from: Path | None = None
    """A dataset whose baseline images are used again where it has them; `open_baseline_source` has let it pass."""

    def open(self, device: str | None = None) -> Painter:
        """Load the models (onto ``device``, where one is given) and the filters.

        Raises `ModelError` if a model cannot be had, `UsageError` if it cannot do what is asked.
        """
        return Painter(self._models(device), self.painting, opened_filters(self.filters))

    def _models(self, device: str | None) -> tuple[ImageGenerator, ImageGenerator]:
        pair = self.pair if device is None else _on_device(self.pair, device)
        if self.generators is not None:
            distilled, baseline = self.generators
            return distilled, baseline if self.baseline_from is None else self._kept(pair, lambda: baseline)
        from topcoat.generators.diffusers import load_generator, load_pair
        from topcoat.generators.loading import ComponentCache

        if self.baseline_from is None:
            return load_pair(pair)
        cache = ComponentCache()
        distilled = load_generator(pair.distilled, cache)
        return distilled, self._kept(pair, lambda: load_generator(pair.baseline, cache))

    def _kept(self, pair: ModelPair, load: Callable[[], ImageGenerator]) -> KeptBaseline:
        assert self.baseline_from is not None
        return KeptBaseline(PairDataset.open(self.baseline_from), pair.baseline, load)

    def path(self, job: ShardJob) -> Path:
        """Where the job's shard lies."""
        return self.folder / "data" / job.name


def opened_filters(filters: Sequence[str | PairFilter]) -> list[PairFilter]:
    """The filters, those given by name loaded; raises `UsageError` for an unknown name or one that comes twice."""
    if not filters:
        return []
    from topcoat.pairs.filters import load_filters

    names = iter(load_filters([item for item in filters if isinstance(item, str)]))
    return [next(names) if isinstance(item, str) else item for item in filters]


def filter_labels(filters: Sequence[str | PairFilter]) -> list[str]:
    """What tells filters apart in a manifest: their names, and the thresholds of ``same-subject``.

    Raises `UsageError` for an unknown name or one that comes twice.
    """
    if not filters:
        return []
    from topcoat.pairs.filters import SameSubjectFilter

    labels: list[str] = []
    for item in opened_filters(filters):
        label = item.name
        if isinstance(item, SameSubjectFilter):
            limits = item.calibration
            label += f" (features {limits.features.threshold:.6g}, structure {limits.structure.threshold:.6g})"
        if label in labels:
            raise UsageError(f"the filter {item.name} is given twice; give each once")
        labels.append(label)
    return labels


def make_shard(workshop: Workshop, painter: Painter, job: ShardJob, report: Report) -> ShardResult:
    """Paint what is missing of one shard and write it in one piece.

    Raises `ModelError` if not one of its pairs could be made, `DataError` if it cannot be written.
    """
    failures: list[Failure] = []
    dropped: list[Dropped] = []
    rows = _rows(workshop, painter, job, failures, dropped, report)

    def checked() -> Iterator[dict[str, Any]]:
        count = 0
        for row in rows:
            count += 1
            yield row
        if not count and failures and not dropped:
            raise ModelError(f"none of {len(job)} pairs could be made; the last reason was: {failures[-1].error}")

    entry = write_shard(workshop.path(job), checked(), shard_schema(*painter.columns))
    return ShardResult(entry, tuple(failures), tuple(dropped))


def write_shard(path: Path, rows: Iterator[dict[str, Any]], schema: pa.Schema) -> ShardEntry:
    """Write rows (as `full_row` makes them) to a Parquet file in one piece; images and noise are not compressed.

    Raises `DataError` if it cannot be written.
    """
    count = 0
    with atomic_path(path) as temporary:
        with pq.ParquetWriter(temporary, schema, compression="none") as writer:
            for group in grouped(rows):
                writer.write_table(as_table(group, schema))
                count += len(group)
        digest, size_bytes = sha256_of(temporary), temporary.stat().st_size
    return ShardEntry(name=path.name, rows=count, sha256=digest, size_bytes=size_bytes)


def grouped(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Rows in row groups of at most `_GROUP_ROWS` rows and about `_GROUP_BYTES` bytes."""
    group: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        group.append(row)
        size += sum(_bytes_of(value) for value in row.values())
        if len(group) == _GROUP_ROWS or size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch that was painted; its PNG files may still be on their way."""

    records: Sequence[PairRecord]
    outcomes: Mapping[str, Outcome]
    encoded: Mapping[str, Future[dict[str, bytes]]]


def _rows(
    workshop: Workshop,
    painter: Painter,
    job: ShardJob,
    failures: list[Failure],
    dropped: list[Dropped],
    report: Report,
) -> Iterator[dict[str, Any]]:
    """The rows of a shard in their order; what is not made is painted, what fails or is dropped goes to the lists."""
    done = 0
    with closing(read_rows(workshop.path(job)) if job.made else _nothing()) as made:
        for batch in _batches(painter, job, workshop.batch_size):
            for record in batch.records:
                outcome = batch.outcomes.get(record.id)
                if isinstance(outcome, Painted):
                    yield full_row(record, batch.encoded[record.id].result(), outcome.latents)
                elif isinstance(outcome, Failure):
                    failures.append(outcome)
                elif isinstance(outcome, Dropped):
                    dropped.append(outcome)
                elif record.id in job.made:
                    yield next(row for row in made if row["id"] == record.id)
            done += len(batch.records)
            report(done)


def _batches(painter: Painter, job: ShardJob, batch_size: int) -> Iterator[_Batch]:
    """The batches of a shard, cut from its first pair on; each is encoded while the next is painted."""
    pool = ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1), thread_name_prefix="encode")
    previous: _Batch | None = None
    there = job.made | job.dropped
    try:
        for start in range(0, len(job), batch_size):
            records = job.records[start : start + batch_size]
            outcomes = painter.paint(records, {record.id for record in records} - there)
            encoded = {
                name: pool.submit(outcome.encoded) for name, outcome in outcomes.items() if isinstance(outcome, Painted)
            }
            if previous is not None:
                yield previous
            previous = _Batch(records, outcomes, encoded)
        if previous is not None:
            yield previous
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _nothing() -> Generator[dict[str, Any], None, None]:
    yield from ()


def _bytes_of(value: Any) -> int:
    if isinstance(value, Mapping):
        return len(value["bytes"])
    return getattr(value, "nbytes", 0)


def _on_device(pair: ModelPair, device: str) -> ModelPair:
    sides = {side: getattr(pair, side).model_copy(update={"device": device}) for side in ("distilled", "baseline")}
    return pair.model_copy(update=sides)
