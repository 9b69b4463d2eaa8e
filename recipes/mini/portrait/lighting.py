"""Studio light: a soft key, a fill, a rim and the backdrop's bounce; occlusion, soft shadows and the tone curve."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from recipes.mini.portrait.scene import body_distance, hair_distance
from recipes.mini.portrait.sdf import ramp
from recipes.mini.portrait.skin import rgb
from recipes.mini.portrait.subject import Subject


@dataclass(frozen=True)
class Studio:
    """The lights: unit directions (3, 1) towards them and their linear colours (3, 1)."""

    key: Tensor
    key_colour: Tensor
    fill: Tensor
    fill_colour: Tensor
    rim: Tensor
    rim_colour: Tensor
    sky: Tensor
    floor: Tensor


def studio(subject: Subject) -> Studio:
    """Set the lights for ``subject``; darker skin is exposed a little more, as a photographer would."""
    azimuth, height, warmth = subject.light_azimuth, subject.light_elevation, subject.light_warmth
    key = rgb(math.sin(azimuth) * math.cos(height), math.sin(height), math.cos(azimuth) * math.cos(height))
    tint = rgb(1.0 + 0.17 * warmth, 1.0 - 0.03 * warmth, 1.0 - 0.24 * warmth)
    exposure = 0.94 + 0.50 * subject.melanin**1.5
    side = math.copysign(1.0, azimuth)
    backdrop = rgb(*subject.colour("background"))
    ambient = (0.6 * rgb(0.34, 0.35, 0.37) + 0.30 * backdrop + 0.05) * exposure * (1.0 + 0.4 * (tint - 1.0))
    return Studio(
        key=key,
        key_colour=tint * 1.50 * subject.key_strength * exposure,
        fill=functional.normalize(rgb(-0.8 * side, 0.1, 0.75), dim=0),
        fill_colour=(0.5 + 0.5 * tint) * 0.42 * subject.fill_strength * exposure,
        rim=functional.normalize(rgb(-0.8 * side, 0.45, -0.6), dim=0),
        rim_colour=(0.6 + 0.5 * backdrop) * 1.6 * subject.rim_strength,
        sky=ambient * 0.62 * (0.6 + 0.4 * subject.fill_strength),
        floor=ambient * 0.34 * (0.6 + 0.4 * subject.fill_strength),
    )


def occlusion_and_shadow(points: Tensor, normals: Tensor, light: Tensor, packed: Tensor) -> tuple[Tensor, Tensor]:
    """Ambient visibility and soft key-light visibility, 0 to 1 each (Quilez, "Soft shadows in raymarched SDFs").

    Hair hides light softly: it counts as a little smaller than it is.
    """

    def clearance(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        return torch.minimum(body_distance(x, y, z, packed), hair_distance(x, y, z, packed) + 0.025)

    x, y, z = points
    ambient = torch.ones_like(x)
    for step, weight in ((0.06, 1.5), (0.16, 0.9), (0.36, 0.5)):
        d = clearance(x + normals[0] * step, y + normals[1] * step, z + normals[2] * step)
        ambient = ambient - 1.1 * weight * (step - d).clamp(min=0.0)
    visible = torch.ones_like(x)
    start = points + normals * 0.025
    travelled = torch.full_like(x, 0.03)
    direction = light.view(3)
    for _ in range(10):
        reach = [start[i] + direction[i] * travelled for i in range(3)]
        d = clearance(*reach)
        visible = torch.minimum(visible, 7.0 * d / travelled)
        travelled = travelled + d.clamp(0.03, 0.25)
    return ambient.clamp(0.15, 1.0), ramp(-0.1, 1.0, visible)


def wrapped(normals: Tensor, light: Tensor, wrap: float) -> Tensor:
    """Lambert's cosine wrapped ``wrap`` beyond the terminator, as light that scatters under the surface."""
    return (((normals * light).sum(0) + wrap) / (1.0 + wrap)).clamp(min=0.0) ** 1.2


def microfacet(half_cosine: Tensor, roughness: float) -> Tensor:
    """The GGX distribution of normals (Walter et al. 2007) for a perceptual ``roughness``."""
    alpha2 = roughness**4
    base = half_cosine * half_cosine * (alpha2 - 1.0) + 1.0
    return alpha2 / (math.pi * base * base)


def tone_map(colour: Tensor) -> Tensor:
    """Filmic curve from scene to display-linear light (Narkowicz 2015, fitted to ACES)."""
    colour = colour.clamp(min=0.0) * 0.82
    return ((colour * (2.51 * colour + 0.03)) / (colour * (2.43 * colour + 0.59) + 0.14)).clamp(0.0, 1.0)
