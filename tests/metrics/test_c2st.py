from __future__ import annotations

import pytest
import torch
from scipy.stats import mannwhitneyu
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.images import gaussian_blur
from topcoat.metrics.c2st import area_under_curve, two_sample, wilson_interval


def textures(n: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return gaussian_blur(torch.rand(n, 3, 32, 32, generator=generator), 0.8)


def test_a_blur_is_told_apart() -> None:
    images = textures(80, 0)
    found = two_sample(gaussian_blur(images, 1.0), images, steps=40)
    assert found.accuracy > 0.9 and found.auc > 0.95 and not found.chance
    assert found.accuracy_low < found.accuracy <= found.accuracy_high and found.n == 80


def test_faint_detail_at_a_border_is_enough() -> None:
    images = gaussian_blur(textures(150, 7), 2.0)
    marked = images.clone()
    marked[..., :2] += 0.04 * torch.randn(marked[..., :2].shape, generator=torch.Generator().manual_seed(8))
    assert two_sample(marked, images, steps=120).auc > 0.9


def test_two_draws_of_one_kind_read_chance() -> None:
    found = two_sample(textures(120, 100), textures(120, 101), steps=40)
    assert 0.35 < found.auc < 0.65
    assert found.chance


def test_it_is_seeded_leaves_the_callers_generator_alone_and_takes_bytes() -> None:
    a, b = textures(50, 1), gaussian_blur(textures(50, 2), 0.5)
    bytes_a, bytes_b = ((part * 255).round().to(torch.uint8) for part in (a, b))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = two_sample(bytes_a, bytes_b, steps=8, folds=2, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert first == two_sample(bytes_a.float() / 255, bytes_b.float() / 255, steps=8, folds=2, seed=3)
    assert first != two_sample(bytes_a, bytes_b, steps=8, folds=2, seed=4)


def test_large_images_are_judged_by_crops() -> None:
    large = torch.nn.functional.interpolate(textures(50, 1), size=(40, 160))
    assert two_sample(large, large.flip(0), steps=2, folds=2).n == 50


def test_statistics_are_scipys() -> None:
    generator = torch.Generator().manual_seed(0)
    negative, positive = torch.randn(40, generator=generator), torch.randn(30, generator=generator).round() + 0.5
    negative[:10] = negative[:10].round() + 0.5  # ties
    u = mannwhitneyu(positive.numpy(), negative.numpy()).statistic
    assert area_under_curve(negative, positive) == pytest.approx(u / 1200)
    p, z, n = 0.9, 1.959963985, 50
    centre, half = p + z**2 / (2 * n), z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    expected = ((centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n))
    assert wilson_interval(45, 50) == pytest.approx(expected, rel=1e-6)


def test_refusals() -> None:
    few, many = torch.rand(49, 3, 32, 32), torch.rand(60, 3, 32, 32)
    with pytest.raises(UsageError, match="needs 50 or more images on each side, not 49"):
        two_sample(few, few)
    with pytest.raises(UsageError, match="one shape"):
        two_sample(few, many)
    with pytest.raises(UsageError, match="folds"):
        two_sample(many, many, folds=1)
    with pytest.raises(UsageError, match="32 or more px"):
        two_sample(many[..., :16], many[..., :16])
    with pytest.raises(UsageError, match="1 or more scores"):
        area_under_curve(torch.zeros(0), torch.zeros(3))
