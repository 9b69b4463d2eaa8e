"""Stubble, moustache and beard: where they grow on the mean head, and their strands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recipes.mini.portrait.curves import Pigment, add_strands, hair_material, sample_pigment, taper
from recipes.mini.portrait.scalp import from_head_space, head_skin, mean_head, smoothstep

if TYPE_CHECKING:
    from recipes.mini.portrait.head import Head
    from recipes.mini.portrait.words import Words

# The cheek's border of a full beard on the mean head: height over distance from the middle of the face.
_CHEEK = np.array(
    [(0.30, -0.92), (0.48, -0.98), (0.66, -0.96), (0.80, -0.84), (0.92, -0.62), (1.00, -0.36), (1.10, -0.10)]
)


@dataclass(frozen=True)
class FacialHair:
    """Facial hair; lengths in units of the eyes' distance."""

    kind: str
    """One of none, stubble, moustache, beard."""
    pigment: Pigment
    length: float
    moustache: float
    """Length of the moustache."""
    density: float
    cheek: float
    """How far the cheek's border is raised."""
    goatee: bool
    """Whether the beard leaves the cheeks free."""
    curl: float
    shadow: float
    """How much shaved skin is darkened."""


def sample_facial_hair(words: Words, rng: np.random.Generator) -> FacialHair:
    """Draw what the word for facial hair leaves open."""
    pigment = sample_pigment(words.hair_color, rng)
    pigment = pigment.darker(0.75 if words.hair_color in ("blond", "red") else 0.9)
    chance = rng.random(8)
    long = float(chance[0]) ** 2
    return FacialHair(
        kind=words.facial_hair,
        pigment=pigment,
        length={"stubble": 0.025 + 0.035 * float(chance[1])}.get(words.facial_hair, 0.16 + 0.36 * long),
        moustache=0.17 + 0.10 * float(chance[2]) + 0.08 * long,
        density=float(np.exp(0.15 * rng.normal())),
        cheek=0.10 * float(rng.normal()),
        goatee=words.facial_hair == "beard" and float(chance[3]) < 0.22,
        curl={"straight": 0.02, "wavy": 0.035, "curly": 0.055}.get(words.hair_texture, 0.03),
        shadow=0.25 * float(chance[4]) * (words.gender == "man"),
    )


def moustache_region(points: np.ndarray) -> np.ndarray:
    """Density (N,) of a moustache at points (N, 3) of the mean head."""
    x, z = np.abs(points[:, 0]), points[:, 2]
    top = -0.80 - 0.55 * np.maximum(x - 0.22, 0.0)
    grown = smoothstep(0.0, 0.05, top - z) * smoothstep(0.52, 0.42, x) * smoothstep(-1.30, -1.16, z)
    return grown * (1 - 0.5 * np.exp(-((x / 0.04) ** 2))) * _off_lips(points) * _front(points)


def beard_region(points: np.ndarray, cheek: float = 0.0, goatee: bool = False) -> np.ndarray:
    """Density (N,) of a full beard or a goatee without its moustache at points (N, 3) of the mean head."""
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    border = np.interp(x, _CHEEK[:, 0], _CHEEK[:, 1]) + cheek * smoothstep(0.5, 0.7, x)
    below_cheek = smoothstep(-0.02, 0.14, border - z)
    # Above the jaw's angle only the sideburn before the ear is left.
    sideburn = 1 - smoothstep(-0.75, -0.45, z) * smoothstep(0.72, 0.52, y)
    neck = -1.98 + 0.50 * smoothstep(0.25, 0.95, y)
    above_neck = smoothstep(-0.10, 0.08, z - neck)
    before_ear = smoothstep(1.02, 0.88, y + 0.35 * smoothstep(-0.7, -1.3, z) - 0.3 * smoothstep(-1.2, -1.7, z))
    grown = below_cheek * sideburn * above_neck * before_ear
    beside_mouth = (x < 0.46) & (z > -1.16)
    grown = np.where(beside_mouth, grown * smoothstep(0.36, 0.44, x), grown)
    gap = np.exp(-(((x - 0.24) / 0.12) ** 2)) * np.exp(-(((z + 1.42) / 0.09) ** 2))
    grown = grown * (1 - 0.8 * gap)
    if goatee:
        grown = grown * smoothstep(0.62, 0.44, x) * smoothstep(0.7, 0.35, y)
    return grown * _off_lips(points)


