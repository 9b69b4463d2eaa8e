"""Signed distance of the head: skull, face, nose, lips, lids, ears, eyeballs and teeth.

Head space: origin between the eyes' centres and the ears, x to the picture's right, y up, z to the camera when the
head looks at it. The head is about 2.2 units from chin (y = -1.1) to crown (y = 1.1). Proportions are the usual
portrait canon: eyes half way, hairline, brows, nose base and chin about equally spaced, five eye widths across.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from recipes.mini.portrait.sdf import capsule, ellipsoid, ramp, smooth_intersection, smooth_union, sphere

EYE_DEPTH = 0.565
"""z of the eyeballs' centres."""
MOUTH_HEIGHT = -0.64
"""y of the middle of the mouth line at rest."""
LID_THICKNESS = 0.022

Traits = Mapping[str, Tensor]
"""Subject parameters by name, as scalar tensors, so that one compiled kernel serves every subject."""


@dataclass(frozen=True)
class Landmarks:
    """Places of the face that geometry and skin both need, in head space."""

    eye_x: Tensor
    eye_radius: Tensor
    eye_half_width: Tensor
    mouth_half_width: Tensor
    corner_lift: Tensor
    nose_tip_y: Tensor
    nose_tip_z: Tensor


def landmarks(t: Traits) -> Landmarks:
    """The face's landmarks from its traits."""
    return Landmarks(
        eye_x=0.308 + 0.016 * t["eye_spacing"],
        eye_radius=0.168 + 0.004 * t["eye_size"],
        eye_half_width=0.172 + 0.008 * t["eye_size"],
        mouth_half_width=0.205 + 0.024 * t["mouth_width"] + 0.07 * t["smile"],
        corner_lift=0.06 * t["smile"],
        nose_tip_y=-0.295 - 0.035 * t["nose_length"],
        nose_tip_z=0.965 + 0.045 * t["nose_projection"],
    )


def to_face(x: Tensor, y: Tensor, z: Tensor, t: Traits) -> tuple[Tensor, Tensor, Tensor]:
    """Undo the head's own proportions (breadth, length below the eyes) so that features sit at canonical places."""
    lengthening = 1.0 + 0.055 * t["face_length"] * ramp(0.1, -0.3, y)
    return x / (1.0 + 0.04 * t["face_width"]), y / lengthening, z


def eye_opening(ax: Tensor, y: Tensor, t: Traits, marks: Landmarks) -> Tensor:
    """Signed height inside the almond between the lids: positive where the eyeball shows, 0 at a lid's edge."""
    across = ax - marks.eye_x
    height = y - (0.07 + 0.05 * t["eye_tilt"]) * across
    ratio = across / marks.eye_half_width
    # The upper lid peaks a little towards the nose, the lower one a little outwards.
    upper = (0.055 + 0.010 * t["eye_size"] - 0.014 * t["lid_weight"] - 0.012 * t["smile"]) * (
        1.0 - ratio * ratio * (1.0 + 0.12 * ratio)
    )
    lower = (0.060 + 0.006 * t["eye_size"] - 0.016 * t["smile"]) * (1.0 - ratio * ratio * (1.0 - 0.12 * ratio))
    return torch.minimum(upper - height, height + lower)


def mouth_line(x: Tensor, marks: Landmarks) -> Tensor:
    """y of the line between the lips at ``x``; the corners lift with a smile."""
    ratio = x / marks.mouth_half_width
    return MOUTH_HEIGHT + marks.corner_lift * torch.clamp(ratio * ratio, max=1.5)


def beard_region(ax: Tensor, y: Tensor, z: Tensor, marks: Landmarks) -> Tensor:
    """Where a beard grows, 0 to 1: jaw, chin, moustache and sideburns, clear of lips, cheeks and neck."""
    jaw = ramp(-0.40, -0.56, y - 0.9 * torch.clamp(ax - 0.33, min=0.0) + 0.12 * ramp(0.33, 0.18, ax))
    jaw = jaw * ramp(-1.36, -1.12, y) * ramp(-0.10, 0.10, z)
    sideburn = (
        ramp(0.50, 0.60, ax) * ramp(0.10, -0.05, y) * ramp(-0.16, -0.02, z) * ramp(0.30, 0.15, z) * ramp(0.63, 0.59, ax)
    )
    moustache = ramp(0.34, 0.22, ax) * ramp(-0.44, -0.50, y - 0.12 * ax) * ramp(-0.72, -0.62, y) * ramp(0.45, 0.6, z)
    region = torch.maximum(torch.maximum(jaw, sideburn), moustache)
    across = ax / (marks.mouth_half_width + 0.01)
    lips = ((y - mouth_line(ax, marks) + 0.012) / 0.085) ** 2 + across * across
    return region * ramp(0.75, 1.15, lips)


