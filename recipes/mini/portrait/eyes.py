"""Eyeballs with a bulging cornea: sclera, limbal ring, iris fibres, pupil, and a wet coat that takes catchlights."""

from __future__ import annotations

import bpy
import numpy as np

from recipes.mini.portrait.camera import Camera
from recipes.mini.portrait.head import Head
from recipes.mini.portrait.shaders import Shader, add_mesh
from recipes.mini.portrait.subject import Subject

IRIS = 0.36
"""Radius of the iris in radii of the eyeball."""
CORNEA = 0.52
"""Radius of the cornea's curvature in radii of the eyeball."""
LIMBUS = 0.42
"""Radius where the cornea meets the eyeball, in radii of the eyeball."""


def add_eyes(head: Head, subject: Subject, camera: Camera, rng: np.random.Generator) -> None:
    """Add both eyeballs, turned to where the subject looks."""
    direction = np.array(
        [
            np.sin(subject.gaze_x) * np.cos(subject.gaze_y),
            -np.cos(subject.gaze_x) * np.cos(subject.gaze_y),
            np.sin(subject.gaze_y),
        ]
    )
    axes = _axes_towards(direction)
    catchlight = axes @ _mirror_direction(subject, camera)
    material = _eye_material(subject, catchlight, float(rng.uniform(0.0, 100.0)))
    for name, centre in (("eye left", head.eye_left), ("eye right", head.eye_right)):
        radius = head.eye_radius * 0.985
        local, faces = _eyeball()
        add_mesh(name, centre + radius * local @ axes, faces, material, eye=local)


def _mirror_direction(subject: Subject, camera: Camera) -> np.ndarray:
    """Unit normal (3,) of a surface that mirrors the key light into the camera."""
    azimuth, elevation = subject.key_azimuth, subject.key_elevation
    light = np.array([np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)])
    half = light + np.array([0.0, 0.0, 1.0])
    return (half / np.linalg.norm(half)) @ camera.axes


def _axes_towards(direction: np.ndarray) -> np.ndarray:
    """Rows: the local x, y and z axes such that -y looks along ``direction``."""
    y = -direction
    x = np.cross(y, np.array([0.0, 0.0, 1.0]))
    x /= np.linalg.norm(x)
    return np.stack([x, y, np.cross(x, y)])


def _eyeball(rings: int = 40, segments: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) in radii of the eyeball, looking along -y, and quads (Q, 4)."""
    # rings are dense at the front, where the iris is
    angle = np.pi * np.linspace(0.004, 1.0, rings) ** 1.6 * 0.97
    radius, forward = np.sin(angle), np.cos(angle)
    offset = np.sqrt(1.0 - LIMBUS**2) - np.sqrt(CORNEA**2 - LIMBUS**2)
    inside = radius < LIMBUS
    cap = offset + np.sqrt(np.maximum(CORNEA**2 - radius**2, 0.0))
    forward = np.where(inside & (forward > 0), cap, forward)
    around = np.linspace(0.0, 2.0 * np.pi, segments, endpoint=False)
    x = radius[:, None] * np.cos(around)
    z = radius[:, None] * np.sin(around)
    y = np.repeat(-forward[:, None], segments, axis=1)
    vertices = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    ring, segment = np.meshgrid(np.arange(rings - 1), np.arange(segments), indexing="ij")
    a, b = ring * segments + segment, ring * segments + (segment + 1) % segments
    quads = np.stack([a, b, b + segments, a + segments], axis=-1).reshape(-1, 4)
    front = [[0, k + 1, k, k] for k in range(1, segments - 1)]
    return vertices, np.concatenate([quads[:, ::-1], np.array(front)[:, [0, 2, 1, 1]]])


def _eye_material(subject: Subject, catchlight: np.ndarray, phase: float) -> bpy.types.Material:
    shader = Shader("eye")
    position = shader.attribute("eye", "Color")
    split = shader.node("SeparateXYZ", {0: position}).outputs
    radius = shader.math(
        "SQRT", shader.math("ADD", shader.math("POWER", split[0], 2.0), shader.math("POWER", split[2], 2.0))
    )
    around = shader.math("ARCTAN2", split[2], split[0])
    # fibres run from the pupil outwards: noise that is fine around and coarse along the radius
    polar = shader.node("CombineXYZ", {0: shader.math("COSINE", around), 1: shader.math("SINE", around), 2: radius})
    fibres = shader.noise(shader.scaled(polar.outputs[0], (6.0, 6.0, 1.5), (phase, 0.0, 0.0)), 1.0, 3.0)
    iris = tuple(subject.iris_color)
    bright = tuple(min(1.0, 1.8 * c + 0.006) for c in iris)
    dark = tuple(0.35 * c for c in iris)
    body = shader.mix(shader.map_range(fibres, 0.35, 0.65), dark, bright)
    # a lighter, warmer collar around the pupil
    pupil = IRIS * subject.pupil_radius
    collar = shader.map_range(radius, pupil, pupil + 0.10, 0.5, 0.0)
    body = shader.mix(
        collar, body, tuple(min(1.0, c) for c in (iris[0] * 1.6 + 0.015, iris[1] * 1.5 + 0.008, iris[2] * 1.1))
    )
    ring = shader.map_range(radius, IRIS * 0.80, IRIS, 0.0, subject.limbal_ring)
    body = shader.mix(ring, body, tuple(0.12 * c for c in iris))
    body = shader.mix(shader.map_range(radius, pupil - 0.012, pupil + 0.012, 1.0, 0.0), body, (0.003, 0.003, 0.003))
    # the white is reddish towards the corners
    white = shader.mix(shader.map_range(radius, 0.5, 0.95), (0.50, 0.45, 0.42), (0.36, 0.21, 0.18))
    colour = shader.mix(shader.map_range(radius, IRIS - 0.015, IRIS + 0.035), body, white)
    shader.set(base_color=colour, roughness=0.35, coat_weight=1.0, coat_roughness=0.03, coat_ior=1.4)
    shader.set(specular_ior_level=0.2)

    # the key light's reflection on the cornea is smaller than a few samples find, so it is painted where it falls
    place = CORNEA * catchlight[[0, 2]]
    size = 0.05 + 0.03 * min(subject.key_size, 1.2)
    dx, dz = shader.math("SUBTRACT", split[0], float(place[0])), shader.math("SUBTRACT", split[2], float(place[1]))
    away = shader.math("SQRT", shader.math("ADD", shader.math("POWER", dx, 2.0), shader.math("POWER", dz, 2.0)))
    glint = shader.map_range(away, 0.6 * size, 1.1 * size, 1.0, 0.0)
    front = shader.math("LESS_THAN", split[1], 0.0)
    shader.set(emission_color=tuple(0.5 + 0.5 * c for c in subject.light_color))
    shader.set(emission_strength=shader.math("MULTIPLY", shader.math("MULTIPLY", glint, front), 1.2))
    return shader.material
