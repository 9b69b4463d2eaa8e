from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from tests.heads.vaes import settings_of
from topcoat.heads import KINDS, Head, HeadConfig, UNetConfig
from topcoat.heads.kinds import AnyHeadConfig, parse_head_config
from topcoat.heads.network import ImageNetwork

SMALL = {"cyclegan": {"base_channels": 4, "blocks": 1}, "esa-cyclegan": {"base_channels": 4, "blocks": 1}}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_says_what_it_is(kind: str):
    config = parse_head_config(settings_of(kind), source="test")
    assert TypeAdapter[HeadConfig](AnyHeadConfig).validate_python(settings_of(kind)) == config
    network = config.build()
    head = Head(network, config)
    assert head.kind == config.name() == kind
    assert head.input in ("image", "latent")
    assert (head.latent_channels is None) == (head.input == "image")
    assert head.input_shape(64, 32) == config.input_shape(64, 32)
    assert config.size_multiple >= 1 and config.smallest_px % config.size_multiple == 0
    assert config.parameters() == head.parameters == sum(weight.numel() for weight in network.parameters())
    small, large = config.flops(128, 128), config.flops(256, 256)
    assert small > 1e7 and large == pytest.approx(4 * small, rel=0.15)  # attention in a VAE grows faster


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_image_does_not_depend_on_its_batch_and_a_head_comes_back_whole(kind: str, tmp_path: Path):
    config = parse_head_config({**settings_of(kind), **SMALL.get(kind, {})}, source="test")
    torch.manual_seed(0)
    network = config.build()
    for weight in network.parameters():
        weight.data.add_(0.02 * torch.randn(weight.shape))
    head = Head(network, config, {"run": kind})
    inputs = torch.rand(3, *config.input_shape(64, 60))
    enhanced = head(inputs)
    assert float((enhanced[0] - enhanced[1]).abs().max()) > 1e-3
    torch.testing.assert_close(enhanced, torch.cat([head(one[None]) for one in inputs]), atol=1e-5, rtol=1e-4)
    head.save_pretrained(tmp_path)
    again = Head.from_pretrained(tmp_path)
    assert (again.digest, again.config, again.facts) == (head.digest, config, {"run": kind})
    assert torch.equal(again(inputs), enhanced)


@pytest.mark.parametrize("kind", ["decoder", "nafnet", "unet"])
def test_upsampling_starts_without_a_checkerboard(kind: str):
    (convolution, *_) = parse_head_config({"kind": kind}, source="test").build().get_submodule("up").children()
    assert isinstance(convolution, nn.Conv2d)
    up = nn.functional.pixel_shuffle(convolution(torch.rand(1, convolution.in_channels, 5, 5)), 2)
    blocks = up.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
    torch.testing.assert_close(blocks, blocks[..., :1].expand_as(blocks))


class BrighterConfig(HeadConfig):
    kind: Literal["brighter"] = "brighter"
    by: float = 0.25

    @property
    def size_multiple(self) -> int:
        return 4

    def build(self) -> Brighter:
        return Brighter(self)


class Brighter(ImageNetwork):
    def __init__(self, config: BrighterConfig) -> None:
        super().__init__()
        self.config = config
        self.change = nn.Parameter(torch.full((1, 3, 1, 1), config.by))

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[-1] % 4 == images.shape[-2] % 4 == 0
        return self.change.expand_as(images)


def test_a_kind_is_a_file_and_a_line_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(KINDS, "brighter", BrighterConfig)
    config = BrighterConfig(by=0.125)
    head, images = Head(config.build(), config), torch.full((2, 3, 5, 7), 0.5)
    torch.testing.assert_close(head(images, strength=2.0), images + 0.25)
    head.save_pretrained(tmp_path)
    loaded = Head.from_pretrained(tmp_path)
    assert loaded.config == config and loaded.digest == head.digest and loaded.kind == "brighter"
    assert "A topcoat head (brighter)" in (tmp_path / "README.md").read_text()


def test_flops_are_those_of_the_padded_image():
    config = UNetConfig(channels=(4, 6), unshuffle=2)
    assert config.flops(15, 13) == config.flops(16, 16) < config.flops(17, 16)
    stem = 2 * 12 * 4 * 9 * 64
    assert config.flops(16, 16) > 2 * stem  # stem and last convolution alone


def test_counting_needs_no_memory_and_no_randomness():
    before = torch.get_rng_state()
    assert UNetConfig().flops(16384, 16384) > 1e12
    assert torch.equal(torch.get_rng_state(), before)