def eyeball_distance(ax: Tensor, y: Tensor, z: Tensor, marks: Landmarks) -> Tensor:
    """Distance to the eyeball of the nearer side."""
    return sphere(ax - marks.eye_x, y, z - EYE_DEPTH, marks.eye_radius)


def teeth_distance(x: Tensor, y: Tensor, z: Tensor, t: Traits) -> Tensor:
    """Distance to the upper row of teeth; far away while the mouth is closed."""
    row = ellipsoid(x, y - (MOUTH_HEIGHT + 0.035), z - 0.43, 0.27, 0.125, 0.335)
    return row + 0.4 * ramp(0.1, 0.0, t["mouth_open"])


def skin_distance(x: Tensor, y: Tensor, z: Tensor, t: Traits) -> Tensor:
    """Distance to the skin of the head without neck, in face coordinates (see `to_face`)."""
    marks = landmarks(t)
    ax = torch.sqrt(x * x + 2e-5)
    d = _skull(x, ax, y, z, t)
    d = _eyes(d, ax, y, z, t, marks)
    d = _nose(d, ax, y, z, t, marks)
    d = _mouth(d, x, ax, y, z, t, marks)
    ear = ellipsoid(ax - 0.685, y + 0.09, z + 0.10 - 0.35 * (ax - 0.68), 0.06, 0.215 + 0.03 * t["ear_size"], 0.13)
    ear = smooth_intersection(ear, -ellipsoid(ax - 0.745, y + 0.06, z + 0.03, 0.05, 0.13, 0.07), 0.04)
    d = smooth_union(d, ear, 0.07)
    thickness = t["beard"] * (0.030 + 0.05 * ramp(-0.75, -1.1, y))
    return d - thickness * beard_region(ax, y, z, marks)


def _skull(x: Tensor, ax: Tensor, y: Tensor, z: Tensor, t: Traits) -> Tensor:
    """Cranium, face block, jaw, chin, cheeks and brow ridge."""
    weight, woman = t["weight"], t["femininity"]
    d = ellipsoid(x, y - 0.29, z + 0.12, 0.695, 0.82, 0.88)
    d = smooth_union(d, ellipsoid(x, y + 0.12, z - 0.10, 0.595 + 0.03 * weight, 0.82, 0.645), 0.15)
    jaw = 0.505 + 0.055 * t["jaw_width"] + 0.05 * weight - 0.055 * woman
    d = smooth_union(d, ellipsoid(x, y + 0.62, z - 0.17, jaw, 0.42, 0.55), 0.20)
    d = smooth_union(d, sphere(ax - (jaw - 0.10), y + 0.62, z - 0.02, 0.13 - 0.02 * woman), 0.24)
    chin_y, chin_width = -0.985 - 0.045 * t["chin_length"] + 0.02 * woman, t["chin_width"] - 0.8 * woman
    chin = ellipsoid(ax - 0.075 - 0.03 * chin_width, y - chin_y, z - 0.60, 0.15 + 0.02 * chin_width, 0.125, 0.13)
    d = smooth_union(d, chin, 0.24)
    d = smooth_union(d, sphere(ax - 0.415, y + 0.20, z - 0.455, 0.185 + 0.028 * t["cheekbones"]), 0.20)
    d = smooth_union(d, sphere(ax - 0.34, y + 0.44, z - 0.50, 0.17 + 0.04 * weight + 0.024 * t["smile"]), 0.22)
    ridge = 0.062 + 0.014 * (1.0 - woman)
    return smooth_union(d, capsule(ax, y, z, (0.07, 0.185, 0.725), (0.46, 0.215, 0.56), ridge, 0.06), 0.14)


