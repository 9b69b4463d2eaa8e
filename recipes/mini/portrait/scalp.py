"""Where hair grows: the outline of the scalp, its soft edge, and roots scattered over skin.

All shapes here are in head space: the middle between the eyes is the origin and the distance of the eyes is the unit;
x to the subject's left, y backwards, z up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from recipes.mini.portrait.head import Head

SKULL = np.array([0.0, 1.25, 0.5])
"""Middle of the skull in head space."""

# The outline of the scalp from the forehead over the temple, before the ear, round it and down to the nape:
# degrees of azimuth round the skull (0 forward, 180 back) and height.
_OUTLINE = np.array(
    [
        (0.0, 1.10),
        (12.0, 1.12),
        (22.0, 1.09),
        (31.0, 0.99),
        (37.0, 0.84),
        (43.0, 0.62),
        (50.0, 0.45),
        (57.0, 0.28),
        (63.0, 0.0),
        (68.0, -0.2),
        (72.0, -0.2),
        (77.0, 0.05),
        (83.0, 0.3),
        (92.0, 0.4),
        (102.0, 0.36),
        (109.0, 0.05),
        (113.0, -0.4),
        (125.0, -0.85),
        (150.0, -1.05),
        (180.0, -1.15),
    ]
)
_ROUND = 1.2
"""Mean radius of the skull seen from above: turns azimuth into a length."""


@dataclass(frozen=True)
class Hairline:
    """How one person's outline of the scalp departs from the mean; heights in units of the eyes' distance."""

    height: float = 0.0
    """Added to the height over the forehead."""
    recession: float = 0.0
    """How far the hair has withdrawn at the temples, from 0 to 1."""
    sideburn: float = 0.0
    """How far it comes down before the ear."""
    nape: float = 0.0
    """Added to the height at the nape."""
    crown: float = 0.0
    """Radius of a bare crown (0 for none)."""

    def outline(self) -> np.ndarray:
        """Points (P, 2) of the edge: arc length round the skull, and height."""
        angle, height = _OUTLINE[:, 0], _OUTLINE[:, 1].copy()
        front = np.clip((44 - angle) / 18, 0, 1)
        height += self.height * front
        corner = np.exp(-(((angle - 25) / 11) ** 2)) + 0.45 * np.exp(-(((angle - 38) / 10) ** 2))
        height += self.recession * (0.27 * corner + 0.05 * front)
        height -= self.sideburn * np.exp(-(((angle - 69) / 5) ** 2))
        height += self.nape * np.clip((angle - 118) / 25, 0, 1)
        return np.stack([np.radians(angle) * _ROUND, height], axis=1)


def to_head_space(head: Head, points: np.ndarray) -> np.ndarray:
    """Points (..., 3) in metres to head space."""
    return (points - head.middle) / head.eye_distance


def from_head_space(head: Head, points: np.ndarray) -> np.ndarray:
    """Points (..., 3) of head space to metres."""
    return points * head.eye_distance + head.middle


def edge_distance(points: np.ndarray, hairline: Hairline) -> np.ndarray:
    """Distance (N,) of points (N, 3) to the edge of the scalp, positive where hair grows; head space."""
    x, y, z = points.T
    azimuth = np.arctan2(np.abs(x), SKULL[1] - y)
    here = np.stack([azimuth * _ROUND, z], axis=1)
    line = hairline.outline()
    start, step = line[:-1], np.diff(line, axis=0)
    offset = here[:, None] - start
    along = np.clip((offset * step).sum(-1) / (step * step).sum(-1), 0.0, 1.0)
    distance = np.linalg.norm(offset - along[..., None] * step, axis=-1).min(axis=1)
    above = z > np.interp(here[:, 0], line[:, 0], line[:, 1])
    signed = np.where(above, distance, -distance)
    if hairline.crown > 0:
        crown = np.linalg.norm((points - np.array([0.0, 1.75, 1.75])) * np.array([1.0, 0.8, 0.6]), axis=1)
        signed = np.minimum(signed, crown - hairline.crown)
    return signed


def on_skin(points: np.ndarray) -> np.ndarray:
    """Which points (N, 3) in head space lie on the head itself and not on an ear."""
    x, y, z = points.T
    ear = (np.abs(x) > 1.16) & (z < 0.42) & (y > 0.75) & (y < 1.9)
    return ~ear & (z > -1.6)


def smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


@dataclass(frozen=True)
class Roots:
    """Points (N, 3) on skin with outward normals (N, 3) in head space, and where they lie on the mean head (N, 3)."""

    points: np.ndarray
    normals: np.ndarray
    reference: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> Roots:
        """Some of the roots, by index or by mask."""
        return Roots(self.points[chosen], self.normals[chosen], self.reference[chosen])


@dataclass(frozen=True)
class Skin:
    """Triangles of the skin: corners in head space, their normals, and the same corners on the mean head (T, 3, 3)."""

    corners: np.ndarray
    normals: np.ndarray
    reference: np.ndarray
    areas: np.ndarray
    """(T,)"""

    def scatter(self, count: int, density: np.ndarray, rng: np.random.Generator) -> Roots:
        """Scatter roots at random with a relative density (T,) per triangle."""
        weight = self.areas * density
        total = weight.sum()
        if total <= 0:
            return Roots(*np.zeros((3, 0, 3)))
        chosen = rng.choice(len(weight), count, p=weight / total)
        corner = rng.dirichlet((1.0, 1.0, 1.0), count)[:, :, None]
        normals = (self.normals[chosen] * corner).sum(axis=1)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
        return Roots((self.corners[chosen] * corner).sum(1), normals, (self.reference[chosen] * corner).sum(1))

    @property
    def centres(self) -> np.ndarray:
        """Middles (T, 3) of the triangles on the mean head."""
        return self.reference.mean(axis=1)


def mean_head() -> np.ndarray:
    """Vertices (V, 3) of the mean head in its head space.

    Outlines of hair and beard are drawn on it and follow each subject's features, since all heads share their mesh.
    """
    from recipes.mini.portrait.head import base_mesh

    return base_mesh().neutral


def head_skin(head: Head) -> Skin:
    """Triangles of the visible skin above the collar bones."""
    quads = head.quads[head.kept[head.quads].all(axis=1)]
    mean = mean_head()
    quads = quads[mean[quads].mean(axis=1)[:, 2] > -2.4]
    ids = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    corners = to_head_space(head, head.vertices[ids])
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return Skin(corners, head.normals[ids], mean[ids], np.linalg.norm(cross, axis=1) / 2)
