"""The whole scene's signed distance: packs a `Subject` into a tensor and compiles the distance functions once.

World space is head space for a head that looks straight at the camera; shoulders and clothes stay in it while the
head turns about the top of the neck, and the neck follows half way.
"""

from __future__ import annotations

import functools
import math
import shutil
from collections.abc import Callable

import torch
from torch import Tensor

from recipes.mini.portrait import attire, hair, head
from recipes.mini.portrait.sdf import smooth_union
from recipes.mini.portrait.subject import Subject

PIVOT = (0.0, -0.75, -0.2)
"""Point of the neck about which the head turns."""

# fmt: off
TRAITS = [
    "age", "femininity", "weight", "face_length", "face_width", "jaw_width", "chin_length", "chin_width",
    "cheekbones", "nose_length", "nose_width", "nose_projection", "nose_bridge", "lip_fullness", "mouth_width",
    "eye_size", "eye_spacing", "eye_tilt", "lid_weight", "ear_size", "baldness", "hair_length", "hair_wave",
    "hair_curl", "hair_volume", "hairline", "recession", "parting", "drape", "fringe", "beard", "smile",
    "mouth_open", "sweater", "collar_opening", "glasses", "frame_size", "frame_squareness", "frame_gold",
]
# fmt: on

SKIN, EYE, TEETH, CLOTH, FRAME = range(5)
"""Rows of `body_parts`: the distance to each material; rows 5 to 7 are the face coordinates, row 8 the eye opening."""


def head_rotation(subject: Subject) -> Tensor:
    """Rotation from world to head space, (3, 3)."""
    yaw, pitch, roll = subject.yaw, subject.pitch, subject.roll
    about_y = torch.tensor(
        [[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]], dtype=torch.float64
    )
    about_x = torch.tensor(
        [[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]], dtype=torch.float64
    )
    about_z = torch.tensor(
        [[math.cos(roll), -math.sin(roll), 0], [math.sin(roll), math.cos(roll), 0], [0, 0, 1]], dtype=torch.float64
    )
    return (about_y @ about_x @ about_z).T.float()


def pack(subject: Subject) -> Tensor:
    """The parameters of the distance functions: nine of the rotation, then `TRAITS`."""
    traits = torch.tensor([getattr(subject, name) for name in TRAITS], dtype=torch.float32)
    return torch.cat((head_rotation(subject).reshape(-1), traits))


def traits_of(packed: Tensor) -> dict[str, Tensor]:
    """The traits by name."""
    return dict(zip(TRAITS, packed[9:].unbind(), strict=True))


def _to_head(x: Tensor, y: Tensor, z: Tensor, packed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r = packed[:9].unbind()
    x, y, z = x - PIVOT[0], y - PIVOT[1], z - PIVOT[2]
    return (
        r[0] * x + r[1] * y + r[2] * z + PIVOT[0],
        r[3] * x + r[4] * y + r[5] * z + PIVOT[1],
        r[6] * x + r[7] * y + r[8] * z + PIVOT[2],
    )


def _body(x: Tensor, y: Tensor, z: Tensor, packed: Tensor) -> tuple[Tensor, ...]:
    t = traits_of(packed)
    hx, hy, hz = _to_head(x, y, z, packed)
    fx, fy, fz = head.to_face(hx, hy, hz, t)
    marks = head.landmarks(t)
    ax = torch.abs(fx)
    neck = attire.neck_distance(0.5 * (x + hx), 0.5 * (y + hy), 0.5 * (z + hz), t)
    torso = attire.torso_distance(x, y, z, t)
    skin = smooth_union(smooth_union(head.skin_distance(fx, fy, fz, t), neck, 0.13), torso, 0.2)
    eye = head.eyeball_distance(ax, fy, fz, marks)
    teeth = head.teeth_distance(fx, fy, fz, t)
    cloth = attire.clothing_distance(x, y, z, torso, t)
    frame = attire.glasses_distance(fx, fy, fz, t)
    return skin, eye, teeth, cloth, frame, fx, fy, fz, head.eye_opening(ax, fy, t, marks)


def _body_parts(x: Tensor, y: Tensor, z: Tensor, packed: Tensor) -> Tensor:
    return torch.stack(_body(x, y, z, packed))


def _body_distance(x: Tensor, y: Tensor, z: Tensor, packed: Tensor) -> Tensor:
    skin, eye, teeth, cloth, frame, *_ = _body(x, y, z, packed)
    return torch.minimum(torch.minimum(torch.minimum(skin, eye), torch.minimum(teeth, cloth)), frame)


def _hair_distance(x: Tensor, y: Tensor, z: Tensor, packed: Tensor) -> Tensor:
    t = traits_of(packed)
    return hair.hair_distance(*head.to_face(*_to_head(x, y, z, packed), t), t)


def _face_coordinates(x: Tensor, y: Tensor, z: Tensor, packed: Tensor) -> Tensor:
    return torch.stack(head.to_face(*_to_head(x, y, z, packed), traits_of(packed)))


Distance = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@functools.cache
def _compiled(function: Distance) -> Distance:
    """``function`` fused by torch.compile where a C++ compiler is at hand, else as it is (about 5 times slower)."""
    if shutil.which("c++") is None and shutil.which("g++") is None and shutil.which("clang++") is None:
        return function
    return torch.compile(function, dynamic=True)


def body_distance(x: Tensor, y: Tensor, z: Tensor, packed: Tensor) -> Tensor:
    """Distance from world points to anything but hair."""
    return _compiled(_body_distance)(x, y, z, packed)


def body_parts(x: Tensor, y: Tensor, z: Tensor, packed: Tensor) -> Tensor:
    """(9, n): distance to each material, the face coordinates and the eye opening, at world points."""
    return _compiled(_body_parts)(x, y, z, packed)


def hair_distance(x: Tensor, y: Tensor, z: Tensor, packed: Tensor) -> Tensor:
    """Distance from world points to the hair's volume."""
    return _compiled(_hair_distance)(x, y, z, packed)


def face_coordinates(x: Tensor, y: Tensor, z: Tensor, packed: Tensor) -> Tensor:
    """(3, n): world points in face coordinates."""
    return _face_coordinates(x, y, z, packed)
