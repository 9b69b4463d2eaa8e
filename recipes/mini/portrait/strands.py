"""How strands run: flow fields of the styles, and growth that follows flow and gravity and stays off skin.

All in head space (see `scalp`): the middle between the eyes is the origin, the eyes' distance the unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recipes.mini.portrait.radial import RadialSurface, radial_surface
from recipes.mini.portrait.scalp import SKULL, smoothstep, to_head_space

if TYPE_CHECKING:
    from recipes.mini.portrait.head import Head

CHEST = np.array([0.0, 1.6, -4.2])
"""A point inside the chest from which shoulders and collar are all in view."""
_WHORL = np.array([0.1, 2.1, 1.75])
"""Where the hair of the crown turns."""
_DOWN = np.array([0.0, 0.0, -1.0])


@dataclass(frozen=True)
class Growth:
    """Shape of a hair style; lengths in units of the eyes' distance."""

    style: str
    top: float
    """Length of strands on top."""
    side: float
    """Length at the sides and the nape."""
    cut: float
    """Height at which hanging hair is cut."""
    volume: float
    """Thickness of the layer of hair."""
    parting: float
    """Where the parting lies, to the subject's left."""
    fringe: bool
    fringe_height: float
    """Where the fringe ends above the eyes."""
    wave: float
    """Amplitude of waves or curls."""
    wavelength: float
    clump: float
    """How much strands draw together in locks, from 0 to 1."""
    curtain: float
    """How far from the middle of the face hair hangs."""
    bun: int
    """Tied hair: 0 a high bun, 1 a low one, 2 a tail."""
    quiff: float
    """How much the hair over the forehead stands up, from 0 to 1."""


_KEYS = {"cropped": 4, "short": 9, "side-parted": 11, "swept-back": 12, "bob": 16, "medium": 18, "long": 22}


def grow_style(
    growth: Growth, head: Head, roots: np.ndarray, normals: np.ndarray, edge: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Strands (S, K, 3) from roots (N, 3) with normals (N, 3) at distances (N,) from the hair's edge; S >= N."""
    vertices = to_head_space(head, head.vertices)
    middles = vertices[head.quads].mean(axis=1)
    kept = head.kept[head.quads].all(axis=1)
    skull = radial_surface(vertices, head.quads[kept & (middles[:, 2] > -1.6)], SKULL)
    if growth.style == "afro":
        return _afro(growth, roots, normals, edge, rng)
    if growth.style == "tied-back":
        return _tied(growth, skull, roots, edge, rng)
    body = radial_surface(vertices, head.quads[kept & (middles[:, 2] < -2.3)], CHEST)
    return _combed(growth, skull, body, roots, normals, edge, rng)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) at length 1."""
    return vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-12)


def flow(growth: Growth, points: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Direction (N, 3) in which hair is combed at points (N, 3); ``side`` (N,) is the side of the parting, -1 or 1."""
    x, y, z = points.T
    on_top = smoothstep(0.8, 1.4, z)
    front = smoothstep(1.1, -0.1, y)
    if growth.style in ("cropped", "short"):
        out = unit(points - _WHORL)
        out += np.stack([0.5 * side * front, -0.1 * front, 0.9 * growth.quiff * front * on_top], axis=1)
        out[:, 2] -= 0.4 * (1 - on_top)
        return out
    if growth.style == "side-parted":
        long_side = np.where(side * growth.parting < 0, 1.0, 0.0)
        across = np.stack([side, 0.35 - 0.5 * front * long_side, 0.35 * front * long_side], axis=1)
        down = np.stack([0.1 * side, np.full_like(x, 0.35), np.full_like(x, -1.0)], axis=1)
        return across * on_top[:, None] + down * (1 - on_top[:, None])
    if growth.style == "swept-back":
        back = np.stack([0.12 * np.sign(x), np.ones_like(x), 0.25 * front], axis=1)
        down = np.stack([0.0 * x, np.full_like(x, 0.9), np.full_like(x, -0.6)], axis=1)
        return back * on_top[:, None] + down * (1 - on_top[:, None])
    turned = smoothstep(0.35, 1.2, np.abs(x))
    spread = np.stack([side * (1 - 0.9 * turned), 0.25 + 0.25 * front, -0.15 - 0.9 * turned], axis=1)
    behind = np.stack([0.3 * side * (1 - turned), 0.6 * (1 - turned), -0.5 - 0.5 * turned], axis=1)
    is_back = smoothstep(1.5, 2.2, y)[:, None]
    return spread * (1 - is_back) + behind * is_back


