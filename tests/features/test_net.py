"""The embedded feature nets, as they are read and as they are saved."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import nn

from topcoat.embedded import MINI
from topcoat.features import WORKING_PX, FeatureNet, at_working_size, load_feature_net, whole
from topcoat.features.net import weights_digest


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


def test_the_working_size_shrinks_and_never_enlarges() -> None:
    assert at_working_size(torch.rand(1, 3, 256, 512)).shape == (1, 3, WORKING_PX, 2 * WORKING_PX)
    small = torch.rand(1, 3, 40, 300)
    assert at_working_size(small) is small
    plain = at_working_size(torch.full((1, 3, 300, 256), 0.25))
    torch.testing.assert_close(plain, torch.full_like(plain, 0.25))


def test_whole_images_are_judged_at_the_nets_own_size_and_maps_at_theirs() -> None:
    net = FeatureNet.tiny(0)
    image = torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    assert torch.equal(net(image).embedding, whole(net, image).embedding)  # nothing moves up to that size
    large = torch.rand(2, 3, 192, 256, generator=torch.Generator().manual_seed(1))
    small, seen = at_working_size(large), net(large)
    assert torch.equal(seen.embedding, net(small).embedding) and torch.equal(seen.identity, net(small).identity)
    assert [tuple(stage.shape[-2:]) for stage in seen.stages] == [(192, 256), (96, 128)]
    assert [tuple(stage.shape[-2:]) for stage in whole(net, large).stages] == [(128, 171), (64, 85)]
    assert whole(lambda images: net(images + 0), large).stages[0].shape == seen.stages[0].shape


def test_a_crop_of_training_has_a_gradient_from_both() -> None:
    crop = torch.rand(1, 3, 160, 160, generator=torch.Generator().manual_seed(2)).requires_grad_(True)
    seen = FeatureNet.tiny(0)(crop)
    for part in (seen.stages[0], seen.embedding):
        assert torch.autograd.grad(part.square().sum(), crop, retain_graph=True)[0].abs().sum() > 0


def test_a_digest_of_weights_sees_every_bit_of_any_type() -> None:
    weights = {"a": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), "b": torch.tensor(7)}
    bytes_of_a = b"a torch.float32 (3, 4)" + weights["a"].numpy().tobytes()
    whole = hashlib.sha256(b"{}" + bytes_of_a + b"b torch.int64 ()" + weights["b"].numpy().tobytes())
    assert weights_digest("{}", weights) == whole.hexdigest()[:16]
    assert weights_digest("{}", weights | {"a": weights["a"].t().contiguous().t()}) == whole.hexdigest()[:16]
    coarse = weights | {"a": weights["a"].bfloat16()}
    moved = coarse | {"a": coarse["a"].clone()}
    moved["a"][2, 3] *= 1.01
    assert len({weights_digest("{}", each) for each in (weights, coarse, moved)}) == 3
