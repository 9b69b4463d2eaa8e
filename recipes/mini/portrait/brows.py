"""Brows and lashes: short strands along the ridge of the brow and the margins of the lids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recipes.mini.portrait.curves import Pigment, add_strands, hair_material, sample_pigment, taper
from recipes.mini.portrait.scalp import Skin, from_head_space, head_skin, smoothstep, to_head_space

if TYPE_CHECKING:
    from recipes.mini.portrait.head import Head
    from recipes.mini.portrait.words import Words

# The brow's line on the mean head, (x, z) from its inner to its outer end.
_LINE = np.array(
    [(0.20, 0.31), (0.30, 0.345), (0.42, 0.37), (0.54, 0.39), (0.66, 0.395), (0.78, 0.37), (0.88, 0.31), (0.95, 0.255)]
)
# Margins of the lids from the inner to the outer corner: roots of MakeHuman's helper geometry for lashes.
_UPPER_LEFT = (14763, 14766, 14762, 14761, 14760, 14743, 14742, 14744, 14745, 14746, 14747, 14748)
_UPPER_RIGHT = (14888, 14891, 14887, 14886, 14885, 14868, 14867, 14869, 14870, 14871, 14872, 14873)
_LOWER_LEFT = (14759, 14758, 14757, 14756, 14755, 14754, 14753, 14752, 14751)
_LOWER_RIGHT = (14884, 14883, 14882, 14881, 14880, 14879, 14878, 14877, 14876)


@dataclass(frozen=True)
class Brows:
    """Both brows; lengths in units of the eyes' distance."""

    pigment: Pigment
    thickness: float
    """Height of the brow at its widest."""
    arch: float
    """How far its outer third rises above the ridge."""
    density: float
    length: float
    """Length of a hair."""
    tail: float
    """Where the brow ends along the ridge, 1 for its whole length."""
    unruliness: float


@dataclass(frozen=True)
class Lashes:
    """Upper and lower lashes; lengths in units of the eyes' distance."""

    pigment: Pigment
    upper: float
    lower: float
    thickness: float
    """Radius at the root in metres."""
    curl: float


def _brow_pigment(color: str, rng: np.random.Generator) -> Pigment:
    """Brows are darker than hair, and turn grey later than it."""
    factor = {"blond": 0.45, "red": 0.55, "grey": 0.35, "white": 0.40}.get(color, 0.85)
    return sample_pigment(color, rng).darker(factor)


def sample_brows(words: Words, rng: np.random.Generator) -> Brows:
    """Draw brows: thicker on men, sparser and more unruly with age."""
    man, old = words.gender == "man", words.age == "old"
    pigment = _brow_pigment(words.hair_color, rng)
    draw = rng.normal(size=6)
    return Brows(
        pigment=pigment,
        thickness=(0.112 if man else 0.085) * float(np.exp(0.16 * draw[0])),
        arch=(-0.005 if man else 0.015) + 0.018 * float(draw[1]),
        density=(0.8 if old else 1.0) * float(np.exp(0.15 * draw[2])),
        length=(0.120 if man else 0.10) * float(np.exp(0.10 * draw[3])),
        tail=float(np.clip(0.97 + 0.04 * draw[4] - 0.06 * old, 0.8, 1.0)),
        unruliness=(0.16 if man else 0.09) * (1.6 if old else 1.0),
    )


def sample_lashes(words: Words, rng: np.random.Generator) -> Lashes:
    """Draw lashes: longer and darker on women, since some wear mascara."""
    man = words.gender == "man"
    mascara = float(rng.random()) * (0.0 if man else 1.0) * (0.5 if words.age == "old" else 1.0)
    pigment = _brow_pigment(words.hair_color, rng)
    pigment = pigment.darker(0.55 - 0.45 * mascara)
    size = float(np.exp(0.12 * rng.normal()))
    return Lashes(
        pigment=pigment,
        upper=(0.085 + 0.035 * mascara + (0.0 if man else 0.01)) * size,
        lower=(0.045 + 0.015 * mascara) * size,
        thickness=(0.00022 + 0.00012 * mascara),
        curl=0.45 + 0.35 * float(rng.random()) + 0.2 * mascara,
    )


