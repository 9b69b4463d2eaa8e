"""The studio backdrop: a smooth gradient of one colour, in some pictures with a few large blurred lights."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from recipes.mini.portrait.sdf import ramp
from recipes.mini.portrait.skin import rgb
from recipes.mini.portrait.subject import Subject


def backdrop(subject: Subject, seed: int, size: int) -> Tensor:
    """Display-linear backdrop (3, size, size)."""
    line = (torch.arange(size) + 0.5) / size * 2.0 - 1.0
    down, right = torch.meshgrid(line, line, indexing="ij")
    tilt = 0.10 * (subject.background_tilt_x * right - subject.background_tilt_y * down)
    glow = 0.16 * subject.background_glow * (1.0 - 0.8 * (right * right + (down + 0.1) ** 2))
    colour = rgb(*subject.colour("background")).view(3, 1, 1)
    picture = colour * (1.0 + tilt + glow)
    if subject.bokeh > 0.0:
        generator = np.random.Generator(np.random.PCG64([seed, 7]))
        for _ in range(7):
            x, y, radius = generator.uniform(-1, 1), generator.uniform(-1, 0.6), generator.uniform(0.14, 0.34)
            disc = ramp(radius + 0.06, radius - 0.06, torch.sqrt((right - x) ** 2 + (down - y) ** 2))
            strength = 0.16 * subject.bokeh * generator.uniform(0.3, 1.0)
            picture = picture + disc * strength * (0.75 * colour + 0.06)
    return picture.clamp(0.0, 1.0)
