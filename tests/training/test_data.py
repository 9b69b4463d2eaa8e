from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.training.conftest import FakeDataset, fake_pair, make_pair
from topcoat.errors import DataError
from topcoat.training.data import Batches, CachedPairs


def batches(dataset: FakeDataset, *, seed: int = 0, crop_px: int | None = 16, flip: bool = True) -> Batches:
    return Batches(CachedPairs(dataset, 100), seed=seed, crop_px=crop_px, flip=flip, size_multiple=4)


def numbered(count: int, size: int = 8) -> FakeDataset:
    """Pairs that can be told by their colour: image i is i/255 everywhere."""
    images = [torch.full((3, size, size), index / 255) for index in range(count)]
    return FakeDataset([fake_pair(image, image) for image in images])


def test_every_pass_sees_every_pair_once_in_another_order():
    source = batches(numbered(7), crop_px=8)
    seen = (source.batch(0, 21).x[:, 0, 0, 0] * 255).round().int().tolist()
    passes = [seen[start : start + 7] for start in (0, 7, 14)]
    assert all(sorted(one) == list(range(7)) for one in passes)
    assert passes[0] != passes[1] != passes[2]
    other = (batches(numbered(7), crop_px=8, seed=1).batch(0, 7).x[:, 0, 0, 0] * 255).round().int().tolist()
    assert other != passes[0]


def test_an_image_depends_on_its_number_alone(dataset: FakeDataset):
    source = batches(dataset)
    whole = source.batch(0, 24)
    fresh = batches(dataset)
    later = fresh.batch(17, 5)  # as after a resume
    assert torch.equal(later.x, whole.x[17:22]) and torch.equal(later.y, whole.y[17:22])
    parts = [fresh.batch(start, size).x for start, size in ((0, 3), (3, 8), (11, 13))]
    assert torch.equal(torch.cat(parts), whole.x)


def test_both_halves_get_the_same_cut(dataset: FakeDataset):
    twins = FakeDataset([fake_pair(dataset[i].baseline, dataset[i].baseline) for i in range(len(dataset))])
    batch = batches(twins).batch(0, 30)
    assert torch.equal(batch.x, batch.y)


def test_cuts_come_from_everywhere_and_half_are_mirrored():
    ramp = torch.arange(64).repeat(1, 1)[None].repeat(3, 64, 1) / 255  # columns tell where a cut is
    source = batches(FakeDataset([fake_pair(ramp, ramp)]))
    cuts = source.batch(0, 300).x[:, 0, 0, :]
    assert cuts.shape == (300, 16)
    mirrored = cuts[:, 0] > cuts[:, 1]
    assert 110 < int(mirrored.sum()) < 190
    left = (torch.minimum(cuts[:, 0], cuts[:, -1]) * 255).round().int().tolist()
    counts = Counter(left)
    assert min(counts) == 0 and max(counts) == 48 and len(counts) > 40
    never = batches(FakeDataset([fake_pair(ramp, ramp)]), flip=False).batch(0, 50).x[:, 0, 0, :]
    assert bool((never[:, 0] < never[:, 1]).all())


def test_pixels_are_exact(dataset: FakeDataset):
    batch = batches(dataset, crop_px=24, flip=False).batch(0, 10)
    originals = [dataset[index].distilled for index in range(10)]
    assert all(any(torch.equal(image, original) for original in originals) for image in batch.x)


def test_whole_images_are_cut_to_the_multiple():
    dataset = FakeDataset([make_pair(0, 22, 27)])
    assert batches(dataset, crop_px=None).batch(0, 2).x.shape == (2, 3, 20, 24)


class Counting(FakeDataset):
    reads = 0

    def __getitem__(self, index: Any) -> Any:
        self.reads += 1
        return super().__getitem__(index)


@pytest.mark.parametrize(("cache_mebibytes", "reads"), [(100, 5), (0, 21)])
def test_pairs_are_decoded_once_if_they_fit(cache_mebibytes: int, reads: int):
    dataset = Counting([make_pair(seed) for seed in range(5)])
    source = Batches(CachedPairs(dataset, cache_mebibytes), seed=0, crop_px=16, flip=True, size_multiple=4)
    source.batch(0, 20)
    assert dataset.reads == reads


def test_unusable_pairs_are_named():
    with pytest.raises(DataError, match="no training pairs"):
        CachedPairs(FakeDataset([]), 1)
    small = FakeDataset([make_pair(0, 12, 40)])
    with pytest.raises(DataError, match="40x12 px, less than the 16 px"):
        batches(small).batch(0, 1)
    unequal = FakeDataset([make_pair(0), fake_pair(make_pair(0).distilled, make_pair(1, 20, 24).baseline)])
    with pytest.raises(DataError, match="pair 1 has images of 24x24 and 24x20"):
        batches(unequal).batch(0, 2)
    mixed = FakeDataset([make_pair(0, 24, 24), make_pair(1, 32, 24)])
    assert batches(mixed).batch(0, 4).x.shape == (4, 3, 16, 16)
    with pytest.raises(DataError, match="several sizes"):
        batches(mixed, crop_px=None).batch(0, 4)


def test_kept_pairs_are_read_once_and_with_their_neighbours():
    dataset = numbered(120)
    read: list[int] = []

    class Noted(FakeDataset):
        def __getitem__(self, index: Any) -> Any:
            read.append(index)
            return super().__getitem__(index)

    pairs = CachedPairs(Noted(list(dataset)), 100)
    assert read == [0]
    assert int(pairs[63].pixels[0, 0, 0, 0]) == 63
    assert read == [0, *range(50, 100)]
    assert [int(pairs[index].pixels[0, 0, 0, 0]) for index in (119, 0, 7, 50)] == [119, 0, 7, 50]
    assert Counter(read) == Counter(range(120))


@pytest.mark.parametrize("kept", [True, False])
def test_targets_are_the_latents_that_the_pair_holds(kept: bool):
    image, latents = torch.rand(3, 8, 8), torch.rand(4, 1, 1)
    pair = replace(fake_pair(image, image, latents), baseline_latents=latents + 1 if kept else None)
    found = CachedPairs([pair], 100, 4, lambda baseline: latents + baseline.mean())
    rounded = image.mul(255).round().div(255)
    expected = latents + 1 if kept else latents + rounded.mean()
    targets = found[0].targets
    assert targets is not None and torch.allclose(targets, expected)
