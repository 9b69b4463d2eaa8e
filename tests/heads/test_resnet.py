from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from topcoat.errors import UsageError
from topcoat.heads import CycleGANConfig, ESACycleGANConfig, Head, ResNetGenerator
from topcoat.heads.layers import ESA, ESA_SMALLEST_SIDE
from topcoat.heads.network import Network
from topcoat.heads.resnet import ResNetBlock


def moved(network: Network, seed: int = 0) -> Network:
    """With weights large enough that every layer matters to the output."""
    torch.manual_seed(seed)
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.1)
    return network.eval()


def test_default_is_the_authors_generator():
    assert CycleGANConfig().parameters() == 11_378_179
    assert CycleGANConfig(upsampling="resize").parameters() == 11_378_179
    torch.manual_seed(0)
    weights = [value for name, value in ResNetGenerator(CycleGANConfig()).named_parameters() if "weight" in name]
    assert all(0.018 < float(weight.detach().std()) < 0.022 for weight in weights)


def instance_norm(hidden: Tensor) -> Tensor:
    mean = hidden.mean((2, 3), keepdim=True)
    variance = hidden.var((2, 3), keepdim=True, unbiased=False)
    return (hidden - mean) / torch.sqrt(variance + 1e-5)


def convolve(padded: Tensor, weight: Tensor, bias: Tensor, stride: int = 1) -> Tensor:
    """A convolution as a matrix product over unfolded patches."""
    side = weight.shape[-1]
    height, width = ((size - side) // stride + 1 for size in padded.shape[-2:])
    patches = F.unfold(padded, side, stride=stride)  # (N, C k k, L)
    return (weight.flatten(1) @ patches + bias[:, None]).unflatten(2, (height, width))


def mirrored(hidden: Tensor, border: int) -> Tensor:
    """Reflection padding by index."""

    def places(size: int) -> Tensor:
        index = torch.arange(-border, size + border).abs()
        return torch.where(index >= size, 2 * (size - 1) - index, index)

    return hidden[:, :, places(hidden.shape[2])][:, :, :, places(hidden.shape[3])]


def twice_transposed(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Stride 2, padding 1, output padding 1: put zeros between the places and convolve with the flipped kernel."""
    count, channels, height, width = hidden.shape
    spread = torch.zeros(count, channels, 2 * height, 2 * width, dtype=hidden.dtype)
    spread[:, :, ::2, ::2] = hidden
    return convolve(F.pad(spread, (1, 1, 1, 1)), weight.flip(2, 3).transpose(0, 1), bias)


def esa(hidden: Tensor, weights: dict[str, Tensor], prefix: str) -> Tensor:
    def conv(name: str, x: Tensor, border: int = 0, stride: int = 1) -> Tensor:
        padded = F.pad(x, (border,) * 4)
        return convolve(padded, weights[f"{prefix}{name}.weight"], weights[f"{prefix}{name}.bias"], stride)

    squeezed = conv("squeeze", hidden)
    wide = F.max_pool2d(conv("shrink", squeezed, stride=2), 7, 3)
    wide = conv("third", conv("second", conv("first", wide, 1).relu(), 1).relu(), 1)
    wide = F.interpolate(wide, hidden.shape[-2:], mode="bilinear", align_corners=False)
    return hidden * torch.sigmoid(conv("excite", wide + conv("shortcut", squeezed)))


def independent(weights: dict[str, Tensor], images: Tensor, blocks: int, attention: bool) -> Tensor:
    """The generator written again from the paper's appendix, with matrix products and indices alone."""
    at = [f"layers.{index}." for index in range(20 + blocks)]

    def named(index: int) -> tuple[Tensor, Tensor]:
        return weights[at[index] + "weight"], weights[at[index] + "bias"]

    hidden = instance_norm(convolve(mirrored(images * 2 - 1, 3), *named(1))).relu()
    for index in (4, 7):
        hidden = instance_norm(convolve(F.pad(hidden, (1, 1, 1, 1)), *named(index), stride=2)).relu()
    for index in range(10, 10 + blocks):
        branch = f"{at[index]}branch."
        first = weights[branch + "1.weight"], weights[branch + "1.bias"]
        second = weights[branch + "5.weight"], weights[branch + "5.bias"]
        inner = instance_norm(convolve(mirrored(hidden, 1), *first)).relu()
        inner = instance_norm(convolve(mirrored(inner, 1), *second))
        hidden = hidden + (esa(inner, weights, branch + "7.") if attention else inner)
    for index in (10 + blocks, 13 + blocks):
        hidden = instance_norm(twice_transposed(hidden, *named(index))).relu()
    return (torch.tanh(convolve(mirrored(hidden, 3), *named(17 + blocks))) + 1) / 2


@pytest.mark.parametrize("attention", [False, True])
def test_equal_to_an_independent_formulation(attention: bool):
    if attention:
        network = ESACycleGANConfig(base_channels=4, blocks=2).build()
    else:
        network = ResNetGenerator(CycleGANConfig(base_channels=4, blocks=2))
    network = moved(network).double()
    images = torch.rand(2, 3, 64, 68, dtype=torch.float64)
    weights = {name: value.detach() for name, value in network.state_dict().items()}
    with torch.no_grad():
        expected = independent(weights, images, 2, attention)
        assert float(expected.std()) > 1e-2
        torch.testing.assert_close(network.translate(images), expected)  # type: ignore[operator]
        torch.testing.assert_close(network(images), expected - images)


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
@pytest.mark.parametrize("kind", ["cyclegan", "esa-cyclegan"])
def test_every_weight_learns_and_sizes_are_true(kind: str, upsampling: str):
    settings = {"base_channels": 4, "blocks": 1, "upsampling": upsampling}
    if kind == "cyclegan":
        config = CycleGANConfig.model_validate(settings)
        network: nn.Module = ResNetGenerator(config)
    else:
        config = ESACycleGANConfig.model_validate(settings)
        network = config.build()
    side = config.smallest_px
    images = torch.rand(1, 3, side, side + 4)
    change = network(images)
    assert change.shape == images.shape
    change.square().mean().backward()
    assert all(weight.grad is not None for weight in network.parameters())


@pytest.mark.parametrize("size", [(1, 1), (9, 70), (61, 64)])
@pytest.mark.parametrize("config", [CycleGANConfig(base_channels=4), ESACycleGANConfig(base_channels=4, blocks=1)])
def test_any_size_goes_through_the_head(config: CycleGANConfig, size: tuple[int, int]):
    network = config.build()
    head = Head(moved(network), config)
    images = torch.rand(1, 3, *size)
    enhanced = head(images)
    assert enhanced.shape == images.shape
    assert torch.equal(head(images, strength=0), images)
    half = head(images, strength=0.5)
    torch.testing.assert_close(half, (images + enhanced) / 2, atol=1e-5, rtol=0)


def test_attention_ends_the_branch_before_the_skip():
    block = ResNetBlock(4, nn.Identity())
    silent = ResNetBlock(4, ESA(4))
    silent.load_state_dict(block.state_dict() | {k: v for k, v in silent.state_dict().items() if "branch.7" in k})
    esa_block = silent.branch[7]
    assert isinstance(esa_block, ESA)
    nn.init.zeros_(esa_block.excite.weight)
    assert esa_block.excite.bias is not None
    nn.init.constant_(esa_block.excite.bias, -100.0)  # closes the branch, and the skip is left
    hidden = torch.randn(1, 4, 16, 16)
    torch.testing.assert_close(silent(hidden), hidden)
    assert not torch.allclose(block(hidden), hidden)


def test_esa_needs_fifteen_places():
    assert ESA(8)(torch.randn(1, 8, ESA_SMALLEST_SIDE, ESA_SMALLEST_SIDE)).shape == (1, 8, 15, 15)
    with pytest.raises(RuntimeError):
        ESA(8)(torch.randn(1, 8, ESA_SMALLEST_SIDE - 1, ESA_SMALLEST_SIDE))
    assert ESA(2).squeeze.out_channels == 1


def test_heads_refuse_latents():
    config = CycleGANConfig(base_channels=4, blocks=0)
    with pytest.raises(UsageError, match="16 channels"):
        Head(ResNetGenerator(config), config)(torch.rand(1, 16, 8, 8))
