"""The camera: every portrait is framed so that its eyes land at one place, whatever the head's pose."""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np
from mathutils import Matrix

from recipes.mini.portrait.head import Head
from recipes.mini.portrait.subject import Subject

DISTANCE = 1.35
"""Metres from the eyes to the camera: a portrait lens, without a big nose."""
PICTURE_HEIGHT = 5.4
"""Height of the picture at the eyes' depth, in eye distances."""
EYE_LEVEL = 0.45
"""Height of the eyes from the picture's top, as a fraction."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: ``axes`` (3, 3) hold right, up and backwards as rows."""

    location: np.ndarray
    axes: np.ndarray
    focal: float
    """Focal length in picture heights."""
    shift: tuple[float, float]
    """Position of the optical axis in the picture, from its top left, as a fraction."""

    def project(self, points: np.ndarray, size_px: int) -> np.ndarray:
        """Points (N, 3) in metres to (N, 2) pixels, x to the right, y down, (0, 0) the picture's top left corner."""
        seen = (points - self.location) @ self.axes.T
        scale = self.focal / -seen[:, 2]
        x, y = self.shift[0] + seen[:, 0] * scale, self.shift[1] - seen[:, 1] * scale
        return np.stack([x, y], axis=1) * size_px

    def point(self, right: float, up: float, back: float, origin: np.ndarray) -> np.ndarray:
        """A point (3,) at so many metres to the picture's right, up and towards the camera from ``origin``."""
        return origin + right * self.axes[0] + up * self.axes[1] + back * self.axes[2]


def aim_camera(head: Head, subject: Subject) -> Camera:
    """The camera that frames ``head`` as the subject's pose and offset say."""
    yaw, pitch, roll = subject.yaw, subject.pitch, subject.roll
    # turning the head to the picture's right is a camera that moves to the picture's left
    backwards = np.array([-np.sin(yaw) * np.cos(pitch), -np.cos(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.cross(np.array([0.0, 0.0, 1.0]), backwards)
    right /= np.linalg.norm(right)
    up = np.cross(backwards, right)
    # a head that tilts to the picture's right is a camera that tilts to the left
    right, up = np.cos(roll) * right - np.sin(roll) * up, np.sin(roll) * right + np.cos(roll) * up
    focal = DISTANCE / (PICTURE_HEIGHT * head.eye_distance)
    return Camera(
        location=head.middle + DISTANCE * backwards,
        axes=np.stack([right, up, backwards]),
        focal=focal,
        shift=(0.5 + subject.offset[0], EYE_LEVEL + subject.offset[1]),
    )


def add_camera(camera: Camera) -> None:
    """Put ``camera`` into the current scene."""
    data = bpy.data.cameras.new("camera")
    data.sensor_fit = "VERTICAL"
    data.sensor_height = 24.0
    data.lens = camera.focal * data.sensor_height
    data.shift_x, data.shift_y = 0.5 - camera.shift[0], camera.shift[1] - 0.5
    data.clip_start = 0.05
    thing = bpy.data.objects.new("camera", data)
    bpy.context.scene.collection.objects.link(thing)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = camera.axes.T, camera.location
    thing.matrix_world = Matrix(pose.tolist())
    bpy.context.scene.camera = thing
