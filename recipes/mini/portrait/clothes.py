"""Clothes: what covers neck and shoulders, in the fabric and the colour that words name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import bpy
import numpy as np

from recipes.mini.portrait.radial import unit_directions
from recipes.mini.portrait.shaders import Shader, add_mesh
from recipes.mini.portrait.tailoring import (
    Torso,
    around,
    azimuths,
    band,
    grid_faces,
    leaf,
    measure_torso,
    neck_tube,
    on_surface,
    shell,
    smooth_ring,
)

if TYPE_CHECKING:
    from recipes.mini.portrait.head import Head
    from recipes.mini.portrait.words import Words

Color = tuple[float, float, float]
"""Linear RGB reflectance."""

FABRICS: dict[str, tuple[Color, ...]] = {
    "black": ((0.012, 0.012, 0.013), (0.020, 0.019, 0.019)),
    "white": ((0.72, 0.71, 0.68), (0.64, 0.60, 0.52)),
    "grey": ((0.070, 0.072, 0.078), (0.22, 0.22, 0.22), (0.14, 0.135, 0.13)),
    "navy": ((0.012, 0.018, 0.050), (0.018, 0.026, 0.075)),
    "blue": ((0.045, 0.11, 0.30), (0.10, 0.20, 0.36), (0.22, 0.34, 0.52)),
    "green": ((0.035, 0.075, 0.035), (0.075, 0.085, 0.030), (0.020, 0.090, 0.070)),
    "red": ((0.32, 0.022, 0.020), (0.25, 0.035, 0.025)),
    "burgundy": ((0.095, 0.010, 0.018), (0.075, 0.012, 0.022)),
    "mustard": ((0.42, 0.22, 0.028), (0.36, 0.20, 0.045)),
    "brown": ((0.085, 0.045, 0.024), (0.16, 0.095, 0.055)),
}
"""Dyes that each colour's word may mean."""


@dataclass(frozen=True)
class Clothes:
    """A garment; lengths in units of the eyes' distance."""

    garment: str
    color: Color
    second_color: Color
    """Of the shirt under a jacket."""
    tie_color: Color | None
    neckline: float
    """How far the front of the neckline is lowered."""
    looseness: float
    knit: float
    """Strength of the knit's relief."""
    roughness: float
    folds: np.ndarray
    """Phases (6,) of the cloth's folds."""
    open_collar: float
    """How far a shirt's collar is open, from 0 to 1."""


def sample_clothes(words: Words, rng: np.random.Generator) -> Clothes:
    """Draw what the words for garment and colour leave open."""
    chance = rng.random(8)
    shades = FABRICS[words.clothing_color]
    vary = np.exp(0.10 * rng.normal(size=3) * np.array([0.5, 0.5, 0.5]) + 0.12 * rng.normal())
    color = np.clip(np.array(shades[int(chance[0] * len(shades))]) * vary, 0.006, 0.8)
    shirts = ((0.70, 0.70, 0.70), (0.70, 0.69, 0.66), (0.38, 0.48, 0.64), (0.62, 0.55, 0.55), (0.03, 0.03, 0.035))
    ties = ((0.012, 0.016, 0.05), (0.10, 0.010, 0.016), (0.02, 0.02, 0.022), (0.03, 0.06, 0.04), (0.12, 0.12, 0.13))
    tie = ties[int(chance[2] * len(ties))] if words.gender == "man" and chance[3] < 0.6 else None
    return Clothes(
        garment=words.garment,
        color=(float(color[0]), float(color[1]), float(color[2])),
        second_color=shirts[int(chance[1] ** 1.5 * len(shirts))],
        tie_color=tie,
        neckline=float(np.clip(0.06 + 0.16 * rng.normal(), -0.05, 0.45)) + (0.12 if words.gender == "woman" else 0.0),
        looseness=0.05 + 0.10 * float(chance[4]),
        knit={"sweater": 0.35 + 0.35 * float(chance[5]), "turtleneck": 0.2 + 0.25 * float(chance[5])}.get(
            words.garment, 0.0
        ),
        roughness=0.75 + 0.2 * float(chance[6]),
        folds=rng.uniform(0, 2 * np.pi, 6),
        open_collar=float(chance[7]),
    )


def add_clothes(head: Head, clothes: Clothes, rng: np.random.Generator) -> None:
    """Add the garment to the scene."""
    torso = measure_torso(head)
    builder = {
        "t-shirt": _add_t_shirt,
        "sweater": _add_sweater,
        "turtleneck": _add_turtleneck,
        "shirt": _add_shirt,
        "suit jacket": _add_suit,
    }[clothes.garment]
    builder(head, torso, clothes)


