"""Building pairs: both models generate every prompt, shard by shard, and a rerun continues where one stopped."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from topcoat.errors import DataError, UsageError, first_few
from topcoat.files import FolderLock, check_folder, sha256_of
from topcoat.generators.base import Generator, ModelPair
from topcoat.generators.presets import model_pair
from topcoat.pairs.dataset import PairDataset
from topcoat.pairs.engines import Engine, EngineName, named_engine
from topcoat.pairs.filters import filter_labels
from topcoat.pairs.manifest import (
    FORMAT_VERSION,
    Dropped,
    Failure,
    Manifest,
    ShardEntry,
    check_commits,
    differences,
    loaded_commits,
    pair_identity,
    read_manifest,
    versions,
    write_card,
    write_manifest,
)
from topcoat.pairs.reuse import check_baseline_source
from topcoat.pairs.schema import PairingConfig, PairRecord, plan_records, read_records
from topcoat.pairs.shards import BuildSpec, ShardJob, ShardResult
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
    pairing: PairingConfig | None = None,
    filters: Sequence[str | PairFilter] = (),
    engine: EngineName | Engine = "local",
    generators: tuple[Generator, Generator] | None = None,
    baseline_from: str | Path | None = None,
    on_progress: Progress | None = None,
) -> PairDataset:
    """Generate every prompt with both models of ``pair`` into ``folder``; run again to continue or to add prompts.

    Complete shards are kept as they are; pairs that failed are tried again. An image that fails is retried once alone,
    then listed in the manifest, and the rest continues; where memory ends, batches are halved. ``pairing`` says how
    images are paired and what else is kept (by default: from the same seed, nothing else). ``filters``, given by name
    or as objects, leave pairs out and list them with reason and score. ``batch_size`` is a property of the folder: by
    default its own, 16 in a new one. ``generators`` replaces loading (distilled, baseline) from ``pair``.
    ``baseline_from`` is a dataset of the same baseline (with another distilled model, or with fewer prompts) whose
    images are used again where prompt and seed agree. ``on_progress`` is called with (pairs done, pairs planned).

    Raises `UsageError` for bad prompts, seeds, sizes, filters or an unknown engine; `DataError` if ``folder`` holds
    anything else (nothing is overwritten), was changed, cannot be written or is written by another process, or
    ``baseline_from`` is of another baseline; `ModelError` if a model cannot be loaded or fails for a whole shard.
    """
    runner = named_engine(engine) if isinstance(engine, str) else engine
    folder = Path(folder)
    with nullcontext() if folder.is_file() else FolderLock(folder):
        plan = plan_build(
            folder,
            prompts,
            pair,
            seeds=seeds,
            batch_size=batch_size,
            shard_size=shard_size,
            pairing=pairing,
            filters=filters,
            baseline_from=baseline_from,
        )
        manifest, records = plan.manifest, plan.records
        _start(folder, manifest)
        batch_size = manifest.batch_size or DEFAULT_BATCH_SIZE
        spec = BuildSpec(folder, plan.models, manifest.pairing, batch_size, tuple(filters), generators, plan.source)
        jobs = {job.name: job for job in plan.jobs}
        done = _Done(len(records), sum(map(len, jobs.values())), on_progress)
        positions = {record.id: position for position, record in enumerate(records)}
        if jobs and generators is None:
            check_commits(manifest, loaded_commits(plan.models))
        try:
            for result in runner.run(spec, list(jobs.values()), done.shard):
                job = jobs[result.entry.name]
                loaded = {} if generators is not None else loaded_commits(plan.models)
                try:
                    check_commits(manifest, loaded)
                except DataError:  # the load has just fetched another commit
                    (folder / "data" / job.name).unlink(missing_ok=True)
                    raise
                manifest = _entered(manifest, job, result, positions)
                manifest = manifest.model_copy(update={"commits": manifest.commits | loaded})
                write_manifest(folder, manifest)
                done.shard(job.name, len(job))
        finally:
            _remove_leftovers(folder)
        done.tell()
        write_card(folder, manifest)
        return PairDataset.open(folder)


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What a build has to do, before anything is written."""

    folder: Path
    models: ModelPair
    manifest: Manifest
    """The folder's own, or that of a new one."""
    records: list[PairRecord]
    jobs: list[ShardJob]
    """The shards that are not complete."""

    source: Path | None = None
    """The dataset whose baseline images are used again."""

    @property
    def missing(self) -> list[PairRecord]:
        """The pairs that are left to make."""
        return [record for job in self.jobs for record in job.records if record.id not in job.existing | job.dropped]

    @property
    def reused(self) -> int:
        """How many of them take their baseline image from ``source``."""
        if self.source is None:
            return 0
        there = {(record.prompt, record.seed) for record in PairDataset.open(self.source).records}
        return sum((record.prompt, record.seed) in there for record in self.missing)


