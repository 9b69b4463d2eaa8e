from __future__ import annotations

import pytest
import torch

from tests.heads.vaes import settings_of
from topcoat.heads import KINDS, Head, UNetConfig, build_network
from topcoat.heads.descriptor import describe
from topcoat.heads.registry import parse_head_config


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_is_described(kind: str):
    config = parse_head_config(settings_of(kind), source="test")
    described = describe(config)
    assert described.name == kind and described.config == config
    assert described.takes in ("image", "latent")
    assert (described.latent_channels is None) == (described.takes == "image")
    assert described.size_multiple >= 1 and described.config.smallest_px % described.size_multiple == 0
    network = build_network(config)
    assert described.parameters == sum(weight.numel() for weight in network.parameters())
    assert Head(network, config).descriptor == described
    small, large = described.flops(128, 128), described.flops(256, 256)
    assert small > 1e7 and large == pytest.approx(4 * small, rel=0.15)  # attention in a VAE grows faster


def test_flops_are_those_of_the_padded_image():
    described = describe(UNetConfig(channels=(4, 6), unshuffle=2))
    assert described.flops(15, 13) == described.flops(16, 16) < described.flops(17, 16)
    stem = 2 * 12 * 4 * 9 * 64
    assert described.flops(16, 16) > 2 * stem  # stem and last convolution alone


def test_counting_needs_no_memory_and_no_randomness():
    before = torch.get_rng_state()
    assert describe(UNetConfig()).flops(16384, 16384) > 1e12
    assert torch.equal(torch.get_rng_state(), before)
