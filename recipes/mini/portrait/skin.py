"""Skin: relief (pores, wrinkles, folds, brows, beard) and colour (pigment, flush, freckles, lips, lashes, stubble).

Everything is written in face coordinates. Relief is in head units, positive outwards; colours are linear reflectances.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from recipes.mini.portrait import head
from recipes.mini.portrait.hair import face_opening
from recipes.mini.portrait.noise import noise
from recipes.mini.portrait.sdf import bump, ramp
from recipes.mini.portrait.subject import Subject

# Linear reflectance along the melanin axis; endpoints chosen to cover the Monk skin tone scale.
_PIGMENT = (
    (0.0, (0.72, 0.475, 0.375)),
    (0.2, (0.635, 0.372, 0.27)),
    (0.38, (0.54, 0.315, 0.20)),
    (0.53, (0.42, 0.225, 0.125)),
    (0.73, (0.21, 0.098, 0.052)),
    (1.0, (0.075, 0.036, 0.023)),
)


def rgb(red: float, green: float, blue: float) -> Tensor:
    """A colour as a (3, 1) tensor."""
    return torch.tensor([[red], [green], [blue]], dtype=torch.float32)


def base_colour(subject: Subject) -> Tensor:
    """The skin's mean reflectance (3, 1) from melanin and undertone."""
    (low, dark), (high, light) = next(
        (below, above) for below, above in pairwise(_PIGMENT) if subject.melanin <= above[0] or above is _PIGMENT[-1]
    )
    share = (subject.melanin - low) / (high - low)
    # Pigment layers multiply, so tones are mixed in the logarithm.
    colour = torch.exp(torch.log(rgb(*dark)) * (1.0 - share) + torch.log(rgb(*light)) * share)
    return colour * (1.0 + subject.undertone * rgb(-0.01, 0.022, -0.035))


@dataclass(frozen=True)
class SkinPoints:
    """Skin surface properties at n points: relief (n), albedo (3, n) and gloss (n)."""

    relief: Tensor
    albedo: Tensor
    gloss: Tensor


def skin_points(face: Tensor, opening: Tensor, subject: Subject, traits: dict[str, Tensor], seed: int) -> SkinPoints:
    """Evaluate the skin at face coordinates ``face`` (3, n) with the eye opening's signed height there."""
    x, y, z = face
    ax = x.abs()
    marks = head.landmarks(traits)
    shift = float(seed % 61)
    coarse = noise(x * 3.0 + shift, y * 3.0, z * 3.0)
    medium = noise(x * 10.0, y * 10.0 + shift, z * 10.0)
    fine = noise(x * 30.0, y * 30.0, z * 30.0 + shift)
    pores = noise(x * 58.0 + shift, y * 58.0, z * 58.0)
    front = ramp(0.15, 0.45, z)
    lips, mouth_dark = _lips(ax, y, z, fine, subject, marks)
    brows, brow_hairs = _brows(ax, y, z, subject, shift)
    beard, stubble, beard_hairs = _beard(x, ax, y, z, subject, marks, shift)
    wrinkles, folds, eye_bags = _wrinkles(ax, y, front, coarse, medium, subject, marks)

    relief = 0.0010 * pores * (0.7 + 0.7 * subject.age) + 0.0008 * fine * (0.3 + subject.age) - wrinkles
    relief = relief * (1.0 - 0.8 * lips) + lips * (0.004 + 0.0022 * noise(x * 55.0, y * 6.0, z * 6.0))
    relief = relief + 0.006 * brows * brow_hairs + beard * 0.011 * beard_hairs

    pigment = base_colour(subject)
    albedo = pigment * (1.0 + 0.02 * coarse + 0.015 * medium + (0.03 + 0.05 * subject.age) * fine + 0.03 * pores)
    flush = 0.9 * bump(ax - 0.40, 0.17) * bump(y + 0.27, 0.17) * front + 0.7 * bump(ax, 0.12) * bump(y + 0.32, 0.13)
    flush = (flush + 0.6 * ramp(0.72, 0.80, ax)) * (0.35 + 0.65 * subject.ruddiness) * (1.0 - 0.55 * subject.melanin)
    albedo = albedo * (1.0 - flush * rgb(-0.03, 0.26, 0.24))
    spots = ramp(0.7, 1.5, noise(x * 24.0 + shift, y * 24.0, z * 24.0)) * subject.freckles
    spots = spots * (bump(ax - 0.25, 0.38) * bump(y + 0.14, 0.34) + 0.15) * front * (1.0 - 0.5 * subject.melanin)
    albedo = albedo * (1.0 - spots * rgb(0.42, 0.60, 0.68))
    old = max(0.0, subject.age - 0.5)
    age_spots = ramp(1.4, 2.1, noise(x * 11.0 + 5.0, y * 11.0 + shift, z * 11.0)) * old
    albedo = albedo * (1.0 - age_spots * rgb(0.45, 0.60, 0.65)) * (1.0 - old * rgb(0.06, 0.0, -0.06))
    albedo = albedo * (1.0 - (0.30 * folds + eye_bags) * (0.15 + 0.85 * subject.age) * rgb(0.30, 0.42, 0.40))

    albedo = albedo * (1.0 - lips) + _lip_colour(pigment, subject) * (1.0 + 0.08 * fine) * lips
    albedo = albedo * (1.0 - 0.75 * mouth_dark)
    albedo = _eye_rims(albedo, ax, y, z, opening, subject, marks)
    hair = rgb(*subject.colour("hair"))
    albedo = (
        albedo * (1.0 - 0.9 * brows)
        + hair.clamp(max=0.16) * (0.75 - 0.4 * subject.melanin) * torch.exp(0.4 * brow_hairs) * 0.9 * brows
    )
    shade = 0.5 * hair + 0.5 * pigment * rgb(0.35, 0.40, 0.46)
    albedo = albedo * (1.0 - stubble) + shade * stubble
    albedo = albedo * (1.0 - beard) + hair * torch.exp(0.45 * beard_hairs) * beard
    scalp = ramp(0.0, 0.10, -_scalp_edge(x, y, z, traits)) * subject.baldness * (0.45 - 0.25 * subject.age)
    scalp = scalp * (0.8 + 0.35 * pores).clamp(0.0, 1.3)
    albedo = albedo * (1.0 - scalp) + (0.5 * hair + 0.5 * pigment * 0.3) * scalp
    gloss = (0.62 + 0.45 * bump(ax, 0.16) * front + 0.5 * lips) * (1.0 - 0.8 * beard) * (1.0 - 0.5 * brows)
    return SkinPoints(relief, albedo.clamp(0.004, 0.95), gloss)