def plan_build(
    folder: str | Path,
    prompts: Iterable[str | Prompt],
    pair: ModelPair | str,
    *,
    seeds: Sequence[int] | None = None,
    batch_size: int | None = None,
    shard_size: int = DEFAULT_SHARD_SIZE,
    pairing: PairingConfig | None = None,
    filters: Sequence[str | PairFilter] = (),
    baseline_from: str | Path | None = None,
) -> BuildPlan:
    """What `build_pairs` would do with the same arguments; raises what it raises before it loads a model."""
    if shard_size < 1 or (batch_size is not None and batch_size < 1):
        raise UsageError(f"batch_size {batch_size} and shard_size {shard_size} must both be 1 or more")
    folder = Path(folder)
    models = model_pair(pair) if isinstance(pair, str) else pair
    pairing = (pairing or PairingConfig()).without_steps(models.distilled.steps)
    records = plan_records(prompts, seeds)
    planned = Manifest(
        format_version=FORMAT_VERSION,
        pair=models.name,
        **pair_identity(models),
        pairing=pairing,
        filters=filter_labels(filters),
        shard_size=shard_size,
        batch_size=batch_size,
        versions=versions(),
        shards=(),
        failures=(),
        dropped=(),
        planned=len(records),
    )
    source = None if baseline_from is None else Path(baseline_from)
    if source is not None:
        check_baseline_source(source, models.baseline, pairing)
    manifest = _agreed(folder, planned)
    jobs = _jobs(folder, manifest, records)
    if jobs or manifest.planned is not None:  # an older folder that is complete needs no writing
        manifest = manifest.model_copy(update={"planned": len(records)})
    return BuildPlan(folder, models, manifest, records, jobs, source)


def shard_name(number: int) -> str:
    """The file name of a shard; without a total, so that adding pairs renames nothing."""
    return f"train-{number:05d}.parquet"


def _agreed(folder: Path, planned: Manifest) -> Manifest:
    """The manifest to continue with; raises `DataError` for a folder with other content. Nothing is written."""
    fresh = planned.model_copy(update={"batch_size": planned.batch_size or DEFAULT_BATCH_SIZE})
    if not (folder / "manifest.json").exists():
        if folder.exists() and (not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir())):
            raise DataError(f"{folder} is not an empty folder and holds no pairs; choose another one")
        check_folder(folder, make=False)
        return fresh
    manifest = read_manifest(folder)
    if not (manifest.shards or manifest.dropped or any(folder.glob("data/*.parquet"))):
        return fresh  # a build that ended before its first shard does not bind the next one
    changed = differences(manifest, planned)
    if changed:
        raise DataError(
            f"{folder} holds pairs of other settings ({first_few(changed, 2, '; ')}); nothing was changed, choose "
            "another folder or the earlier settings"
        )
    for name in ("shard_size", "batch_size"):
        before, now = getattr(manifest, name), getattr(planned, name)
        if now is not None and before != now:
            raise DataError(f"{folder} has {name} {before}, not {now}; use {before}")
    return manifest


def _start(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a build that begins, and delete what an earlier one left behind."""
    _remove_leftovers(folder)
    there = read_manifest(folder) if (folder / "manifest.json").exists() else None
    if there is None or there != manifest.model_copy(update={"versions": there.versions}):
        write_manifest(folder, manifest)


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
        existing = _existing(folder / "data" / name, wanted, dropped, listed.get(name))
        if existing is not None:
            if existing and name in listed:
                _check_digest(folder / "data" / name, listed[name])  # rows that are reused must not spread damage
            jobs.append(ShardJob(name, wanted, existing, frozenset(dropped & {record.id for record in wanted})))
    return jobs


def _existing(
    path: Path, wanted: Sequence[PairRecord], dropped: set[str], entry: ShardEntry | None
) -> frozenset[str] | None:
    """The ids that a shard holds already, or None if the shard is complete."""
    if not path.exists():
        return frozenset()
    ids = [record.id for record in read_records(path)]
    planned = [record.id for record in wanted]
    expected = [name for name in planned if name not in dropped]
    existing, listed = frozenset(ids), entry is not None and entry.rows == len(ids)
    if [name for name in planned if name in existing] == ids:
        return None if listed and ids == expected else existing - dropped
    if listed and ids[: len(expected)] == expected:
        return None  # fewer prompts than last time: all rows are kept
    raise DataError(
        f"{path} holds pairs of other prompts or seeds; nothing was changed, choose another folder or give the same "
        "prompts first and new ones after them"
    )


def _check_unchanged(folder: Path, entries: Sequence[ShardEntry]) -> None:
    """Raise `DataError` if a listed shard has other bytes than it was built with.

    Reading every byte of a large dataset takes hours, so a file of the right size that is no newer than the manifest
    counts as unchanged (`PairDataset.verify` reads all). A file that had to be read counts so from then on.
    """
    if not entries:
        return
    manifest_path = folder / "manifest.json"
    written_ns = manifest_path.stat().st_mtime_ns
    compared = False
    for entry in entries:
        path = folder / "data" / entry.name
        if not path.exists():
            continue  # it will be made again
        status = path.stat()
        if entry.size_bytes != status.st_size or status.st_mtime_ns > written_ns:
            _check_digest(path, entry)
            compared = True
    if compared:
        with suppress(OSError):
            os.utime(manifest_path)


def _check_digest(path: Path, entry: ShardEntry) -> None:
    if sha256_of(path) != entry.sha256:
        raise DataError(f"{path} was changed since it was built; delete it and run again")


def _entered(manifest: Manifest, job: ShardJob, result: ShardResult, positions: dict[str, int]) -> Manifest:
    """The manifest with a new shard; failures and dropped pairs are in the order of the plan."""
    shards = {shard.name: shard for shard in (*manifest.shards, result.entry)}
    tried = {record.id for record in job.records}

    def position(item: Failure | Dropped) -> int:
        return positions.get(item.id, len(positions))

    failures = [*(item for item in manifest.failures if item.id not in tried), *result.failures]
    dropped = [*manifest.dropped, *result.dropped]
    return manifest.model_copy(
        update={
            "shards": tuple(shards[name] for name in sorted(shards)),
            "failures": tuple(sorted(failures, key=position)),
            "dropped": tuple(sorted(dropped, key=position)),
            "versions": versions(),
        }
    )


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