def _combed(
    growth: Growth,
    skull: RadialSurface,
    body: RadialSurface,
    roots: np.ndarray,
    normals: np.ndarray,
    edge: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Grow strands step by step along the flow, bent by gravity, kept off head and shoulders."""
    count, keys = len(roots), _KEYS[growth.style]
    clumps = min(140, count)
    lock = _nearest(roots, roots[rng.choice(count, clumps, replace=False)])
    lock_noise = rng.normal(size=(clumps, 3))[lock]
    layer = rng.random(count)
    x, y, z = roots.T
    hanging = growth.cut > -8
    on_top = smoothstep(0.55, 1.25, z)
    length = growth.side + (growth.top - growth.side) * on_top
    length = length * np.exp(0.10 * rng.normal(size=count) + 0.06 * lock_noise[:, 0])
    # The parting wanders a little, and locks near it choose their side freely.
    wander = growth.parting + 0.05 * np.sin(4.0 * y) + 0.05 * lock_noise[:, 1] + 0.07 * rng.normal(size=count)
    side = np.where(x > wander, 1.0, -1.0)
    is_fringe = np.zeros(count, dtype=bool)
    if growth.fringe:
        is_fringe = (edge < 1.0) & (y < 0.75) & (np.abs(x) < 0.95 - 0.25 * edge) & (z > 0.8)
        length = np.where(is_fringe, 1.1 + edge, length)
    # A lock has strands of one side only, or the parting would be combed over.
    lock = np.unique(lock * 4 + 2 * (side > 0) + is_fringe, return_inverse=True)[1].ravel()
    if not hanging:
        length = length * (0.45 + 0.55 * smoothstep(0.0, 0.25, edge))
    loose = rng.random(count) < 0.03
    volume = growth.volume * (0.55 + 0.45 * smoothstep(0.6, 1.7, z)) * (0.25 + 0.75 * layer)
    if hanging:
        # Hair lies flat at the parting.
        volume = volume * (0.35 + 0.65 * smoothstep(0.05, 0.6, np.abs(x - growth.parting)))
    volume = np.where(loose, volume * 1.6 + 0.03, volume)
    step = length / (keys - 1)
    stiff = 0.45 if hanging else 0.5
    weight = 0.6 if hanging else (0.03 if growth.style == "cropped" else 0.12)
    lift = {"cropped": 1.0, "short": 0.55, "side-parted": 0.4, "swept-back": 0.45}.get(growth.style, 0.30)
    noise = 0.10 * lock_noise + (0.06 + (0.08 if hanging else 0.2) * loose)[:, None] * rng.normal(size=(count, 3))
    comb = unit(flow(growth, roots, side))
    forward = np.stack([0.12 * side, -np.ones(count), 0.1 - 0.5 * smoothstep(0.4, 0.0, edge)], axis=1)
    comb[is_fringe] = unit(forward[is_fringe])
    direction = unit(lift * normals + comb + 2 * noise)
    curtain = growth.curtain + 0.05 * lock_noise[:, 2] + 0.04 * rng.normal(size=count)
    points = np.empty((count, keys, 3))
    points[:, 0] = roots
    for k in range(1, keys):
        last = points[:, k - 1]
        travelled = step * k
        new = last + direction * step[:, None]
        margin = 0.02 + volume * np.minimum(1.0, travelled / 0.45)
        # The jaw and what lies below it do not hold hair away from the neck.
        new = skull.push_out(new, np.where(new[:, 2] > -0.9, margin, -9.0))
        if not hanging:
            new = _settle(skull, new, 1.3 * margin + 0.03, 0.5)
        inside = _before_face(new, curtain) & ~is_fringe
        if hanging:
            new = body.push_out(new, 0.18 + 0.10 * layer)
        direction = unit(new - last)
        points[:, k] = last + direction * step[:, None]
        normal = unit(points[:, k] - SKULL)
        comb = flow(growth, points[:, k], side)
        if growth.fringe:
            comb[is_fringe] = np.array([0.0, -0.5, -0.6]) + 0.15 * side[is_fringe, None] * np.array([1.0, 0.0, 0.0])
        comb = unit(comb - (comb * normal).sum(1, keepdims=True) * normal * 0.8)
        over = smoothstep(-0.6, 0.4, points[:, k, 2])[:, None]
        wanted = comb * over * (1.0 if not hanging else 0.6) + _DOWN * (weight + 0.5 * hanging * (1 - over)) + noise
        if hanging:
            px = points[:, k, 0]
            wanted[:, 0] -= 0.55 * np.sign(px) * smoothstep(1.25, 2.0, np.abs(px))
            # Hair that comes before the face is swept to its side before it falls.
            aside = np.stack(
                [1.6 * side, 0.35 + 0 * side, -0.35 - 0.5 * smoothstep(0.5, -0.5, points[:, k, 2])], axis=1
            )
            wanted = np.where(inside[:, None], 2.0 * aside, wanted)
        direction = unit(stiff * direction + (1 - stiff) * wanted)
    if hanging or growth.fringe:
        bottom = growth.cut + 0.12 * rng.normal(size=count) + 0.08 * lock_noise[:, 0]
        if growth.style == "long":
            bottom += 0.35 * rng.normal(size=count)
        ragged = growth.fringe_height + 0.05 * rng.normal(size=count) + 0.10 * np.abs(x)
        points = cut_below(points, np.where(is_fringe, ragged, bottom))
    points = _draw_together(points, lock, rng, growth.clump * np.where(loose, 0.1, np.where(is_fringe, 0.5, 1.0)))
    return _curl(points, growth.wave, growth.wavelength, lock, length / length.mean(), rng)


def _settle(skull: RadialSurface, points: np.ndarray, height: np.ndarray, share: float) -> np.ndarray:
    """Points (N, 3) that stand higher than ``height`` (N,) over the head, drawn back by a share of the excess."""
    offset = points - skull.centre
    distance = np.linalg.norm(offset, axis=1)
    excess = np.maximum(distance - skull.at(points) - height, 0.0)
    return points - offset * (share * excess / distance)[:, None]


def _before_face(points: np.ndarray, curtain: np.ndarray) -> np.ndarray:
    """Which points (N, 3) lie before the face, nearer to its middle than ``curtain`` (N,)."""
    x, y, z = points.T
    opening = curtain * np.clip((1.35 - z) / 0.75, 0.0, 1.0) ** 0.5
    opening = opening * (1 - 0.25 * smoothstep(-1.0, -2.4, z))
    return (y < 0.85) & (np.abs(x) < opening)


def cut_below(points: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Shorten strands (S, K, 3) where they first fall below a height (S,), keeping K points spread evenly."""
    count, keys, _ = points.shape
    below = points[:, :, 2] < height[:, None]
    below[:, :2] = False
    first = np.where(below.any(axis=1), below.argmax(axis=1), keys - 1)
    z0, z1 = points[np.arange(count), first - 1, 2], points[np.arange(count), first, 2]
    part = np.where(below.any(axis=1), np.clip((z0 - height) / np.maximum(z0 - z1, 1e-6), 0.0, 1.0), 1.0)
    end = first - 1 + part
    at = end[:, None] * np.linspace(0.0, 1.0, keys)
    low = np.minimum(at.astype(int), keys - 2)
    rest = (at - low)[..., None]
    rows = np.arange(count)[:, None]
    return points[rows, low] * (1 - rest) + points[rows, low + 1] * rest


def _nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Index (N,) of the nearest of the centres (C, 3) to each of the points (N, 3)."""
    square = (centres * centres).sum(1) - 2 * points @ centres.T
    return square.argmin(axis=1)


def _draw_together(points: np.ndarray, lock: np.ndarray, rng: np.random.Generator, strength: np.ndarray) -> np.ndarray:
    """Draw the strands (S, K, 3) of each lock (S,) towards its mean, more so at their tips."""
    locks = int(lock.max()) + 1
    total = np.zeros((locks, *points.shape[1:]))
    np.add.at(total, lock, points)
    mean = total / np.maximum(np.bincount(lock, minlength=locks), 1)[:, None, None]
    along = np.linspace(0.0, 1.0, points.shape[1])[None, :, None]
    pull = np.broadcast_to(strength, (len(points),))[:, None, None] * along**0.8
    return points + pull * (mean[lock] - points)


def _curl(
    points: np.ndarray,
    amplitude: float,
    wavelength: float,
    lock: np.ndarray,
    scale: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Wind strands (S, K, 3) into waves; the strands of a lock (S,) wave together."""
    steps = np.linalg.norm(np.diff(points, axis=1), axis=2)
    arc = np.concatenate([np.zeros((len(points), 1)), np.cumsum(steps, axis=1)], axis=1)
    locks = int(lock.max()) + 1
    phase = (2 * np.pi * rng.random(locks))[lock] + 0.8 * rng.normal(size=len(points))
    rate = np.exp(0.15 * rng.normal(size=locks))[lock]
    angle = phase[:, None] + 2 * np.pi * arc / wavelength * rate[:, None]
    tangent = unit(np.gradient(points, axis=1))
    outward = unit(points - SKULL)
    across = unit(np.cross(tangent, outward))
    up = np.cross(across, tangent)
    grown = smoothstep(0.0, min(0.8, 3 * wavelength), arc) * amplitude
    return points + (across * np.cos(angle)[..., None] + 0.7 * up * (np.sin(angle) + 0.3)[..., None]) * grown[..., None]


def _afro(
    growth: Growth, roots: np.ndarray, normals: np.ndarray, edge: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Strands that stand off the head in a round cloud of tight curls."""
    count, keys = len(roots), 14
    middle = np.array([0.0, 1.32, 0.72])
    offset = roots - middle + 0.16 * rng.normal(size=(count, 3)) + 0.15 * normals
    distance = np.linalg.norm(offset, axis=1)
    # Ends fill the outer shell of a ball; below it, and at the hair's edge, strands are short.
    reach = (1.50 + 0.75 * growth.top) * rng.uniform(0.66, 1.03, count) ** 0.5
    reach = np.maximum(reach, distance + 0.12)
    depth = np.minimum(reach - distance, 1.5 * growth.top) * (0.55 + 0.45 * smoothstep(0.0, 0.3, edge))
    outward = unit(offset)
    along = np.linspace(0.0, 1.0, keys)
    points = roots[:, None] + outward[:, None] * (depth[:, None] * along)[..., None]
    lock = _nearest(roots, roots[rng.choice(count, min(400, count), replace=False)])
    points = _draw_together(points, lock, rng, np.full(count, 0.25))
    return _curl(points, growth.wave, growth.wavelength, np.arange(count), np.ones(count), rng)


def _tied(
    growth: Growth, skull: RadialSurface, roots: np.ndarray, edge: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Strands drawn over the skull to a knot, and the bun or tail behind it."""
    count, keys = len(roots), 14
    knot_way = unit(np.array([[0.0, 0.62, 0.80], [0.0, 0.98, -0.15], [0.0, 0.95, 0.35]])[growth.bun])
    start = unit(roots - SKULL)
    angle = np.arccos(np.clip(start @ knot_way, -1.0, 1.0))[:, None, None]
    along = np.linspace(0.0, 1.0, keys)[None, :, None]
    way = (np.sin((1 - along) * angle) * start[:, None] + np.sin(along * angle) * knot_way) / (np.sin(angle) + 1e-6)
    way = unit(way)
    layer = rng.random((count, 1))
    flat = (SKULL + way * 3.0).reshape(-1, 3)
    radius = skull.at(flat).reshape(count, keys)
    lift = growth.volume * (0.2 + 0.8 * layer) * np.minimum(1.0, along[..., 0] * 5) + 0.02
    root_radius = np.linalg.norm(roots - SKULL, axis=1)[:, None]
    blend = np.minimum(1.0, along[..., 0] * 3)
    radius = root_radius * (1 - blend) + radius * blend
    points = SKULL + way * (radius + lift)[..., None]
    lock = _nearest(roots, roots[rng.choice(count, min(90, count), replace=False)])
    points = _draw_together(points, lock, rng, np.full(count, 0.3))
    points = _curl(points, 0.35 * growth.wave, growth.wavelength * 1.3, lock, np.ones(count), rng)
    points[:, 0] = roots
    knot = SKULL + knot_way * (float(skull.at(SKULL + knot_way[None] * 3.0)[0]) + 0.25)
    extra = _tail(knot, growth, keys, rng) if growth.bun == 2 else _bun(knot, keys, rng)
    return np.concatenate([points, extra])


def _bun(knot: np.ndarray, keys: int, rng: np.random.Generator) -> np.ndarray:
    """Coils on an ellipsoid."""
    count = 500
    size = np.array([0.52, 0.45, 0.42]) * rng.uniform(0.85, 1.15)
    pole = unit(rng.normal(size=(count, 3)) * 0.35 + np.array([0.0, 0.8, 0.6]))
    a = unit(np.cross(pole, rng.normal(size=(count, 3))))
    b = np.cross(pole, a)
    angle = np.linspace(0.0, 3.6, keys) + 2 * np.pi * rng.random((count, 1))
    height = rng.uniform(-0.85, 0.85, (count, 1))
    ring = np.sqrt(1 - height**2)
    shell = rng.uniform(0.8, 1.0, (count, 1))[..., None]
    around = a[:, None] * np.cos(angle)[..., None] + b[:, None] * np.sin(angle)[..., None]
    return knot + shell * (around * ring[..., None] + pole[:, None] * height[..., None]) * size


def _tail(knot: np.ndarray, growth: Growth, keys: int, rng: np.random.Generator) -> np.ndarray:
    """A tail that falls from the knot."""
    count = 500
    along = np.linspace(0.0, 1.0, keys)
    spread = rng.normal(size=(count, 1, 3)) * 0.10 * (0.6 + 1.6 * np.sin(np.pi * along * 0.8))[None, :, None]
    length = rng.uniform(2.2, 3.4, (count, 1))
    path = np.stack([0 * along, 0.55 * np.sin(along * 2.2), 0.15 * along - 1.0 * along**1.5], axis=1)
    points = knot + spread + path[None] * length[..., None] * np.array([1.0, 0.4, 1.0])
    return _curl(points, growth.wave, growth.wavelength, np.arange(count) % 40, np.ones(count), rng)
