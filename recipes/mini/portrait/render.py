"""Render a `Subject` to a picture."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from recipes.mini.portrait import scene
from recipes.mini.portrait.backdrop import backdrop
from recipes.mini.portrait.camera import trace
from recipes.mini.portrait.lighting import studio, tone_map
from recipes.mini.portrait.shading import shade_body, shade_hair
from recipes.mini.portrait.subject import Subject


@torch.no_grad()
def render_portrait(subject: Subject, seed: int, size_px: int = 128, supersampling: int = 2) -> Tensor:
    """The portrait as sRGB in [0, 1], float32 of shape (3, size_px, size_px).

    ``seed`` drives what is no parameter of the subject: pores, strands, folds and bokeh. The same arguments give the
    same picture. ``size_px * supersampling`` must be a multiple of 8. The first call compiles the distance functions,
    which takes about a minute.
    """
    size = size_px * supersampling
    if size < 8 or size % 8:
        raise ValueError(
            f"a picture of {size_px} px with {supersampling}x supersampling is not a multiple of 8 samples"
        )
    packed, lights = scene.pack(subject), studio(subject)
    picture = backdrop(subject, seed, size).view(3, -1)
    depth = torch.full((size * size,), torch.inf)
    body = trace(scene.body_distance, packed, size)
    picture[:, body.index] = tone_map(shade_body(body, subject, packed, lights, seed, size).colour)
    depth[body.index] = body.depth
    if subject.baldness < 0.5:
        hair = trace(scene.hair_distance, packed, size, reach=0.8)
        shaded = shade_hair(hair, depth[hair.index], subject, packed, lights, seed, size)
        cover = torch.where(hair.depth < depth[hair.index], shaded.cover, 0.0)
        picture[:, hair.index] = picture[:, hair.index] * (1.0 - cover) + tone_map(shaded.colour) * cover
    picture = picture.view(1, 3, size, size)
    if supersampling > 1:
        picture = functional.avg_pool2d(picture, supersampling)
    return _to_srgb(picture[0].clamp(0.0, 1.0))


def _to_srgb(linear: Tensor) -> Tensor:
    """The sRGB transfer function (IEC 61966-2-1)."""
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp(min=1e-6) ** (1 / 2.4) - 0.055)
