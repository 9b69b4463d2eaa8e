from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.evaluation import GaussianStatistics, batches, embed, evaluate, frechet_distance
from topcoat.features import FeatureNet
from topcoat.images import gaussian_blur


def test_the_cut_of_a_stream_does_not_matter(images: Tensor, net: FeatureNet) -> None:
    whole = embed(images, net, 7)
    mixed = embed([images[0], images[1:11], *images[11:]], net, 5)
    assert len(whole) == len(images)
    torch.testing.assert_close(whole.embedding, mixed.embedding, rtol=1e-4, atol=1e-6)
    assert [len(batch) for batch in batches(iter(images), 10)] == [10, 10, 4]
    assert whole.embedding.shape == (24, 64)
    torch.testing.assert_close(whole.identity.norm(dim=1), torch.ones(24, dtype=torch.float64), rtol=1e-5, atol=0)


def test_progress_counts_images(images: Tensor, net: FeatureNet) -> None:
    seen: list[int] = []
    embed(images, net, 10, on_progress=seen.append)
    assert seen == [10, 20, 24]


def test_full_evaluation(images: Tensor, other_images: Tensor, net: FeatureNet) -> None:
    soft, half = gaussian_blur(images, 1.2), gaussian_blur(images, 0.6)
    found = evaluate(half, reference=images, distilled=soft, floor=other_images, features=net, batch_size=5)
    features = [GaussianStatistics.of(embed(part, net).embedding) for part in (half, images)]
    assert found.enhanced.frechet == pytest.approx(frechet_distance(*features), rel=1e-3)
    assert found.distilled is not None and found.enhanced.frechet < found.distilled.frechet
    assert found.enhanced.psnr is not None and found.distilled.psnr is not None
    assert found.enhanced.psnr > found.distilled.psnr
    assert found.identity is not None and 0 < found.identity.p05 <= found.identity.mean <= 1
    assert found.identity_pairs is not None and found.gap_closed is not None
    assert found.features.dimensions == 64 and found.features.digest == "untrained" and found.features.net == "custom"
    json.dumps(found.as_dict(), allow_nan=False)
    text = found.summary()
    assert "24 enhanced images" in text and "do-nothing score" in text and "biased" in text


def test_the_reference_against_itself(images: Tensor, net: FeatureNet) -> None:
    found = evaluate(images, reference=iter(images), features=net)
    assert found.enhanced.frechet == pytest.approx(0, abs=1e-6)
    assert found.enhanced.psnr == 100
    assert found.distilled is found.floor is found.gap_closed is found.identity is None


def test_a_longer_reference_is_a_set_not_pairs(images: Tensor, net: FeatureNet) -> None:
    found = evaluate(images[:8], reference=images, features=net, batch_size=3)
    assert (found.n, found.n_reference, found.enhanced.psnr) == (8, 24, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distilled": torch.rand(3, 3, 32, 32)}, "not pairs"),
        ({"reference": []}, "no images"),
        ({"reference": [torch.rand(3, 32, 32), torch.rand(3, 40, 40)]}, "mix sizes 32x32 and 40x40"),
        ({"reference": torch.rand(24, 3, 40, 40)}, "different sizes"),
        ({"reference": torch.rand(24, 3, 32, 32) * 255}, "divide by 255"),
        ({"batch_size": 0}, "batch size 0"),
        ({"reference": torch.rand(1, 3, 32, 32)}, "2 or more"),
    ],
)
def test_refusals(images: Tensor, net: FeatureNet, change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"reference": images, "features": net} | change
    with pytest.raises(UsageError, match=message):
        evaluate(images, **arguments)
