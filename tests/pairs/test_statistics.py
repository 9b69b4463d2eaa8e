from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from topcoat.errors import UsageError
from topcoat.pairs.statistics import (
    SPECTRUM_BINS,
    brightness,
    colourfulness,
    contrast,
    luma,
    radial_spectrum,
    ring_centres,
    sharpness,
)

IMAGES = torch.rand(3, 3, 40, 56, generator=torch.Generator().manual_seed(0))


def test_brightness_and_contrast_are_those_of_pillows_greys() -> None:
    from topcoat.images import to_pil

    greys = [np.asarray(to_pil(image).convert("L"), dtype=float) / 255 for image in IMAGES]
    assert brightness(IMAGES).tolist() == pytest.approx([grey.mean() for grey in greys], abs=3e-3)
    assert contrast(IMAGES).tolist() == pytest.approx([grey.std() for grey in greys], abs=3e-3)


def test_colourfulness_is_the_published_formula() -> None:
    for image, value in zip(IMAGES, colourfulness(IMAGES), strict=True):
        red, green, blue = (image * 255).double().numpy()
        rg, yb = red - green, (red + green) / 2 - blue
        published = np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean())
        assert float(value) * 255 == pytest.approx(published)
    assert float(colourfulness(torch.full((1, 3, 8, 8), 0.4))) == pytest.approx(0, abs=1e-6)


def test_sharpness_is_the_variance_of_scipys_laplacian() -> None:
    expected = [ndimage.laplace(grey.numpy())[1:-1, 1:-1].var() for grey in luma(IMAGES)]
    assert sharpness(IMAGES).tolist() == pytest.approx(expected)
    with pytest.raises(UsageError, match="3 px a side"):
        sharpness(torch.rand(1, 3, 2, 9))


def test_white_noise_has_its_variance_in_every_ring() -> None:
    noise = 0.5 + 0.1 * torch.randn(64, 1, 64, 64, generator=torch.Generator().manual_seed(1)).repeat(1, 3, 1, 1)
    spectrum = radial_spectrum(noise).mean(dim=0)[2:]  # the lowest rings hold few frequencies
    torch.testing.assert_close(spectrum, torch.full_like(spectrum, 0.01), rtol=0.12, atol=0)


@pytest.mark.parametrize("cycles", [0.1, 0.25, 0.4])
def test_a_wave_shows_in_its_ring(cycles: float) -> None:
    wave = 0.5 + 0.4 * torch.sin(2 * torch.pi * cycles * torch.arange(128)).expand(1, 3, 96, 128)
    spectrum = radial_spectrum(wave)[0]
    assert float(ring_centres()[int(spectrum.nan_to_num().argmax())]) == pytest.approx(cycles, abs=0.5 / SPECTRUM_BINS)


def test_a_ring_that_a_small_image_lacks_is_not_a_number() -> None:
    spectrum = radial_spectrum(torch.rand(1, 3, 16, 16))
    assert spectrum.shape == (1, SPECTRUM_BINS)
    assert bool(spectrum.isnan().any()) and bool(spectrum.isfinite().any())


def test_measures_do_not_depend_on_the_batch() -> None:
    for measure in (brightness, contrast, colourfulness, sharpness, radial_spectrum):
        torch.testing.assert_close(measure(IMAGES)[1:2], measure(IMAGES[1:2]), equal_nan=True)
