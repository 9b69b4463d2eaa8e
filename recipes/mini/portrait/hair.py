"""Hair: how its strands flow over the head, and the signed distance of its volume.

Strands start at the parting, a line from the front of the scalp back to the crown, and fall away from it to both
sides and to the front and back. Two coordinates follow them: ``across`` numbers the strands, ``along`` grows from
root to tip. Locks, waves and curls displace the volume in these coordinates; the fine strands are shading.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from recipes.mini.portrait.attire import ABSENT
from recipes.mini.portrait.head import Traits
from recipes.mini.portrait.sdf import bump, ellipsoid, ramp, smooth_intersection


class Flow(NamedTuple):
    """Strand coordinates at a point, and the horizontal direction in which its strand leaves the parting."""

    across: Tensor
    along: Tensor
    out_x: Tensor
    out_z: Tensor


def strand_flow(x: Tensor, y: Tensor, z: Tensor, t: Traits) -> Flow:
    """Strand coordinates in face space; units as the head's."""
    part_x = 0.32 * t["parting"]
    on_line = torch.clamp(z, -0.45, 0.25)
    dx, dz = x - part_x, z - on_line
    distance = torch.sqrt(dx * dx + dz * dz + 1e-4)
    # Round both ends of the parting the strands fan out; 0.5 turns the fan's angle into a comparable length.
    fan = torch.atan2(torch.abs(dx) + 1e-4, dz)
    across = torch.sign(dx) * (0.5 * fan - on_line + 2.0)
    along = distance - y
    wave = t["hair_wave"] * ramp(0.2, 1.0, along)
    across = across + wave * 0.045 * torch.sin(along * 9.0 + 1.7 * torch.sin(across * 5.0))
    return Flow(across, along, dx / distance, dz / distance)


def face_opening(x: Tensor, y: Tensor, t: Traits) -> Tensor:
    """Signed outline of the part of the face that hair leaves free (negative inside), seen from the front."""
    fringe, long_hair = t["fringe"], ramp(0.4, 0.55, t["hair_length"])
    ax = torch.abs(x)
    top = 0.74 + 0.045 * t["hairline"] + 0.16 * t["recession"] * (0.4 + bump(ax - 0.34, 0.16)) - 0.40 * fringe
    half_width = 0.605 + 0.03 * t["weight"] - 0.05 * long_hair * t["drape"]
    # The highest point of the opening lies under the parting; the exponent goes from a round arch to a curtain.
    shift = 0.28 * t["parting"] * ramp(0.15, 0.7, y) * (1.0 - fringe)
    power = 2.6 - 1.15 * t["drape"] * (1.0 - fringe) + 1.5 * fringe
    up = torch.clamp(y, min=0.0) / top
    down = torch.clamp(-y, min=0.0) * 0.10
    sideways = torch.abs(x - shift) / half_width
    total = torch.exp(power * torch.log(up + 1e-4)) + torch.exp(power * torch.log(sideways + 1e-4))
    return (torch.exp(torch.log(total) / power) - 1.0) * 0.6 + down


def hair_distance(x: Tensor, y: Tensor, z: Tensor, t: Traits) -> Tensor:
    """Distance to the hair's volume, in face coordinates."""
    flow = strand_flow(x, y, z, t)
    length, curl, volume = t["hair_length"], t["hair_curl"], t["hair_volume"]
    long_hair = ramp(0.42, 0.56, length)
    ends = 0.75 - 3.2 * length  # y of the tips at the sides: -1.1 at the shoulders, out of the picture when long
    thickness = 0.085 + 0.03 * volume + 0.055 * long_hair + 0.13 * length * (1.0 - long_hair) + 0.06 * curl
    drop = torch.clamp(-ends - 0.1, min=0.0) * long_hair + 0.02
    # Below the skull the shell is drawn out straight down, a little closer to the neck.
    lowered = y - 0.32
    lowered = lowered + torch.minimum(torch.clamp(-lowered, min=0.0), drop)
    below = torch.clamp(-y - 0.2, min=0.0)
    narrowing = 1.0 + long_hair * (0.10 * torch.clamp(below, max=1.0) - 0.12 * curl * torch.clamp(below, max=0.7))
    side = 0.705 + thickness * (0.55 + 0.35 * long_hair)
    shell = ellipsoid(
        x * narrowing, lowered - 0.5 * thickness, z + 0.13, side, 0.78 + 0.75 * thickness, 0.87 + thickness
    )
    tips = ramp(-0.2, 1.2, flow.along)
    locks = torch.sin(flow.across * 21.0 + 2.0 * torch.sin(flow.along * 1.7))
    locks = locks + 0.7 * torch.sin(flow.across * 37.0 + 1.3 + 1.4 * torch.sin(flow.along * 2.9))
    wave = t["hair_wave"] * torch.sin(flow.along * 9.0 + 1.7 * torch.sin(flow.across * 5.0))
    curls = torch.sin(x * 11.0 + 2.0 * torch.sin(z * 7.0)) * torch.sin(y * 11.0 + 2.0 * torch.sin(x * 8.0))
    curls = curls * torch.sin(z * 11.0 + 1.5 * torch.sin(y * 9.0))
    shell = shell - locks * (0.006 + 0.012 * tips) * (1.0 - 0.5 * curl) - 0.020 * wave * tips - 0.050 * curl * curls
    parting = bump(x - 0.32 * t["parting"], 0.035) * ramp(0.6, 0.8, y) * (1.0 - t["fringe"]) * (1.0 - 0.7 * curl)
    shell = shell + 0.035 * parting
    # The face stays free in front; short hair ends over the ears and lower at the nape, long hair in uneven tips.
    opening = face_opening(x, y, t) + 0.012 * locks + 0.03 * curl * curls
    front_plane = 0.02 - 0.10 * long_hair
    d = smooth_intersection(shell, -torch.maximum(opening, front_plane - z), 0.09)
    in_front = (z - 0.30 - 0.75 * torch.clamp(y + 0.20, min=0.0)) * 0.8
    d = smooth_intersection(d, in_front, 0.20)
    short_end = -0.05 - 0.12 * length - 0.75 * torch.clamp(-z - 0.12, 0.0, 0.8)
    end = short_end * (1.0 - long_hair) + ends * long_hair + 0.03 * locks
    d = smooth_intersection(d, (end - y) * 0.8, 0.05)
    return d + torch.where(t["baldness"] > 0.5, ABSENT, 0.0)
