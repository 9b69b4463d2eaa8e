"""Artefacts: what a broken head adds that a set distance may forgive. A stream of subjects in, a verdict each out.

Every measure looks at what was changed, z - x, beside what ought to have been changed, y - x (x distilled, z enhanced,
y baseline), because a portrait has edges and grids of its own. Each is calibrated so that z = y gives the neutral
value: 0 dB, a ratio of 1, or the 1 % that any 99th percentile leaves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from topcoat.errors import UsageError
from topcoat.images import gaussian_blur
from topcoat.metrics.blocks import BLOCK_PX, PLACES, block_powers
from topcoat.metrics.colour import colour_difference, patch_colours
from topcoat.metrics.growing import GrowingTensor
from topcoat.metrics.spectrum import decibels, luma, windowed_power

GRID_PERIODS_PX = (2, 4, 8)
"""Periods that up-sampling layers and latent patches leave behind."""
TILE_PERIODS_PX = (16, 32, 64, 128, 256, 512)
SMALLEST_PX = 32
"""Fewer pixels a side leave no room to tell a grid from a face."""
_EDGE_SHARE = 0.1
_BLOB_GRID = 32
_BLOB_MARGIN = 1.25
_SEAM_FLOOR = 1e-3


@dataclass(frozen=True, slots=True)
class Colour:
    """CIELAB of enhanced against baseline, beside distilled against baseline."""

    shift: tuple[float, float, float]
    """Mean difference in L*, a*, b* of the enhanced images."""
    spread: tuple[float, float, float]
    """Standard deviation of that difference over images."""
    difference: float
    """Mean CIEDE2000 of patches, enhanced against baseline."""
    difference_do_nothing: float


@dataclass(frozen=True, slots=True)
class Artefacts:
    """What `ArtefactScan` found in N subjects."""

    n: int
    changed: float
    """Mean absolute change from distilled to enhanced, of 1; 0 is the identity map."""
    checkerboard_db: float
    """How far the strongest peak at an up-sampling frequency stands above that of the wanted change."""
    checkerboard_period_px: int
    checkerboard_levels: float
    """About how strong that grid is, in 8-bit levels beyond the wanted change; under a half it is in no file."""
    grid_db: float
    """The most power that the change has over the wanted one at any up-sampling frequency; at 0 or less no grid of the
    head is stronger than what was wanted there."""
    seams: float
    """Step across tile borders over the step elsewhere, relative to that of the wanted change."""
    seam_period_px: int | None
    """None where images are too small for tiles."""
    blobs: float
    """Share of images with a blob larger than 99 % of the wanted changes have, by a margin of 25 %."""
    halos: float
    """Mean overshoot beside strong edges, of 1."""
    halos_baseline: float
    """The baseline's own, against the same edges."""
    high_frequency_db: float
    """Power above half the highest frequency, enhanced over baseline; well below 0 is blur."""
    high_frequency_db_do_nothing: float
    foreign_db: float
    """The most that the enhanced images have over the baseline at any frequency and place, beyond what the distilled
    ones have: detail that nobody asked for."""
    foreign_period_px: float
    foreign_place: str
    """One of `topcoat.metrics.blocks.PLACES`."""
    colour: Colour


