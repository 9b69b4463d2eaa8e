"""Paired measures: functions of two images of the same subject, or of one, per image.

The baseline could have drawn the subject in other ways, so compare a paired score with that of the distilled images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from topcoat.errors import UsageError
from topcoat.metrics.base import Flag, MeanMetric, PairedMetric, PerImage, Score, score_of
from topcoat.metrics.embed import Batch, ImageBatch

MOST_DECIBELS = 100
"""Equal images have no finite PSNR; this is what 8-bit files cannot reach, and JSON can hold it."""
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the five scales, finest first (Wang et al. 2003, table 1)."""
SSIM_WINDOW_PX = 11
_SSIM_SIGMA_PX = 1.5
_SSIM_C1, _SSIM_C2 = 0.01**2, 0.03**2  # for values in [0, 1]


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """``(N,)`` peak signal-to-noise ratios in dB of images ``(N, 3, H, W)`` in [0, 1]; infinity where equal."""
    _check_pair(a, b, "PSNR")
    error = (_wide(a) - _wide(b)).square().mean(dim=(1, 2, 3), dtype=torch.float64)
    return -10 * torch.log10(error)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """``(N,)`` structural similarities of images ``(N, 3, H, W)`` in [0, 1], H and W >= 11; 1 where equal.

    Wang et al. 2004, eq. 13: Gaussian window of 11 px and sigma 1.5, mean over pixels and channels. Borders are
    mirrored, so that every pixel counts (as torchmetrics does).
    """
    _check_pair(a, b, "SSIM")
    return _similarity_terms(a, b)[0]


def ms_ssim_scales(height: int, width: int) -> int:
    """How many of the five scales of MS-SSIM images of this size have room for (each halves the image)."""
    scales = 0
    while scales < len(MS_SSIM_WEIGHTS) and min(height, width) >> scales >= SSIM_WINDOW_PX:
        scales += 1
    return scales


def structural_similarities(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """`ssim` and, for little more, ``(N,)`` multi-scale structural similarities of the same images.

    Wang et al. 2003, eq. 7; terms below zero count as zero. Images under 176 px a side have no room for five scales:
    the finest that fit are taken, their weights scaled to sum to 1 (128 px: four).
    """
    _check_pair(a, b, "MS-SSIM")
    scales = ms_ssim_scales(*a.shape[-2:])
    single, contrast = _similarity_terms(a, b)
    weights = torch.tensor(MS_SSIM_WEIGHTS[:scales], dtype=torch.float64)
    weights = weights / weights.sum()
    whole, product = single, torch.ones_like(single)
    for scale in range(scales - 1):
        product = product * contrast.clamp_min(0) ** weights[scale]
        a, b = _halved(a), _halved(b)
        whole, contrast = _similarity_terms(a, b)
    return single, product * whole.clamp_min(0) ** weights[-1]


def _halved(images: Tensor) -> Tensor:
    """Means of 2 x 2 px, a last odd row or column left out: what an average pooling gives, in a quarter of the time."""
    height, width = (length // 2 * 2 for length in images.shape[-2:])
    rows = images[..., 0:height:2, :width] + images[..., 1:height:2, :width]
    return (rows[..., 0::2] + rows[..., 1::2]) / 4


def _similarity_terms(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """``(N,)`` means of the whole SSIM over all pixels, and of its contrast-structure term over whole windows."""
    if min(a.shape[-2:]) < SSIM_WINDOW_PX:
        raise UsageError(f"SSIM needs images of {SSIM_WINDOW_PX} or more pixels a side, not {a.shape[3]}x{a.shape[2]}")
    reach = SSIM_WINDOW_PX // 2
    window = torch.exp(-0.5 * ((torch.arange(SSIM_WINDOW_PX) - reach) / _SSIM_SIGMA_PX).square())
    window = window / window.sum()
    pair = functional.pad(torch.cat([a, b], dim=1).to(torch.float32), (reach,) * 4, mode="reflect")
    a, b = pair.chunk(2, dim=1)
    # One convolution per plane of everything stacked: four small ones cost more to start than to run. On a CPU it is
    # several times as fast where the planes of a pixel lie side by side.
    stacked = torch.cat([pair, a * a + b * b, a * b], dim=1)  # (N, 4 C, H + 10, W + 10)
    stacked = stacked.contiguous(memory_format=torch.channels_last)
    planes = stacked.shape[1]
    across = functional.conv2d(stacked, window.view(1, 1, 1, -1).expand(planes, 1, 1, -1), groups=planes)
    means = functional.conv2d(across, window.view(1, 1, -1, 1).expand(planes, 1, -1, 1), groups=planes)
    mean_a, mean_b, second, product = means.contiguous().chunk(4, dim=1)
    cross, squares = mean_a * mean_b, mean_a.square() + mean_b.square()
    spread = (second - squares).clamp_min(0)
    contrast = (2 * (product - cross) + _SSIM_C2) / (spread + _SSIM_C2)
    whole = contrast * (2 * cross + _SSIM_C1) / (squares + _SSIM_C1)
    inner = contrast[..., reach:-reach, reach:-reach]
    return whole.mean(dim=(1, 2, 3), dtype=torch.float64), inner.mean(dim=(1, 2, 3), dtype=torch.float64)


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


class StructureMetric(PairedMetric):
    """SSIM and MS-SSIM."""

    name, better = "ssim", "high"

    def measure(self, images: ImageBatch, reference: ImageBatch) -> Mapping[str, Tensor]:
        scales = ms_ssim_scales(*images.images.shape[-2:])
        short = "" if scales == len(MS_SSIM_WEIGHTS) else f" ({scales} scales)"
        self.labels = {"ssim": "SSIM", "ms_ssim": f"MS-SSIM{short}"}
        single, multi = structural_similarities(images.images, reference.images)
        return {"ssim": single, "ms_ssim": multi}


class PerceptualMetric(PairedMetric):
    """Perceptual distance in the feature net's maps."""

    name, label, better = "perceptual", "perceptual distance", "low"
    in_features = True

    def measure(self, images: ImageBatch, reference: ImageBatch) -> Tensor:
        rows = images.cached(
            "perceptual", lambda: perceptual_distance(images.features.stages, reference.features.stages), reference
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
