from __future__ import annotations

import pytest
import torch

from topcoat.errors import UsageError
from topcoat.evaluation import cosine, different_subjects, identity, identity_pairs


def test_cosine_ignores_length_and_stays_in_range() -> None:
    a = torch.tensor([[3.0, 4.0], [1.0, 0.0], [2.0, 0.0]])
    b = torch.tensor([[6.0, 8.0], [0.0, 5.0], [-1.0, 0.0]])
    assert cosine(a, b).tolist() == pytest.approx([1, 0, -1])


def test_identity_mean_and_fifth_percentile() -> None:
    angles = torch.linspace(0, 1, 101, dtype=torch.float64)
    a = torch.tensor([[1.0, 0.0]], dtype=torch.float64).repeat(101, 1)
    b = torch.stack([angles, (1 - angles.square()).sqrt()], dim=1)
    found = identity(a, b)
    assert found.mean == pytest.approx(0.5)
    assert found.p05 == pytest.approx(0.05)


def test_same_subjects_against_shifted_ones() -> None:
    vectors = torch.eye(4)
    assert different_subjects(vectors, vectors).tolist() == [0, 0, 0, 0]
    found = identity_pairs(vectors, vectors)
    assert (found.same_mean, found.same_p05, found.different_mean, found.different_p95) == (1, 1, 0, 0)


def test_refusals() -> None:
    with pytest.raises(UsageError, match="one shape"):
        cosine(torch.zeros(2, 3), torch.zeros(3, 3))
    with pytest.raises(UsageError, match="none were given"):
        cosine(torch.zeros(0, 3), torch.zeros(0, 3))
    with pytest.raises(UsageError, match="2 or more"):
        identity_pairs(torch.eye(1), torch.eye(1))