class ArtefactScan:
    """Collects batches of the same subjects and sums them up; memory does not grow but for a few numbers an image."""

    def __init__(self) -> None:
        self._n = 0
        self._size: tuple[int, int] | None = None
        self._power: list[Tensor] = []  # change, wanted change, x, z, y: each (H, W), summed over images
        self._blocks: list[Tensor] = []  # x, z, y: each (3, 3, 8, 8), summed over images
        self._steps: list[Tensor] = []  # change and wanted change, across and down
        self._rows: dict[str, GrowingTensor] = {}

    @property
    def n(self) -> int:
        """Number of subjects seen."""
        return self._n

    def update(self, distilled: Tensor, enhanced: Tensor, baseline: Tensor) -> None:
        """Add the same subjects three times, ``(N, 3, H, W)`` in [0, 1] each, H and W >= 32 and always the same."""
        _check(distilled, enhanced, baseline, self._size)
        self._size = (distilled.shape[2], distilled.shape[3])
        x, z, y = (part.to("cpu", torch.float32) for part in (distilled, enhanced, baseline))
        change, wanted = z - x, y - x
        grey_x, grey_z, grey_y = greys = [luma(part) for part in (x, z, y)]  # that of a change is their difference
        planes = (grey_z - grey_x, grey_y - grey_x, *greys)
        power = [windowed_power(part).to(torch.float64).sum(dim=0) for part in planes]
        steps = [_steps(part, dim) for part in (change, wanted) for dim in (-1, -2)]
        blocks = [len(x) * block_powers(part.unsqueeze(1))[0].to(torch.float64) for part in greys]
        self._power, self._blocks, self._steps = (
            new if not old else [a + b for a, b in zip(old, new, strict=True)]
            for old, new in ((self._power, power), (self._blocks, blocks), (self._steps, steps))
        )
        self._n += len(x)
        colours = [patch_colours(part) for part in (x, z, y)]
        found = {
            "changed": change.abs().mean(dim=(1, 2, 3), dtype=torch.float64),
            "blob": blob_peak(change),
            "blob_wanted": blob_peak(wanted),
            "halo": overshoot(z, x),
            "halo_baseline": overshoot(y, x),
            "shift": (colours[1] - colours[2]).to(torch.float64).mean(dim=(1, 2)),
            "difference": colour_difference(colours[1], colours[2]),
            "difference_do_nothing": colour_difference(colours[0], colours[2]),
        }
        for name, values in found.items():
            self._rows.setdefault(name, GrowingTensor()).add(values)

    def result(self) -> Artefacts:
        """The verdict; raises `UsageError` where fewer than 2 images were seen."""
        if self._n < 2:
            raise UsageError(f"artefacts are looked for in 2 or more subjects, not {self._n}; add images")
        rows = {name: column.rows for name, column in self._rows.items()}
        power = [part / self._n for part in self._power]
        peak, period = _worst(grid_peaks(power[0]), grid_peaks(power[1]))
        seam, seam_period = _worst_seam([part / self._n for part in self._steps])
        limit = rows["blob_wanted"].quantile(0.99) * _BLOB_MARGIN
        high = [_high_power(part) for part in power[2:]]
        foreign, foreign_period, place = foreign_detail(*(part / self._n for part in self._blocks))
        return Artefacts(
            n=self._n,
            changed=float(rows["changed"].mean()),
            checkerboard_db=peak,
            checkerboard_period_px=period,
            checkerboard_levels=_levels(_strongest(power[0], period) - _strongest(power[1], period), power[0].shape),
            grid_db=grid_excess(power[0], power[1]),
            seams=seam,
            seam_period_px=seam_period,
            blobs=float((rows["blob"] > limit).double().mean()),
            halos=float(rows["halo"].mean()),
            halos_baseline=float(rows["halo_baseline"].mean()),
            high_frequency_db=float(decibels(high[1], high[2])),
            high_frequency_db_do_nothing=float(decibels(high[0], high[2])),
            foreign_db=foreign,
            foreign_period_px=foreign_period,
            foreign_place=place,
            colour=Colour(
                shift=_three(rows["shift"].mean(dim=0)),
                spread=_three(rows["shift"].std(dim=0)),
                difference=float(rows["difference"].mean()),
                difference_do_nothing=float(rows["difference_do_nothing"].mean()),
            ),
        )


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


def foreign_detail(distilled: Tensor, enhanced: Tensor, baseline: Tensor) -> tuple[float, float, str]:
    """The largest excess of power, in dB, its period in px and its place, of mean `block_powers` ``(3, 3, 8, 8)`` each.

    Excess is what enhanced images have over the baseline, less what distilled ones have over it where that is more than
    none: 0 for enhanced images that are the baseline's or the distilled ones'.
    """
    excess = decibels(enhanced, baseline) - decibels(distilled, baseline).clamp_min(0)
    excess[..., 0, 0] = -math.inf  # the means of blocks: colour and light, which have measures of their own
    best = max(PLACES, key=lambda name: float(excess[PLACES[name]].max()))
    there = excess[PLACES[best]]
    down, across = divmod(int(there.argmax()), BLOCK_PX)
    return max(0.0, float(there.max())), 2 * BLOCK_PX / math.hypot(down, across), best


def blob_peak(change: Tensor) -> Tensor:
    """``(N,)`` float64 strongest round spot of about 1/16 of the side in changes of images ``(N, 3, H, W)``.

    The largest difference, over places and channels, between a spot and what surrounds it.
    """
    grid = (min(_BLOB_GRID, change.shape[-2]), min(_BLOB_GRID, change.shape[-1]))
    small = functional.adaptive_avg_pool2d(change, grid)
    spots = gaussian_blur(small, 0.8) - gaussian_blur(small, 2.5)
    return spots.abs().amax(dim=(1, 2, 3)).to(torch.float64)


