"""Paired measures: functions of two images of the same subject, or of one, per image.

Each says how far an image is from *one* image of the subject. The baseline could have painted the subject in other
ways, so a paired figure is always read beside the do-nothing score (distilled against baseline).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from topcoat.errors import UsageError

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the five scales, finest first (Wang et al. 2003, table 1)."""
SSIM_WINDOW_PX = 11
_SSIM_SIGMA_PX = 1.5
_SSIM_C1, _SSIM_C2 = 0.01**2, 0.03**2  # for values in [0, 1]


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """``(N,)`` peak signal-to-noise ratios in dB of images ``(N, 3, H, W)`` in [0, 1]; infinity where equal."""
    _check_pair(a, b, "PSNR")
    error = (a.to(torch.float64) - b.to(torch.float64)).square().mean(dim=(1, 2, 3))
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


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """``(N,)`` multi-scale structural similarities of images ``(N, 3, H, W)`` in [0, 1], H and W >= 11; 1 where equal.

    Wang et al. 2003, eq. 7; terms below zero count as zero. Images under 176 px a side have no room for five scales:
    the finest that fit are taken, their weights scaled to sum to 1 (128 px: four).
    """
    return structural_similarities(a, b)[1]


def structural_similarities(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """`ssim` and `ms_ssim` of the same images for little more than the price of one."""
    _check_pair(a, b, "MS-SSIM")
    scales = ms_ssim_scales(*a.shape[-2:])
    single, contrast = _similarity_terms(a, b)
    weights = torch.tensor(MS_SSIM_WEIGHTS[:scales], dtype=torch.float64)
    weights = weights / weights.sum()
    whole, found = single, torch.ones_like(single)
    for scale in range(scales - 1):
        found = found * contrast.clamp_min(0) ** weights[scale]
        a, b = functional.avg_pool2d(a, 2), functional.avg_pool2d(b, 2)
        whole, contrast = _similarity_terms(a, b)
    return single, found * whole.clamp_min(0) ** weights[-1]


def gradient_energy(images: Tensor) -> Tensor:
    """``(N,)`` mean absolute forward differences of images ``(N, 3, H, W)`` in [0, 1], H and W >= 2.

    The mean over both directions, channels and pixels: a plain measure of how much fine contrast an image has.
    """
    _need_gradients(images)
    images = images.to(torch.float64)
    across = (images[..., :, 1:] - images[..., :, :-1]).abs().mean(dim=(1, 2, 3))
    down = (images[..., 1:, :] - images[..., :-1, :]).abs().mean(dim=(1, 2, 3))
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
        steps_a, steps_b = (part.to(torch.float64).diff(dim=dim).flatten(1) for part in (a, b))
        dot = dot + (steps_a * steps_b).sum(dim=1)
        squares_a = squares_a + steps_a.square().sum(dim=1)
        squares_b = squares_b + steps_b.square().sum(dim=1)
    lengths = (squares_a * squares_b).sqrt()
    both_flat = ((squares_a == 0) & (squares_b == 0)).to(torch.float64)
    return torch.where(lengths > 0, dot / lengths.clamp_min(1e-300), both_flat).clamp(-1, 1)


def perceptual_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """``(N,)`` float64 distances of two images' feature maps, each a sequence of ``(N, C_i, H_i, W_i)``; 0 where equal.

    Zhang et al. 2018 (arXiv 1801.03924), eq. 1 with unit weights: features are scaled to unit length over channels,
    squared differences summed over channels, averaged over places, and summed over layers. No published LPIPS weights
    are used, so its values compare only with others of the same net.
    """
    shapes = [[tuple(stage.shape) for stage in stages] for stages in (a, b)]
    if not a or shapes[0] != shapes[1]:
        raise UsageError(f"a perceptual distance needs equal feature maps of one net, not {shapes[0]} and {shapes[1]}")
    found = torch.zeros(len(a[0]), dtype=torch.float64)
    for stage_a, stage_b in zip(a, b, strict=True):
        one, other = (functional.normalize(stage.detach(), dim=1, eps=1e-8) for stage in (stage_a, stage_b))
        found += (one - other).square().sum(dim=1).mean(dim=(1, 2)).to("cpu", torch.float64)
    return found


def _check_pair(a: Tensor, b: Tensor, what: str) -> None:
    if a.shape != b.shape or a.ndim != 4:
        shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise UsageError(f"{what} needs two batches of one shape (N, 3, H, W), not {shapes}")


def _need_gradients(images: Tensor) -> None:
    if images.ndim != 4 or min(images.shape[-2:]) < 2:
        raise UsageError(f"gradients need images (N, 3, H, W) of 2 or more pixels a side, not {tuple(images.shape)}")


def _need_window(images: Tensor) -> None:
    if min(images.shape[-2:]) < SSIM_WINDOW_PX:
        height, width = images.shape[-2:]
        raise UsageError(f"SSIM needs images of {SSIM_WINDOW_PX} or more pixels a side, not {width}x{height}")


def _similarity_terms(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """``(N,)`` means of the whole SSIM over all pixels, and of its contrast-structure term over whole windows."""
    _need_window(a)
    reach = SSIM_WINDOW_PX // 2
    window = torch.exp(-0.5 * ((torch.arange(SSIM_WINDOW_PX) - reach) / _SSIM_SIGMA_PX).square())
    window = window / window.sum()
    pair = functional.pad(torch.cat([a, b], dim=1).to(torch.float32), (reach,) * 4, mode="reflect")
    a, b = pair.chunk(2, dim=1)
    # One convolution per plane of everything stacked: five small ones cost more to start than to run.
    stacked = torch.cat([pair, a * a, b * b, a * b], dim=1)  # (N, 5 C, H + 10, W + 10)
    planes = stacked.shape[1]
    across = functional.conv2d(stacked, window.view(1, 1, 1, -1).expand(planes, 1, 1, -1), groups=planes)
    means = functional.conv2d(across, window.view(1, 1, -1, 1).expand(planes, 1, -1, 1), groups=planes)
    mean_a, mean_b, square_a, square_b, product = means.chunk(5, dim=1)
    cross, squares = mean_a * mean_b, mean_a.square() + mean_b.square()
    spread = (square_a - mean_a.square()).clamp_min(0) + (square_b - mean_b.square()).clamp_min(0)
    contrast = (2 * (product - cross) + _SSIM_C2) / (spread + _SSIM_C2)
    whole = contrast * (2 * cross + _SSIM_C1) / (squares + _SSIM_C1)
    inner = contrast[..., reach:-reach, reach:-reach]
    return whole.mean(dim=(1, 2, 3), dtype=torch.float64), inner.mean(dim=(1, 2, 3), dtype=torch.float64)
