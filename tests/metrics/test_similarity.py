from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from topcoat.errors import UsageError
from topcoat.features import FeatureNet
from topcoat.images import gaussian_blur
from topcoat.metrics.paired import (
    MS_SSIM_WEIGHTS,
    gradient_agreement,
    ms_ssim_scales,
    perceptual_distance,
    psnr,
    ssim,
    structural_similarities,
)


def noisy(size: tuple[int, int], seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a = gaussian_blur(torch.rand(3, 3, *size, generator=generator), 2.0)
    return a, (a + 0.1 * torch.randn(a.shape, generator=generator)).clamp(0, 1)


def test_psnr_and_ssim_are_torchmetrics() -> None:
    a, b = noisy((40, 56))
    expected = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none")
    torch.testing.assert_close(ssim(a, b), torch.as_tensor(expected).double(), rtol=0, atol=1e-5)
    decibels = torch.stack(
        [peak_signal_noise_ratio(one, other, data_range=1.0) for one, other in zip(a, b, strict=True)]
    )
    torch.testing.assert_close(psnr(a, b), decibels.double(), rtol=1e-5, atol=0)


@pytest.mark.parametrize(("size", "scales"), [((180, 200), 5), ((128, 128), 4), ((48, 32), 2), ((11, 20), 1)])
def test_ms_ssim_is_torchmetrics_with_the_scales_that_fit(size: tuple[int, int], scales: int) -> None:
    a, b = noisy(size, seed=1)
    assert ms_ssim_scales(*size) == scales
    betas = tuple(weight / sum(MS_SSIM_WEIGHTS[:scales]) for weight in MS_SSIM_WEIGHTS[:scales])
    if scales > 1:
        expected = multiscale_structural_similarity_index_measure(
            a, b, data_range=1.0, betas=betas, normalize="relu", reduction="none"
        )
    else:
        expected = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none")
    single, multi = structural_similarities(a, b)
    torch.testing.assert_close(multi, torch.as_tensor(expected).double(), rtol=0, atol=1e-4)
    assert torch.equal(single, ssim(a, b))


def test_equal_images_score_one() -> None:
    a, _ = noisy((32, 32))
    for values in (*structural_similarities(a, a), gradient_agreement(a, a)):
        assert values.tolist() == pytest.approx([1, 1, 1], abs=1e-6)


def test_gradient_agreement_sees_places_and_signs_not_strengths() -> None:
    a, b = noisy((32, 32))
    assert gradient_agreement(a, 0.4 * a + 0.3).tolist() == pytest.approx([1, 1, 1], abs=1e-6)
    assert gradient_agreement(a, 1 - a).tolist() == pytest.approx([-1, -1, -1], abs=1e-6)
    assert gradient_agreement(a, a.flip(0)[:, :, :, :]).abs().max() <= 1
    flat = torch.full_like(a, 0.5)
    assert gradient_agreement(flat, flat).tolist() == [1, 1, 1]
    assert gradient_agreement(flat, a).tolist() == [0, 0, 0]
    assert float(gradient_agreement(a, b).max()) < 0.9


def test_perceptual_distance_by_hand_and_by_the_net(images: Tensor, net: FeatureNet) -> None:
    one = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    other = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    assert perceptual_distance([one], [other]).tolist() == pytest.approx([(0.6 - 1) ** 2 + 0.8**2])
    assert perceptual_distance([one, one], [other, one]).tolist() == pytest.approx([0.8])
    stages = [net(part).stages for part in (images, gaussian_blur(images, 0.5), gaussian_blur(images, 1.5))]
    near, far = perceptual_distance(stages[0], stages[1]), perceptual_distance(stages[0], stages[2])
    assert (near < far).all() and perceptual_distance(stages[0], stages[0]).abs().max() < 1e-12


def test_refusals() -> None:
    a = torch.rand(1, 3, 10, 10)
    with pytest.raises(UsageError, match="11 or more pixels a side, not 10x10"):
        ssim(a, a)
    with pytest.raises(UsageError, match="11 or more pixels"):
        structural_similarities(a, a)
    with pytest.raises(UsageError, match="one shape"):
        gradient_agreement(a, a[..., :5])
    with pytest.raises(UsageError, match="equal feature maps"):
        perceptual_distance([], [])