def _eyes(d: Tensor, ax: Tensor, y: Tensor, z: Tensor, t: Traits, marks: Landmarks) -> Tensor:
    """Press in the sockets, lay lids over the eyeballs and open them along the almond."""
    d = smooth_intersection(d, -ellipsoid(ax - marks.eye_x, y - 0.01, z - 0.835, 0.19, 0.12, 0.15), 0.14)
    opening = eye_opening(ax, y, t, marks) * 0.9
    ball = eyeball_distance(ax, y, z, marks)
    lids = smooth_intersection(ball - LID_THICKNESS, opening, 0.014)
    d = smooth_union(d, lids, 0.045)
    return smooth_intersection(d, -torch.maximum(ball - 0.035, -opening), 0.010)


def _nose(d: Tensor, ax: Tensor, y: Tensor, z: Tensor, t: Traits, marks: Landmarks) -> Tensor:
    """Bridge, tip, wings and nostrils."""
    width, tip_y, tip_z = t["nose_width"], marks.nose_tip_y, marks.nose_tip_z
    slim = 0.017 * t["femininity"]
    root_z = 0.70 + 0.018 * t["nose_bridge"]
    root = 0.058 - 0.010 * t["nose_bridge"] - 0.4 * slim
    bridge = capsule(
        ax, y, z, (0.0, 0.15, root_z), (0.0, tip_y + 0.06, tip_z - 0.05), root, 0.075 + 0.010 * width - slim
    )
    d = smooth_union(d, bridge, 0.11)
    d = smooth_union(d, sphere(ax, y - tip_y, z - tip_z + 0.045, 0.088 + 0.012 * width - slim), 0.07)
    wing_x = 0.112 + 0.024 * width - slim
    wing = ellipsoid(ax - wing_x, y - tip_y + 0.035, z - tip_z + 0.145, 0.065 + 0.012 * width, 0.058, 0.085)
    d = smooth_union(d, wing, 0.06)
    nostril = ellipsoid(
        ax - 0.062 - 0.012 * width, y - tip_y + 0.092, z - tip_z + 0.085, 0.034 + 0.006 * width, 0.026, 0.045
    )
    return smooth_intersection(d, -nostril, 0.03)


def _mouth(d: Tensor, x: Tensor, ax: Tensor, y: Tensor, z: Tensor, t: Traits, marks: Landmarks) -> Tensor:
    """Muzzle, lips, the line or opening between them, philtrum and the groove over the chin."""
    apart, fullness = t["mouth_open"], t["lip_fullness"] + 0.35 * t["femininity"]
    half, corner = marks.mouth_half_width, MOUTH_HEIGHT + marks.corner_lift
    d = smooth_union(d, ellipsoid(x, y + 0.61, z - 0.60, 0.28, 0.22, 0.165), 0.16)
    upper_y = MOUTH_HEIGHT + 0.042 + 0.022 * apart
    upper_radius, lower_radius = 0.038 + 0.011 * fullness, 0.050 + 0.012 * fullness
    upper = capsule(ax, y, z, (0.04, upper_y, 0.775), (half, corner + 0.006, 0.655), upper_radius, 0.016)
    d = smooth_union(d, upper, 0.035)
    lower_y = MOUTH_HEIGHT - 0.055 - 0.050 * apart
    lower = capsule(ax, y, z, (0.0, lower_y, 0.768), (half - 0.03, corner - 0.014, 0.665), lower_radius, 0.018)
    d = smooth_union(d, lower, 0.04)
    d = smooth_intersection(d, -(sphere(ax, y - MOUTH_HEIGHT - 0.135, z - 0.86, 0.035)), 0.07)
    d = smooth_intersection(d, -ellipsoid(ax, y - MOUTH_HEIGHT + 0.165, z - 0.82, 0.15, 0.045, 0.06), 0.09)
    line = y - mouth_line(ax, marks) + 0.006
    crease = capsule(ax, line, z, (0.0, 0.0, 0.86), (half + 0.012, 0.0, 0.715), 0.007, 0.004)
    d = smooth_intersection(d, -crease, 0.035)
    gap = ellipsoid(ax, line + 0.012 * apart, z - 0.74, half * 0.92, 0.004 + 0.048 * apart, 0.17)
    return smooth_intersection(d, -(gap + 0.2 * ramp(0.1, 0.0, apart)), 0.012)
