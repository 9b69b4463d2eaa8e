"""Fixed seeded inputs, made here so that no change elsewhere can move them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from tests.fake_pairs import FakeDataset, fake_pair


def eight_bits(images: Tensor) -> Tensor:
    """As an 8-bit file holds them, which also takes rounding differences between CPUs away."""
    return images.clamp(0, 1).mul(255).round().div(255)


def portraits(count: int, seed: int, size_px: int = 64) -> Tensor:
    """``(N, 3, H, W)``: an oval of some tone of skin with fine texture, on a soft background."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 6, generator=random)
    background = functional.interpolate(coarse, (size_px, size_px), mode="bicubic")
    tone = torch.rand(count, 1, 1, 1, generator=random)
    light, dark = (torch.tensor(rgb).view(1, 3, 1, 1) for rgb in ((0.95, 0.78, 0.68), (0.36, 0.23, 0.17)))
    place = torch.linspace(-1, 1, size_px)
    across, down = torch.rand(2, count, 1, 1, 1, generator=random) * 0.4 - 0.2
    oval = ((place.view(1, 1, 1, -1) - across) / 0.5) ** 2 + ((place.view(1, 1, -1, 1) - down) / 0.65) ** 2
    shade = 1 - 0.15 * oval.clamp(0, 1)
    face = torch.lerp(dark, light, tone) * shade
    images = torch.where(oval < 1, face, background)
    return eight_bits(images + 0.04 * torch.randn(images.shape, generator=random))


def dulled(images: Tensor, share: float = 1.0) -> Tensor:
    """Softer, a little darker and less colourful; ``share`` of it."""
    padded = functional.pad(images, (2, 2, 2, 2), mode="reflect")
    soft = functional.avg_pool2d(padded, 5, stride=1) * 0.9 + 0.02
    soft = torch.lerp(soft, soft.mean(dim=1, keepdim=True), 0.2)
    return eight_bits(torch.lerp(images, soft, share))


def pairs(size_px: int, *, latents: bool = False) -> FakeDataset:
    """12 training and 4 validation pairs; with 6 channels of latents, 4 pixels each along a side, if asked for."""
    images = portraits(16, seed=3, size_px=size_px)
    made = [fake_pair(x, y, _latents(x) if latents else None) for x, y in zip(dulled(images), images, strict=True)]
    return FakeDataset(made[:12], made[12:], "oracle")


def _latents(image: Tensor) -> Tensor:
    cells = functional.pixel_unshuffle(image[None], 4)[0].unflatten(0, (3, -1))
    return torch.cat([cells.mean(1), cells.std(1)])
