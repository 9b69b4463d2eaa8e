from __future__ import annotations

import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from topcoat.errors import UsageError
from topcoat.features import FeatureNet
from topcoat.images import gaussian_blur
from topcoat.pairs.similarity import (
    WORKING_PX,
    at_working_size,
    feature_vectors,
    pair_similarity,
    structural_similarity,
)


@pytest.mark.parametrize("size", [(32, 48), (11, 11), (64, 33)])
def test_structural_similarity_is_that_of_torchmetrics(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(3, 3, *size, generator=generator)
    b = (a + 0.2 * torch.randn(a.shape, generator=generator)).clamp(0, 1)
    _, places = structural_similarity_index_measure(b, a, data_range=1.0, reduction="none", return_full_image=True)
    theirs = places[..., 5:-5, 5:-5].mean(dim=(1, 2, 3))  # where the window lies inside; they mirror the border
    torch.testing.assert_close(structural_similarity(a, b), theirs, rtol=0, atol=2e-5)
    torch.testing.assert_close(structural_similarity(a, a), torch.ones(3))


def test_structure_falls_with_blur_and_noise() -> None:
    image = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    soft = [float(structural_similarity(image, gaussian_blur(image, sigma))) for sigma in (0.4, 0.8, 1.6)]
    assert soft == sorted(soft, reverse=True) and soft[0] < 1


@pytest.mark.parametrize("shape", [(2, 3, 16, 16), (1, 3, 10, 16)])
def test_structure_needs_two_batches_of_one_shape_that_holds_the_window(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"one shape \(N, 3, H, W\) with sides of 11 px or more"):
        structural_similarity(torch.rand(1, 3, 16, 16), torch.rand(shape))
    with pytest.raises(UsageError, match="11 px"):
        structural_similarity(torch.rand(shape)[..., :10, :], torch.rand(shape)[..., :10, :])


def test_the_working_size_shrinks_and_never_enlarges() -> None:
    assert at_working_size(torch.rand(1, 3, 256, 512)).shape == (1, 3, WORKING_PX, 2 * WORKING_PX)
    small = torch.rand(1, 3, 40, 300)
    assert at_working_size(small) is small
    plain = at_working_size(torch.full((1, 3, 300, 256), 0.25))
    torch.testing.assert_close(plain, torch.full_like(plain, 0.25))


def test_a_vector_depends_on_its_image_alone() -> None:
    net = FeatureNet.tiny(0)
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    vectors = feature_vectors(net, images)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))
    assert torch.equal(vectors[2:3], feature_vectors(net, images[2:3]))
    assert torch.equal(vectors.flip(0), feature_vectors(net, images.flip(0)))
    features, structure = pair_similarity(net, images, images)
    torch.testing.assert_close(features, torch.ones(4))
    torch.testing.assert_close(structure, torch.ones(4))
