"""The embedded feature nets, as they are read and as they are saved."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import nn

from topcoat.embedded import MINI
from topcoat.features import FeatureNet, load_feature_net


@pytest.mark.parametrize("name", ["loss", "eval"])
def test_the_fused_net_sees_the_same(name: Literal["loss", "eval"]) -> None:
    plain, fused = FeatureNet.load(MINI / "features" / name), load_feature_net(name)
    assert any(isinstance(part, nn.BatchNorm2d) for part in plain.modules())
    assert not any(isinstance(part, nn.BatchNorm2d) for part in fused.modules())
    assert fused.digest == plain.digest and not any(weight.requires_grad for weight in fused.parameters())
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    of_plain, of_fused = plain(images), fused(images)
    for ours, theirs in zip(of_fused.stages, of_plain.stages, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(of_fused.embedding, of_plain.embedding, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(of_fused.identity, of_plain.identity, rtol=1e-4, atol=1e-4)
    gradients = [torch.autograd.grad(seen.embedding.square().sum(), images)[0] for seen in (of_fused, of_plain)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-3)


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    net = FeatureNet.load(MINI / "features" / "eval")
    net.save(tmp_path)
    assert FeatureNet.load(tmp_path).digest == net.digest
