"""Losses: pure functions of images ``(N, 3, H, W)`` or feature maps, each a mean, so that size and batch do not matter.

In every formula x is the distilled image, y the baseline image of the same subject and z the head's output. The paper
(arXiv 2505.02255) trains with GRAD(x, z) + LPIPS(y, z).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from topcoat.images import gaussian_blur
from topcoat.metrics.spectrum import ROUNDING_POWER, cell_powers, windowed_power

_OPPONENTS = (
    (3**-0.5, 3**-0.5, 3**-0.5),
    (2**-0.5, -(2**-0.5), 0.0),
    (6**-0.5, 6**-0.5, -2 * 6**-0.5),
)
"""Brightness, red against green, yellow against blue: orthonormal."""

GradientKind = Literal["forward", "sobel", "magnitude", "multi_scale", "low_passed"]


class HasStages(Protocol):
    """What `perceptual_loss` reads of `topcoat.features.Features`."""

    @property
    def stages(self) -> Sequence[Tensor]:
        """Feature maps ``(N, C_i, H_i, W_i)``."""
        ...


LossNet = Callable[[Tensor], HasStages]
"""The frozen net for losses: features of images ``(N, 3, H, W)`` in [0, 1]."""


def gradient_loss(z: Tensor, x: Tensor, kind: GradientKind = "forward") -> Tensor:
    """GRAD(x, z): how far the gradients of two images ``(N, C, H, W)`` are apart. A scalar, 0 for equal gradients.

    The paper names GRAD without its formula; the definitions in use are offered by name:

    - ``forward``: L1 of signed forward differences. The default: sign matters, so contrast cannot invert.
    - ``sobel``: L1 of signed Sobel responses (in units of one pixel step), less sensitive to noise.
    - ``magnitude``: L1 of gradient magnitudes, the gradient map of SPSR (arXiv 2003.13081, eq. 3); sign-blind.
    - ``multi_scale``: mean of ``forward`` at full, half and quarter size (as in MiDaS, arXiv 1907.01341, eq. 11).
    - ``low_passed``: ``forward`` after a blur of 1.5 px: keeps structure, leaves new fine detail unpunished.
    """
    return _GRADIENTS[kind](z, x)


def perceptual_loss(features_z: HasStages, features_y: HasStages) -> Tensor:
    """Distance of two images in feature space: LPIPS (arXiv 1801.03924, eq. 1) without its learned channel weights.

    d = sum over stages l of mean over positions of || f_l(z)/|f_l(z)| - f_l(y)/|f_l(y)| ||^2, averaged over the batch;
    each stage adds 0 to 4. Unlike LPIPS the norm has its epsilon under the root, whose derivative at 0 is infinite.
    """
    distances = [
        (_unit(a) - _unit(b)).square().sum(1).mean() for a, b in zip(features_z.stages, features_y.stages, strict=True)
    ]
    return torch.stack(distances).sum()


def charbonnier(z: Tensor, y: Tensor, epsilon: float = 1e-3) -> Tensor:
    """mean of sqrt((z - y)^2 + epsilon^2) - epsilon, a smooth L1 (LapSRN, arXiv 1710.01992); 0 for equal images."""
    return (z - y).square().add(epsilon**2).sqrt().sub(epsilon).mean()


def low_frequency_loss(z: Tensor, y: Tensor, cell_px: int = 8) -> Tensor:
    """L1 of the means of ``cell_px`` squares: holds colour and light, blind to texture.

    The idea of the blurred colour loss of DPED (arXiv 1704.02470, eq. 1), with a box for its Gaussian.
    """
    cell = min(cell_px, z.shape[-2], z.shape[-1])
    return (F.avg_pool2d(z, cell) - F.avg_pool2d(y, cell)).abs().mean()


def focal_frequency_loss(z: Tensor, y: Tensor, alpha: float = 1.0) -> Tensor:
    """Focal frequency loss (arXiv 2012.12821, eq. 8): squared spectrum differences, weighted by their own size.

    w = |F(z) - F(y)|^alpha, scaled to a maximum of 1 per channel and kept out of the gradient.
    """
    difference = torch.fft.rfft2(z.float() - y.float(), norm="ortho")
    squared = difference.real.square() + difference.imag.square()
    weight = squared.detach().pow(alpha / 2)
    weight = weight / weight.amax(dim=(-2, -1), keepdim=True).clamp_min(1e-12)
    return (weight * squared).mean()


def spectrum_loss(z: Tensor, y: Tensor, cells: int = 16) -> Tensor:
    """How far the mean power spectra of two batches ``(N, 3, H, W)`` are apart, in nepers; a scalar, 0 where equal.

    The idea of spectral regularisation (arXiv 2003.01826, eq. 8). In place of that paper's rings, power is averaged
    over the batch and over ``cells`` x ``cells`` squares of the plane (|fy|, |fx|), for brightness and two colour
    differences. L1 of logarithms, so that faint fine detail counts as much as broad light; power below the rounding of
    8-bit files counts as none.
    """
    return (_mean_powers(z, cells).log() - _mean_powers(y, cells).log()).abs().mean()


def latent_spectrum_loss(z: Tensor, y: Tensor) -> Tensor:
    """`spectrum_loss` of two batches of latents ``(N, C, h, w)``: frequency by frequency and channel by channel.

    Power below a thousandth of the channel's own mean in ``y`` counts as none.
    """
    power_z, power_y = (windowed_power(latents.float()).mean(dim=0) for latents in (z, y))
    floor = 1e-3 * power_y.mean(dim=(-2, -1), keepdim=True) + 1e-12
    return ((power_z + floor).log() - (power_y + floor).log()).abs().mean()


def latent_contrast_loss(z: Tensor, y: Tensor) -> Tensor:
    """How far the contrasts of two batches of latents ``(N, C, h, w)`` are apart, in nepers of power; 0 where equal.

    The contrast of a position is the logarithm of the power of its 3x3 latents against their surroundings. Compared are
    the sorted contrasts of all positions of each channel, a Wasserstein distance in one dimension.
    """
    spread = y.std(dim=(0, 2, 3), keepdim=True).clamp_min(1e-6)
    sorted_z, sorted_y = (_contrasts(fine_latents(latents) / spread).sort(dim=1).values for latents in (z, y))
    return (sorted_z - sorted_y).abs().mean()


def fine_latents(latents: Tensor) -> Tensor:
    """Latents ``(N, C, h, w)`` less the mean of their 3x3 surroundings; borders repeat."""
    return latents - F.avg_pool2d(F.pad(latents, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def _contrasts(fine: Tensor) -> Tensor:
    """``(C, N h w)`` logarithms of mean power over 3x3 positions; the floor is a 300th of the spread."""
    power = F.avg_pool2d(fine.square(), 3, stride=1, padding=1, count_include_pad=False)
    return (power + 1e-5).log().transpose(0, 1).flatten(1)


def _mean_powers(images: Tensor, cells: int) -> Tensor:
    """``(3, cells, cells)`` mean power of a batch by opponent colour and frequency."""
    opponents = torch.tensor(_OPPONENTS, device=images.device)
    power = windowed_power(torch.einsum("nchw,oc->nohw", images.float(), opponents)).mean(dim=0)
    return cell_powers(power, cells) + ROUNDING_POWER


def _forward_l1(z: Tensor, x: Tensor) -> Tensor:
    difference = z - x  # the gradient is linear: the difference of gradients is the gradient of the difference
    return difference.diff(dim=-2).abs().mean() + difference.diff(dim=-1).abs().mean()


def _sobel_l1(z: Tensor, x: Tensor) -> Tensor:
    difference = z - x
    channels = difference.shape[1]
    kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=z.device, dtype=z.dtype) / 8
    kernels = torch.stack([kernel, kernel.T])[:, None].repeat(channels, 1, 1, 1)  # (2 C, 1, 3, 3)
    response = F.conv2d(difference, kernels, groups=channels)
    return 2 * response.abs().mean()  # the two directions are summed, as in the other kinds


def _magnitude_l1(z: Tensor, x: Tensor) -> Tensor:
    def magnitude(images: Tensor) -> Tensor:
        down = (images[..., 2:, 1:-1] - images[..., :-2, 1:-1]) / 2
        right = (images[..., 1:-1, 2:] - images[..., 1:-1, :-2]) / 2
        return (down.square() + right.square() + 1e-6).sqrt()

    return (magnitude(z) - magnitude(x)).abs().mean()


def _multi_scale_l1(z: Tensor, x: Tensor) -> Tensor:
    losses: list[Tensor] = []
    for _ in range(3):
        losses.append(_forward_l1(z, x))
        if min(z.shape[-2:]) < 4:
            break
        z, x = F.avg_pool2d(z, 2), F.avg_pool2d(x, 2)
    return torch.stack(losses).mean()


def _low_passed_l1(z: Tensor, x: Tensor) -> Tensor:
    zero = torch.zeros_like(z)  # blur is linear too: one blur, of the difference
    return _forward_l1(gaussian_blur(z - x, sigma_px=1.5), zero)


def _unit(features: Tensor) -> Tensor:
    features = features.float()
    return features * torch.rsqrt(features.square().sum(1, keepdim=True) + 1e-6)


_GRADIENTS: Mapping[GradientKind, Callable[[Tensor, Tensor], Tensor]] = {
    "forward": _forward_l1,
    "sobel": _sobel_l1,
    "magnitude": _magnitude_l1,
    "multi_scale": _multi_scale_l1,
    "low_passed": _low_passed_l1,
}
