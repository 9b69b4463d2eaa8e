from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from topcoat.errors import UsageError
from topcoat.heads import Decoder, DecoderConfig, Head

TINY = DecoderConfig(latent_channels=4, channels=(8, 6, 4), blocks=(1, 0, 1))


def awake(config: DecoderConfig = TINY) -> Decoder:
    torch.manual_seed(0)
    network = Decoder(config)
    nn.init.normal_(network.out.weight, std=0.02)
    nn.init.normal_(network.colour.weight, std=0.1)
    return network.eval()


def test_default_costs_less_than_a_small_vae_decoder():
    described = DecoderConfig()
    assert described.flops(128, 128) < 0.25e9  # what the mini pair's VAE decoder takes
    assert described.latent_channels == 16 and described.input == "latent"
    base = DecoderConfig.model_validate({"size": "base"})
    assert base.flops(1024, 1024) < 0.05 * 10.47e12  # FLUX.1's VAE decoder at 1024 px


@pytest.mark.parametrize(("channels", "scale"), [((8,), 2), ((8, 6), 4), ((8, 6, 4), 8), ((8, 6, 4, 4), 16)])
def test_every_scale_doubles_the_side(channels: tuple[int, ...], scale: int):
    config = DecoderConfig(latent_channels=4, channels=channels, blocks=(1,) * len(channels))
    assert config.scale == config.size_multiple == scale
    assert config.input_shape(5 * scale, 3 * scale) == (4, 3, 5)
    assert Decoder(config)(torch.randn(2, 4, 3, 5)).shape == (2, 3, 3 * scale, 5 * scale)


def test_untrained_decoder_paints_grey_and_every_weight_can_learn():
    latents = torch.randn(2, 4, 3, 5)
    assert torch.equal(Decoder(TINY)(latents), torch.full((2, 3, 24, 40), 0.5))
    network = awake()
    network(latents).square().mean().backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


def test_head_decodes_latents(tmp_path: Path):
    head = Head(awake(), TINY)
    latents = torch.randn(2, 4, 3, 5)
    images = head(latents)
    assert images.shape == (2, 3, 24, 40) and float(images.min()) >= 0 and float(images.max()) <= 1
    assert images.is_contiguous() and not images.requires_grad
    head.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "latents of 4 channels" in card and "head(latents)" in card


def test_head_refuses_what_it_cannot_decode():
    head = Head(awake(), TINY)
    for latents, words in (
        (torch.rand(1, 3, 32, 32), "may be images"),
        (torch.randn(1, 16, 4, 4), "4 channels, not 16"),
        (torch.randn(4, 4, 4), "shape"),
        (torch.randn(0, 4, 4, 4), "shape"),
        (torch.zeros(1, 4, 4, 4, dtype=torch.int64), "int64"),
        (torch.full((1, 4, 2, 2), float("nan")), "NaN"),
        ("latents", "str"),
    ):
        with pytest.raises(UsageError, match=words):
            head(latents)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="leave strength at 1"):
        head(torch.randn(1, 4, 2, 2), strength=0.5)


@pytest.mark.parametrize(
    "change", [{"channels": ()}, {"blocks": (1, 1)}, {"latent_channels": 0}, {"size": "giant"}, {"scale": 8}]
)
def test_bad_settings_are_refused(change: dict[str, object]):
    with pytest.raises(ValidationError):
        DecoderConfig.model_validate(change)
