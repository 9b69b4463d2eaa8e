"""Structural similarity of two images: Wang et al. 2004, and over several scales Wang et al. 2003."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from topcoat.errors import UsageError
from topcoat.metrics.base import PairedMetric
from topcoat.metrics.embed import ImageBatch

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the five scales, finest first (Wang et al. 2003, table 1)."""
SSIM_WINDOW_PX = 11
_SSIM_SIGMA_PX = 1.5
_SSIM_C1, _SSIM_C2 = 0.01**2, 0.03**2  # for values in [0, 1]


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """``(N,)`` structural similarities of images ``(N, 3, H, W)`` in [0, 1], H and W >= 11; 1 where equal.

    Wang et al. 2004, eq. 13: Gaussian window of 11 px and sigma 1.5, mean over pixels and channels. Borders are
    mirrored, so that every pixel counts (as torchmetrics does).
    """
    _check(a, b, "SSIM")
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
    _check(a, b, "MS-SSIM")
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


def _check(a: Tensor, b: Tensor, what: str) -> None:
    if a.shape != b.shape or a.ndim != 4:
        shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise UsageError(f"{what} needs two batches of one shape (N, 3, H, W), not {shapes}")


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


class StructureMetric(PairedMetric):
    """SSIM and MS-SSIM."""

    name, better = "ssim", "high"

    def measure(self, images: ImageBatch, reference: ImageBatch) -> Mapping[str, Tensor]:
        scales = ms_ssim_scales(*images.images.shape[-2:])
        short = "" if scales == len(MS_SSIM_WEIGHTS) else f" ({scales} scales)"
        self.labels = {"ssim": "SSIM", "ms_ssim": f"MS-SSIM{short}"}
        single, multi = structural_similarities(images.images, reference.images)
        return {"ssim": single, "ms_ssim": multi}
