"""A linear start for the autoencoder: exact patch PCA, written into the weights of diffusers' `AutoencoderDC`.

Its pixel-(un)shuffle layers can hold any linear map of 8x8 patches. Starting from the best linear code of 16 numbers
(principal components) instead of from noise saves most of the training that a small machine cannot afford.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

PATCH_PX = 8
WHITENING = 0.65
"""0 keeps the components' own variances (the coarse ones a hundred times the fine ones), 1 makes all equal. Between
the two, coarse structure is decided first along the flow without fine detail drowning in noise."""

CARRIER = 24.0
"""A constant channel, large beside any pixel, that makes the decoder's last RMS normalisation almost linear."""


def principal_components(images: Tensor, latent_channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """PCA of the 8x8 patches of ``images`` (N, 3, H, W) in [-1, 1].

    Returns the encoding matrix (latent, 192), the decoding matrix (192, latent) and the mean patch (192).
    """
    patches = nn.functional.pixel_unshuffle(images, PATCH_PX).permute(0, 2, 3, 1).reshape(-1, 3 * PATCH_PX**2).double()
    mean = patches.mean(dim=0)
    values, vectors = torch.linalg.eigh(torch.cov((patches - mean).T))
    order = values.argsort(descending=True)[:latent_channels]
    scale = values[order] ** (WHITENING / 2)
    scale = scale * (values[order] / scale**2).mean().sqrt()
    basis = vectors[:, order]
    return (basis / scale).T.float(), (basis * scale).float(), mean.float()


@torch.no_grad()
def start_from_components(autoencoder: Any, images: Tensor) -> None:
    """Set the weights of an `AutoencoderDC` (three halvings, no full-resolution blocks) to patch PCA of ``images``."""
    latent_channels = autoencoder.encoder.conv_out.out_channels
    encode, decode, mean = principal_components(images, latent_channels)
    for module in autoencoder.modules():
        if type(module).__name__ == "ResBlock":
            module.norm.weight.zero_()
            if module.norm.bias is not None:
                module.norm.bias.zero_()
    _start_encoder(autoencoder.encoder, encode, mean)
    _start_decoder(autoencoder.decoder, decode, mean, images)


def _start_encoder(encoder: Any, encode: Tensor, mean: Tensor) -> None:
    entry = encoder.conv_in.conv
    _set_center(entry, torch.eye(entry.out_channels, entry.in_channels))
    hidden_to_patch = torch.eye(3 * PATCH_PX**2).reshape(-1, 3, PATCH_PX, PATCH_PX)
    for block in encoder.down_blocks:
        for layer in block:
            if type(layer).__name__ == "DCDownBlock2d":
                _set_center(layer.conv, torch.zeros(layer.conv.out_channels, layer.conv.in_channels))
    hidden = encoder.conv_in(hidden_to_patch)
    for block in encoder.down_blocks:
        hidden = block(hidden)
    unshuffled = nn.functional.pixel_unshuffle(hidden_to_patch, PATCH_PX).flatten(1)  # (192 inputs, 192 pixels)
    to_patch = torch.linalg.solve(hidden.flatten(1), unshuffled).T  # patch = to_patch @ hidden
    _set_center(encoder.conv_out, encode @ to_patch, -encode @ mean)


def _start_decoder(decoder: Any, decode: Tensor, mean: Tensor, images: Tensor) -> None:
    latent = decode.shape[1]
    whole = torch.cat([decode, mean[:, None]], dim=1).reshape(3, PATCH_PX, PATCH_PX, latent + 1)

    # 16 px -> 32 px: every quarter of a patch (3, 4, 4), written in the best basis that the channels have room for.
    wide, first, second = decoder.conv_in, decoder.up_blocks[2][0], decoder.up_blocks[1][0]
    room = min(48, first.conv.out_channels // 4)
    quarters = torch.nn.functional.pixel_unshuffle(images, 4).permute(0, 2, 3, 1).reshape(-1, 48)
    vectors = torch.linalg.eigh(torch.cov(quarters.T))[1].flip(1)[:, :room]  # (48, room)
    center = quarters.mean(dim=0)
    target = torch.zeros(first.conv.out_channels, wide.out_channels)
    bias = torch.zeros(first.conv.out_channels)
    for row in range(2):
        for column in range(2):
            part = whole[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].reshape(48, latent + 1)
            code = vectors.T @ part
            position = torch.arange(room) * 4 + 2 * row + column
            target[position, :latent] = code[:, :latent]
            bias[position] = code[:, latent] - vectors.T @ center
    _set_center(wide, torch.eye(wide.out_channels, latent) - _repeat(wide.out_channels, latent))
    _set_center(first.conv, target - _repeat(*target.shape), bias)

    # 32 px -> 64 px: 2x2 pixels a position, and the carrier.
    blocks = vectors.reshape(3, 4, 4, room)
    centers = center.reshape(3, 4, 4)
    target = torch.zeros(second.conv.out_channels, second.conv.in_channels)
    bias = torch.zeros(second.conv.out_channels)
    for row in range(2):
        for column in range(2):
            window = (slice(None), slice(2 * row, 2 * row + 2), slice(2 * column, 2 * column + 2))
            position = torch.arange(12) * 4 + 2 * row + column
            target[position, :room] = blocks[window].reshape(12, room)
            bias[position] = centers[window].reshape(12)
    channels = second.conv.out_channels // 4
    bias[(channels - 1) * 4 :] = CARRIER
    _set_center(second.conv, target - _repeat(*target.shape), bias)

    # Last: undo the normalisation by the carrier, shift above zero for the ReLU and back again.
    decoder.norm_out.weight.fill_(CARRIER / channels**0.5 / 2)
    decoder.norm_out.bias.fill_(0.75)
    last = torch.zeros(decoder.conv_out.conv.out_channels, channels)
    last[torch.arange(12), torch.arange(12)] = 2.0
    _set_center(decoder.conv_out.conv, last, torch.full((12,), -1.5))


def _repeat(after: int, before: int) -> Tensor:
    """The shortcut of the up-blocks as a matrix: every input channel repeated ``after / before`` times."""
    return torch.eye(before).repeat_interleave(after // before, dim=0)


def _set_center(conv: nn.Conv2d, matrix: Tensor, bias: Tensor | None = None) -> None:
    """Make a 3x3 convolution the per-position linear map ``matrix`` (out, in)."""
    conv.weight.zero_()
    conv.weight[:, :, 1, 1] = matrix
    if conv.bias is not None:
        conv.bias.zero_() if bias is None else conv.bias.copy_(bias)
