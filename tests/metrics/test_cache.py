from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from topcoat.features import FeatureNet, Features
from topcoat.images import gaussian_blur
from topcoat.metrics.cache import FeatureCache
from topcoat.metrics.embed import embed
from topcoat.metrics.evaluate import evaluate


class CountingNet:
    """A net that counts the images it is shown."""

    def __init__(self, net: FeatureNet, digest: str = "counting") -> None:
        self._net = net
        self.digest = digest
        self.seen = 0

    def __call__(self, images: Tensor) -> Features:
        self.seen += len(images)
        return self._net(images)


def test_a_second_run_with_other_metrics_needs_no_pass(images: Tensor, net: FeatureNet, tmp_path: Path) -> None:
    counting = CountingNet(net)
    soft = gaussian_blur(images, 1.0)
    first = evaluate(soft, reference=images, distilled=soft, features=counting, cache=tmp_path, metrics=["paired"])
    shown = counting.seen
    assert 48 <= shown <= 72  # equal images of two streams may be looked at twice in one batch
    more = ["paired", "distances", "diversity", "identity"]
    again = evaluate(soft, reference=images, distilled=soft, features=counting, cache=tmp_path, metrics=more)
    assert counting.seen == shown
    assert again.value("frechet") == pytest.approx(first.value("frechet"), rel=1e-9)
    assert again.value("perceptual") == pytest.approx(first.value("perceptual"), rel=1e-5)
    assert again.value("recall") is not None


def test_another_net_or_other_images_are_not_taken_for_known(images: Tensor, net: FeatureNet, tmp_path: Path) -> None:
    for digest, part, expected in (("a", images, 24), ("b", images, 24), ("a", images * 0.999, 24), ("a", images, 0)):
        counting = CountingNet(net, digest)
        with FeatureCache(tmp_path, digest) as cache:
            found = embed(part, counting, 8, cache=cache)
        assert counting.seen == expected
        torch.testing.assert_close(found.embedding, embed(part, net, 8).embedding, rtol=1e-5, atol=1e-6)


def test_order_and_batches_may_change(images: Tensor, net: FeatureNet, tmp_path: Path) -> None:
    with FeatureCache(tmp_path, "net") as cache:
        whole = embed(images, net, 8, cache=cache)
    counting = CountingNet(net)
    with FeatureCache(tmp_path, "net") as cache:
        back = embed(images.flip(0), counting, 5, cache=cache)
        assert cache.hits == 48
    assert counting.seen == 0
    assert torch.equal(back.embedding.flip(0), whole.embedding)


def test_a_damaged_shard_counts_as_none(images: Tensor, net: FeatureNet, tmp_path: Path) -> None:
    with FeatureCache(tmp_path, "net") as cache:
        embed(images, net, 8, cache=cache)
    shards = sorted(tmp_path.rglob("*.safetensors"))
    assert len(shards) == 2  # embeddings and identities differ in length
    for shard in shards:
        shard.write_bytes(shard.read_bytes()[:50])
    counting = CountingNet(net)
    with FeatureCache(tmp_path, "net") as cache:
        embed(images, counting, 8, cache=cache)
    assert counting.seen == 24
