"""Glasses: a frame on the nose before the eyes, with temples to the ears and lenses that shine a little."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import bpy
import numpy as np

from recipes.mini.portrait.scalp import from_head_space, mean_head, to_head_space
from recipes.mini.portrait.shaders import Shader, add_mesh
from recipes.mini.portrait.tailoring import grid_faces

if TYPE_CHECKING:
    from recipes.mini.portrait.head import Head
    from recipes.mini.portrait.words import Words

Color = tuple[float, float, float]
"""Linear RGB reflectance."""

_METALS: tuple[Color, ...] = ((0.55, 0.55, 0.56), (0.70, 0.50, 0.26), (0.10, 0.10, 0.11), (0.62, 0.42, 0.34))
_PLASTICS: tuple[Color, ...] = (
    *((0.010, 0.010, 0.011), (0.045, 0.020, 0.010), (0.11, 0.045, 0.016)),
    *((0.012, 0.018, 0.045), (0.10, 0.012, 0.020), (0.30, 0.27, 0.24)),
)


@dataclass(frozen=True)
class Glasses:
    """A pair of glasses; lengths in units of the eyes' distance. None are worn when ``shape`` is none."""

    shape: str
    """none, round, rectangular, wayfarer or oval."""
    color: Color
    metal: bool
    thickness: float
    """Radius of the rim."""
    size: float
    """Width of a lens against the usual one."""
    low: float
    """How far they sit down the nose."""
    shine: float
    """Strength of the lenses' reflection."""


def sample_glasses(words: Words, rng: np.random.Generator) -> Glasses:
    """Draw a frame."""
    chance = rng.random(6)
    shape = ("round", "rectangular", "wayfarer", "oval")[int(chance[0] * 4)]
    metal = bool(chance[1] < (0.15 if shape == "wayfarer" else 0.5))
    colors = _METALS if metal else _PLASTICS
    return Glasses(
        shape=shape if words.glasses != "none" else "none",
        color=colors[int(chance[2] ** 1.3 * len(colors))],
        metal=metal,
        thickness=0.018 + 0.006 * float(chance[3]) if metal else 0.030 + 0.018 * float(chance[3]),
        size=float(np.exp(0.06 * rng.normal())),
        low=0.05 + 0.05 * float(chance[4]),
        shine=float(chance[5]),
    )


def rim_outline(shape: str, size: float, count: int = 40) -> np.ndarray:
    """Closed outline (C, 2) of the left lens round its middle, x outwards."""
    angle = np.linspace(0.0, 2 * np.pi, count, endpoint=False)
    cos, sin = np.cos(angle), np.sin(angle)
    half_width, half_height, power = {
        "round": (0.385, 0.375, 2.0),
        "oval": (0.41, 0.30, 2.2),
        "rectangular": (0.43, 0.27, 4.0),
        "wayfarer": (0.41, 0.315, 3.2),
    }[shape]
    radius = (np.abs(cos) ** power + np.abs(sin) ** power) ** (-1 / power)
    x, z = half_width * radius * cos, half_height * radius * sin
    if shape == "wayfarer":
        # Wider at the top, with raised outer corners.
        x = x * (1 + 0.10 * z / half_height)
        z = z + 0.05 * np.maximum(z, 0) / half_height * x / half_width
    return np.stack([x, z], axis=1) * size


def add_glasses(head: Head, glasses: Glasses, rng: np.random.Generator) -> None:
    """Add the glasses to the scene, if any are worn."""
    if glasses.shape == "none":
        return
    mean = mean_head()
    points = to_head_space(head, head.vertices)
    body = np.flatnonzero(head.kept)
    # They rest on the nose's ridge below the eyes, clear of brows, cheeks and lashes.
    on_nose = body[(np.abs(mean[body, 0]) < 0.10) & (np.abs(mean[body, 2] + 0.12) < 0.12) & (mean[body, 1] < 0.0)]
    near_eyes = body[(np.abs(mean[body, 0]) < 0.95) & (np.abs(mean[body, 2] + 0.03) < 0.34) & (mean[body, 1] < 0.2)]
    at_eyes = near_eyes[np.abs(mean[near_eyes, 0]) > 0.22]
    front = min(float(points[on_nose, 1].min()) + 0.02, float(points[at_eyes, 1].min()) - 0.02)
    middle_z = -glasses.low
    material = _frame_material(glasses)
    rim = rim_outline(glasses.shape, glasses.size)
    centre_x = 0.53 * max(1.0, glasses.size**0.5)
    corner = float(rim[:, 0].max())
    for side in (1, -1):
        ring = np.stack([side * (centre_x + rim[:, 0]), np.zeros(len(rim)), middle_z + rim[:, 1]], axis=1)
        ring[:, 1] = front + 0.16 * np.maximum(np.abs(ring[:, 0]) - 0.2, 0.0) ** 2
        depth = 1.2 if glasses.metal else 1.5
        _add_tube(head, "rim", ring, glasses.thickness, material, closed=True, depth=depth)
        _add_lens(head, ring, glasses)
        hinge = np.array([side * (centre_x + corner + 0.02), 0.0, middle_z + 0.55 * float(rim[:, 1].max())])
        hinge[1] = front + 0.16 * (abs(hinge[0]) - 0.2) ** 2
        _add_tube(head, "temple", _temple(head, points, hinge, side), glasses.thickness * 0.9, material)
    inner = centre_x - corner
    high = middle_z + (0.25 if glasses.shape != "wayfarer" else 0.45) * float(rim[:, 1].max())
    t = np.linspace(-1.0, 1.0, 9)
    arch = np.stack([t * (inner + 0.02), front - 0.05 * (1 - t * t), high + 0.06 * (1 - t * t)], axis=1)
    _add_tube(head, "bridge", arch, glasses.thickness * 0.95, material)