def fabric(
    name: str, color: Color, roughness: float, weave: float = 0.25, knit: float = 0.0, ribs: float = 0.0
) -> bpy.types.Material:
    """Cloth: a faint weave, or stitches of a knit, or ribs, in the sheet's own coordinates ``across`` and ``along``."""
    shader = Shader(name)
    across, along = shader.attribute("across"), shader.attribute("along")
    place = shader.node("CombineXYZ", {0: across, 1: along, 2: 0.0}).outputs[0]
    mottled = shader.noise(place, 2.2, 4.0, 0.6)
    tone = shader.map_range(mottled, 0.25, 0.75, 0.86, 1.12)
    mixed = shader.node(
        "VectorMath",
        {0: color, 1: shader.node("CombineXYZ", {0: tone, 1: tone, 2: tone}).outputs[0]},
        operation="MULTIPLY",
    )
    shader.set(
        base_color=mixed.outputs[0],
        roughness=roughness,
        specular_ior_level=0.25,
        sheen_weight=0.15,
        sheen_roughness=0.5,
    )
    if ribs > 0:
        height = shader.math("SINE", shader.math("MULTIPLY", across, 2 * np.pi / 0.085))
        strength, depth = ribs, 0.0009
    elif knit > 0:
        # Columns of stitches, each leaning to and fro along its column.
        lean = shader.math("MULTIPLY", shader.math("PINGPONG", along, 0.05), 0.5)
        column = shader.math("SINE", shader.math("MULTIPLY", shader.math("ADD", across, lean), 2 * np.pi / 0.105))
        row = shader.math("SINE", shader.math("MULTIPLY", along, 2 * np.pi / 0.10))
        height = shader.math("ADD", column, shader.math("MULTIPLY", row, 0.5))
        strength, depth = knit, 0.0010
    else:
        height = shader.noise(place, 26.0, 3.0, 0.7)
        strength, depth = weave, 0.0012
    bump = shader.node("Bump", {"Strength": strength, "Distance": depth, "Height": height})
    shader.set(normal=bump.outputs["Normal"])
    return shader.material


def _add_sheet(
    head: Head,
    torso: Torso,
    name: str,
    points: np.ndarray,
    material: bpy.types.Material,
    closed: bool = True,
    thickness: float = 0.0,
    subdivisions: int = 1,
) -> None:
    """Add a sheet (R, C, 3) of torso space, with its coordinates across and along it in units of the eyes' distance."""
    rows, columns, _ = points.shape
    across = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points[min(3, rows - 1)], axis=0), axis=1))])
    along = np.concatenate([np.zeros((1, columns)), np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=2), axis=0)])
    thing = add_mesh(
        name,
        torso.to_metres(head, points).reshape(-1, 3),
        grid_faces(rows, columns, closed),
        material,
        across=np.tile(across, (rows, 1)).ravel(),
        along=along.ravel(),
    )
    if thickness:
        modifier = thing.modifiers.new("thickness", "SOLIDIFY")
        modifier.thickness, modifier.offset = thickness * head.eye_distance, 0.0
    if subdivisions:
        thing.modifiers.new("subdivision", "SUBSURF").render_levels = subdivisions


def _creased(points: np.ndarray, clothes: Clothes, depth: float) -> np.ndarray:
    """Soft folds in a sheet: some run down from the shoulders, some across."""
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    a, b, c, d, e, f = clothes.folds
    wave = np.sin(2.1 * x + 0.9 * z + a) + 0.7 * np.sin(3.4 * x - 1.7 * z + b + 0.8 * np.sin(1.3 * y + c))
    wave += 0.6 * np.sin(4.6 * z + 1.5 * x + d) + 0.4 * np.sin(6.3 * x + 2.2 * y + e) * np.sin(2.0 * z + f)
    grown = np.clip(np.arange(len(points)) - 2.0, 0.0, 4.0)[:, None] / 4.0
    outward = points - np.array([0.0, 1.6, -4.2])
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    return points + outward * (depth * grown * wave)[..., None]


def _crew(clothes: Clothes, front: float = 1.06, side: float = 1.03, back: float = 1.20) -> np.ndarray:
    """Elevations (C,) of a round neckline as seen from the chest."""
    return around(azimuths(), front - 0.6 * clothes.neckline, side - 0.10 * clothes.neckline, back)


