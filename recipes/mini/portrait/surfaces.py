"""Materials other than skin: eyes, teeth, cloth, glasses' frames and hair strands."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as functional
from torch import Tensor

from recipes.mini.portrait import head
from recipes.mini.portrait.hair import strand_flow
from recipes.mini.portrait.noise import noise
from recipes.mini.portrait.sdf import bump, ramp
from recipes.mini.portrait.skin import rgb
from recipes.mini.portrait.subject import Subject


def eye_albedo(face: Tensor, subject: Subject, traits: dict[str, Tensor], seed: int) -> Tensor:
    """Colour of the eyeball (3, n): sclera with a faint pink rim, fibrous iris with a dark ring, pupil."""
    marks = head.landmarks(traits)
    radius = float(marks.eye_radius)
    local = torch.stack((face[0] - torch.sign(face[0]) * marks.eye_x, face[1], face[2] - head.EYE_DEPTH)) / radius
    # The eyes turn most of the way back to the camera when the head turns away from it.
    gaze = torch.tensor(
        [[subject.gaze_x - 0.75 * math.sin(subject.yaw)], [subject.gaze_y + 0.7 * math.sin(subject.pitch)], [1.0]]
    )
    gaze = functional.normalize(gaze, dim=0)
    cosine = (local * gaze).sum(0)
    radial = torch.where(cosine > 0, torch.sqrt((1.0 - cosine * cosine).clamp(min=0.0)), torch.ones_like(cosine))
    angle = torch.atan2(local[1] - gaze[1], local[0] - gaze[0])
    fibres = noise(torch.cos(angle) * 7.0, torch.sin(angle) * 7.0, radial * 3.0 + float(seed % 17))
    iris = rgb(*subject.colour("iris")) * (1.0 + 0.30 * fibres).clamp(0.3, 2.0)
    iris = iris * (1.0 + 0.5 * bump(radial - 0.24, 0.07)) * 0.72 * (1.0 - 0.75 * ramp(0.34, 0.43, radial))
    sclera = rgb(0.58, 0.55, 0.53) * (1.0 - 0.30 * ramp(0.62, 1.0, radial) * rgb(0.35, 1.0, 1.0))
    inside = ramp(0.455, 0.415, radial)
    colour = sclera * (1.0 - inside) + iris * inside
    return colour * (1.0 - 0.97 * ramp(0.20, 0.155, radial))


def teeth_albedo(face: Tensor) -> Tensor:
    """Colour of the teeth (3, n), with the gaps between them."""
    x, _, _ = face
    position = x.abs() / 0.075
    gap = bump((position - torch.round(position)) * 0.075, 0.006)
    depth = ramp(0.26, 0.10, x.abs())
    return rgb(0.90, 0.83, 0.73) * (1.0 - 0.22 * gap) * (0.45 + 0.55 * depth)


def cloth(points: Tensor, subject: Subject, seed: int) -> tuple[Tensor, Tensor]:
    """Relief (n) and colour (3, n) of the garment at world points: knitted wales or woven threads, seams, folds."""
    x, y, z = points
    shift = float(seed % 37)
    folds = noise(x * 2.2 + shift, y * 2.2, z * 2.2)
    if subject.sweater > 0.5:
        # Rows of V-shaped stitches: wales run down, each half slants against the other.
        wale = x * 26.0 / math.pi
        slant = (wale - torch.floor(wale) - 0.5).abs() * 2.0
        stitch = torch.sin(y * 60.0 + slant * 3.0) * torch.cos((slant - 0.5) * math.pi)
        relief, tint = 0.03 * folds + 0.006 * stitch, 0.10 * stitch
    else:
        weave = torch.sin(x * 95.0) * torch.sin(y * 95.0)
        placket = bump(x - 0.07, 0.012) * ramp(-1.45, -1.55, y)
        relief, tint = 0.045 * folds + 0.0015 * weave, 0.04 * weave - 0.25 * placket
    return relief, rgb(*subject.colour("clothing")) * (1.0 + tint)


def frame_albedo(subject: Subject) -> Tensor:
    """Colour of the glasses' frame (3, 1)."""
    return rgb(0.42, 0.27, 0.10) if subject.frame_gold > 0.5 else rgb(0.02, 0.02, 0.022)


def strands(face: Tensor, subject: Subject, traits: dict[str, Tensor], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Hair strands at face coordinates: coarse and fine strand noise (n each) and the strands' direction (3, n)."""
    x, y, z = face
    flow = strand_flow(x, y, z, traits)
    shift = float(seed % 53)
    curl = subject.hair_curl
    # Curls wind the strand coordinate about itself, in bundles of a few centimetres.
    winding = curl * (0.10 * torch.sin(flow.along * 16.0 + 9.0 * flow.across) + 0.05 * noise(x * 9.0, y * 9.0, z * 9.0))
    across, along = flow.across + winding, flow.along
    coarse = noise(across * 34.0 + shift, along * 1.6, 0.7 * along + shift)
    fine = noise(across * 78.0, along * 2.6 + shift, 1.1 * along)
    slope = subject.hair_wave * 0.40 * torch.cos(along * 9.0 + 1.7 * torch.sin(flow.across * 5.0))
    slope = slope + curl * 1.1 * torch.cos(along * 16.0 + 9.0 * flow.across)
    direction = torch.stack((flow.out_x - slope * flow.out_z, -torch.ones_like(x), flow.out_z + slope * flow.out_x))
    return coarse, fine, functional.normalize(direction, dim=0)
