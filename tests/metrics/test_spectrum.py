from __future__ import annotations

import math

import pytest
import torch

from topcoat.errors import UsageError
from topcoat.images import gaussian_blur
from topcoat.metrics.spectrum import cell_powers, decibels, radial_spectrum


def test_white_noise_has_its_variance_at_every_frequency() -> None:
    generator = torch.Generator().manual_seed(0)
    grey = 0.1 * torch.randn(64, 1, 48, 64, generator=generator)
    rings = radial_spectrum(grey.expand(-1, 3, -1, -1)).mean(dim=0)
    torch.testing.assert_close(rings[2:], torch.full_like(rings[2:], 0.01), rtol=0.15, atol=0)


def test_a_wave_is_one_ring() -> None:
    wave = 0.5 + 0.4 * torch.cos(2 * torch.pi * 0.25 * torch.arange(64)).view(1, 1, 1, 64).expand(1, 3, 64, 64)
    rings = radial_spectrum(wave, rings=16)[0]
    assert int(rings.argmax()) in (7, 8)  # 0.25 of 0.5 cycles is the border of both
    assert float(rings[torch.arange(16).sub(7.5).abs() > 2].max()) < 1e-4 * float(rings.max())


def test_blur_takes_what_a_gaussian_takes() -> None:
    generator = torch.Generator().manual_seed(1)
    images = (0.5 + 0.1 * torch.randn(32, 3, 64, 64, generator=generator)).clamp(0, 1)
    blurred, own = (radial_spectrum(part, rings=16) for part in (gaussian_blur(images, 0.7), images))
    change = decibels(blurred, own).mean(dim=0)
    radius = (torch.arange(16) + 0.5) / 32  # cycles per pixel
    expected = -20 * math.log10(math.e) * 2 * (torch.pi * radius * 0.7) ** 2
    torch.testing.assert_close(change[:9], expected[:9].double(), rtol=0.1, atol=0.3)
    assert float(decibels(own, own).abs().max()) == 0


def test_a_ring_that_a_small_image_lacks_is_not_a_number() -> None:
    spectrum = radial_spectrum(torch.rand(1, 3, 16, 16))
    assert bool(spectrum.isnan().any()) and bool(spectrum.isfinite().any())


def test_flat_images_stay_finite() -> None:
    flat, other = (
        radial_spectrum(part).nan_to_num(0) for part in (torch.zeros(1, 3, 16, 16), torch.rand(1, 3, 16, 16))
    )
    assert float(decibels(flat, flat).abs().max()) == 0
    assert bool(decibels(flat, other).isfinite().all())


def test_refusals() -> None:
    with pytest.raises(UsageError, match="4 or more pixels"):
        radial_spectrum(torch.zeros(1, 3, 3, 9))


def test_squares_hold_every_frequency_up_to_the_corners() -> None:
    power = torch.rand(2, 24, 36, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = cell_powers(power, 4)
    down, across = (torch.fft.fftfreq(length).abs() for length in (24, 36))
    for row in range(4):
        for column in range(4):
            inside = [
                (axis >= place / 8) & ((axis < (place + 1) / 8) | (place == 3))
                for axis, place in ((down, row), (across, column))
            ]
            expected = power[:, inside[0]][:, :, inside[1]].mean(dim=(1, 2))
            torch.testing.assert_close(found[:, row, column], expected)