def _scalp_edge(x: Tensor, y: Tensor, z: Tensor, traits: dict[str, Tensor]) -> Tensor:
    """Negative where hair would grow on a shaved head."""
    grows = -torch.maximum(face_opening(x, y, traits), 0.0 - z)
    return torch.maximum(grows, -0.12 - 0.7 * (-z - 0.1).clamp(0.0, 0.8) - y)


def _lips(
    ax: Tensor, y: Tensor, z: Tensor, fine: Tensor, subject: Subject, marks: head.Landmarks
) -> tuple[Tensor, Tensor]:
    """Masks of the red of the lips and of the dark line between them."""
    half, apart = marks.mouth_half_width, subject.mouth_open
    height = y - head.mouth_line(ax, marks)
    across = (ax / (half + 0.015)).clamp(max=1.5)
    taper = (1.0 - across * across).clamp(min=0.0).sqrt()
    fullness = subject.lip_fullness + 0.35 * subject.femininity
    # Cupid's bow: the upper lip's edge dips in the middle and peaks either side of it.
    bow = 0.010 * torch.cos((ax * 44.0).clamp(max=6.0))
    upper = (0.078 + 0.014 * fullness + 0.022 * apart) * taper - bow
    lower = (0.100 + 0.016 * fullness + 0.050 * apart) * taper
    edge = torch.minimum(upper - height, height + lower) + 0.004 * fine
    lips = ramp(-0.010, 0.014, edge) * ramp(1.02, 0.9, across) * ramp(0.5, 0.58, z)
    line = bump(height + 0.006, 0.011) * ramp(half + 0.02, half - 0.02, ax) * ramp(0.5, 0.6, z)
    return lips, line * (1.0 - 0.6 * min(1.0, 2.0 * apart))


def _lip_colour(pigment: Tensor, subject: Subject) -> Tensor:
    natural = pigment * rgb(0.90, 0.54, 0.56) * (1.0 - 0.12 * subject.age) * (0.95 + 0.12 * subject.melanin)
    painted = rgb(0.40, 0.09, 0.095) * (1.15 - 0.6 * subject.melanin)
    strength = 0.65 * subject.lipstick
    return natural * (1.0 - strength) + painted * strength


def _brows(ax: Tensor, y: Tensor, z: Tensor, subject: Subject, shift: float) -> tuple[Tensor, Tensor]:
    """Cover of the eyebrows and the relief of their hairs (about unit variance)."""
    along = (ax - 0.12) / 0.39
    inside = along.clamp(0.0, 1.0)
    arch = 0.035 + 0.022 * subject.brow_arch + 0.012 * subject.femininity
    middle = 0.185 + 0.022 * subject.brow_height + 0.02 * subject.femininity
    middle = middle + arch * torch.sin(2.5 * inside) - 0.03 * inside * inside
    thick = (0.036 - 0.009 * subject.femininity + 0.008 * subject.brow_thickness) * (1.0 - 0.62 * inside * inside)
    hairs = noise(ax * 42.0 - y * 30.0 + shift, y * 9.0 + ax * 7.0, z * 6.0)
    cover = ramp(1.35, 0.55, (y - middle).abs() / thick + 0.28 * hairs)
    ends = ramp(-0.04, 0.10, along + 0.03 * hairs) * ramp(1.06, 0.92, along + 0.03 * hairs)
    return cover * ends * ramp(0.25, 0.4, z) * (0.92 - 0.25 * max(0.0, subject.age - 0.6)), hairs


