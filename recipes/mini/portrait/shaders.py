"""Short-hands for Blender materials: nodes made, linked and set in one line each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import bpy
import numpy as np

Socket = Any
"""A node's output socket, a number, or a colour as a tuple."""


class Shader:
    """A new material whose surface is a Principled BSDF, with helpers that build its node tree."""

    def __init__(self, name: str) -> None:
        self.material = bpy.data.materials.new(name)
        self.material.use_nodes = True
        self.tree = self.material.node_tree
        self.principled = self.tree.nodes["Principled BSDF"]

    def set(self, **inputs: Socket) -> None:
        """Set inputs of the Principled BSDF; ``base_color`` means `Base Color`, and so on."""
        for name, value in inputs.items():
            self.connect(value, self.principled.inputs[_title(name)])

    def connect(self, value: Socket, target: Any) -> None:
        """Link an output socket to an input, or set the input to a number or colour."""
        if isinstance(value, bpy.types.NodeSocket):
            self.tree.links.new(value, target)
        elif isinstance(value, tuple) and len(value) == 3 and len(target.default_value) == 4:
            target.default_value = (*value, 1.0)
        else:
            target.default_value = value

    def node(self, kind: str, inputs: Mapping[Any, Socket | float] | None = None, **properties: Any) -> Any:
        """A node of the type ``ShaderNode<kind>`` with its properties and inputs set."""
        node = self.tree.nodes.new(f"ShaderNode{kind}")
        for name, value in properties.items():
            setattr(node, name, value)
        for key, value in (inputs or {}).items():
            self.connect(value, node.inputs[key])
        return node

    def attribute(self, name: str, output: str = "Fac") -> Socket:
        """A mesh attribute: ``Fac`` as a number, ``Color`` or ``Vector``."""
        return self.node("Attribute", attribute_name=name).outputs[output]

    def math(self, operation: str, a: Socket, b: Socket = 0.0, c: Socket = 0.0, clamp: bool = False) -> Socket:
        """One operation of the Math node, such as ``MULTIPLY``."""
        return self.node("Math", {0: a, 1: b, 2: c}, operation=operation, use_clamp=clamp).outputs[0]

    def map_range(self, value: Socket, low: float, high: float, to_low: float = 0.0, to_high: float = 1.0) -> Socket:
        """``value`` from [low, high] to [to_low, to_high], smooth at both ends and clamped."""
        inputs = {"Value": value, "From Min": low, "From Max": high, "To Min": to_low, "To Max": to_high}
        return self.node("MapRange", inputs, interpolation_type="SMOOTHSTEP").outputs["Result"]

    def mix(self, factor: Socket, a: Socket, b: Socket, blend: str = "MIX") -> Socket:
        """Colours ``a`` and ``b`` mixed by ``factor``."""
        node = self.tree.nodes.new("ShaderNodeMixRGB")
        node.blend_type = blend
        for key, value in (("Fac", factor), ("Color1", a), ("Color2", b)):
            self.connect(value, node.inputs[key])
        return node.outputs[0]

    def noise(self, vector: Socket, scale: float, detail: float = 2.0, roughness: float = 0.5) -> Socket:
        """Fractal noise in [0, 1] about 0.5."""
        inputs = {"Vector": vector, "Scale": scale, "Detail": detail, "Roughness": roughness}
        return self.node("TexNoise", inputs).outputs[0]

    def scaled(self, vector: Socket, scale: tuple[float, float, float], shift: tuple[float, float, float]) -> Socket:
        """``vector`` times ``scale`` plus ``shift``."""
        node = self.node("VectorMath", {0: vector, 1: scale, 2: shift}, operation="MULTIPLY_ADD")
        return node.outputs[0]


def add_mesh(
    name: str,
    vertices: np.ndarray,
    faces: np.ndarray,
    material: bpy.types.Material,
    subdivisions: int = 0,
    **attributes: np.ndarray,
) -> bpy.types.Object:
    """A smooth mesh in the current scene; attributes are (V,) numbers or (V, 3) linear colours of its vertices."""
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(vertices.tolist(), [], faces.tolist())
    mesh.update()
    mesh.polygons.foreach_set("use_smooth", np.ones(len(mesh.polygons), dtype=bool))
    for key, values in attributes.items():
        if values.ndim == 1:
            mesh.attributes.new(key, "FLOAT", "POINT").data.foreach_set("value", values.astype(np.float32))
        else:
            rgba = np.concatenate([values, np.ones((len(values), 1))], axis=1).astype(np.float32)
            mesh.color_attributes.new(key, "FLOAT_COLOR", "POINT").data.foreach_set("color", rgba.ravel())
    mesh.materials.append(material)
    thing = bpy.data.objects.new(name, mesh)
    bpy.context.scene.collection.objects.link(thing)
    if subdivisions:
        thing.modifiers.new("subdivision", "SUBSURF").render_levels = subdivisions
    return thing


def _title(name: str) -> str:
    title = " ".join(word.capitalize() for word in name.split("_"))
    return title.replace("Ior", "IOR")
