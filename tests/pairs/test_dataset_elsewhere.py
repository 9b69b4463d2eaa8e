"""A dataset read by others, with no code of ours: Hugging Face datasets (Ray is in test_engines_ray.py)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from topcoat.generators.base import ModelPair
from topcoat.pairs import PairDataset, PairingConfig, build_pairs
from topcoat.prompts import sample_prompts


@pytest.fixture
def dataset(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> PairDataset:
    pairing = PairingConfig(latents=True, distilled_steps=(1,))
    return build_pairs(
        tmp_path / "pairs",
        sample_prompts(9),
        fake_pair,
        shard_size=4,
        batch_size=3,
        pairing=pairing,
        generators=fake_generators,
    )


def pixels(image: Tensor) -> np.ndarray:
    return (image * 255).round().byte().permute(1, 2, 0).numpy()


def same(row: Any, dataset: PairDataset, index: int) -> None:
    pair = dataset[index]
    assert row["id"] == pair.record.id and row["prompt"] == pair.record.prompt and row["seed"] == pair.record.seed
    assert np.array_equal(np.asarray(row["distilled"]), pixels(pair.distilled))
    assert np.array_equal(np.asarray(row["baseline"]), pixels(pair.baseline))
    assert np.array_equal(np.asarray(row["distilled_steps_1"]), pixels(dataset.with_steps(1)[index].distilled))
    assert pair.latents is not None
    assert np.array_equal(np.asarray(row["latents"], dtype=np.float32), pair.latents.numpy())


@pytest.mark.filterwarnings("default")  # what datasets and its own libraries say of each other is not ours to mend
@pytest.mark.parametrize("streaming", [False, True])
def test_hugging_face_datasets_reads_it(dataset: PairDataset, tmp_path: Path, streaming: bool) -> None:
    import datasets

    datasets.disable_progress_bars()
    files = str(dataset.folder / "data" / "train-*.parquet")
    found: Any = datasets.load_dataset(
        "parquet", data_files=files, split="train", streaming=streaming, cache_dir=str(tmp_path / "cache")
    )
    assert isinstance(found.features["distilled"], datasets.Image)
    rows = list(found)
    assert len(rows) == 9
    for index in (0, 5, 8):
        same(rows[index], dataset, index)


@pytest.mark.filterwarnings("default")
def test_the_folder_is_a_dataset_repository(fake_pair: ModelPair, fake_generators: Any, tmp_path: Path) -> None:
    """By its card alone, as the hub's viewer and `load_dataset("user/name")` find it."""
    import datasets

    datasets.disable_progress_bars()
    dataset = build_pairs(tmp_path / "pairs", sample_prompts(60), fake_pair, shard_size=25, generators=fake_generators)
    counts = Counter(record.split for record in dataset.records)
    assert len(counts) == 3
    cache = str(tmp_path / "cache")
    for split, config in (("train", None), ("val", "validation"), ("test", "test")):
        found: Any = datasets.load_dataset(str(dataset.folder), config, cache_dir=cache)
        assert list(found) == [config or "train"]
        ids = [record.id for record in dataset.records if record.split == split]
        assert found[config or "train"]["id"] == ids and len(ids) == counts[split]
    whole: Any = datasets.load_dataset(str(dataset.folder), "all", cache_dir=cache)
    assert whole["pairs"].num_rows == len(dataset)
