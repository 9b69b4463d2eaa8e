"""Losses between a head and a discriminator: pure functions of scores or of features, each a mean.

y is the baseline image and z the head's output; D gives scores that are higher for what looks like a baseline image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Adversary = Literal["hinge", "lsgan"]


def discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor], kind: Adversary) -> Tensor:
    """The discriminator's loss, a mean over its maps of scores: one map for each scale or stage that it looks at."""
    loss = {"hinge": hinge_discriminator_loss, "lsgan": lsgan_discriminator_loss}[kind]
    return torch.stack([loss(a, b) for a, b in zip(real, fake, strict=True)]).mean()


def generator_loss(fake: Sequence[Tensor], kind: Adversary) -> Tensor:
    """The head's loss, a mean over the discriminator's maps of scores."""
    loss = {"hinge": hinge_generator_loss, "lsgan": lsgan_generator_loss}[kind]
    return torch.stack([loss(scores) for scores in fake]).mean()


def hinge_discriminator_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Hinge loss of a discriminator: E[max(0, 1 - D(y))] + E[max(0, 1 + D(z))] (arXiv 1802.05957, eq. 16)."""
    return F.relu(1 - real_scores.float()).mean() + F.relu(1 + fake_scores.float()).mean()


def hinge_generator_loss(fake_scores: Tensor) -> Tensor:
    """Hinge loss of a generator: -E[D(z)] (arXiv 1802.05957, eq. 17)."""
    return -fake_scores.float().mean()


def lsgan_discriminator_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Least squares: (E[(D(y) - 1)^2] + E[D(z)^2]) / 2 (arXiv 1611.04076, eq. 9)."""
    return ((real_scores.float() - 1).square().mean() + fake_scores.float().square().mean()) / 2


def lsgan_generator_loss(fake_scores: Tensor) -> Tensor:
    """Least squares: E[(D(z) - 1)^2]; without the factor 1/2 of arXiv 1611.04076, as CycleGAN takes it."""
    return (fake_scores.float() - 1).square().mean()


def r1_penalty(scores: Sequence[Tensor], inputs: Sequence[Tensor]) -> Tensor:
    """R1: half the mean squared norm of the gradient of D(y) with respect to y (arXiv 1801.04406, eq. 9).

    ``scores`` are maps computed from ``inputs`` (each ``(N, ...)``, with gradients on); the norm is per image.
    """
    total = torch.stack([score.float().mean((1, 2, 3)).sum() for score in scores]).sum()
    gradients = torch.autograd.grad(total, list(inputs), create_graph=True)
    return torch.stack([gradient.float().square().flatten(1).sum(1).mean() for gradient in gradients]).sum() / 2


def feature_matching_loss(fake: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """L1 of the discriminator's own features of z and y, a mean over layers (pix2pixHD, arXiv 1711.11585, eq. 4)."""
    distances = [(a.float() - b.detach().float()).abs().mean() for a, b in zip(fake, real, strict=True)]
    return torch.stack(distances).mean()
