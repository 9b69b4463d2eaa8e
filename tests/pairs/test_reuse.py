"""Baseline images of one dataset used again for another distilled model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from topcoat.errors import DataError, UsageError
from topcoat.generators.base import ModelPair
from topcoat.pairs import PairDataset, PairingConfig, build_pairs
from topcoat.pairs.reuse import ReusedBaseline
from topcoat.prompts import sample_prompts

PROMPTS = sample_prompts(9)


def build(folder: Path, pair: ModelPair, generators: Any, count: int = 9, **changes: Any) -> PairDataset:
    return build_pairs(folder, PROMPTS[:count], pair, batch_size=3, shard_size=4, generators=generators, **changes)


@pytest.fixture
def faster(fake_pair: ModelPair) -> ModelPair:
    """The same baseline with another distilled model."""
    return fake_pair.model_copy(update={"distilled": fake_pair.distilled.model_copy(update={"steps": 1})})


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "data").iterdir()}


def test_same_bytes_and_no_image_generated_twice(
    tmp_path: Path, fake_pair: ModelPair, faster: ModelPair, fake_generators: Any
) -> None:
    build(tmp_path / "first", fake_pair, fake_generators, count=5)
    build(tmp_path / "generated", faster, fake_generators)
    fake_generators[1].calls.clear()
    build(tmp_path / "reused", faster, fake_generators, baseline_from=tmp_path / "first")
    assert sum(fake_generators[1].calls) == 4  # five of nine are there
    assert shards(tmp_path / "reused") == shards(tmp_path / "generated")


def test_baseline_is_not_even_loaded_when_nothing_is_missing(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any
) -> None:
    dataset = build(tmp_path, fake_pair, fake_generators)

    def load() -> Any:
        raise AssertionError("loaded")

    kept = ReusedBaseline(dataset, fake_pair.baseline, load)
    order = [4, 0, 7]
    images = kept.generate([dataset.records[row].prompt for row in order], [dataset.records[row].seed for row in order])
    assert torch.equal(images, torch.stack([dataset.baseline[row] for row in order]))
    with pytest.raises(AssertionError, match="loaded"):
        kept.generate([dataset.records[0].prompt], [dataset.records[0].seed + 1])
    with pytest.raises(AssertionError, match="loaded"):
        kept.generate([dataset.records[0].prompt], [dataset.records[0].seed], steps=3)


def test_other_baselines_are_refused_before_anything_is_written(
    tmp_path: Path, fake_pair: ModelPair, fake_generators: Any
) -> None:
    build(tmp_path / "first", fake_pair, fake_generators)
    build(tmp_path / "moved", fake_pair, fake_generators, pairing=PairingConfig(method="img2img", strength=0.5))
    other = fake_pair.model_copy(update={"baseline": fake_pair.baseline.model_copy(update={"steps": 9})})
    with pytest.raises(DataError, match=r"are of other settings \(baseline\.steps: 8, not 9\)"):
        build(tmp_path / "new", other, fake_generators, baseline_from=tmp_path / "first")
    with pytest.raises(DataError, match="started from its own distilled images"):
        build(tmp_path / "new", fake_pair, fake_generators, baseline_from=tmp_path / "moved")
    with pytest.raises(UsageError, match="leave baseline_from out"):
        build(
            tmp_path / "new",
            fake_pair,
            fake_generators,
            pairing=PairingConfig(method="img2img", strength=0.5),
            baseline_from=tmp_path / "first",
        )
    with pytest.raises(DataError, match="holds no pairs"):
        build(tmp_path / "new", fake_pair, fake_generators, baseline_from=tmp_path / "nowhere")
    assert not (tmp_path / "new").exists()


def test_models_of_a_folder_are_loaded_where_they_are_needed(tmp_path: Path, flux_pair: ModelPair) -> None:
    build_pairs(tmp_path / "first", PROMPTS[:2], flux_pair, batch_size=1)
    again = build_pairs(tmp_path / "again", PROMPTS[:3], flux_pair, batch_size=1, baseline_from=tmp_path / "first")
    generated = build_pairs(tmp_path / "generated", PROMPTS[:3], flux_pair, batch_size=1)
    assert again.digest == generated.digest
