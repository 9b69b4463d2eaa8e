"""Paired measures: functions of two images of the same subject, or of one, per image.

Each says how far an image is from *one* image of the subject. The baseline could have drawn the subject in other ways,
so always compare a paired score with that of the distilled images (the identity baseline).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from topcoat.errors import UsageError
from topcoat.metrics.base import Flag, MeanMetric, PairedMetric, PerImage, Score, score_of
from topcoat.metrics.embed import Batch, ImageBatch

MOST_DECIBELS = 100
"""Equal images have no finite PSNR; this is what 8-bit files cannot reach, and JSON can hold it."""


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """``(N,)`` peak signal-to-noise ratios in dB of images ``(N, 3, H, W)`` in [0, 1]; infinity where equal."""
    _check_pair(a, b, "PSNR")
    error = (_wide(a) - _wide(b)).square().mean(dim=(1, 2, 3), dtype=torch.float64)
    return -10 * torch.log10(error)


def gradient_energy(images: Tensor) -> Tensor:
    """``(N,)`` mean absolute forward differences of images ``(N, 3, H, W)`` in [0, 1], H and W >= 2.

    The mean over both directions, channels and pixels: a plain measure of how much fine contrast an image has.
    """
    _need_gradients(images)
    steps = (_wide(images).diff(dim=dim).abs() for dim in (-1, -2))
    across, down = (part.mean(dim=(1, 2, 3), dtype=torch.float64) for part in steps)
    return (across + down) / 2


def gradient_agreement(a: Tensor, b: Tensor) -> Tensor:
    """``(N,)`` cosines in [-1, 1] of the signed forward differences of two images ``(N, 3, H, W)``, H and W >= 2.

    1 where edges lie in the same places and directions whatever their strength, -1 for a negative; two flat images
    agree (1), a flat and another one do not (0).
    """
    _check_pair(a, b, "gradient agreement")
    _need_gradients(a)
    dot = squares_a = squares_b = torch.zeros(len(a), dtype=torch.float64)
    for dim in (-1, -2):
        steps_a, steps_b = (_wide(part).diff(dim=dim).flatten(1) for part in (a, b))
        dot = dot + (steps_a * steps_b).sum(dim=1, dtype=torch.float64)
        squares_a = squares_a + steps_a.square().sum(dim=1, dtype=torch.float64)
        squares_b = squares_b + steps_b.square().sum(dim=1, dtype=torch.float64)
    lengths = (squares_a * squares_b).sqrt()
    both_flat = ((squares_a == 0) & (squares_b == 0)).to(torch.float64)
    return torch.where(lengths > 0, dot / lengths.clamp_min(1e-300), both_flat).clamp(-1, 1)


def perceptual_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """``(N,)`` float64 distances of two images' feature maps, each a sequence of ``(N, C_i, H_i, W_i)``; 0 where equal.

    Zhang et al. 2018 (arXiv 1801.03924), eq. 1 with unit weights: features are scaled to unit length over channels,
    squared differences summed over channels, averaged over positions, and summed over layers. No published LPIPS
    weights are used, so its values compare only with others of the same net.
    """
    shapes = [[tuple(stage.shape) for stage in stages] for stages in (a, b)]
    if not a or shapes[0] != shapes[1]:
        raise UsageError(f"a perceptual distance needs equal feature maps of one net, not {shapes[0]} and {shapes[1]}")
    distances = torch.zeros(len(a[0]), dtype=torch.float64)
    for stage_a, stage_b in zip(a, b, strict=True):
        one, other = (functional.normalize(stage.detach(), dim=1, eps=1e-8) for stage in (stage_a, stage_b))
        distances += (one - other).square().sum(dim=1).mean(dim=(1, 2)).to("cpu", torch.float64)
    return distances


def _wide(images: Tensor) -> Tensor:
    """In float32 or wider: half precision would lose small differences."""
    return images.to(torch.promote_types(images.dtype, torch.float32))


def _check_pair(a: Tensor, b: Tensor, what: str) -> None:
    if a.shape != b.shape or a.ndim != 4:
        shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise UsageError(f"{what} needs two batches of one shape (N, 3, H, W), not {shapes}")


def _need_gradients(images: Tensor) -> None:
    if images.ndim != 4 or min(images.shape[-2:]) < 2:
        raise UsageError(f"gradients need images (N, 3, H, W) of 2 or more pixels a side, not {tuple(images.shape)}")


class PsnrMetric(PairedMetric):
    """PSNR in dB; equal images count as 100."""

    name, label, unit, better = "psnr", "PSNR", "dB", "high"
    always = True

    def measure(self, images: ImageBatch, reference: ImageBatch) -> Tensor:
        return psnr(images.images, reference.images).clamp_max(MOST_DECIBELS)

    def per_image(self) -> list[PerImage]:
        values = self.values("enhanced")
        return [] if values is None else [PerImage("PSNR", values, "high", compared=False)]


class PerceptualMetric(PairedMetric):
    """Perceptual distance in the feature net's maps."""

    name, label, better = "perceptual", "perceptual distance", "low"
    in_features = True

    def measure(self, images: ImageBatch, reference: ImageBatch) -> Tensor:
        rows = images.cached(
            "perceptual",
            lambda: perceptual_distance(images.features.stages, reference.features.stages).unsqueeze(1),
            reference,
        )
        return rows.squeeze(1)

    def per_image(self) -> list[PerImage]:
        before, after = self.values("distilled"), self.values("enhanced")
        numbers = [] if after is None else [PerImage("perceptual distance", after, "low")]
        if before is not None and after is not None:
            numbers.append(PerImage("perceptual gain", before - after, "high"))
        return numbers


class GradientAgreementMetric(PairedMetric):
    """Agreement of the gradients' directions; below 0 contrast is inverted."""

    name, label, better = "gradient_agreement", "gradient agreement", "high"

    def measure(self, images: ImageBatch, reference: ImageBatch) -> Tensor:
        return gradient_agreement(images.images, reference.images)

    def flags(self, scores: Sequence[Score]) -> list[Flag]:
        mean = score_of(scores, self.name)
        if mean is None or mean.high is None or mean.high >= 0:
            return []
        return [Flag("inverted contrast", f"edges run against the baseline's ({mean.value:.2f})")]


class GradientEnergyMetric(MeanMetric):
    """Gradient energy of every arm, and of the reference."""

    name, family, label = "gradient_energy", "detail", "gradient energy"
    always = True

    def update(self, batch: Batch) -> None:
        for arm, images in batch.items():
            self.add(arm, gradient_energy(images.images))


class QualityMetric(MeanMetric):
    """Mean quality, 0 to 1, of every arm and of the reference, without which that of the others says little."""

    name, family, label, better = "quality", "quality", "quality", "high"
    needs = frozenset({"quality"})
    always = True

    def update(self, batch: Batch) -> None:
        net = self.context.quality
        assert net is not None
        for arm, images in batch.items():
            pixels = images.images
            rows = images.cached(f"quality {net.digest}", lambda pixels=pixels: net(pixels).unsqueeze(1))
            self.add(arm, rows.squeeze(1))

    def compute(self) -> list[Score]:
        net = self.context.quality
        assert net is not None
        return [
            self.score(one.arm, one.interval or one.value, one.n, net="quality", digest=net.digest)
            for one in super().compute()
        ]
