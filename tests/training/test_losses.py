from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from topcoat.training import losses
from topcoat.training.losses import GradientKind

KINDS: tuple[GradientKind, ...] = get_args(GradientKind)


@dataclass(frozen=True)
class Maps:
    stages: tuple[Tensor, ...]


def picture(seed: int, size: int = 16) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def doubled(z: Tensor, x: Tensor, kind: GradientKind) -> float:
    return float(losses.gradient_loss(z, x, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_loss_sees_structure_and_not_brightness(kind: GradientKind):
    x, z = picture(0), picture(1)
    assert float(losses.gradient_loss(x, x, kind)) == pytest.approx(0, abs=1e-12)
    assert float(losses.gradient_loss(x + 0.25, x, kind)) == pytest.approx(0, abs=1e-9)
    assert float(losses.gradient_loss(z, x, kind)) > 1e-3
    assert float(losses.gradient_loss(z, x, kind)) == pytest.approx(float(losses.gradient_loss(x, z, kind)))


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_loss_is_a_mean_over_the_batch(kind: GradientKind):
    x, z = picture(0), picture(1)
    one_by_one = [float(losses.gradient_loss(z[i : i + 1], x[i : i + 1], kind)) for i in range(2)]
    assert float(losses.gradient_loss(z, x, kind)) == pytest.approx(sum(one_by_one) / 2)


@pytest.mark.parametrize("kind", KINDS)
def test_losses_have_finite_gradients_where_images_are_equal_or_flat(kind: GradientKind):
    for images in (picture(0), torch.zeros(1, 3, 16, 16)):
        z = images.clone().requires_grad_()
        losses.gradient_loss(z, images, kind).backward()
        assert z.grad is not None and torch.isfinite(z.grad).all()


def test_forward_kind_is_the_l1_of_forward_differences():
    x, z = picture(0).numpy(), picture(1).numpy()
    expected = sum(np.abs(np.diff(z, axis=axis) - np.diff(x, axis=axis)).mean() for axis in (2, 3))
    assert float(losses.gradient_loss(picture(1), picture(0))) == pytest.approx(float(expected))


def test_sobel_kind_agrees_with_scipy():
    difference = (picture(1) - picture(0)).numpy()
    expected = 0.0
    for axis in (2, 3):
        responses = np.stack([[ndimage.sobel(plane, axis=axis - 2) for plane in image] for image in difference])
        expected += np.abs(responses[..., 1:-1, 1:-1] / 8).mean()
    assert doubled(picture(1), picture(0), "sobel") == pytest.approx(expected)


def test_sign_matters_but_for_magnitude():
    """Inverted contrast has the same magnitudes; a loss that is blind to it cannot hold colours."""
    x = picture(0)
    inverted = 1 - x
    assert doubled(inverted, x, "magnitude") == pytest.approx(0, abs=1e-9)
    for kind in ("forward", "sobel", "multi_scale", "low_passed"):
        assert doubled(inverted, x, kind) > 0.01


def test_low_passed_kind_forgives_fine_detail_and_keeps_structure():
    x = torch.full((1, 3, 32, 32), 0.5)
    checkers = x + 0.1 * ((torch.arange(32)[:, None] + torch.arange(32)) % 2)
    edge = x.clone()
    edge[..., 16:] += 0.1
    assert doubled(checkers, x, "low_passed") < 0.02 * doubled(checkers, x, "forward")
    # The edge keeps its height through the blur, and the sum of forward differences is that height.
    assert doubled(edge, x, "low_passed") == pytest.approx(doubled(edge, x, "forward"), rel=0.05)


def test_multi_scale_kind_is_the_mean_of_its_scales():
    x, z = picture(0), picture(1)
    scales = [doubled(F.avg_pool2d(z, size), F.avg_pool2d(x, size), "forward") for size in (1, 2, 4)]
    assert doubled(z, x, "multi_scale") == pytest.approx(sum(scales) / 3)
    assert doubled(z[..., :3, :3], x[..., :3, :3], "multi_scale") > 0


def test_perceptual_loss_by_hand():
    a, b = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    c, d = torch.randn(2, 6, 2, 2), torch.randn(2, 6, 2, 2)
    # |u - v|^2 = 2 - 2 cos(u, v) for unit vectors
    expected = sum((2 - 2 * F.cosine_similarity(u, v, dim=1)).mean() for u, v in ((a, b), (c, d)))
    torch.testing.assert_close(losses.perceptual_loss(Maps((a, c)), Maps((b, d))), expected, rtol=1e-4, atol=1e-4)
    assert float(losses.perceptual_loss(Maps((a, c)), Maps((a, c)))) == 0
    torch.testing.assert_close(
        losses.perceptual_loss(Maps((3 * a,)), Maps((b,))),
        losses.perceptual_loss(Maps((a,)), Maps((b,))),
        rtol=1e-4,
        atol=1e-4,
    )


def test_perceptual_loss_survives_dead_features_and_low_precision():
    dead = torch.zeros(1, 4, 3, 3, requires_grad=True)
    losses.perceptual_loss(Maps((dead,)), Maps((torch.rand(1, 4, 3, 3),))).backward()
    assert dead.grad is not None and torch.isfinite(dead.grad).all()
    low = losses.perceptual_loss(Maps((torch.rand(1, 4, 3, 3).bfloat16(),)), Maps((torch.rand(1, 4, 3, 3),)))
    assert low.dtype == torch.float32


def test_charbonnier_is_a_smooth_l1():
    y = picture(0)
    assert float(losses.charbonnier(y, y)) == 0
    assert float(losses.charbonnier(y + 0.3, y)) == pytest.approx(0.3, rel=0.01)
    z = y.clone().requires_grad_()
    losses.charbonnier(z, y).backward()
    assert z.grad is not None and torch.isfinite(z.grad).all()


def test_low_frequency_loss_sees_colour_and_not_texture():
    y = torch.full((1, 3, 16, 16), 0.5)
    texture = y + 0.2 * (1 - 2.0 * ((torch.arange(16)[:, None] + torch.arange(16)) % 2))
    tint = y + torch.tensor([0.1, 0.0, -0.1])[:, None, None]
    assert float(losses.low_frequency_loss(texture, y)) == pytest.approx(0, abs=1e-6)
    assert float(losses.low_frequency_loss(tint, y)) == pytest.approx(0.2 / 3, rel=1e-4)
    assert float(losses.low_frequency_loss(tint[..., :4, :4], y[..., :4, :4])) > 0


def test_focal_frequency_loss():
    z, y = picture(0), picture(1)
    assert float(losses.focal_frequency_loss(y, y)) == 0
    plain = float(losses.focal_frequency_loss(z, y, alpha=0.0))
    assert 0 < float(losses.focal_frequency_loss(z, y)) < plain  # the weights are at most 1
    wave = y.clone()
    wave += 0.05 * torch.cos(torch.arange(16) * torch.pi / 2)
    one_frequency = float(losses.focal_frequency_loss(wave, y))
    assert one_frequency == pytest.approx(float(losses.focal_frequency_loss(wave, y, alpha=0.0)), rel=1e-3)


def noise(seed: int, sigma: float = 0.05) -> Tensor:
    return 0.5 + sigma * torch.randn(16, 3, 48, 48, generator=torch.Generator().manual_seed(seed))


def test_spectrum_loss_compares_powers_and_not_places():
    y = noise(0)
    assert float(losses.spectrum_loss(y, y)) == 0
    moved = y.roll(5, dims=-1)  # of another phase, of the same power but for chance
    assert float(losses.spectrum_loss(moved, y)) < 0.1
    assert float(losses.spectrum_loss(y + 0.2, y)) == pytest.approx(0, abs=1e-3)  # colour is not its concern
    half = float(losses.spectrum_loss(0.5 + (y - 0.5) / 2, y))
    assert half == pytest.approx(float(np.log(4)), rel=0.02)  # a quarter of the power, in nepers


def test_spectrum_loss_sees_a_grid_and_forgives_what_no_file_can_hold():
    y = noise(0)
    z = (y + 0.05 * ((torch.arange(48)[:, None] + torch.arange(48)) % 2 * 2 - 1)).requires_grad_()
    loss = losses.spectrum_loss(z, y)
    loss.backward()
    assert z.grad is not None
    assert float(loss.detach()) > 0.003 and float((z.grad * (z - y)).detach().sum()) > 0  # downhill is less of the grid
    flat = torch.full((2, 3, 24, 24), 0.5)
    faint = flat + 1e-4 * torch.randn(flat.shape, generator=torch.Generator().manual_seed(0))
    assert float(losses.spectrum_loss(faint, flat)) < 0.01


def test_latent_spectrum_is_zero_for_equal_sets_in_any_order_and_sees_what_l1_does_not():
    torch.manual_seed(0)
    y = torch.randn(64, 4, 8, 8) * torch.tensor([0.1, 1.0, 2.0, 5.0]).view(1, 4, 1, 1)
    assert float(losses.latent_spectrum_loss(y, y.flip(0))) < 1e-5
    assert float(losses.latent_spectrum_loss(y, torch.roll(y, 4, dims=3))) < 0.5  # the window moves, the power does not
    smooth = torch.nn.functional.avg_pool2d(y, 3, 1, 1)
    assert float(losses.latent_spectrum_loss(smooth, y)) > 1.0
    louder = [float(losses.latent_spectrum_loss(factor * y, y)) for factor in (1.1, 1.5)]
    assert louder[0] == pytest.approx(2 * torch.log(torch.tensor(1.1)).item(), rel=0.02) and louder[1] > louder[0]


def test_latent_contrast_sees_noise_in_flat_places():
    torch.manual_seed(0)
    y = torch.randn(16, 3, 16, 16)
    y[..., :8] *= 0.01
    assert float(losses.latent_contrast_loss(y.flip(0, 2, 3), y)) < 1e-5
    noisy = y + 0.03 * torch.randn_like(y)
    assert float((noisy - y).abs().mean()) < 0.03 and float(losses.latent_contrast_loss(noisy, y)) > 0.5
    assert float(losses.latent_contrast_loss(1.5 * y, y)) == pytest.approx(
        2 * torch.log(torch.tensor(1.5)).item(), rel=0.1
    )
    assert float(losses.fine_latents(torch.full((1, 2, 3, 3), 4.0)).abs().max()) == 0.0
