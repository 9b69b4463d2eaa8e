from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from topcoat.errors import UsageError
from topcoat.metrics.spectrum import luma, radial_spectrum
from topcoat.pairs.inspect import brightness, colourfulness, contrast, sharpness

IMAGES = torch.rand(3, 3, 40, 56, generator=torch.Generator().manual_seed(0))


def test_brightness_and_contrast_are_those_of_rec_709_greys() -> None:
    greys = np.einsum("nchw,c->nhw", IMAGES.double().numpy(), (0.2126, 0.7152, 0.0722))
    assert brightness(IMAGES).tolist() == pytest.approx(greys.mean(axis=(1, 2)).tolist())
    assert contrast(IMAGES).tolist() == pytest.approx(greys.std(axis=(1, 2)).tolist())


def test_colourfulness_is_the_published_formula() -> None:
    for image, value in zip(IMAGES, colourfulness(IMAGES), strict=True):
        red, green, blue = (image * 255).double().numpy()
        rg, yb = red - green, (red + green) / 2 - blue
        published = np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean())
        assert float(value) * 255 == pytest.approx(published)
    assert float(colourfulness(torch.full((1, 3, 8, 8), 0.4))) == pytest.approx(0, abs=1e-6)


def test_sharpness_is_the_variance_of_scipys_laplacian() -> None:
    expected = [ndimage.laplace(grey.numpy())[1:-1, 1:-1].var() for grey in luma(IMAGES.double())]
    assert sharpness(IMAGES).tolist() == pytest.approx(expected)
    with pytest.raises(UsageError, match="3 px a side"):
        sharpness(torch.rand(1, 3, 2, 9))


def test_measures_do_not_depend_on_the_batch() -> None:
    for measure in (brightness, contrast, colourfulness, sharpness, radial_spectrum):
        torch.testing.assert_close(measure(IMAGES)[1:2], measure(IMAGES[1:2]), equal_nan=True)
