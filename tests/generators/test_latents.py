from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from topcoat.generators.latents import encode, from_vae, pack, to_vae, unpack


def vae(**config: Any) -> Any:
    return SimpleNamespace(config=SimpleNamespace(**config))


def flux2() -> Any:
    statistics = SimpleNamespace(running_mean=torch.linspace(-1, 1, 16), running_var=torch.linspace(0.5, 2, 16))
    return SimpleNamespace(config=SimpleNamespace(batch_norm_eps=1e-4), bn=statistics)


def test_packing_is_undone() -> None:
    latents = torch.randn(2, 5, 4, 6)
    assert pack(latents).shape == (2, 6, 20)
    assert torch.equal(unpack(pack(latents), 4), latents)


def test_packing_is_that_of_diffusers() -> None:
    from diffusers import FluxPipeline

    latents = torch.randn(2, 16, 4, 6)
    assert torch.equal(pack(latents), FluxPipeline._pack_latents(latents, 2, 16, 4, 6))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (vae(scaling_factor=0.5, shift_factor=0.1), 2.1),  # FLUX.1: z / scale + shift
        (vae(scaling_factor=2.0), 0.5),  # AutoencoderDC has no shift
        (vae(scaling_factor=0.5, shift_factor=None), 2.0),
        (vae(), 1.0),
        (vae(scaling_factor=2.0, latents_mean=[3.0] * 4, latents_std=[4.0] * 4), 5.0),  # SDXL: z * std / scale + mean
    ],
)
def test_scales_of_the_vaes(kind: Any, expected: float) -> None:
    latents = torch.ones(1, 4, 2, 2)
    torch.testing.assert_close(to_vae(latents, kind), torch.full_like(latents, expected))
    torch.testing.assert_close(from_vae(to_vae(latents, kind), kind), latents)


def test_flux2_normalises_each_channel_of_its_patches() -> None:
    latents = torch.randn(2, 4, 4, 6, generator=torch.Generator().manual_seed(0))
    values = to_vae(latents, flux2())
    patches = torch.nn.functional.pixel_unshuffle(values, 2)
    expected = torch.nn.functional.pixel_unshuffle(latents, 2)
    for channel in (0, 7, 15):
        scale = float(torch.sqrt(flux2().bn.running_var[channel] + 1e-4))
        shift = float(flux2().bn.running_mean[channel])
        torch.testing.assert_close(patches[:, channel], expected[:, channel] * scale + shift)
    torch.testing.assert_close(from_vae(values, flux2()), latents)


@pytest.mark.parametrize(
    "output",
    [
        SimpleNamespace(latents=torch.ones(1)),
        SimpleNamespace(latent=torch.ones(1)),
        SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: torch.ones(1))),
    ],
)
def test_every_kind_of_encoder_gives_its_latents(output: Any) -> None:
    vae = SimpleNamespace(encode=lambda images: output, config=SimpleNamespace())
    assert torch.equal(encode(vae, torch.zeros(1)), torch.ones(1))
