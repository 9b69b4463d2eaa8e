"""Geometry of clothes: smooth sheets lofted round the neck and over the shoulders, free of the body's own edges.

Sheets are grids (R, C, 3) of points. Their columns go once round the body: azimuth 0 is the front, a quarter turn the
subject's left. All is in torso space: head space (unit: distance of the eyes) turned so that the chest faces forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recipes.mini.portrait.radial import RadialSurface, radial_surface, unit_directions
from recipes.mini.portrait.scalp import from_head_space, mean_head, smoothstep, to_head_space

if TYPE_CHECKING:
    from recipes.mini.portrait.head import Head

CHEST = np.array([0.0, 1.6, -4.2])
"""A point inside the chest from which shoulders and the foot of the neck are all in view."""
NECK = np.array([0.0, 1.62, -2.35])
"""A point inside the foot of the neck."""
COLUMNS = 96
_AXIS = np.array([0.0, 1.69])


@dataclass(frozen=True)
class Torso:
    """The body below the chin as seen from chest and neck, and how it is turned against the head."""

    chest: RadialSurface
    neck: RadialSurface
    turn: float

    def to_metres(self, head: Head, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) of torso space in metres."""
        return from_head_space(head, turned(points, self.turn))


def turned(points: np.ndarray, angle: float) -> np.ndarray:
    """Points (..., 3) turned about the vertical axis of the neck."""
    x, y = points[..., 0] - _AXIS[0], points[..., 1] - _AXIS[1]
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([_AXIS[0] + cos * x - sin * y, _AXIS[1] + sin * x + cos * y, points[..., 2]], axis=-1)


def measure_torso(head: Head) -> Torso:
    """Measure the torso of a head's body."""
    mean = mean_head()
    points = to_head_space(head, head.vertices)
    trunk = head.kept & (mean[:, 2] < -3.0) & (np.abs(mean[:, 0]) < 3.5)
    before, after = mean[trunk, :2] - mean[trunk, :2].mean(axis=0), points[trunk, :2] - points[trunk, :2].mean(axis=0)
    cross = (before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]).sum()
    turn = float(np.arctan2(cross, (before * after).sum()))
    points = turned(points, -turn)
    middles = mean[head.quads].mean(axis=1)
    kept = head.kept[head.quads].all(axis=1)
    below_chin = middles[:, 2] < np.where(middles[:, 1] < 0.9, -2.0, -1.5)
    chest = radial_surface(points, head.quads[kept & (middles[:, 2] < -1.9) & below_chin], CHEST, smooth=1)
    slim = kept & below_chin & (middles[:, 2] > -3.6) & (np.abs(middles[:, 0]) < 2.6)
    neck = radial_surface(points, head.quads[slim], NECK, smooth=1)
    return Torso(chest, neck, turn)


def azimuths(columns: int = COLUMNS) -> np.ndarray:
    """Azimuths (C,) of a closed sheet's columns, from the back round the front, so that its seam is behind."""
    return np.linspace(-np.pi, np.pi, columns, endpoint=False)


def around(azimuth: np.ndarray, front: float, side: float, back: float) -> np.ndarray:
    """A smooth closed curve (C,) that takes three values at the front, both sides and the back."""
    cos = np.cos(azimuth)
    return side + np.where(cos > 0, front - side, back - side) * np.abs(cos) ** 1.6


def on_surface(
    surface: RadialSurface, azimuth: np.ndarray, elevation: np.ndarray, offset: np.ndarray | float
) -> np.ndarray:
    """Points (..., 3) over a surface by azimuth, elevation and distance from it."""
    radius = surface.toward(azimuth, elevation) + offset
    return surface.centre + unit_directions(azimuth, elevation) * np.asarray(radius)[..., None]


def smooth_ring(values: np.ndarray, harmonics: int = 5) -> np.ndarray:
    """A closed curve's values (..., C) with only its lowest harmonics: an edge that a tailor would cut."""
    spectrum = np.fft.rfft(values, axis=-1)
    keep = np.arange(spectrum.shape[-1])
    return np.fft.irfft(spectrum * np.exp(-((keep / harmonics) ** 4)), n=values.shape[-1], axis=-1)


