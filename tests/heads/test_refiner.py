"""The head that sends what another one paints through a VAE, and changes the latents there."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from tests.heads.vaes import TINY_VAE
from topcoat.errors import UsageError
from topcoat.heads import Head, LatentUNetConfig, NAFNetConfig, Refiner, RefinerConfig, UNetConfig

LATENT = LatentUNetConfig(latent_channels=4, channels=(8, 12), blocks_per_stage=1, vae=TINY_VAE, vae_scale=4)
UNET = RefinerConfig(painter=UNetConfig(channels=(4, 6, 8)), latent=LATENT)
NAFNET = RefinerConfig(painter=NAFNetConfig(width=4, encoder=(1,), middle=1, decoder=(1,)), latent=LATENT)


def awake(config: RefinerConfig = UNET) -> Refiner:
    torch.manual_seed(0)
    network = Refiner(config)
    for out in (network.painter.out, network.latent.change.out):
        nn.init.normal_(out.weight, std=0.02)
    return network.eval()


def images(count: int, height: int = 16, width: int = 16) -> Tensor:
    return torch.rand((count, 3, height, width), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("config", [UNET, NAFNET])
def test_it_is_its_parts_one_after_the_other(config: RefinerConfig):
    network, x = awake(config), images(2)
    with torch.no_grad():
        painted = (x + network.painter(x)).clamp(0, 1)
        expected = network.latent.decoder(network.latent.changed(network.encoder(painted))).clamp(0, 1)
    torch.testing.assert_close(Head(network, config)(x), expected)


def test_strength_goes_from_the_image_itself():
    head, x = Head(awake(), UNET), images(2)
    assert head.input == "image" and head.has_strength
    assert torch.equal(head(x, strength=0.0), x)
    torch.testing.assert_close(head(x, 0.5), (x + awake()(x) / 2).detach().clamp(0, 1))


def test_only_the_change_can_learn():
    network = awake().requires_grad_(False)
    network.latent_part.change.requires_grad_(True)
    network(images(2)).square().mean().backward()
    learning = {name for name, weight in network.named_parameters() if weight.grad is not None}
    assert learning == {name for name, _ in network.named_parameters() if name.startswith("latent.change.")}


@pytest.mark.parametrize(("height", "width"), [(1, 1), (8, 12), (13, 30), (16, 20)])
def test_images_of_any_size(height: int, width: int):
    assert Head(awake(), UNET)(images(1, height, width)).shape == (1, 3, height, width)


def test_its_cost_is_that_of_its_parts():
    encoder = Refiner(UNET).encoder.vae.encoder
    parts = UNET.painter.flops(64, 64) + LATENT.flops(64, 64)
    with torch.device("meta"):
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            encoder.to("meta")(torch.empty(1, 3, 64, 64))
    quantised = 2 * 8 * 8 * 16 * 16  # one 1x1 convolution of 8 channels
    assert UNET.flops(64, 64) == parts + counter.get_total_flops() + quantised


def test_what_changes_latents_is_found_in_both_kinds():
    assert UNET.latent_part == LATENT.latent_part == LATENT and UNET.painter.latent_part is None
    network = awake()
    assert network.latent_part is network.latent.latent_part is network.latent


def test_bad_settings_are_refused():
    with pytest.raises(UsageError, match="does not say which VAE"):
        Refiner(RefinerConfig())
    for change in ({"painter": {"kind": "cyclegan"}}, {"latent": {"kind": "decoder"}}, {"channels": (8,)}):
        with pytest.raises(ValidationError):
            RefinerConfig.model_validate(change)
