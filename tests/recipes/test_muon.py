"""The recipe's Muon against PyTorch's own, and what it is for: singular values near 1."""

from __future__ import annotations

import torch
from torch import Tensor, nn, optim

from recipes.mini.muon import Muon, orthogonalized

SHAPES = ((8, 16), (16, 8), (8, 16), (5, 5))


def test_it_steps_as_pytorchs_own_does() -> None:
    generator = torch.Generator().manual_seed(0)

    def drawn() -> list[Tensor]:
        return [torch.randn(shape, generator=generator) for shape in SHAPES]

    ours = [nn.Parameter(matrix) for matrix in drawn()]
    theirs = [nn.Parameter(matrix.detach().clone()) for matrix in ours]
    unused = nn.Parameter(torch.ones(3, 3))
    optimizers = (
        Muon([*ours, unused], lr=0.01),
        optim.Muon(theirs, lr=0.01, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
    )
    before = [matrix.detach().clone() for matrix in ours]
    for _ in range(5):
        for mine, other, gradient in zip(ours, theirs, drawn(), strict=True):
            mine.grad, other.grad = gradient, gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    for mine, other, first in zip(ours, theirs, before, strict=True):
        assert (mine - first).abs().mean() > 0.002
        torch.testing.assert_close(mine, other, atol=1e-3, rtol=0)  # theirs computes in bfloat16
    assert bool((unused == 1).all())


def test_updates_are_orthogonal_at_any_scale() -> None:
    matrices = torch.randn(3, 12, 40, generator=torch.Generator().manual_seed(1))
    for turned in (matrices, 1e-3 * matrices.mT):
        values = torch.linalg.svdvals(orthogonalized(turned).float())
        assert float(values.min()) > 0.6 and float(values.max()) < 1.3