def on_ring(
    surface: RadialSurface, azimuth: np.ndarray, elevation: np.ndarray, offset: np.ndarray | float
) -> np.ndarray:
    """Like `on_surface` for whole turns (..., C), over the surface with its bumps round the turn smoothed away."""
    radius = smooth_ring(surface.toward(azimuth, elevation)) + offset
    return surface.centre + unit_directions(azimuth + 0 * elevation, elevation) * radius[..., None]


def shell(
    torso: Torso, neckline: np.ndarray, offset: float, looseness: float, bottom: float = -0.5, rows: int = 16
) -> np.ndarray:
    """A garment's body (R, C, 3) from its neckline, elevations (C,) seen from the chest, down to ``bottom``."""
    azimuth = azimuths(len(neckline))
    down = np.linspace(0.0, 1.0, rows)[:, None]
    elevation = neckline[None] * (1 - down) + bottom * down
    growing = offset + looseness * smoothstep(0.0, 0.6, down) + 0 * elevation
    bare = torso.chest.toward(azimuth[None] + 0 * elevation, elevation)
    # Smooth at the neckline; further down arms and chest are followed.
    free = smoothstep(0.05, 0.30, down)
    radius = smooth_ring(bare) * (1 - free) + np.maximum(bare, smooth_ring(bare)) * free + growing
    points = CHEST + unit_directions(azimuth[None] + 0 * elevation, elevation) * radius[..., None]
    hem = on_ring(torso.chest, azimuth, neckline + 0.01, -0.03 + 0 * neckline)
    return np.concatenate([hem[None], points])


def band(torso: Torso, neckline: np.ndarray, width: float, thickness: float, rise: float = 0.03) -> np.ndarray:
    """A ribbed band (R, C, 3) that lies on the neckline; lengths along the surface."""
    azimuth = azimuths(len(neckline))
    radius = smooth_ring(torso.chest.toward(azimuth, neckline))
    profile = [(-rise, -0.04), (-rise, 0.6), (-rise * 0.3, 0.95), (0.3, 1.1), (0.7, 1.05), (0.95, 0.9), (1.0, 0.3)]
    rows = []
    for along, height in profile:
        way = along * width if along > 0 else along
        rows.append(on_ring(torso.chest, azimuth, neckline - way / radius, 0.02 + height * thickness))
    return np.stack(rows)


def neck_tube(torso: Torso, low: np.ndarray, high: np.ndarray, offset: float, folds: int = 7) -> np.ndarray:
    """A tube (R, C, 3) up the neck between elevations seen from the neck's foot, with a rolled upper edge."""
    azimuth = azimuths(len(high))
    steps = np.linspace(0.0, 1.0, folds)[:, None]
    elevation = low[None] + (high - low)[None] * steps
    flare = offset * (1.0 + 0.5 * (1 - steps) ** 2)
    outside = on_ring(torso.neck, azimuth[None] + 0 * elevation, elevation, flare + 0 * elevation)
    rim = [on_ring(torso.neck, azimuth, high + 0.04 * lift, offset * share) for lift, share in ((1, 0.7), (0.6, 0.1))]
    return np.concatenate([outside, np.stack(rim)])


def leaf(upper: np.ndarray, lower: np.ndarray, rows: int = 6, bulge: float = 0.05) -> np.ndarray:
    """A sheet (R, C, 3) between two curves (C, 3), bulging away from the neck's axis like folded cloth."""
    t = np.linspace(0.0, 1.0, rows)[:, None, None]
    points = upper[None] * (1 - t) + lower[None] * t
    outward = points - np.array([NECK[0], NECK[1], 0.0])
    outward[..., 2] = 0.35
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    return points + outward * (bulge * np.sin(np.pi * np.minimum(t * 1.15, 1.0)) ** 0.7)


def grid_faces(rows: int, columns: int, closed: bool) -> np.ndarray:
    """Quads (F, 4) of a sheet's points numbered row by row."""
    ids = np.arange(rows * columns).reshape(rows, columns)
    if closed:
        ids = np.concatenate([ids, ids[:, :1]], axis=1)
    quads = np.stack([ids[:-1, :-1], ids[1:, :-1], ids[1:, 1:], ids[:-1, 1:]], axis=-1)
    return quads.reshape(-1, 4)