def _temple(head: Head, points: np.ndarray, hinge: np.ndarray, side: int) -> np.ndarray:
    """The way (K, 3) of a temple from its hinge over the ear's root."""
    mean = mean_head()
    root = (
        head.kept & (mean[:, 0] * side > 1.10) & (np.abs(mean[:, 2] - 0.06) < 0.14) & (np.abs(mean[:, 1] - 1.2) < 0.25)
    )
    ear = points[root].mean(axis=0) if root.any() else np.array([side * 1.25, 1.2, 0.1])
    t = np.linspace(0.0, 1.0, 12)[:, None]
    way = hinge * (1 - t) + ear * t
    way[:, 0] += side * 0.06 * np.sin(np.pi * t[:, 0])
    bend = np.array([[0.0, 0.25, -0.10], [0.0, 0.42, -0.30]]) + ear
    return np.concatenate([way, bend])


def _frame_material(glasses: Glasses) -> bpy.types.Material:
    shader = Shader("frame")
    metallic, roughness = (1.0, 0.25) if glasses.metal else (0.0, 0.22)
    shader.set(base_color=glasses.color, metallic=metallic, roughness=roughness)
    return shader.material


def _add_tube(
    head: Head,
    name: str,
    path: np.ndarray,
    radius: float,
    material: bpy.types.Material,
    closed: bool = False,
    depth: float = 1.0,
) -> None:
    """Add a tube along a path (K, 3), ``depth`` times as deep as it is high."""
    tangent = np.roll(path, -1, axis=0) - np.roll(path, 1, axis=0) if closed else np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    # Across the tube: in the frame's plane, and towards the face (or down, on the temples).
    backward = np.where(np.abs(tangent[:, 1:2]) < 0.7, np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0]))
    across = np.cross(tangent, backward)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    deep = np.cross(across, tangent)
    angle = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    section = across[:, None] * np.cos(angle)[None, :, None] + depth * deep[:, None] * np.sin(angle)[None, :, None]
    points = path[:, None] + radius * section
    if closed:
        points = np.concatenate([points, points[:1]])
    add_mesh(name, from_head_space(head, points).reshape(-1, 3), grid_faces(len(points), 8, closed=True), material)


def _add_lens(head: Head, ring: np.ndarray, glasses: Glasses) -> None:
    """Add a lens: clear, with a faint reflection that grows towards its edge.

    It is transparent rather than refracting, so that light reaches the eyes without caustics.
    """
    shader = Shader("lens")
    tree = shader.tree
    clear = tree.nodes.new("ShaderNodeBsdfTransparent")
    gloss = tree.nodes.new("ShaderNodeBsdfGlossy")
    gloss.inputs["Roughness"].default_value = 0.08
    fresnel = tree.nodes.new("ShaderNodeFresnel")
    fresnel.inputs["IOR"].default_value = 1.25 + 0.2 * glasses.shine
    mix = tree.nodes.new("ShaderNodeMixShader")
    tree.links.new(fresnel.outputs[0], mix.inputs[0])
    tree.links.new(clear.outputs[0], mix.inputs[1])
    tree.links.new(gloss.outputs[0], mix.inputs[2])
    tree.links.new(mix.outputs[0], tree.nodes["Material Output"].inputs["Surface"])
    middle = ring.mean(axis=0)
    rings = [
        middle + (ring - middle) * share + np.array([0.0, -0.05 * (1 - share * share), 0.0])
        for share in (1.0, 0.66, 0.33, 0.05)
    ]
    points = np.stack(rings)
    lens = add_mesh(
        "lens", from_head_space(head, points).reshape(-1, 3), grid_faces(4, len(ring), closed=True), shader.material
    )
    lens.visible_shadow = False
