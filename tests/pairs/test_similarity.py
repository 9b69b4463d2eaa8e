from __future__ import annotations

import torch

from topcoat.features import FeatureNet
from topcoat.images import gaussian_blur
from topcoat.metrics.paired import ssim
from topcoat.pairs.similarity import feature_vectors, pair_similarity


def test_structure_falls_with_blur_and_noise() -> None:
    image = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    soft = [float(ssim(image, gaussian_blur(image, sigma))) for sigma in (0.4, 0.8, 1.6)]
    assert soft == sorted(soft, reverse=True) and soft[0] < 1


def test_a_vector_depends_on_its_image_alone() -> None:
    net = FeatureNet.tiny(0)
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    vectors = feature_vectors(net, images)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))
    assert torch.equal(vectors[2:3], feature_vectors(net, images[2:3]))
    assert torch.equal(vectors.flip(0), feature_vectors(net, images.flip(0)))
    features, structure = pair_similarity(net, images, images)
    torch.testing.assert_close(features, torch.ones(4))
    torch.testing.assert_close(structure, torch.ones(4).double())
