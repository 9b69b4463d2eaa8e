"""Power where a network leaves traces: grids of up-sampling layers and latent patches, seams of tiles, and blocks.

What a network leaves at the borders of an image, or on a grid of its up-sampling layers, is a small share of all power;
a spectrum fades out towards the borders, so `block_powers` are by frequency *and* position.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from topcoat.errors import UsageError
from topcoat.metrics.spectrum import decibels

BLOCK_PX = 8
"""Side of a block, as in JPEG: a multiple of the periods of up-sampling layers and of latent patches."""
SMALLEST_PX = 3 * BLOCK_PX
PLACES = {"top": (0, 1), "left": (1, 0), "middle": (1, 1), "right": (1, 2), "bottom": (2, 1)}
"""Where the places of an image stand in `block_powers`; the corners hold too few blocks to tell anything."""
GRID_PERIODS_PX = (2, 4, 8)
"""Periods that up-sampling layers and latent patches leave behind."""
TILE_PERIODS_PX = (16, 32, 64, 128, 256, 512)
_SEAM_FLOOR = 1e-3


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


def grid_peaks(power: Tensor) -> dict[int, float]:
    """How far each up-sampling period stands out of a mean power spectrum ``(H, W)``, in dB, by period in px.

    A grid of period p puts its power on frequencies that are multiples of 1/p in both directions. Those that no shorter
    period has are compared with the median of a ring around each, and the strongest counts.
    """
    return {
        period: max(_peak_db(power, down, across) for down, across in _grid_points(power, period, new=True))
        for period in GRID_PERIODS_PX
    }


def grid_excess(change: Tensor, wanted: Tensor) -> float:
    """The most that mean power ``(H, W)`` of a change has over that of the wanted one at any up-sampling frequency.

    In dB. Unlike `grid_peaks` it takes power as it is: a weak line, too, stands out of smooth surroundings.
    """
    points = _grid_points(change, max(GRID_PERIODS_PX), new=False)
    return max(float(decibels(_line(change, *point).mean(), _line(wanted, *point).mean())) for point in points)


def grid_levels(change: Tensor, wanted: Tensor, period: int) -> float:
    """Amplitude in 8-bit levels of a grid of this period beyond the wanted change, from windowed power ``(H, W)``."""
    power = _strongest(change, period) - _strongest(wanted, period)
    # A Hann window of L has the sum L / 2 and the sum of squares 3 L / 8.
    gain = math.prod((length / 2) ** 2 / (3 * length / 8) for length in change.shape)
    return 255 * math.sqrt(max(power, 0.0) / gain)


def worst_peak(peaks: dict[int, float], wanted: dict[int, float]) -> tuple[float, int]:
    """The largest excess over the wanted change, and the longest period that stands out half as far."""
    excess = {period: peaks[period] - max(0.0, wanted[period]) for period in peaks}
    most = max(excess.values())
    return max(most, 0.0), max(period for period, value in excess.items() if value >= min(most, most / 2))


def border_steps(change: Tensor, dim: int) -> Tensor:
    """Mean absolute step between neighbouring columns (dim -1) or rows (-2) of a change, summed over images."""
    return change.diff(dim=dim).abs().mean(dim=(1, -3 - dim), dtype=torch.float64).sum(dim=0)


def worst_seam(steps: list[Tensor]) -> tuple[float, int | None]:
    """The largest (ratio at tile borders, relative to the wanted change's) over periods and directions."""
    ratios: list[tuple[float, int]] = []
    for change, wanted in ((steps[0], steps[2]), (steps[1], steps[3])):
        for period in TILE_PERIODS_PX:
            if 2 * period <= len(change) + 1:
                ratios.append((_seam(change, period) / max(1.0, _seam(wanted, period)), period))
    return max(ratios, default=(1.0, None), key=lambda one: one[0])


def _grid_points(power: Tensor, period: int, *, new: bool) -> list[tuple[int, int]]:
    """Where a grid of this period has its power; with ``new`` without the points of half the period."""
    height, width = power.shape
    return [
        (round(down * height / period), round(across * width / period))
        for down in range(period // 2 + 1)
        for across in range(period)
        if (down, across) != (0, 0) and not (new and period > 2 and down % 2 == across % 2 == 0)
    ]


def _strongest(power: Tensor, period: int) -> float:
    height, width = power.shape
    return max(float(power[down % height, across % width]) for down, across in _grid_points(power, period, new=False))


def _peak_db(power: Tensor, down: int, across: int) -> float:
    patch = _around(power, down, across, 4)
    ring = torch.ones(9, 9, dtype=torch.bool)
    ring[2:7, 2:7] = False
    return float(decibels(_line(power, down, across).mean(), patch[ring].median()))


def _line(power: Tensor, down: int, across: int) -> Tensor:
    """The ``(3, 3)`` power that a Hann window spreads a line over."""
    return _around(power, down, across, 1)


def _around(power: Tensor, down: int, across: int, reach: int) -> Tensor:
    height, width = power.shape
    rows, columns = (torch.arange(middle - reach, middle + reach + 1) for middle in (down, across))
    return power[rows % height][:, columns % width]


def _seam(profile: Tensor, period: int) -> float:
    ratios: list[float] = []
    for border in range(period - 1, len(profile), period):
        near = torch.cat([profile[max(0, border - 7) : border], profile[border + 1 : border + 8]])
        ratios.append(float((profile[border] + _SEAM_FLOOR) / (near.median() + _SEAM_FLOOR)))
    return sum(ratios) / len(ratios)