def project_forward(skin: Skin, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Skin at places (N, 2) of the face, given as x and z on the mean head.

    Returns points (N, 3) and normals (N, 3) in head space; points off the face are NaN.
    """
    low, high = places.min(axis=0) - 0.05, places.max(axis=0) + 0.05
    flat = skin.reference[:, :, [0, 2]]
    near = ((flat.max(axis=1) > low) & (flat.min(axis=1) < high)).all(axis=1) & (skin.centres[:, 1] < 1.0)
    corners, depths = skin.corners[near], skin.reference[near, :, 1]
    normals, flat = skin.normals[near], flat[near]
    a, ab, ac = flat[:, 0], flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
    det = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    det = np.where(np.abs(det) < 1e-9, 1e-9, det)
    offset = places[:, None] - a
    v = (offset[..., 0] * ac[:, 1] - offset[..., 1] * ac[:, 0]) / det
    w = (ab[:, 0] * offset[..., 1] - ab[:, 1] * offset[..., 0]) / det
    inside = (v >= -0.02) & (w >= -0.02) & (v + w <= 1.02)
    weights = np.stack([1 - v - w, v, w], axis=-1)
    depth = np.where(inside, (weights * depths).sum(-1), np.inf)
    best = depth.argmin(axis=1)
    rows = np.arange(len(places))
    weight = np.where(np.isfinite(depth[rows, best]), 1.0, np.nan)[:, None, None] * weights[rows, best][:, :, None]
    normal = (weight * normals[best]).sum(axis=1)
    return (weight * corners[best]).sum(axis=1), normal / (np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12)


def add_brows(head: Head, brows: Brows, rng: np.random.Generator) -> None:
    """Add both brows to the scene."""
    skin = head_skin(head)
    count = int(330 * brows.density)
    strands = []
    for side in (1, -1):
        line = _LINE * np.array([side, 1.0])
        along = rng.beta(1.05, 1.15, count)
        across = np.clip(rng.normal(0.0, 0.36, count), -0.75, 0.75)
        # Full from the inner end on, widest at a third, and pointed at the outer end.
        width = brows.thickness * smoothstep(-0.22, 0.14, along) * (1 - 0.80 * smoothstep(0.35, 1.0, along))
        place = along * brows.tail
        grid = np.linspace(0, 1, len(line))
        centre = np.stack([np.interp(place, grid, line[:, 0]), np.interp(place, grid, line[:, 1])], axis=1)
        centre[:, 1] += brows.arch * np.sin(np.pi * np.clip(along * 1.15 - 0.25, 0, 1))
        centre[:, 1] += across * width
        root, normal = project_forward(skin, centre)
        fine = np.isfinite(root[:, 1])
        root, normal, a, c = root[fine], normal[fine], along[fine], across[fine]
        # Hairs stand up at the inner end and lie outwards further on; the upper and the lower ones lean together.
        up = 1.15 * (1 - smoothstep(0.0, 0.42, a)) + 0.28 - 0.85 * c - 0.75 * smoothstep(0.45, 1.0, a)
        direction = np.stack([side * np.ones_like(a), 0 * a, up], axis=1)
        direction += brows.unruliness * rng.normal(size=direction.shape)
        direction -= normal * (direction * normal).sum(1, keepdims=True)
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        length = brows.length * (1 - 0.35 * smoothstep(0.3, 1.0, a)) * rng.uniform(0.7, 1.15, len(a))
        t = np.linspace(0.0, 1.0, 5)[None, :, None]
        reach = length[:, None, None] * t
        strand = root[:, None] + direction[:, None] * reach + normal[:, None] * (0.16 * reach * (1 - 0.9 * t) + 0.006)
        strand[..., 2] -= 0.12 * length[:, None] * t[..., 0] ** 2
        # The face curves back to the side, and so do hairs that lie on it.
        strand[..., 1] += 0.25 * reach[..., 0] * t[..., 0] * smoothstep(0.4, 0.9, np.abs(root[:, :1]))
        strands.append(strand)
    points = from_head_space(head, np.concatenate(strands))
    radius = 0.00018 * rng.uniform(0.8, 1.3, len(points))
    add_strands("brows", points, taper(len(points), radius, 5), hair_material("brows", brows.pigment))


def add_lashes(head: Head, lashes: Lashes, rng: np.random.Generator) -> None:
    """Add upper and lower lashes of both eyes to the scene."""
    strands, radii = [], []
    margins = ((_UPPER_LEFT, 1, 1), (_UPPER_RIGHT, -1, 1), (_LOWER_LEFT, 1, -1), (_LOWER_RIGHT, -1, -1))
    for ids, side, upward in margins:
        margin = to_head_space(head, head.vertices[list(ids)])
        count = 64 if upward > 0 else 30
        along = np.clip((np.arange(count) + rng.random(count)) / count, 0, 1)
        at = 0.06 + 0.93 * along
        grid = np.linspace(0, 1, len(margin))
        root = np.stack([np.interp(at, grid, margin[:, i]) for i in range(3)], axis=1)
        root[:, 1] -= 0.012
        length = (lashes.upper if upward > 0 else lashes.lower) * (0.45 + 0.55 * np.sin(np.pi * at**1.25) ** 0.6)
        length = length * rng.uniform(0.75, 1.1, count)
        fan = side * (at - 0.42) * 1.5 + 0.10 * rng.normal(size=count)
        forward = np.stack([fan, -np.ones(count), upward * (0.25 + 0.1 * rng.normal(size=count))], axis=1)
        forward /= np.linalg.norm(forward, axis=1, keepdims=True)
        t = np.linspace(0.0, 1.0, 5)[None, :, None]
        bend = np.array([0.0, 0.2, 0.55 * upward]) * lashes.curl * t**1.8
        strands.append(root[:, None] + length[:, None, None] * (forward[:, None] * t + bend))
        radii.append(np.full(count, lashes.thickness * (1.0 if upward > 0 else 0.6)))
    points = from_head_space(head, np.concatenate(strands))
    add_strands(
        "lashes", points, taper(len(points), np.concatenate(radii), 5, 0.15), hair_material("lashes", lashes.pigment)
    )
