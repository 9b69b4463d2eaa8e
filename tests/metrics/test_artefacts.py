from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.features import FeatureNet
from topcoat.images import gaussian_blur
from topcoat.metrics.artefacts import ArtefactMetric, Artefacts, blob_peak, overshoot
from topcoat.metrics.context import Context
from topcoat.metrics.controls import unsharp_mask
from topcoat.metrics.embed import ImageBatch
from topcoat.metrics.grids import grid_peaks
from topcoat.metrics.spectrum import luma, windowed_power

SIZE_PX = 64
NET = FeatureNet.tiny(0)
"""Artefacts are those of pixels: the net is not asked."""


def subjects(n: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Soft (distilled) and sharper (baseline) images of the same subjects, of unlike size to the random noise."""
    generator = torch.Generator().manual_seed(seed)
    y = gaussian_blur(torch.rand(n, 3, SIZE_PX, SIZE_PX, generator=generator), 1.5)
    y = (0.5 + 2 * (y - 0.5)).clamp(0, 1)
    colour = 0.05 * torch.randn(n, 3, 1, 1, generator=generator)
    return (gaussian_blur(y, 1.0) + colour).clamp(0, 1), y


def scan(x: Tensor, z: Tensor, y: Tensor, batch: int = 16) -> Artefacts:
    metric = started()
    for part in zip(x.split(batch), z.split(batch), y.split(batch), strict=True):
        metric.update(batch_of(*part))
    return metric.result()


def started() -> ArtefactMetric:
    return ArtefactMetric(Context(NET, "mini"))


def batch_of(x: Tensor, z: Tensor, y: Tensor) -> dict[str, ImageBatch]:
    return {
        arm: ImageBatch(part, NET) for arm, part in zip(("distilled", "enhanced", "reference"), (x, z, y), strict=True)
    }


def grid(period: int) -> Tensor:
    """Values +1 on one pixel in ``period`` x ``period``, mean zero."""
    one = torch.zeros(period, period)
    one[0, 0] = 1
    tiled = one.repeat(SIZE_PX // period, SIZE_PX // period)
    return tiled - tiled.mean()


def test_the_baseline_itself_is_neutral() -> None:
    x, y = subjects()
    found = scan(x, y, y)
    assert (found.checkerboard_db, found.checkerboard_levels, found.seam_ratio) == (0, 0, pytest.approx(1, abs=0.3))
    assert found.blob_share == 0 and found.halo_luma == found.halo_luma_baseline
    assert found.high_frequency_db == 0 > found.high_frequency_db_distilled
    assert found.foreign_db == found.grid_db == 0
    assert found.colour_difference == 0 < found.colour_difference_distilled
    assert found.lab_shift == (0, 0, 0)


def test_doing_nothing_is_no_artefact() -> None:
    x, y = subjects()
    found = scan(x, x, y)
    assert found.changed == found.checkerboard_db == found.blob_share == found.halo_luma == found.foreign_db == 0
    assert found.seam_ratio <= 1 and found.grid_db <= 0


@pytest.mark.parametrize("period", [2, 4, 8])
def test_a_grid_is_found_with_its_period_and_strength(period: int) -> None:
    x, y = subjects()
    z = ((x + y) / 2 + 0.08 * grid(period)).clamp(0, 1)
    found = scan(x, z, y)
    assert found.checkerboard_db > 6 and found.checkerboard_levels > 0.1
    assert found.checkerboard_period_px == period and found.grid_db > 6
    peaks = grid_peaks(windowed_power(luma(z - x)).mean(dim=0))
    assert all(peaks[longer] < peaks[period] / 2 for longer in peaks if longer > period)


def test_the_strength_of_a_checkerboard_is_its_amplitude() -> None:
    x, y = subjects()
    board = (torch.arange(SIZE_PX).view(-1, 1) + torch.arange(SIZE_PX)).remainder(2) * 2.0 - 1
    middle = 0.25 + (x + y) / 4  # far from 0 and 1, where the grid would be cut
    found = scan(x, middle + 3 / 255 * board, y)
    assert found.checkerboard_levels == pytest.approx(3, rel=0.1)
    assert found.checkerboard_db > 20


def test_power_at_up_sampling_frequencies_does_not_ask_what_is_around_it() -> None:
    x, y = torch.rand(2, 16, 3, SIZE_PX, SIZE_PX, generator=torch.Generator().manual_seed(0))
    assert scan(x, (x + y) / 2, y).grid_db == pytest.approx(-6.02, abs=0.01)
    weak = scan(x, x + 0.05 * gaussian_blur(y - x, 3) + 0.01 * grid(8), y)
    assert weak.grid_db < -6 and weak.checkerboard_db > 6


def test_a_tile_border_is_found() -> None:
    x, y = subjects()
    z = (x + y) / 2
    tile = torch.where(torch.arange(SIZE_PX) < SIZE_PX // 2, 0.03, -0.03)
    found = scan(x, (z + tile).clamp(0, 1), y)
    assert found.seam_ratio > 1.5 and found.seam_period_px == SIZE_PX // 2
    assert scan(x, z, y).seam_ratio < 1.3


def test_a_droplet_is_found() -> None:
    x, y = subjects(n=24)
    z = (x + y) / 2
    drop = torch.zeros(1, 1, SIZE_PX, SIZE_PX)
    drop[..., 20:26, 40:46] = 0.6
    spoiled = torch.cat([(z[:12] + drop).clamp(0, 1), z[12:]])
    assert scan(x, z, y).blob_share == 0
    assert scan(x, spoiled, y).blob_share == pytest.approx(0.5, abs=0.1)
    assert (blob_peak(spoiled - x)[:12] > blob_peak(z - x)[:12]).all()


def test_over_sharpening_leaves_halos() -> None:
    x, y = subjects()
    sharp = unsharp_mask(y, 3.0, 1.5)
    found = scan(x, sharp, y)
    assert found.halo_luma > 1.25 * found.halo_luma_baseline + 0.002
    assert scan(x, (x + y) / 2, y).halo_luma < found.halo_luma_baseline
    assert float(overshoot(x, x).max()) == 0


def test_a_blur_and_a_tint_are_found() -> None:
    x, y = subjects()
    soft = scan(x, gaussian_blur(x, 1.0), y)
    assert soft.high_frequency_db < soft.high_frequency_db_distilled - 1
    tint = scan(x, (y + torch.tensor([0.0, 0.0, -0.15]).view(1, 3, 1, 1)).clamp(0, 1), y)
    assert tint.colour_difference > 2 + tint.colour_difference_distilled and tint.lab_shift[2] > 5


@pytest.mark.parametrize(
    ("place", "part"), [("left", (..., slice(0, 2))), ("bottom", (..., slice(-2, None), slice(None)))]
)
def test_detail_that_nobody_asked_for_is_found_where_it_is(place: str, part: tuple[slice, ...]) -> None:
    x, y = subjects()
    z = y.clone()
    generator = torch.Generator().manual_seed(3)
    z[part] += 0.2 * torch.randn(z[part].shape, generator=generator)
    found = scan(x, z.clamp(0, 1), y)
    assert found.foreign_db > 6 and found.foreign_place == place
    assert 1 < found.foreign_period_px <= 16


def test_batches_and_order_do_not_matter() -> None:
    x, y = subjects()
    z = (x + y) / 2
    whole = dataclasses.asdict(scan(x, z, y))
    other = dataclasses.asdict(scan(x.flip(0), z.flip(0), y.flip(0), batch=5))
    assert whole.pop("foreign_place") == other.pop("foreign_place")
    for name, value in whole.items():
        tolerance = 1e-4 if "lab" in name or "colour" in name else 1e-6
        assert other[name] == pytest.approx(value, rel=10 * tolerance, abs=tolerance), name


def test_refusals() -> None:
    x, y = subjects(2)
    with pytest.raises(UsageError, match="32 or more pixels"):
        started().update(batch_of(x[..., :20], x[..., :20], y[..., :20]))
    unequal = started()
    unequal.update(batch_of(x, x[:1], y))
    with pytest.raises(UsageError, match="2 or more subjects, not 0"):
        unequal.result()
