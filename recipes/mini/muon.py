"""Muon (https://kellerjordan.github.io/posts/muon): momentum whose update is made orthogonal, for matrices.

PyTorch's own computes in bfloat16 and takes one matrix at a time; on a CPU without bfloat16 that is thirty times slower
than the rest of a step. This one takes all matrices of one shape together, in the precision that the device is fast in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn, optim

from recipes.mini.recipe import fast_dtype

COEFFICIENTS = (3.4445, -4.775, 2.0315)
NEWTON_SCHULZ_STEPS = 5
MATCHED_RMS = 0.2
"""Root mean square of an update as AdamW's commonly is (arXiv 2502.16982, eq. 4), so that both share learning rates."""


class Muon(optim.Optimizer):
    """Nesterov momentum, orthogonalized; decoupled weight decay as in AdamW."""

    def __init__(
        self, matrices: Iterable[nn.Parameter], lr: float, *, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike[matrix.shape].append(matrix)
            for shape, matrices in alike.items():
                updates = orthogonalized(torch.stack([self._momentum(matrix, group) for matrix in matrices]))
                rate = group["lr"] * MATCHED_RMS * max(shape) ** 0.5
                for matrix, update in zip(matrices, updates.to(matrices[0].dtype), strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=rate)

    def _momentum(self, matrix: nn.Parameter, group: dict[str, Any]) -> Tensor:
        assert matrix.grad is not None
        state = self.state[matrix]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        average = state["momentum_buffer"].lerp_(matrix.grad, 1 - group["momentum"])
        return matrix.grad.lerp(average, group["momentum"])


def orthogonalized(matrices: Tensor) -> Tensor:
    """Matrices (N, R, C) with every singular value near 1, by Newton and Schulz's iteration, in `fast_dtype`."""
    tall = matrices.shape[1] > matrices.shape[2]
    turned = (matrices.mT if tall else matrices).to(fast_dtype(matrices.device))
    turned = turned / turned.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = turned @ turned.mT
        turned = torch.baddbmm(turned, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), turned, beta=a)
    return turned.mT if tall else turned
