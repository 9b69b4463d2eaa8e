"""Skin: colour painted on the head's vertices, freckles, pores and wrinkles in the material, light scattered below."""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np

from recipes.mini.portrait.anatomy import LIP_RINGS
from recipes.mini.portrait.facial_hair import beard_mask, sample_facial_hair
from recipes.mini.portrait.hair import sample_hair, scalp_mask
from recipes.mini.portrait.head import Head, base_mesh
from recipes.mini.portrait.shaders import Shader, Socket, add_mesh
from recipes.mini.portrait.subject import Subject, part_rng


@dataclass(frozen=True)
class SkinPaint:
    """What varies over the skin, for every vertex of the base mesh."""

    tone: np.ndarray
    """(V, 3) linear RGB."""
    shine: np.ndarray
    """(V,) 0 matt skin, 1 the oily middle of the face, above 1 wet lips."""
    furrow: np.ndarray
    """(V,) where wrinkles run across: forehead, corners of the eyes, below the eyes."""
    freckle: np.ndarray
    """(V,) density of freckles."""


def add_skin(head: Head, subject: Subject, rng: np.random.Generator) -> None:
    """Add the kept part of the body with its skin."""
    number = np.full(len(head.vertices), -1)
    number[head.kept] = np.arange(int(head.kept.sum()))
    paint = paint_skin(head, subject, rng)
    add_mesh(
        "skin",
        head.vertices[head.kept],
        number[head.kept_quads],
        _skin_material(head, subject, rng),
        subdivisions=1,
        tone=_under_hair(paint.tone, head, subject)[head.kept],
        shine=paint.shine[head.kept],
        furrow=paint.furrow[head.kept],
        freckle=paint.freckle[head.kept],
    )


def _under_hair(tone: np.ndarray, head: Head, subject: Subject) -> np.ndarray:
    """Colours (V, 3) with the scalp and the skin below a beard darkened, so that no bare skin shows between strands."""
    hair = sample_hair(subject.words, part_rng(subject.seed, "hair"))
    beard = sample_facial_hair(subject.words, part_rng(subject.seed, "facial_hair"))
    scalp, jaw = scalp_mask(head, hair)[:, None], beard_mask(head, beard)[:, None]
    tone = tone * (1 - scalp) + 0.8 * scalp * np.array(hair.pigment.mean)
    # Grey stubble does not make dark skin paler.
    return tone * (1 - jaw) + 0.8 * jaw * np.minimum(np.array(beard.pigment.mean), tone)