def overshoot(images: Tensor, guide: Tensor) -> Tensor:
    """``(N,)`` float64 mean luma by which ``images`` leave the range of ``guide`` around them, at its strongest edges.

    Both ``(N, 3, H, W)``; the range is that of 5 x 5 px, the edges are the 10 % of pixels with the steepest luma. A
    halo is light beside dark that is lighter than anything near it was.
    """
    grey, base = luma(images).unsqueeze(1), luma(guide).unsqueeze(1)
    # Windows of 5 px across, then down: on a CPU a pooling layer takes ten times as long.
    rows = functional.pad(base, (2, 2, 2, 2), mode="replicate").unfold(-1, 5, 1)
    high, low = rows.amax(-1).unfold(-2, 5, 1).amax(-1), rows.amin(-1).unfold(-2, 5, 1).amin(-1)
    beyond = (grey - high).clamp_min(0) + (low - grey).clamp_min(0)
    contrast = (high - low).flatten(1)
    count = max(1, round(_EDGE_SHARE * contrast.shape[1]))
    edges = contrast.topk(count, dim=1).indices
    return beyond.flatten(1).gather(1, edges).mean(dim=1).to(torch.float64)


def _check(distilled: Tensor, enhanced: Tensor, baseline: Tensor, size: tuple[int, int] | None) -> None:
    shapes = [tuple(part.shape) for part in (distilled, enhanced, baseline)]
    if len(set(shapes)) != 1 or len(shapes[0]) != 4:
        raise UsageError(f"artefacts need distilled, enhanced and baseline of one shape (N, 3, H, W), not {shapes}")
    height, width = shapes[0][2:]
    if min(height, width) < SMALLEST_PX:
        raise UsageError(f"artefacts need images of {SMALLEST_PX} or more pixels a side, not {width}x{height}")
    if size is not None and size != (height, width):
        raise UsageError(f"artefacts need images of one size, not {size[1]}x{size[0]} and {width}x{height}")


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


def _levels(power: float, shape: torch.Size) -> float:
    """Amplitude in 8-bit levels of a grid whose windowed power at its frequency is ``power``."""
    # A Hann window of L has the sum L / 2 and the sum of squares 3 L / 8.
    gain = math.prod((length / 2) ** 2 / (3 * length / 8) for length in shape)
    return 255 * math.sqrt(max(power, 0.0) / gain)


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


def _worst(found: dict[int, float], wanted: dict[int, float]) -> tuple[float, int]:
    """The largest excess over the wanted change, and the longest period that stands out half as far."""
    excess = {period: found[period] - max(0.0, wanted[period]) for period in found}
    most = max(excess.values())
    return max(most, 0.0), max(period for period, value in excess.items() if value >= min(most, most / 2))


def _steps(change: Tensor, dim: int) -> Tensor:
    """Mean absolute step between neighbouring columns (dim -1) or rows (-2) of a change, summed over images."""
    return change.diff(dim=dim).abs().mean(dim=(1, -3 - dim), dtype=torch.float64).sum(dim=0)


def _worst_seam(steps: list[Tensor]) -> tuple[float, int | None]:
    """The largest (ratio at tile borders, relative to the wanted change's) over periods and directions."""
    found: list[tuple[float, int]] = []
    for change, wanted in ((steps[0], steps[2]), (steps[1], steps[3])):
        for period in TILE_PERIODS_PX:
            if 2 * period <= len(change) + 1:
                found.append((_seam(change, period) / max(1.0, _seam(wanted, period)), period))
    return max(found, default=(1.0, None), key=lambda one: one[0])


def _seam(profile: Tensor, period: int) -> float:
    ratios: list[float] = []
    for border in range(period - 1, len(profile), period):
        near = torch.cat([profile[max(0, border - 7) : border], profile[border + 1 : border + 8]])
        ratios.append(float((profile[border] + _SEAM_FLOOR) / (near.median() + _SEAM_FLOOR)))
    return sum(ratios) / len(ratios)


def _high_power(power: Tensor) -> Tensor:
    height, width = power.shape
    radius = torch.hypot(torch.fft.fftfreq(height).unsqueeze(1), torch.fft.fftfreq(width).unsqueeze(0))
    return power[(radius > 0.25) & (radius <= 0.5)].mean()


def _three(values: Tensor) -> tuple[float, float, float]:
    return (float(values[0]), float(values[1]), float(values[2]))
