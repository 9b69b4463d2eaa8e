"""Hair of the head: the styles that words name, drawn at random, and added to the scene as strands.

Lengths are in units of the eyes' distance (about 6 cm), in the head space of `scalp`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recipes.mini.portrait.curves import Pigment, add_strands, hair_material, sample_pigment, taper
from recipes.mini.portrait.scalp import (
    SKULL,
    Hairline,
    edge_distance,
    from_head_space,
    head_skin,
    mean_head,
    on_skin,
    smoothstep,
)
from recipes.mini.portrait.strands import Growth, grow_style

if TYPE_CHECKING:
    from recipes.mini.portrait.head import Head
    from recipes.mini.portrait.words import Words


@dataclass(frozen=True)
class Hair:
    """The hair of one head; ``growth`` is None for a bald one."""

    style: str
    pigment: Pigment
    hairline: Hairline
    growth: Growth | None
    count: int
    """How many strands."""
    radius: float
    """Radius of a strand at its root in metres; wider than life, since there are fewer strands than in life."""


# Per style: length on top and at the sides, height at which hair is cut (-9 for never), volume, strands and their
# radius in millimetres.
_STYLES: dict[str, tuple[float, float, float, float, int, float]] = {
    "cropped": (0.20, 0.10, -9.0, 0.03, 4800, 0.50),
    "short": (0.75, 0.28, -9.0, 0.16, 3600, 0.52),
    "side-parted": (1.15, 0.40, -9.0, 0.20, 3400, 0.55),
    "swept-back": (1.60, 0.70, -9.0, 0.20, 3400, 0.55),
    "bob": (4.2, 3.4, -1.55, 0.26, 3000, 0.70),
    "medium": (5.2, 4.6, -2.6, 0.26, 3000, 0.75),
    "long": (7.5, 7.0, -4.6, 0.28, 3200, 0.80),
    "tied-back": (2.0, 2.0, -9.0, 0.10, 3000, 0.65),
    "afro": (0.85, 0.70, -9.0, 0.60, 5000, 0.85),
}


def sample_hair(words: Words, rng: np.random.Generator) -> Hair:
    """Draw the hair that words ask for; every draw is made for every style, so that words alone move nothing else."""
    man = words.gender == "man"
    draw = rng.normal(size=12)
    chance = rng.random(12)
    pigment = sample_pigment(words.hair_color, rng)
    age_recession = {"young": 0.05, "middle-aged": 0.35, "old": 0.6}.get(words.age, 0.2)
    hairline = Hairline(
        height=0.05 * float(draw[0]) + (0.04 if man else 0.0),
        recession=float(np.clip(age_recession + 0.25 * draw[1], 0, 1)) * (1.0 if man else 0.15),
        sideburn=(0.12 + 0.10 * float(chance[0])) if man else 0.0,
        nape=0.08 * float(draw[2]),
    )
    if words.hair_style == "bald" or words.hair_style not in _STYLES:
        return Hair("bald", pigment, dataclasses.replace(hairline, recession=1.0), None, 0, 0.0)
    top, side, cut, volume, count, radius = _STYLES[words.hair_style]
    stretch = float(np.exp(0.14 * draw[3]))
    fringe_styles = ("bob", "medium", "long", "short")
    fringe = words.hair_style in fringe_styles and chance[1] < (0.3 if not man else 0.08)
    wave = {"straight": 0.012, "wavy": 0.10, "curly": 0.16}[words.hair_texture]
    wavelength = {"straight": 2.5, "wavy": 1.5, "curly": 0.62}[words.hair_texture]
    if words.hair_style in ("cropped", "short", "side-parted", "swept-back") and words.hair_texture != "straight":
        wave, wavelength = wave * 0.6, wavelength * 0.7
    coily = words.ancestry == "african" and words.hair_texture == "curly"
    if coily or words.hair_style == "afro":
        wave, wavelength = (0.055, 0.20) if words.hair_style in ("cropped", "short", "afro") else (0.11, 0.36)
    parting = 0.35 * float(draw[4]) if words.hair_style != "side-parted" else 0.55 * (1 if chance[2] < 0.5 else -1)
    growth = Growth(
        style=words.hair_style,
        top=top * stretch,
        side=side * stretch,
        cut=cut * (1.0 + 0.06 * float(draw[5])) if cut > -8 else cut,
        volume=volume * float(np.exp(0.2 * draw[6])) * (1.25 if words.hair_texture == "curly" else 1.0),
        parting=float(np.clip(parting, -0.65, 0.65)),
        fringe=bool(fringe),
        fringe_height=0.42 + 0.12 * float(chance[3]),
        wave=wave * float(np.exp(0.15 * draw[7])),
        wavelength=wavelength * float(np.exp(0.1 * draw[8])),
        clump=0.55 if words.hair_texture != "straight" else 0.45,
        curtain=1.02 + 0.07 * float(draw[9]),
        bun=int(chance[4] * 3),
        quiff=float(chance[5]) if man else 0.0,
    )
    return Hair(words.hair_style, pigment, hairline, growth, count, radius * 1e-3)


def add_hair(head: Head, hair: Hair, rng: np.random.Generator) -> None:
    """Grow the hair and add it to the scene."""
    if hair.growth is None:
        return
    skin = head_skin(head)
    near = (edge_distance(skin.centres, hair.hairline) > -0.2) & on_skin(skin.centres)
    roots = skin.scatter(int(hair.count * 1.35), near.astype(np.float64), rng)
    edge = edge_distance(roots.reference, hair.hairline)
    # The outline is ragged by nature and thins out over half a centimetre.
    keep = smoothstep(-0.02, 0.10, edge + 0.035 * rng.normal(size=len(edge))) > rng.random(len(edge))
    keep = np.flatnonzero(keep & on_skin(roots.reference))[: hair.count]
    roots, edge = roots[keep], edge[keep]
    points = grow_style(hair.growth, head, roots.points, roots.normals, edge, rng)
    radius = hair.radius * (0.5 + 0.5 * smoothstep(0.0, 0.2, edge)) * rng.uniform(0.75, 1.2, len(edge))
    extra = len(points) - len(radius)
    radius = np.concatenate([radius, np.full(extra, hair.radius)])
    material = hair_material("hair", hair.pigment, from_head_space(head, SKULL))
    add_strands("hair", from_head_space(head, points), taper(len(points), radius, points.shape[1]), material)


def scalp_mask(head: Head, hair: Hair) -> np.ndarray:
    """How much the hair darkens the skin under it at every vertex (V,), from 0 to 1."""
    points = mean_head()
    edge = edge_distance(points, hair.hairline)
    strength = 0.12 if hair.growth is None else 0.75 if hair.style == "cropped" else 0.9
    return smoothstep(0.0, 0.22, edge) * strength * on_skin(points)
