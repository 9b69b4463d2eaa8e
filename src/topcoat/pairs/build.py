"""Building pairs: both generators paint every prompt, shard by shard, and a rerun goes on where one stopped."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topcoat.errors import DataError, UsageError
from topcoat.files import sha256_of, write_text
from topcoat.generators.base import Generator, ModelPair
from topcoat.generators.presets import model_pair
from topcoat.pairs.card import dataset_card
from topcoat.pairs.dataset import PairDataset
from topcoat.pairs.engines import Engine, EngineName, named_engine
from topcoat.pairs.manifest import (
    Dropped,
    Failure,
    Manifest,
    ShardEntry,
    build_identity,
    differences,
    new_manifest,
    read_manifest,
    versions,
    write_manifest,
)
from topcoat.pairs.painting import Painting
from topcoat.pairs.records import PairRecord, plan_records, read_columns
from topcoat.pairs.reuse import open_baseline_source
from topcoat.pairs.shards import ShardJob, ShardResult, Workshop, filter_labels
from topcoat.prompts import Prompt

if TYPE_CHECKING:
    from topcoat.pairs.filters import PairFilter

DEFAULT_BATCH_SIZE = 16
DEFAULT_SHARD_SIZE = 250

Progress = Callable[[int, int], None]


def build_pairs(
    folder: str | Path,
    prompts: Iterable[str | Prompt],
    pair: ModelPair | str,
    *,
    seeds: Sequence[int] | None = None,
    batch_size: int | None = None,
    shard_size: int = DEFAULT_SHARD_SIZE,
    painting: Painting | None = None,
    filters: Sequence[str | PairFilter] = (),
    engine: EngineName | Engine = "local",
    generators: tuple[Generator, Generator] | None = None,
    baseline_from: str | Path | None = None,
    on_progress: Progress | None = None,
) -> PairDataset:
    """Paint every prompt with both models of ``pair`` into ``folder``; run again to go on or to add prompts.

    Shards that are complete are kept as they are; pairs that failed are tried again. An image that cannot be made is
    retried once alone, then listed in the manifest, and the rest goes on; where memory ends, batches are halved.
    ``painting`` says how images are paired and what else is kept (by default: from the same seed, nothing else).
    ``filters``, given by name or as objects, leave pairs out and list them with reason and score. ``batch_size`` is a
    property of the folder: by default its own, 16 in a new one. ``generators`` replaces loading (distilled, baseline)
    from ``pair``. ``baseline_from`` is a dataset of the same baseline (with another distilled model, or with fewer
    prompts) whose images are used again where prompt and seed agree. ``on_progress`` is called with (pairs done, pairs
    planned).

    Raises `UsageError` for bad prompts, seeds, sizes, filters or an unknown engine; `DataError` if ``folder`` holds
    anything else (nothing is overwritten), was changed or cannot be written, or ``baseline_from`` is of another
    baseline; `ModelError` if a model cannot be had or fails for a whole shard.
    """
    if shard_size < 1 or (batch_size is not None and batch_size < 1):
        raise UsageError(f"batch_size {batch_size} and shard_size {shard_size} must both be 1 or more")
    folder = Path(folder)
    models = model_pair(pair) if isinstance(pair, str) else pair
    painting = painting or Painting()
    runner = named_engine(engine) if isinstance(engine, str) else engine
    records = plan_records(prompts, seeds)
    identity = build_identity(models, painting, filter_labels(filters))
    source = None if baseline_from is None else _baseline_source(Path(baseline_from), models, painting)
    manifest = _open_or_start(folder, models, identity, batch_size, shard_size)
    workshop = Workshop(
        folder, models, painting, manifest.batch_size or DEFAULT_BATCH_SIZE, tuple(filters), generators, source
    )
    jobs = _jobs(folder, manifest, records)
    done = _Done(len(records), sum(len(job) for job in jobs), on_progress)
    positions = {record.id: position for position, record in enumerate(records)}
    sizes = {job.name: job for job in jobs}
    try:
        for result in runner.run(workshop, jobs, done.shard):
            manifest = _entered(manifest, sizes[result.entry.name], result, positions)
            write_manifest(folder, manifest)
            done.shard(result.entry.name, len(sizes[result.entry.name]))
    finally:
        _remove_leftovers(folder)
    done.tell()
    card = dataset_card(manifest)
    if not _holds(folder / "README.md", card):
        write_text(folder / "README.md", card)
    return PairDataset.open(folder)


def shard_name(number: int) -> str:
    """The file name of a shard; without a total, so that adding pairs renames nothing."""
    return f"train-{number:05d}.parquet"


def _open_or_start(
    folder: Path, pair: ModelPair, identity: dict[str, Any], batch_size: int | None, shard_size: int
) -> Manifest:
    """The manifest to go on with; refuses a folder with other content before anything is written."""
    fresh = new_manifest(pair, shard_size).model_copy(
        update={"identity": identity, "batch_size": batch_size or DEFAULT_BATCH_SIZE}
    )
    if not (folder / "manifest.json").exists():
        if folder.exists() and (not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir())):
            raise DataError(f"{folder} is not an empty folder and holds no pairs; choose another one")
        write_manifest(folder, fresh)
        return fresh
    manifest = read_manifest(folder)
    if not (manifest.shards or manifest.dropped or any(folder.glob("data/*.parquet"))):
        if manifest != fresh.model_copy(update={"versions": manifest.versions}):
            write_manifest(folder, fresh)  # a build that ended before its first shard holds nobody to its settings
        _remove_leftovers(folder)
        return fresh
    changed = differences(manifest.identity, identity)
    if changed:
        more = f" and {len(changed) - 2} more" if len(changed) > 2 else ""
        raise DataError(
            f"{folder} holds pairs of other settings ({'; '.join(changed[:2])}{more}); nothing was changed, choose "
            "another folder or the settings of before"
        )
    sizes = (("shard_size", manifest.shard_size, shard_size), ("batch_size", manifest.batch_size, batch_size))
    for name, before, now in sizes:
        if before is not None and now is not None and before != now:
            raise DataError(f"{folder} has {name} {before}, not {now}; use {before}")
    _remove_leftovers(folder)
    return manifest.model_copy(update={"batch_size": manifest.batch_size or fresh.batch_size})


def _baseline_source(folder: Path, models: ModelPair, painting: Painting) -> Path:
    """``folder``, if baseline images can be taken from it; what cannot be is said before anything is loaded."""
    if painting.pairing != "same-seed":
        raise UsageError("a baseline that re-renders needs its own distilled images; leave baseline_from out")
    if painting.baseline_latents:
        raise UsageError("baseline images of another dataset come without latents; leave out one of the two")
    open_baseline_source(folder, models.baseline)
    return folder


def _remove_leftovers(folder: Path) -> None:
    """Delete what writers that were killed left behind."""
    for leftover in (
        *folder.glob("data/.train-*.tmp"),
        *folder.glob(".manifest.json.*.tmp"),
        *folder.glob(".README.*.tmp"),
    ):
        with suppress(OSError):
            leftover.unlink(missing_ok=True)


def _jobs(folder: Path, manifest: Manifest, records: list[PairRecord]) -> list[ShardJob]:
    """The shards that are not complete, each with what is there already.

    Raises `DataError` if a shard holds pairs of other prompts, or was changed since it was built.
    """
    listed = {entry.name: entry for entry in manifest.shards}
    dropped = {item.id for item in manifest.dropped}
    _check_unchanged(folder, manifest.shards)
    jobs: list[ShardJob] = []
    for number, start in enumerate(range(0, len(records), manifest.shard_size)):
        wanted = tuple(records[start : start + manifest.shard_size])
        name = shard_name(number)
        made = _made(folder / "data" / name, wanted, dropped, listed.get(name))
        if made is not None:
            if made and name in listed:
                _check_digest(folder / "data" / name, listed[name])  # what is reused must not carry damage on
            ids = {record.id for record in wanted}
            jobs.append(ShardJob(name, wanted, made, frozenset(dropped & ids)))
    return jobs


def _made(
    path: Path, wanted: Sequence[PairRecord], dropped: set[str], entry: ShardEntry | None
) -> frozenset[str] | None:
    """The ids of a shard that are there already, or None if the shard is complete."""
    if not path.exists():
        return frozenset()
    found = [row["id"] for row in read_columns(path, ["id"])]
    here = set(found)
    planned = [record.id for record in wanted]
    expected = [name for name in planned if name not in dropped]
    if [name for name in planned if name in here] == found:
        if found == expected and entry is not None and entry.rows == len(found):
            return None
        return frozenset(here - dropped)
    if entry is not None and entry.rows == len(found) and found[: len(expected)] == expected:
        return None  # fewer prompts than last time: what is there is kept
    raise DataError(
        f"{path} holds pairs of other prompts or seeds; nothing was changed, choose another folder or give the same "
        "prompts first and new ones after them"
    )


def _check_unchanged(folder: Path, entries: Sequence[ShardEntry]) -> None:
    """Raise `DataError` if a listed shard has other bytes than it was built with.

    Reading every byte of a large dataset takes hours, so a file of the right size that is no newer than the manifest
    is believed; `PairDataset.verify` believes nothing. What had to be read is believed from then on.
    """
    manifest_path = folder / "manifest.json"
    written_ns = manifest_path.stat().st_mtime_ns
    compared = False
    for entry in entries:
        path = folder / "data" / entry.name
        if not path.exists():
            continue  # it is made again
        status = path.stat()
        if entry.size_bytes not in (None, status.st_size) or status.st_mtime_ns > written_ns:
            _check_digest(path, entry)
            compared = True
    if compared:
        with suppress(OSError):
            os.utime(manifest_path)


def _check_digest(path: Path, entry: ShardEntry) -> None:
    if sha256_of(path) != entry.sha256:
        raise DataError(f"{path} was changed since it was built; delete it and run again to make it anew")


def _entered(manifest: Manifest, job: ShardJob, result: ShardResult, positions: dict[str, int]) -> Manifest:
    """The manifest with a shard that was made; what failed or was dropped is in the order of the plan."""
    shards = {shard.name: shard for shard in (*manifest.shards, result.entry)}
    tried = {record.id for record in job.records}

    def place(item: Failure | Dropped) -> int:
        return positions.get(item.id, len(positions))

    failures = [*(item for item in manifest.failures if item.id not in tried), *result.failures]
    dropped = [*manifest.dropped, *result.dropped]
    return manifest.model_copy(
        update={
            "shards": tuple(shards[name] for name in sorted(shards)),
            "failures": tuple(sorted(failures, key=place)),
            "dropped": tuple(sorted(dropped, key=place)),
            "versions": versions(),
        }
    )


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()


class _Done:
    """Counts pairs over shards that are made at the same time."""

    def __init__(self, total: int, open_pairs: int, on_progress: Progress | None) -> None:
        self._total = total
        self._before = total - open_pairs
        self._shards: dict[str, int] = {}
        self._on_progress = on_progress
        self.tell()

    def shard(self, name: str, done: int) -> None:
        """``done`` pairs of the shard ``name`` are done."""
        if self._shards.get(name, 0) < done:
            self._shards[name] = done
            self.tell()

    def tell(self) -> None:
        """Say how many pairs of all are done."""
        if self._on_progress is not None:
            self._on_progress(self._before + sum(self._shards.values()), self._total)
