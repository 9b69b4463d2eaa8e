from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from topcoat.errors import DataError, UsageError
from topcoat.generators.base import ModelPair
from topcoat.pairs import PairDataset, build_pairs
from topcoat.pairs import dataset as module
from topcoat.pairs.shards import row_groups
from topcoat.prompts import sample_prompts


@pytest.fixture
def dataset(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> PairDataset:
    return build_pairs(tmp_path / "pairs", sample_prompts(60), fake_pair, shard_size=25, generators=fake_generators)


def test_it_is_a_sequence_of_pairs(dataset: PairDataset) -> None:
    pair = dataset[7]
    assert pair.record == dataset.records[7]
    assert torch.equal(pair.distilled, dataset.distilled[7]) and torch.equal(pair.baseline, dataset.baseline[7])
    assert torch.equal(dataset[-1].baseline, dataset[59].baseline)
    assert [item.record.id for item in dataset[3:5]] == [record.id for record in dataset.records[3:5]]
    assert len(list(dataset)) == 60
    with pytest.raises(IndexError):
        dataset[60]


def test_columns_can_be_iterated_again_and_again(dataset: PairDataset) -> None:
    first, second = list(dataset.baseline), list(dataset.baseline)
    assert len(first) == len(dataset.baseline) == 60
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert len(dataset.baseline[10:14]) == 4


def test_splits_are_views_that_cover_everything_once(dataset: PairDataset) -> None:
    views = [dataset.split(name) for name in ("train", "val", "test")]
    assert sum(len(view) for view in views) == 60
    assert len(views[0]) > 40
    ids = {record.id for view in views for record in view.records}
    assert ids == {record.id for record in dataset.records}
    for view in views:
        for index, record in enumerate(view.records):
            whole = next(i for i, other in enumerate(dataset.records) if other.id == record.id)
            assert torch.equal(view.distilled[index], dataset.distilled[whole])
    with pytest.raises(UsageError, match="use one of: train, val, test"):
        dataset.split("validation")  # type: ignore[arg-type]


def test_the_digest_is_that_of_the_content(dataset: PairDataset, tmp_path: Path) -> None:
    assert dataset.digest == PairDataset.open(tmp_path / "pairs").digest
    assert len({dataset.digest, dataset.split("train").digest, dataset.split("val").digest}) == 3


def test_random_access_stays_within_the_cache(dataset: PairDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    original = module.read_cells

    def counted(*arguments: Any) -> Any:
        reads.append(1)
        return original(*arguments)

    monkeypatch.setattr(module, "read_cells", counted)
    for index in (59, 0, 30, 58, 1, 31):
        dataset.image(index, "baseline")
    assert len(reads) == 3


def test_a_dataset_travels_to_worker_processes(dataset: PairDataset) -> None:
    copy = pickle.loads(pickle.dumps(dataset.split("train")))
    assert torch.equal(copy[0].baseline, dataset.split("train")[0].baseline)


def test_large_images_go_in_small_row_groups() -> None:
    rows = [{"distilled": {"bytes": b"x" * size}, "baseline": {"bytes": b""}} for size in [9 << 20, 9 << 20, 1, 2]]
    assert [len(group) for group in row_groups(iter(rows))] == [2, 2]
    assert [len(group) for group in row_groups(iter(rows[2:] * 60))] == [50, 50, 20]


def test_folders_that_are_no_dataset(dataset: PairDataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no pairs"):
        PairDataset.open(tmp_path / "absent")
    manifest = tmp_path / "pairs" / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"format_version": 2', '"format_version": 99'))
    with pytest.raises(DataError, match="has format version 99, this topcoat reads 2"):
        PairDataset.open(tmp_path / "pairs")
    manifest.write_text(text.replace('"rows": 25', '"rows": 24'))
    with pytest.raises(DataError, match="has 25 pairs, the manifest says 24"):
        PairDataset.open(tmp_path / "pairs")
    manifest.write_text(text.replace('"shard_size"', '"shard_sizes"'))
    with pytest.raises(DataError, match="the manifest is damaged"):
        PairDataset.open(tmp_path / "pairs")


def test_changed_bytes_are_found(dataset: PairDataset, tmp_path: Path) -> None:
    dataset.verify()
    shard = tmp_path / "pairs" / "data" / "train-00001.parquet"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(DataError, match="was changed since it was built"):
        dataset.verify()
    shard.write_bytes(bytes(data[:100]))
    with pytest.raises(DataError, match="is damaged"):
        PairDataset.open(tmp_path / "pairs")


def _changed(dataset: PairDataset, change: Callable[[pa.Table], pa.Table]) -> Path:
    """The dataset's folder after ``change`` of its first shard."""
    shard = dataset.folder / "data" / dataset.manifest.shards[0].name
    pq.write_table(change(pq.read_table(shard)), shard)
    return dataset.folder


def test_a_side_that_is_missing_is_told_at_once(dataset: PairDataset) -> None:
    folder = _changed(dataset, lambda table: table.drop_columns(["baseline"]))
    with pytest.raises(DataError, match=r"train-00000\.parquet has no column baseline"):
        PairDataset.open(folder)


@pytest.mark.parametrize("cell", [None, {"bytes": None, "path": "x.png"}])
def test_an_image_that_is_missing_names_its_pair(dataset: PairDataset, cell: Any) -> None:
    def without(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index("baseline")
        cells = table.column("baseline").to_pylist()
        cells[3] = cell
        kind = table.schema.field("baseline")
        return table.set_column(place, kind, pa.array(cells, type=kind.type))

    opened = PairDataset.open(_changed(dataset, without))
    assert opened[2].baseline.ndim == 3
    with pytest.raises(DataError, match=f"pair {opened.records[3].id} has no baseline image"):
        _ = opened[3]
