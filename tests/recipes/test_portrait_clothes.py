"""Clothes and glasses of the portraits: what needs numpy alone."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("bpy")

from recipes.mini.portrait.clothes import FABRICS, sample_clothes
from recipes.mini.portrait.glasses import rim_outline, sample_glasses
from recipes.mini.portrait.radial import RadialSurface
from recipes.mini.portrait.tailoring import (
    CHEST,
    NECK,
    Torso,
    around,
    azimuths,
    band,
    grid_faces,
    shell,
    smooth_ring,
    turned,
)
from recipes.mini.portrait.words import PORTRAIT_VOCABULARY, sample_words


def round_torso(radius: float = 2.0) -> Torso:
    """A torso that is a ball round the chest."""
    radii = np.full((36, 72), radius)
    return Torso(RadialSurface(CHEST, radii), RadialSurface(NECK, radii / 2), 0.0)


def test_a_closed_curve_takes_its_values_at_front_sides_and_back():
    azimuth = azimuths(96)
    values = around(azimuth, 1.0, 2.0, 3.0)
    at = {angle: values[np.abs(azimuth - angle).argmin()] for angle in (0.0, np.pi / 2, -np.pi / 2, -np.pi)}
    np.testing.assert_allclose(list(at.values()), [1.0, 2.0, 2.0, 3.0], atol=1e-6)


def test_a_shell_covers_the_body_from_its_neckline_down():
    line = around(azimuths(), 1.0, 1.0, 1.2)
    points = shell(round_torso(), line, 0.05, 0.1)
    distance = np.linalg.norm(points - CHEST, axis=-1)
    assert (distance[0] < 2.0).all()  # the hem turns in to the skin
    assert (distance[1:] > 2.04).all()
    assert (np.diff(points[1:, :, 2], axis=0) < 0).all()


def test_a_band_lies_on_the_neckline():
    line = around(azimuths(), 1.0, 1.0, 1.2)
    points = band(round_torso(), line, 0.2, 0.06)
    distance = np.linalg.norm(points - CHEST, axis=-1)
    assert distance.max() < 2.0 + 0.1
    assert distance[2:6].min() > 2.05


def test_smoothing_a_ring_keeps_its_mean_and_drops_jags():
    azimuth = azimuths()
    wanted = 2 + 0.5 * np.cos(azimuth)
    smooth = smooth_ring(wanted + 0.2 * np.cos(30 * azimuth))
    np.testing.assert_allclose(smooth, wanted, atol=0.01)


def test_turning_there_and_back_changes_nothing():
    points = np.random.default_rng(0).normal(size=(4, 5, 3))
    np.testing.assert_allclose(turned(turned(points, 0.3), -0.3), points)


def test_a_closed_sheet_has_a_quad_for_every_column():
    assert grid_faces(3, 8, closed=True).shape == (16, 4)
    assert grid_faces(3, 8, closed=False).shape == (14, 4)
    assert grid_faces(3, 8, closed=True).max() == 23


@pytest.mark.parametrize("shape", ["round", "oval", "rectangular", "wayfarer"])
def test_rims_surround_the_eye_and_do_not_meet(shape: str) -> None:
    outline = rim_outline(shape, 1.0)
    assert outline[:, 0].min() < -0.3 and outline[:, 0].max() > 0.3
    assert outline[:, 1].min() < -0.2 and outline[:, 1].max() > 0.2
    assert outline[:, 0].min() > -0.5


def test_every_colour_of_cloth_has_its_dyes():
    assert set(FABRICS) == set(PORTRAIT_VOCABULARY["clothing_color"])


def test_clothes_and_glasses_follow_words():
    words = dataclasses.replace(sample_words(0, 0), garment="sweater", glasses="none")
    assert sample_clothes(words, np.random.default_rng(1)).knit > 0
    assert sample_glasses(words, np.random.default_rng(1)).shape == "none"
    worn = dataclasses.replace(words, glasses="glasses", garment="shirt")
    assert sample_clothes(worn, np.random.default_rng(1)).knit == 0
    assert sample_glasses(worn, np.random.default_rng(1)).shape != "none"
