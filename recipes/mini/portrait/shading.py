"""Light on surfaces: relief to normals, skin with scattering per channel, hair with highlights along the strands."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from recipes.mini.portrait import scene, surfaces
from recipes.mini.portrait.camera import Surface
from recipes.mini.portrait.lighting import Studio, microfacet, occlusion_and_shadow, wrapped
from recipes.mini.portrait.sdf import ramp
from recipes.mini.portrait.skin import rgb, skin_points
from recipes.mini.portrait.subject import Subject

_SCATTER = (0.45, 0.24, 0.14)
"""Wrap of the diffuse light in red, green and blue: red travels farthest through skin."""


@dataclass(frozen=True)
class Shaded:
    """Scene-linear colour (3, n) and cover (n) of a surface's pixels."""

    colour: Tensor
    cover: Tensor


def shared_visibility(
    surface: Surface, labels: Tensor, light: Tensor, packed: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """Occlusion and shadow, computed once for each 2x2 block of pixels wherever the block is one smooth surface."""
    row, column = surface.index // size, surface.index % size
    representative = (row - row % 2) * size + column - column % 2
    slot = torch.full((size * size,), -1)
    slot[surface.index] = torch.arange(surface.index.numel())
    chosen = slot[representative]
    safe = chosen.clamp(min=0)
    alike = (chosen >= 0) & (labels[safe] == labels) & ((surface.depth[safe] - surface.depth).abs() < 0.06)
    source = torch.where(alike, safe, torch.arange(safe.numel()))
    needed = torch.zeros(safe.numel(), dtype=torch.bool)
    needed[source] = True
    picked = needed.nonzero().view(-1)
    ambient, shadow = occlusion_and_shadow(surface.points[:, picked], surface.normals[:, picked], light, packed)
    place = torch.empty(safe.numel(), dtype=torch.long)
    place[picked] = torch.arange(picked.numel())
    return ambient[place[source]], shadow[place[source]]


def relief_normals(surface: Surface, relief: Tensor, labels: Tensor, size: int) -> Tensor:
    """Normals bent by ``relief`` (head units), from its differences on screen.

    Mikkelsen, "Bump mapping unparametrized surfaces on the GPU" (2010). Pixels at the border of a material keep
    their smooth normal, as differences across it mean nothing; steep slopes are bounded.
    """
    grid = torch.zeros(5, size * size)
    grid[:3, surface.index] = surface.points
    grid[3, surface.index] = relief
    grid[4, surface.index] = labels.float() + 1.0
    grid = grid.view(5, size, size)
    right, down = torch.zeros_like(grid), torch.zeros_like(grid)
    right[:, :, 1:-1] = (grid[:, :, 2:] - grid[:, :, :-2]) * 0.5
    down[:, 1:-1] = (grid[:, 2:] - grid[:, :-2]) * 0.5
    right, down = right.view(5, -1)[:, surface.index], down.view(5, -1)[:, surface.index]
    same = (right[4] == 0) & (down[4] == 0)
    normal = surface.normals
    across, along = torch.linalg.cross(down[:3], normal, dim=0), torch.linalg.cross(normal, right[:3], dim=0)
    determinant = (right[:3] * across).sum(0)
    slope = torch.sign(determinant) * (right[3] * across + down[3] * along) / determinant.abs().clamp(min=2e-5)
    steepness = slope.square().sum(0).sqrt()
    slope = torch.where(same, slope / (1.0 + steepness / 1.3), torch.zeros_like(slope))
    return functional.normalize(normal - slope, dim=0)


def shade_body(surface: Surface, subject: Subject, packed: Tensor, lights: Studio, seed: int, size: int) -> Shaded:
    """Everything but hair."""
    traits = scene.traits_of(packed)
    parts = scene.body_parts(*surface.coordinates, packed)
    labels = parts[:5].argmin(0)
    face, opening = parts[5:8], parts[8]
    skin = skin_points(face, opening, subject, traits, seed)
    cloth_relief, cloth_colour = surfaces.cloth(surface.points, subject, seed)
    is_skin, is_eye, is_teeth = labels == scene.SKIN, labels == scene.EYE, labels == scene.TEETH
    is_cloth, is_frame = labels == scene.CLOTH, labels == scene.FRAME
    albedo = torch.where(is_skin, skin.albedo, cloth_colour)
    if subject.baldness < 0.5:
        # Skin under the hair's edge is shaded by it and shows roots.
        roots = ramp(0.035, -0.02, scene.hair_distance(*surface.coordinates, packed)) * ramp(-0.9, -0.6, face[1])
        roots = torch.where(is_skin, 0.72 * roots, 0.0)
        albedo = albedo * (1.0 - roots) + 0.6 * rgb(*subject.colour("hair")) * roots
    albedo = torch.where(is_eye, surfaces.eye_albedo(face, subject, traits, seed), albedo)
    albedo = torch.where(is_teeth, surfaces.teeth_albedo(face), albedo)
    albedo = torch.where(is_frame, surfaces.frame_albedo(subject), albedo)
    relief = torch.where(is_skin, skin.relief, torch.where(is_cloth, cloth_relief, 0.0))
    normal = relief_normals(surface, relief, labels, size)
    ambient, shadow = shared_visibility(surface, labels, lights.key, packed, size)
    # Teeth are bright in a dark mouth: light that bounces between them is more than occlusion alone allows.
    ambient, shadow = torch.where(is_teeth, 0.75, ambient), torch.where(is_teeth, 0.55, shadow)

    smooth = surface.normals
    red = functional.normalize(0.35 * normal + 0.65 * smooth, dim=0)
    green = functional.normalize(0.75 * normal + 0.25 * smooth, dim=0)
    scattered = torch.stack([wrapped(n, lights.key, w) for n, w in zip((red, green, normal), _SCATTER, strict=True)])
    scattered = scattered * torch.stack((shadow**0.6, shadow**0.85, shadow))
    plain = wrapped(normal, lights.key, 0.08) * shadow
    diffuse = torch.where(is_skin, scattered, plain)
    # Light bounces between lit skin: its occlusion is reddish, never black.
    dimming = torch.where(is_skin, torch.stack((ambient**0.7, ambient, ambient**1.05)), ambient)
    up = 0.5 + 0.5 * normal[1]
    around = (lights.sky * up + lights.floor * (1.0 - up)) * dimming
    filling = lights.fill_colour * wrapped(normal, lights.fill, 0.5) * dimming
    colour = albedo * (diffuse * lights.key_colour + around + filling)

    view = surface.towards_camera
    half = functional.normalize(lights.key + view, dim=0)
    half_cosine = (normal * half).sum(0).clamp(0.0, 1.0)
    facing = (normal * view).sum(0).clamp(0.03, 1.0)
    lit = (normal * lights.key).sum(0).clamp(0.0, 1.0)
    fresnel = 0.035 + 0.965 * (1.0 - (view * half).sum(0).clamp(0.0, 1.0)) ** 5
    base = fresnel * lit / (4.0 * facing * 0.5 + 0.35)
    oil = (microfacet(half_cosine, 0.50) * 0.8 + microfacet(half_cosine, 0.34) * 0.2) * skin.gloss
    wet = microfacet(half_cosine, 0.12) * 1.6
    shine = torch.where(is_skin, oil, torch.where(is_eye | is_teeth, wet, torch.where(is_frame, 2.0 * wet, 0.08 * oil)))
    colour = colour + shine * base * shadow * lights.key_colour
    rim = (smooth * lights.rim).sum(0).clamp(min=0.0) * (1.0 - facing.clamp(max=1.0)).clamp(max=0.85) ** 2 * ambient
    colour = colour + rim * (0.8 * albedo + 0.04) * lights.rim_colour

    # The softbox mirrored in the cornea, and the shade of upper lid and lashes on the eyeball.
    mirrored = 2.0 * (smooth * view).sum(0) * smooth - view
    window = functional.normalize(lights.key + rgb(0.0, 0.15, 0.9), dim=0)
    lid_shade = 0.50 + 0.50 * ramp(0.0, 0.055, opening)
    catchlight = ramp(0.955, 0.985, (mirrored * window).sum(0)) * ramp(0.0, 0.02, opening)
    colour = torch.where(is_eye, colour * lid_shade + 0.95 * catchlight, colour)
    return Shaded(colour, torch.ones_like(opening))


def shade_hair(
    surface: Surface, body_depth: Tensor, subject: Subject, packed: Tensor, lights: Studio, seed: int, size: int
) -> Shaded:
    """Hair: Kajiya-Kay highlights along the strands, darker roots and gaps, cover that frays at its edges.

    ``body_depth`` is the depth of everything else along the same rays, infinite where there is nothing.
    """
    traits = scene.traits_of(packed)
    face = scene.face_coordinates(*surface.coordinates, packed)
    coarse, fine, direction = surfaces.strands(face, subject, traits, seed)
    to_world = scene.head_rotation(subject).T
    labels = torch.zeros_like(surface.index)
    normal = relief_normals(surface, 0.010 * coarse + 0.006 * fine, labels, size)
    ambient, shadow = shared_visibility(surface, labels, lights.key, packed, size)
    hair = rgb(*subject.colour("hair"))
    albedo = hair * torch.exp((0.30 * coarse + 0.34 * fine).clamp(-1.2, 0.9))

    tangent = to_world @ direction
    tangent = functional.normalize(tangent - surface.normals * (tangent * surface.normals).sum(0), dim=0)
    # Cuticle scales tilt the highlight, differently from strand to strand.
    view = surface.towards_camera
    half = functional.normalize(lights.key + view, dim=0)
    primary = _along_strand(tangent, surface.normals * (0.10 + 0.14 * coarse + 0.10 * fine), half, 60.0)
    secondary = _along_strand(tangent, surface.normals * (-0.16 + 0.16 * fine), half, 14.0)
    soft = wrapped(surface.normals, lights.key, 0.35) * shadow
    diffuse = wrapped(normal, lights.key, 0.30) * (0.35 + 0.65 * shadow)
    up = 0.5 + 0.5 * normal[1]
    around = (
        lights.sky * up + lights.floor * (1.0 - up) + lights.fill_colour * wrapped(normal, lights.fill, 0.5)
    ) * ambient
    colour = albedo * (0.9 * diffuse * lights.key_colour + around)
    sheen = 0.11 * primary * (0.25 + hair.sqrt()) + 0.32 * secondary * albedo.clamp(max=0.6)
    colour = colour + sheen * soft * lights.key_colour * ambient
    facing = (surface.normals * view).sum(0).clamp(0.0, 1.0)
    rim = (surface.normals * lights.rim + 0.1).sum(0).clamp(min=0.0) * (1.0 - facing).clamp(max=0.75) ** 2
    colour = colour + rim * (0.7 * albedo + 0.02) * lights.rim_colour * ambient

    depth_over_skin = scene.body_distance(*surface.coordinates, packed)
    rooted = ramp(-0.005, 0.06, depth_over_skin + 0.020 * coarse + 0.014 * fine)
    # Only where skin lies right behind it does hair thin out at its roots; beside the face it hides the backdrop.
    rooted = torch.where(body_depth - surface.depth < 0.30, rooted, 1.0)
    # Share of hair in each pixel's neighbourhood: about a half at the outline, where single strands let light through.
    window = size // 28 | 1
    mask = torch.zeros(1, 1, size, size)
    mask.view(-1)[surface.index] = 1.0
    share = functional.avg_pool2d(mask, window, stride=1, padding=window // 2, count_include_pad=False)
    share = share.view(-1)[surface.index]
    frayed = ramp(0.42, 0.72, share + 0.10 * fine + 0.07 * coarse)
    return Shaded(colour, rooted * frayed)


def _along_strand(tangent: Tensor, tilt: Tensor, half: Tensor, exponent: float) -> Tensor:
    """Kajiya-Kay specular term: the sine between strand and half vector to a power."""
    cosine = (functional.normalize(tangent + tilt, dim=0) * half).sum(0)
    return torch.sqrt((1.0 - cosine * cosine).clamp(min=0.0)) ** exponent
