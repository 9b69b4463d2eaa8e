"""Strands as Blender hair curves, and the shading of hair by its pigment."""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np

Color = tuple[float, float, float]
"""Linear RGB reflectance."""


@dataclass(frozen=True)
class Pigment:
    """The colour of hair: of its darker and its lighter strands, and how rough its shine is."""

    dark: Color
    light: Color
    roughness: float = 0.38

    @property
    def mean(self) -> Color:
        """The colour from afar."""
        red, green, blue = (np.array(self.dark) + np.array(self.light)) / 2
        return float(red), float(green), float(blue)

    def darker(self, factor: float) -> Pigment:
        """This pigment at ``factor`` of its brightness."""
        return Pigment(_scaled(self.dark, factor), _scaled(self.light, factor), self.roughness)


def _scaled(color: Color, factor: float) -> Color:
    red, green, blue = color
    return factor * red, factor * green, factor * blue


# The darkest and the lightest head of hair that a colour's word may mean.
_COLORS: dict[str, tuple[Color, Color]] = {
    "black": ((0.010, 0.008, 0.007), (0.026, 0.019, 0.015)),
    "brown": ((0.040, 0.021, 0.012), (0.150, 0.085, 0.048)),
    "blond": ((0.300, 0.170, 0.080), (0.580, 0.395, 0.220)),
    "red": ((0.150, 0.042, 0.014), (0.360, 0.125, 0.040)),
    "grey": ((0.150, 0.145, 0.140), (0.360, 0.350, 0.340)),
    "white": ((0.520, 0.500, 0.470), (0.680, 0.660, 0.630)),
}
# How much single strands of one head differ.
_STRAND_SPREAD: dict[str, float] = {"grey": 0.65, "white": 0.15, "blond": 0.30}


def sample_pigment(color: str, rng: np.random.Generator) -> Pigment:
    """Draw the pigment of a named hair colour."""
    low, high = (np.array(end) for end in _COLORS[color])
    tint = np.exp((0.012 if color in ("grey", "white") else 0.025) * rng.normal(size=3))
    base = low * (high / low) ** rng.random() * tint
    spread = _STRAND_SPREAD.get(color, 0.25)
    dark, light = base * (1 - spread), np.minimum(base * (1 + spread), 0.8)
    return Pigment((dark[0], dark[1], dark[2]), (light[0], light[1], light[2]), float(rng.uniform(0.33, 0.45)))


def hair_material(name: str, pigment: Pigment, volume_centre: np.ndarray | None = None) -> bpy.types.Material:
    """Shading of hair of a pigment: strands that shine, each a little lighter or darker.

    Given the middle of the head (3,), strands are lit half as the round mass that they form, which gives the soft
    shading that light scattered between strands gives. (Cycles' own hair model scatters it, at twice the time of
    a whole portrait.)
    """
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    tree = material.node_tree
    shader = tree.nodes["Principled BSDF"]
    info = tree.nodes.new("ShaderNodeHairInfo")
    ramp = tree.nodes.new("ShaderNodeValToRGB")
    ramp.color_ramp.elements[0].color = (*pigment.dark, 1.0)
    ramp.color_ramp.elements[1].color = (*pigment.light, 1.0)
    tree.links.new(info.outputs["Random"], ramp.inputs[0])
    tree.links.new(ramp.outputs["Color"], shader.inputs["Base Color"])
    shader.inputs["Roughness"].default_value = pigment.roughness
    shader.inputs["Specular IOR Level"].default_value = 0.5
    if volume_centre is not None:
        geometry = tree.nodes.new("ShaderNodeNewGeometry")
        outward = _vector(tree, "SUBTRACT", geometry.outputs["Position"], tuple(map(float, volume_centre)))
        outward = _vector(tree, "NORMALIZE", outward)
        mixed = _vector(tree, "ADD", outward, geometry.outputs["Normal"])
        tree.links.new(_vector(tree, "NORMALIZE", mixed), shader.inputs["Normal"])
    return material


def _vector(
    tree: bpy.types.NodeTree,
    operation: str,
    first: bpy.types.NodeSocket,
    second: bpy.types.NodeSocket | Color | None = None,
) -> bpy.types.NodeSocket:
    """The output of a vector operation."""
    node = tree.nodes.new("ShaderNodeVectorMath")
    node.operation = operation
    tree.links.new(first, node.inputs[0])
    if isinstance(second, tuple):
        node.inputs[1].default_value = second
    elif second is not None:
        tree.links.new(second, node.inputs[1])
    return node.outputs["Vector"]


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
