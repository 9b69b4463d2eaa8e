"""What one image measures: brightness, colour, sharpness and its power spectrum."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional

from topcoat.errors import UsageError

SPECTRUM_BINS = 48
"""Rings of a radial spectrum, of equal width from 0 to 0.5 cycles per pixel."""

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, of sRGB-encoded values
_LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))


def luma(images: Tensor) -> Tensor:
    """``(N, H, W)`` float64 luma in [0, 1] of images ``(N, 3, H, W)`` in [0, 1]."""
    weights = torch.tensor(_LUMA, dtype=torch.float64, device=images.device)
    return torch.einsum("nchw,c->nhw", images.to(torch.float64), weights)


def brightness(images: Tensor) -> Tensor:
    """``(N,)`` mean luma of images ``(N, 3, H, W)`` in [0, 1]."""
    return luma(images).mean(dim=(1, 2))


def contrast(images: Tensor) -> Tensor:
    """``(N,)`` standard deviation of the luma over the pixels of images ``(N, 3, H, W)`` in [0, 1]."""
    return luma(images).std(dim=(1, 2), correction=0)


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
    grey = luma(images)[:, None]
    kernel = torch.tensor(_LAPLACIAN, dtype=grey.dtype, device=grey.device)[None, None]
    return functional.conv2d(grey, kernel).var(dim=(1, 2, 3), correction=0)


def radial_spectrum(images: Tensor) -> Tensor:
    """``(N, SPECTRUM_BINS)`` mean power in rings of equal spatial frequency, of images ``(N, 3, H, W)`` in [0, 1].

    The power spectral density ``|FFT|^2 / (H W)`` of the luma without its mean, under a Hann window of mean square 1
    (the borders of a portrait do not join, and the seam would show as detail). White noise of variance v gives v in
    every ring. Bin b covers b / (2 B) to (b + 1) / (2 B) cycles per pixel; a ring without any frequency, in a very
    small image, is NaN.
    """
    grey = luma(images)
    height, width = grey.shape[-2:]
    window, rings, counts = _geometry(height, width)
    power = torch.fft.fft2((grey - grey.mean(dim=(1, 2), keepdim=True)) * window).abs().square() / (height * width)
    sums = torch.zeros(len(grey), SPECTRUM_BINS + 1, dtype=torch.float64)
    sums.index_add_(1, rings.flatten(), power.flatten(1).cpu())
    return (sums / counts)[:, :SPECTRUM_BINS]


def ring_centres() -> Tensor:
    """``(SPECTRUM_BINS,)`` spatial frequencies of the rings' middles, in cycles per pixel."""
    return (torch.arange(SPECTRUM_BINS, dtype=torch.float64) + 0.5) / (2 * SPECTRUM_BINS)


@functools.lru_cache(maxsize=8)
def _geometry(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Window ``(H, W)``, ring of each frequency ``(H, W)`` (the last for what lies above 0.5), size of each ring."""
    window = torch.outer(*(torch.hann_window(side + 1, dtype=torch.float64)[:-1] for side in (height, width)))
    window = window / window.square().mean().sqrt()
    down, across = (torch.fft.fftfreq(side, dtype=torch.float64) for side in (height, width))
    radius = torch.sqrt(down[:, None] ** 2 + across[None, :] ** 2)
    rings = (radius * 2 * SPECTRUM_BINS).long().clamp(max=SPECTRUM_BINS)
    rings[0, 0] = SPECTRUM_BINS  # the mean, which was taken out
    counts = torch.bincount(rings.flatten(), minlength=SPECTRUM_BINS + 1).double()
    return window, rings, torch.where(counts > 0, counts, torch.nan)
