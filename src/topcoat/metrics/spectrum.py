"""Luma, and spectra: how an image's contrast is spread over frequencies, where softness and grids cannot hide."""

from __future__ import annotations

import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.metrics.base import Curve, PairedMetric
from topcoat.metrics.context import Context
from topcoat.metrics.embed import Batch, ImageBatch

RINGS = 32
"""Rings between 0 and 0.5 cycles per pixel."""
RING_MIDDLES = tuple((ring + 0.5) / (2 * RINGS) for ring in range(RINGS))
"""Their spatial frequencies, in cycles per pixel."""
SMALLEST_PX = 4
_LUMA = (0.2126, 0.7152, 0.0722)
ROUNDING_POWER = 1 / 12 / 255**2
"""Variance of rounding to 8 bits: power below it is not in any file, and keeps logarithms finite."""


def luma(images: Tensor) -> Tensor:
    """``(N, H, W)`` luma (Rec. 709 weights) of images, or of differences of images, ``(N, 3, H, W)``."""
    red, green, blue = (weight * images[:, channel] for channel, weight in enumerate(_LUMA))
    return red + green + blue


def windowed_power(planes: Tensor) -> Tensor:
    """Power of ``(..., H, W)`` planes, of the same shape, zero frequency first.

    Subtracts the mean and applies a Hann window, so that borders do not leak into every frequency. Scaled so that white
    noise of variance v has the expected power v everywhere.
    """
    planes = planes - planes.mean(dim=(-2, -1), keepdim=True)
    height, width = planes.shape[-2:]
    window = torch.outer(
        torch.hann_window(height, dtype=planes.dtype, device=planes.device),
        torch.hann_window(width, dtype=planes.dtype, device=planes.device),
    )
    waves = torch.fft.fft2(planes * window)
    return (waves.real.square() + waves.imag.square()) / window.square().sum()


def cell_powers(power: Tensor, cells: int) -> Tensor:
    """``(..., cells, cells)`` means of ``(..., H, W)`` power over squares of the plane (|fy|, |fx|), low ones first.

    Unlike rings, squares hold every frequency up to the corners, and keep grids along one axis apart from the rest.
    A square without any frequency, in a very small image, is 0.
    """
    height, width = power.shape[-2:]
    down, across = (
        (torch.fft.fftfreq(length, device=power.device).abs() * 2 * cells).long().clamp_max(cells - 1)
        for length in (height, width)
    )
    square = (down.unsqueeze(1) * cells + across).flatten()
    counts = torch.bincount(square, minlength=cells**2).clamp_min(1)
    sums = power.new_zeros(*power.shape[:-2], cells**2).index_add(-1, square, power.flatten(-2))
    return (sums / counts).unflatten(-1, (cells, cells))


def radial_spectrum(images: Tensor, rings: int = RINGS) -> Tensor:
    """``(N, rings)`` float64 mean power by frequency; the rings part 0 to 0.5 cycles per pixel evenly.

    Power is that of the luma. A ring without any frequency, in a very small image, is NaN. Raises `UsageError` for less
    than 4 pixels a side.
    """
    if images.ndim != 4 or min(images.shape[-2:]) < SMALLEST_PX:
        raise UsageError(
            f"a spectrum needs images (N, 3, H, W) of {SMALLEST_PX} or more pixels a side, not {tuple(images.shape)}"
        )
    power = windowed_power(luma(images)).to("cpu", torch.float64)
    height, width = power.shape[-2:]
    radius = torch.hypot(torch.fft.fftfreq(height).unsqueeze(1), torch.fft.fftfreq(width).unsqueeze(0))
    ring = (radius * 2 * rings).floor().long().flatten()
    inside = ring < rings
    counts = ring[inside].bincount(minlength=rings).double()
    sums = torch.zeros(len(power), rings, dtype=torch.float64).index_add_(1, ring[inside], power.flatten(1)[:, inside])
    return sums / counts.where(counts > 0, torch.nan)


def decibels(power: Tensor, reference: Tensor) -> Tensor:
    """``10 log10(power / reference)``, with the rounding of 8-bit files added to both."""
    return 10 * torch.log10((power + ROUNDING_POWER) / (reference + ROUNDING_POWER))


class SpectrumMetric(PairedMetric):
    """Mean absolute difference of radial power spectra in dB, and the mean spectrum of every arm as a curve."""

    name, label, unit, better = "spectrum_db", "difference of spectra", "dB", "low"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._power: dict[str, tuple[Tensor, int]] = {}

    def update(self, batch: Batch) -> None:
        for arm, images in batch.items():
            if arm != "floor":
                total, count = self._power.get(arm, (torch.zeros(RINGS, dtype=torch.float64), 0))
                self._power[arm] = (total + _power_of(images).sum(dim=0), count + len(images))
        super().update(batch)

    def measure(self, images: ImageBatch, reference: ImageBatch) -> Tensor:
        return decibels(_power_of(images), _power_of(reference)).abs().mean(dim=1)

    def curves(self) -> list[Curve]:
        return [
            Curve("power_spectrum", arm, RING_MIDDLES, tuple((total / count).tolist()))
            for arm, (total, count) in self._power.items()
        ]


def _power_of(images: ImageBatch) -> Tensor:
    return images.once("radial spectrum", lambda: radial_spectrum(images.images).nan_to_num(0.0))
