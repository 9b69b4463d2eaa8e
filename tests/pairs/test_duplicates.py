from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from topcoat.errors import UsageError
from topcoat.features import FeatureNet
from topcoat.generators.base import ModelPair
from topcoat.pairs import PairDataset, build_pairs, duplicates
from topcoat.pairs.duplicates import near_duplicates, nearest_earlier
from topcoat.prompts import sample_prompts


def reference(vectors: Tensor, threshold: float) -> list[tuple[int, float]]:
    """The rule word for word: each row against the earlier rows that are kept, one by one."""
    kept: list[int] = []
    found: list[tuple[int, float]] = []
    for row in range(len(vectors)):
        best = max(((float(vectors[row] @ vectors[other]), -other) for other in kept), default=(-1.0, 1))
        found.append((-best[1], best[0]))
        if best[0] < threshold:
            kept.append(row)
    return found


@pytest.mark.parametrize("block", [1, 7, 2048])
@pytest.mark.parametrize("threshold", [0.5, 0.9, 1.0])
def test_blocks_do_not_change_what_is_found(block: int, threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_BLOCK", block)
    vectors = functional.normalize(torch.randn(40, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    vectors[25] = vectors[3]
    positions, similarities = nearest_earlier(vectors, threshold)
    expected = reference(vectors, threshold)
    assert similarities.tolist() == pytest.approx([value for _, value in expected], abs=2e-6)
    assert positions.tolist() == [position for position, _ in expected]


def test_a_chain_of_likenesses_does_not_drop_everything() -> None:
    angles = torch.tensor([0.0, 0.3, 0.6, 0.9])  # each close to the next, the last far from the first
    positions, similarities = nearest_earlier(torch.stack([angles.cos(), angles.sin()], dim=1), 0.9)
    assert (similarities >= 0.9).tolist() == [False, True, False, True]
    assert positions.tolist() == [-1, 0, 0, 2]


@pytest.fixture
def dataset(tmp_path: Path, fake_pair: ModelPair, fake_generators: Any) -> PairDataset:
    """Twelve subjects, the third of them again as the last two: the same prompt and noise under other ids."""
    prompts: list[Any] = sample_prompts(12)
    seeds = list(range(12))
    again = [type(prompts[2])(id=f"again-{i}", text=prompts[2].text) for i in range(2)]
    return build_pairs(
        tmp_path / "pairs",
        [*prompts, *again],
        fake_pair,
        seeds=[*seeds, 2, 2],
        shard_size=5,
        generators=fake_generators,
    )


def test_the_later_of_two_is_dropped(dataset: PairDataset) -> None:
    net = FeatureNet.tiny(0)
    reports: list[tuple[int, int]] = []
    results = near_duplicates(dataset, 1.0, net=net, on_progress=lambda done, total: reports.append((done, total)))
    dropped = [name for name, result in results.items() if not result.keep]
    assert dropped == ["again-0-2", "again-1-2"] and len(results) == 14
    first = dataset.records[2].id
    assert results["again-1-2"].reason == f"near-duplicate of {first}: feature similarity 1.000, 1.000 or more"
    assert reports[-1] == (14, 14)
    assert near_duplicates(dataset, 1.0, net=net) == results


@pytest.mark.parametrize("threshold", [0.0, 1.01, float("nan")])
def test_thresholds_outside_the_cosines(dataset: PairDataset, threshold: float) -> None:
    with pytest.raises(UsageError, match="use more than 0 and at most 1"):
        near_duplicates(dataset, threshold, net=FeatureNet.tiny(0))
