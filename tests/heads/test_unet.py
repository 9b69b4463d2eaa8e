from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch.utils.flop_counter import FlopCounterMode

from topcoat.heads import UNet, UNetConfig
from topcoat.heads.layers import CBAM, ChannelAttention, SpatialAttention
from topcoat.heads.window import Window


def awake(config: UNetConfig, seed: int = 0) -> UNet:
    """A network whose last convolution is not zero, as after training."""
    torch.manual_seed(seed)
    network = UNet(config)
    torch.nn.init.normal_(network.out.weight, std=0.02)
    return network.eval()


def test_default_keeps_its_budget():
    network = UNet(UNetConfig())
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.rand(1, 3, 128, 128))
    assert 0.8e6 < sum(parameter.numel() for parameter in network.parameters()) < 1.5e6
    assert counter.get_total_flops() <= 0.5e9


@pytest.mark.parametrize("upsampling", ["pixel-shuffle", "resize"])
@pytest.mark.parametrize("unshuffle", [1, 2, 4])
@pytest.mark.parametrize("cbam", [True, False])
@pytest.mark.parametrize("channels", [(4,), (4, 6), (4, 6, 20)])
def test_untrained_network_changes_nothing_and_every_weight_can_learn(
    unshuffle: int, cbam: bool, channels: tuple[int, ...], upsampling: str
):
    config = UNetConfig.model_validate(
        {
            "channels": channels,
            "unshuffle": unshuffle,
            "cbam": cbam,
            "blocks_per_stage": 2,
            "upsampling": upsampling,
        }
    )
    side = 2 * config.size_multiple
    images = torch.rand(2, 3, side, side + config.size_multiple)
    untrained = UNet(config)
    assert torch.equal(untrained(images), torch.zeros_like(images))
    network = awake(config)
    network(images).square().mean().backward()
    dead = [name for name, weight in network.named_parameters() if weight.grad is None]
    assert dead == []


def test_size_multiple_is_what_the_network_needs():
    config = UNetConfig(channels=(4, 6, 8), unshuffle=2)
    assert (config.size_multiple, config.depth) == (8, 3)
    assert UNet(config)(torch.rand(1, 3, 8, 8)).shape == (1, 3, 8, 8)
    with pytest.raises(RuntimeError):
        UNet(config)(torch.rand(1, 3, 12, 12))


def test_there_is_no_normalisation_so_training_mode_is_the_same_function():
    network, images = awake(UNetConfig(channels=(8, 16, 24))), torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        together = network(images)
        torch.testing.assert_close(network.train()(images), together)


def test_a_change_of_colour_reaches_the_output():
    """Normalisation over the image would wash out a change of the whole image's colour."""
    network = awake(UNetConfig(channels=(8, 16)))
    image = torch.rand(1, 3, 32, 32) * 0.5
    with torch.no_grad():
        first, second = network(image), network(image + torch.tensor([0.3, 0.0, 0.1])[:, None, None])
    assert float((first - second).mean((2, 3)).abs().max()) > 1e-4


def test_initial_activations_stay_in_range():
    torch.manual_seed(0)
    network = UNet(UNetConfig())
    seen: list[float] = []
    for module in (*network.encoder, network.middle, *network.decoder):
        module.register_forward_hook(lambda _module, _inputs, output: seen.append(float(output.detach().std())))
    network(torch.rand(2, 3, 64, 64))
    assert len(seen) == 7
    assert all(0.1 < spread < 10 for spread in seen)


@pytest.mark.parametrize(
    "change",
    [
        {"channels": ()},
        {"channels": (0,)},
        {"blocks_per_stage": 0},
        {"unshuffle": 3},
        {"width": 3},
        {"size": "huge"},
        {"upsampling": "transposed"},
    ],
)
def test_bad_settings_are_refused(change: dict[str, object]):
    with pytest.raises(ValidationError):
        UNetConfig.model_validate(change)


def test_cbam_follows_the_paper():
    torch.manual_seed(1)
    module = CBAM(32, Window(cell=1, reach=64))
    hidden = torch.randn(2, 32, 5, 7)
    mlp = torch.nn.Sequential(module.channel.squeeze, torch.nn.ReLU(), module.channel.excite)
    average = torch.nn.functional.adaptive_avg_pool2d(hidden, 1).flatten(1)
    maximum = torch.nn.functional.adaptive_max_pool2d(hidden, 1).flatten(1)
    weighted = hidden * torch.sigmoid(mlp(average) + mlp(maximum))[:, :, None, None]
    planes = torch.stack([weighted.mean(1), weighted.max(1).values], dim=1)
    expected = weighted * torch.sigmoid(module.spatial.conv(planes))
    torch.testing.assert_close(module(hidden), expected)
    assert module.channel.squeeze.out_features == 2


def test_cbam_with_few_channels_and_in_other_layouts():
    assert ChannelAttention(4, Window(cell=1, reach=64)).squeeze.out_features == 1
    module = CBAM(4, Window(cell=1, reach=64))
    hidden = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(module(hidden.contiguous(memory_format=torch.channels_last)), module(hidden))
    assert SpatialAttention()(hidden).shape == (2, 1, 6, 6)
    assert not any(isinstance(part, torch.nn.modules.batchnorm._BatchNorm) for part in module.modules())


@pytest.mark.parametrize("size", ["small", "base", "large"])
def test_sizes_have_names(size: str):
    config = UNetConfig.model_validate({"size": size})
    described = config
    assert described.parameters() < 2e6
    assert described.flops(1024, 1024) < 1.5e12
    assert UNetConfig.model_validate(config.model_dump()) == config  # the name is not kept, what it means is
    assert UNetConfig.model_validate({"size": size, "cbam": False}).channels == config.channels
    assert (size == "base") == (config == UNetConfig())


def test_settings_of_older_heads_still_mean_the_same():
    old = {"kind": "unet", "channels": [24, 32, 64, 192], "blocks_per_stage": 1, "unshuffle": 2, "cbam": True}
    assert UNetConfig.model_validate(old) == UNetConfig()
