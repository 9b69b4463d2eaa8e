"""The controls that a head must beat: what can be done to the distilled image without a network.

Part of what a head does may be generic sharpening, and part one change of colour for all images. Both controls are
fitted to the baseline on a calibration set.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.images import gaussian_blur
from topcoat.metrics.paired import gradient_energy

SIGMAS_PX = (0.5, 0.8, 1.2, 2.0)
"""Radii that `fit_unsharp` tries."""
_AMOUNTS = (-1.0, 16.0)
"""Amounts searched: -1 is the blurred image itself (for a distilled model sharper than its baseline)."""


@dataclass(frozen=True, slots=True)
class UnsharpMask:
    """A fitted control: ``amount`` (0 = identity), ``sigma_px`` and the number of images it was calibrated on."""

    amount: float
    sigma_px: float
    calibration_images: int

    def __call__(self, images: Tensor) -> Tensor:
        """The control's version of ``images`` ``(N, 3, H, W)`` in [0, 1]."""
        return unsharp_mask(images, self.amount, self.sigma_px)


@dataclass(frozen=True, slots=True)
class ColourMatrix:
    """A fitted control: three rows (R, G, B of the result) of weights for R, G, B and 1."""

    rows: tuple[tuple[float, float, float, float], ...]
    calibration_images: int

    def __call__(self, images: Tensor) -> Tensor:
        """The control's version of ``images`` ``(N, 3, H, W)`` in [0, 1], clamped to [0, 1]."""
        weights = torch.tensor(self.rows, dtype=images.dtype, device=images.device)
        moved = torch.einsum("kc,nchw->nkhw", weights[:, :3], images)
        return (moved + weights[:, 3].view(1, 3, 1, 1)).clamp(0, 1)


def fit_colour(distilled: Tensor, baseline: Tensor) -> ColourMatrix:
    """The least-squares colour matrix for a calibration set of paired images ``(N, 3, H, W)`` in [0, 1]."""
    _check_calibration("colour", distilled, baseline)
    given, wanted = (
        part.detach().to("cpu", torch.float64).movedim(1, -1).reshape(-1, 3) for part in (distilled, baseline)
    )
    offset = torch.ones(len(given), 1, dtype=torch.float64)
    solution = torch.linalg.lstsq(torch.cat([given, offset], dim=1), wanted, driver="gelsd").solution
    rows = tuple((float(r), float(g), float(b), float(one)) for r, g, b, one in solution.T)
    return ColourMatrix(rows, len(distilled))


def unsharp_mask(images: Tensor, amount: float, sigma_px: float) -> Tensor:
    """``images + amount * (images - blur(images))``, clamped to [0, 1]; images ``(N, 3, H, W)`` in [0, 1]."""
    return (images + amount * (images - gaussian_blur(images, sigma_px))).clamp(0, 1)


def fit_unsharp(distilled: Tensor, baseline: Tensor) -> UnsharpMask:
    """The strongest fair control for a calibration set of paired images ``(N, 3, H, W)`` in [0, 1].

    For each radius the amount is found (by bisection) at which the mean gradient energy equals the baseline's; of the
    radii that can reach it, the one with the smallest mean squared difference to the baseline wins.
    """
    _check_calibration("unsharp", distilled, baseline)
    target = float(gradient_energy(baseline).mean())
    tried: list[tuple[float, float, float, float]] = []
    for sigma_px in SIGMAS_PX:
        amount = _matching_amount(distilled, sigma_px, target)
        control = unsharp_mask(distilled, amount, sigma_px)
        miss = abs(float(gradient_energy(control).mean()) - target)
        # Within 1 % counts as reached; a radius that runs into the end of the range must not win by being timid.
        error = float((control - baseline).square().mean())
        tried.append((max(0.0, miss - 0.01 * target), error, amount, sigma_px))
    _, _, amount, sigma_px = min(tried)
    return UnsharpMask(amount=amount, sigma_px=sigma_px, calibration_images=len(distilled))


def _check_calibration(name: str, distilled: Tensor, baseline: Tensor) -> None:
    if distilled.shape != baseline.shape or len(distilled) == 0:
        shapes = f"{tuple(distilled.shape)} and {tuple(baseline.shape)}"
        raise UsageError(f"the {name} control is fitted on pairs of images of one shape, not {shapes}")


def _matching_amount(images: Tensor, sigma_px: float, target: float) -> float:
    """The amount whose mean gradient energy is ``target``, or the end of the range that comes nearest."""
    low, high = _AMOUNTS
    # The detail is fixed per radius, so only the sum is recomputed in the search.
    detail = images - gaussian_blur(images, sigma_px)
    for _ in range(16):
        middle = (low + high) / 2
        energy = float(gradient_energy((images + middle * detail).clamp(0, 1)).mean())
        low, high = (middle, high) if energy < target else (low, middle)
    return (low + high) / 2
