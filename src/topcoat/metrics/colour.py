"""Colour as people see it: CIELAB, CIEDE2000, and the tone of skin.

Skin tone is the individual typology angle (ITA), ``atan2(L* - 50, b*)`` in degrees: about 55 and more for very light,
-30 and less for dark skin (Chardon et al. 1991). It is read from skin pixels alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from topcoat.errors import UsageError
from topcoat.metrics.base import MeanMetric, PerImage
from topcoat.metrics.embed import Batch

_RGB_TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
"""Linear sRGB to XYZ, D65 (IEC 61966-2-1)."""
_MIN_SKIN_SHARE = 0.01
"""An image with less skin than this share of its pixels has no skin tone that could be read."""
_CB_RANGE, _CR_RANGE = (77, 127), (133, 173)
_LOCAL_GRID = 16
"""Patches a side for `patch_colours`."""


def to_lab(images: Tensor) -> Tensor:
    """``(N, 3, H, W)`` CIELAB (L* 0 to 100, a*, b*; D65) of sRGB images ``(N, 3, H, W)`` in [0, 1]."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise UsageError(f"CIELAB needs images (N, 3, H, W), not {tuple(images.shape)}")
    linear = torch.where(images <= 0.04045, images / 12.92, ((images.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)
    matrix = torch.tensor(_RGB_TO_XYZ, dtype=images.dtype, device=images.device)
    matrix = matrix / matrix.sum(dim=1, keepdim=True)  # relative to white, whose linear RGB is (1, 1, 1)
    x, y, z = _lab_curve(torch.einsum("nchw,kc->nkhw", linear, matrix)).unbind(dim=1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def ciede2000(a: Tensor, b: Tensor) -> Tensor:
    """``(...)`` float64 colour differences of CIELAB colours ``(..., 3)``; about 1 is just visible side by side.

    Sharma, Wu and Dalal 2005, eq. 2 to 22, with kL = kC = kH = 1.
    """
    if a.shape[-1:] != (3,) or b.shape[-1:] != (3,):
        raise UsageError(f"CIEDE2000 needs colours (..., 3), not {tuple(a.shape)} and {tuple(b.shape)}")
    light_a, red_a, yellow_a = a.to(torch.float64).unbind(dim=-1)
    light_b, red_b, yellow_b = b.to(torch.float64).unbind(dim=-1)
    seventh = ((torch.hypot(red_a, yellow_a) + torch.hypot(red_b, yellow_b)) / 2) ** 7
    stretch = 1 + 0.5 * (1 - (seventh / (seventh + 25.0**7)).sqrt())
    chroma_a, chroma_b = torch.hypot(red_a * stretch, yellow_a), torch.hypot(red_b * stretch, yellow_b)
    hue_a, hue_b = (torch.rad2deg(torch.atan2(y, x * stretch)) % 360 for x, y in ((red_a, yellow_a), (red_b, yellow_b)))
    grey = chroma_a * chroma_b == 0
    turn = hue_b - hue_a
    turn = torch.where(turn > 180, turn - 360, torch.where(turn < -180, turn + 360, turn))
    turn = torch.where(grey, torch.zeros_like(turn), turn)
    chroma = (chroma_a + chroma_b) / 2
    across = torch.where(hue_a + hue_b < 360, hue_a + hue_b + 360, hue_a + hue_b - 360)
    hue = torch.where((hue_a - hue_b).abs() <= 180, hue_a + hue_b, across) / 2
    hue = torch.where(grey, hue_a + hue_b, hue)
    lightness = ((light_a + light_b) / 2 - 50).square()
    weight = (
        1
        - 0.17 * _cosine(hue - 30)
        + 0.24 * _cosine(2 * hue)
        + 0.32 * _cosine(3 * hue + 6)
        - 0.20 * _cosine(4 * hue - 63)
    )
    light = (light_b - light_a) / (1 + 0.015 * lightness / (20 + lightness).sqrt())
    colour = (chroma_b - chroma_a) / (1 + 0.045 * chroma)
    tint = 2 * (chroma_a * chroma_b).sqrt() * torch.sin(torch.deg2rad(turn / 2)) / (1 + 0.015 * chroma * weight)
    seventh = chroma**7
    rotation = (
        -2
        * (seventh / (seventh + 25.0**7)).sqrt()
        * torch.sin(torch.deg2rad(60 * torch.exp(-(((hue - 275) / 25) ** 2))))
    )
    return (light.square() + colour.square() + tint.square() + rotation * colour * tint).clamp_min(0).sqrt()


def colour_difference(a: Tensor, b: Tensor) -> Tensor:
    """``(N,)`` float64 mean CIEDE2000 of the same patches of images, both ``(N, G, G, 3)`` of `patch_colours`."""
    return ciede2000(a, b).mean(dim=(1, 2))


def patch_colours(images: Tensor) -> Tensor:
    """``(N, 16, 16, 3)`` CIELAB of images ``(N, 3, H, W)`` averaged over patches (fewer for images of fewer pixels).

    Patches leave texture out: this is about colour that a person would call another.
    """
    grid = (min(_LOCAL_GRID, images.shape[-2]), min(_LOCAL_GRID, images.shape[-1]))
    return to_lab(functional.adaptive_avg_pool2d(images, grid)).permute(0, 2, 3, 1)


def skin_mask(images: Tensor) -> Tensor:
    """``(N, H, W)`` bool: pixels of the middle of a portrait whose hue is that of human skin of any tone.

    Hue by the YCbCr box of Chai and Ngan 1999 (Cb 77 to 127, Cr 133 to 173 of 255), which leaves lightness free; only
    the central ellipse, 0.6 of the image wide and 0.8 high, because warm backgrounds and clothes have that hue too.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise UsageError(f"skin is looked for in images (N, 3, H, W), not {tuple(images.shape)}")
    red, green, blue = (images * 255).unbind(dim=1)
    cb = 128 - 0.168736 * red - 0.331264 * green + 0.5 * blue
    cr = 128 + 0.5 * red - 0.418688 * green - 0.081312 * blue
    hue = (cb >= _CB_RANGE[0]) & (cb <= _CB_RANGE[1]) & (cr >= _CR_RANGE[0]) & (cr <= _CR_RANGE[1])
    down = torch.linspace(-1, 1, images.shape[2], device=images.device).unsqueeze(1)
    across = torch.linspace(-1, 1, images.shape[3], device=images.device).unsqueeze(0)
    return hue & ((down / 0.8) ** 2 + (across / 0.6) ** 2 <= 1)


def skin_colour(images: Tensor, mask: Tensor) -> Tensor:
    """``(N, 3)`` float64 mean CIELAB of images ``(N, 3, H, W)`` in [0, 1] over a ``(N, H, W)`` mask.

    NaN where the mask holds under 1 % of the pixels.
    """
    counts = mask.sum(dim=(1, 2))
    pixels = images.permute(0, 2, 3, 1)[mask]  # (P, 3), image by image
    lab = to_lab(pixels.T.reshape(1, 3, 1, -1))[0, :, 0].T
    owners = torch.arange(len(images), device=images.device).repeat_interleave(counts)
    sums = torch.zeros(len(images), 3, dtype=torch.float64, device=images.device)
    mean = sums.index_add(0, owners, lab.to(torch.float64)) / counts.clamp_min(1).unsqueeze(1)
    too_little = counts < _MIN_SKIN_SHARE * mask.shape[1] * mask.shape[2]
    return torch.where(too_little.unsqueeze(1), torch.nan, mean).cpu()


def typology_angle(lab: Tensor) -> Tensor:
    """``(...)`` individual typology angles in degrees of CIELAB colours ``(..., 3)``."""
    return torch.rad2deg(torch.atan2(lab[..., 0] - 50, lab[..., 2]))


def _lab_curve(share: Tensor) -> Tensor:
    edge = 6 / 29
    return torch.where(share > edge**3, share.clamp_min(1e-12) ** (1 / 3), share / (3 * edge**2) + 4 / 29)


def _cosine(degrees: Tensor) -> Tensor:
    return torch.cos(torch.deg2rad(degrees))


class SkinMetric(MeanMetric):
    """Means over the images that show skin.

    ``ita_shift`` (degrees) and ``skin_difference`` (CIEDE2000) compare enhanced with distilled images on the distilled
    image's skin pixels. ``ita_to_baseline`` compares an arm with the baseline, each on its own skin pixels.
    """

    name, family = "ita_shift", "groups"
    needs = frozenset({"distilled", "pairs"})
    labels: Mapping[str, str] = {
        "ita_shift": "ITA, enhanced - distilled (degrees)",
        "skin_difference": "CIEDE2000 of skin to distilled",
        "ita_to_baseline": "ITA, own - baseline (degrees)",
    }

    def update(self, batch: Batch) -> None:
        complete = {"distilled", "enhanced", "reference"} <= set(batch)
        if not complete or len({len(images) for images in batch.values()}) != 1:
            return
        x, z, y = (batch[arm].images for arm in ("distilled", "enhanced", "reference"))
        masks = [skin_mask(part) for part in (x, z, y)]
        own = [skin_colour(part, mask) for part, mask in zip((x, z, y), masks, strict=True)]
        before, after = own[0], skin_colour(z, masks[0])  # the same pixels
        angles = [typology_angle(colour) for colour in own]
        self.add("enhanced", typology_angle(after) - typology_angle(before), "ita_shift")
        self.add("enhanced", ciede2000(before, after), "skin_difference")
        self.add("distilled", angles[0] - angles[2], "ita_to_baseline")
        self.add("enhanced", angles[1] - angles[2], "ita_to_baseline")

    def per_image(self) -> list[PerImage]:
        shift, difference = self.values("enhanced", "ita_shift"), self.values("enhanced", "skin_difference")
        if shift is None or difference is None:
            return []
        return [
            PerImage("skin tone shift (ITA degrees)", shift),
            PerImage("skin colour change (CIEDE2000)", difference, "low"),
        ]
