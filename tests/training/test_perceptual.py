from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from topcoat.errors import ModelError, UsageError
from topcoat.training import losses, perceptual

CPU = torch.device("cpu")


def tiny_dino(*_: Any, **__: Any) -> nn.Module:
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, mlp_ratio=2, image_size=28, patch_size=14
    )
    return Dinov2Model(config).eval()


def test_dinov2_stages_are_maps_of_patches():
    model = tiny_dino()
    net = perceptual.DinoStages(model)
    images = torch.rand(2, 3, 28, 42)
    with torch.no_grad():
        stages = net(images).stages
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        normalised = (images - mean[:, None, None]) / std[:, None, None]
        states = model(pixel_values=normalised, output_hidden_states=True).hidden_states
    assert len(stages) == 4 and all(stage.shape == (2, 16, 2, 3) for stage in stages)
    torch.testing.assert_close(stages[-1][1, :, 1, 2], states[-1][1, -1])  # the last patch is at the bottom right
    torch.testing.assert_close(stages[-1][0, :, 0, 1], states[-1][0, 2])


def test_dinov2_distance(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(perceptual, "load_model", tiny_dino)
    distance = perceptual.load_distance("dinov2", CPU)
    y, z = torch.rand(1, 3, 30, 30), torch.rand(1, 3, 30, 30, requires_grad=True)
    assert float(distance(y, y)) == pytest.approx(0, abs=1e-6)
    value = distance(z, y)
    value.backward()
    assert float(value.detach()) > 0 and z.grad is not None and float(z.grad.abs().max()) > 0


def test_dinov2_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch):
    def offline(*_: Any, **__: Any) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(perceptual, "load_model", offline)
    with pytest.raises(ModelError, match=r"dinov2-small is not on this machine .* or use perceptual_net embedded"):
        perceptual.load_distance("dinov2", CPU)


class FakeLpips(nn.Module):
    """As the package calls it: images in [-1, 1], one distance per image."""

    def __init__(self, net: str, verbose: bool) -> None:
        super().__init__()
        assert net == "vgg" and not verbose
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        assert float(y.min()) >= -1 and float(y.min()) < 0
        return (self.weight * (z - y)).square().mean((1, 2, 3), keepdim=True)


def test_lpips_is_used_as_its_package_wants(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=FakeLpips))
    distance = perceptual.load_distance("lpips-vgg", CPU)
    y = torch.rand(2, 3, 8, 8)
    assert float(distance(y + 0.1, y)) == pytest.approx(0.04, rel=1e-4)  # 0.1 of [0, 1] is 0.2 of [-1, 1]
    z = y.clone().requires_grad_()
    distance(z, y).backward()
    assert z.grad is not None


def test_lpips_names_what_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(UsageError, match="needs the package lpips"):
        perceptual.load_distance("lpips-vgg", CPU)

    def offline(**_: Any) -> None:
        raise OSError("no network")

    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=offline))
    with pytest.raises(ModelError, match="weights of LPIPS"):
        perceptual.load_distance("lpips-vgg", CPU)


def test_distances_are_pairs_of_one_scale():
    stages = [torch.rand(1, 4, 2, 2)]
    assert float(losses.perceptual_loss(perceptual.Stages(stages), perceptual.Stages(stages))) == 0
