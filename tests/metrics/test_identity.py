from __future__ import annotations

import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.features import load_feature_net
from topcoat.metrics.context import Context
from topcoat.metrics.embed import Embeddings
from topcoat.metrics.identity import IdentityMetric, cosine, different_subjects, identity_thresholds


def identity_of(identities: dict[str, Tensor]) -> dict[tuple[str, str], float]:
    """Values of `IdentityMetric` by arm and name, from identity vectors ``(N, D)`` of every arm."""
    sets = {arm: Embeddings(vectors, vectors.double()) for arm, vectors in identities.items()}
    context = Context(load_feature_net("eval"), "mini", features={arm: [one] for arm, one in sets.items()})
    return {(score.arm, score.metric): score.value for score in IdentityMetric(context).compute()}


def test_cosine_ignores_length_and_stays_in_range() -> None:
    a = torch.tensor([[3.0, 4.0], [1.0, 0.0], [2.0, 0.0]])
    b = torch.tensor([[6.0, 8.0], [0.0, 5.0], [-1.0, 0.0]])
    assert cosine(a, b).tolist() == pytest.approx([1, 0, -1])


def test_identity_mean_and_fifth_percentile() -> None:
    angles = torch.linspace(0, 1, 101, dtype=torch.float64)
    a = torch.tensor([[1.0, 0.0]], dtype=torch.float64).repeat(101, 1)
    b = torch.stack([angles, (1 - angles.square()).sqrt()], dim=1)
    scores = identity_of({"distilled": a, "enhanced": b, "reference": a})
    assert scores["enhanced", "identity_mean"] == pytest.approx(0.5)
    assert scores["enhanced", "identity_p05"] == pytest.approx(0.05)


def test_same_subjects_against_shifted_ones() -> None:
    vectors = torch.eye(4)
    assert different_subjects(vectors, vectors).tolist() == [0, 0, 0, 0]
    scores = identity_of({"distilled": vectors, "enhanced": vectors, "reference": vectors})
    names = ("identity_mean", "identity_p05", "identity_mismatched_mean", "identity_mismatched_p95")
    assert [scores["reference", name] for name in names] == [1, 1, 0, 0]


def test_thresholds_of_two_known_bells() -> None:
    # Cosines of same subjects around 0.7, of different ones around 0.3, both with deviation 0.1.
    grid = torch.from_numpy(norm.ppf((torch.arange(4000).numpy() + 0.5) / 4000))
    found = identity_thresholds(0.7 + 0.1 * grid, 0.3 + 0.1 * grid)
    assert found.equal_error == pytest.approx(0.5, abs=0.01)
    assert found.equal_error_rate == pytest.approx(norm.cdf(-2), abs=0.002)
    # Both 5 % limits cross (0.464 and 0.536), so nothing is in doubt.
    assert found.same == found.different == pytest.approx(0.5, abs=0.001)
    near = identity_thresholds(0.5 + 0.1 * grid, 0.4 + 0.1 * grid)
    assert near.same == pytest.approx(0.4 + 0.1 * norm.ppf(0.95), abs=0.002)
    assert near.different == pytest.approx(0.5 + 0.1 * norm.ppf(0.05), abs=0.002)
    blind = identity_thresholds(grid, grid)
    assert blind.equal_error_rate == pytest.approx(0.5, abs=0.001)


def test_the_verdict_adds_up() -> None:
    grid = torch.linspace(0, 0.2, 21, dtype=torch.float64)
    thresholds = identity_thresholds(0.5 + grid, 0.45 + grid)
    shares = thresholds.shares(torch.tensor([0.9, 0.8, 0.58, 0.1]))
    assert shares == pytest.approx((0.5, 0.25, 0.25))
    with pytest.raises(UsageError, match="20 or more pairs"):
        identity_thresholds(torch.zeros(19), torch.zeros(50))


def test_refusals() -> None:
    with pytest.raises(UsageError, match="one shape"):
        cosine(torch.zeros(2, 3), torch.zeros(3, 3))
    with pytest.raises(UsageError, match="none were given"):
        cosine(torch.zeros(0, 3), torch.zeros(0, 3))
    with pytest.raises(UsageError, match="2 or more"):
        different_subjects(torch.eye(1), torch.eye(1))
