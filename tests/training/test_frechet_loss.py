"""The set loss against the distance that it descends."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.training import frechet_loss
from topcoat.training.frechet_loss import SetMoments, embedding_of, transported


def sets(count: int = 4000, dimensions: int = 6) -> tuple[Tensor, Tensor]:
    """Two sets of correlated embeddings, of other means and covariances."""
    generator = torch.Generator().manual_seed(0)
    mixed = [
        torch.randn(count, dimensions, generator=generator, dtype=torch.float64)
        @ (torch.eye(dimensions) + 0.3 * torch.randn(dimensions, dimensions, generator=generator)).double()
        for _ in range(2)
    ]
    return mixed[0] + 1.5, mixed[1] - 0.5


def moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    return rows.mean(dim=0), rows.T.cov(correction=0)


def frechet(z: Tensor, y: Tensor) -> Tensor:
    """The textbook formula, differentiable: eigenvalues of the product of the covariances."""
    (mean_z, covariance_z), (mean_y, covariance_y) = moments(z), moments(y)
    shared = torch.linalg.eigvals(covariance_z @ covariance_y).real.clamp_min(0).sqrt().sum()
    return (mean_z - mean_y).square().sum() + covariance_z.trace() + covariance_y.trace() - 2 * shared


def test_the_map_gives_the_outputs_the_moments_of_the_baseline() -> None:
    z, y = sets()
    placed = transported(z, *moments(z), *moments(y))
    for found, wanted in zip(moments(placed), moments(y), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0.01, atol=0.01)
    torch.testing.assert_close(transported(y, *moments(y), *moments(y)), y, rtol=0, atol=0.05)


def test_its_gradient_is_that_of_the_frechet_distance() -> None:
    z, y = sets(count=400)
    z.requires_grad_()
    (expected,) = torch.autograd.grad(frechet(z, y), z)
    memory = SetMoments()
    memory.update(z, y)
    single = z.detach().float().requires_grad_()
    (found,) = torch.autograd.grad(memory.loss(single) * float(moments(y)[1].trace()), single)
    torch.testing.assert_close(found.double(), expected, rtol=0.02, atol=5e-4)


def test_moments_of_few_batches_are_those_of_all_their_images() -> None:
    z, y = sets(count=60)
    whole, parts = SetMoments(), SetMoments()
    whole.update(z, y)
    for start in range(0, 60, 20):
        parts.update(z[start : start + 20], y[start : start + 20])
    for name, value in whole.tensors().items():
        torch.testing.assert_close(parts.tensors()[name], value, rtol=0.02, atol=0.02)


def test_moments_wait_and_forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frechet_loss, "FEWEST_PER_DIMENSION", 4)
    z, y = sets(count=20)
    memory = SetMoments()
    memory.update(z, y)
    assert not memory.ready()  # 20 images of 6 dimensions
    memory.update(z, y)
    assert memory.ready()
    for _ in range(2000):
        memory.update(z + 5, y)
    torch.testing.assert_close(memory.tensors()["mean_z"], (z + 5).mean(dim=0), rtol=1e-4, atol=1e-4)


def test_state_comes_back() -> None:
    z, y = sets(count=50)
    memory, again = SetMoments(), SetMoments()
    memory.update(z, y)
    again.load_tensors(memory.tensors())
    assert torch.equal(memory.loss(z.float()), again.loss(z.float()))


def test_a_net_without_an_embedding_is_refused() -> None:
    with pytest.raises(UsageError, match="needs a loss net with an embedding"):
        embedding_of(SimpleNamespace(stages=()))