def _add_t_shirt(head: Head, torso: Torso, clothes: Clothes) -> None:
    line = _crew(clothes)
    cloth = fabric("jersey", clothes.color, clothes.roughness)
    _add_sheet(head, torso, "t-shirt", _creased(shell(torso, line, 0.05, clothes.looseness), clothes, 0.014), cloth)
    rib = fabric("rib", clothes.color, clothes.roughness, ribs=0.25)
    _add_sheet(head, torso, "rib", band(torso, line, 0.20, 0.065), rib)


def _add_sweater(head: Head, torso: Torso, clothes: Clothes) -> None:
    line = _crew(clothes, 1.07, 1.05, 1.22)
    cloth = fabric("knit", clothes.color, 0.95, knit=clothes.knit)
    _add_sheet(head, torso, "sweater", _creased(shell(torso, line, 0.09, 0.10), clothes, 0.020), cloth)
    rib = fabric("rib", clothes.color, 0.95, ribs=0.8)
    _add_sheet(head, torso, "rib", band(torso, line, 0.32, 0.12), rib)


def _add_turtleneck(head: Head, torso: Torso, clothes: Clothes) -> None:
    line = around(azimuths(), 1.12, 1.08, 1.24)
    cloth = fabric("knit", clothes.color, 0.92, knit=clothes.knit)
    _add_sheet(head, torso, "sweater", _creased(shell(torso, line, 0.07, 0.07), clothes, 0.016), cloth)
    rib = fabric("rib", clothes.color, 0.92, ribs=0.55)
    azimuth = azimuths()
    top = around(azimuth, 0.30, 0.52, 0.66)
    _add_sheet(head, torso, "collar", neck_tube(torso, around(azimuth, -0.35, 0.05, 0.10), top - 0.04, 0.06), rib)
    _add_sheet(head, torso, "fold", neck_tube(torso, around(azimuth, -0.04, 0.30, 0.38), top, 0.12, 6), rib)