def paint_skin(head: Head, subject: Subject, rng: np.random.Generator) -> SkinPaint:
    """Colour and masks of every vertex; regions are found on the mean head, so they follow the shape of the face."""
    mesh = base_mesh()
    x, y, z = mesh.neutral.T
    side = np.abs(x)
    face = (y < 0.6).astype(np.float64)

    def spot(at: tuple[float, float], width: float, height: float) -> np.ndarray:
        """A soft spot on both halves of the face, 1 in its middle; eye distances."""
        return face * np.exp(-(((side - at[0]) / width) ** 2) - ((z - at[1]) / height) ** 2)

    base = np.array(subject.skin_color)
    tone = np.tile(base, (len(x), 1))
    # large, soft unevenness
    uneven = _smooth_noise(mesh.neutral, 2.5, rng)
    tone *= np.exp(0.10 * subject.blotchiness * uneven)[:, None]
    red = spot((0.62, -0.6), 0.34, 0.28) + 0.9 * spot((0.0, -0.6), 0.22, 0.2) + 0.45 * spot((0.0, -1.62), 0.35, 0.2)
    red += 0.8 * ((side > 1.17) & (z > -0.9) & (z < 0.5)) + 0.25 * spot((0.5, 0.05), 0.3, 0.12)
    red = np.clip(red * (1.0 + 0.5 * _smooth_noise(mesh.neutral, 5.0, rng)), 0.0, 1.2)
    flush = subject.ruddiness + 0.7 * subject.makeup * spot((0.72, -0.5), 0.25, 0.2)
    tone *= 1.0 - (flush * red)[:, None] * np.array([0.03, 0.24, 0.20])
    # thin skin under and around the eyes is darker and bluer or browner
    shadow = (
        spot((0.46, -0.24), 0.24, 0.1) + 0.7 * spot((0.34, -0.06), 0.12, 0.14) + 0.5 * spot((0.52, 0.12), 0.26, 0.09)
    )
    tone *= 1.0 - (subject.eye_shadow * np.clip(shadow, 0, 1))[:, None] * np.array([0.26, 0.30, 0.24])
    # the forehead sees more sun, the neck less light of its own
    tone *= 1.0 + 0.04 * spot((0.0, 0.9), 0.9, 0.4)[:, None]
    if subject.words.gender == "man":
        jaw = face * np.clip((side < 1.05) * (z < -0.78) * (z > -1.95), 0, 1) * (1 - spot((0.62, -0.75), 0.3, 0.25))
        tone *= 1.0 - 0.10 * jaw[:, None] * np.array([1.0, 0.85, 0.6])

    # rims of the lids: wet and pink
    for centre in (head.eye_left, head.eye_right):
        distance = np.linalg.norm(head.vertices - centre, axis=1) / head.eye_radius
        rim = np.clip((1.16 - distance) / 0.08, 0.0, 1.0) * face
        tone = tone * (1 - 0.7 * rim[:, None]) + 0.7 * rim[:, None] * base * np.array([0.72, 0.48, 0.45])

    rings = mesh.lip_rings
    lips = np.select([rings == 0, rings == 1, rings > 1], [0.45, 0.9, 1.0], 0.0)
    lip = np.array(subject.lip_color)
    deep = np.clip((rings - 2) / 4.0, 0.0, 1.0)[:, None]
    tone = tone * (1 - lips[:, None]) + lips[:, None] * lip * (1.0 - 0.35 * deep)
    cavity = rings > LIP_RINGS
    tone[cavity] = np.array([0.26, 0.06, 0.05])
    nostril = face * np.clip(1.0 - (np.hypot((side - 0.14) / 0.06, (z + 0.74) / 0.05)), 0.0, 1.0) * (y > -0.62)
    tone *= 1.0 - 0.6 * nostril[:, None]

    shine = spot((0.0, 0.75), 0.5, 0.4) + spot((0.0, -0.4), 0.16, 0.4) + 0.5 * spot((0.6, -0.4), 0.25, 0.15)
    furrow = (
        1.0 * spot((0.0, 0.75), 0.75, 0.3) + 0.9 * spot((0.98, -0.05), 0.18, 0.22) + 0.7 * spot((0.5, -0.3), 0.25, 0.1)
    )
    freckle = spot((0.55, -0.45), 0.4, 0.28) + spot((0.0, -0.35), 0.3, 0.3) + 0.45 * spot((0.0, 0.6), 0.9, 0.5)
    freckle += 0.25 * (z < 0.5)
    return SkinPaint(
        tone=np.clip(tone, 0.003, 0.9),
        shine=np.where(rings > 0, 1.2 + 0.8 * subject.makeup, np.clip(shine, 0.0, 1.0)),
        furrow=np.clip(furrow, 0.0, 1.0) * (rings < 0),
        freckle=np.clip(freckle, 0.0, 1.0) * (rings < 0),
    )


def _smooth_noise(points: np.ndarray, frequency: float, rng: np.random.Generator, waves: int = 12) -> np.ndarray:
    """Noise (V,) of unit variance at ``points`` (V, 3): a sum of random waves."""
    directions = rng.normal(size=(waves, 3)) * frequency
    phases = rng.uniform(0.0, 2.0 * np.pi, waves)
    return np.sqrt(2.0 / waves) * np.cos(points @ directions.T + phases).sum(axis=1)


