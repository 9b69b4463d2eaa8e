"""The portrait camera and the march of its rays onto a signed-distance surface.

Rays are marched coarse to fine: a cone for each 8x8 block of pixels goes as far as its whole width is clear, cones of
4x4 pixels go on from there, single rays finish. Most empty pixels are never marched singly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from recipes.mini.portrait.scene import Distance

DISTANCE = 7.5
"""Camera to the head's origin, in head units; about that of a short telephoto portrait."""
HALF_HEIGHT = 1.36
"""Half of what the picture covers at the head's origin; a bare head of 2.2 units fills about 81 % of the height."""
CENTRE_Y = -0.21
NEAR, FAR = 5.9, 9.2
"""Where rays start and where they have missed."""


@dataclass(frozen=True)
class Surface:
    """Pixels where a surface is seen: flat indices, world points (3, n), unit normals and view vectors, depth."""

    index: Tensor
    points: Tensor
    normals: Tensor
    towards_camera: Tensor
    depth: Tensor

    @property
    def coordinates(self) -> tuple[Tensor, Tensor, Tensor]:
        """The points as x, y and z, which is how distance functions take them."""
        return self.points[0], self.points[1], self.points[2]


def _directions(size: int) -> Tensor:
    """Unit ray directions (3, size * size), rows from the top of the picture."""
    line = ((torch.arange(size) + 0.5) / size * 2.0 - 1.0) * HALF_HEIGHT
    up, right = torch.meshgrid(-line, line, indexing="ij")
    rays = torch.stack((right.reshape(-1), up.reshape(-1), torch.full((size * size,), -DISTANCE)))
    return rays / rays.square().sum(0).sqrt()


def _march_cones(distance: Distance, packed: Tensor, size: int, depth: Tensor, steps: int) -> Tensor:
    """Advance the cones of a coarse picture while they are clear of the surface all across."""
    rays = _directions(size)
    # The cone's half diagonal at unit depth, with a margin for distances that overestimate.
    spread = 1.5 * HALF_HEIGHT / size / DISTANCE * 1.42
    for _ in range(steps):
        d = distance(rays[0] * depth, rays[1] * depth + CENTRE_Y, rays[2] * depth + DISTANCE, packed)
        depth = depth + (0.85 * d - spread * depth).clamp(min=0.0)
    return depth


def _refine(depth: Tensor, size: int, factor: int) -> Tensor:
    grid = depth.view(1, 1, size, size)
    return functional.interpolate(grid, scale_factor=factor, mode="nearest").view(-1)


def _march_rays(
    distance: Distance, packed: Tensor, size: int, index: Tensor, depth: Tensor, reach: float
) -> tuple[Tensor, Tensor]:
    """March the pixels ``index`` singly from ``depth``; the pixels that hit and where.

    Rays leave the batch as they hit or miss, so that the few that graze an edge can take all the steps they need.
    """
    directions = _directions(size)
    close = 0.35 * HALF_HEIGHT / size
    hits: list[tuple[Tensor, Tensor]] = []
    d, going = depth, torch.ones_like(depth, dtype=torch.bool)
    for steps in (7, 4, 4, 5, 6, 8, 10, 16):
        rays = directions[:, index]
        for _ in range(steps):
            d = distance(rays[0] * depth, rays[1] * depth + CENTRE_Y, rays[2] * depth + DISTANCE, packed)
            depth = depth + d * reach
        hit = d.abs() < close
        hits.append((index[hit], depth[hit]))
        going = ~hit & (depth < FAR)
        index, depth = index[going], depth[going]
        if index.numel() < 2:
            break
    # Rays that still crawl along an edge count as hits there, else the backdrop would show through as specks.
    edge = d[going] < 5.0 * close if index.numel() else going[:0]
    hits.append((index[edge], depth[edge]))
    found, depths = (torch.cat(parts) for parts in zip(*hits, strict=True))
    order = torch.argsort(found)
    return found[order], depths[order]


def trace(distance: Distance, packed: Tensor, size: int, reach: float = 0.9) -> Surface:
    """The nearest surface seen in each pixel of a ``size`` x ``size`` picture (a multiple of 8).

    ``reach`` scales each step; below 1 for distances that are not exact.
    """
    coarse = size // 8
    depth = _march_cones(distance, packed, coarse, torch.full((coarse * coarse,), NEAR), 16)
    depth = _march_cones(distance, packed, coarse * 2, _refine(depth, coarse, 2), 5)
    depth = _refine(depth, coarse * 2, 4)
    index = (depth < FAR).nonzero().view(-1)
    index, depth = _march_rays(distance, packed, size, index, depth[index], reach)
    rays = _directions(size)[:, index]
    points = rays * depth + torch.tensor([[0.0], [CENTRE_Y], [DISTANCE]])
    return Surface(index, points, normals(distance, packed, points), -rays, depth)


def normals(distance: Distance, packed: Tensor, points: Tensor, step: float = 0.004) -> Tensor:
    """Unit normals by the tetrahedron difference (Quilez, "Normals for an SDF")."""
    total = torch.zeros_like(points)
    for sx, sy, sz in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
        d = distance(points[0] + step * sx, points[1] + step * sy, points[2] + step * sz, packed)
        total = total + torch.stack((d * sx, d * sy, d * sz))
    return functional.normalize(total, dim=0)
