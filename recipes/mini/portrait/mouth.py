"""Teeth and gums, laid along the arches of the base mesh, seen where the lips part."""

from __future__ import annotations

import functools

import bpy
import numpy as np

from recipes.mini.portrait.head import Head, base_mesh
from recipes.mini.portrait.shaders import Shader, add_mesh

UPPER_WIDTHS = np.array([8.6, 6.6, 7.6, 7.0, 6.8, 10.0])
"""Widths in mm of the upper teeth, from the middle to the back."""
LOWER_WIDTHS = np.array([5.4, 6.0, 6.9, 7.0, 7.2, 11.0])
CROWN = 0.62
"""Height of a tooth's crown as a fraction of the arch with its gum."""
UPPER_SHIFT = np.array([0.0, -0.0012, -0.0012])
"""Metres by which the upper teeth stand before and below the base mesh's."""
COLUMNS, ROWS = 9, 10
"""Vertices across and along one tooth."""


def add_teeth(head: Head, rng: np.random.Generator) -> None:
    """Add both rows of teeth."""
    # teeth differ in colour with people and age
    ivory = np.array([0.80, 0.72, 0.58]) * rng.uniform(0.85, 1.1) * np.array([1.0, 1.0, rng.uniform(0.85, 1.05)])
    material = _tooth_material()
    for name, widths, crooked in (("upper", UPPER_WIDTHS, 0.08), ("lower", LOWER_WIDTHS, 0.2)):
        edge, gum = (head.vertices[ids] for ids in _arch(name))
        if name == "upper":
            edge, gum = edge + UPPER_SHIFT, gum + UPPER_SHIFT
        vertices, faces, tone = _row(edge, gum, widths, ivory, crooked, rng)
        add_mesh(f"{name} teeth", vertices, faces, material, tone=tone)


@functools.cache
def _arch(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Vertex ids along the biting edge and along the gum's top of the ``upper`` or ``lower`` teeth, right to left."""
    mesh = base_mesh()
    ids = mesh.groups[f"helper-{name}-teeth"]
    x, y, z = mesh.neutral[ids].T
    angle = np.arctan2(x, 0.3 - y)
    outer = _outermost(np.hypot(x / 0.57, (y - 0.45) / 0.78), angle)
    order = np.flatnonzero(outer)[np.argsort(angle[outer])]
    middle = np.median(z[outer])
    # the middle row of the sheet is left out; of two vertices in one column the outermost row counts
    low, high = order[z[order] < middle - 0.05], order[z[order] > middle + 0.05]
    low, high = _one_in_a_column(low, angle, z), _one_in_a_column(high, angle, -z)
    return (ids[low], ids[high]) if name == "upper" else (ids[high], ids[low])


def _one_in_a_column(order: np.ndarray, angle: np.ndarray, height: np.ndarray) -> np.ndarray:
    """The lowest of the vertices that share a column, in order of their angle."""
    columns: list[int] = []
    for i in order:
        if columns and abs(angle[i] - angle[columns[-1]]) < 0.06:
            columns[-1] = min(columns[-1], int(i), key=lambda j: height[j])
        else:
            columns.append(int(i))
    return np.array(columns)


def _outermost(radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Which vertices lie on the outside of the arch."""
    return radius > np.array([np.median(radius[np.abs(angle - a) < 0.25]) for a in angle]) - 0.08


def _row(
    edge: np.ndarray, gum: np.ndarray, widths: np.ndarray, ivory: np.ndarray, crooked: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A sheet of teeth between two polylines: vertices (V, 3), quads (Q, 4), colours (V, 3)."""
    ends = np.concatenate([[0.0], np.cumsum(widths)])
    ends = np.concatenate([-ends[:0:-1], ends]) / ends[-1]
    tooth, inside = np.meshgrid(np.arange(len(ends) - 1), np.linspace(-1.0, 1.0, COLUMNS), indexing="ij")
    along = (ends[tooth] + (ends[tooth + 1] - ends[tooth]) * (inside + 1.0) / 2.0).ravel()
    tooth, inside = tooth.ravel(), inside.ravel()
    bottom, top = _along(edge, along), _along(gum, along)

    height = np.linspace(0.0, 1.0, ROWS)
    shift = rng.normal(0.0, crooked * 0.0012, (2, len(widths) * 2))
    # an edge is rounded at its corners, a crown bulges, and sinks in between two teeth
    start = (0.10 * np.abs(inside) ** 4 + shift[0, tooth] / 0.012)[:, None]
    v = start + (1.0 - start) * height
    points = bottom[:, None] * (1.0 - v[..., None]) + top[:, None] * v[..., None]
    outwards = points - points.mean(axis=(0, 1)) - np.array([0.0, 0.02, 0.0])
    outwards[..., 2] = 0.0
    outwards /= np.linalg.norm(outwards, axis=-1, keepdims=True)
    crown = CROWN - 0.10 * inside[:, None] ** 2
    bulge = np.where(v < crown, 0.0012 * np.cos(np.pi / 2 * np.abs(inside[:, None]) ** 2.5), 0.0006)
    bulge = bulge * np.clip(v / 0.15 + 0.35, 0.0, 1.0) + shift[1, tooth][:, None]
    points += bulge[..., None] * outwards

    shade = 1.0 - 0.45 * np.abs(inside[:, None]) ** 8 - 0.04 * np.abs(tooth - len(widths) + 0.5)[:, None]
    tone = np.where((v < crown)[..., None], ivory * np.clip(shade, 0.2, 1.0)[..., None], np.array([0.36, 0.12, 0.11]))
    count = len(along)
    column, row = np.meshgrid(np.arange(count - 1), np.arange(ROWS - 1), indexing="ij")
    first = (column * ROWS + row).ravel()
    quads = np.stack([first, first + ROWS, first + ROWS + 1, first + 1], axis=1)
    return points.reshape(-1, 3), quads, tone.reshape(-1, 3)


def _along(line: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Points (N, 3) on a polyline at ``places`` in [-1, 1] of its length."""
    steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
    length = np.concatenate([[0.0], np.cumsum(steps)])
    length = 2.0 * length / length[-1] - 1.0
    return np.stack([np.interp(places, length, line[:, axis]) for axis in range(3)], axis=1)


def _tooth_material() -> bpy.types.Material:
    shader = Shader("teeth")
    shader.set(base_color=shader.attribute("tone", "Color"), roughness=0.25, coat_weight=0.3, coat_roughness=0.1)
    return shader.material
