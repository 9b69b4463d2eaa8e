from __future__ import annotations

import pytest
import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.images import gaussian_blur
from topcoat.metrics import c2st
from topcoat.metrics.c2st import two_sample


def textures(n: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return gaussian_blur(torch.rand(n, 3, 32, 32, generator=generator), 0.8)


def test_a_blur_is_told_apart() -> None:
    images = textures(80, 0)
    accuracy, auc = two_sample(gaussian_blur(images, 1.0), images, steps=40)
    assert accuracy.value > 0.9 and auc > 0.95
    assert 0.5 < accuracy.low < accuracy.value <= accuracy.high


def test_faint_detail_at_a_border_is_enough() -> None:
    images = gaussian_blur(textures(150, 7), 2.0)
    marked = images.clone()
    marked[..., :2] += 0.04 * torch.randn(marked[..., :2].shape, generator=torch.Generator().manual_seed(8))
    assert two_sample(marked, images, steps=120)[1] > 0.9


def test_two_draws_of_one_kind_read_chance() -> None:
    accuracy, auc = two_sample(textures(120, 100), textures(120, 101), steps=40)
    assert 0.35 < auc < 0.65
    assert accuracy.low <= 0.5 <= accuracy.high


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
    accuracy, _ = two_sample(large, large.flip(0), steps=2, folds=2)
    assert 0 <= accuracy.low < accuracy.high <= 1


def test_interval_and_area_are_those_of_the_definitions(monkeypatch: pytest.MonkeyPatch) -> None:
    def mean_score(network: object, images: Tensor) -> Tensor:
        return (20 * images[:, :3].double().mean(dim=(1, 2, 3))).round() / 20  # with ties

    monkeypatch.setattr(c2st, "_scores", mean_score)
    images = torch.rand(60, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    a, b = images - 0.3 * torch.linspace(0, 1, 60).view(-1, 1, 1, 1), images.flip(0)
    accuracy, auc = two_sample(a.clamp(0, 1), b, steps=1, folds=2)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    low, high = (mean_score(None, part) for part in c2st._with_detail(a.clamp(0, 1), b))
    right = int((low < 0).sum()) + int((high >= 0).sum())
    pairs = [(low[rows].view(-1, 1), high[rows].view(1, -1)) for rows in (order[::2], order[1::2])]
    areas = [float((one < other).double().mean() + (one == other).double().mean() / 2) for one, other in pairs]
    assert auc == pytest.approx(sum(areas) / 2) and 0.5 < auc < 1
    p, z, n = right / 120, 1.959963985, 120
    centre, half = p + z**2 / (2 * n), z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    expected = (p, (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n))
    assert (accuracy.value, accuracy.low, accuracy.high) == pytest.approx(expected, rel=1e-6)


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
