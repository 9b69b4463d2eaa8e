"""Near-duplicate subjects, found over a whole dataset, and dropping pairs of a finished one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.features import FeatureNet, load_feature_net
from topcoat.files import FolderLock
from topcoat.pairs.dataset import PairDataset
from topcoat.pairs.filters import FilterResult
from topcoat.pairs.generate import dropped_entry
from topcoat.pairs.manifest import Manifest, ShardEntry, read_manifest, write_card, write_manifest
from topcoat.pairs.schema import PairRecord, read_layout, read_records, read_rows
from topcoat.pairs.shards import write_shard
from topcoat.pairs.similarity import feature_vectors

NAME = "near-duplicates"
"""What the filter is called in a manifest."""

DUPLICATE_SIMILARITY = 0.95
"""Default similarity from which two subjects count as one; `topcoat pairs inspect` shows what else is that similar."""

_BLOCK = 2048  # rows compared at a time: two blocks give 16 MB of similarities


def near_duplicates(
    dataset: PairDataset,
    threshold: float = DUPLICATE_SIMILARITY,
    *,
    net: FeatureNet | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, FilterResult]:
    """One result for each pair id: of two pairs whose baselines are similar by ``threshold`` the later is dropped.

    Similarity is the cosine of the feature vectors (net ``loss``) of the baseline images; ``threshold`` lies in (0, 1].
    A pair is compared with the earlier pairs that are kept, in the order of the dataset, so a chain of similar subjects
    does not drop everything. Memory: one vector (256 bytes) for each pair.

    Raises `UsageError` for another threshold, `DataError` for an image that cannot be read.
    """
    net = load_feature_net("loss") if net is None else net
    check_threshold(threshold)
    vectors: list[Tensor] = []
    for index in range(len(dataset)):
        vectors.append(feature_vectors(net, dataset.image(index, "baseline")[None]))
        if on_progress is not None:
            on_progress(index + 1, len(dataset))
    if not vectors:
        return {}
    positions, similarities = nearest_earlier(torch.cat(vectors), threshold)
    results: dict[str, FilterResult] = {}
    for record, position, similarity in zip(dataset.records, positions.tolist(), similarities.tolist(), strict=True):
        keep, other = similarity < threshold, dataset.records[position].id
        reason = f"near-duplicate of {other}: feature similarity {similarity:.3f}, {threshold:.3f} or more"
        results[record.id] = FilterResult(keep, "" if keep else reason, similarity)
    return results


def check_threshold(threshold: float) -> float:
    """``threshold`` if it is one; raises `UsageError` outside (0, 1]."""
    if not 0 < threshold <= 1:
        raise UsageError(f"a similarity threshold of {threshold} is not possible; use more than 0 and at most 1")
    return threshold


def nearest_earlier(vectors: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """For each row of unit vectors ``(N, D)`` the nearest earlier row that is itself under ``threshold``.

    Gives positions ``(N,)`` and cosines ``(N,)``; where there is none, as for the first row, these are -1. Rows are
    compared in blocks, so memory does not grow with N squared; time does.
    """
    count = len(vectors)
    keep = torch.zeros(count, dtype=torch.bool)
    best = torch.full((count,), -1.0)
    position = torch.full((count,), -1, dtype=torch.long)
    for start in range(0, count, _BLOCK):
        rows = slice(start, min(start + _BLOCK, count))
        for before in range(0, start, _BLOCK):
            columns = slice(before, before + _BLOCK)
            cosines = _cosines(vectors[rows], vectors[columns]).masked_fill(~keep[columns], -1.0)
            value, index = cosines.max(dim=1)
            better = value > best[rows]
            best[rows] = torch.where(better, value, best[rows])
            position[rows] = torch.where(better, index + before, position[rows])
        own = _cosines(vectors[rows], vectors[rows])
        for offset in range(own.shape[0]):
            row = start + offset
            if offset:
                value, index = own[offset, :offset].masked_fill(~keep[start:row], -1.0).max(dim=0)
                if value > best[row]:
                    best[row], position[row] = value, index + start
            keep[row] = best[row] < threshold
    return position, best


def drop_pairs(folder: str | Path, results: Mapping[str, FilterResult], filter_name: str) -> PairDataset:
    """Take the pairs that ``results`` (by pair id) do not keep out of the dataset, and list them in its manifest.

    The manifest first lists all of them as dropped and takes the shards concerned out of its list; then each shard is
    rewritten in one piece and listed again. After an interruption, this function (no results are needed to finish) or
    another build completes the work. Raises `UsageError` for an id that the dataset never had, `DataError` if a shard
    cannot be read or written, or another process writes into the folder.
    """
    folder = Path(folder)
    read_manifest(folder)  # before the lock, which makes a folder
    with FolderLock(folder):
        return _drop_pairs(folder, read_manifest(folder), results, filter_name)


def _drop_pairs(folder: Path, manifest: Manifest, results: Mapping[str, FilterResult], filter_name: str) -> PairDataset:
    paths = sorted((folder / "data").glob("train-*.parquet"))
    wanted = {name for name, result in results.items() if not result.keep} - {item.id for item in manifest.dropped}
    chosen: dict[str, list[PairRecord]] = {
        path.name: [record for record in read_records(path) if record.id in wanted] for path in paths if wanted
    }
    records = [record for each in chosen.values() for record in each]
    unknown = wanted - {record.id for record in records}
    if unknown:
        raise UsageError(f"{folder} has no pair {min(unknown)}; give ids of its pairs")
    if records:
        entries = [
            dropped_entry(record, filter_name, results[record.id].reason, results[record.id].score)
            for record in records
        ]
        untouched = tuple(entry for entry in manifest.shards if not chosen.get(entry.name))
        manifest = manifest.model_copy(update={"dropped": (*manifest.dropped, *entries), "shards": untouched})
        write_manifest(folder, manifest)
    for path in paths:
        if path.name not in {entry.name for entry in manifest.shards}:
            shards = sorted((*manifest.shards, _rewritten(path, manifest)), key=lambda entry: entry.name)
            manifest = manifest.model_copy(update={"shards": tuple(shards)})
            write_manifest(folder, manifest)
    write_card(folder, manifest)
    return PairDataset.open(folder)


def _rewritten(path: Path, manifest: Manifest) -> ShardEntry:
    dropped = {item.id for item in manifest.dropped}
    schema, _ = read_layout(path)
    with closing(read_rows(path)) as rows:
        return write_shard(path, (row for row in rows if row["id"] not in dropped), schema)


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosines to six decimals: a float32 product rounds its last digits differently on other machines."""
    return (a @ b.T).mul(1e6).round().div(1e6).clamp(-1, 1)
