"""Dropping pairs of a finished dataset, where the whole set had to be seen first."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from topcoat.errors import UsageError
from topcoat.files import write_text
from topcoat.pairs.card import dataset_card
from topcoat.pairs.dataset import PairDataset
from topcoat.pairs.manifest import Manifest, ShardEntry, read_manifest, write_manifest
from topcoat.pairs.painter import dropped_entry
from topcoat.pairs.records import PairRecord, read_records, read_rows, read_schema
from topcoat.pairs.shards import write_shard

if TYPE_CHECKING:
    from topcoat.pairs.filters import Verdict


def drop_pairs(folder: str | Path, verdicts: Mapping[str, Verdict], filter_name: str) -> PairDataset:
    """Take the pairs that ``verdicts`` (by pair id) do not keep out of the dataset, and list them in its manifest.

    The manifest first lists all of them as dropped and takes the shards concerned out of its list; then each shard is
    rewritten in one piece and listed again. Whoever is stopped in between calls this again (no verdicts are needed to
    finish), or builds again, and nothing is lost. Raises `UsageError` for an id that the dataset never had,
    `DataError` if a shard cannot be read or written.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    paths = sorted((folder / "data").glob("train-*.parquet"))
    unmet = {name for name, verdict in verdicts.items() if not verdict.keep} - {item.id for item in manifest.dropped}
    chosen: list[PairRecord] = []
    concerned: set[str] = set()
    for path in paths:
        found = [record for record in read_records(path) if record.id in unmet] if unmet else []
        chosen += found
        if found:
            concerned.add(path.name)
    unknown = unmet - {record.id for record in chosen}
    if unknown:
        raise UsageError(f"{folder} has no pair {min(unknown)}; give ids of its pairs")
    if chosen:
        entries = [
            dropped_entry(record, filter_name, verdicts[record.id].reason, verdicts[record.id].score)
            for record in chosen
        ]
        kept = tuple(entry for entry in manifest.shards if entry.name not in concerned)
        manifest = manifest.model_copy(update={"dropped": (*manifest.dropped, *entries), "shards": kept})
        write_manifest(folder, manifest)
    for path in paths:
        if path.name not in {entry.name for entry in manifest.shards}:
            shards = sorted((*manifest.shards, _rewritten(path, manifest)), key=lambda entry: entry.name)
            manifest = manifest.model_copy(update={"shards": tuple(shards)})
            write_manifest(folder, manifest)
    write_text(folder / "README.md", dataset_card(manifest))
    return PairDataset.open(folder)


def _rewritten(path: Path, manifest: Manifest) -> ShardEntry:
    schema = read_schema(path)
    gone = {item.id for item in manifest.dropped}
    with closing(read_rows(path)) as rows:
        return write_shard(path, (row for row in rows if row["id"] not in gone), schema)
