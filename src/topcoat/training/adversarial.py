"""Discriminators and the losses between them and a head.

A discriminator sees images alone, not pairs: the two halves of a pair never agree pixel by pixel, and a discriminator
that saw both would learn that. y is the baseline image, z the head's output; scores are higher for what looks like y.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from topcoat.config import StrictModel
from topcoat.heads.layers import start_small
from topcoat.training.losses import LossNet, fine_latents

Adversary = Literal["hinge", "lsgan"]

FINEST_FEATURES = 1
"""The first stage of the loss net that a discriminator looks at: stage 0 is as large as the image and costs most."""
SMALLEST_PX_70 = 24
"""Side below which `PatchGAN70` has one position left, which instance normalisation cannot take."""
_PROBE_PX = 64
_FAINT = 0.05
"""Share of a channel's spread below which `LatentDiscriminator` reads fine latents as they are."""

View = tuple[Tensor, ...]
"""What a discriminator reads of N images: tensors whose first axis is N."""


@dataclass(frozen=True, slots=True)
class DiscriminatorOutput:
    """Scores of N images by a discriminator."""

    scores: tuple[Tensor, ...]
    """Maps ``(N, 1, h, w)``, one per scale or stage; higher is more real."""
    features: tuple[Tensor, ...]
    """Its own hidden maps, for feature matching."""


class DiscriminatorConfig(StrictModel):
    """Which discriminator, how large, and its loss; the default has 0.17 M parameters and sees patches of 46 px."""

    looks_at: Literal["pixels", "features", "both"] = "pixels"
    """``pixels``: patches of the image. ``features``: maps and embedding of the frozen loss net, almost free where the
    perceptual loss computes them anyway. ``both``: one of each."""
    base_channels: int = Field(default=32, ge=1, le=512)
    layers: int = Field(default=3, ge=1, le=6)
    """Strided convolutions of the patch discriminator."""
    scales: int = Field(default=1, ge=1, le=4)
    """Patch discriminators on the image, its half, its quarter, ... (pix2pixHD)."""
    normalisation: Literal["spectral", "none"] = "spectral"
    loss: Adversary = "hinge"
    r1: float = Field(default=0.0, ge=0, le=1e6)
    """Weight of the R1 gradient penalty; 0 leaves it out."""
    r1_every_steps: int = Field(default=8, ge=1)
    """It is computed every so many steps, with so many times its weight (lazy regularisation, arXiv 1912.04958)."""


