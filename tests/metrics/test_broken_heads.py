"""Heads that are broken on purpose, each caught by the metric that was made for it, and a good one that is not."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from topcoat.features import Features
from topcoat.images import gaussian_blur
from topcoat.metrics.c2st import two_sample
from topcoat.metrics.controls import unsharp_mask
from topcoat.metrics.evaluate import evaluate
from topcoat.metrics.evaluation import Evaluation

N, SIZE_PX = 60, 32


class PlainNet:
    """Features that say what they are: mean colours of a grid (who it is) and the energy of detail."""

    digest = "plain"

    def __call__(self, images: Tensor) -> Features:
        colours = torch.nn.functional.adaptive_avg_pool2d(images, 3).flatten(1)
        detail = (images - gaussian_blur(images, 1.0)).abs().mean(dim=(1, 2, 3)).unsqueeze(1)
        identity = torch.nn.functional.normalize(colours - colours.mean(dim=1, keepdim=True), dim=1)
        return Features((images,), torch.cat([colours[:, ::4], 20 * detail], dim=1), identity)


def subjects(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """x, y and y' of as many subjects: a coloured shape each, with texture that x lacks."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(N, 3, 4, 4, generator=generator)
    shapes = torch.nn.functional.interpolate(coarse, size=(SIZE_PX, SIZE_PX), mode="bicubic").clamp(0, 1) * 0.6 + 0.2
    sets = []
    for scale in (0.0, 0.12, 0.12):
        noise = gaussian_blur(torch.randn(N, 3, SIZE_PX, SIZE_PX, generator=generator), 0.6)
        drift = 0.02 * torch.randn(N, 3, 4, 4, generator=generator)
        drift = torch.nn.functional.interpolate(drift, size=(SIZE_PX, SIZE_PX), mode="bicubic")
        sets.append((shapes + drift + scale * noise).clamp(0, 1))
    return sets[0], sets[1], sets[2]


def evaluated(z: Tensor, x: Tensor, y: Tensor, floor: Tensor) -> Evaluation:
    metrics = ["distances", "diversity", "paired", "identity", "artefacts"]
    return evaluate(z, reference=y, distilled=x, floor=floor, features=PlainNet(), metrics=metrics)


def checkerboard() -> Tensor:
    return ((torch.arange(SIZE_PX).view(-1, 1) + torch.arange(SIZE_PX)).remainder(2) * 2.0 - 1) * 0.05


def test_a_good_head_is_not_flagged() -> None:
    x, y, floor = subjects()
    found = evaluated(0.3 * x + 0.7 * y, x, y, floor)
    assert found.flags == ()
    assert (found.value("gap_closed") or 0) > 0.5
    assert (found.value("identity_same_share") or 0) > 0.95


def test_the_baseline_and_the_baseline_at_other_seeds_are_not_flagged() -> None:
    x, y, floor = subjects()
    found = evaluated(y, x, y, floor)
    assert found.flags == ()
    assert found.value("frechet") == pytest.approx(0, abs=1e-9)
    assert 0 < (found.value("frechet", "floor") or 0) < (found.value("frechet", "distilled") or 0)


@pytest.mark.parametrize(
    ("broken", "flag"),
    [
        (lambda x: x, "identity map"),
        (lambda x: gaussian_blur(x, 1.5), "blur"),
        (lambda x: (x + checkerboard()).clamp(0, 1), "checkerboard"),
        (lambda x: 1 - x, "colour shift"),
        (lambda x: 1 - x, "inverted contrast"),
        (lambda x: x.roll(1, dims=0), "wrong identity"),
        (lambda x: unsharp_mask(x, 6.0, 1.5), "halos"),
        (lambda x: (x + torch.where(torch.arange(SIZE_PX) < 16, 0.05, -0.05)).clamp(0, 1), "tile seams"),
        (lambda x: torch.cat([x[..., :10], (x[..., 10:14] + 0.5).clamp(0, 1), x[..., 14:]], dim=3), "blobs"),
        (lambda x: 0.5 * x, "worse than nothing"),
        (lambda x: torch.cat([(x[..., :4] + checkerboard()[:, :4]).clamp(0, 1), x[..., 4:]], dim=3), "foreign detail"),
    ],
)
def test_a_broken_head_is_caught(broken: Callable[[Tensor], Tensor], flag: str) -> None:
    x, y, floor = subjects()
    found = evaluated(broken(x), x, y, floor)
    assert flag in {one.name for one in found.flags}
    assert flag in found.markdown() and flag in found.summary()


def test_a_two_sample_test_that_tells_the_baseline_from_itself_is_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, _ = subjects()
    module = importlib.import_module("topcoat.metrics.c2st")
    monkeypatch.setattr(module, "two_sample", functools.partial(two_sample, steps=20))
    tinted = (y + torch.tensor([0.2, 0, 0]).view(1, 3, 1, 1)).clamp(0, 1)
    found = evaluate(y, reference=y, distilled=x, floor=tinted, features=PlainNet(), metrics=["two-sample"])
    assert "floor not at chance" in {flag.name for flag in found.flags}
    assert found.value("c2st_auc") == pytest.approx(0.5, abs=0.01)


def test_mode_collapse_has_high_precision_and_low_recall() -> None:
    x, y, floor = subjects()
    found = evaluated(y[:3].repeat(N // 3, 1, 1, 1), 0.2 * x + 0.8 * y, y, floor)
    assert found.value("precision") == 1
    assert (found.value("recall") or 1) < 0.2
    assert (found.value("recall", "distilled") or 0) > 0.5
    assert "mode collapse" in {flag.name for flag in found.flags}
