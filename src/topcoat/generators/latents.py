"""Latents between what a denoiser leaves and what its VAE reads: packing and normalisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def unpack(packed: Tensor, latent_height: int) -> Tensor:
    """``(N, C, h, w)`` from tokens ``(N, h/2 * w/2, 4C)``: FLUX.1 lays each 2x2 of latents into one token."""
    count, tokens, channels = packed.shape
    rows = latent_height // 2
    cells = packed.reshape(count, rows, tokens // rows, channels // 4, 2, 2)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(count, channels // 4, rows * 2, tokens // rows * 2)


def pack(latents: Tensor) -> Tensor:
    """The inverse of `unpack`: ``(N, h/2 * w/2, 4C)`` from ``(N, C, h, w)``."""
    return functional.pixel_unshuffle(latents, 2).flatten(2).transpose(1, 2)


def to_vae(latents: Tensor, vae: Any) -> Tensor:
    """``(N, C, h, w)`` as the VAE reads them, from what the denoiser left.

    FLUX.1, Z-Image and SDXL normalise by one or two numbers. FLUX.2 normalises each channel of its 2x2 patches by the
    statistics of the VAE's batch norm. A few VAEs name the mean and standard deviation of each channel.
    """
    if hasattr(vae, "bn"):
        mean, std = _patch_statistics(vae, latents)
        return functional.pixel_shuffle(functional.pixel_unshuffle(latents, 2) * std + mean, 2)
    scale, shift = _two_numbers(vae)
    mean, std = _channel_statistics(vae, latents)
    return latents * std / scale + shift + mean


def from_vae(values: Tensor, vae: Any) -> Tensor:
    """The inverse of `to_vae`."""
    if hasattr(vae, "bn"):
        mean, std = _patch_statistics(vae, values)
        return functional.pixel_shuffle((functional.pixel_unshuffle(values, 2) - mean) / std, 2)
    scale, shift = _two_numbers(vae)
    mean, std = _channel_statistics(vae, values)
    return (values - shift - mean) * scale / std


def encode(vae: Any, images: Tensor) -> Tensor:
    """``(N, C, h, w)`` in the VAE's own scale from images ``(N, 3, H, W)`` in [-1, 1]: the distribution's mode."""
    encoded = vae.encode(images.unsqueeze(2) if _of_video(vae) else images)
    latents = next((getattr(encoded, name) for name in ("latents", "latent") if hasattr(encoded, name)), None)
    latents = encoded.latent_dist.mode() if latents is None else latents
    return latents.squeeze(2) if _of_video(vae) else latents


def decode(vae: Any, latents: Tensor) -> Tensor:
    """Images ``(N, 3, H, W)`` about [-1, 1] from ``(N, C, h, w)`` in the VAE's own scale."""
    if _of_video(vae):
        return vae.decode(latents.unsqueeze(2), return_dict=False)[0].squeeze(2)
    return vae.decode(latents, return_dict=False)[0]


def latent_space(vae: Any) -> dict[str, Any]:
    """What latents of a VAE have to share with another's to be compared: their channels, and how they are normalised.

    Equal values do not prove that two VAEs are one, but those of the supported models differ in at least one of them. A
    tiny VAE (`AutoencoderTiny`) has numbers of its own for the space of a large one, so its normalisation says nothing.
    """
    config = vae.config
    channels = config.get("latent_channels", config.get("z_dim"))
    names = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")
    numbers = None if type(vae).__name__ == "AutoencoderTiny" else [config.get(name) for name in names]
    return {"channels": channels, "normalisation": numbers}


def _of_video(vae: Any) -> bool:
    """Whether the VAE reads and gives frames, of which an image is one (Qwen-Image)."""
    return hasattr(vae.config, "temperal_downsample")


def _two_numbers(vae: Any) -> tuple[float, float]:
    scale, shift = getattr(vae.config, "scaling_factor", None), getattr(vae.config, "shift_factor", None)
    return (1.0 if scale is None else scale), (0.0 if shift is None else shift)


def _channel_statistics(vae: Any, like: Tensor) -> tuple[Tensor | float, Tensor | float]:
    mean, std = getattr(vae.config, "latents_mean", None), getattr(vae.config, "latents_std", None)
    if mean is None or std is None:
        return 0.0, 1.0
    return tuple(torch.tensor(values).view(1, -1, 1, 1).to(like) for values in (mean, std))  # type: ignore[return-value]


def _patch_statistics(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    mean = vae.bn.running_mean.view(1, -1, 1, 1)
    std = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps)
    return mean.to(like), std.to(like)
