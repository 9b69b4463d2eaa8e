"""Paired measures: functions of two images of the same subject, or of one, per image."""

from __future__ import annotations

import torch
from torch import Tensor

from topcoat.errors import UsageError


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """``(N,)`` peak signal-to-noise ratios in dB of images ``(N, 3, H, W)`` in [0, 1]; infinity where equal."""
    if a.shape != b.shape or a.ndim != 4:
        raise UsageError(f"PSNR needs two batches of one shape (N, 3, H, W), not {tuple(a.shape)} and {tuple(b.shape)}")
    error = (a.to(torch.float64) - b.to(torch.float64)).square().mean(dim=(1, 2, 3))
    return -10 * torch.log10(error)


def gradient_energy(images: Tensor) -> Tensor:
    """``(N,)`` mean absolute forward differences of images ``(N, 3, H, W)`` in [0, 1], H and W >= 2.

    The mean over both directions, channels and pixels: a plain measure of how much fine contrast an image has.
    """
    if images.ndim != 4 or min(images.shape[-2:]) < 2:
        raise UsageError(f"gradients need images (N, 3, H, W) of 2 or more pixels a side, not {tuple(images.shape)}")
    images = images.to(torch.float64)
    across = (images[..., :, 1:] - images[..., :, :-1]).abs().mean(dim=(1, 2, 3))
    down = (images[..., 1:, :] - images[..., :-1, :]).abs().mean(dim=(1, 2, 3))
    return (across + down) / 2
