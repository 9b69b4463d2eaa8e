"""Signed-distance primitives and smooth operators on coordinate tensors.

Coordinates are separate x, y, z tensors of one shape, so that a whole scene fuses into one compiled kernel.
Formulas after Inigo Quilez, "Distance functions" and "Smooth minimum" (iquilezles.org/articles).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Scalar = float | Tensor


def sphere(x: Tensor, y: Tensor, z: Tensor, radius: Scalar) -> Tensor:
    """Distance to a sphere at the origin."""
    return torch.sqrt(x * x + y * y + z * z + 1e-9) - radius


def ellipsoid(x: Tensor, y: Tensor, z: Tensor, rx: Scalar, ry: Scalar, rz: Scalar) -> Tensor:
    """First-order distance to an axis-aligned ellipsoid at the origin (value over gradient length)."""
    a, b, c = x / rx, y / ry, z / rz
    value = torch.sqrt(a * a + b * b + c * c + 1e-9)
    a, b, c = a / rx, b / ry, c / rz
    return value * (value - 1.0) / torch.sqrt(a * a + b * b + c * c + 1e-9)


def capsule(
    x: Tensor,
    y: Tensor,
    z: Tensor,
    start: Sequence[Scalar],
    end: Sequence[Scalar],
    start_radius: Scalar,
    end_radius: Scalar,
) -> Tensor:
    """Distance to a capsule whose radius runs linearly from ``start`` to ``end``."""
    bx, by, bz = end[0] - start[0], end[1] - start[1], end[2] - start[2]
    px, py, pz = x - start[0], y - start[1], z - start[2]
    along = torch.clamp((px * bx + py * by + pz * bz) / (bx * bx + by * by + bz * bz), 0.0, 1.0)
    return sphere(px - bx * along, py - by * along, pz - bz * along, start_radius + (end_radius - start_radius) * along)


def smooth_union(a: Tensor, b: Tensor, width: float) -> Tensor:
    """Minimum of two distances, blended over ``width`` (quadratic polynomial form)."""
    overlap = torch.clamp(width - torch.abs(a - b), min=0.0)
    return torch.minimum(a, b) - overlap * overlap * (0.25 / width)


def smooth_intersection(a: Tensor, b: Tensor, width: float) -> Tensor:
    """Maximum of two distances, blended over ``width``."""
    overlap = torch.clamp(width - torch.abs(a - b), min=0.0)
    return torch.maximum(a, b) + overlap * overlap * (0.25 / width)


def ramp(start: Scalar, end: Scalar, value: Tensor) -> Tensor:
    """Smoothstep: 0 at ``start``, 1 at ``end``; ``start`` may be the larger one, for a falling ramp."""
    t = torch.clamp((value - start) / (end - start), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def bump(value: Tensor, width: Scalar) -> Tensor:
    """Gaussian bell: 1 where ``value`` is 0, exp(-1) where it is ``width``."""
    ratio = value / width
    return torch.exp(-ratio * ratio)
