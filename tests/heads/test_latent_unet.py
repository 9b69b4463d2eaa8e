from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from tests.heads.vaes import TINY_VAE
from topcoat.errors import UsageError
from topcoat.generators.base import ModelPair
from topcoat.generators.vae import VaeDecoder
from topcoat.heads import Head, LatentUNet, LatentUNetConfig
from topcoat.heads.latent_unet import change_flops

TINY = LatentUNetConfig(latent_channels=4, channels=(8, 12), blocks_per_stage=1, vae=TINY_VAE, vae_scale=4)


def awake(config: LatentUNetConfig = TINY) -> LatentUNet:
    torch.manual_seed(0)
    network = LatentUNet(config)
    nn.init.normal_(network.change.out.weight, std=0.02)
    return network.eval()


def test_the_default_keeps_its_budget():
    config = LatentUNetConfig(vae={**TINY_VAE, "latent_channels": 16})
    change = LatentUNet(config).change
    assert sum(weight.numel() for weight in change.parameters()) < 1.0e6
    assert change_flops(config, 128, 128) < 0.25e9
    decoding = LatentUNetConfig(channels=(1,), blocks_per_stage=1, cbam=False, vae=config.vae)
    rest = decoding.flops(128, 128) - change_flops(decoding, 128, 128)
    assert config.flops(128, 128) == change_flops(config, 128, 128) + rest


def test_untrained_it_decodes_the_distilled_image_and_every_weight_of_the_change_can_learn():
    latents = torch.randn(2, 4, 3, 5)
    network = LatentUNet(TINY)
    assert torch.equal(network(latents), network.decoder(latents))
    network = awake()
    network(latents).square().mean().backward()
    assert [name for name, weight in network.change.named_parameters() if weight.grad is None] == []
    assert all(weight.grad is None and not weight.requires_grad for weight in network.decoder.parameters())


def test_strength_moves_between_the_distilled_image_and_beyond():
    head, latents = Head(awake(), TINY), torch.randn(2, 4, 4, 4)
    assert head.input == "latent" and head.has_strength
    torch.testing.assert_close(head(latents, strength=0.0), awake().decoder(latents).clamp(0, 1))
    way = [float((head(latents, strength) - head(latents, 0.0)).abs().mean()) for strength in (0.5, 1.0, 2.0)]
    assert 0 < way[0] < way[1] < way[2]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (4, 4), (7, 2)])
def test_latents_of_any_size(height: int, width: int):
    assert Head(awake(), TINY)(torch.randn(1, 4, height, width)).shape == (1, 3, 4 * height, 4 * width)
    assert TINY.input_shape(4 * width, 4 * height) == (4, height, width)


def test_its_card_says_how_it_is_used(tmp_path: Path):
    Head(awake(), TINY).save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "with that model's own VAE" in card and "head(latents, strength=1.0)" in card


def test_the_real_decoder_gives_the_pipelines_images(flux_pair: ModelPair):
    from topcoat.generators.diffusers import load_generator
    from topcoat.generators.vae import load_vae
    from topcoat.training import TrainConfig, run_config
    from topcoat.training.stage import starting_point

    alone = run_config("latent-unet").last.model_copy(update={"previous": None})
    config, head = starting_point(alone, None, load_vae(flux_pair.distilled))
    assert isinstance(config, TrainConfig) and head is not None and head.config == config.head
    generator = load_generator(flux_pair.distilled)
    latents = generator.generate_latents(["studio portrait"], [0])
    torch.testing.assert_close(head(latents), generator.decode(latents))


def test_bad_settings_are_refused():
    with pytest.raises(UsageError, match="does not say which VAE"):
        LatentUNet(LatentUNetConfig())
    with pytest.raises(UsageError, match="'VQModel', which is not supported"):
        VaeDecoder({"_class_name": "VQModel"})
    for change in ({"channels": ()}, {"blocks_per_stage": 0}, {"latent_channels": 0}, {"vae": 3}, {"scale": 8}):
        with pytest.raises(ValidationError):
            LatentUNetConfig.model_validate(change)
