"""Signed distance of neck, shoulders, clothing and glasses."""

from __future__ import annotations

import torch
from torch import Tensor

from recipes.mini.portrait.head import Traits
from recipes.mini.portrait.sdf import capsule, ellipsoid, ramp, smooth_intersection, smooth_union

ABSENT = 3.0
"""Added to the distance of a part that the subject does not wear; more than any march goes."""


def neck_distance(x: Tensor, y: Tensor, z: Tensor, t: Traits) -> Tensor:
    """Distance to the bare neck and chest, in coordinates half way between head and shoulders."""
    radius = 0.395 - 0.06 * t["femininity"] + 0.03 * t["weight"]
    neck = capsule(x, y, z, (0.0, -0.55, -0.20), (0.0, -1.7, -0.33), radius, radius + 0.03)
    # The two neck muscles that meet at the collarbone's notch.
    ax = torch.sqrt(x * x + 1e-4)
    muscle = capsule(ax, y, z, (0.40, -0.62, -0.12), (0.07, -1.55, 0.02), 0.06, 0.05)
    return smooth_union(neck, muscle, 0.10)


def torso_distance(x: Tensor, y: Tensor, z: Tensor, t: Traits) -> Tensor:
    """Distance to shoulders and chest (in world space), the shape under the clothes."""
    ax = torch.sqrt(x * x + 1e-3)
    slim = 1.0 - 0.16 * t["femininity"]
    chest = ellipsoid(x, y + 2.72, z + 0.33, 1.5 * slim, 1.08, 0.62 + 0.06 * t["weight"])
    shoulder = capsule(ax, y, z, (0.20, -1.50, -0.36), (1.12 * slim, -1.90, -0.40), 0.21, 0.28)
    return smooth_union(chest, shoulder, 0.3)


def clothing_distance(x: Tensor, y: Tensor, z: Tensor, torso: Tensor, t: Traits) -> Tensor:
    """Distance to the garment: a sweater with a ribbed crew neck, or a shirt with an open collar."""
    return torch.where(t["sweater"] > 0.5, _sweater(x, y, z, torso, t), _shirt(x, y, z, torso, t))


def _neck_radius(x: Tensor, z: Tensor) -> Tensor:
    return torch.sqrt(x * x + (z + 0.24) * (z + 0.24) + 1e-6)


def _sweater(x: Tensor, y: Tensor, z: Tensor, torso: Tensor, t: Traits) -> Tensor:
    around = 0.47 - 0.06 * t["femininity"] + 0.03 * t["weight"] + 0.07 * t["collar_opening"]
    radius = _neck_radius(x, z)
    height = y + 1.44 + 0.06 * t["collar_opening"] + 0.26 * (z + 0.2)
    offset = radius - around
    collar = torch.sqrt(offset * offset + height * height * 0.55 + 1e-6) - 0.06
    # The chest rises to meet the collar all round; above it the neck is free.
    body = smooth_union(torso - 0.05, torch.maximum(offset, torch.abs(height + 0.16) - 0.12), 0.12)
    body = smooth_intersection(body, height - 0.02, 0.04)
    body = torch.where(offset > 0.02, smooth_union(torso - 0.05, body, 0.05), body)
    return smooth_union(body, collar, 0.03)


def _shirt(x: Tensor, y: Tensor, z: Tensor, torso: Tensor, t: Traits) -> Tensor:
    ax = torch.sqrt(x * x + 1e-5)
    base = 0.425 - 0.07 * t["femininity"] + 0.03 * t["weight"]
    radius = _neck_radius(x, z)
    height = y + 1.42 + 0.26 * (z + 0.2)
    # A round neck hole, opened to a V in front by the undone buttons.
    body = smooth_union(torso - 0.03, torch.maximum(radius - base - 0.03, torch.abs(height + 0.14) - 0.12), 0.14)
    depth = 0.05 + 0.20 * t["collar_opening"]
    gap = (0.10 + 0.55 * t["collar_opening"]) * (height + 0.06 + depth)
    opening = torch.maximum((ax - gap) * 0.75, -z)
    body = smooth_intersection(body, -torch.minimum(opening, torch.maximum(radius - base, -height - 0.04)), 0.02)
    # The collar: a cone about the neck that leans outwards as it falls, cut in front to two pointed leaves.
    leaf = torch.abs(radius - base - 0.03 + 0.55 * height) * 0.85 - 0.022
    reach = 0.15 + 0.10 * ramp(0.35, 0.05, ax) * ramp(-0.1, 0.1, z)
    leaf = torch.maximum(leaf, torch.abs(height + 0.5 * reach - 0.07) - 0.5 * reach)
    edge = 0.025 + 0.16 * t["collar_opening"] + 0.55 * torch.clamp(0.06 - height, min=0.0)
    leaf = torch.maximum(leaf, torch.minimum(edge - ax, z + 0.05) * 0.85)
    return torch.minimum(body, leaf * 0.85)


def glasses_distance(x: Tensor, y: Tensor, z: Tensor, t: Traits) -> Tensor:
    """Distance to the glasses' frame, in face coordinates."""
    ax = torch.sqrt(x * x + 1e-5)
    radius = 0.205 + 0.018 * t["frame_size"]
    wire = 0.020 - 0.007 * t["frame_gold"]
    square = t["frame_squareness"]
    lens_x, lens_y = torch.abs(ax - 0.305), torch.abs(y + 0.005) * 1.16
    round_outline = torch.sqrt(lens_x * lens_x + lens_y * lens_y + 1e-8) - radius
    corner = 0.10
    dx, dy = torch.clamp(lens_x - radius + corner, min=0.0), torch.clamp(lens_y - radius + corner, min=0.0)
    inner = torch.clamp(torch.maximum(lens_x, lens_y) - radius + corner, max=0.0)
    square_outline = torch.sqrt(dx * dx + dy * dy + 1e-8) + inner - corner
    outline = round_outline * (1.0 - square) + square_outline * square
    depth = z - 0.855 + 0.26 * ax * ax
    rim = torch.sqrt(outline * outline + depth * depth + 1e-8) - wire
    bridge = capsule(ax, y, z, (0.0, 0.075, 0.885), (0.33 - radius, 0.05, 0.845), wire, wire)
    temple = capsule(ax, y, z, (0.29 + radius, 0.06, 0.77), (0.80, 0.07, -0.08), wire, wire)
    frame = torch.minimum(torch.minimum(rim, bridge), temple)
    return frame + torch.where(t["glasses"] > 0.5, 0.0, ABSENT)
