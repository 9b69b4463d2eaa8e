from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from topcoat.features import FeatureNet, Features
from topcoat.images import gaussian_blur
from topcoat.metrics.embed import FeatureCache, GrowingTensor, embed
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


@pytest.mark.parametrize("batch", [1, 7, 700, 5000])
def test_rows_are_those_that_were_added(batch: int) -> None:
    values = torch.randn(5000, 3, dtype=torch.float64)
    column = GrowingTensor()
    for part in values.split(batch):
        column.add(part)
    assert len(column) == 5000 and torch.equal(column.rows, values)


def test_keeps_the_type_and_none_of_what_it_was_given() -> None:
    column, images = GrowingTensor(), torch.full((2, 3, 4, 4), 7, dtype=torch.uint8)
    column.add(images[:, :1])
    images.zero_()
    assert column.rows.dtype == torch.uint8 and column.rows.shape == (2, 1, 4, 4) and bool((column.rows == 7).all())


@pytest.mark.parametrize(
    ("count", "width", "most"), [(3000, 2, 2**20), (40, 3 * 128 * 128, 2 * 40 * 3 * 128 * 128 * 4)]
)
def test_lies_in_one_piece_of_memory_whose_size_follows_the_rows(count: int, width: int, most: int) -> None:
    column = GrowingTensor()
    for _ in range(count):
        column.add(torch.zeros(1, width))
    assert column.rows.untyped_storage().nbytes() <= most
