"""Skin: colour painted on the head's vertices, freckles, pores and wrinkles in the material, light scattered below."""

from __future__ import annotations

import bpy
import numpy as np

from recipes.mini.portrait.head import Head
from recipes.mini.portrait.shaders import Shader, add_mesh
from recipes.mini.portrait.subject import Subject


def add_skin(head: Head, subject: Subject, rng: np.random.Generator) -> None:
    """Add the kept part of the body with its skin."""
    number = np.full(len(head.vertices), -1)
    number[head.kept] = np.arange(int(head.kept.sum()))
    add_mesh(
        "skin",
        head.vertices[head.kept],
        number[head.kept_quads],
        _skin_material(subject, rng),
        subdivisions=1,
        tone=paint_skin(head, subject)[head.kept],
    )


def paint_skin(head: Head, subject: Subject) -> np.ndarray:
    """Linear RGB (V, 3) of every vertex."""
    return np.tile(np.array(subject.skin_color), (len(head.vertices), 1))


def _skin_material(subject: Subject, rng: np.random.Generator) -> bpy.types.Material:
    shader = Shader("skin")
    shader.set(base_color=shader.attribute("tone", "Color"), roughness=0.45)
    shader.set(subsurface_weight=0.6, subsurface_radius=(1.0, 0.35, 0.18), subsurface_scale=0.008)
    return shader.material
