"""A surface as its distance from a centre in every direction: collision for strands, and a base to loft cloth on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_AZIMUTHS = 72
_ELEVATIONS = 36


@dataclass(frozen=True)
class RadialSurface:
    """Radii (E, A) over elevation (rows, from straight down to straight up) and azimuth (columns, 0 is forward, -y)."""

    centre: np.ndarray
    radii: np.ndarray

    def at(self, points: np.ndarray) -> np.ndarray:
        """Radius of the surface (N,) in the direction of each of the points (N, 3)."""
        azimuth, elevation, _ = directions(points - self.centre)
        return self.toward(azimuth, elevation)

    def toward(self, azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
        """Radius (N,) towards azimuths and elevations in radians, linear between the stored ones."""
        rows, columns = self.radii.shape
        column = (azimuth / (2 * np.pi) % 1.0) * columns
        row = np.clip((elevation / np.pi + 0.5) * rows - 0.5, 0.0, rows - 1.001)
        c0, r0 = np.floor(column).astype(int), np.floor(row).astype(int)
        fc, fr = column - c0, row - r0
        c0 = c0 % columns
        c1 = (c0 + 1) % columns
        lower = self.radii[r0, c0] * (1 - fc) + self.radii[r0, c1] * fc
        upper = self.radii[r0 + 1, c0] * (1 - fc) + self.radii[r0 + 1, c1] * fc
        return lower * (1 - fr) + upper * fr

    def push_out(self, points: np.ndarray, margin: np.ndarray | float) -> np.ndarray:
        """Move points (N, 3) that lie less than ``margin`` outside the surface out to it."""
        offset = points - self.centre
        distance = np.linalg.norm(offset, axis=1)
        wanted = self.at(points) + margin
        return self.centre + offset * (np.maximum(wanted, distance) / np.maximum(distance, 1e-9))[:, None]


def directions(offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Azimuth (0 forward, growing to +x), elevation and length of offsets (N, 3), each (N,)."""
    azimuth = np.arctan2(offsets[:, 0], -offsets[:, 1])
    flat = np.hypot(offsets[:, 0], offsets[:, 1])
    return azimuth, np.arctan2(offsets[:, 2], flat), np.hypot(flat, offsets[:, 2])


def unit_directions(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """Directions (..., 3) of azimuths and elevations (...)."""
    flat = np.cos(elevation)
    return np.stack([flat * np.sin(azimuth), -flat * np.cos(azimuth), np.sin(elevation)], axis=-1)


def radial_surface(vertices: np.ndarray, quads: np.ndarray, centre: np.ndarray, smooth: int = 1) -> RadialSurface:
    """The outermost distance from ``centre`` of the quads (Q, 4) over vertices (V, 3), smoothed a little.

    Each quad is sampled on a 4 x 4 grid; directions that no sample meets take the mean of their neighbours.
    """
    steps = (np.arange(4) + 0.5) / 4
    s, t = (grid.ravel() for grid in np.meshgrid(steps, steps))
    weights = np.stack([(1 - s) * (1 - t), s * (1 - t), s * t, (1 - s) * t])
    points = np.einsum("kw,qkd->wqd", weights, vertices[quads]).reshape(-1, 3)
    azimuth, elevation, distance = directions(points - centre)
    column = np.round(azimuth / (2 * np.pi) * _AZIMUTHS).astype(int) % _AZIMUTHS
    row = np.clip(((elevation / np.pi + 0.5) * _ELEVATIONS).astype(int), 0, _ELEVATIONS - 1)
    radii = np.zeros((_ELEVATIONS, _AZIMUTHS))
    np.maximum.at(radii, (row, column), distance)
    known = radii > 0
    while not known.all():
        total, count = _neighbour_sum(radii * known), _neighbour_sum(known.astype(np.float64))
        filled = np.where(count > 0, total / np.maximum(count, 1), 0.0)
        radii = np.where(known, radii, filled)
        if not (count > 0).any():
            break
        known = known | (count > 0)
    for _ in range(smooth):
        radii = (4 * radii + _neighbour_sum(radii)) / 8
    return RadialSurface(centre, radii)


def _neighbour_sum(grid: np.ndarray) -> np.ndarray:
    """Sum of the four neighbours; azimuth wraps round, elevation repeats its ends."""
    padded = np.pad(grid, ((1, 1), (0, 0)), mode="edge")
    return padded[2:] + padded[:-2] + np.roll(grid, 1, axis=1) + np.roll(grid, -1, axis=1)
