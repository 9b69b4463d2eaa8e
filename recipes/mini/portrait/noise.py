"""Band-limited noise in three dimensions: one tiled volume of smoothed Gaussian values, sampled trilinearly."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as functional
from torch import Tensor

PERIOD = 64
"""Cells after which the noise repeats along each axis."""


@functools.cache
def _volume() -> Tensor:
    """The noise volume, (1, 1, PERIOD+1, PERIOD+1, PERIOD+1), of unit variance; a fixed table, not a draw."""
    generator = torch.Generator().manual_seed(20240)
    values = torch.randn(1, 1, PERIOD, PERIOD, PERIOD, generator=generator)
    # A small blur removes the grid's own frequency, which trilinear sampling would show as facets.
    for axis in (2, 3, 4):
        values = 0.5 * values + 0.25 * (values.roll(1, axis) + values.roll(-1, axis))
    values = values / values.std()
    return functional.pad(values, (0, 1, 0, 1, 0, 1), mode="circular").contiguous()


def noise(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Noise of mean 0 and about unit variance with features one to two units wide, at points of any shape."""
    where = torch.stack((x, y, z), dim=-1).reshape(1, 1, 1, -1, 3)
    where = (where - torch.floor(where / PERIOD) * PERIOD) * (2.0 / PERIOD) - 1.0
    return functional.grid_sample(_volume(), where, mode="bilinear", align_corners=True).reshape(x.shape)
