"""A studio's lights: a key light, a fill light, a rim light from behind, all placed as the camera sees them."""

from __future__ import annotations

import bpy
import numpy as np
from mathutils import Vector

from recipes.mini.portrait.camera import Camera
from recipes.mini.portrait.head import Head
from recipes.mini.portrait.subject import Color, Subject

KEY_DISTANCE = 1.5


def add_lights(head: Head, subject: Subject, camera: Camera) -> None:
    """Light the head from where the subject's words say."""
    target = head.middle + np.array([0.0, 0.04, -0.03])
    key, height = subject.key_azimuth, subject.key_elevation
    direction = (np.sin(key) * np.cos(height), np.sin(height), np.cos(key) * np.cos(height))
    place = camera.point(*(KEY_DISTANCE * d for d in direction), origin=target)
    _area("key", place, target, 30.0 * subject.key_strength, subject.key_size, subject.light_color)

    opposite = -1.0 if key >= 0 else 1.0
    red, green, blue = (0.5 + 0.5 * channel for channel in subject.light_color)
    _area(
        "fill",
        camera.point(1.2 * opposite, 0.1, 1.0, target),
        target,
        14.0 * subject.fill_strength,
        1.4,
        (red, green, blue),
    )
    rim = camera.point(0.8 * opposite, 0.7, -1.0, target)
    _area("rim", rim, target, 24.0 * subject.rim_strength, 0.4, (1.0, 0.97, 0.93))


def _area(name: str, place: np.ndarray, target: np.ndarray, power: float, size: float, color: Color) -> None:
    """A square light of ``power`` watts and ``size`` metres that shines at ``target``."""
    if power <= 0.0:
        return
    light = bpy.data.lights.new(name, "AREA")
    light.energy, light.size, light.color = power, size, color
    thing = bpy.data.objects.new(name, light)
    bpy.context.scene.collection.objects.link(thing)
    thing.location = Vector(place.tolist())
    thing.rotation_euler = Vector((target - place).tolist()).to_track_quat("-Z", "Y").to_euler()