def _collar_curves(
    torso: Torso, line: np.ndarray, spread: float, tucked: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Foot, fold and outer edge (C, 3) of a collar on a neckline (C,), from the front round the back to the front.

    A tucked collar lies close to the neck, under a jacket.
    """
    gap = 0.06 + 0.24 * spread
    azimuth = np.linspace(gap, 2 * np.pi - gap, 61)
    signed = np.where(azimuth > np.pi, azimuth - 2 * np.pi, azimuth)
    from_front = np.abs(signed)
    ring = azimuths()
    elevation = np.interp(signed, ring, line, period=2 * np.pi)
    radius = np.interp(signed, ring, smooth_ring(torso.chest.toward(ring, line)), period=2 * np.pi)
    outward = unit_directions(signed, elevation)
    side = np.sign(signed)
    foot = torso.chest.centre + outward * (radius + 0.05)[:, None]
    stand = np.interp(from_front, [0.0, 0.25, 0.9, np.pi], [0.08, 0.20, 0.42, 0.50])
    flat = unit_directions(signed, 0 * elevation)
    fold = foot + np.stack([0 * stand, 0 * stand, stand], axis=1) - flat * (0.16 * stand)[:, None]
    width = np.interp(from_front, [0.0, 0.35, 0.9, np.pi], [0.50, 0.42, 0.26, 0.24])
    if tucked:
        width = width * np.interp(from_front, [0.2, 0.6], [0.95, 0.55])
    lower = (
        torso.chest.centre
        + unit_directions(signed, elevation - width / radius) * (radius + (0.10 if tucked else 0.17))[:, None]
    )
    point = np.clip(1 - from_front / 0.75, 0, 1) ** 1.2
    lower += point[:, None] * np.stack(
        [side * (0.02 if tucked else 0.20 + 0.10 * spread), -0.05 + 0 * side, -0.12 + 0 * side], axis=1
    )
    return foot, fold, lower


def _add_shirt(
    head: Head, torso: Torso, clothes: Clothes, color: Color | None = None, spread: float | None = None
) -> None:
    tucked = color is not None
    color = color or clothes.color
    spread = clothes.open_collar if spread is None else spread
    cloth = fabric("shirt", color, 0.8, weave=0.15)
    front = np.exp(-((azimuths() / 0.30) ** 2))
    line = _crew(clothes, 1.10, 1.06, 1.20) - 0.03 - (0.02 + 0.75 * spread) * front
    body = _creased(shell(torso, line, 0.045, clothes.looseness * 0.7), clothes, 0.014)
    _add_sheet(head, torso, "shirt", body, cloth)
    foot, fold, lower = _collar_curves(torso, line, spread, tucked)
    _add_sheet(
        head, torso, "collar", leaf(fold, lower, bulge=0.02 if tucked else 0.05), cloth, closed=False, thickness=0.03
    )
    _add_sheet(head, torso, "stand", np.stack([fold, (fold + foot) / 2, foot]), cloth, closed=False, thickness=0.02)
    _add_placket(head, torso, clothes, cloth, spread)


def _add_placket(head: Head, torso: Torso, clothes: Clothes, cloth: bpy.types.Material, spread: float) -> None:
    """The strip of double cloth down the front."""
    elevation = np.linspace(1.0 - 0.75 * spread, 0.0, 14)
    half = 0.14
    radius = torso.chest.toward(0 * elevation, elevation)
    offset = 0.085 + 0.7 * clothes.looseness
    columns = [on_surface(torso.chest, share * half / radius, elevation, offset) for share in (-1, 0, 1)]
    _add_sheet(head, torso, "placket", np.stack(columns, axis=1), cloth, closed=False, thickness=0.02)


def _add_suit(head: Head, torso: Torso, clothes: Clothes) -> None:
    spread = 0.0 if clothes.tie_color else 0.25 + 0.5 * clothes.open_collar
    _add_shirt(head, torso, clothes, clothes.second_color, spread)
    if clothes.tie_color:
        _add_tie(head, torso, clothes.tie_color)
    wool = fabric("wool", clothes.color, 0.85, weave=0.35)
    azimuth = azimuths()
    from_front = np.abs(azimuth)
    # The opening runs from the sides of the neck down to a point below the picture.
    line = np.interp(from_front, [0.0, 0.18, 0.42, 0.72, 1.05, 1.5, np.pi], [-0.45, -0.1, 0.46, 0.80, 0.94, 0.99, 1.10])
    body = _creased(shell(torso, line, 0.17, 0.07, bottom=-0.6), clothes, 0.012)
    _add_sheet(head, torso, "jacket", body, wool)
    _add_lapels(head, torso, wool, azimuth, line)


def _add_lapels(head: Head, torso: Torso, wool: bpy.types.Material, azimuth: np.ndarray, line: np.ndarray) -> None:
    """Lapels on both sides of the opening and the collar round the neck, with a notch between them."""
    for side in (1, -1):
        t = np.linspace(0.0, 1.0, 22)
        place = np.interp(t, [0, 1], [0.80, 0.12])
        edge_elevation = np.interp(place, azimuth[48:], line[48:])
        inner = on_surface(torso.chest, side * place, edge_elevation + 0.01, 0.22)
        width = np.interp(t, [0.0, 0.10, 0.16, 0.5, 1.0], [0.30, 0.62, 0.72, 0.55, 0.10])
        radius = torso.chest.toward(side * place, edge_elevation)
        outer = on_surface(
            torso.chest, side * (place + 0.75 * width / radius), edge_elevation - 0.15 * width / radius, 0.26
        )
        _add_sheet(
            head, torso, "lapel", np.stack([inner, (inner + outer) / 2 + [0, -0.03, 0.02], outer]), wool, False, 0.035
        )
    columns = 49
    around_neck = np.linspace(0.66, 2 * np.pi - 0.66, columns)
    foot = np.interp(np.minimum(around_neck, 2 * np.pi - around_neck), azimuth[48:], line[48:])
    upper = on_surface(torso.chest, around_neck, foot + 0.09, 0.25)
    lower = on_surface(torso.chest, around_neck, foot - 0.16, 0.26)
    _add_sheet(head, torso, "collar", leaf(upper, lower, bulge=0.08), wool, closed=False, thickness=0.04)


def _add_tie(head: Head, torso: Torso, color: Color) -> None:
    """A knot between the collar's points and the blade below it."""
    silk = fabric("silk", color, 0.45, weave=0.2)
    elevation = np.linspace(1.03, 0.0, 16)
    down = np.arange(16)
    half = np.interp(down, [0, 1, 3, 4, 15], [0.26, 0.25, 0.15, 0.18, 0.48])
    lift = np.interp(down, [0, 1, 3, 4, 15], [0.15, 0.23, 0.21, 0.17, 0.19])
    radius = torso.chest.toward(0 * elevation, elevation)
    shares = np.linspace(-1, 1, 5)
    columns = [on_surface(torso.chest, s * half / radius, elevation, lift + 0.06 * (1 - s * s)) for s in shares]
    _add_sheet(head, torso, "tie", np.stack(columns, axis=1), silk, closed=False, thickness=0.02)
