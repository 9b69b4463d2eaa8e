"""The backdrop: a wall of one colour with soft gradients, seen by the camera alone, and the room's dim light."""

from __future__ import annotations

import bpy
import numpy as np

from recipes.mini.portrait.subject import Subject

AMBIENT = 0.22
"""Radiance of the room's light from all around."""


def add_backdrop(subject: Subject, rng: np.random.Generator) -> None:
    """Set the current scene's world."""
    world = bpy.data.worlds.new("world")
    bpy.context.scene.world = world
    # light comes from the lamps: an importance map of the backdrop takes longer than the picture
    world.cycles.sampling_method = "NONE"
    world.use_nodes = True
    tree = world.node_tree
    room = tree.nodes["Background"]
    room.inputs["Color"].default_value = (*(AMBIENT * (0.6 + 0.4 * c) for c in subject.light_color), 1.0)

    def math(operation: str, a: object, b: object = 0.0, c: object = 0.0) -> object:
        node = tree.nodes.new("ShaderNodeMath")
        node.operation = operation
        for socket, value in zip(node.inputs, (a, b, c), strict=True):
            if isinstance(value, bpy.types.NodeSocket):
                tree.links.new(value, socket)
            else:
                socket.default_value = value
        return node.outputs[0]

    window = tree.nodes.new("ShaderNodeTexCoord").outputs["Window"]
    split = tree.nodes.new("ShaderNodeSeparateXYZ")
    tree.links.new(window, split.inputs[0])
    x, y = (math("SUBTRACT", split.outputs[axis], 0.5) for axis in (0, 1))
    slope = math("MULTIPLY_ADD", x, subject.backdrop_gradient[0], 1.0)
    slope = math("MULTIPLY_ADD", y, subject.backdrop_gradient[1], slope)
    # the light of a lamp on the wall behind the head falls off like a bell
    square = math("ADD", math("MULTIPLY", x, x), math("MULTIPLY", y, y))
    bell = math("EXPONENT", math("MULTIPLY", square, -3.5))
    glow = math("MULTIPLY_ADD", bell, 1.2 * subject.backdrop_glow, 1.0 - 0.55 * subject.backdrop_glow)
    # canvas is never quite even
    noise = tree.nodes.new("ShaderNodeTexNoise")
    noise.noise_dimensions = "4D"
    noise.inputs["W"].default_value = float(rng.uniform(0.0, 100.0))
    noise.inputs["Scale"].default_value = float(rng.uniform(1.5, 4.0))
    noise.inputs["Detail"].default_value = 3.0
    tree.links.new(window, noise.inputs["Vector"])
    mottle = float(rng.uniform(0.0, 0.5))
    uneven = math("MULTIPLY_ADD", noise.outputs[0], mottle, 1.0 - 0.5 * mottle)

    wall = tree.nodes.new("ShaderNodeBackground")
    wall.inputs["Color"].default_value = (*subject.backdrop_color, 1.0)
    tree.links.new(math("MULTIPLY", math("MULTIPLY", slope, glow), uneven), wall.inputs["Strength"])
    path, mix = tree.nodes.new("ShaderNodeLightPath"), tree.nodes.new("ShaderNodeMixShader")
    tree.links.new(path.outputs["Is Camera Ray"], mix.inputs[0])
    tree.links.new(room.outputs[0], mix.inputs[1])
    tree.links.new(wall.outputs[0], mix.inputs[2])
    tree.links.new(mix.outputs[0], tree.nodes["World Output"].inputs["Surface"])
