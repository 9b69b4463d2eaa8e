from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch

from tests.fake_pairs import FakeDataset
from tests.training.conftest import make_pair, with_latents
from topcoat.features import FeatureNet
from topcoat.heads import Decoder, DecoderConfig, Head, UNet, UNetConfig
from topcoat.metrics.kernel import kernel_distance
from topcoat.metrics.paired import psnr
from topcoat.pairs.dataset import Side
from topcoat.training import validation as module
from topcoat.training.losses import perceptual_loss
from topcoat.training.validation import Validator

CPU = torch.device("cpu")


class Counting(FakeDataset):
    reads = 0

    def encoded(self, index: int, side: Side) -> tuple[bytes, str]:
        self.reads += 1
        return super().encoded(index, side)


def pairs_of_two_sizes() -> Counting:
    return Counting([make_pair(seed, 24, 24 if seed < 5 else 32) for seed in range(9)])


def head() -> Head:
    torch.manual_seed(0)
    network = UNet(UNetConfig(channels=(4, 8)))
    torch.nn.init.normal_(network.out.weight, std=0.02)
    return Head(network, network.config)


@pytest.mark.parametrize("batch_pixels", [24 * 24, 3 * 24 * 24, 2**20])
def test_streamed_and_kept_pairs_score_the_same(
    batch_pixels: int, features: FeatureNet, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "BATCH_PIXELS", batch_pixels)
    kept, streamed = (Validator(pairs_of_two_sizes(), 7, features, CPU, None, size) for size in (100, 0))
    assert kept(head()) == streamed(head())


def test_scores_are_those_of_whole_float_images(features: FeatureNet):
    data, network = pairs_of_two_sizes(), head()
    found = Validator(data, 5, features, CPU, None)(network)
    x, y = (torch.stack([getattr(data[index], side) for index in range(5)]) for side in ("distilled", "baseline"))
    z = network(x)
    assert found.images == 5
    assert found.psnr_db == pytest.approx(float(psnr(z, y).mean()), rel=1e-6)
    assert found.no_head_psnr_db == pytest.approx(float(psnr(x, y).mean()), rel=1e-6)
    with torch.no_grad():
        assert found.perceptual == pytest.approx(float(perceptual_loss(features(z), features(y))), rel=1e-5)
        expected = kernel_distance(features(z).embedding, features(y).embedding)
    assert found.set_distance == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_only_one_batch_is_held_as_floats(features: FeatureNet, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "BATCH_PIXELS", 2 * 24 * 24)
    held: list[weakref.ref[torch.Tensor]] = []
    original = module.batch_of

    def watched(group: Any) -> Any:
        assert sum(image() is not None for image in held) <= 1  # the one before, which the loop still names
        batch = original(group)
        assert len(batch.x) <= 2
        held.append(weakref.ref(batch.x))
        return batch

    monkeypatch.setattr(module, "batch_of", watched)
    data = Counting([make_pair(seed) for seed in range(12)])
    validator = Validator(data, 12, features, CPU, None, 0)
    before = data.reads
    validator(head())
    assert data.reads - before == 2 * 12  # each file once more, and nothing kept
    assert validator._pairs._cache == {}


def test_latents_are_streamed_too(features: FeatureNet):
    torch.manual_seed(0)
    network = Decoder(DecoderConfig(latent_channels=6, channels=(8, 8), blocks=(1, 1)))
    data = FakeDataset([with_latents(make_pair(seed)) for seed in range(4)])
    kept, streamed = (Validator(data, 4, features, CPU, 6, size) for size in (100, 0))
    assert kept(Head(network, network.config)) == streamed(Head(network, network.config))


def test_another_net_may_judge_sets(features: FeatureNet):
    data, network, judge = pairs_of_two_sizes(), head(), FeatureNet.tiny(seed=5)
    plain, judged = (Validator(data, 5, features, CPU, None, judge=net)(network) for net in (None, judge))
    assert (judged.psnr_db, judged.perceptual) == (plain.psnr_db, plain.perceptual)
    x, y = (torch.stack([getattr(data[index], side) for index in range(5)]) for side in ("distilled", "baseline"))
    with torch.no_grad():
        expected = kernel_distance(judge(network(x)).embedding, judge(y).embedding)
    assert judged.set_distance == pytest.approx(expected, rel=1e-4, abs=1e-7) != plain.set_distance
    assert "frechet_distance_(dinov2)" in judged.figures("dinov2")
