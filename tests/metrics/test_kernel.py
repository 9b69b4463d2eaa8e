from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from topcoat.errors import UsageError
from topcoat.metrics.kernel import cmmd, kernel_distance


def naive(a: torch.Tensor, b: torch.Tensor, kernel: Callable[[torch.Tensor, torch.Tensor], float]) -> float:
    """The unbiased squared MMD, term by term."""
    within = [
        sum(kernel(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j) / (len(s) * (len(s) - 1))
        for s in (a, b)
    ]
    across = sum(kernel(u, v) for u in a for v in b) / (len(a) * len(b))
    return sum(within) - 2 * across


def cubic(u: torch.Tensor, v: torch.Tensor) -> float:
    return float((u.double() @ v.double() / len(u) + 1) ** 3)


def gaussian(u: torch.Tensor, v: torch.Tensor) -> float:
    one, other = (part.double() / part.double().norm() for part in (u, v))
    return float(torch.exp(-(one - other).square().sum() / 200))


def test_matches_the_double_loop_at_any_chunk() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(9, 4, generator=generator), torch.randn(7, 4, generator=generator) + 0.5
    for chunk in (1, 4, 1000):
        assert kernel_distance(a, b, chunk=chunk) == pytest.approx(naive(a, b, cubic), rel=1e-10)
        assert cmmd(a, b, chunk=chunk) == pytest.approx(1000 * naive(a, b, gaussian), rel=1e-8)


def test_cmmd_ignores_order_and_lengths() -> None:
    features = torch.randn(30, 4, generator=torch.Generator().manual_seed(2))
    itself = cmmd(features, features)
    assert itself < 0 < cmmd(features, features + 1)
    assert cmmd(features, features.flip(0)) == pytest.approx(itself, rel=1e-9)
    assert cmmd(features, 7 * features) == pytest.approx(itself, rel=1e-6)


def test_is_unbiased_near_zero_for_alike_sets() -> None:
    generator = torch.Generator().manual_seed(1)
    values = [
        kernel_distance(torch.randn(20, 4, generator=generator), torch.randn(20, 4, generator=generator))
        for _ in range(200)
    ]
    mean, error = torch.tensor(values).mean(), torch.tensor(values).std() / 200**0.5
    assert abs(mean) < 4 * error
    assert min(values) < 0


def test_refusals() -> None:
    with pytest.raises(UsageError, match="2 or more"):
        kernel_distance(torch.zeros(1, 4), torch.zeros(5, 4))
    with pytest.raises(UsageError, match="shapes"):
        kernel_distance(torch.zeros(5, 3), torch.zeros(5, 4))