class PatchDiscriminator(nn.Module):
    """PatchGAN (pix2pix, arXiv 1611.07004), with spectral normalisation (arXiv 1802.05957) or none.

    Its view is one tensor of images ``(N, 3, H, W)`` in [0, 1].
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.scales = nn.ModuleList(_patch_layers(config) for _ in range(config.scales))

    def forward(self, view: View) -> DiscriminatorOutput:
        """Output for ``view``; one map of scores per scale."""
        (images,) = view
        smaller = [images * 2 - 1]
        for _ in self.scales[1:]:
            smaller.append(F.avg_pool2d(smaller[-1], 2))
        return _output(self.scales, smaller)


class FeatureDiscriminator(nn.Module):
    """A small head on every stage of a frozen feature net, and one on its embedding (Projected GANs, arXiv 2111.01007).

    ``example`` is a view of any images: maps ``(N, C_i, h_i, w_i)``, or vectors ``(N, D)``.
    """

    def __init__(self, config: DiscriminatorConfig, example: View) -> None:
        super().__init__()
        self.heads = nn.ModuleList(_feature_layers(config, part.shape[1], part.ndim == 4) for part in example)

    def forward(self, view: View) -> DiscriminatorOutput:
        """Output for ``view``; one map of scores per stage."""
        return _output(self.heads, [part if part.ndim == 4 else part[:, :, None, None] for part in view])


class BothDiscriminators(nn.Module):
    """A patch discriminator on the first tensor of a view and a feature discriminator on the others."""

    def __init__(self, patches: PatchDiscriminator, features: FeatureDiscriminator) -> None:
        super().__init__()
        self.patches = patches
        self.features = features

    def forward(self, view: View) -> DiscriminatorOutput:
        """Outputs of both, one after the other."""
        first, second = self.patches(view[:1]), self.features(view[1:])
        return DiscriminatorOutput(first.scores + second.scores, first.features + second.features)


class PatchGAN70(nn.Module):
    """CycleGAN's discriminator: the 70x70 PatchGAN with instance normalisation (arXiv 1703.10593, appendix 7.2).

    C64-C128-C256-C512, then one channel of scores: 2.76 M parameters; the last two convolutions are not strided.
    """

    def __init__(self, base_channels: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before, width = 3, base_channels
        for index, stride in enumerate((2, 2, 2, 1)):
            layers.append(nn.Conv2d(before, width, 4, stride=stride, padding=1))
            if index > 0:
                layers.append(nn.InstanceNorm2d(width))
            layers.append(nn.LeakyReLU(0.2))
            before, width = width, 2 * width
        layers.append(nn.Conv2d(before, 1, 4, padding=1))
        self.layers = nn.Sequential(*layers)
        start_small(self)

    def forward(self, images: Tensor) -> Tensor:
        """Scores ``(N, 1, h, w)`` of ``images`` ``(N, 3, H, W)`` in [0, 1], at least 32 px a side."""
        return self.layers(images * 2 - 1)


class LatentDiscriminator(nn.Module):
    """Scores latents by position at two sizes, and as a whole by statistics over positions.

    It reads the latents, and their fine detail on a nearly logarithmic scale, so that faint noise in a flat area is
    seen too. Spectral normalisation throughout (arXiv 1802.05957).
    """

    def __init__(self, latent_channels: int, base_channels: int) -> None:
        super().__init__()
        width = base_channels
        self.fine = spectral_norm(nn.Conv2d(2 * latent_channels, width, 3, padding=1))
        self.down = spectral_norm(nn.Conv2d(width, width, 4, stride=2, padding=1))
        self.coarse = spectral_norm(nn.Conv2d(width, width, 3, padding=1))
        self.scores = nn.ModuleList(spectral_norm(nn.Conv2d(width, 1, 1)) for _ in range(2))
        self.whole = spectral_norm(nn.Linear(4 * width, 1))

    def forward(self, latents: Tensor, spread: Tensor) -> tuple[Tensor, ...]:
        """Three tensors of scores of ``latents`` ``(N, C, h, w)``, counted in ``spread`` ``(C, 1, 1)``."""
        scaled = latents / spread
        faint = torch.asinh(fine_latents(scaled) / _FAINT)
        fine = F.leaky_relu(self.fine(torch.cat([scaled, faint], dim=1)), 0.2)
        coarse = F.leaky_relu(self.coarse(F.leaky_relu(self.down(fine), 0.2)), 0.2)
        whole = self.whole(torch.cat([_statistics(fine), _statistics(coarse)], dim=1))
        return self.scores[0](fine), self.scores[1](coarse), whole


def _statistics(maps: Tensor) -> Tensor:
    """``(N, 2 C)`` means and standard deviations over positions of ``(N, C, h, w)``."""
    spread = maps.var(dim=(2, 3), correction=0).add(1e-4).sqrt()
    return torch.cat([maps.mean(dim=(2, 3)), spread], dim=1)


def view_of(config: DiscriminatorConfig, images: Tensor, features: Any) -> View:
    """What the discriminator reads of ``images`` ``(N, 3, H, W)``; ``features`` are those of the loss net.

    They have ``.stages`` and may have ``.embedding``, and are not read where the discriminator looks at pixels alone.
    """
    pixels = (images,) if config.looks_at != "features" else ()
    if config.looks_at == "pixels":
        return pixels
    embedding = getattr(features, "embedding", None)
    maps = tuple(part.float() for part in features.stages[FINEST_FEATURES:])
    return (*pixels, *maps) if embedding is None else (*pixels, *maps, embedding.float())


def build_discriminator(config: DiscriminatorConfig, features: LossNet, device: torch.device) -> nn.Module:
    """The discriminator of ``config``, for views of what the loss net ``features`` on ``device`` sees."""
    if config.looks_at == "pixels":
        return PatchDiscriminator(config)
    with torch.no_grad():
        probe = torch.zeros(1, 3, _PROBE_PX, _PROBE_PX, device=device)
        view = view_of(config, probe, features(probe))
    if config.looks_at == "features":
        return FeatureDiscriminator(config, view)
    return BothDiscriminators(PatchDiscriminator(config), FeatureDiscriminator(config, view[1:]))


def _patch_layers(config: DiscriminatorConfig) -> nn.Sequential:
    least, most = config.base_channels, 4 * config.base_channels
    widths = [3, *(min(least * 2**index, most) for index in range(config.layers))]
    convolutions = [_conv(config, before, after, 4, stride=2) for before, after in pairwise(widths)]
    return nn.Sequential(*convolutions, _conv(config, widths[-1], 1, 4, stride=1))


def _feature_layers(config: DiscriminatorConfig, channels: int, is_map: bool) -> nn.Sequential:
    """Three convolutions; a vector is one position, where a 3x3 one would see its own padding and nothing else."""
    width = config.base_channels
    return nn.Sequential(
        _conv(config, channels, width, 1, stride=1),
        _conv(config, width, width, 3, stride=2) if is_map else _conv(config, width, width, 1, stride=1),
        _conv(config, width, 1, 1, stride=1),
    )


def _conv(config: DiscriminatorConfig, before: int, after: int, kernel_px: int, *, stride: int) -> nn.Module:
    convolution = nn.Conv2d(before, after, kernel_px, stride=stride, padding=1 if kernel_px > 1 else 0)
    return spectral_norm(convolution) if config.normalisation == "spectral" else convolution


def _output(networks: nn.ModuleList, inputs: Sequence[Tensor]) -> DiscriminatorOutput:
    """Of one network for each input: its hidden maps pass through a leaky ReLU, its last one has the scores."""
    scores: list[Tensor] = []
    features: list[Tensor] = []
    for layers, hidden in zip(networks, inputs, strict=True):
        *convolutions, last = layers.children()
        for convolution in convolutions:
            hidden = F.leaky_relu(convolution(hidden), 0.2)
            features.append(hidden)
        scores.append(last(hidden))
    return DiscriminatorOutput(tuple(scores), tuple(features))


def discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor], kind: Adversary) -> Tensor:
    """The discriminator's loss of its maps of scores of y and of z, a mean over the maps.

    hinge: E[max(0, 1 - D(y))] + E[max(0, 1 + D(z))] (arXiv 1802.05957, eq. 16).
    lsgan: (E[(D(y) - 1)^2] + E[D(z)^2]) / 2 (arXiv 1611.04076, eq. 9).
    """

    def loss(y: Tensor, z: Tensor) -> Tensor:
        if kind == "hinge":
            return F.relu(1 - y).mean() + F.relu(1 + z).mean()
        return ((y - 1).square().mean() + z.square().mean()) / 2

    return torch.stack([loss(y.float(), z.float()) for y, z in zip(real, fake, strict=True)]).mean()


def generator_loss(fake: Sequence[Tensor], kind: Adversary) -> Tensor:
    """The head's loss of the discriminator's maps of scores of z, a mean over the maps.

    hinge: -E[D(z)] (arXiv 1802.05957, eq. 17).
    lsgan: E[(D(z) - 1)^2], without the factor 1/2 of arXiv 1611.04076, as CycleGAN takes it.
    """
    maps = [scores.float() for scores in fake]
    return torch.stack([-z.mean() if kind == "hinge" else (z - 1).square().mean() for z in maps]).mean()


def r1_penalty(scores: Sequence[Tensor], inputs: Sequence[Tensor]) -> Tensor:
    """R1: half the mean squared norm of the gradient of D(y) with respect to y (arXiv 1801.04406, eq. 9).

    ``scores`` are maps computed from ``inputs`` (each ``(N, ...)``, with gradients on); the norm is per image.
    """
    total = torch.stack([score.float().mean((1, 2, 3)).sum() for score in scores]).sum()
    gradients = torch.autograd.grad(total, list(inputs), create_graph=True)
    return torch.stack([gradient.float().square().flatten(1).sum(1).mean() for gradient in gradients]).sum() / 2


def feature_matching_loss(fake: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """L1 of the discriminator's own features of z and y, a mean over layers (pix2pixHD, arXiv 1711.11585, eq. 4)."""
    distances = [(a.float() - b.detach().float()).abs().mean() for a, b in zip(fake, real, strict=True)]
    return torch.stack(distances).mean()
