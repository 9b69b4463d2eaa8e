from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from topcoat.heads import Head, NAFNet, NAFNetConfig
from topcoat.heads.nafnet import NAFBlock
from topcoat.heads.window import Window

TINY = NAFNetConfig(width=4, encoder=(1, 0), middle=1, decoder=(0, 1))


def awake(config: NAFNetConfig) -> NAFNet:
    torch.manual_seed(0)
    network = NAFNet(config)
    for name, weight in network.named_parameters():
        if name.endswith("scale") or name == "out.weight":
            nn.init.normal_(weight, std=0.2)
    return network.eval()


def test_default_keeps_its_budget():
    described = NAFNetConfig()
    assert described.parameters() < 1.5e6
    assert described.flops(128, 128) < 0.5e9
    assert described.flops(1024, 1024) < 1.5e12


def test_untrained_network_changes_nothing_and_every_weight_can_learn():
    images = torch.rand(2, 3, 16, 24)
    assert torch.equal(NAFNet(TINY)(images), torch.zeros_like(images))
    network = awake(TINY)
    network(images).square().mean().backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


def test_block_follows_the_paper():
    torch.manual_seed(1)
    block = NAFBlock(6, Window(cell=1, reach=4))
    nn.init.normal_(block.scale)
    nn.init.normal_(block.second_scale)
    x = torch.randn(2, 6, 5, 7)

    def norm(hidden: Tensor) -> Tensor:
        centred = hidden - hidden.mean(1, keepdim=True)
        return centred / torch.sqrt(centred.square().mean(1, keepdim=True) + 1e-6)

    def linear(layer: nn.Conv2d, hidden: Tensor) -> Tensor:
        assert layer.bias is not None
        return torch.einsum("oc,nchw->nohw", layer.weight[:, :, 0, 0], hidden) + layer.bias[:, None, None]

    hidden = block.depthwise(linear(block.widen, norm(x)))
    gated = hidden[:, :6] * hidden[:, 6:]
    gated = gated * linear(block.attention, F.adaptive_avg_pool2d(gated, 1))
    first = x + linear(block.narrow, gated) * block.scale
    hidden = linear(block.second_widen, norm(first))
    expected = first + linear(block.second_narrow, hidden[:, :6] * hidden[:, 6:]) * block.second_scale
    torch.testing.assert_close(block(x), expected)


def test_size_multiple_is_what_the_network_needs():
    assert TINY.size_multiple == 8
    with pytest.raises(RuntimeError):
        awake(TINY)(torch.rand(1, 3, 12, 12))
    assert Head(awake(TINY), TINY)(torch.rand(1, 3, 11, 30)).shape == (1, 3, 11, 30)


@pytest.mark.parametrize("change", [{"width": 0}, {"encoder": (1,)}, {"middle": -1}, {"encoder": ()}, {"blocks": 3}])
def test_bad_settings_are_refused(change: dict[str, object]):
    with pytest.raises(ValidationError):
        NAFNetConfig.model_validate(change)
