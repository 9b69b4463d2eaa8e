from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import linalg

from topcoat.errors import DataError, UsageError
from topcoat.metrics.frechet import GaussianStatistics, frechet_distance, frechet_infinity


def exact_gaussian(mean: torch.Tensor, covariance: torch.Tensor, n: int = 400) -> torch.Tensor:
    """Samples whose sample mean and unbiased covariance are exactly the given ones."""
    d = len(mean)
    raw = torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    raw = raw - raw.mean(dim=0)
    white = raw @ torch.linalg.inv(torch.linalg.cholesky(raw.T @ raw / (n - 1))).T
    return white @ torch.linalg.cholesky(covariance).T + mean


def test_closed_form_of_diagonal_gaussians() -> None:
    d = 5
    mean = torch.arange(d, dtype=torch.float64)
    a = exact_gaussian(torch.zeros(d, dtype=torch.float64), 4 * torch.eye(d, dtype=torch.float64))
    b = exact_gaussian(mean, 9 * torch.eye(d, dtype=torch.float64), n=300)
    expected = float(mean.square().sum()) + d * (3 - 2) ** 2
    assert frechet_distance(GaussianStatistics.of(a), GaussianStatistics.of(b)) == pytest.approx(expected, abs=1e-9)


def test_matches_a_general_matrix_root() -> None:
    generator = torch.Generator().manual_seed(3)
    a = torch.randn(300, 16, generator=generator) @ torch.randn(16, 16, generator=generator)
    b = torch.randn(200, 16, generator=generator) @ torch.randn(16, 16, generator=generator) + 0.5
    cov_a, cov_b = np.cov(a.double().numpy().T), np.cov(b.double().numpy().T)
    root = np.real(np.asarray(linalg.sqrtm(cov_a @ cov_b)))
    shift = a.double().numpy().mean(0) - b.double().numpy().mean(0)
    expected = shift @ shift + np.trace(cov_a + cov_b - 2 * root)
    found = frechet_distance(GaussianStatistics.of(a), GaussianStatistics.of(b))
    assert found == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(GaussianStatistics.of(b), GaussianStatistics.of(a)) == pytest.approx(found, rel=1e-8)


def test_the_order_does_not_matter() -> None:
    features = torch.randn(101, 8, generator=torch.Generator().manual_seed(0)) + 1e4  # far off: cancellation shows
    whole, turned = GaussianStatistics.of(features), GaussianStatistics.of(features.flip(0))
    torch.testing.assert_close(turned.mean, whole.mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(turned.covariance, whole.covariance, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(whole.covariance, torch.cov(features.double().T), rtol=1e-9, atol=1e-9)


def test_a_set_against_itself_is_zero_even_where_it_is_degenerate() -> None:
    flat = torch.zeros(5, 8)
    flat[:, 0] = torch.arange(5)
    statistics = GaussianStatistics.of(flat)
    assert frechet_distance(statistics, statistics) == pytest.approx(0, abs=1e-9)


def test_refusals() -> None:
    with pytest.raises(DataError, match="NaN"):
        GaussianStatistics.of(torch.full((2, 4), torch.nan))
    with pytest.raises(UsageError, match="2 or more"):
        GaussianStatistics.of(torch.zeros(1, 4))
    with pytest.raises(UsageError, match="one net"):
        frechet_distance(GaussianStatistics.of(torch.zeros(2, 3)), GaussianStatistics.of(torch.zeros(2, 4)))
    with pytest.raises(UsageError, match=r"\(N, D\)"):
        GaussianStatistics.of(torch.zeros(3))


def test_infinity_takes_the_bias_of_few_images_away() -> None:
    # Two sets of one Gaussian: the true distance is 0, at 150 images it is far from it.
    generator = torch.Generator().manual_seed(5)
    found, plain = [], []
    for seed in range(6):
        a, b = (torch.randn(150, 8, generator=generator) for _ in range(2))
        found.append(frechet_infinity(a, b[:149], seed=seed).value)
        plain.append(frechet_distance(GaussianStatistics.of(a), GaussianStatistics.of(b)))
    assert sum(plain) / 6 > 0.1
    assert abs(sum(found) / 6) < sum(plain) / 6 / 4


def test_infinity_is_the_line_through_its_own_distances() -> None:
    a, b = (torch.randn(60, 3, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    found = frechet_infinity(a, b, seed=3)
    assert found.sizes == (18, 24, 30, 36, 42, 48, 54, 60)
    slope, intercept = np.polyfit(1 / np.array(found.sizes), np.array(found.distances), 1)
    assert found.value == pytest.approx(intercept, rel=1e-9) and slope > 0
    whole = frechet_distance(GaussianStatistics.of(a), GaussianStatistics.of(b))
    assert found.distances[-1] == pytest.approx(whole, rel=1e-9)
    assert found == frechet_infinity(a, b, seed=3) != frechet_infinity(a, b, seed=4)
    assert frechet_infinity(a, a).value == pytest.approx(0, abs=1e-9)


def test_infinity_refusals() -> None:
    with pytest.raises(UsageError, match="10 or more"):
        frechet_infinity(torch.zeros(9, 2), torch.zeros(20, 2))
    with pytest.raises(UsageError, match=r"\(N, D\)"):
        frechet_infinity(torch.zeros(20, 2), torch.zeros(20, 3))
