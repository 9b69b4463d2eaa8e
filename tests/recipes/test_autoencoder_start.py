"""The autoencoder starts as exact patch PCA."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from recipes.mini.autoencoder import build_autoencoder
from recipes.mini.autoencoder_start import principal_components, start_from_components
from recipes.mini.recipe import Recipe


def test_the_start_encodes_and_decodes_like_principal_components() -> None:
    generator = torch.Generator().manual_seed(2)
    coarse = torch.randn(24, 3, 6, 6, generator=generator)
    images = F.interpolate(coarse, size=(32, 32), mode="bicubic").tanh()
    autoencoder = build_autoencoder(Recipe())
    start_from_components(autoencoder, images)
    encode, decode, mean = principal_components(images, 16)
    patches = F.pixel_unshuffle(images, 8).permute(0, 2, 3, 1)
    code = (patches - mean) @ encode.T
    with torch.no_grad():
        latents = autoencoder.encode(images).latent
        decoded = autoencoder.decode(latents).sample
    torch.testing.assert_close(latents, code.permute(0, 3, 1, 2), rtol=1e-3, atol=1e-3)
    linear = F.pixel_shuffle((code @ decode.T + mean).permute(0, 3, 1, 2), 8)
    # The decoder's last layer normalises by a large constant channel, which is linear to about a percent, and holds
    # each quarter patch in the 32 best of 48 directions.
    assert float((decoded - linear).square().mean().sqrt()) < 0.03


def test_latents_have_unit_variance_on_average_and_fall_in_order() -> None:
    generator = torch.Generator().manual_seed(3)
    images = F.interpolate(torch.randn(16, 3, 8, 8, generator=generator), size=(32, 32), mode="bicubic").tanh()
    encode, _, mean = principal_components(images, 16)
    patches = F.pixel_unshuffle(images, 8).permute(0, 2, 3, 1).reshape(-1, 192)
    variances = ((patches - mean) @ encode.T).var(dim=0)
    assert abs(float(variances.mean()) - 1) < 0.02
    assert bool((variances.diff() <= 1e-4).all())
