from __future__ import annotations

import math

import pytest
import torch

from topcoat.errors import UsageError
from topcoat.metrics.colour import (
    ciede2000,
    colour_difference,
    patch_colours,
    skin_colour,
    skin_mask,
    to_lab,
    typology_angle,
)

# Sharma, Wu and Dalal 2005, table 1: L, a, b of both colours and their difference.
SHARMA = """
50.0000 2.6772 -79.7751 50.0000 0.0000 -82.7485 2.0425
50.0000 3.1571 -77.2803 50.0000 0.0000 -82.7485 2.8615
50.0000 2.8361 -74.0200 50.0000 0.0000 -82.7485 3.4412
50.0000 -1.3802 -84.2814 50.0000 0.0000 -82.7485 1.0000
50.0000 -1.1848 -84.8006 50.0000 0.0000 -82.7485 1.0000
50.0000 -0.9009 -85.5211 50.0000 0.0000 -82.7485 1.0000
50.0000 0.0000 0.0000 50.0000 -1.0000 2.0000 2.3669
50.0000 -1.0000 2.0000 50.0000 0.0000 0.0000 2.3669
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0009 7.1792
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0010 7.1792
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0011 7.2195
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0012 7.2195
50.0000 -0.0010 2.4900 50.0000 0.0009 -2.4900 4.8045
50.0000 -0.0010 2.4900 50.0000 0.0010 -2.4900 4.8045
50.0000 -0.0010 2.4900 50.0000 0.0011 -2.4900 4.7461
50.0000 2.5000 0.0000 50.0000 0.0000 -2.5000 4.3065
50.0000 2.5000 0.0000 73.0000 25.0000 -18.0000 27.1492
50.0000 2.5000 0.0000 61.0000 -5.0000 29.0000 22.8977
50.0000 2.5000 0.0000 56.0000 -27.0000 -3.0000 31.9030
50.0000 2.5000 0.0000 58.0000 24.0000 15.0000 19.4535
50.0000 2.5000 0.0000 50.0000 3.1736 0.5854 1.0000
50.0000 2.5000 0.0000 50.0000 3.2972 0.0000 1.0000
50.0000 2.5000 0.0000 50.0000 1.8634 0.5757 1.0000
50.0000 2.5000 0.0000 50.0000 3.2592 0.3350 1.0000
60.2574 -34.0099 36.2677 60.4626 -34.1751 39.4387 1.2644
63.0109 -31.0961 -5.8663 62.8187 -29.7946 -4.0864 1.2630
61.2901 3.7196 -5.3901 61.4292 2.2480 -4.9620 1.8731
35.0831 -44.1164 3.7933 35.0232 -40.0716 1.5901 1.8645
22.7233 20.0904 -46.6940 23.0331 14.9730 -42.5619 2.0373
36.4612 47.8580 18.3852 36.2715 50.5065 21.2231 1.4146
90.8027 -2.0831 1.4410 91.1528 -1.6435 0.0447 1.4441
90.9257 -0.5406 -0.9208 88.6381 -0.8985 -0.7239 1.5381
6.7747 -0.2908 -2.4247 5.8714 -0.0985 -2.2286 0.6377
2.0776 0.0795 -1.1350 0.9033 -0.0636 -0.5514 0.9082
"""


def test_ciede2000_is_the_published_table() -> None:
    rows = torch.tensor([[float(cell) for cell in line.split()] for line in SHARMA.strip().splitlines()]).double()
    assert rows.shape == (34, 7)
    torch.testing.assert_close(ciede2000(rows[:, :3], rows[:, 3:6]), rows[:, 6], rtol=0, atol=6e-5)
    torch.testing.assert_close(ciede2000(rows[:, 3:6], rows[:, :3]), rows[:, 6], rtol=0, atol=6e-5)


def test_lab_of_the_primaries() -> None:
    primaries = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0]]).view(5, 3, 1, 1)
    expected = [[53.24, 80.09, 67.20], [87.73, -86.18, 83.18], [32.30, 79.19, -107.86], [100, 0, 0], [0, 0, 0]]
    torch.testing.assert_close(to_lab(primaries).flatten(1), torch.tensor(expected), rtol=0, atol=0.02)


def test_typology_angles_order_skin_tones() -> None:
    light, dark = torch.tensor([80.0, 8, 16]), torch.tensor([35.0, 12, 16])
    assert float(typology_angle(light)) == pytest.approx(math.degrees(math.atan2(30, 16)))
    assert float(typology_angle(dark)) < 0 < float(typology_angle(light))


def test_skin_is_found_in_the_middle_whatever_its_tone() -> None:
    tones = torch.tensor([[0.95, 0.80, 0.70], [0.78, 0.57, 0.44], [0.55, 0.36, 0.26], [0.36, 0.22, 0.15]])
    images = torch.full((4, 3, 64, 64), 0.5)
    images[..., 16:48, 20:44] = tones.view(4, 3, 1, 1)
    mask = skin_mask(images)
    assert mask[:, 32, 32].all() and not mask[:, 2, 2].any() and not mask[:, 32, 14].any()
    found = skin_colour(images, mask)
    expected = to_lab(tones.view(4, 3, 1, 1)).flatten(1).double()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
    angles = typology_angle(found)
    assert angles.tolist() == sorted(angles.tolist(), reverse=True)


def test_colour_of_skin_is_the_mean_over_its_own_pixels(images: torch.Tensor) -> None:
    masks = torch.rand(len(images), *images.shape[-2:], generator=torch.Generator().manual_seed(0)) > 0.6
    masks[1] = False
    found = skin_colour(images, masks)
    for image, mask, colour in zip(images, masks, found, strict=True):
        expected = to_lab(image[None])[0][:, mask].double().mean(dim=1)
        torch.testing.assert_close(colour, expected, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_an_image_without_skin_has_no_tone() -> None:
    blue = torch.tensor([0.2, 0.3, 0.9]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    assert skin_colour(blue, skin_mask(blue)).isnan().all()


def test_colour_difference_ignores_texture(images: torch.Tensor) -> None:
    checker = (torch.arange(32).view(-1, 1) + torch.arange(32)).remainder(2).mul(2).sub(1) * 0.05
    flat = torch.full((1, 3, 32, 32), 0.5)
    assert float(colour_difference(patch_colours(flat), patch_colours(flat + checker))) < 0.05
    assert float(colour_difference(patch_colours(images), patch_colours(1 - images)).min()) > 10


def test_refusals() -> None:
    with pytest.raises(UsageError, match="CIELAB"):
        to_lab(torch.zeros(3, 4, 4))
    with pytest.raises(UsageError, match="skin"):
        skin_mask(torch.zeros(3, 4, 4))
    with pytest.raises(UsageError, match="colours"):
        ciede2000(torch.zeros(4), torch.zeros(4))
