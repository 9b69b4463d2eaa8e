"""What one image measures: brightness, contrast, colour and sharpness."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from topcoat.errors import UsageError
from topcoat.metrics.spectrum import luma

_LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))


def brightness(images: Tensor) -> Tensor:
    """``(N,)`` mean luma of images ``(N, 3, H, W)`` in [0, 1]."""
    return luma(images.to(torch.float64)).mean(dim=(1, 2))


def contrast(images: Tensor) -> Tensor:
    """``(N,)`` standard deviation of the luma over the pixels of images ``(N, 3, H, W)`` in [0, 1]."""
    return luma(images.to(torch.float64)).std(dim=(1, 2), correction=0)


def colourfulness(images: Tensor) -> Tensor:
    """``(N,)`` colourfulness of images ``(N, 3, H, W)`` in [0, 1]; 0 is grey, about 0.2 moderate, 0.4 strong.

    Hasler and Süsstrunk 2003, "Measuring colourfulness in natural images", equation for M(3), on a scale of 0 to 1
    instead of 0 to 255.
    """
    red, green, blue = images.to(torch.float64).unbind(dim=1)
    opponents = torch.stack([red - green, (red + green) / 2 - blue], dim=1).flatten(2)  # (N, 2, H W)
    spread = opponents.std(dim=2, correction=0).square().sum(dim=1).sqrt()
    return spread + 0.3 * opponents.mean(dim=2).square().sum(dim=1).sqrt()


def sharpness(images: Tensor) -> Tensor:
    """``(N,)`` variance of the Laplacian of the luma, images ``(N, 3, H, W)`` in [0, 1] of 3 px a side or more.

    Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy", with the 4-neighbour kernel. Raises
    `UsageError` for smaller images.
    """
    if min(images.shape[-2:]) < 3:
        raise UsageError(f"sharpness needs images of 3 px a side or more, not {tuple(images.shape)}")
    grey = luma(images.to(torch.float64))[:, None]
    kernel = torch.tensor(_LAPLACIAN, dtype=grey.dtype, device=grey.device)[None, None]
    return functional.conv2d(grey, kernel).var(dim=(1, 2, 3), correction=0)
