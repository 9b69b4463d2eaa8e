"""Strands as Blender hair curves, and the shading of hair by its pigment."""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np


@dataclass(frozen=True)
class Pigment:
    """What colours hair: melanin from 0 (white) to 1 (black), its redness, and the roughness of the strands."""

    melanin: float
    redness: float
    roughness: float = 0.3
    variation: float = 0.25
    """How much the colour differs between strands, from 0 to 1."""


# Melanin and redness of the colours that words name; Cycles' hair model maps them to absorption.
PIGMENTS: dict[str, Pigment] = {
    "black": Pigment(0.96, 0.15),
    "brown": Pigment(0.72, 0.40),
    "blond": Pigment(0.30, 0.32),
    "red": Pigment(0.52, 0.95),
    "grey": Pigment(0.17, 0.05, 0.35, 0.8),
    "white": Pigment(0.05, 0.05, 0.35, 0.3),
}


def sample_pigment(color: str, rng: np.random.Generator) -> Pigment:
    """Draw the pigment of a named hair colour, a little lighter or darker and redder or less so."""
    base = PIGMENTS.get(color, PIGMENTS["brown"])
    spread = {"brown": 0.10, "blond": 0.08, "red": 0.07, "grey": 0.07}.get(color, 0.02)
    melanin = float(np.clip(base.melanin + rng.normal(0.0, spread), 0.03, 0.99))
    redness = float(np.clip(base.redness + rng.normal(0.0, 0.08), 0.0, 1.0))
    return Pigment(melanin, redness, base.roughness, base.variation)


def pigment_color(pigment: Pigment) -> tuple[float, float, float]:
    """Linear RGB that hair of this pigment shows from afar; for scalp, stubble and brows painted on skin."""
    darkness = pigment.melanin**0.8
    red = pigment.redness
    base = np.array([0.62, 0.47, 0.31]) * (1 - red) + np.array([0.55, 0.23, 0.09]) * red
    pale = np.array([0.60, 0.58, 0.55])
    base = base if pigment.melanin > 0.2 else pale
    color = base * (1 - darkness) ** 1.4 + np.array([0.012, 0.009, 0.008]) * darkness
    return float(color[0]), float(color[1]), float(color[2])


def hair_material(name: str, pigment: Pigment) -> bpy.types.Material:
    """Cycles' physically based hair shading for a pigment."""
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    shader = tree.nodes.new("ShaderNodeBsdfHairPrincipled")
    output = tree.nodes.new("ShaderNodeOutputMaterial")
    tree.links.new(shader.outputs[0], output.inputs[0])
    shader.parametrization = "MELANIN"
    shader.inputs["Melanin"].default_value = pigment.melanin
    shader.inputs["Melanin Redness"].default_value = pigment.redness
    shader.inputs["Roughness"].default_value = pigment.roughness
    shader.inputs["Radial Roughness"].default_value = pigment.roughness + 0.05
    shader.inputs["Random Color"].default_value = pigment.variation
    return material


def taper(count: int, radius: np.ndarray | float, keys: int, tip: float = 0.3, power: float = 2.0) -> np.ndarray:
    """Radii (count, keys) that fall from ``radius`` (scalar or (count,), metres) to ``tip`` of it at the end."""
    along = 1.0 - (1.0 - tip) * np.linspace(0.0, 1.0, keys) ** power
    return np.broadcast_to(np.asarray(radius, dtype=np.float64).reshape(-1, 1), (count, 1)) * along


def add_strands(name: str, points: np.ndarray, radii: np.ndarray, material: bpy.types.Material) -> bpy.types.Object:
    """Add strands (S, K, 3) with radii (S, K), both in metres, to the scene as one hair-curves object."""
    count, keys, _ = points.shape
    curves = bpy.data.hair_curves.new(name)
    curves.add_curves([keys] * count)
    curves.position_data.foreach_set("vector", np.ascontiguousarray(points, dtype=np.float32).ravel())
    radius = curves.attributes.new("radius", "FLOAT", "POINT")
    radius.data.foreach_set("value", np.ascontiguousarray(radii, dtype=np.float32).ravel())
    curves.materials.append(material)
    item = bpy.data.objects.new(name, curves)
    bpy.context.scene.collection.objects.link(item)
    return item
