"""Building pairs: both generators paint every prompt from the same seed, shard by shard, and a rerun goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from topcoat.errors import DataError, ModelError, TopcoatError, UsageError
from topcoat.files import atomic_path, sha256_of, write_text
from topcoat.generators.base import Generator, ModelPair
from topcoat.generators.presets import model_pair
from topcoat.images import check_images, encode_png
from topcoat.pairs.card import dataset_card
from topcoat.pairs.dataset import PairDataset
from topcoat.pairs.manifest import (
    Failure,
    Manifest,
    ShardEntry,
    differences,
    new_manifest,
    pair_identity,
    read_manifest,
    versions,
    write_manifest,
)
from topcoat.pairs.records import IMAGE_COLUMNS, PairRecord, as_row, plan_records, read_columns, shard_schema
from topcoat.prompts import Prompt

_GROUP_ROWS = 50
_GROUP_BYTES = 16 * 1024 * 1024  # a reader loads a whole row group for one image, so large images go in smaller groups

Progress = Callable[[int, int], None]
_Made = dict[str, tuple[bytes, bytes]]
_Generators = tuple[Generator, Generator]


def build_pairs(
    folder: str | Path,
    prompts: Iterable[str | Prompt],
    pair: ModelPair | str,
    *,
    seeds: Sequence[int] | None = None,
    batch_size: int = 16,
    shard_size: int = 250,
    generators: _Generators | None = None,
    on_progress: Progress | None = None,
) -> PairDataset:
    """Paint every prompt with both models of ``pair`` into ``folder``; run again to go on or to add prompts.

    Shards that are complete are kept as they are; pairs that failed are tried again. An image that cannot be made is
    retried once alone, then listed in the manifest, and the rest goes on. ``generators`` replaces loading
    (distilled, baseline) from ``pair``; ``on_progress`` is called with (pairs done, pairs planned).

    Raises `UsageError` for bad prompts, seeds or sizes; `DataError` if ``folder`` holds anything else (nothing is
    overwritten) or cannot be written; `ModelError` if a model cannot be had or fails for a whole shard.
    """
    if batch_size < 1 or shard_size < 1:
        raise UsageError(f"batch_size {batch_size} and shard_size {shard_size} must both be 1 or more")
    folder = Path(folder)
    models = model_pair(pair) if isinstance(pair, str) else pair
    records = plan_records(prompts, seeds)
    manifest = _open_or_start(folder, models, shard_size)
    plan = [records[start : start + shard_size] for start in range(0, len(records), shard_size)]
    kept = [_read_made(folder, manifest, number, wanted) for number, wanted in enumerate(plan)]
    if generators is None and any(made is not None for made in kept):
        from topcoat.generators.diffusers import load_pair

        generators = load_pair(models)
    done = 0
    for number, (wanted, made) in enumerate(zip(plan, kept, strict=True)):
        if made is not None:
            assert generators is not None
            report = _shifted(on_progress, done, len(records))
            manifest = _build_shard(folder, manifest, number, wanted, made, generators, batch_size, report)
        done += len(wanted)
        if on_progress is not None:
            on_progress(done, len(records))
    write_text(folder / "README.md", dataset_card(manifest))
    return PairDataset.open(folder)


def shard_name(number: int) -> str:
    """The file name of a shard; without a total, so that adding pairs renames nothing."""
    return f"train-{number:05d}.parquet"


def _open_or_start(folder: Path, pair: ModelPair, shard_size: int) -> Manifest:
    """The manifest to go on with; refuses a folder with other content before anything is written."""
    if not (folder / "manifest.json").exists():
        if folder.exists() and (not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir())):
            raise DataError(f"{folder} is not an empty folder and holds no pairs; choose another one")
        manifest = new_manifest(pair, shard_size)
        write_manifest(folder, manifest)
        return manifest
    manifest = read_manifest(folder)
    changed = differences(manifest.identity, pair_identity(pair))
    if changed:
        more = f" and {len(changed) - 2} more" if len(changed) > 2 else ""
        raise DataError(
            f"{folder} holds pairs of other settings ({'; '.join(changed[:2])}{more}); nothing was changed, choose "
            "another folder or the settings of before"
        )
    if manifest.shard_size != shard_size:
        raise DataError(f"{folder} has shard_size {manifest.shard_size}, not {shard_size}; use {manifest.shard_size}")
    for leftover in folder.glob("data/.*.tmp"):  # of a run that was killed
        leftover.unlink(missing_ok=True)
    return manifest


def _read_made(folder: Path, manifest: Manifest, number: int, wanted: list[PairRecord]) -> _Made | None:
    """The pairs of a shard that are there already, or None if the shard is complete.

    Raises `DataError` if the shard holds pairs of other prompts.
    """
    path = folder / "data" / shard_name(number)
    if not path.exists():
        return {}
    found = [row["id"] for row in read_columns(path, ["id"])]
    here = set(found)
    listed = [entry for entry in manifest.shards if entry.name == path.name]
    expected = [record.id for record in wanted]
    if [name for name in expected if name in here] == found:
        if here.issuperset(expected) and listed and listed[0].rows == len(found):
            return None
        return {row["id"]: (row["distilled"]["bytes"], row["baseline"]["bytes"]) for row in _images_of(path)}
    if listed and here.issuperset(expected) and found[: len(expected)] == expected:
        return None  # fewer prompts than last time: what is there is kept
    raise DataError(
        f"{path} holds pairs of other prompts or seeds; nothing was changed, choose another folder or give the same "
        "prompts first and new ones after them"
    )


def _images_of(path: Path) -> list[dict[str, Any]]:
    return read_columns(path, ["id", *IMAGE_COLUMNS])


def _build_shard(
    folder: Path,
    manifest: Manifest,
    number: int,
    wanted: list[PairRecord],
    made: _Made,
    generators: _Generators,
    batch_size: int,
    report: Callable[[int], None],
) -> Manifest:
    """Paint what is missing of one shard, write it in one piece and enter it in the manifest."""
    path = folder / "data" / shard_name(number)
    failures: list[Failure] = []
    rows = 0
    with atomic_path(path) as temporary:
        with pq.ParquetWriter(temporary, shard_schema(), compression="none") as writer:
            painted = _paint(wanted, made, generators, batch_size, failures, report)
            for group in _grouped(painted):
                writer.write_table(pa.Table.from_pylist(group, schema=shard_schema()))
                rows += len(group)
        if not rows:
            raise ModelError(f"none of {len(wanted)} pairs could be made; the last reason was: {failures[-1].error}")
    entry = ShardEntry(name=path.name, rows=rows, sha256=sha256_of(path))
    shards = {shard.name: shard for shard in (*manifest.shards, entry)}
    tried = {record.id for record in wanted}
    failed = (*(failure for failure in manifest.failures if failure.id not in tried), *failures)
    manifest = manifest.model_copy(
        update={"shards": tuple(shards[key] for key in sorted(shards)), "failures": failed, "versions": versions()}
    )
    write_manifest(folder, manifest)
    return manifest


def _paint(
    wanted: list[PairRecord],
    made: _Made,
    generators: _Generators,
    batch_size: int,
    failures: list[Failure],
    report: Callable[[int], None],
) -> Iterator[dict[str, Any]]:
    """The rows of a shard in their order; what is not in ``made`` is painted, what fails goes to ``failures``.

    Batches are cut from the shard's first pair on and painted whole even where some are there already: a network's
    rounding depends on the batch, and so the bytes do not depend on where an earlier run stopped.
    """
    for start in range(0, len(wanted), batch_size):
        batch = wanted[start : start + batch_size]
        missing = {record.id for record in batch if record.id not in made}
        distilled, baseline = (_images(generator, batch, missing) for generator in generators)
        for record in batch:
            if record.id in made:
                yield as_row(record, *made[record.id])
                continue
            one, other = distilled[record.id], baseline[record.id]
            if isinstance(one, bytes) and isinstance(other, bytes):
                yield as_row(record, one, other)
            else:
                reason = one if isinstance(one, str) else str(other)
                failures.append(Failure(id=record.id, prompt=record.prompt, seed=record.seed, error=reason))
        report(start + len(batch))


def _images(generator: Generator, batch: list[PairRecord], missing: set[str]) -> dict[str, bytes | str]:
    """PNG bytes for each missing id, or the reason why there are none; after a failure, each is tried once alone."""
    if not missing:
        return {}
    together = _attempt(generator, batch)
    if not isinstance(together, str):
        return {record.id: png for record, png in zip(batch, together, strict=True)}
    results: dict[str, bytes | str] = {}
    for record in batch:
        if record.id in missing:
            alone = _attempt(generator, [record])
            results[record.id] = alone if isinstance(alone, str) else alone[0]
    return results


def _attempt(generator: Generator, records: list[PairRecord]) -> list[bytes] | str:
    """PNG bytes of all records painted together, or why that failed."""
    try:
        images = generator.generate([record.prompt for record in records], [record.seed for record in records])
        check_images(images, f"the images of {generator.spec.name}")
        return [encode_png(image) for image in images]
    except (TopcoatError, RuntimeError) as error:
        return " ".join(str(error).split())[:300] or type(error).__name__


def _grouped(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Rows in row groups of at most `_GROUP_ROWS` rows and about `_GROUP_BYTES` bytes."""
    group: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        group.append(row)
        size += sum(len(row[name]["bytes"]) for name in IMAGE_COLUMNS)
        if len(group) == _GROUP_ROWS or size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _shifted(on_progress: Progress | None, done: int, total: int) -> Callable[[int], None]:
    """A report for one shard, counted from the start of the dataset."""

    def report(in_shard: int) -> None:
        if on_progress is not None:
            on_progress(done + in_shard, total)

    return report