def _beard(
    x: Tensor, ax: Tensor, y: Tensor, z: Tensor, subject: Subject, marks: head.Landmarks, shift: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Cover of the full beard, cover of stubble, and the beard hairs' relief."""
    region = head.beard_region(ax, y, z, marks)
    strands = 0.6 * noise(x * 34.0 + 3.0 * y, y * 7.0 + shift, z * 34.0) + 0.5 * noise(x * 70.0, y * 16.0, z * 70.0)
    full = min(1.0, 2.6 * subject.beard)
    beard = ramp(0.22, 0.62, region + 0.10 * strands) * full * 0.96
    # Points of about a hair's spacing, kept faint: stubble is an even shadow with a little grain.
    grain = noise(x * 95.0, y * 95.0, z * 95.0)
    stubble = ramp(0.05, 0.75, region + 0.05 * strands) * subject.stubble * (0.50 + 0.09 * grain).clamp(0.0, 0.8)
    return beard, stubble * (1.0 - beard), strands


def _wrinkles(
    ax: Tensor, y: Tensor, front: Tensor, coarse: Tensor, medium: Tensor, subject: Subject, marks: head.Landmarks
) -> tuple[Tensor, Tensor, Tensor]:
    """Depth of all wrinkles together, and the masks of cheek folds and eye bags for their shade."""
    old, smile = max(0.0, subject.age - 0.25) * 1.33, max(0.0, subject.smile)
    forehead = ramp(0.28, 0.36, y) * ramp(0.72, 0.58, y) * ramp(0.52, 0.30, ax) * front
    lines = ramp(0.35, 1.0, torch.sin(y * 52.0 + coarse * 1.3 + 4.0 * ax * ax)) * (0.6 + 0.4 * coarse).clamp(min=0.1)
    depth = old * 0.011 * forehead * lines
    dx = ax - marks.eye_x - 0.04
    distance, angle = torch.sqrt(dx * dx + y * y + 1e-6), torch.atan2(y, dx)
    feet = ramp(0.13, 0.18, distance) * ramp(0.32, 0.22, distance) * ramp(0.9, 0.5, angle.abs()) * front
    depth = depth + (old + 0.3 * smile * subject.age) * 0.010 * feet * ramp(0.2, 1.0, torch.sin(angle * 15.0 + medium))
    # The fold from the nose's wing past the mouth's corner, deepened by smiling.
    down = ((y + 0.34) / -0.36).clamp(-0.5, 1.6)
    fold_x = 0.165 + 0.125 * down + 0.02 * smile
    folds = bump(ax - fold_x, 0.026) * ramp(-0.1, 0.25, down) * ramp(1.3, 0.8, down) * front
    depth = depth + folds * (0.003 + 0.020 * old + 0.008 * smile)
    under = y + 0.135 - 1.2 * (ax - marks.eye_x) ** 2
    bags = bump(under, 0.022) * ramp(0.20, 0.10, (ax - marks.eye_x).abs()) * front
    depth = depth + bags * (0.0015 + 0.014 * old)
    frown = bump(ax - 0.05, 0.014) * ramp(0.06, 0.12, y) * ramp(0.30, 0.22, y) * front
    depth = depth + frown * 0.007 * old
    marionette = bump(ax - marks.mouth_half_width - 0.03, 0.02) * ramp(-0.64, -0.70, y) * ramp(-0.90, -0.80, y) * front
    return depth + marionette * 0.008 * old, folds, bags


def _eye_rims(
    albedo: Tensor, ax: Tensor, y: Tensor, z: Tensor, opening: Tensor, subject: Subject, marks: head.Landmarks
) -> Tensor:
    """Darken lashes and lid crease, and lay eye shadow on painted lids."""
    across = ax - marks.eye_x
    near = ramp(0.235, 0.18, across.abs()) * ramp(0.45, 0.55, z)
    upper = ramp(-0.015, 0.02, y - 0.07 * across)
    woman = subject.femininity
    lashes = (
        bump(opening + 0.010, 0.014 + 0.008 * woman) * near * (upper * (0.70 + 0.28 * woman) + 0.30 * (1.0 - upper))
    )
    crease = bump(opening + 0.058, 0.012) * near * upper
    lid = ramp(-0.075, -0.04, opening) * near * upper * subject.lipstick
    socket = bump(torch.sqrt((across / 1.3) ** 2 + y * y + 1e-6) - 0.13, 0.06) * ramp(0.3, 0.5, z)
    albedo = albedo * (1.0 - socket * 0.14 * rgb(0.7, 0.9, 0.8)) * (1.0 - 0.35 * crease)
    albedo = albedo * (1.0 - 0.35 * lid * rgb(0.8, 1.0, 0.9))
    return albedo * (1.0 - lashes)
