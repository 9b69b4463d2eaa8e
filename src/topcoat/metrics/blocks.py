"""Power by frequency *and* position: cosine transforms of blocks, where a spectrum of whole images is blind.

A spectrum needs a window that fades out towards the borders, and averages over the rest. What a network leaves at the
borders of an image, or on a grid of its own up-sampling layers, is a small share of all power but no baseline has it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from topcoat.errors import UsageError

BLOCK_PX = 8
"""Side of a block, as in JPEG: a multiple of the periods of up-sampling layers and of latent patches."""
SMALLEST_PX = 3 * BLOCK_PX
PLACES = {"top": (0, 1), "left": (1, 0), "middle": (1, 1), "right": (1, 2), "bottom": (2, 1)}
"""Where the places of an image stand in `block_powers`; the corners hold too few blocks to tell anything."""


def block_powers(planes: Tensor) -> Tensor:
    """``(C, 3, 3, 8, 8)`` mean power of ``(N, C, H, W)`` planes by place (down, across) and frequency (down, across).

    Places are the first row or column of blocks, the last, and between them the mean of all others.
    The orthonormal cosine transform of blocks of 8 x 8 px; white noise of variance v has power v everywhere. Frequency
    k is k/16 cycles per pixel; 0, 0 is the mean of a block. What H and W have beyond a multiple of 8 is cut off.
    Raises `UsageError` for less than 24 px a side, where no block would lie between those at the borders.
    """
    if planes.ndim != 4 or min(planes.shape[-2:]) < SMALLEST_PX:
        raise UsageError(
            f"powers of blocks need images (N, C, H, W) of {SMALLEST_PX} or more pixels a side, not "
            f"{tuple(planes.shape)}"
        )
    height, width = (length // BLOCK_PX * BLOCK_PX for length in planes.shape[-2:])
    blocks = planes[..., :height, :width].unflatten(-1, (-1, BLOCK_PX)).unflatten(-3, (-1, BLOCK_PX))
    basis = _cosines().to(planes)
    waves = torch.einsum("ncaibj,ki,lj->ncabkl", blocks, basis, basis)
    power = waves.square().mean(dim=0)  # (C, blocks down, blocks across, 8, 8)
    rows = torch.stack([power[:, 0], power[:, 1:-1].mean(dim=1), power[:, -1]], dim=1)
    return torch.stack([rows[:, :, 0], rows[:, :, 1:-1].mean(dim=2), rows[:, :, -1]], dim=2)


def _cosines() -> Tensor:
    """``(8, 8)`` orthonormal type-II cosine transform, a frequency in each row."""
    place = torch.arange(BLOCK_PX, dtype=torch.float64) + 0.5
    waves = torch.cos(math.pi / BLOCK_PX * torch.outer(torch.arange(BLOCK_PX, dtype=torch.float64), place))
    return functional.normalize(waves, dim=1)
