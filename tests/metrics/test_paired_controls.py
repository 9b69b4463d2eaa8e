from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.images import gaussian_blur
from topcoat.metrics.controls import fit_colour, fit_unsharp, unsharp_mask
from topcoat.metrics.paired import gradient_energy, psnr


def test_psnr_of_a_known_error(images: Tensor) -> None:
    grey = torch.full((2, 3, 4, 4), 0.5)
    assert psnr(grey, grey + 0.1).tolist() == pytest.approx([20, 20], abs=1e-4)
    assert psnr(grey, grey).tolist() == [float("inf")] * 2
    error = float((images[0] - images[1]).square().mean())
    assert float(psnr(images[:1], images[1:2])) == pytest.approx(10 * math.log10(1 / error), abs=1e-4)
    with pytest.raises(UsageError, match="one shape"):
        psnr(images[:1], images[:2])


def test_gradient_energy_of_a_ramp() -> None:
    ramp = torch.linspace(0, 0.7, 8).view(1, 1, 1, 8).expand(2, 3, 8, 8)
    assert gradient_energy(ramp).tolist() == pytest.approx([0.05, 0.05])
    with pytest.raises(UsageError, match="2 or more pixels"):
        gradient_energy(torch.zeros(1, 3, 1, 8))


def test_blur_keeps_flat_images_and_the_mean_of_a_dot() -> None:
    flat = torch.full((1, 3, 9, 9), 0.3)
    torch.testing.assert_close(gaussian_blur(flat, 1.0), flat)
    dot = torch.zeros(1, 3, 41, 41)
    dot[..., 20, 20] = 1
    blurred = gaussian_blur(dot, 2.0)
    assert float(blurred.sum()) == pytest.approx(3, rel=1e-5)
    assert float(blurred[0, 0, 20, 20]) == pytest.approx(1 / (2 * torch.pi * 4), rel=0.02)
    with pytest.raises(UsageError, match="above 0"):
        gaussian_blur(flat, 0)


def test_unsharp_mask_zero_is_identity_and_range_is_kept(images: Tensor) -> None:
    assert torch.equal(unsharp_mask(images, 0, 1.0), images)
    sharp = unsharp_mask(images, 3, 1.0)
    assert sharp.min() >= 0 and sharp.max() <= 1
    assert gradient_energy(sharp).mean() > gradient_energy(images).mean()


def test_the_control_matches_the_baselines_gradient_energy(images: Tensor) -> None:
    soft = gaussian_blur(images, 0.8)
    control = fit_unsharp(soft, images)
    target = float(gradient_energy(images).mean())
    assert float(gradient_energy(control(soft)).mean()) == pytest.approx(target, rel=0.01)
    assert control.calibration_images == len(images)
    assert (control(soft) - images).square().mean() < (soft - images).square().mean()


def test_the_control_softens_where_the_distilled_image_is_too_sharp(images: Tensor) -> None:
    control = fit_unsharp(images, gaussian_blur(images, 0.8))
    assert -1 <= control.amount < 0


def test_the_colour_matrix_undoes_any_affine_map_of_colour(images: Tensor) -> None:
    turned = 0.1 + torch.einsum("kc,nchw->nkhw", torch.tensor([[0.6, 0.1, 0], [0, 0.5, 0.2], [0.1, 0, 0.7]]), images)
    control = fit_colour(turned, images)
    torch.testing.assert_close(control(turned), images, rtol=0, atol=1e-4)
    assert control.calibration_images == len(images)


def test_the_colour_matrix_is_the_least_squares_one(images: Tensor) -> None:
    other = images.flip(0).square()
    given = images.movedim(1, -1).reshape(-1, 3).double().numpy()
    wanted = other.movedim(1, -1).reshape(-1, 3).double().numpy()
    design = np.column_stack([given, np.ones(len(given))])
    expected = np.linalg.solve(design.T @ design, design.T @ wanted).T
    np.testing.assert_allclose(fit_colour(images, other).rows, expected, atol=1e-8)


def test_control_refusals(images: Tensor) -> None:
    with pytest.raises(UsageError, match="pairs of images"):
        fit_unsharp(images[:2], images[:3])
