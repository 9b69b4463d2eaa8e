"""The control that a head must beat: an unsharp mask of the same distilled image, fitted to look as sharp as y.

Part of what a head does to a soft image is generic sharpening, which costs nothing. So the control gets every fair
chance: its amount is set so that its mean gradient energy equals the baseline's on a calibration set, and among a few
radii the one whose images are nearest to the baseline's is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from topcoat.errors import UsageError
from topcoat.evaluation.paired import gradient_energy
from topcoat.images import gaussian_blur

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


def unsharp_mask(images: Tensor, amount: float, sigma_px: float) -> Tensor:
    """``images + amount * (images - blur(images))``, clamped to [0, 1]; images ``(N, 3, H, W)`` in [0, 1]."""
    return (images + amount * (images - gaussian_blur(images, sigma_px))).clamp(0, 1)


def fit_unsharp(distilled: Tensor, baseline: Tensor, *, sigmas_px: tuple[float, ...] = SIGMAS_PX) -> UnsharpMask:
    """The strongest fair control for a calibration set of paired images ``(N, 3, H, W)`` in [0, 1].

    For each radius the amount is found (by bisection) at which the mean gradient energy equals the baseline's; of the
    radii that can reach it, the one with the smallest mean squared difference to the baseline wins.
    """
    if distilled.shape != baseline.shape or len(distilled) == 0:
        shapes = f"{tuple(distilled.shape)} and {tuple(baseline.shape)}"
        raise UsageError(f"the unsharp control is fitted on pairs of images of one shape, not {shapes}")
    target = float(gradient_energy(baseline).mean())
    if not sigmas_px:
        raise UsageError("the unsharp control needs 1 or more radii to try; give sigmas_px")
    found: list[tuple[float, float, float, float]] = []
    for sigma_px in sigmas_px:
        amount = _matching_amount(distilled, sigma_px, target)
        control = unsharp_mask(distilled, amount, sigma_px)
        miss = abs(float(gradient_energy(control).mean()) - target)
        # Within 1 % counts as reached; a radius that runs into the end of the range must not win by being timid.
        error = float((control - baseline).square().mean())
        found.append((max(0.0, miss - 0.01 * target), error, amount, sigma_px))
    _, _, amount, sigma_px = min(found)
    return UnsharpMask(amount=amount, sigma_px=sigma_px, calibration_images=len(distilled))


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