def _skin_material(head: Head, subject: Subject, rng: np.random.Generator) -> bpy.types.Material:
    shader = Shader("skin")
    place = shader.node("TexCoord").outputs["Object"]
    x, y, z = rng.uniform(-10.0, 10.0, 3).tolist()
    place = shader.scaled(place, (1.0, 1.0, 1.0), (x, y, z))
    tone = shader.attribute("tone", "Color")
    old = {"young": 0.0, "middle-aged": 0.4, "old": 1.0}[subject.words.age]

    # mottled: vessels and pigment a few millimetres wide
    mottle = shader.noise(place, 170.0, 4.0, 0.6)
    tone = shader.mix(0.22 + 0.2 * subject.blotchiness, tone, mottle, "OVERLAY")
    if subject.freckle_density > 0.0:
        amount = shader.math("MULTIPLY", shader.attribute("freckle"), 0.5 * subject.freckle_density)
        tone = _spots(shader, tone, place, subject, amount, scale=260.0, size=0.40)
    if old > 0.3:
        amount = shader.math("MULTIPLY", shader.attribute("freckle"), 0.35 * old)
        tone = _spots(shader, tone, place, subject, amount, scale=75.0, size=0.22)
    for _ in range(int(rng.choice(4, p=[0.4, 0.3, 0.2, 0.1]))):
        tone = _mole(shader, tone, head, subject, rng)

    fine = shader.noise(place, 420.0, 3.0)
    coarse = shader.noise(place, 130.0, 3.0)
    height = shader.math("MULTIPLY", fine, 0.25 + 0.5 * subject.pores)
    height = shader.math("MULTIPLY_ADD", coarse, 0.3 + 0.7 * old, height)
    # lines across: noise that is long sideways and short upwards, bent a little
    bend = shader.noise(place, 14.0, 1.0)
    lines = shader.node("CombineXYZ", {0: bend, 1: 0.0, 2: bend}).outputs[0]
    lines = shader.node("VectorMath", {0: place, 1: (18.0, 18.0, 170.0), 2: lines}, operation="MULTIPLY_ADD").outputs[0]
    streak = shader.map_range(shader.noise(lines, 1.0, 2.0), 0.36, 0.5)
    depth = shader.math("MULTIPLY", shader.attribute("furrow"), 1.6 * subject.wrinkles)
    height = shader.math("MULTIPLY_ADD", streak, depth, height)
    bump = shader.node("Bump", {"Strength": 0.35 + 0.25 * old, "Distance": 0.0016, "Height": height})

    shine = shader.attribute("shine")
    rough = shader.math("MULTIPLY_ADD", shine, -0.06 - 0.12 * subject.oiliness, 0.56 - 0.08 * subject.oiliness)
    shader.set(base_color=tone, roughness=rough, normal=bump.outputs[0], specular_ior_level=0.42)
    shader.principled.subsurface_method = "BURLEY"
    shader.set(subsurface_weight=0.55, subsurface_radius=(1.0, 0.36, 0.2), subsurface_scale=0.006)
    return shader.material


def _spots(
    shader: Shader, tone: Socket, place: Socket, subject: Subject, amount: Socket, scale: float, size: float
) -> Socket:
    """Brown spots, one in a cell of about 1 / ``scale`` metres, most of them smaller than ``size`` cells."""
    cell = shader.node("TexVoronoi", {"Vector": place, "Scale": scale, "Randomness": 1.0})
    chance = shader.node("SeparateColor", {0: cell.outputs["Color"]}).outputs
    radius = shader.math("MULTIPLY", shader.math("POWER", chance[0], 1.5), size)
    inside = shader.math("SUBTRACT", radius, cell.outputs["Distance"])
    spot = shader.map_range(inside, -0.08, 0.12)
    factor = shader.math("MULTIPLY", spot, amount, clamp=True)
    r, g, b = subject.skin_color
    return shader.mix(factor, tone, (0.55 * r, 0.40 * g, 0.33 * b))


def _mole(shader: Shader, tone: Socket, head: Head, subject: Subject, rng: np.random.Generator) -> Socket:
    """One dark mole somewhere on the face."""
    places = head.relative(head.triangle_centres)
    face = (head.triangle_normals[:, 1] < -0.3) & (places[:, 2] < -0.35) & (places[:, 2] > -1.9)
    face &= (np.abs(places[:, 0]) > 0.15) & (np.abs(places[:, 0]) < 1.0)
    centre = head.triangle_centres[rng.choice(np.flatnonzero(face))]
    position = shader.node("TexCoord").outputs["Object"]
    distance = shader.node("VectorMath", {0: position, 1: tuple(centre.tolist())}, operation="DISTANCE").outputs[
        "Value"
    ]
    radius = float(rng.uniform(0.0011, 0.0022))
    factor = shader.map_range(distance, 0.7 * radius, 1.3 * radius, 0.75, 0.0)
    r, g, b = subject.skin_color
    return shader.mix(factor, tone, (0.22 * r, 0.15 * g, 0.13 * b))