def _off_lips(points: np.ndarray) -> np.ndarray:
    x, z = points[:, 0], points[:, 2]
    height = np.where(z > -1.16, 0.185, 0.20)
    return smoothstep(0.90, 1.20, np.hypot(x / 0.42, (z + 1.16) / height))


def _front(points: np.ndarray) -> np.ndarray:
    return smoothstep(0.25, 0.0, points[:, 1])


def _region(hair: FacialHair, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Densities (N,) of beard and of moustache."""
    moustache = moustache_region(points)
    if hair.kind == "moustache":
        return np.zeros_like(moustache), moustache
    return beard_region(points, hair.cheek, hair.goatee), moustache


def beard_mask(head: Head, hair: FacialHair) -> np.ndarray:
    """How much facial hair darkens the skin under it at every vertex (V,), from 0 to 1."""
    points = mean_head()
    inside = (points[:, 2] > -2.3) & (points[:, 2] < 0.1) & (points[:, 1] < 1.2)
    if hair.kind == "none":
        return beard_region(points) * 0.35 * hair.shadow * inside
    beard, moustache = _region(hair, points)
    strength = {"stubble": 0.34, "moustache": 0.45, "beard": 0.75}[hair.kind]
    return np.clip(beard + moustache, 0, 1) * strength * inside


def add_facial_hair(head: Head, hair: FacialHair, rng: np.random.Generator) -> None:
    """Add the strands of stubble, moustache or beard to the scene."""
    if hair.kind == "none":
        return
    skin = head_skin(head)
    beard, moustache = _region(hair, skin.centres)
    place = np.clip(beard + moustache, 0, 1)
    near = (skin.centres[:, 2] > -2.3) & (skin.centres[:, 2] < 0.1) & (skin.centres[:, 1] < 1.2)
    count = {"stubble": 2200, "moustache": 520, "beard": 1300 if hair.goatee else 2900}[hair.kind]
    roots = skin.scatter(int(1.7 * count), near * (place + 0.04 * (place > 0)), rng)
    beard, moustache = _region(hair, roots.reference)
    dense = np.clip(beard + moustache, 0, 1)
    keep = np.flatnonzero(dense > rng.uniform(0.15, 1.0, len(dense)))[: int(count * hair.density)]
    roots, dense, moustache = roots[keep], dense[keep], moustache[keep]
    if len(keep) == 0:
        return
    x, _, z = roots.reference.T
    side = np.sign(x)
    upper = moustache > 0.3
    chin = smoothstep(-1.35, -1.65, z) * smoothstep(0.7, 0.3, np.abs(x))
    # Down and towards the chin on cheeks and jaw, to both sides from under the nose.
    direction = np.stack([-0.25 * side * (1 - chin), -0.15 - 0.35 * chin, -np.ones_like(x)], axis=1)
    outward = np.stack(
        [side * (0.35 + 1.6 * np.minimum(np.abs(x), 0.4)), 0.15 * np.abs(x), -0.75 * np.ones_like(x)], axis=1
    )
    direction = np.where(upper[:, None], outward, direction)
    direction += 0.22 * rng.normal(size=direction.shape)
    direction -= roots.normals * (direction * roots.normals).sum(1, keepdims=True)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True) + 1e-9
    length = np.where(upper, np.minimum(hair.moustache, hair.length * 2), hair.length * (0.75 + 0.7 * chin))
    if hair.kind == "moustache":
        length = np.full_like(x, hair.moustache)
    length = length * (0.45 + 0.55 * dense) * rng.uniform(0.7, 1.15, len(x))
    keys = 4 if hair.kind == "stubble" else 7
    t = np.linspace(0.0, 1.0, keys)[None, :, None]
    lift = 0.55 if hair.kind == "stubble" else 0.42
    reach = length[:, None, None] * t
    points = roots.points[:, None] + reach * (direction[:, None] + lift * (1 - 0.45 * t) * roots.normals[:, None])
    points[..., 2] -= 0.25 * length[:, None] * t[..., 0] ** 2
    bend = rng.normal(size=(len(x), 2, 3)) * hair.curl
    points += np.minimum(1.0, length[:, None, None] / 0.2) * (
        bend[:, :1] * np.sin(np.pi * t) + bend[:, 1:] * np.sin(2 * np.pi * t)
    )
    radius = {"stubble": 0.00018, "moustache": 0.00030, "beard": 0.00032}[hair.kind] * rng.uniform(0.75, 1.25, len(x))
    radii = taper(len(x), radius, keys, 0.4)
    add_strands("facial hair", from_head_space(head, points), radii, hair_material("facial hair", hair.pigment))
