from __future__ import annotations

import pytest
import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.metrics.prdc import density_coverage, precision_recall


def bells(n: int, seed: int, centres: int = 4) -> Tensor:
    """Points around ``centres`` far apart modes, as many at each."""
    generator = torch.Generator().manual_seed(seed)
    places = 20 * torch.nn.functional.one_hot(torch.arange(n) % centres, 5).float()
    return places + torch.randn(n, 5, generator=generator)


def naive(images: Tensor, reference: Tensor, k: int) -> tuple[float, float, float, float]:
    """Precision, recall, density and coverage with plain loops."""

    def reach(points: Tensor) -> list[float]:
        return [sorted(float((p - q).norm()) for q in points)[k] for p in points]

    a, b = images.double(), reference.double()
    reach_a, reach_b = reach(a), reach(b)
    near = [[float((p - q).norm()) for q in b] for p in a]
    precision = sum(any(d <= r for d, r in zip(row, reach_b, strict=True)) for row in near) / len(a)
    columns = list(zip(*near, strict=True))
    recall = sum(any(d <= r for d, r in zip(column, reach_a, strict=True)) for column in columns) / len(b)
    density = sum(d < r for row in near for d, r in zip(row, reach_b, strict=True)) / (k * len(a))
    coverage = sum(min(column) < r for column, r in zip(columns, reach_b, strict=True)) / len(b)
    return precision, recall, density, coverage


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_matches_plain_loops_at_any_chunk(chunk: int) -> None:
    images, reference = bells(24, 0) + 0.7, bells(30, 1)
    spread = precision_recall(images, reference, k=3, chunk=chunk)
    cover = density_coverage(images, reference, k=3, chunk=chunk)
    assert (spread["precision"], spread["recall"], cover["density"], cover["coverage"]) == pytest.approx(
        naive(images, reference, 3)
    )


def test_mode_collapse_keeps_precision_and_loses_recall() -> None:
    reference = bells(400, 0)
    one_mode = bells(400, 1, centres=1)
    spread, cover = precision_recall(one_mode, reference), density_coverage(one_mode, reference)
    whole = precision_recall(bells(400, 1), reference)
    assert spread["precision"] > 0.8 and abs(spread["precision"] - whole["precision"]) < 0.05
    assert spread["recall"] < 0.3 < 0.8 < whole["recall"]
    assert cover["density"] > 0.8 and cover["coverage"] < 0.3


def test_noise_beside_the_reference_loses_precision_and_keeps_recall() -> None:
    reference = bells(400, 0)
    mixed = torch.cat([bells(200, 1), 300 + 10 * torch.randn(200, 5, generator=torch.Generator().manual_seed(2))])
    spread, cover = precision_recall(mixed, reference), density_coverage(mixed, reference)
    half = precision_recall(bells(200, 1), reference)["precision"] / 2
    assert spread["precision"] == pytest.approx(half, abs=0.01) and spread["recall"] > 0.7
    assert cover["density"] == pytest.approx(0.5, abs=0.1) and cover["coverage"] > 0.7


def test_a_set_against_itself_and_another_of_its_kind() -> None:
    reference = bells(300, 0)
    spread = precision_recall(reference, reference.flip(0))
    assert (spread["precision"], spread["recall"]) == (1, 1)
    assert density_coverage(reference, reference)["coverage"] == 1
    assert density_coverage(bells(300, 3), reference)["density"] == pytest.approx(1, abs=0.15)


def test_refusals() -> None:
    with pytest.raises(UsageError, match="need 4 or more images on each side, not 3 and 9"):
        precision_recall(torch.zeros(3, 2), torch.zeros(9, 2))
    with pytest.raises(UsageError, match="need 6 or more"):
        density_coverage(torch.zeros(9, 2), torch.zeros(5, 2))
    with pytest.raises(UsageError, match=r"\(N, D\)"):
        precision_recall(torch.zeros(9, 2), torch.zeros(9, 3))
    with pytest.raises(UsageError, match="1 or more"):
        density_coverage(torch.zeros(9, 2), torch.zeros(9, 2), k=0)
